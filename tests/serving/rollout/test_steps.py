"""Promotion and rollback against the running double, with requests going on all the time."""

import contextlib
import threading
import time

import pytest
import requests

from serving.local_server import ServerOptions, running_server
from serving.rollout import servers as servers_module
from serving.rollout.config_file import ConfigFile
from serving.rollout.errors import NoAnswerError, RolloutError
from serving.rollout.servers import Servers, State
from serving.rollout.steps import Rollout

OFTEN = ServerOptions(poll_seconds=0.05, config_poll_seconds=0.05, load_retry_seconds=0.1)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(servers_module, "_POLL_SECONDS", 0.02)


def rollout(config, base, servers=None, *, dry_run=False, said=None):
    said = [] if said is None else said
    return Rollout(ConfigFile(config, "m", dry_run=dry_run), base, servers, said.append)


def state_of(config):
    file = ConfigFile(config, "m")
    return set(file.versions), dict(file.labels)


class FakeServers:
    """Two servers that are always as told; keeps what the file said whenever it was asked."""

    def __init__(self, config, **states):
        self.config, self.seen = config, []
        self.known = {int(name[1:]): state for name, state in states.items()}

    def states(self, version):
        return [State("a", "AVAILABLE"), State("b", self.known.get(version, "AVAILABLE"))]

    def refuse_unless_available(self, version, advice):
        Servers.refuse_unless_available(self, version, advice)

    def wait_until_unloaded(self, version, waiting):
        self.seen.append(("unloaded", version, *state_of(self.config)))

    def wait_until_available(self, version, before):
        self.seen.append(("available", version, *state_of(self.config)))
        if self.known.get(version) == "END":
            raise RolloutError(f"Version {version} does not load.")

    def wait_until_labelled(self, label, version):
        self.seen.append((label, version, *state_of(self.config)))

    model = "m"


class TestOrder:
    def test_promote_lists_waits_moves_and_only_then_drops(self, config, base):
        servers = FakeServers(config)
        rollout(config, base, servers).promote(3, "canary")
        assert servers.seen == [
            ("unloaded", 3, {1, 2}, {"stable": 1, "canary": 2}),
            ("available", 3, {1, 2, 3}, {"stable": 1, "canary": 2}),
            ("canary", 3, {1, 2, 3}, {"stable": 1, "canary": 3}),
        ]
        assert state_of(config) == ({1, 3}, {"stable": 1, "canary": 3})

    def test_what_stable_had_stays_as_previous(self, config, base):
        servers = FakeServers(config)
        rollout(config, base, servers).promote(2, "stable")
        assert state_of(config) == ({1, 2}, {"stable": 2, "canary": 2, "previous": 1})
        rollout(config, base, servers).promote(3, "stable")
        assert state_of(config) == ({2, 3}, {"stable": 3, "canary": 2, "previous": 2})

    def test_the_same_command_again_changes_nothing(self, config, base):
        servers, applied = FakeServers(config), []
        rollout(config, base, servers).promote(2, "stable")
        before = config.read_text()
        again = Rollout(ConfigFile(config, "m"), base, servers, lambda text: None, lambda: applied.append(1))
        again.promote(2, "stable")
        assert config.read_text() == before
        assert applied, "what an interrupted call has not applied is applied"

    def test_rollback_twice_goes_back_once(self, config, base):
        servers = FakeServers(config)
        rollout(config, base, servers).promote(2, "stable")
        rollout(config, base, servers).promote(3, "stable")
        for _ in range(2):
            rollout(config, base, servers).rollback()
            assert state_of(config) == ({2}, {"stable": 2, "canary": 2, "previous": 2})

    def test_a_version_that_does_not_load_leaves_the_file_as_it_was(self, config, base):
        before = config.read_text()
        with pytest.raises(RolloutError, match="does not load.*No label was moved"):
            rollout(config, base, FakeServers(config, v3="END")).promote(3, "stable")
        assert config.read_text() == before

    def test_a_previous_that_cannot_be_gone_back_to_is_none(self, config, base):
        said = []
        rollout(config, base, FakeServers(config, v1="END"), said=said).promote(2, "stable")
        assert state_of(config) == ({2}, {"stable": 2, "canary": 2})
        assert any("'previous' is not set to version 1" in text and "b: END" in text for text in said)

    def test_a_dry_run_shows_every_step_and_does_none(self, config, base):
        said, before = [], config.read_text()
        rollout(config, base, FakeServers(config), dry_run=True, said=said).promote(3, "stable")
        steps = [text for text in said if not text.startswith("---")]
        assert steps == [
            "version 3 into the policy",
            "'stable' to version 3, 'previous' to version 1",
        ]
        shown = "\n".join(said)
        assert '+    version_labels { key: "stable" value: 3 }' in shown
        assert '+    version_labels { key: "previous" value: 1 }' in shown
        assert config.read_text() == before


