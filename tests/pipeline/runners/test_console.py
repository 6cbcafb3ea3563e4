"""What a person sees of a run and what goes to the log file."""

import contextlib
import io
import os
import pathlib
import re
import subprocess
import sys

import pytest
from rich.console import Console

from amen_tf.config import Settings
from amen_tf.progress import Progress
from pipeline.runners.console import TITLES, StageLines, quiet, quiet_command

ROOT = pathlib.Path(__file__).parents[3]
NOISY = """
import os, subprocess, sys
from pipeline.runners.console import quiet
print("before", flush=True)
with quiet(__import__("pathlib").Path(sys.argv[1])) as console:
    print("python stdout")
    print("python stderr", file=sys.stderr)
    os.write(1, b"descriptor 1\\n")
    os.write(2, b"descriptor 2\\n")
    subprocess.run(["sh", "-c", "echo child; echo child error >&2"])
    console.print("for the person")
print("after", flush=True)
print("after, as error", file=sys.stderr, flush=True)
"""
TERMINAL = {"TERM": "xterm-256color", "COLUMNS": "100"}
NOISE = ("python stdout", "python stderr", "descriptor 1", "descriptor 2", "child", "child error")


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """A process that makes noise of every kind inside `quiet`: (its result, its log file)."""
    log = tmp_path_factory.mktemp("logs") / "deep" / "run.log"
    return subprocess.run([sys.executable, "-c", NOISY, log], capture_output=True, text=True, cwd=ROOT), log


def test_noise_from_python_c_and_children_goes_to_the_file(noisy):
    _, log = noisy
    lines = log.read_text().splitlines()
    assert sorted(lines) == sorted(NOISE)


def test_the_person_sees_the_console_and_what_comes_before_and_after(noisy):
    done, _ = noisy
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["before", "for the person", "after"]
    assert done.stderr.splitlines() == ["after, as error"]


def test_a_command_tells_the_person_of_its_log_file_in_the_runs_folder(tmp_path, capfd):
    settings = Settings.from_preset("smoke", (f"run.root={tmp_path}", "name=mine"))
    with quiet_command(settings, "skew") as person:
        os.write(1, b"noise\n")
        person.print("for the person")
    (log,) = (tmp_path / "mine" / "logs").glob("skew-*.log")
    assert log.read_text() == "noise\n"
    assert capfd.readouterr().out == f"TensorFlow's own messages: {log}\nfor the person\n"


def test_descriptors_come_back_after_an_error(tmp_path, capfd):
    with pytest.raises(ZeroDivisionError), quiet(tmp_path / "log"):
        os.write(1, b"inside\n")
        _ = 1 / 0
    os.write(1, b"outside\n")
    assert capfd.readouterr().out == "outside\n"
    assert (tmp_path / "log").read_text() == "inside\n"


def test_no_descriptor_is_left_open(tmp_path):
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        with quiet(tmp_path / "log"):
            pass
    assert len(os.listdir("/proc/self/fd")) == len(before)


def shown(act):
    """What `act(lines)` prints where there is no terminal."""
    file = io.StringIO()
    with StageLines(Console(file=file, width=200)) as lines:
        act(lines)
    return file.getvalue().splitlines()


def test_a_line_for_every_finished_stage():
    def act(lines):
        lines.started("transform")
        lines.finished("transform", 12.34, False, "")
        lines.started("base")
        lines.progressed("base", Progress(3, 10, {"loss": 0.5, "auc": 0.6, "val_loss": 0.4}))
        lines.finished("base", 1.0, True, "eval AUC 0.7000")

    assert shown(act) == [
        "  ✓   12.3 s  Transform: ids, buckets, padding",
        "  ✓   cached  Trainer: base  eval AUC 0.7000",
    ]


def test_two_bars_at_a_time():
    file = io.StringIO()
    with StageLines(Console(file=file, force_terminal=True, width=200)) as lines:
        lines.started("baseline")
        lines.started("generator")
        lines.progressed("generator", Progress(1, 4, {"loss": 2.0}))
        lines.progressed("baseline", Progress(3, 4, {"loss": 0.5}))
        lines.bar.refresh()
        lines.finished("generator", 1.0, False, "")
        assert [task.completed for task in lines.bar.tasks] == [3]
    assert "25%" in file.getvalue() and "75%" in file.getvalue()


def test_a_failed_stage_has_its_line():
    def act(lines):
        lines.started("evaluator")
        lines.failed("evaluator")

    [line] = shown(act)
    assert re.match(r"  ✗ +Evaluator: AMEN on the test split, gate$", line)


def test_progress_shows_on_a_terminal():
    file = io.StringIO()
    with StageLines(Console(file=file, force_terminal=True, width=200)) as lines:
        lines.started("base")
        lines.progressed("base", Progress(3, 10, {"loss": 0.5, "auc": 0.625, "val_loss": 0.4}))
        lines.bar.refresh()
        lines.finished("base", 1.0, False, "")
    assert "loss 0.5000  auc 0.6250" in file.getvalue() and "30%" in file.getvalue()
    assert "val_loss" not in file.getvalue()


AT_A_TERMINAL = """
import logging, pathlib, sys
from pipeline.runners.console import StageLines, quiet
with quiet(pathlib.Path(sys.argv[1])) as console, StageLines(console) as lines:
    assert console.is_terminal
    lines.started("base")
    print("python stdout")
    print("python stderr", file=sys.stderr)
    logging.warning("a warning")
    lines.finished("base", 1.0, False, "")
"""


def test_a_terminal_with_its_bars_shows_no_noise_either(tmp_path):
    # The bars of rich take over Python's standard streams unless they are told not to.
    try:
        ours, theirs = os.openpty()
    except OSError:
        pytest.skip("this machine has no pseudo-terminals (/dev/pts)")
    code = [sys.executable, "-c", AT_A_TERMINAL, tmp_path / "log"]
    process = subprocess.Popen(code, stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT, env=os.environ | TERMINAL)
    os.close(theirs)
    shown = b""
    # Reading fails once the other side is closed.
    with contextlib.suppress(OSError):
        while part := os.read(ours, 1 << 16):
            shown += part
    os.close(ours)
    assert process.wait() == 0
    assert "✓" in shown.decode() and "Trainer: base" in shown.decode()
    for noise in ("python stdout", "python stderr", "a warning"):
        assert noise not in shown.decode() and noise in (tmp_path / "log").read_text()


def test_details_are_shown_as_they_are():
    # A path may hold what looks like markup.
    assert shown(lambda lines: lines.finished("log", 1.0, False, "/data/[red]/log.csv"))[0].endswith(
        "/data/[red]/log.csv"
    )


def test_every_stage_of_the_pipeline_has_a_title():
    from pipeline import pipeline as stages

    ids = [getattr(stages, name) for name in dir(stages) if name.isupper() and isinstance(getattr(stages, name), str)]
    assert {i for i in ids if i not in ("eval", "test")} == set(TITLES) - {"log"}
