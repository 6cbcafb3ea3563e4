"""The graph of stages: which learn from which splits, and from which model each goes on."""

import json

import pytest
from google.protobuf import json_format
from tfx.proto import trainer_pb2
from tfx.types import Channel, standard_artifacts

from amen_tf.config import Settings, SettingsError
from pipeline.example_gen.inputs import store_of
from pipeline.pipeline import Earlier, create_pipeline
from pipeline.trainers.component import shared_settings
from pipeline.transform import SpanTransform

BORDERS = ("split.stage1_end=1700000000", "split.train_end=1700100000", "split.eval_end=1700200000")


def pipeline(tmp_path, *overrides, **options):
    return create_pipeline(
        Settings.from_preset("smoke", (*BORDERS, *overrides)),
        pipeline_root=str(tmp_path),
        log="log.csv",
        schema_file="schema.pbtxt",
        push_folder=str(tmp_path / "push"),
        **options,
    )


def trainers(tmp_path, *overrides):
    """Trainer -> its splits and the Trainer whose model it goes on from."""
    found = {}
    for node in pipeline(tmp_path, *overrides).components:
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


def starts(made):
    """Trainer -> the channel with what it starts warm from."""
    return {n.id: n.inputs.get("warm_start") for n in made.components if "train_args" in n.exec_properties}


def test_no_trainer_starts_warm_unless_asked_to(tmp_path):
    made = pipeline(tmp_path)
    assert set(starts(made).values()) == {None}
    assert "warm_start" not in {node.id for node in made.components}


def test_a_resolver_finds_what_trainers_start_warm_from(tmp_path):
    made = pipeline(tmp_path, "warm_start.enabled=true")
    [resolver] = [node for node in made.components if node.id == "warm_start"]
    model, baseline = resolver.outputs["model"], resolver.outputs["baseline"]
    assert starts(made) == {"base": model, "baseline": baseline, "generator": model, "ctr": model}
    # And go on from one another as ever, where nothing is found.
    assert trainers(tmp_path, "warm_start.enabled=true") == trainers(tmp_path)


def test_baseline_and_model_of_a_run_are_labelled_alike(tmp_path):
    def labels(*overrides):
        nodes = {node.id: node for node in pipeline(tmp_path, "warm_start.enabled=true", *overrides).components}
        configs = [json.loads(nodes[stage].exec_properties["custom_config"]) for stage in ("baseline", "ctr")]
        return {shared_settings(config["settings"]) for config in configs}

    assert len(labels()) == 1
    assert labels() != labels("model.hidden_units=[8]") and labels() == labels("ctr.tsp_weight=0.5")


def test_without_resolvers_the_start_is_given(tmp_path):
    model, baseline = (Channel(type=standard_artifacts.Model) for _ in range(2))
    made = pipeline(tmp_path, "warm_start.enabled=true", resolve_baseline=False, earlier=Earlier(model, baseline))
    assert starts(made) == {"base": model, "baseline": baseline, "generator": model, "ctr": model}
    made = pipeline(tmp_path, "warm_start.enabled=true", resolve_baseline=False, earlier=Earlier(model))
    assert starts(made) == {"base": model, "baseline": None, "generator": model, "ctr": model}
    # A baseline that does not come by way of Θ_base starts from the earlier one, which the model carries along.
    made = pipeline(tmp_path, "warm_start.enabled=true", "ctr.window=train", earlier=Earlier(model))
    assert starts(made)["baseline"] is model
    made = pipeline(tmp_path, resolve_baseline=False, earlier=Earlier(model, baseline))
    assert set(starts(made).values()) == {None}
    with pytest.raises(
        SettingsError, match=r"warm_start\.enabled: expected `earlier`, a channel .* set warm_start\.enabled to false"
    ):
        pipeline(tmp_path, "warm_start.enabled=true", resolve_baseline=False)


def test_what_is_kept_of_spans_lies_apart(tmp_path):
    kept = tmp_path / "spans"
    spans = {"history": 1, "stage1": 1, "stage2": 1, "newest": "2026-11-20"}
    log = {"log": str(tmp_path / "{YYYY}-{MM}-{DD}.csv"), "impressions_as_clicks": "never"}
    split = {"spans": spans, "start": 1, "stage1_end": 10, "train_end": 20, "eval_end": 30}
    settings = Settings.parse({"data": log, "split": split}, source="test")
    made = create_pipeline(
        settings,
        pipeline_root=str(tmp_path),
        log=settings.data.log,
        schema_file=str(tmp_path / "schema.pbtxt"),
        push_folder=str(tmp_path / "push"),
        span_folder=str(kept),
    )
    nodes = {node.id: node for node in made.components}
    store = store_of(nodes["example_gen"].exec_properties)
    analyses = json.loads(nodes["transform"].exec_properties["custom_config"])[SpanTransform.CACHE]
    # What a new window has no use for is deleted from the store: nothing else may lie in it.
    assert (store, analyses) == (str(kept / "examples"), str(kept / "analyses"))
    assert isinstance(nodes["transform"], SpanTransform)


def test_only_who_prunes_has_it_in_the_cache_key_of_the_push(tmp_path):
    def settings(*overrides):
        [pusher] = [node for node in pipeline(tmp_path, *overrides).components if node.id == "pusher"]
        found = json.loads(pusher.exec_properties["custom_config"])
        return {name: value for name, value in found.items() if name != "code"}

    assert settings() == settings("push.models_config=models.config") == {}
    assert settings("push.keep_versions=5", "push.models_config=''") == {"keep_versions": 5, "models_config": ""}
    both = settings("push.keep_versions=5", "push.models_config=models.config")
    assert both == {"keep_versions": 5, "models_config": "models.config"}
    with pytest.raises(SettingsError, match="push.keep_versions"):
        settings("push.keep_versions=1", "push.models_config=models.config")
    with pytest.raises(SettingsError, match="expected models_config beside it.*no version that a label names"):
        settings("push.keep_versions=5")
