"""The double follows its models.config: labels, versions, models; and refuses what the server refuses."""

import pytest
import requests

from serving.local_server import running_server


def entry(base, name, versions, **labels):
    listed = " ".join(f"versions: {version}" for version in versions)
    named = " ".join(f'version_labels {{ key: "{label}" value: {version} }}' for label, version in labels.items())
    policy = f"model_version_policy {{ specific {{ {listed} }} }}"
    return f'config {{ name: "{name}" base_path: "{base}" model_platform: "tensorflow" {policy} {named} }}'


@pytest.fixture
def served(push, tmp_path):
    """(write, ask, events): writes entries to models.config; asks a path below /v1/models/ for (status, reply)."""
    for version, model in ((1, "scaled_2"), (2, "scaled_3")):
        push(model, tmp_path / "m", version)
    path, events = tmp_path / "models.config", []

    def write(*entries):
        path.with_suffix(".new").write_text(f"model_config_list {{ {' '.join(entries)} }}")
        path.with_suffix(".new").replace(path)

    write(entry(tmp_path / "m", "m", [1], stable=1))
    with running_server(None, models_config=path, poll_seconds=0.05, on_event=events.append) as server:

        def ask(rest):
            reply = requests.post(f"{server.address}/v1/models/{rest}:predict", json={"inputs": [1.0]}, timeout=10)
            return reply.status_code, reply.json().get("outputs", reply.json().get("error"))

        yield write, ask, events


def test_versions_labels_and_models_come_and_go(served, tmp_path, wait_until):
    write, ask, _ = served
    # A new label may come before its version is loaded.
    write(entry(tmp_path / "m", "m", [1, 2], stable=1, canary=2), entry(tmp_path / "m", "twin", [2]))
    wait_until(lambda: ask("m/labels/canary") == (200, [3.0]) and ask("twin") == (200, [3.0]))
    assert ask("m/labels/stable") == (200, [2.0])
    write(entry(tmp_path / "m", "m", [2], stable=2))
    wait_until(lambda: ask("m/labels/stable") == (200, [3.0]))
    wait_until(lambda: ask("m/versions/1")[0] == 404)
    assert ask("m/labels/canary") == (400, "Unrecognized servable version label: canary")
    assert ask("twin") == (404, "Servable not found for request: Latest(twin)")


def test_a_label_that_moves_to_what_is_not_loaded_refuses_the_whole_file(served, tmp_path, wait_until):
    write, ask, events = served
    write(entry(tmp_path / "m", "m", [1, 2], stable=2))
    refusal = "Request to assign label to version 2 of model m, which is not currently available for inference"
    wait_until(lambda: any(refusal in event for event in events))
    assert ask("m/labels/stable") == (200, [2.0]) and ask("m/versions/2")[0] == 404, "the version is not loaded either"
    write(entry(tmp_path / "m", "m", [1, 2], stable=1))
    wait_until(lambda: ask("m/versions/2")[0] == 200)
    write(entry(tmp_path / "m", "m", [1, 2], stable=2))
    wait_until(lambda: ask("m/labels/stable") == (200, [3.0]))


def test_a_file_that_cannot_be_read_changes_nothing(served, tmp_path, wait_until):
    write, ask, events = served
    write("config {{")
    wait_until(lambda: any("line:column" in event for event in events))
    assert ask("m/labels/stable") == (200, [2.0])
    assert sum("line:column" in event for event in events) == 1, "said once"
