"""Columns against the schema: what breaks its rules, and distances by its comparators."""

import math

import pyarrow as pa
import pytest
import tensorflow_data_validation as tfdv
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import schema_pb2

from pipeline.validation import anomalies, distances

NAN = math.nan


def statistics(values, kind):
    batch = pa.RecordBatch.from_arrays([pa.array(values, pa.list_(kind))], ["x"])
    return stats_impl.generate_statistics_in_memory(batch, tfdv.StatsOptions())


@pytest.fixture
def schema():
    made = schema_pb2.Schema()
    made.feature.add(name="x")
    return made


@pytest.mark.parametrize("side", ["previous", "serving"])
@pytest.mark.parametrize(
    ("one", "other", "far"),
    [
        ([1.5, 2.5], [1.5, 2.5], False),
        # As many missing ones, more or fewer: what is there is the same.
        ([1.5, 2.5, NAN], [1.5, 2.5, NAN], False),
        ([1.5, 2.5, NAN], [1.5, 2.5], False),
        ([1.5, 2.5], [11.5, 12.5], True),
        ([1.5, 2.5, NAN], [11.5, 12.5, NAN], True),
    ],
)
def test_numbers(one, other, far, side, schema):
    comparator = schema.feature[0].drift_comparator if side == "previous" else schema.feature[0].skew_comparator
    comparator.jensen_shannon_divergence.threshold = 0.1
    schema.feature[0].type = schema_pb2.FLOAT
    first, second = (statistics([values] * 40, pa.float32()) for values in (one, other))
    kept = second.SerializeToString(deterministic=True)
    found = distances(second, schema, **{side: first})
    assert list(found) == (["x"] if far else [])
    # The statistics themselves keep what they say of missing values.
    assert second.SerializeToString(deterministic=True) == kept


@pytest.mark.parametrize(("share", "far"), [(0.05, False), (0.2, True)])
def test_categories(share, far, schema):
    schema.feature[0].type = schema_pb2.BYTES
    schema.feature[0].drift_comparator.infinity_norm.threshold = 0.1
    now = [[b"b"]] * int(100 * share) + [[b"a"]] * (100 - int(100 * share))
    found = distances(statistics(now, pa.binary()), schema, previous=statistics([[b"a"]] * 100, pa.binary()))
    assert bool(found) == far
    if far:
        assert "0.2" in found["x"] and "threshold 0.1" in found["x"]


def test_what_is_no_distance_is_not_said_here(schema):
    # A value out of its domain is the validator's.
    schema.feature[0].type = schema_pb2.FLOAT
    schema.feature[0].float_domain.max = 1.0
    assert distances(statistics([[5.0]], pa.float32()), schema, previous=statistics([[5.0]], pa.float32())) == {}


@pytest.mark.parametrize(
    ("values", "found"),
    [([[5]], []), ([[]], []), ([[], [7]], []), ([[0]], ["x"]), ([[99], []], ["x"]), ([[5, 5]], ["x"])],
)
def test_empty_lists_are_not_out_of_range(values, found, schema):
    schema.feature[0].type = schema_pb2.INT
    schema.feature[0].int_domain.min, schema.feature[0].int_domain.max = 1, 10
    schema.feature[0].value_count.max = 1
    assert list(anomalies(statistics(values, pa.int64()), schema)) == found


def test_what_a_request_need_not_have_is_not_asked_of_it(schema):
    schema.default_environment.extend(["TRAINING", "SERVING"])
    label = schema.feature.add(name="label", type=schema_pb2.INT, not_in_environment=["SERVING"])
    label.presence.min_fraction = 1.0
    schema.feature[0].type = schema_pb2.INT
    one = statistics([[5]], pa.int64())
    assert list(anomalies(one, schema)) == ["label"] and anomalies(one, schema, "SERVING") == {}
