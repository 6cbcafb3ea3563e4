"""Several devices and several processes train as one does: the same loss and the same weights, one export."""

import json
import pathlib
import subprocess
import sys
from unittest import mock

import pytest
import tensorflow as tf

from amen_tf.distribution import choose_strategy
from tests.workers import environment, two_workers

ROOT = pathlib.Path(__file__).parents[2]
# A process of its own: the number of devices must be said before TensorFlow sets them up.
SCRIPT = pathlib.Path(__file__).with_name("train_on_devices.py")


def run(*arguments, tf_config=None):
    """Starts the script; returns the process."""
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    variables = environment(tf_config, PYTHONPATH=str(ROOT))
    return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result(process):
    """The last line of what the process printed, as JSON."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-3000:]
    return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return result(run("1", tmp_path_factory.mktemp("alone")))


def assert_same(found, expected):
    assert found["trained"].keys() == expected["trained"].keys() == {"base", "generator", "ctr"}
    for name, figures in expected["trained"].items():
        for figure, values in figures.items():
            assert found["trained"][name][figure] == pytest.approx(values, rel=1e-4, abs=1e-5), (name, figure)
        assert found["weights"][name] == pytest.approx(expected["weights"][name], rel=1e-3), name


def test_two_devices_train_as_one(alone, tmp_path):
    found = result(run("2", tmp_path))
    assert found["replicas"] == 2 and alone["replicas"] == 1
    assert_same(found, alone)


def test_two_processes_train_as_one_and_the_chief_alone_exports(alone, tmp_path):
    processes = [run("1", tmp_path, tf_config=worker) for worker in two_workers()]
    found = [result(process) for process in processes]
    assert [f["replicas"] for f in found] == [2, 2] and [f["chief"] for f in found] == [True, False]
    for one in found:
        assert_same(one, alone)
    assert (tmp_path / "model" / "saved_model.pb").exists()
    assert found[0]["output"] == str(tmp_path / "model") and found[1]["output"] != found[0]["output"]


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"cluster": {}}', '{"cluster": {"worker": []}, "task": {"type": "worker"}}']
)
def test_a_broken_tf_config_says_what_is_expected(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match=r"TF_CONFIG: expected \{\"cluster\""):
        choose_strategy()


def test_several_gpus_are_mirrored(monkeypatch):
    found = [tf.config.LogicalDevice(f"/physical_device:GPU:{i}", "GPU") for i in range(3)]
    asked = mock.Mock()
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: found if kind == "GPU" else [])
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", asked)
    assert choose_strategy() is asked.return_value
    asked.assert_called_once_with([device.name for device in found])
    found[1:] = []
    assert choose_strategy() is tf.distribute.get_strategy()


def test_a_cluster_of_one_is_this_machine(monkeypatch):
    one = {"cluster": {"worker": ["127.0.0.1:1"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(one))
    assert choose_strategy().num_replicas_in_sync == 1
