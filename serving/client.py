"""Ranking client for any TensorFlow Serving REST address: the image in production, or the local double.

In: a `UserRequest` (or the dict it is read from). Out: one probability per candidate, in candidate order. The client
asks the model once what its `rank` signature takes, so declared features need no setting here. Needs no TensorFlow.
"""

import json
import urllib.parse
from collections.abc import Mapping

import numpy as np
import requests

from serving.columns import InputSpec
from serving.rank_errors import (
    EmptyCandidatesError,
    InvalidRequestError,
    ModelNotFoundError,
    MovelineLengthError,
    RankError,
    ReplyError,
    ServerError,
    ServerTimeoutError,
    ServerUnreachableError,
    SignatureNotFoundError,
    UnknownColumnError,
)
from serving.rank_request import Candidate, Event, UserRequest, load_request, parse_request
from serving.ranker import OUTPUT, Ranker
from serving.ranking_table import format_ranking

__all__ = [
    "Candidate",
    "EmptyCandidatesError",
    "Event",
    "InputSpec",
    "InvalidRequestError",
    "ModelNotFoundError",
    "MovelineLengthError",
    "RankClient",
    "RankError",
    "ReplyError",
    "ServerError",
    "ServerTimeoutError",
    "ServerUnreachableError",
    "SignatureNotFoundError",
    "UnknownColumnError",
    "UserRequest",
    "format_ranking",
    "load_request",
    "parse_request",
]

_DEFAULT_PORT = 8501
_HINTS = {
    400: "The server refused the request; compare the features with the model's metadata.",
    404: "The version was unloaded meanwhile, or the address leads to another service; ask for the model's status.",
    429: "The server is out of memory; send fewer candidates at once or give it more.",
    503: "The server is overloaded; try again, or with fewer requests at once.",
    504: "The server gave up by its own time limit; try fewer candidates or a longer limit there.",
}


