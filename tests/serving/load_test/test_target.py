"""Which servers are asked, and the bodies made of request files."""

import json

import pytest
import requests

from serving.client import RankError
from serving.load_test.target import LoadTestError, check_loopback, make_target
from serving.local_server import running_server

REQUEST = {"timestamp": 9, "scene": "feed", "candidates": [{"item_id": "a"}, {"item_id": "b"}]}


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "[::1]"])
def test_this_machine(host):
    check_loopback(f"http://{host}:8501")


@pytest.mark.parametrize("host", ["10.0.0.1", "0.0.0.0", "example.com", "localhost.example.com", "127.0.0.1.nip.io"])
def test_other_machines(host):
    with pytest.raises(LoadTestError, match=f"on this machine only.*got '{host}'"):
        check_loopback(f"http://{host}:8501")


def test_bodies_are_answered(server, tmp_path):
    for name, candidates in (("one.json", 1), ("two.json", 2)):
        (tmp_path / name).write_text(json.dumps({**REQUEST, "candidates": REQUEST["candidates"][:candidates]}))
    target = make_target(server.address, "amen", [tmp_path / "one.json", tmp_path / "two.json"])
    assert target.url == f"{server.address}/v1/models/amen:predict"
    replies = [requests.post(target.url, data=body, timeout=10).json()["outputs"] for body in target.bodies]
    assert [len(row) for [row] in replies] == [1, 2]


def test_a_label_is_asked_wherever_it_moves(push, tmp_path):
    push("ranker", tmp_path / "amen", 1)
    (tmp_path / "one.json").write_text(json.dumps(REQUEST))
    (tmp_path / "models.config").write_text(
        f'''model_config_list {{ config {{ name: "amen" base_path: "{tmp_path}/amen" model_platform: "tensorflow"
        version_labels {{ key: "stable" value: 1 }} }} }}'''
    )
    with running_server(None, models_config=tmp_path / "models.config") as server:
        target = make_target(server.address, "amen", [tmp_path / "one.json"], "stable")
        assert target.url == f"{server.address}/v1/models/amen/labels/stable:predict"
        assert requests.post(target.url, data=target.bodies[0], timeout=10).status_code == 200
        with pytest.raises(RankError, match="label canary"):
            make_target(server.address, "amen", [tmp_path / "one.json"], "canary")


def test_a_model_that_is_not_served(server, tmp_path):
    (tmp_path / "one.json").write_text(json.dumps(REQUEST))
    with pytest.raises(RankError, match="does not serve model 'nope'"):
        make_target(server.address, "nope", [tmp_path / "one.json"])