class TestRefusals:
    @pytest.mark.parametrize("label", ["stable", "canary"])
    def test_a_version_whose_folder_is_not_whole(self, config, base, label):
        (base / "3" / "variables" / "variables.index").unlink()
        before = config.read_text()
        with pytest.raises(RolloutError, match="not whole"):
            rollout(config, base, FakeServers(config)).promote(3, label)
        assert config.read_text() == before

    def test_a_label_never_moves_to_a_version_that_one_server_lacks(self, config, base):
        with pytest.raises(RolloutError, match="Version 2 .*not AVAILABLE: b: LOADING.*No label"):
            rollout(config, base, FakeServers(config, v2="LOADING")).promote(2, "stable")
        assert state_of(config)[1] == {"stable": 1, "canary": 2}

    def test_a_label_in_use_without_a_server(self, config, base):
        before = config.read_text()
        with pytest.raises(RolloutError, match="'stable' names version 1.*may be answering.*--server"):
            rollout(config, base).promote(3, "stable")
        assert config.read_text() == before

    def test_the_first_use_of_a_label_needs_no_server(self, config, base):
        config.write_text(config.read_text().replace('    version_labels { key: "canary" value: 2 }\n', ""))
        rollout(config, base).promote(3, "canary")
        assert state_of(config) == ({1, 2, 3}, {"stable": 1, "canary": 3})

    def test_a_label_of_a_version_that_is_not_there_needs_no_server(self, config, base):
        (base / "1").rename(base / "tmp.1")
        rollout(config, base).promote(3, "stable")
        assert state_of(config) == ({1, 2, 3}, {"stable": 3, "canary": 2})

    def test_rollback_needs_servers(self, config, base):
        with pytest.raises(RolloutError, match="--server"):
            rollout(config, base).rollback()

    def test_rollback_without_a_previous(self, config, base):
        with pytest.raises(RolloutError, match="no label 'previous'.*amen promote VERSION --label stable"):
            rollout(config, base, FakeServers(config)).rollback()

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda config, base: (base / "1").rename(base / "gone"), "Version 1 is not whole: no folder"),
            (
                lambda config, base: config.write_text(config.read_text().replace("versions: 1  # the first", "")),
                "not in the policy.*amen promote 1 --label stable",
            ),
        ],
    )
    def test_rollback_to_what_is_not_there(self, config, base, spoil, message):
        rollout(config, base, FakeServers(config)).promote(2, "stable")
        spoil(config, base)
        before = config.read_text()
        with pytest.raises(RolloutError, match=message):
            rollout(config, base, FakeServers(config)).rollback()
        assert config.read_text() == before

    def test_rollback_to_what_is_not_loaded(self, config, base):
        rollout(config, base, FakeServers(config)).promote(2, "stable")
        before = config.read_text()
        with pytest.raises(RolloutError, match="Version 1 .*not AVAILABLE: b: END.*amen promote 1 --label stable"):
            rollout(config, base, FakeServers(config, v1="END")).rollback()
        assert config.read_text() == before

    def test_an_edit_by_hand_while_a_version_loads(self, config, base):
        class Edited(FakeServers):
            def wait_until_available(self, version, before):
                self.config.write_text(self.config.read_text() + "# by hand\n")

        with pytest.raises(RolloutError, match="changed by somebody else"):
            rollout(config, base, Edited(config)).promote(3, "stable")
        assert state_of(config)[1] == {"stable": 1, "canary": 2}
        assert config.read_text().endswith("# by hand\n")