class RankClient(Ranker):
    """Ranks candidates on a TensorFlow Serving REST address. Not for sharing between threads.

    Args:
        address: `host:port`, `http://host:port` or `https://...`; the port is 8501 where none is given.
        others: see `Ranker`.

    Raises:
        InvalidRequestError: the address is none, or both version and label are given.
    """

    def _open(self, address: str) -> str:
        url = _base_url(address)
        self._session = requests.Session()
        # A proxy of the environment knows no way to a server on this machine.
        self._session.trust_env = urllib.parse.urlsplit(url).hostname not in ("127.0.0.1", "localhost", "::1")
        return url

    def close(self) -> None:
        """Closes the connections."""
        self._session.close()

    def predict_call(self, columns: Mapping[str, list], version: int | None = None) -> tuple[str, bytes]:
        """URL and body of the POST that asks for scores.

        Args:
            columns: name -> nested lists, as `serving.columns.build_columns` makes them.
            version: which is to answer, in place of the client's own choice.
        """
        choice = self._choice if version is None else f"/versions/{version}"
        body = json.dumps({"signature_name": self.signature_name, "inputs": columns}).encode()
        return self._url(":predict", choice), body

    def _scores(self, columns: Mapping[str, list], count: int, version: int | None) -> np.ndarray:
        status, text = self._call("POST", *self.predict_call(columns, version))
        if status != 200:
            raise self._server_error(status, text)
        try:
            outputs = json.loads(text)["outputs"]
            result = np.array(outputs[OUTPUT] if isinstance(outputs, dict) else outputs, np.float32)
        except (ValueError, KeyError, TypeError):
            result = None
        return self._checked(f"POST {self._url(':predict')}", result, count, _shortened(text))

    def _served_version(self) -> int:
        """The version that answers now."""
        return int(self._metadata()["model_spec"]["version"])

    def _metadata(self) -> dict:
        status, text = self._call("GET", url := self._url("/metadata"))
        if status in (400, 404) and _error_text(text) is not None:
            raise self._model_not_found(status, _error_text(text))
        if status in (503, 504):
            raise self._server_error(status, text)
        try:
            if status != 200:
                raise KeyError(status)
            found = json.loads(text)
            found["metadata"]["signature_def"]["signature_def"], found["model_spec"]["version"]
            return found
        except (ValueError, KeyError, TypeError):
            raise ReplyError(
                f"GET {url} was answered with HTTP {status}: {_shortened(text)}\nExpected the metadata of a TensorFlow "
                "Serving model. Check that the address is the REST port (8501 by default, not the gRPC port 8500)."
            ) from None

    def _read_inputs(self) -> dict[str, InputSpec]:
        signatures = self._metadata()["metadata"]["signature_def"]["signature_def"]
        if self.signature_name not in signatures:
            raise self._no_signature(list(signatures))
        return {
            name: InputSpec(name, info["dtype"], _rank(info["tensor_shape"]))
            for name, info in signatures[self.signature_name]["inputs"].items()
        }

    def _server_error(self, status: int, text: str) -> RankError:
        message = _error_text(text)
        if status == 404 and message and "Servable not found" in message:
            return self._model_not_found(status, message)
        hint = _HINTS.get(status, "The server failed; its log has more.")
        return ServerError(status, message or _shortened(text), f"POST {self._url(':predict')}", hint)

    def _model_not_found(self, status: int, message: str) -> ModelNotFoundError:
        return self._not_served(f"HTTP {status}", message, self._known_versions())

    def _known_versions(self) -> str:
        """What the server says of the model's versions, for the message; a second failure says nothing new."""
        try:
            _, text = self._call("GET", self._url("", choice=""))
            states = json.loads(text)["model_version_status"]
            listed = ", ".join(
                f"{entry['version']} {entry['state']}"
                + (f" ({entry['status']['error_message']})" if entry["status"]["error_message"] else "")
                for entry in states
            )
            return f"Versions it knows: {listed}."
        except (RankError, ValueError, KeyError, TypeError):
            return "It knows no version of that model."

    @property
    def _choice(self) -> str:
        if self.version is not None:
            return f"/versions/{self.version}"
        return "" if self.label is None else f"/labels/{urllib.parse.quote(self.label, safe='')}"

    def _url(self, rest: str, choice: str | None = None) -> str:
        name = urllib.parse.quote(self.model_name, safe="")
        return f"{self.address}/v1/models/{name}{self._choice if choice is None else choice}{rest}"

    def _call(self, method: str, url: str, body: bytes | None = None) -> tuple[int, str]:
        """Status and text of the answer."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            reply = self._session.request(method, url, data=body, headers=headers, timeout=self.timeout)
        except requests.RequestException as error:
            if _is_timeout(error):
                raise self._too_slow(f"{method} {url}") from error
            raise ServerUnreachableError(
                f"No TensorFlow Serving REST server answers at {self.address} ({_cause(error)}). Start one with "
                "`amen serve`, or give the address and REST port (8501 by default) of a running one."
            ) from error
        return reply.status_code, reply.content.decode("utf-8", "replace")


def _base_url(address: str) -> str:
    url = address if "://" in address else f"http://{address}"
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = None, None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidRequestError("The client", [f"address: expected host:port or http://host:port, got '{address}'"])
    if port is None and parts.scheme == "http":
        parts = parts._replace(netloc=f"{parts.netloc}:{_DEFAULT_PORT}")
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))


def _rank(shape: Mapping) -> int | None:
    return None if shape.get("unknown_rank") else len(shape.get("dim", ()))


def _error_text(text: str) -> str | None:
    """The text of an error reply, None where it is not one of TensorFlow Serving's."""
    try:
        error = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        return None
    return error if isinstance(error, str) else None


def _is_timeout(error: requests.RequestException) -> bool:
    # A body that stops coming is a ConnectionError for requests.
    cause = error.args[0] if error.args else None
    stalled = requests.packages.urllib3.exceptions.ReadTimeoutError
    return isinstance(error, requests.Timeout) or isinstance(cause, stalled)


def _shortened(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 300 else flat[:297] + "..."


def _cause(error: BaseException) -> str:
    """The innermost reason, e.g. "Connection refused", without the addresses of Python objects around it."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    text = str(reason or error)
    return _shortened(text.rsplit(">: ", 1)[-1])
