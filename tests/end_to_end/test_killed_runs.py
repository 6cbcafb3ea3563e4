"""SIGKILL in the middle of a stage, then the same command again: the same result, and nothing half-written pushed.

Two runs to the same settings: one goes on from `finished` and is killed while the CTR model trains; the other starts in
an empty folder and is killed in Transform and in the Pusher. Each stage is therefore interrupted in one of them at
most, and a difference that a kill makes shows as a difference between the two.
"""

import os
import signal
import time

import numpy as np
import pytest

from pipeline.trainers.extra import BASE_WEIGHTS, GENERATOR_WEIGHTS
from tests.end_to_end.runs import AMEN, pushed_names, run, start

CHANGED = "ctr.learning_rate=0.002"
# Kills the whole process group at the fourth file of the copy into the push folder.
DIES_WHILE_PUSHING = f"""
import os, shutil, signal
copy, copied = shutil.copyfile, []
def copy_three(source, target, **options):
    if "/serving/amen/tmp." in str(target):
        copied.append(target)
        if len(copied) > 3:
            os.killpg(0, signal.SIGKILL)
    return copy(source, target, **options)
shutil.copyfile = copy_three
{AMEN}
"""


def killed(process, reached) -> str:
    """Waits until `reached()` is true, kills the process group and returns what was printed until then."""
    end = time.monotonic() + 600
    try:
        while not reached():
            assert process.poll() is None, "it ended before the kill: " + "".join(process.communicate())
            assert time.monotonic() < end
            time.sleep(0.02)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    out, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL
    return out


def there(folder, pattern):
    """A condition for `killed`: a file appears that is not there yet."""
    before = set(folder.glob(pattern))
    return lambda: bool(set(folder.glob(pattern)) - before)


@pytest.fixture(scope="module")
def killed_in_training(finished, root):
    """`finished` with another learning rate of the CTR model, killed while that trains, and the same command again."""
    training = there(finished.folder, "artifacts/ctr/model_run/*/train/events*")
    killed(start(root, CHANGED), training)
    assert pushed_names(root) == finished.pushed
    return run(root, CHANGED)


@pytest.fixture(scope="module")
def killed_twice(tmp_path_factory):
    """A run from nothing, killed in Transform and then in the Pusher, and the same command again."""
    root = tmp_path_factory.mktemp("killed")
    analysing = there(root, "amen-smoke/artifacts/transform/.system/*/*")

    def a_second_later():
        if analysing():
            time.sleep(1)
            return True
        return False

    out = killed(start(root, CHANGED), a_second_later)
    assert "ExampleGen" in out and "Transform" not in out
    # The first line is no stage but the start, and a Resolver leaves nothing for the cache.
    complete = out.count("  ✓  ") - 1 - out.count("Resolver: ")
    assert pushed_names(root) == ()

    process = start(root, CHANGED, code=DIES_WHILE_PUSHING)
    out, _ = process.communicate(timeout=900)
    assert process.returncode == -signal.SIGKILL
    assert out.count("  cached  ") >= complete >= 2 and "Evaluator: AMEN" in out and "Pusher" not in out
    [left] = pushed_names(root)
    assert left.startswith("tmp.")
    return run(root, CHANGED)


def test_an_interrupt_says_what_is_kept_and_leaves_no_process(tmp_path):
    process = start(tmp_path)
    analysing = there(tmp_path, "amen-smoke/artifacts/transform/.system/*/*")
    end = time.monotonic() + 600
    while not analysing():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and err == ""
    assert out.splitlines()[-1] == "Stopped. Completed stages are kept: the same command goes on from here."
    # multiprocessing's own helper ends a moment after the process that it helped.
    end = time.monotonic() + 30
    while _group_exists(process.pid):
        assert time.monotonic() < end
        time.sleep(0.1)


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_what_was_complete_is_kept_and_what_depends_on_the_change_is_made_anew(killed_in_training, finished):
    assert killed_in_training.status == 0
    assert killed_in_training.rerun == {"ctr", "evaluator", "pusher"}
    figures = killed_in_training.report
    assert figures["auc"]["base"] == finished.report["auc"]["base"]
    assert figures["auc"]["amen"] != finished.report["auc"]["amen"]


def test_the_gate_compares_with_the_last_blessed_model(killed_in_training, finished):
    # Which a bound that was missed since then does not change.
    change = killed_in_training.report["auc"]["amen"] - finished.report["auc"]["amen"]
    assert killed_in_training.report["auc_change_to_last_blessed"] == pytest.approx(change, abs=1e-6)
    assert "pt to the last blessed" in killed_in_training.out


def test_a_new_version_beside_the_old_one(killed_in_training, finished):
    assert len(killed_in_training.pushed) == 2
    first, second = killed_in_training.pushed
    assert first == finished.report["version"] and second == killed_in_training.report["version"]
    assert int(second) > int(first)


def test_the_last_try_only_pushes(killed_twice):
    assert killed_twice.status == 0
    assert killed_twice.rerun == {"pusher"}


def test_nothing_half_written_is_left(killed_twice, killed_in_training):
    for made in (killed_twice, killed_in_training):
        assert all(name.isdigit() for name in made.pushed)
        pushed = {p.relative_to(made.version): p.read_bytes() for p in made.version.rglob("*") if p.is_file()}
        model = made.artifact("ctr", "model") / "Format-Serving"
        # A warm start reads two files of the Trainer's folder that no server does.
        kept = {p for p in model.rglob("*") if p.is_file() and p.name not in (BASE_WEIGHTS, GENERATOR_WEIGHTS)}
        assert pushed == {p.relative_to(model): p.read_bytes() for p in kept}
    assert killed_twice.pushed == (killed_twice.report["version"],)


def test_the_same_result_wherever_it_was_killed(killed_twice, killed_in_training):
    one, other = killed_twice.report, killed_in_training.report
    for name in ("auc", "test_impressions", "blessed"):
        assert one[name] == other[name], name
    # Beam sizes its batches by the time they take: the sums behind this are made in another order.
    assert one["calibration"] == pytest.approx(other["calibration"], rel=1e-6)


def test_the_same_weights_wherever_it_was_killed(killed_twice, killed_in_training):
    one, other = (np.load(made.version / "assets.extra/weights.npz") for made in (killed_twice, killed_in_training))
    assert set(one.files) == set(other.files)
    for name in one.files:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
