"""Versions appear whole or not at all, each newer than all before it."""

import json
import multiprocessing
import os
import pathlib
import shutil
import signal
import time

import pytest
from tfx.proto import pusher_pb2
from tfx.types import standard_artifacts
from tfx.utils import proto_utils

from pipeline import pusher
from pipeline.pruning import PARTIAL
from pipeline.pusher import REPORT, AtomicExecutor, newest_if_same, push


def push_and_die(model, base):
    """Dies as SIGKILL lets it, without cleaning up, at the third file of the copy."""
    copied, copy = [], shutil.copyfile

    def copy_two(source, target, **options):
        copied.append(source)
        if len(copied) > 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return copy(source, target, **options)

    shutil.copyfile = copy_two
    push(model, base)


@pytest.fixture
def model(tmp_path):
    """A folder like a SavedModel: files at the root and below."""
    folder = tmp_path / "model"
    for name in ("saved_model.pb", "variables/variables.index", "assets/item_id", "assets.extra/weights.npz"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return folder


@pytest.fixture
def base(tmp_path):
    return tmp_path / "push" / "amen"


def content(folder):
    return {str(p.relative_to(folder)): p.read_text() for p in pathlib.Path(folder).rglob("*") if p.is_file()}


def test_a_version_is_a_whole_copy_named_by_the_time(model, base):
    before = int(time.time())
    version = push(model, base)
    assert before <= int(version) <= time.time()
    assert [path.name for path in base.iterdir()] == [version]
    assert content(base / version) == content(model)


def test_weights_that_no_server_reads_stay_behind(model, base):
    whole = content(model)
    for name in ("base_weights.npz", "generator_weights.npz"):
        (model / "assets.extra" / name).write_text(name)
    assert content(base / push(model, base)) == whole
    assert (model / "assets.extra" / "base_weights.npz").exists()


def test_every_version_is_higher_than_all_before(model, base, monkeypatch):
    monkeypatch.setattr(pusher.time, "time", lambda: 1_000.7)
    # Within one second, and after the clock was set back.
    assert [push(model, base) for _ in range(3)] == ["1000", "1001", "1002"]
    monkeypatch.setattr(pusher.time, "time", lambda: 500.0)
    assert push(model, base) == "1003"
    (base / "2000").mkdir()
    assert push(model, base) == "2001"


def test_folders_that_are_no_version_are_left_alone(model, base, monkeypatch):
    monkeypatch.setattr(pusher.time, "time", lambda: 1_000.0)
    for name in ("v9999", "9999.bak", "latest", ".hidden"):
        (base / name).mkdir(parents=True)
    (base / "notes.txt").write_text("kept")
    assert push(model, base) == "1000"
    assert {path.name for path in base.iterdir()} == {"v9999", "9999.bak", "latest", ".hidden", "notes.txt", "1000"}


def test_older_versions_stay(model, base):
    first = push(model, base)
    (model / "saved_model.pb").write_text("new")
    second = push(model, base)
    assert content(base / first)["saved_model.pb"] == "saved_model.pb"
    assert content(base / second)["saved_model.pb"] == "new"


def test_an_error_while_copying_pushes_nothing_and_the_next_push_cleans_up(model, base, monkeypatch):
    def fails_half_way(source, target, **options):
        pathlib.Path(target).mkdir()
        (pathlib.Path(target) / "saved_model.pb").write_text("half")
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pusher.shutil, "copytree", fails_half_way)
        with pytest.raises(OSError, match="no space left"):
            push(model, base)
    assert [path.name.startswith(PARTIAL) for path in base.iterdir()] == [True]
    version = push(model, base)
    assert [path.name for path in base.iterdir()] == [version]
    assert content(base / version) == content(model)


def test_a_process_killed_while_copying_leaves_no_version(model, base):
    # Forked: a fresh process would only spend seconds on importing TFX.
    process = multiprocessing.get_context("fork").Process(target=push_and_die, args=(model, base))
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    [left] = base.iterdir()
    # What a server would look at is a name of digits; what is left is not, and it is a torn copy indeed.
    assert left.name.startswith(PARTIAL) and not left.name.isdigit()
    assert 0 < len(content(left)) < len(content(model))
    version = push(model, base)
    assert [path.name for path in base.iterdir()] == [version]
    assert content(base / version) == content(model)


def test_a_version_gets_its_name_only_when_all_files_are_there(model, base, monkeypatch):
    rename, renamed = os.rename, []

    def watched(source, target):
        renamed.append((content(source), [path.name for path in base.iterdir() if path.name.isdigit()]))
        rename(source, target)

    monkeypatch.setattr(pusher.os, "rename", watched)
    push(model, base)
    assert renamed == [(content(model), [])]


def test_the_newest_version_is_known_again_by_its_bytes(model, base):
    assert newest_if_same(model, base) is None
    first = push(model, base)
    assert newest_if_same(model, base) == first
    (model / "assets" / "item_id").write_text("other id")
    assert newest_if_same(model, base) is None
    second = push(model, base)
    (model / "assets" / "item_id").write_text("assets/item_id")
    assert newest_if_same(model, base) is None, "an older version is not the newest"
    (model / "assets" / "more").write_text("")
    assert int(second) > int(first) and newest_if_same(model, base) is None


@pytest.fixture
def execute(model, base, tmp_path):
    """`execute(**settings)`: runs the stage's executor on `model`, blessed; gives the pushed version and its report."""

    def _execute(**settings):
        given, pushed = standard_artifacts.Model(), standard_artifacts.PushedModel()
        given.uri, pushed.uri = str(tmp_path / "artifact"), str(tmp_path / "pushed")
        shutil.copytree(model, tmp_path / "artifact" / "Format-Serving", dirs_exist_ok=True)
        destination = pusher_pb2.PushDestination(
            filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=str(base))
        )
        properties = {
            "push_destination": proto_utils.proto_to_json(destination),
            "custom_config": json.dumps({"code": "c", **settings}),
        }
        AtomicExecutor().Do({"model": [given]}, {"pushed_model": [pushed]}, properties)
        report = json.loads((tmp_path / "pushed" / REPORT).read_text())
        assert pushed.get_string_custom_property("pushed_version") == report["version"]
        return report

    return _execute


def test_by_default_every_version_stays(execute, base):
    for name in ("1", "2", "3"):
        (base / name).mkdir(parents=True)
    report = execute()
    assert report == {"version": report["version"], "was_there": False}
    assert {path.name for path in base.iterdir()} == {"1", "2", "3", report["version"]}


def test_a_change_of_what_is_kept_prunes_and_pushes_no_second_time(execute, base, tmp_path):
    for name in ("1", "2", "3"):
        (base / name).mkdir(parents=True)
    first = execute()
    config = tmp_path / "models.config"
    config.write_text(
        'model_config_list { config { name: "amen" base_path: "/m" version_labels { key: "stable" value: 1 } } }'
    )
    again = execute(keep_versions=2, models_config=str(config))
    assert again == {
        "version": first["version"],
        "was_there": True,
        "removed": ["2"],
        "kept": 3,
        "problem": "",
    }
    assert {path.name for path in base.iterdir()} == {"1", "3", first["version"]}
