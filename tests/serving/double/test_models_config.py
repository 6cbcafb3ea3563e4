"""models.config: version policies, labels, and changes of the file while the server runs."""

import pytest
import requests

from serving.double.config import VersionPolicy
from serving.local_server import ServerOptions, running_server

OFTEN = ServerOptions(poll_seconds=0.05, config_poll_seconds=0.05)


@pytest.mark.parametrize(
    ("policy", "selected"),
    [
        (VersionPolicy(), [7]),
        (VersionPolicy("latest", num_versions=2), [3, 7]),
        (VersionPolicy("latest", num_versions=9), [2, 3, 7]),
        (VersionPolicy("all"), [2, 3, 7]),
        (VersionPolicy("specific", versions=(2, 5)), [2]),
        (VersionPolicy("specific", versions=(5,)), []),
    ],
)
def test_policies(policy, selected):
    assert policy.select([3, 7, 2]) == selected


class Served:
    """A server over one models.config, which `write` replaces."""

    def __init__(self, root):
        self.root, self.file, self.events = root, root / "models.config", []

    def write(self, *models):
        """models: (name, rest of the config), e.g. ("m", "model_version_policy { all {} }")."""
        entries = [
            f'config {{ name: "{name}" base_path: "{self.root}/{name}" model_platform: "tensorflow" {rest} }}'
            for name, rest in models
        ]
        staged = self.root / "staged.config"
        staged.write_text(f"model_config_list {{ {' '.join(entries)} }}")
        staged.rename(self.file)

    def ask(self, path, model="m"):
        reply = requests.post(f"{self.server.address}/v1/models/{model}{path}:predict", json={"inputs": 1}, timeout=10)
        return reply.json().get("outputs", f"{reply.status_code} {reply.json().get('error')}")

    def states(self, model="m"):
        url = f"{self.server.address}/v1/models/{model}"
        records = requests.get(url, timeout=10).json().get("model_version_status", [])
        return {int(record["version"]): record["state"] for record in records}


@pytest.fixture
def served(push, tmp_path):
    """Model m with versions 2 and 3, whose answers are 2.0 and 3.0; `served.run(...)` starts the server."""
    push("scaled_2", tmp_path / "m", 2)
    push("scaled_3", tmp_path / "m", 3)
    return Served(tmp_path)


def specific(*versions, **labels):
    chosen = " ".join(f"versions: {version}" for version in versions)
    named = " ".join(f'version_labels {{ key: "{label}" value: {version} }}' for label, version in labels.items())
    return f"model_version_policy {{ specific {{ {chosen} }} }} {named}"


def started(served):
    return running_server(None, models_config=served.file, options=OFTEN, on_event=served.events.append)


def test_a_promotion_in_four_steps_and_the_way_back(served, wait_until):
    served.write(("m", specific(2, stable=2)))
    with started(served) as served.server:
        assert served.states() == {2: "AVAILABLE"}, "version 3 lies there but nobody named it"
        served.write(("m", specific(2, 3, stable=2)))
        wait_until(lambda: served.states().get(3) == "AVAILABLE")
        assert served.ask("/labels/stable") == 2.0 and served.ask("") == 3.0
        served.write(("m", specific(2, 3, stable=3)))
        wait_until(lambda: served.ask("/labels/stable") == 3.0)
        served.write(("m", specific(3, stable=3)))
        wait_until(lambda: served.states() == {2: "END", 3: "AVAILABLE"})
        assert served.ask("/versions/2") == "404 Servable not found for request: Specific(m, 2)"
        served.write(("m", specific(2, 3, stable=3)))
        wait_until(lambda: served.states()[2] == "AVAILABLE")
        served.write(("m", specific(2, 3, stable=2)))
        wait_until(lambda: served.ask("/labels/stable") == 2.0)


def test_a_label_does_not_move_to_a_version_that_is_not_loaded(served, wait_until):
    served.write(("m", specific(2, stable=2)))
    with started(served) as served.server:
        served.write(("m", specific(3, stable=3)))
        wait_until(lambda: any("cannot move from version 2 to 3" in event for event in served.events))
        assert served.states() == {2: "AVAILABLE"} and served.ask("/labels/stable") == 2.0, "nothing of it is taken"
        assert served.ask("/labels/canary") == "400 Unrecognized servable version label: canary"
        # A new label may name a version that is not there yet.
        served.write(("m", specific(2, stable=2, canary=9)))
        wait_until(lambda: served.ask("/labels/canary") == "404 Servable not found for request: Specific(m, 9)")


def test_models_come_and_go_and_a_broken_file_changes_nothing(served, push, wait_until):
    served.write(("m", ""))
    with started(served) as served.server:
        assert served.states() == {3: "AVAILABLE"}
        served.file.write_text("model_config_list { confi")
        wait_until(lambda: any(event.startswith("models.config") for event in served.events))
        assert served.ask("") == 3.0
        push("scaled_2", served.root / "other", 1)
        served.write(("m", "model_version_policy { latest { num_versions: 2 } }"), ("other", ""))
        wait_until(lambda: served.states("other") == {1: "AVAILABLE"})
        assert served.states() == {2: "AVAILABLE", 3: "AVAILABLE"}
        served.write(("other", ""))
        wait_until(lambda: served.states() == {2: "END", 3: "END"})
        assert served.ask("") == "404 Servable not found for request: Latest(m)"
        assert served.ask("", "other") == 2.0
        assert sum(event.startswith("models.config") for event in served.events) == 1, "a problem is told once"


def test_all_folders_removed_and_a_base_path_that_goes(served, wait_until):
    served.write(("m", "model_version_policy { all {} }"))
    with started(served) as served.server:
        (served.root / "m").rename(served.root / "away")
        (served.root / "canary").mkdir()
        served.write(("m", "model_version_policy { all {} }"), ("canary", ""))
        wait_until(lambda: requests.get(f"{served.server.address}/v1/models/canary", timeout=10).status_code == 404)
        assert served.ask("") == 3.0, "a base path that cannot be listed unloads nothing"
        (served.root / "m").mkdir()
        wait_until(lambda: served.states() == {2: "END", 3: "END"})
        assert served.ask("").startswith("404")
        (served.root / "away" / "2").rename(served.root / "m" / "2")
        wait_until(lambda: served.states() == {2: "AVAILABLE", 3: "END"})


def test_names_that_are_no_versions(served, push):
    for name in ("tmp.4", "v5", "6.0", "-7", "²", str(2**63), "8x"):
        (served.root / "m" / name).mkdir()
    (served.root / "m" / "9").write_text("no folder")
    served.write(("m", "model_version_policy { all {} }"))
    with started(served) as served.server:
        assert served.states() == {2: "AVAILABLE", 3: "AVAILABLE"}
