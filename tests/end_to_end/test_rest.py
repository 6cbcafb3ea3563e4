"""The page of curl commands and the OpenAPI description, against the model of the first run on the local server."""

import json
import pathlib
import re

import jsonschema
import pytest
import requests
import yaml

from serving.local_server import running_server

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "rest.md").read_text(encoding="utf-8")
DESCRIPTION = yaml.safe_load((ROOT / "serving" / "openapi.yaml").read_text(encoding="utf-8"))
BODIES = [json.loads(body) for body in re.findall(r":predict -d '(.*?)'", PAGE, re.S)]
# The run's model has a feature of candidates beside what every model has.
DECLARED = {"candidate_position": [["1", "2"]]}
for body in BODIES:
    if "candidate_item_id" in body["inputs"]:
        body["inputs"] |= DECLARED


@pytest.fixture(scope="module")
def model(finished):
    """The model's address on a server."""
    with running_server(finished.version.parent, "amen") as server:
        yield f"{server.address}/v1/models/amen"


def check(document, name):
    """Holds a document against a schema of the description."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": DESCRIPTION["components"]}
    jsonschema.Draft202012Validator(schema).validate(document)


def asked(model, body):
    reply = requests.post(f"{model}:predict", json=body, timeout=60)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_every_body_on_the_page_is_answered_and_as_described(model):
    described = {"rank": "RankRequest", "interest_flow": "FlowRequest", None: "ExamplesRequest"}
    replies = {"rank": "Scores", "interest_flow": "Flow", None: "Scores"}
    assert [body.get("signature_name") for body in BODIES] == ["rank", "interest_flow", None]
    for body in BODIES:
        name = body.get("signature_name")
        check(body, described[name])
        check(asked(model, body), replies[name])


def test_a_flow_computed_before_gives_the_same_scores(model):
    rank, flow, _ = BODIES
    body = {"signature_name": "rank_with_flow", "inputs": {**rank["inputs"], **asked(model, flow)["outputs"]}}
    check(body, "RankWithFlowRequest")
    with pytest.raises(jsonschema.ValidationError):
        check({**rank, "signature_name": "rank_with_flow"}, "RankWithFlowRequest")
    (ours,), (theirs,) = asked(model, body)["outputs"], asked(model, rank)["outputs"]
    assert ours == pytest.approx(theirs, abs=1e-6) and len(set(theirs)) == 2


def test_states_metadata_and_errors_are_as_described(model):
    states = requests.get(model, timeout=60).json()
    check(states, "Status")
    version = f"{model}/versions/{states['model_version_status'][0]['version']}"
    check(requests.get(version, timeout=60).json(), "Status")
    metadata = requests.get(f"{model}/metadata", timeout=60).json()
    assert requests.get(f"{version}/metadata", timeout=60).json() == metadata
    check(metadata, "Metadata")
    known = metadata["metadata"]["signature_def"]["signature_def"]
    for schema, signature in (("RankColumns", "rank"), ("MovelineColumns", "interest_flow")):
        parts = DESCRIPTION["components"]["schemas"][schema].get("allOf", [{"$ref": "/MovelineColumns"}])
        required = {n for part in parts for n in part.get("required", [])}
        required |= set(DESCRIPTION["components"]["schemas"]["MovelineColumns"]["required"])
        assert required == set(known[signature]["inputs"]) - set(DECLARED)
    body = {**BODIES[0], "inputs": {n: v for n, v in BODIES[0]["inputs"].items() if n != "scene"}}
    with pytest.raises(jsonschema.ValidationError, match="scene"):
        check(body, "RankRequest")
    reply = requests.post(f"{model}:predict", json=body, timeout=60)
    assert reply.status_code == 400 and "scene" in reply.json()["error"]
    check(reply.json(), "Error")
    body["inputs"] = {**BODIES[0]["inputs"], "moveline_item_id": [["a", "b", "c", "d", "e", "f", "g"]]}
    reply = requests.post(f"{model}:predict", json=body, timeout=60)
    assert reply.status_code == 400 and "Expected the shape of moveline_behavior" in reply.json()["error"]


def test_every_path_on_the_page_is_described():
    paths = set(re.findall(r"[^/](/v1/models/[^\s`'\"|]+)", PAGE.replace("http://127.0.0.1:8501", " ")))
    described = [re.sub(r"\\{\w+\\}", "[^/:]+", re.escape(path)) for path in DESCRIPTION["paths"]]
    assert paths and all(any(re.fullmatch(one, path) for one in described) for path in paths), paths


def test_every_path_of_the_description_is_one_of_the_server(model):
    host, name = model.removesuffix("/v1/models/amen"), "amen"
    version = requests.get(model, timeout=60).json()["model_version_status"][0]["version"]
    for path, methods in DESCRIPTION["paths"].items():
        url = host + path.format(model=name, version=version, label="none")
        for method in set(methods) & {"get", "post"}:
            reply = requests.request(method, url, json=BODIES[0] if method == "post" else None, timeout=60)
            # There is no label on this server; all else is answered.
            assert reply.status_code == (400 if "{label}" in path else 200), (path, reply.text)
            assert str(reply.status_code) in methods[method]["responses"], path


def test_the_description_is_whole():
    text = json.dumps(DESCRIPTION)
    for place in set(re.findall(r'"#/([^"]+)"', text)):
        found = DESCRIPTION
        for name in place.split("/"):
            found = found[name]
    ids = [m["operationId"] for p in DESCRIPTION["paths"].values() for n, m in p.items() if n in ("get", "post")]
    assert len(ids) == len(set(ids)) == 8