@contextlib.contextmanager
def asking(address, labels):
    """Requests by every label until the end; yields label -> the answers so far (factors, or what went wrong)."""
    answers, stop = {label: [] for label in labels}, threading.Event()

    def ask(label):
        session = requests.Session()
        session.trust_env = False
        url = f"{address}/v1/models/m/labels/{label}:predict"
        while not stop.wait(0.001):
            reply = session.post(url, json={"inputs": [1.0]}, timeout=10)
            answers[label].append(reply.json()["outputs"][0] if reply.status_code == 200 else reply.text)

    threads = [threading.Thread(target=ask, args=(label,)) for label in labels]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in threads:
            thread.join()


class TestAgainstTheDouble:
    @pytest.fixture
    def served(self, push, tmp_path):
        """(address, models.config, push folder): version 1 answers 2 and is stable and canary; 2 and 3 answer 3, 2."""
        base = tmp_path / "push" / "m"
        for version, model in ((1, "scaled_2"), (2, "scaled_3"), (3, "scaled_2")):
            push(model, base, version)
        config = tmp_path / "models.config"
        config.write_text(
            f'model_config_list {{ config {{ name: "m" base_path: "{base}" model_platform: "tensorflow"\n'
            "  model_version_policy { specific { versions: 1 } }\n"
            '  version_labels { key: "stable" value: 1 }\n'
            '  version_labels { key: "canary" value: 1 } } }\n'
        )
        with running_server(None, models_config=config, options=OFTEN) as server:
            yield server.address, config, base

    def test_no_request_fails_through_promotions_and_a_rollback(self, served):
        address, config, base = served
        servers = Servers([address], "m", timeout=20)
        with asking(address, ("stable", "canary")) as answers:
            rollout(config, base, servers).promote(2, "canary")
            rollout(config, base, servers).promote(2, "stable")
            assert state_of(config) == ({1, 2}, {"stable": 2, "canary": 2, "previous": 1})
            rollout(config, base, servers).rollback()
            assert state_of(config) == ({1, 2}, {"stable": 1, "canary": 2, "previous": 1})
            rollout(config, base, servers).promote(3, "canary")
            assert state_of(config) == ({1, 3}, {"stable": 1, "canary": 3, "previous": 1})
        assert set(answers["stable"]) | set(answers["canary"]) == {2.0, 3.0}, "and never an error"

        def runs(values):
            return [value for n, value in enumerate(values) if n == 0 or value != values[n - 1]]

        assert runs(answers["stable"]) == [2.0, 3.0, 2.0] and runs(answers["canary"]) == [2.0, 3.0, 2.0]
        # What no label names is unloaded.
        status = requests.get(f"{address}/v1/models/m", timeout=10).json()["model_version_status"]
        assert [(entry["version"], entry["state"]) for entry in status if entry["version"] != "2"] == [
            ("3", "AVAILABLE"),
            ("1", "AVAILABLE"),
        ]

    def test_a_version_that_does_not_load_is_taken_out_again(self, served):
        address, config, base = served
        graph = base / "3" / "saved_model.pb"
        good, before = graph.read_bytes(), config.read_text()
        graph.write_bytes(b"\x0c")
        with (
            asking(address, ("stable",)) as answers,
            pytest.raises(RolloutError, match=r"does not load on .*DATA_LOSS"),
        ):
            rollout(config, base, Servers([address], "m", timeout=20)).promote(3, "stable")
        assert config.read_text() == before
        assert set(answers["stable"]) <= {2.0}
        # The server still tells of the failure when the mended version is asked for, but has read that it was taken
        # out: a version that stays in the policy is not tried again.
        time.sleep(10 * OFTEN.config_poll_seconds)
        graph.write_bytes(good)
        rollout(config, base, Servers([address], "m", timeout=20)).promote(3, "stable")
        assert state_of(config)[1] == {"stable": 3, "canary": 1, "previous": 1}

    def test_a_version_that_failed_before_and_is_listed_still_is_refused_at_once(self, served):
        address, config, base = served
        good = config.read_text()
        (base / "3" / "saved_model.pb").write_bytes(b"\x0c")
        config.write_text(good.replace("versions: 1 ", "versions: 1 versions: 3 "))
        servers = Servers([address], "m", timeout=60)
        while servers.states(3)[0].state != "END":
            time.sleep(0.05)
        begin = time.monotonic()
        with pytest.raises(RolloutError, match=r"does not load on .*DATA_LOSS.*No label was moved"):
            rollout(config, base, servers).promote(3, "stable")
        assert time.monotonic() - begin < 30 and state_of(config) == ({1}, {"stable": 1, "canary": 1})

    def test_a_server_that_reads_the_last_edit_late(self, served, tmp_path):
        """As on Kubernetes, where a ConfigMap comes to the node a while after it was applied."""
        address, config, base = served
        servers = Servers([address], "m", timeout=20)
        rollout(config, base, servers).promote(2, "canary")
        applied = tmp_path / "applied.config"
        applied.write_text(config.read_text())
        # The server reads `config`; the promotion back edits `applied`, which drops 2 and has not been read.
        file = ConfigFile(applied, "m")
        file.put(labels={"canary": 1})
        file.put(drop=[2])

        def later():
            time.sleep(1)
            config.write_text(applied.read_text())

        thread, said = threading.Thread(target=later), []
        thread.start()

        def apply():
            thread.join()
            config.write_text(applied.read_text())

        with asking(address, ("stable", "canary")) as answers:
            Rollout(ConfigFile(applied, "m"), base, servers, said.append, apply).promote(2, "canary")
        assert "  waiting until version 2, which is not in the policy, is unloaded ..." in said
        assert servers.states(2)[0].state == "AVAILABLE" and state_of(config)[1]["canary"] == 2
        assert set(answers["canary"]) <= {2.0, 3.0}, "and never an error"

    def test_a_connection_that_is_dropped_undoes_nothing(self, served, monkeypatch):
        address, config, base = served
        servers, real, asked = Servers([address], "m", timeout=20), Servers._get, []

        def dropped_now_and_then(self, server, rest):
            asked.append(rest)
            if len(asked) % 3 == 0 and "--wait--" in waiting:
                raise NoAnswerError("No answer")
            return real(self, server, rest)

        waiting, wait = [], Servers._wait

        def marked(self, missing, problem):
            waiting.append("--wait--")
            wait(self, missing, problem)
            waiting.clear()

        monkeypatch.setattr(Servers, "_get", dropped_now_and_then)
        monkeypatch.setattr(Servers, "_wait", marked)
        rollout(config, base, servers).promote(2, "stable")
        assert state_of(config)[1] == {"stable": 2, "canary": 1, "previous": 1}

    def test_a_server_that_reads_another_file(self, served, tmp_path):
        address, config, base = served
        other = tmp_path / "other.config"
        other.write_text(config.read_text())
        with pytest.raises(RolloutError, match=r"Version 2 .*not AVAILABLE after 0\.3 s .*not known.*applied"):
            rollout(other, base, Servers([address], "m", timeout=0.3)).promote(2, "canary")
        assert other.read_text() == config.read_text()

    def test_no_server_and_no_tensorflow_serving(self, served):
        address, config, base = served
        before = config.read_text()
        for asked, message in (
            ("127.0.0.1:9", "No answer from http://127.0.0.1:9/v1"),
            (address + "/x", "expected"),
        ):
            with pytest.raises(RolloutError, match=message):
                rollout(config, base, Servers([asked], "m", timeout=1)).promote(3, "canary")
        assert config.read_text() == before
