"""Transform on a log in spans: what of a window is analysed anew, and that nothing else shows."""

import dataclasses
import json
import pathlib

import pytest
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform.beam import analysis_graph_builder
from tfx.components import Transform
from tfx.proto import transform_pb2
from tfx.types import channel_utils, standard_artifacts

from amen_tf.config import TransformSettings
from pipeline.example_gen import wire
from pipeline.transform import SpanTransform
from schemas.loader import write_schema
from tests.pipeline.artifacts import artifact
from tests.pipeline.example_gen.test_span_stage import FIRST, Log, of_day

BUDGET = {"name": "budget", "owner": "context", "kind": "numeric", "buckets": 4}
COUNTS = {"vocabulary": 1}


def day(span):
    return [{**e, "budget": float((span * 7 + place) % 50)} for place, e in enumerate(of_day(span))]


@pytest.fixture
def log(tmp_path):
    made = Log(tmp_path, features=[BUDGET])
    for span in range(FIRST, FIRST + 9):
        made.write(span, day(span))
    return made


@pytest.fixture
def analysed(monkeypatch):
    """Of every run the spans that were analysed."""
    runs = []
    real = analysis_graph_builder.get_analysis_dataset_keys

    def recorded(*arguments):
        keys = real(*arguments)
        runs.append(sorted(int(key.key.split("-")[1]) - FIRST for key in keys))
        return keys

    monkeypatch.setattr(analysis_graph_builder, "get_analysis_dataset_keys", recorded)
    return runs


def transform(log, examples, rules, out, kept=None):
    """Runs the executor; returns Transform's output."""
    contract, splits = rules.contract, ("vocabulary", "stage1", "stage2")
    custom = {
        "contract": dataclasses.asdict(contract),
        **TransformSettings(oov_buckets=4).model_dump(mode="json"),
        "stage1_end": None,
        **({SpanTransform.CACHE: str(kept)} if kept else {}),
    }
    schema_file = write_schema(contract, out / "schema", None)
    inputs = {
        "examples": [artifact(standard_artifacts.Examples, examples, rules.split_names)],
        "schema": [artifact(standard_artifacts.Schema, pathlib.Path(schema_file).parent)],
    }
    outputs = {
        "transform_graph": [artifact(standard_artifacts.TransformGraph, out / "graph")],
        "transformed_examples": [artifact(standard_artifacts.Examples, out / "transformed")],
    }
    stage = (SpanTransform if kept else Transform)(
        examples=channel_utils.as_channel(inputs["examples"]),
        schema=channel_utils.as_channel(inputs["schema"]),
        preprocessing_fn="pipeline.preprocessing.preprocessing_fn",
        splits_config=transform_pb2.SplitsConfig(analyze=splits, transform=[*splits[1:], "eval"]),
        custom_config=custom,
        disable_statistics=True,
        disable_analyzer_cache=True,
    )
    executor = stage.EXECUTOR_SPEC.executor_class
    context = executor.Context(beam_pipeline_args=[], tmp_dir=str(out / "tmp"))
    executor(context).Do(inputs, outputs, dict(stage.exec_properties))
    return tft.TFTransformOutput(str(out / "graph"))


def learned(output):
    """Everything that was learned: vocabularies, counts, quantiles."""
    assets = pathlib.Path(output.transform_savedmodel_dir, "assets")
    bounds = [tensor.numpy().tolist() for tensor in _constants(output)]
    return {path.name: path.read_text() for path in assets.iterdir()}, bounds


def _constants(output):
    examples = [tf.train.Example(features=tf.train.Features(feature={"budget": _float(n)})) for n in range(50)]
    raw = tf.io.parse_example([e.SerializeToString() for e in examples], output.raw_feature_spec())
    return [output.transform_raw_features(raw)["budget"]]


def _float(number):
    return tf.train.Feature(float_list=tf.train.FloatList(value=[float(number)]))


def transformed(folder):
    """Split -> records."""
    return {
        split.name: sorted(
            wire.canonical(record.numpy())
            for record in tf.data.TFRecordDataset(sorted(map(str, split.glob("*"))), compression_type="GZIP")
        )
        for split in (folder / "transformed").iterdir()
    }


def test_a_new_day_is_all_that_is_analysed(log, analysed, tmp_path):
    kept = tmp_path / "kept"
    examples, rules = log.run(FIRST + 7, COUNTS)
    transform(log, examples, rules, tmp_path / "t1", kept)
    # The vocabularies' span, then stage 1 and 2.
    assert analysed == [[1, 2, 3, 4, 5]]

    # A run that fails leaves what was there.
    before = sorted(path.relative_to(kept) for path in kept.rglob("*"))
    broken, _ = log.run(FIRST + 8, COUNTS)
    (broken / "spans.json").write_text(json.dumps({"vocabulary": []}))
    with pytest.raises(KeyError):
        transform(log, broken, rules, tmp_path / "t2", kept)
    assert sorted(path.relative_to(kept) for path in kept.rglob("*")) == before
    assert [path.name for path in tmp_path.glob("kept*")] == ["kept"]

    examples, rules = log.run(FIRST + 8, COUNTS)
    moved = transform(log, examples, rules, tmp_path / "t3", kept)
    # What is new in stage 2, and what no longer is the last of stage 1: its future items may lie in the next span.
    assert analysed[1] == [3, 6]
    plain = transform(log, examples, rules, tmp_path / "t4")
    assert learned(moved) == learned(plain)
    assert transformed(tmp_path / "t3") == transformed(tmp_path / "t4")
    assert set(transformed(tmp_path / "t3")) == {"Split-stage1", "Split-stage2", "Split-eval"}
    # What no longer is in the window is not kept.
    assert {int(path.name.split("-")[1]) - FIRST for path in kept.iterdir()} == {2, 3, 4, 5, 6}
