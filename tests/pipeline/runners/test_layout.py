"""Where a run keeps its things, and that two runs never work in one folder."""

import os
import pathlib
import subprocess
import sys

import pytest

from amen_tf.config import Settings
from pipeline.runners.layout import Layout, RunBusyError

ROOT = pathlib.Path(__file__).parents[3]
HOLD = """
import sys
from amen_tf.config import Settings
from pipeline.runners.layout import Layout
with Layout(Settings.from_preset("smoke", (f"run.root={sys.argv[1]}",))).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


def layout(root, *overrides):
    return Layout(Settings.from_preset("smoke", (f"run.root={root}", *overrides)))


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the run folder until it is killed or its input is closed."""
    command = [sys.executable, "-c", HOLD, tmp_path]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_places_lie_below_the_root_by_name(tmp_path):
    places = layout(tmp_path, "name=mine")
    assert places.folder == tmp_path / "mine"
    for place in (places.artifacts, places.metadata, places.data, places.logs, places.tensorboard, places.report):
        assert place.parent == places.folder
    assert places.push == tmp_path / "mine" / "serving" / "amen"


def test_the_push_folder_may_lie_elsewhere(tmp_path):
    places = layout(tmp_path, f"push.folder={tmp_path}/models", "push.model_name=ranker")
    assert places.push == tmp_path / "models" / "ranker"


def test_a_relative_root_is_of_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert layout("runs").folder == tmp_path / "runs" / "amen-smoke"
    assert pathlib.Path(layout("runs").push).is_absolute()


def test_a_second_process_is_told_who_is_in_its_way(tmp_path, holder):
    with pytest.raises(RunBusyError, match=r"Another run is working in .*amen-smoke.*--set name=") as busy:
        layout(tmp_path).locked().__enter__()
    assert str(tmp_path) in str(busy.value)
    # Another name is another folder.
    with layout(tmp_path, "name=other").locked():
        pass


def test_the_lock_goes_with_a_killed_process(tmp_path, holder):
    holder.kill()
    holder.wait()
    with layout(tmp_path).locked():
        pass


def test_the_lock_is_released_by_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), layout(tmp_path).locked():
        _ = 1 / 0
    with layout(tmp_path).locked():
        assert os.path.isdir(layout(tmp_path).folder)
