"""The graph of stages: which learn from which splits, and from which model each goes on."""

import pytest
from google.protobuf import json_format
from tfx.proto import trainer_pb2

from amen_tf.config import Settings, SettingsError
from pipeline.pipeline import create_pipeline

BORDERS = ("split.stage1_end=1700000000", "split.train_end=1700100000", "split.eval_end=1700200000")


def trainers(tmp_path, *overrides):
    """Trainer -> its splits and the Trainer whose model it goes on from."""
    made = create_pipeline(
        Settings.from_preset("smoke", (*BORDERS, *overrides)),
        pipeline_root=str(tmp_path),
        log="log.csv",
        schema_file="schema.pbtxt",
        push_folder=str(tmp_path / "push"),
    )
    found = {}
    for node in made.components:
        if "train_args" in node.exec_properties:
            earlier = node.inputs.get("base_model")
            found[node.id] = train_splits(node), earlier and earlier.producer_component_id
    return found


def train_splits(node):
    """Splits that the node trains on."""
    return tuple(json_format.Parse(node.exec_properties["train_args"], trainer_pb2.TrainArgs()).splits)


def test_the_baseline_goes_on_as_amen_does(tmp_path):
    assert trainers(tmp_path) == {
        "base": (("stage1",), None),
        "baseline": (("stage2",), "base"),
        "generator": (("stage1",), "base"),
        "ctr": (("stage2",), "generator"),
    }


def test_with_both_windows_at_a_time_baseline_and_amen_start_afresh(tmp_path):
    found = trainers(tmp_path, "ctr.window=train")
    assert found["baseline"] == (("stage1", "stage2"), None) and found["ctr"] == (("stage1", "stage2"), "generator")


def test_with_one_window_the_baseline_learns_from_it_twice_where_amen_does(tmp_path):
    assert trainers(tmp_path, "split.stage1_end=null")["baseline"] == (("train",), "base")
    # Both start afresh: the base is the baseline.
    assert set(trainers(tmp_path, "split.stage1_end=null", "ctr.window=train")) == {"base", "generator", "ctr"}


def test_an_unknown_architecture_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"base\.architecture: expected one of .*base.*got 'deepfm'"):
        trainers(tmp_path, "base.architecture=deepfm")
