"""The REST contract of TensorFlow Serving 2.16, sentence by sentence; requests go out as they are written here."""

import http.client
import json
import urllib.parse

import pytest


@pytest.fixture(scope="module")
def ask(server):
    """ask(method, path, body=None, **headers) -> (status, content type, body bytes); no client tidies the path."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(server.address).netloc, timeout=10)

    def send(method, path, body=None, **headers):
        data = body.encode() if isinstance(body, str) else body
        connection.request(method, path, data, headers)
        reply = connection.getresponse()
        return reply.status, reply.getheader("Content-Type"), reply.read()

    yield send
    connection.close()


def flat(data):
    return " ".join(data.decode("utf-8", "replace").split())


M = "/v1/models/scaled"
ONE = '{"instances": [1]}'
THREE = {"predictions": [3.0]}

PATHS_THAT_ANSWER = [
    ("POST", f"{M}:predict", THREE),
    ("POST", f"{M}/versions/2:predict", {"predictions": [2.0]}),
    ("POST", f"{M}/versions/0000000002:predict", {"predictions": [2.0]}),
    ("POST", f"{M}/labels/stable:predict", {"predictions": [2.0]}),
    ("POST", f"{M}/labels/c%61nary:predict", THREE),
    ("POST", "/V1/Models/scaled/VERSIONS/3:predict", THREE),
    ("POST", "/v1/models/%73caled:predict", THREE),
]


@pytest.mark.parametrize(("method", "path", "reply"), PATHS_THAT_ANSWER)
def test_paths(ask, method, path, reply):
    status, content_type, body = ask(method, path, ONE)
    assert (status, content_type, json.loads(body)) == (200, "application/json", reply)


MALFORMED = [
    ("POST", f"{M}:predict/"),
    ("POST", f"{M}:predict?x=1"),
    ("POST", f"{M}:PREDICT"),
    ("POST", f"{M}:rank"),
    ("POST", f"{M}"),
    ("POST", f"{M}/versions/x:predict"),
    ("POST", f"{M}/versions/-1:predict"),
    ("POST", f"{M}/versions/2/labels/stable:predict"),
    ("POST", f"{M}/labels/a/b:predict"),
    ("POST", f"{M}/metadata"),
    ("POST", "/v1/models/:predict"),
    ("GET", f"{M}:predict"),
    ("GET", f"{M}/"),
    ("GET", f"{M}/metadata/"),
    ("GET", f"{M}/versions/2/"),
    ("GET", "/v1/"),
    ("PUT", M),
    ("DELETE", f"{M}:predict"),
    ("PATCH", M),
]


@pytest.mark.parametrize(("method", "path"), MALFORMED)
def test_malformed_requests(ask, method, path):
    status, content_type, body = ask(method, path, ONE)
    assert (status, content_type) == (400, "application/json")
    assert json.loads(body) == {"error": f"Malformed request: {method} {path}"}


@pytest.mark.parametrize("path", ["/", "/v1", "/v2/models/scaled", "/metrics", "//v1/models/scaled"])
def test_outside_the_api_there_is_a_page(ask, path):
    for method in ("GET", "POST", "OPTIONS"):
        status, content_type, body = ask(method, path)
        assert (status, content_type.split(";")[0]) == (404, "text/html")
        assert b"Not Found" in body


@pytest.mark.parametrize(
    ("origin", "status"), [("http://a.example", 200), ("https://a", 200), ("ftp://a", 400), ("a.example", 400)]
)
def test_options(ask, origin, status):
    assert ask("OPTIONS", f"{M}:nonsense", Origin=origin) == (status, None, b"")


@pytest.mark.parametrize("path", [f"{M}/versions/{2**63}", f"{M}/versions/{'9' * 400}/metadata"])
def test_a_version_above_int64_has_no_body(ask, path):
    assert ask("GET", path)[::2] == (400, b"")
    assert ask("POST", f"{M}/versions/{2**63}:predict", "no JSON")[::2] == (400, b"")


def test_the_status_ignores_labels_and_metadata_does_not(ask):
    whole = ask("GET", M)
    assert [entry["version"] for entry in json.loads(whole[2])["model_version_status"]] == ["3", "2"]
    assert ask("GET", f"{M}/labels/nobody-knows-it") == whole
    assert [e["version"] for e in json.loads(ask("GET", f"{M}/versions/02")[2])["model_version_status"]] == ["2"]
    assert ask("GET", f"{M}/labels/nope/metadata")[0] == 400
    assert ask("GET", f"{M}/versions/9/metadata")[0] == 404
    assert json.loads(ask("GET", f"{M}/metadata")[2])["model_spec"]["version"] == "3"
    assert ask("GET", "/v1/models/metadata")[0] == 404, "here it is the name of a model"


# Each body is wrong in several ways; what is checked first is what is said.
ORDER = [
    ("/v1/models/nope:predict", "[", 400, "JSON Parse error: Invalid value. at offset: 1"),
    ("/v1/models/nope:predict", "[1]", 400, "JSON Value: [1] Is not object"),
    ("/v1/models/nope:predict", '{"signature_name": 1}', 400, "'signature_name' key must be a string value."),
    ("/v1/models/nope:predict", '{"signature_name": "no"}', 404, "Servable not found for request: Latest(nope)"),
    (f"{M}/labels/no:predict", '{"signature_name": "no"}', 400, "Unrecognized servable version label: no"),
    (f"{M}:predict", '{"signature_name": "no"}', 400, 'Serving signature name: "no" not found in signature def'),
    (f"{M}:predict", '{"signature_name": "__saved_model_init_op"}', 400, "Failed to get input map for signature: __sa"),
    (f"{M}:predict", '{"instances": 1, "inputs": 1}', 400, "expecting only one of 'inputs' or 'instances' keys"),
    (f"{M}:predict", '{"Instances": [1]}', 400, "Missing 'inputs' or 'instances' key"),
    (f"{M}:predict", '{"instances": {"x": 1}}', 400, "Expecting 'instances' to be an list/array"),
    (f"{M}:predict", '{"instances": []}', 400, "No values in 'instances' array"),
    ("/v1/models/nope:classify", "{}", 400, "key 'examples' is expected and was not found"),
    ("/v1/models/nope:regress", '{"examples": []}', 400, "'examples' value is an empty array"),
    ("/v1/models/nope:regress", '{"examples": [{}]}', 404, "Servable not found for request: Latest(nope)"),
    (f"{M}:regress", '{"examples": [{}]}', 400, "No regression inputs found in SignatureDef"),
]


@pytest.mark.parametrize(("path", "body", "status", "text"), ORDER)
def test_order_of_checks(ask, path, body, status, text):
    found, _, reply = ask("POST", path, body)
    assert found == status and text in flat(reply).replace('\\"', '"')


def columnar(kind, text):
    return f'{{"signature_name": "{kind}", "inputs": {text}}}'


# type, the value as sent, as answered
VALUES = [
    ("float32", "[1, 2.5, 1e3, -0.1]", "[1.0, 2.5, 1000.0, -0.1]"),
    ("float32", "9000000", "9e+06"),
    ("float32", "3.14159265358979", "3.14159274"),
    ("float32", "[1e39, -Inf, NaN]", "[ Infinity, -Infinity, NaN ]"),
    ("float32", "16777217", "16777216.0"),
    ("float64", "0.1", "0.1"),
    ("float64", "0.30000000000000004", "0.30000000000000004"),
    ("float64", "18446744073709551615", "1.8446744073709552e+19"),
    ("int8", "[300, -129]", "[44, 127]"),
    ("uint8", "[300, -1]", "[44, 255]"),
    ("int16", "70000", "4464"),
    ("int32", "-2147483648", "-2147483648"),
    ("int64", "[9223372036854775807, -9223372036854775808]", "[9223372036854775807, -9223372036854775808]"),
    ("uint32", "4294967295", "4294967295"),
    ("uint64", "18446744073709551615", "18446744073709551615"),
    ("bool", "[true, false]", "[true, false]"),
    ("string", '"\\u0001\\u00e9/"', '"\\u0001\u00e9/"'),
    ("string", '[["a", {"b64": "Yg=="}], [{"b64": "Yw"}, ""]]', '[["a", "b"], ["c", ""]]'),
    ("int32", "[]", "[]"),
    ("int32", "[[[7]]]", "[[[7]]]"),
]


@pytest.mark.parametrize(("kind", "sent", "answered"), VALUES)
def test_values(ask, kind, sent, answered):
    status, _, reply = ask("POST", "/v1/models/kinds:predict", columnar(kind, sent))
    assert status == 200
    tight = "".join(flat(reply).split()).removeprefix('{"outputs":').removesuffix("}")
    assert tight == "".join(answered.split())


REFUSED = [
    ("int32", "1.0", "Type: Number is not of expected type: int32"),
    ("int32", "1e3", "JSON Value: 1000.0 Type: Number is not of expected type: int32"),
    ("int32", "2147483648", "is not of expected type: int32"),
    ("int8", "2147483648", "is not of expected type: int8"),
    ("int64", "9223372036854775808", "is not of expected type: int64"),
    ("uint32", "-1", "is not of expected type: uint32"),
    ("uint32", "4294967296", "is not of expected type: uint32"),
    ("uint64", "18446744073709551616", "is not of expected type: uint64"),
    ("float32", "true", "JSON Value: true Type: True is not of expected type: float"),
    ("float64", "null", "JSON Value: null Type: Null is not of expected type: double"),
    ("float32", '"1"', 'JSON Value: "1" Type: String is not of expected type: float'),
    ("bool", "1", "JSON Value: 1 Type: Number is not of expected type: bool"),
    ("string", "1", "JSON Value: 1 Type: Number is not of expected type: string"),
    ("string", '{"x": {"b64": "Yg==", "c": 1}}', "not formatted correctly for base64 data"),
    ("string", '{"b64": "Y*"}', "Unable to base64 decode"),
    ("int32", "[[1], [1, 2]]", "Encountered list at unexpected size: 2 at level: 1 expected size: 1"),
    ("int32", "1e999", "JSON Parse error: Number too big to be stored in double. at offset: 38"),
]


@pytest.mark.parametrize(("kind", "sent", "text"), REFUSED)
def test_refused_values(ask, kind, sent, text):
    status, content_type, reply = ask("POST", "/v1/models/kinds:predict", columnar(kind, sent))
    assert (status, content_type) == (400, "application/json")
    assert text in flat(json.loads(reply)["error"].encode())


def test_types_that_json_cannot_carry(ask):
    text = "Conversion of JSON Value: 1 to type: complex64"
    status, _, reply = ask("POST", "/v1/models/kinds:predict", columnar("complex64", "1"))
    assert (status, json.loads(reply)) == (501, {"error": text})
    rows = '{"signature_name": "complex64", "instances": [1]}'
    status, _, reply = ask("POST", "/v1/models/kinds:predict", rows)
    assert status == 400 and f"Error: UNIMPLEMENTED: {text}" in json.loads(reply)["error"]


ROWS = [
    ('{"instances": [[1], [2]]}', {"predictions": [[3.0], [6.0]]}),
    ('{"instances": [{"x": 1}], "instances": [2], "more": null}', THREE),
    ('\ufeff{"instances": [1]}', THREE),
    ('{"signature_name": "", "instances": [1]}', THREE),
    ('{"inputs": {"x": [1], "unknown": "ignored"}}', {"outputs": [3.0]}),
    ('{"inputs": {"x": 1}}', {"outputs": 3.0}),
    ('{"signature_name": "pair", "inputs": {"a": [1, 2], "b": 1}}', {"outputs": {"p": [1.0, 2.0], "s": [0.0, 1.0]}}),
]


@pytest.mark.parametrize(("body", "reply"), ROWS)
def test_forms(ask, body, reply):
    status, _, text = ask("POST", f"{M}:predict", body, **{"Content-Type": "text/whatever"})
    assert (status, json.loads(text)) == (200, reply)


BROKEN_ROWS = [
    ('{"instances": [{"x": 1}, {"z": 1}]}', "element: 1 key: z of 'instances' list. Error: INVALID_ARGUMENT: JSON obj"),
    ('{"instances": [{"x": 1, "y": 1}]}', "JSON object: does not have named input: y"),
    ('{"instances": [{}]}', "JSON object: {} keys must be equal to: x"),
    ('{"instances": [{"x": 1}, 2]}', "Expecting object but got list at item 1 of input list"),
    ('{"instances": [1, [1]]}', "Expecting shape [] but got: [1]"),
    ('{"signature_name": "pair", "inputs": [1]}', "inputs is a plain value/list, but expecting an object"),
    ('{"signature_name": "pair", "inputs": {"a": 1}}', "Missing named input: b in 'inputs' object."),
    ('{"signature_name": "pair", "inputs": {"a": [1, 2], "b": [1, 2, 3]}}', "Incompatible shapes: [2] vs. [3]"),
]


@pytest.mark.parametrize(("body", "text"), BROKEN_ROWS)
def test_broken_forms(ask, body, text):
    status, _, reply = ask("POST", f"{M}:predict", body)
    assert status == 400 and text in flat(json.loads(reply)["error"].encode())


def test_replies_of_rows_that_do_not_belong_together(ask):
    body = '{"signature_name": "uneven", "instances": [1, 2]}'
    status, _, reply = ask("POST", "/v1/models/kinds:predict", body)
    assert status == 400
    assert json.loads(reply) == {"error": "Tensor name: b has inconsistent batch size: 3 expecting: 2"}
    status, _, reply = ask("POST", "/v1/models/kinds:predict", body.replace("instances", "inputs"))
    assert (status, json.loads(reply)) == (200, {"outputs": {"a": [1.0, 2.0], "b": [1.0, 2.0, 0.0]}})


def test_numbers_that_strict_readers_refuse(ask):
    body = '{"signature_name": "logarithm", "inputs": [0, -1, 1]}'
    _, _, reply = ask("POST", "/v1/models/kinds:predict", body)
    assert flat(reply) == '{ "outputs": [ -Infinity, NaN, 0.0 ] }'


def test_scalar_kinds_of_examples(ask):
    body = {"signature_name": "doubled", "context": {"x": 1.5}, "examples": [{}, {"other": [True, 2]}]}
    status, _, reply = ask("POST", "/v1/models/texts:regress", json.dumps(body))
    assert (status, json.loads(reply)) == (200, {"results": [3.0, 3.0]}), "the context is in every example"
    body["context"]["x"] = 2
    assert ask("POST", "/v1/models/texts:regress", json.dumps(body))[0] == 400, "an integer is no float feature"
    # The signature says "predict" of itself; that the server does not check the method's name is its default.
    body = {"signature_name": "labelled", "examples": [{"x": 1.0}]}
    assert json.loads(ask("POST", "/v1/models/texts:classify", json.dumps(body))[2])["results"][0][0] == ["c", 2.0]
    status, _, reply = ask("POST", "/v1/models/texts:regress", json.dumps(body))
    assert status == 400 and json.loads(reply)["error"] == "Expected one output Tensor."
