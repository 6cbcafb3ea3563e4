"""The local REST server: forms of requests, replies, errors."""

import gzip
import http.client
import json
import urllib.parse

import pytest

SCALED, TEXTS = "/v1/models/scaled", "/v1/models/texts"


def predict(base, version=""):
    return f"/v1/models/{base}{version}:predict"


class TestPredict:
    def test_rows_and_columns(self, call):
        rows = call(predict("scaled"), {"instances": [1.0, 2.5]})
        assert rows.status_code == 200
        assert rows.text == '{\n    "predictions": [3.0, 7.5\n    ]\n}'
        assert call(predict("scaled"), {"instances": [{"x": 1}, {"x": 2}]}).json() == {"predictions": [3.0, 6.0]}
        assert call(predict("scaled"), {"inputs": [1.0]}).json() == {"outputs": [3.0]}
        assert call(predict("scaled"), {"inputs": {"x": [], "ignored": 1}}).json() == {"outputs": []}

    def test_several_inputs_and_outputs(self, call):
        body = {"signature_name": "pair", "instances": [{"a": 5, "b": 2}, {"b": 0.5, "a": 1}]}
        expected = [{"s": 3.0, "p": 10.0}, {"s": 0.5, "p": 0.5}]
        assert call(predict("scaled"), body).json() == {"predictions": expected}
        columns = {"signature_name": "pair", "inputs": {"a": [5, 1], "b": [2, 0.5]}}
        assert call(predict("scaled"), columns).json() == {"outputs": {"s": [3.0, 0.5], "p": [10.0, 0.5]}}

    def test_shapes_are_the_graphs_business(self, call):
        # The signature says [None]; the server does not look.
        assert call(predict("scaled"), {"instances": [[1, 2], [3, 4]]}).json() == {"predictions": [[3, 6], [9, 12]]}
        assert call(predict("scaled"), {"inputs": 2}).json() == {"outputs": 6.0}

    def test_versions_and_labels(self, call):
        for choice, factor in (("/versions/2", 2), ("/versions/0003", 3), ("/labels/stable", 2), ("/labels/canary", 3)):
            assert call(predict("scaled", choice), {"instances": [1]}).json() == {"predictions": [factor]}, choice

    def test_strings_and_base64(self, call):
        # 0xff is no UTF-8: it comes back whole from the output whose name ends in _bytes.
        reply = call(predict("texts"), {"instances": ["é", {"b64": "/w=="}, {"b64": "/w"}]})
        rows = json.loads(reply.content.decode("utf-8", "surrogateescape"))["predictions"]
        assert rows[0] == {"text": "éé", "raw_bytes": {"b64": "w6nDqQ=="}}
        assert rows[1] == rows[2] == {"text": "\udcff\udcff", "raw_bytes": {"b64": "//8="}}
        assert call(predict("texts"), {"inputs": {"s": "a"}}).json()["outputs"]["text"] == "aa"

    def test_numbers_that_json_has_no_word_for(self, call):
        reply = call(predict("scaled"), '{"instances": [NaN, Inf, -Infinity, 1e39]}')
        assert "[NaN, Infinity, -Infinity, Infinity" in reply.text

    def test_gzip(self, call):
        body = gzip.compress(b'{"instances": [2]}')
        headers = {"Content-Encoding": "gzip"}
        assert call(predict("scaled"), body, headers=headers).json() == {"predictions": [6.0]}
        cut = call(predict("scaled"), body[:-9], headers=headers)
        assert (cut.status_code, cut.json()["error"]) == (400, "JSON Parse error: The document is empty")

    def test_regress_and_classify(self, call):
        body = {"signature_name": "doubled", "context": {"unused": ["a", {"b64": "YQ=="}]}, "examples": [{"x": 1.5}]}
        assert call(f"{TEXTS}:regress", body).json() == {"results": [3.0]}
        body = {"signature_name": "labelled", "examples": [{"x": 1.0}, {"x": [2.0]}]}
        expected = [[["c", 2.0], ["c", 1.0]], [["c", 4.0], ["c", 1.0]]]
        assert call(f"{TEXTS}:classify", body).json() == {"results": expected}

    def test_a_lookup_table_is_initialised_from_the_copied_asset(self, call):
        event = {"moveline_item_id": [["a", ""]], "moveline_timestamp": [[3, 0]]}
        event |= {f"moveline_{name}": [["", ""]] for name in ("category_id", "scene", "behavior")}
        candidates = {
            "candidate_item_id": [["a", "b", "c"]],
            "candidate_category_id": [["hats", "shoes", "?"]],
            "candidate_price": "[NaN]",
            "candidate_brand": [["", "", ""]],
        }
        inputs = {"timestamp": [9], "scene": ["search"], "age": [2.0], **event, **candidates}
        inputs["candidate_price"] = [[float("nan"), 1.0, 0.0]]
        body = json.dumps({"signature_name": "rank", "inputs": inputs})
        # 0.25 + 0.125 + 0.5, 0.5 + 0.5 + 1, 0 + 0.5
        assert call(predict("amen"), body).json() == {"outputs": [[0.875, 2.0, 0.5]]}


