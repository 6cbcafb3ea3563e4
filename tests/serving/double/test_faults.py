"""Pushed versions that cannot serve: the old one goes on answering and the status says why the new one does not."""

import shutil

import numpy as np
import pytest
import requests

import serving.double.versions
from serving.local_server import ServerOptions, running_server

OFTEN = ServerOptions(poll_seconds=0.05, load_retry_seconds=0.1, max_load_retries=2)


def cut(pattern, share=0.5):
    """Truncates the one file that matches."""

    def spoil(folder, write_warmup):
        [path] = folder.glob(pattern)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])

    return spoil


def removed(name):
    def spoil(folder, write_warmup):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return spoil


def warmup(*records):
    return lambda folder, write_warmup: write_warmup(folder, *records)


def cut_warmup(folder, write_warmup):
    write_warmup(folder, {"x": [1.0]})
    cut("assets.extra/*", 0.9)(folder, write_warmup)


FAULTS = {
    "the graph file is cut": (cut("saved_model.pb"), "DATA_LOSS", "as binary proto"),
    "the graph file is empty": (cut("saved_model.pb", 0), "NOT_FOUND", "tags: { serve }"),
    "there is no graph file": (removed("saved_model.pb"), "NOT_FOUND", "Could not find SavedModel"),
    "the variables are cut": (cut("variables/*.data-*"), "OUT_OF_RANGE", "Read less bytes than requested"),
    "their index is cut": (cut("variables/*.index"), "DATA_LOSS", "not an sstable"),
    "there are no variables": (removed("variables"), None, "variables"),
    "a warm-up request lacks an input": (warmup({"x": [1.0]}, {"z": [1.0]}), "INVALID_ARGUMENT", "Warm-up record 2"),
    "a warm-up record is no request": (warmup(b"\xff\xff"), "INVALID_ARGUMENT", "not a PredictionLog"),
    "a warm-up file is cut": (cut_warmup, "DATA_LOSS", "warm-up records"),
    "too many warm-up records": (warmup(*[{"x": [1.0]}] * 1001), "INVALID_ARGUMENT", "exceeds the maximum (1000)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_old_version_answers_and_the_status_has_the_reason(fault, push, tmp_path, wait_until, write_warmup):
    spoil, code, reason = FAULTS[fault]
    push("scaled_2", tmp_path / "base", 1)
    push("scaled_3", tmp_path / "elsewhere", 2)
    spoil(tmp_path / "elsewhere" / "2", write_warmup)
    with running_server(tmp_path / "base", "m", options=OFTEN) as server:
        (tmp_path / "elsewhere" / "2").rename(tmp_path / "base" / "2")
        wait_until(lambda: server.status("m")[0].state == "END")
        url = f"{server.address}/v1/models/m"
        newest, old = requests.get(url, timeout=10).json()["model_version_status"]
        assert (newest["version"], old["version"], old["state"]) == ("2", "1", "AVAILABLE")
        assert newest["status"]["error_code"] == (code or newest["status"]["error_code"]) != "OK"
        assert reason in newest["status"]["error_message"]
        assert requests.post(f"{url}:predict", json={"inputs": [1]}, timeout=10).json() == {"outputs": [2.0]}
        gone = requests.post(f"{url}/versions/2:predict", json={"inputs": [1]}, timeout=10)
        assert (gone.status_code, gone.json()["error"]) == (404, "Servable not found for request: Specific(m, 2)")


def test_warm_up_may_take_longer_than_a_request(push, tmp_path, write_warmup):
    push("slow", tmp_path, 1)
    write_warmup(tmp_path / "1", {"rounds": np.int64([300_000])})
    with running_server(tmp_path, "m", options=ServerOptions(timeout_seconds=0.05)) as server:
        body = {"inputs": {"rounds": [300_000]}}
        assert requests.post(f"{server.address}/v1/models/m:predict", json=body, timeout=30).status_code == 504


def test_a_thousand_warmup_records_are_not_too_many(push, tmp_path, write_warmup):
    push("scaled_2", tmp_path, 1)
    write_warmup(tmp_path / "1", *[{"x": [1.0]}] * 1000)
    with running_server(tmp_path, "m") as server:
        assert server.models == {"m": [1]}


def test_a_folder_that_vanishes_while_it_loads(push, tmp_path, wait_until, monkeypatch):
    def vanish_and_load(folder, *arguments):
        if folder.name == "2" and not went:
            shutil.rmtree(folder)
            went.append(folder)
        return load(folder, *arguments)

    load, went = serving.double.versions.load_version, []
    monkeypatch.setattr(serving.double.versions, "load_version", vanish_and_load)
    push("scaled_2", tmp_path, 1)
    with running_server(tmp_path, "m", options=OFTEN) as server:
        push("scaled_3", tmp_path, 2)
        wait_until(lambda: server.status("m")[0].state == "END")
        newest, old = server.status("m")
        assert (newest.error_code, old.state) == ("NOT_FOUND", "AVAILABLE")
        push("scaled_3", tmp_path, 2)
        wait_until(lambda: server.status("m")[0].state == "AVAILABLE")
        assert server.status("m")[0].error_code == "OK", "a folder that comes back is tried anew"


def test_a_broken_version_is_not_tried_again_until_its_folder_has_been_away(push, tmp_path, wait_until):
    events = []
    push("scaled_2", tmp_path / "base", 1)
    broken = tmp_path / "base" / "2"
    with running_server(tmp_path / "base", "m", options=OFTEN, on_event=events.append) as server:
        broken.mkdir()
        wait_until(lambda: len(server.status("m")) == 2 and server.status("m")[0].state == "END")
        assert [event for event in events if "next try" in event] == [
            f"version 2 of 'm' has no saved_model.pb yet; next try in 0.1 s ({n} of 2)" for n in (1, 2)
        ]
        push("scaled_3", tmp_path / "elsewhere", 2)
        shutil.copytree(tmp_path / "elsewhere" / "2", broken, dirs_exist_ok=True)
        # What is looked at next is proof that another poll has passed.
        push("scaled_3", tmp_path / "base", 3)
        wait_until(lambda: server.status("m")[0].version == 3 and server.status("m")[0].state == "AVAILABLE")
        assert server.status("m")[1].state == "END"
        shutil.rmtree(tmp_path / "base" / "3")
        wait_until(lambda: server.status("m")[1].state == "AVAILABLE")
