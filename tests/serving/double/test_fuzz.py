"""Whatever is sent, an answer comes soon, it is the server's kind of answer, and nothing fails inside the double."""

import base64
import gzip
import json
import logging
import socket
import time
import urllib.parse

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from serving.double.config import ModelConfig
from serving.double.errors import ApiError
from serving.double.json_reader import _EXACT_BYTES, _read_large, read_json
from serving.double.metrics import Metrics
from serving.double.options import ServerOptions
from serving.double.routes import RestApi
from serving.double.versions import ModelManager

# Milliseconds for one example: far above what one takes, far below a hang.
fuzz = settings(max_examples=250, deadline=2000, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def api(saved, tmp_path_factory):
    """The API without sockets, over the models scaled, texts and kinds."""
    root = tmp_path_factory.mktemp("fuzz")
    for name, model in zip(MODELS, ("scaled_2", "texts", "kinds"), strict=True):
        (root / name).mkdir()
        (root / name / "1").symlink_to(saved / model)
    options = ServerOptions()
    manager = ModelManager([ModelConfig(p.name, p) for p in root.iterdir()], options, Metrics())
    manager.load_all()
    yield RestApi(manager, options, Metrics())
    manager.stop()


def check(api, path, body, headers=None):
    """Sends it to the API and returns (status, document)."""
    reply = api.handle("POST", path, headers or {}, body)
    assert reply.status in (200, 400, 404, 501), (reply.status, reply.body[:300])
    assert reply.content_type == "application/json"
    text = reply.body.decode("utf-8", "surrogateescape")  # strings that are no UTF-8 come back as they went
    document = json.loads(text)
    if reply.status != 200:
        assert list(document) == ["error"] and document["error"]
        assert "Traceback" not in text and "development double failed" not in text
    return reply.status, document


SIGNATURES = ["", "pair", "half", "total", "doubled", "labelled", "uneven", "bool", "int8", "int64", "uint64", "string"]
MODELS, VERBS = ("scaled", "texts", "kinds"), ("predict", "regress", "classify")
PATHS = [f"/v1/models/{model}:{verb}" for model in MODELS for verb in VERBS]

numbers = st.sampled_from(
    ["0", "-0", "1.5", "1e308", "1e309", "-1e999", "9" * 19, "9" * 400, "0." + "3" * 400, "1E-400", "0e999", "NaN"]
    + ["-Infinity", "Inf", "2147483648", "-9223372036854775809", "18446744073709551616", "01", "1.", ".5", "+1", "0x1"]
)
texts = st.one_of(
    st.text(max_size=6).map(json.dumps),
    st.text(max_size=6).map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.sampled_from([r'"\ud800"', r'"\ud83d\ude00"', r'"\udc00\ud800"', r'"\u0000"', r'"\q"', r'"\u12"', '"\x01"']),
    st.binary(max_size=6).map(lambda data: f'{{"b64": "{base64.b64encode(data).decode()}"}}'),
    st.text("AZaz09+/=-_ \n", max_size=6).map(lambda text: f'{{"b64": {json.dumps(text)}}}'),
    st.sampled_from(['{"b64": 1}', '{"b64": "YQ==", "b64": 2}', '{"b64": "YQ==", "x": 1}', '{"b64": null}']),
)
keys = st.sampled_from(["x", "a", "b", "s", "h", "inputs", "instances", "examples", "context", "signature_name", "b64"])
leaves = numbers | texts | st.sampled_from(["true", "false", "null", "[]", "{}"])
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda items: f"[{', '.join(items)}]"),
        # Pairs, so that names come twice.
        st.lists(st.tuples(keys, inner), max_size=4).map(
            lambda pairs: "{" + ", ".join(f'"{key}": {value}' for key, value in pairs) + "}"
        ),
    ),
    max_leaves=8,
)


@st.composite
def bodies(draw):
    """A body that looks like a request, perhaps cut, with bytes put in, or with a byte order mark."""
    parts = [f'"signature_name": "{draw(st.sampled_from(SIGNATURES))}"'] if draw(st.booleans()) else []
    for key in draw(st.lists(st.sampled_from(["instances", "inputs", "examples", "context"]), max_size=2)):
        parts.append(f'"{key}": {draw(values)}')
    body = ("{" + ", ".join(parts) + "}").encode("utf-8", "surrogatepass")
    change = draw(st.sampled_from(["none"] * 5 + ["cut", "insert", "mark"]))
    at = draw(st.integers(0, len(body)))
    if change == "cut":
        return body[:at]
    if change == "insert":
        return body[:at] + draw(st.binary(min_size=1, max_size=3)) + body[at:]
    return b"\xef\xbb\xbf" + body if change == "mark" else body