REGRESS, CLASSIFY = f"{TEXTS}:regress", f"{TEXTS}:classify"
ERRORS = [
    (predict("scaled"), {"instances": ["1"]}, "JSON Value: \"1\" Type: String is not of expected type: float"),
    (predict("scaled"), {"instances": [[1], [1, 2]]}, "Expecting tensor size: 1 but got: 2"),
    (predict("scaled"), {"instances": [1, {"x": 2}]}, "Expecting value/list but got object at item 1 of input list"),
    (predict("scaled"), {"inputs": [[1], 2]}, "JSON Value: 2 found at incorrect level: 2 in the JSON DOM"),
    (predict("scaled"), {"inputs": [1, [2]]}, "Encountered list at unexpected level: 1 expected < 1"),
    (predict("scaled"), {"signature_name": "pair", "instances": [1]}, "instances is a plain list, but expecting"),
    (predict("scaled"), {"signature_name": "pair", "instances": [{"a": 1}]}, "keys must be equal to: a,b"),
    (predict("scaled"), {"signature_name": "nope", "instances": [1]}, 'Serving signature name: "nope" not found'),
    (predict("scaled"), {}, "Missing 'inputs' or 'instances' key"),
    (predict("scaled"), {"instances": [1], "inputs": [1]}, "expecting only one of 'inputs' or 'instances' keys"),
    (predict("scaled"), "[]", "JSON Value: [] Is not object"),
    (predict("scaled", "/labels/nope"), {"instances": [1]}, "Unrecognized servable version label: nope"),
    (predict("texts"), {"instances": [{"b64": "_-8="}]}, "Unable to base64 decode"),
    (predict("texts"), {"inputs": {"s": {"b64": 1}}}, 'JSON Value: { "b64": 1 } not formatted correctly for'),
    (predict("texts"), {"signature_name": "half", "instances": [1]}, "UNIMPLEMENTED: Conversion of JSON Value: 1"),
    (predict("texts"), {"signature_name": "total", "instances": [1]}, "Tensor name: total has no shape information "),
    (predict("texts"), {"signature_name": "total", "inputs": [200]}, "assertion failed: [x is too large]"),
    (REGRESS, {"signature_name": "doubled", "examples": [{"x": True}]}, "Data types don't match"),
    (REGRESS, {"signature_name": "doubled", "examples": [{"x": [1, "a"]}]}, "Unexpected element type in feature"),
    (REGRESS, {"signature_name": "doubled", "examples": [3]}, "Example must be JSON object but got JSON Number"),
    (CLASSIFY, {"signature_name": "doubled", "examples": [{"x": 1.0}]}, "Expected classification signature"),
    (CLASSIFY, {"examples": [{"x": 1.0}]}, "No classification inputs found in SignatureDef: inputs {"),
    (f"{TEXTS}:Predict", {"inputs": "a"}, f"Malformed request: POST {TEXTS}:Predict"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "text"), ERRORS)
