"""The curated schema, what a run's declared features add to it, and its file."""

import pathlib

import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from amen_tf.features import Feature, FeatureContract
from schemas.loader import SchemaError, read_schema, schema_for, write_schema

PLAIN = FeatureContract(5, 2)
DECLARED = FeatureContract(
    5,
    2,
    (
        Feature("brand", "item", "categorical"),
        Feature("price", "candidate", "numeric"),
        Feature("segment", "user", "categorical"),
        Feature("budget", "context", "numeric"),
    ),
)
TYPES = {"string": schema_pb2.BYTES, "int": schema_pb2.INT, "float": schema_pb2.FLOAT}


def by_name(contract):
    features = schema_for(contract).feature
    assert len({f.name for f in features}) == len(features)
    return {feature.name: feature for feature in features}


@pytest.mark.parametrize("contract", [PLAIN, DECLARED])
def test_every_raw_column_and_no_other_with_its_type(contract):
    # A column that ExampleGen writes and the schema lacks would stop every run, and the other way round.
    found = by_name(contract)
    assert {name: feature.type for name, feature in found.items()} == {
        column.name: TYPES[column.kind] for column in contract.raw_columns
    }
    for column in contract.raw_columns:
        assert (found[column.name].value_count.max == 1) == column.scalar, column.name


def test_the_curated_part_does_not_depend_on_the_declared_features():
    found = by_name(DECLARED)
    for name, feature in by_name(PLAIN).items():
        assert found[name] == feature


def test_rules_of_declared_features():
    found = by_name(DECLARED)
    # Request features may be absent; candidate lists are as long as the candidates, of which there is one at least.
    for name, least, most in [
        ("segment", 0, 1),
        ("budget", 0, 1),
        ("candidate_brand", 1, 0),
        ("candidate_price", 1, 0),
        ("moveline_brand", 0, 5),
        ("future_brand", 0, 2),
        ("diff_clicked_brand", 0, 1),
        ("diff_unclicked_brand", 0, 1),
    ]:
        assert (found[name].value_count.min, found[name].value_count.max) == (least, most), name
    assert "moveline_price" not in found and "diff_clicked_price" not in found


def test_the_rules_that_guard_a_run():
    found = by_name(PLAIN)
    assert (found["label"].int_domain.min, found["label"].int_domain.max) == (0, 1)
    for name in ("timestamp", "moveline_timestamp"):
        # Milliseconds of any year since 1990 lie above the domain.
        assert found[name].int_domain.max < 631_152_000 * 1_000
    for name in ("user_id", "timestamp", "scene", "candidate_item_id", "label"):
        assert found[name].presence.min_fraction == 1.0, name
    # A user without a history, and a request without a diff sample, are nothing wrong.
    for name in ("moveline_item_id", "future_item_id", "diff_clicked_item_id", "request_id"):
        assert found[name].presence.min_fraction == 0.0 and found[name].value_count.min == 0, name


def test_lists_are_as_long_as_the_run_has_them():
    found = by_name(PLAIN)
    assert found["moveline_item_id"].value_count.max == found["moveline_timestamp"].value_count.max == 5
    assert found["future_item_id"].value_count.max == 2 and found["candidate_item_id"].value_count.max == 0


def test_what_only_training_has_is_not_asked_of_requests():
    schema = schema_for(DECLARED)
    assert set(schema.default_environment) == {"TRAINING", "SERVING"}
    only = {feature.name for feature in schema.feature if "SERVING" in feature.not_in_environment}
    asked = {c.name for c in (*DECLARED.request_columns, *DECLARED.moveline_columns, *DECLARED.candidate_columns)}
    assert only == {column.name for column in DECLARED.raw_columns} - asked


def test_declared_features_are_compared_over_time_and_with_requests():
    found = by_name(DECLARED)
    for name in ("segment", "candidate_brand", "moveline_brand", "scene", "moveline_behavior"):
        assert found[name].skew_comparator.infinity_norm.threshold == 0.1, name
        assert found[name].drift_comparator.infinity_norm.threshold == 0.1, name
    for name in ("budget", "candidate_price"):
        assert found[name].drift_comparator.jensen_shannon_divergence.threshold == 0.1, name
    assert not found["future_brand"].HasField("drift_comparator")


def test_own_rules_replace_those_of_the_same_name():
    own = schema_pb2.Schema()
    own.feature.add(name="segment", type=schema_pb2.BYTES, domain="segment").value_count.max = 1
    own.string_domain.add(name="segment", value=["gold", "blue"])
    made = schema_for(DECLARED, own)
    (segment,) = [feature for feature in made.feature if feature.name == "segment"]
    assert segment == own.feature[0] and list(made.string_domain) == list(own.string_domain)
    assert [f for f in made.feature if f.name != "segment"] == [
        f for f in schema_for(DECLARED).feature if f.name != "segment"
    ]
    own.feature.add(name="colour", type=schema_pb2.BYTES)
    with pytest.raises(SchemaError, match="features that no example of this run has: colour. Expected some of user_id"):
        schema_for(DECLARED, own)


def test_a_schema_file_that_is_none(tmp_path):
    (tmp_path / "broken.pbtxt").write_text("feature { nam: 1 }")
    for name in ("broken.pbtxt", "absent.pbtxt"):
        with pytest.raises(SchemaError, match=f"{name}: cannot be read as a schema.*amen schema --write"):
            read_schema(tmp_path / name)
    write_schema(DECLARED, tmp_path)
    (path,) = tmp_path.glob("schema-*.pbtxt")
    assert read_schema(path) == schema_for(DECLARED)


def test_the_file_holds_the_schema_and_its_name_follows_the_content(tmp_path):
    plain = pathlib.Path(write_schema(PLAIN, tmp_path / "schema"))
    declared = pathlib.Path(write_schema(DECLARED, tmp_path / "schema"))
    assert plain != declared and plain.parent == declared.parent == tmp_path / "schema"
    assert text_format.Parse(plain.read_text(), schema_pb2.Schema()) == schema_for(PLAIN)
    # The cache sees a schema by its path alone: same content, same name, wherever and whenever it is written.
    written = plain.stat().st_mtime_ns
    assert pathlib.Path(write_schema(PLAIN, tmp_path / "schema")) == plain
    assert plain.stat().st_mtime_ns == written
    assert pathlib.Path(write_schema(PLAIN, tmp_path / "elsewhere")).name == plain.name