@fuzz
@example(path="/v1/models/texts:regress", body=b'{"signature_name": "doubled", "examples": [{"\x80": 1}]}')
@given(path=st.sampled_from(PATHS), body=bodies())
def test_bodies_that_look_like_requests(api, path, body):
    check(api, path, body)


@fuzz
@given(path=st.sampled_from(PATHS), body=st.binary(max_size=200), zipped=st.booleans())
def test_any_bytes(api, path, body, zipped):
    headers = {"content-encoding": "gzip"} if zipped else {}
    check(api, path, body, headers)
    if zipped:
        whole = gzip.compress(body)
        assert check(api, path, whole, headers) == check(api, path, body)
        cut = check(api, path, whole[: len(whole) // 2], headers)
        assert cut == (400, {"error": "JSON Parse error: The document is empty"})


@pytest.mark.parametrize("depth", [10, 31, 60, 250, 1000, 30_000, 500_000, 3_000_000])
@pytest.mark.parametrize("form", ["[{}]", '{{"x":{}}}'])
def test_any_depth(api, form, depth):
    opening, closing = form.format("\0").split("\0")
    for inner in ("1", ""):
        text = f'{{"inputs": {opening * depth}{inner}{closing * depth}}}'
        check(api, "/v1/models/kinds:predict", text.encode())
        check(api, "/v1/models/kinds:predict", text[: len(text) // 2].encode())


@fuzz
@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=40), st.sampled_from(["GET", "POST"]))
def test_any_path(api, rest, method):
    reply = api.handle(method, f"/v1/models/{rest}", {}, b'{"instances": [1]}')
    assert reply.status in (200, 400, 404, 501)
    json.loads(reply.body.decode("utf-8", "surrogateescape") or "{}")


@fuzz
@given(values)
def test_large_documents_are_read_as_small_ones(text):
    body = text.encode("utf-8", "surrogatepass")
    outcomes = []
    for read in (read_json, lambda data: _read_large(data, 0)):
        try:
            outcomes.append(repr(read(body)))
        except ApiError as error:
            assert error.code == "INVALID_ARGUMENT" and error.message.startswith("JSON Parse error: ")
            outcomes.append("refused")
    # Python's scanner does not know this one name.
    assert outcomes[0] == outcomes[1] or "Inf" in text.replace("Infinity", "")


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"0," * _EXACT_BYTES + b"x]",
        b"[" + b"0," * _EXACT_BYTES + b"1e999]",
        b'["' + rb"\n" * _EXACT_BYTES + b'\x01"]',
        b'"' + b"\\" * (_EXACT_BYTES + 1),
        b'["' + rb"\ud83d\ude00" * 200_000 + rb"\ud800" + b'"]',
        b"[" * _EXACT_BYTES * 2,
        b"[" + b"9" * _EXACT_BYTES * 2 + b"]",
        b" " * _EXACT_BYTES + b"{} x",
        b"\xff" * _EXACT_BYTES * 2,
    ],
)
def test_large_broken_documents_are_refused_soon(api, body):
    begin = time.monotonic()
    status, document = check(api, "/v1/models/scaled:predict", body)
    assert time.monotonic() - begin < 3, "the exact reader needs seconds for each MiB"
    assert status == 400 and document["error"].startswith("JSON Parse error: ")


HEAD = b"POST /v1/models/scaled:predict HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"


@settings(max_examples=60, deadline=5000)
@given(
    data=st.one_of(
        st.binary(max_size=300),
        st.binary(max_size=100).map(lambda body: HEAD % len(body) + body),
        st.binary(max_size=60).map(lambda line: b"GET /" + line + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
    )
)
def test_any_bytes_on_the_wire(server, data):
    place = urllib.parse.urlsplit(server.address)
    with socket.create_connection((place.hostname, place.port), timeout=5) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert not answer or answer.startswith(b"HTTP/1.1 ")
    assert b"Traceback" not in answer and not answer.startswith(b"HTTP/1.1 5")


@pytest.fixture(autouse=True)
def nothing_is_logged(caplog):
    """The double logs what fails inside it."""
    with caplog.at_level(logging.WARNING, logger="serving"):
        yield
    assert [record for record in caplog.get_records("call") if record.name.startswith("serving")] == []