def test_error_texts(call, path, body, text):
    reply = call(path, body)
    assert reply.status_code == 400
    assert reply.headers["Content-Type"] == "application/json"
    assert text in " ".join(reply.json()["error"].split()) + " "


# NumPy 1 holds 32 dimensions and NumPy 2 64; TensorFlow's own limit of 254 is out of reach of either.
@pytest.mark.parametrize("depth", [70, 400, 100_000])
def test_deep_nesting_is_refused(call, depth):
    reply = call(predict("scaled"), '{"inputs": ' + "[" * depth + "1" + "]" * depth + "}")
    assert reply.status_code == 400
    assert "development double" in reply.json()["error"]


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        (predict("nope"), {"instances": [1]}, 404, "Servable not found for request: Latest(nope)"),
        (predict("scaled", "/versions/7"), {"inputs": 1}, 404, "Servable not found for request: Specific(scaled, 7)"),
        (predict("texts"), {"signature_name": "half", "inputs": [1]}, 501, "Conversion of JSON Value: 1 to type: half"),
        ("/v1/models/nope", None, 404, "Could not find any versions of model nope"),
        (f"{SCALED}/versions/9", None, 404, "Could not find version 9 of model scaled"),
        ("/v1/models", None, 400, "Missing model name in request."),
    ],
)
def test_other_statuses(call, path, body, status, text):
    reply = call(path, body)
    assert (reply.status_code, reply.json()) == (status, {"error": text})


def test_a_huge_version_is_the_one_error_without_json(call):
    reply = call(predict("scaled", f"/versions/{2**63}"), {"inputs": 1})
    assert (reply.status_code, reply.content) == (400, b"")


def test_other_paths_and_methods(call):
    outside = call("/metrics")
    assert (outside.status_code, outside.headers["Content-Type"].split(";")[0]) == (404, "text/html")
    assert call(SCALED, b"", method="PUT").json() == {"error": f"Malformed request: PUT {SCALED}"}
    assert call(SCALED, method="HEAD").status_code == 400
    assert call(SCALED, method="OPTIONS", headers={"Origin": "http://a"}).status_code == 200
    assert call(SCALED, method="OPTIONS").status_code == 400
    assert call(f"{SCALED}?verbose=1").json() == {"error": "Could not find any versions of model scaled?verbose=1"}


def test_every_reply_says_that_this_is_a_double(call, server):
    for path in (SCALED, "/elsewhere", "/v1/models/nope"):
        assert "not TensorFlow Serving" in call(path).headers["Server"]
    assert "not for production" in server.banner


def test_status_and_metadata(call):
    assert call(SCALED).json() == {
        "model_version_status": [
            {"version": version, "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
            for version in ("3", "2")
        ]
    }
    document = call(f"{SCALED}/labels/stable/metadata").json()
    assert document["model_spec"] == {"name": "scaled", "signature_name": "", "version": "2"}
    signatures = document["metadata"]["signature_def"]["signature_def"]
    assert set(signatures) == {"serving_default", "pair", "__saved_model_init_op"}
    assert signatures["pair"]["inputs"]["a"]["dtype"] == "DT_DOUBLE"
    assert signatures["pair"]["inputs"]["a"]["tensor_shape"] == {
        "dim": [{"size": "-1", "name": ""}],
        "unknown_rank": False,
    }


def test_a_percent_sign_in_the_path_is_decoded_once(server):
    # http.client sends the path as it is given, requests would tidy it.
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(server.address).netloc, timeout=10)
    connection.request("GET", "/v1/models/sc%61led")
    assert connection.getresponse().read().count(b"AVAILABLE") == 2
    connection.request("GET", "/v1/models/sc%2561led")
    assert b"Could not find any versions of model sc%61led" in connection.getresponse().read()
    connection.close()
