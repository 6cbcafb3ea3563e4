"""Our Trainer stage: the model to start warm from as an input, and labels on what was trained."""

import json
import pathlib

import pytest
from google.protobuf import json_format
from tfx.proto import trainer_pb2
from tfx.types import standard_artifacts

from pipeline.trainers.component import TrainerExecutor, borders, label, shared_settings
from tests.pipeline.artifacts import artifact

SPLIT = {"stage1_end": 100, "train_end": 200, "eval_end": 300, "spans": None}
seen = {}


def remember(fn_args):
    """Stands in for a `run_fn`: keeps what it was given and leaves something of a model."""
    seen["warm_start"] = fn_args.warm_start
    pathlib.Path(fn_args.serving_model_dir).mkdir(parents=True)


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
    assert model.get_string_custom_property("shared_settings") == shared_settings({"split": SPLIT})


def test_trainers_of_one_run_share_their_settings_but_those_of_a_stage():
    base = {"seed": 1, "split": SPLIT, "model": {"dim": 8}, "base": {"epochs": 2}}
    ctr = {**base, "generator": {"layers": 2}, "ctr": {"epochs": 1}}
    assert shared_settings(base) == shared_settings(ctr) == shared_settings(dict(reversed(base.items())))
    others = [{"seed": 2}, {"model": {"dim": 16}}, {"base": {"epochs": 3}}, {"split": {**SPLIT, "train_end": 201}}]
    assert len({shared_settings({**ctr, **other}) for other in [{}, *others]}) == 5


def test_one_window_for_both_stages_ends_with_training():
    assert borders({**SPLIT, "stage1_end": None}) == {"stage1_end": 200, "train_end": 200, "eval_end": 300}
    model = standard_artifacts.Model()
    label(model, "base", {"split": {**SPLIT, "stage1_end": None}})
    assert model.get_int_custom_property("stage1_end") == 200
