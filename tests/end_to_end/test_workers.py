"""The Trainers' `run_fn` in a cluster of two processes, on what the finished run has prepared."""

import json
import subprocess
import sys

import pytest
import yaml

from amen_tf.spec import ModelSpec
from pipeline.trainers.common import EXTRA, SETTINGS, SPEC
from tests.end_to_end.runs import ROOT
from tests.workers import environment, two_workers

# Trainer -> the splits it learns from, and whose model it goes on from.
TRAINERS = {"base": ("stage1", None), "generator": ("stage1", "base"), "ctr": ("stage2", "generator")}


def model(finished, stage):
    return finished.artifact(stage, "model") / "Format-Serving"


def fn_args(finished, stage, folder):
    """What TFX would call the Trainer with; without dropout, whose noise is another on every device."""
    extra = model(finished, stage) / EXTRA
    settings = yaml.safe_load((extra / SETTINGS).read_text())
    settings["model"]["dropout"], settings[stage]["epochs"] = 0.0, 1
    contract = json.loads((extra / SPEC).read_text())["contract"]
    examples, (split, base) = finished.artifact("transform", "transformed_examples"), TRAINERS[stage]
    return {
        "custom_config": {"contract": contract, "settings": settings, "flows": str(folder / "flows")},
        "transform_graph_path": str(finished.artifact("transform", "transform_graph")),
        "train_files": [str(examples / f"Split-{split}" / "*")],
        "eval_files": [str(examples / "Split-eval" / "*")],
        "base_model": base and str(model(finished, base)),
        "warm_start": None,
        "serving_model_dir": str(folder / "model"),
        "model_run_dir": str(folder / "run"),
    }


def start(stage, arguments, folder, tf_config=None):
    """Starts the Trainer; all that it prints and its temporary files go to `folder`."""
    (folder / "tmp").mkdir(parents=True)
    variables = environment(tf_config, TMPDIR=str(folder / "tmp"))
    command = [sys.executable, "-m", "tests.end_to_end.train_as_worker", f"pipeline.trainers.{stage}"]
    with open(folder / "out", "w") as out, open(folder / "err", "w") as err:
        return subprocess.Popen([*command, json.dumps(arguments)], cwd=ROOT, env=variables, stdout=out, stderr=err)


def histories(started):
    """What the processes trained, by the folder that each was given; none outlives this, whatever happens."""
    try:
        for folder, process in started.items():
            assert process.wait(timeout=600) == 0, (folder / "err").read_text()[-3000:]
    finally:
        for process in started.values():
            process.kill()
    return [json.loads((folder / "out").read_text().splitlines()[-1]) for folder in started]


@pytest.mark.parametrize("stage", TRAINERS)
def test_two_workers_train_as_one_and_the_chief_alone_writes(stage, finished, tmp_path):
    lone, *folders = tmp_path / "alone", tmp_path / "worker_0", tmp_path / "worker_1"
    (alone,) = histories({lone: start(stage, fn_args(finished, stage, lone), lone)})
    started = {}
    # Each is told a folder of its own, so that what the second writes would be seen; both keep flows in one.
    for folder, worker in zip(folders, two_workers(), strict=True):
        arguments = fn_args(finished, stage, folder)
        arguments["custom_config"]["flows"] = str(tmp_path / "flows")
        started[folder] = start(stage, arguments, folder, worker)
    for found in histories(started):
        assert found["loss"] == pytest.approx(alone["loss"], rel=1e-3)
        assert found["val_loss"] == pytest.approx(alone["val_loss"], rel=1e-2)
    chief, other = folders
    assert (chief / "model" / "saved_model.pb").is_file() and (chief / "run" / "train").is_dir()
    assert ModelSpec.load(chief / "model" / EXTRA / SPEC) == ModelSpec.load(lone / "model" / EXTRA / SPEC)
    assert {path.name for path in other.iterdir()} == {"out", "err", "tmp"}
    assert not list((tmp_path / "flows").glob("*.partial"))
    # What the second had to save all the same has gone.
    assert not list(other.rglob("saved_model.pb")) and not list((other / "tmp").glob("amen-worker-*"))
