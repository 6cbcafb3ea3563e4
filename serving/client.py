"""Ranking client for any TensorFlow Serving REST address: the image in production, or the local double.

In: a `UserRequest` (or the dict it is read from). Out: one probability per candidate, in candidate order. The client
asks the model once what its `rank` signature takes, so declared features need no setting here. Needs no TensorFlow.
"""

import json
import urllib.parse
from collections.abc import Mapping

import numpy as np
import requests
import tenacity

from serving.columns import CANDIDATE, InputSpec, build_columns, check_rank_inputs
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
_OUTPUT = "probability"
# Ranking changes nothing on the server, so that a request may be sent again: it was too busy, or slower than its limit.
_BUSY = (503, 504)
_FIRST_WAIT = 0.1
_HINTS = {
    400: "The server refused the request; compare the features with the model's metadata.",
    404: "The version was unloaded meanwhile, or the address leads to another service; ask for the model's status.",
    429: "The server is out of memory; send fewer candidates at once or give it more.",
    503: "The server is overloaded; try again, or with fewer requests at once.",
    504: "The server gave up by its own time limit; try fewer candidates or a longer limit there.",
}


class RankClient:
    """Ranks candidates on a TensorFlow Serving REST address. Not for sharing between threads.

    Args:
        address: `host:port`, `http://host:port` or `https://...`; the port is 8501 where none is given.
        model_name: name in the server's URLs.
        version: version number; by default the server's highest.
        label: version label, e.g. "stable"; not together with `version`.
        timeout: seconds to wait for a connection and for each answer.
        signature_name: signature to call.
        retries: how often a request is sent again that the server was too busy for (503, 504) or that found no server;
            each time after a random wait of up to 0.1 s, 0.2 s, 0.4 s, ..., so that not all clients come back at once.
        most_candidates: candidates of one call; more are sent in several, all to one version.
        newest_events: events of the moveline that are sent, the newest; None sends all. The model reads its newest L
            (`model.moveline_length`), so that not fewer than these should be sent.

    Raises:
        InvalidRequestError: the address is none, or both version and label are given.
    """

    def __init__(
        self,
        address: str,
        model_name: str = "amen",
        version: int | None = None,
        label: str | None = None,
        timeout: float = 10.0,
        *,
        signature_name: str = "rank",
        retries: int = 2,
        most_candidates: int = 1000,
        newest_events: int | None = None,
    ):
        if version is not None and label is not None:
            raise InvalidRequestError("The client", [f"expected a version or a label, got {version} and '{label}'"])
        self.address = _base_url(address)
        self.model_name = model_name
        self.signature_name = signature_name
        self.timeout = timeout
        self.most_candidates = most_candidates
        self.newest_events = newest_events
        self._retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(ServerUnreachableError)
            | tenacity.retry_if_result(lambda reply: reply[0] in _BUSY),
            stop=tenacity.stop_after_attempt(1 + retries),
            wait=tenacity.wait_random_exponential(multiplier=_FIRST_WAIT),
            # After the last attempt what it came to: its answer, or what it raised.
            retry_error_callback=lambda state: state.outcome.result(),
        )
        self._choice = ""
        if version is not None:
            self._choice = f"/versions/{version}"
        elif label is not None:
            self._choice = f"/labels/{urllib.parse.quote(label, safe='')}"
        self._specs: dict[str, InputSpec] | None = None
        self._session = requests.Session()
        # A proxy of the environment knows no way to a server on this machine.
        self._session.trust_env = urllib.parse.urlsplit(self.address).hostname not in ("127.0.0.1", "localhost", "::1")

    def __enter__(self) -> "RankClient":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._session.close()

    @property
    def inputs(self) -> dict[str, InputSpec]:
        """Inputs of the signature, read from the server at the first use.

        Raises:
            RankError: server, model or signature cannot be had.
        """
        if self._specs is None:
            self._specs = self._read_inputs()
        return self._specs

    def rank(self, request: UserRequest | Mapping) -> np.ndarray:
        """Scores the candidates of a request.

        Args:
            request: a `UserRequest`, or a dict of that form.

        Returns:
            [N] float32, one probability per candidate, in the order of `request.candidates`.

        Raises:
            EmptyCandidatesError: no candidates; nothing is sent.
            InvalidRequestError, MovelineLengthError, UnknownColumnError: the request does not fit; nothing is sent.
            ServerUnreachableError, ModelNotFoundError, SignatureNotFoundError, ServerError, ReplyError: as named.
        """
        if not isinstance(request, UserRequest):
            request = parse_request(request)
        if not request.candidates:
            raise EmptyCandidatesError("The request")
        try:
            return self._rank(request)
        except ServerError as error:
            # A new version may take other features than the one whose metadata was read.
            if error.status != 400 or "Missing named input" not in str(error):
                raise
        self._specs = None
        return self._rank(request)

    def _rank(self, request: UserRequest) -> np.ndarray:
        columns = build_columns(request, self.inputs, newest_events=self.newest_events)
        count, size = len(request.candidates), self.most_candidates
        if count <= size:
            return self._rank_part(columns, count, None)
        # A version that comes in between would give some of the candidates its own scores.
        choice = f"/versions/{self._served_version()}"
        scores = []
        for start in range(0, count, size):
            part = {
                name: [values[0][start : start + size]] if name.startswith(CANDIDATE) else values
                for name, values in columns.items()
            }
            scores.append(self._rank_part(part, min(size, count - start), choice))
        return np.concatenate(scores)

    def _rank_part(self, columns: Mapping[str, list], count: int, choice: str | None) -> np.ndarray:
        body = json.dumps({"signature_name": self.signature_name, "inputs": columns})
        status, text = self._call("POST", ":predict", body, choice)
        if status != 200:
            raise self._server_error(status, text)
        return self._probabilities(text, count)

    def _served_version(self) -> int:
        """The version that answers now."""
        return int(self._metadata()["model_spec"]["version"])

    def _metadata(self) -> dict:
        status, text = self._call("GET", "/metadata")
        url = self._url("/metadata")
        if status in (400, 404) and _error_text(text) is not None:
            raise self._model_not_found(status, _error_text(text))
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
            names = ", ".join(sorted(name for name in signatures if not name.startswith("__"))) or "none"
            raise SignatureNotFoundError(
                f"Model '{self.model_name}' on {self.address} has no signature '{self.signature_name}'; it has: "
                f"{names}. Serve a model pushed by `amen run`, or name one of these signatures."
            )
        specs = {
            name: InputSpec(name, info["dtype"], _rank(info["tensor_shape"]))
            for name, info in signatures[self.signature_name]["inputs"].items()
        }
        check_rank_inputs(specs, f"Signature '{self.signature_name}' of model '{self.model_name}'")
        return specs

    def _probabilities(self, text: str, count: int) -> np.ndarray:
        try:
            outputs = json.loads(text)["outputs"]
            values = outputs[_OUTPUT] if isinstance(outputs, dict) else outputs
            result = np.array(values, np.float32)
        except (ValueError, KeyError, TypeError):
            result = None
        if result is None or result.shape != (1, count):
            found = "no such tensor" if result is None else f"shape {list(result.shape)}"
            raise ReplyError(
                f"POST {self._url(':predict')}: expected output '{_OUTPUT}' of shape [1, {count}], got {found}: "
                f"{_shortened(text)}\nCheck that signature '{self.signature_name}' is the ranking signature."
            )
        return result[0]

    def _server_error(self, status: int, text: str) -> RankError:
        message = _error_text(text)
        if status == 404 and message and "Servable not found" in message:
            return self._model_not_found(status, message)
        hint = _HINTS.get(status, "The server failed; its log has more.")
        return ServerError(status, message or _shortened(text), self._url(":predict"), hint)

    def _model_not_found(self, status: int, message: str) -> ModelNotFoundError:
        wanted = f"model '{self.model_name}'" + self._choice.replace("/versions/", ", version ").replace(
            "/labels/", ", label "
        )
        return ModelNotFoundError(
            f"{self.address} does not serve {wanted} (HTTP {status}: {message}). {self._known_versions()} Check the "
            "model name, version and label, and that the push folder it serves holds a version."
        )

    def _known_versions(self) -> str:
        """What the server says of the model's versions, for the message; a second failure says nothing new."""
        try:
            _, text = self._call("GET", "", choice="")
            states = json.loads(text)["model_version_status"]
            listed = ", ".join(
                f"{entry['version']} {entry['state']}"
                + (f" ({entry['status']['error_message']})" if entry["status"]["error_message"] else "")
                for entry in states
            )
            return f"Versions it knows: {listed}."
        except (RankError, ValueError, KeyError, TypeError):
            return "It knows no version of that model."

    def _url(self, rest: str, choice: str | None = None) -> str:
        name = urllib.parse.quote(self.model_name, safe="")
        return f"{self.address}/v1/models/{name}{self._choice if choice is None else choice}{rest}"

    def _call(self, method: str, rest: str, body: str | None = None, choice: str | None = None) -> tuple[int, str]:
        """Status and text of the answer; busy servers and absent ones are asked again."""
        return self._retrying(self._ask, method, rest, body, choice)

    def _ask(self, method: str, rest: str, body: str | None, choice: str | None) -> tuple[int, str]:
        url = self._url(rest, choice)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        data = body.encode() if body is not None else None
        try:
            reply = self._session.request(method, url, data=data, headers=headers, timeout=self.timeout)
        except requests.ReadTimeout as error:
            raise ServerTimeoutError(
                f"{method} {url} had no answer within {self.timeout:g} s. Allow more time, send fewer candidates, or "
                "look at the server's load."
            ) from error
        except requests.RequestException as error:
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
        return json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        return None


def _shortened(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 300 else flat[:297] + "..."


def _cause(error: BaseException) -> str:
    """The innermost reason, e.g. "Connection refused", without the addresses of Python objects around it."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    text = str(reason or error)
    return _shortened(text.rsplit(">: ", 1)[-1])
