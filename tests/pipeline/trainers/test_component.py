"""Our Trainer stage: the model to start warm from as an input, and labels on what was trained."""

import json
import pathlib

import pytest
from google.protobuf import json_format
from tfx.proto import trainer_pb2
from tfx.types import standard_artifacts

from pipeline.trainers.component import TrainerExecutor, borders, label

SPLIT = {"stage1_end": 100, "train_end": 200, "eval_end": 300, "spans": None}
seen = {}


def remember(fn_args):
    """Stands in for a `run_fn`: keeps what it was given and leaves something of a model."""
    seen["warm_start"] = fn_args.warm_start
    pathlib.Path(fn_args.serving_model_dir).mkdir(parents=True)


def artifact(kind, folder):
    made = kind()
    made.uri = str(folder)
    return made


@pytest.mark.parametrize("warm", [True, False])
def test_the_executor_passes_the_earlier_model_on_and_labels_the_new_one(warm, tmp_path):
    examples = artifact(standard_artifacts.Examples, tmp_path / "examples")
    examples.split_names = json.dumps(["train", "eval"])
    inputs = {"examples": [examples]}
    # A Resolver that found nothing gives an empty list.
    inputs["warm_start"] = [artifact(standard_artifacts.Model, tmp_path / "earlier")] if warm else []
    model = artifact(standard_artifacts.Model, tmp_path / "model")
    outputs = {"model": [model], "model_run": [artifact(standard_artifacts.ModelRun, tmp_path / "run")]}
    properties = {
        "run_fn": f"{__name__}.remember",
        "train_args": json_format.MessageToJson(trainer_pb2.TrainArgs(splits=["train"])),
        "eval_args": json_format.MessageToJson(trainer_pb2.EvalArgs(splits=["eval"])),
        "custom_config": json.dumps({"stage": "ctr", "settings": {"split": SPLIT}}),
    }
    TrainerExecutor().Do(inputs, outputs, properties)
    assert seen["warm_start"] == (str(tmp_path / "earlier" / "Format-Serving") if warm else None)
    assert model.get_string_custom_property("stage") == "ctr"
    assert [model.get_int_custom_property(name) for name in ("stage1_end", "train_end", "eval_end")] == [100, 200, 300]


def test_one_window_for_both_stages_ends_with_training():
    assert borders({**SPLIT, "stage1_end": None}) == {"stage1_end": 200, "train_end": 200, "eval_end": 300}
    model = standard_artifacts.Model()
    label(model, "base", {**SPLIT, "stage1_end": None})
    assert model.get_int_custom_property("stage1_end") == 200
