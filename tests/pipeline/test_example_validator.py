"""Examples that break the schema stop the run, with a table of what, where and why."""

import json
import pathlib

import pyarrow as pa
import pytest
import tensorflow_data_validation as tfdv
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.types import standard_artifacts

from amen_tf.features import FeatureContract
from pipeline.example_validator import AnomalyError, ExampleValidator, StrictExecutor, anomaly_table
from schemas.loader import write_schema
from tests.pipeline.artifacts import artifact

T = 1_700_000_000
CONTRACT = FeatureContract(5, 2)


def examples(**columns):
    """Two requests as a record batch; `columns` replace or add, None takes a column away."""
    good = {
        "user_id": [[b"u"], [b"v"]],
        "timestamp": [[T], [T]],
        "scene": [[b"feed"], [b"feed"]],
        "moveline_item_id": [[b"a"], []],
        "moveline_timestamp": [[T - 5], []],
        "candidate_item_id": [[b"a", b"b"], [b"a"]],
        "candidate_category_id": [[b"", b""], [b""]],
        "label": [[0, 1], [0]],
    }
    kept = {name: values for name, values in {**good, **columns}.items() if values is not None}
    return pa.RecordBatch.from_arrays([pa.array(values) for values in kept.values()], list(kept))


def validate(folder, splits):
    """Runs the stage on the statistics of these splits; returns the folder of its findings."""
    statistics = artifact(standard_artifacts.ExampleStatistics, folder / "statistics", splits)
    for split, batch in splits.items():
        target = folder / "statistics" / f"Split-{split}"
        target.mkdir(parents=True)
        # The statistics of one batch, without the Beam pipeline around them.
        made = stats_impl.generate_statistics_in_memory(batch, tfdv.StatsOptions())
        assert made.datasets[0].num_examples == 2
        (target / "FeatureStats.pb").write_bytes(made.SerializeToString())
    write_schema(CONTRACT, folder / "schema")
    schema = artifact(standard_artifacts.Schema, folder / "schema")
    anomalies = artifact(standard_artifacts.ExampleAnomalies, folder / "anomalies")
    inputs = {"statistics": [statistics], "schema": [schema]}
    StrictExecutor().Do(inputs, {"anomalies": [anomalies]}, {"exclude_splits": "[]", "custom_validation_config": None})
    return folder / "anomalies"


def test_good_examples_pass(tmp_path):
    found = validate(tmp_path, {"stage1": examples(), "test": examples()})
    files = sorted(path.relative_to(found) for path in found.rglob("*") if path.is_file())
    assert files == [
        *(pathlib.Path(f"Split-{split}/SchemaDiff.pb") for split in ("stage1", "test")),
        pathlib.Path("drift.json"),
    ]
    assert json.loads((found / "drift.json").read_text()) == {}


def test_a_later_split_that_has_drifted_is_written_down_and_stops_nothing(tmp_path):
    away = examples(scene=[[b"search"], [b"search"]])
    found = validate(tmp_path, {"stage1": examples(), "eval": examples(), "test": away})
    drifted = json.loads((found / "drift.json").read_text())
    assert list(drifted) == ["test"] and list(drifted["test"]) == ["scene"]
    assert "1" in drifted["test"]["scene"] and "threshold" in drifted["test"]["scene"]


@pytest.mark.parametrize(
    ("columns", "feature", "words"),
    [
        ({"label": [[0, 2], [0]]}, "label", "Out-of-range"),
        ({"timestamp": [[T], [T * 1000]]}, "timestamp", "Out-of-range"),
        ({"timestamp": [[T], []]}, "timestamp", "Missing values"),
        ({"scene": None}, "scene", "Column dropped"),
        ({"candidate_item_id": [[1, 2], [3]]}, "candidate_item_id", "Unexpected data type"),
        ({"user_id": [[b"u", b"v"], [b"v"]]}, "user_id", "Superfluous values"),
        ({"colour": [[b"red"], [b"red"]]}, "colour", "New column"),
    ],
)
def test_an_anomaly_stops_the_run_and_says_where(tmp_path, columns, feature, words):
    with pytest.raises(AnomalyError, match=rf"(?m)^eval +{feature} +.*({words})") as stopped:
        validate(tmp_path, {"stage1": examples(), "eval": examples(**columns)})
    # The good split is not in the table.
    assert "stage1" not in str(stopped.value)
    # TFX's own finding lies there too, for whoever wants to look closer.
    assert (tmp_path / "anomalies" / "Split-eval" / "SchemaDiff.pb").is_file()


def test_a_feature_with_anomalies_in_several_splits(tmp_path):
    bad = examples(label=[[0, 7], [0]])
    with pytest.raises(AnomalyError) as stopped:
        validate(tmp_path, {"stage1": bad, "eval": bad})
    lines = str(stopped.value).splitlines()
    assert [line.split()[:2] for line in lines if "label" in line] == [["stage1", "label"], ["eval", "label"]]


def info(*reasons):
    return anomalies_pb2.AnomalyInfo(
        reason=[anomalies_pb2.AnomalyInfo.Reason(short_description=s, description=d) for s, d in reasons]
    )


def test_the_table_by_hand():
    found = {
        "stage1": {"label": info(("Out-of-range values", "Unexpectedly large value: 2."))},
        "eval": {"scene": info(("Dropped", "Gone."), ("Type", "INT.")), "age": info(("New column", "Unknown."))},
    }
    assert anomaly_table(found).splitlines() == [
        "The examples do not fit the schema (schemas/moveline.pbtxt, declared features, data.schema_file):",
        "split   feature  anomaly              found",
        "stage1  label    Out-of-range values  Unexpectedly large value: 2.",
        "eval    age      New column           Unknown.",
        "eval    scene    Dropped              Gone.",
        "eval    scene    Type                 INT.",
        "Mend the event log, or the schema if the log is right; `amen check` lists broken rows of the log.",
    ]


def test_the_component_runs_this_executor():
    assert ExampleValidator.EXECUTOR_SPEC.executor_class is StrictExecutor
