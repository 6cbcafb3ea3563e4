"""The Trainers' `run_fn` in a cluster of two processes, on what the finished run has prepared."""

import json
import os
import socket
import subprocess
import sys

import pytest
import yaml

from amen_tf.spec import ModelSpec
from pipeline.trainers.common import EXTRA, SETTINGS, SPEC
from tests.end_to_end.runs import ROOT

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
        "serving_model_dir": str(folder / "model"),
        "model_run_dir": str(folder / "run"),
    }


def start(stage, arguments, tf_config=None):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_USE_LEGACY_KERAS": "1", "CUDA_VISIBLE_DEVICES": "-1"}
    environment.pop("TF_CONFIG", None)
    environment |= {"TF_CONFIG": json.dumps(tf_config)} if tf_config else {}
    command = [sys.executable, "-m", "tests.end_to_end.train_as_worker", f"pipeline.trainers.{stage}"]
    return subprocess.Popen(
        [*command, json.dumps(arguments)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def history(process):
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err[-3000:]
    return json.loads(out.splitlines()[-1])


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.parametrize("stage", TRAINERS)
def test_two_workers_train_as_one_and_the_chief_alone_writes(stage, finished, tmp_path):
    alone = history(start(stage, fn_args(finished, stage, tmp_path / "alone")))
    cluster = {"worker": [f"127.0.0.1:{free_port()}" for _ in range(2)]}
    folders = [tmp_path / f"of_worker_{i}" for i in range(2)]
    # Each is told a folder of its own, so that what the second writes would be seen; both keep flows in one.
    processes = []
    for index, folder in enumerate(folders):
        arguments = fn_args(finished, stage, folder)
        arguments["custom_config"]["flows"] = str(tmp_path / "flows")
        processes.append(start(stage, arguments, {"cluster": cluster, "task": {"type": "worker", "index": index}}))
    for found in [history(process) for process in processes]:
        assert found["loss"] == pytest.approx(alone["loss"], rel=1e-3)
        assert found["val_loss"] == pytest.approx(alone["val_loss"], rel=1e-2)
    assert (folders[0] / "model" / "saved_model.pb").is_file() and (folders[0] / "run" / "train").is_dir()
    assert ModelSpec.load(folders[0] / "model" / EXTRA / SPEC) == ModelSpec.load(
        tmp_path / "alone/model" / EXTRA / SPEC
    )
    assert not folders[1].exists()
    assert not list((tmp_path / "flows").glob("*.partial"))
