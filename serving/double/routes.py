"""Paths, verbs and the order of checks: a request as bytes in, a reply as bytes out; knows nothing of sockets."""

import dataclasses
import logging
import re
import time
import urllib.parse
import zlib
from collections.abc import Mapping

from serving.double import examples, metadata, outputs, tensors
from serving.double.errors import ApiError, invalid
from serving.double.json_reader import from_bytes, read_json, to_bytes
from serving.double.json_writer import debug_text, error_body
from serving.double.metrics import Metrics
from serving.double.model import check_inputs
from serving.double.options import ServerOptions
from serving.double.versions import ModelManager

_LOG = logging.getLogger(__name__)
_VERSION = r"(?:(?:/versions/([0-9]+))|(?:/labels/([^/:]+)))?"
_INFERENCE = re.compile(rf"/v1/models/([^/:]+){_VERSION}:(classify|regress|predict)", re.IGNORECASE | re.DOTALL)
_STATUS = re.compile(rf"/v1/models(?:/([^/:]+))?{_VERSION}(?:/(metadata))?", re.IGNORECASE | re.DOTALL)
_INFERENCE_VERBS = ("predict", "classify", "regress")
_MAX_INT64 = 2**63 - 1
_NOT_FOUND_PAGE = (
    "<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n<H1>Not Found</H1>\n</BODY></HTML>\n"  # as libevent's
)


@dataclasses.dataclass(frozen=True)
class Reply:
    """Status, body and content type of an answer; content type None where the server sends none."""

    status: int
    body: bytes
    content_type: str | None = "application/json"


@dataclasses.dataclass(frozen=True)
class _Target:
    name: str
    version: int | None
    label: str | None
    verb: str


class RestApi:
    """The REST API over a ModelManager; thread-safe.

    Args:
        manager: the models.
        options: how far bodies may inflate, and where the metrics are.
        metrics: told of every inference request.
    """

    def __init__(self, manager: ModelManager, options: ServerOptions, metrics: Metrics):
        self._manager = manager
        self._options = options
        self._metrics = metrics

    def handle(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Answers one request; never raises.

        Args:
            method: HTTP method, upper case.
            path: request target as sent: percent-encoded, with the query string.
            headers: names in lower case.
            body: as received, perhaps gzip.
        """
        if path == self._options.monitoring_path:
            return Reply(200, self._metrics.page(), "text/plain")
        if not path.lower().startswith("/v1/"):
            return Reply(404, _NOT_FOUND_PAGE.encode(), "text/html; charset=ISO-8859-1")
        if method == "OPTIONS":
            known_origin = re.search("https?://", headers.get("origin", ""))
            return Reply(200 if known_origin else 400, b"", None)
        try:
            text = self._answer(_parse_target(method, path), _inflate(body, headers, self._options.max_body_bytes))
            return Reply(200, to_bytes(text))
        except ApiError as error:
            return Reply(error.http_status, b"" if error.empty_body else to_bytes(error_body(error.message)))
        except RecursionError:
            return Reply(400, to_bytes(error_body("JSON Parse error: nested too deeply for the development double")))
        except Exception as error:
            _LOG.exception("%s %s failed inside the development double", method, path)
            message = f"The development double failed: {type(error).__name__}: {error}"
            return Reply(500, error_body(message).encode("utf-8", "replace"))

    def _answer(self, target: _Target, body: bytes) -> str:
        if target.verb in _INFERENCE_VERBS:
            return self._measured(target, body)
        if not target.name:
            raise invalid("Missing model name in request.")
        if target.verb == "metadata":
            return self._metadata(target)
        # A label in a status path is ignored, as on the server.
        return metadata.status_json(self._manager.status(target.name, target.version))

    def _measured(self, target: _Target, body: bytes) -> str:
        begin, code = time.perf_counter(), "INTERNAL"
        try:
            text = self._infer(target, body)
            code = "OK"
            return text
        except ApiError as error:
            code = error.code
            raise
        finally:
            self._metrics.request(target.name, target.verb, code, time.perf_counter() - begin)

    def _infer(self, target: _Target, body: bytes) -> str:
        document = read_json(body)
        if not isinstance(document, dict):
            raise invalid(f"JSON Value: {debug_text(document)} Is not object")
        signature = document.get("signature_name", "")
        if not isinstance(signature, str):
            raise invalid(
                f"JSON Value: {debug_text(document)} not formatted correctly. 'signature_name' key must be a string "
                "value."
            )
        answer = self._predict if target.verb == "predict" else self._score
        return answer(target, document, signature)

    def _metadata(self, target: _Target) -> str:
        with self._manager.borrow(target.name, target.version, target.label) as (model, version):
            return metadata.metadata_json(target.name, version, model.signatures)

    def _predict(self, target: _Target, document: dict, signature_name: str) -> str:
        with self._manager.borrow(target.name, target.version, target.label) as (model, _):
            key = signature_name or "serving_default"
            if key not in model.signatures:
                raise invalid(f'Serving signature name: "{key}" not found in signature def')
            signature = model.signatures[key]
            if not signature.inputs:
                raise invalid(f"Failed to get input map for signature: {signature_name or 'DEFAULT'}")
            arrays, row_form = tensors.inputs_from_document(document, model.input_types(signature))
            # Only a plain or base64 element for a signature of several inputs can come here incomplete.
            check_inputs(set(arrays), set(signature.inputs))
            feeds = {signature.inputs[name].name: array for name, array in arrays.items()}
            names = sorted(signature.outputs)
            run = self._metrics.timed(model.run, target.name, target.verb)
            results = run(feeds, [signature.outputs[name].name for name in names])
        return outputs.outputs_to_json(dict(zip(names, results, strict=True)), row_form)

    def _score(self, target: _Target, document: dict, signature_name: str) -> str:
        serialized = examples.examples_from_document(document)
        with self._manager.borrow(target.name, target.version, target.label) as (model, _):
            answer = examples.regress if target.verb == "regress" else examples.classify
            run = self._metrics.timed(model.run, target.name, target.verb)
            return answer(model.signatures, run, signature_name, serialized)


def _parse_target(method: str, path: str) -> _Target:
    pattern = {"POST": _INFERENCE, "GET": _STATUS}.get(method)
    match = pattern.fullmatch(path) if pattern else None
    if match is None:
        raise invalid(f"Malformed request: {method} {path}")
    name, version, label, verb = match.groups()
    number = None if version is None else _version_number(version)
    # The pattern ignores case but the handler compares the verb with its lower-case name.
    if method == "POST" and verb != verb.lower():
        raise invalid(f"Malformed request: {method} {path}")
    return _Target(_decoded(name or ""), number, _decoded(label) if label else None, verb or "")


def _version_number(digits: str) -> int:
    bare = digits.lstrip("0") or "0"
    if len(bare) > 19 or int(bare) > _MAX_INT64:
        raise ApiError("INVALID_ARGUMENT", f"Failed to convert version: {digits} to numeric.", empty_body=True)
    return int(bare)


def _decoded(text: str) -> str:
    return from_bytes(urllib.parse.unquote_to_bytes(text))


def _inflate(body: bytes, headers: Mapping[str, str], limit: int) -> bytes:
    """A gzip body inflated; one that is no gzip, or too large, counts as an empty document, as on the server."""
    if "gzip" not in headers.get("content-encoding", "").lower():
        return body
    inflater = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        data = inflater.decompress(body, limit)
    except zlib.error:
        return b""
    return data if inflater.eof else b""
