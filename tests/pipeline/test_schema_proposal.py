"""What `amen schema` proposes for examples made by hand, and that the proposals are rules that these examples obey."""

import pyarrow as pa
import pytest
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from rich.console import Console
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import schema_pb2

from amen_tf.config import Settings
from amen_tf.features import Feature, FeatureContract
from pipeline import schema_report
from pipeline.runners.local import StageResult
from pipeline.schema_proposal import difference, propose
from schemas.loader import read_schema, schema_for

T = 1_700_000_000
CONTRACT = FeatureContract(
    5,
    2,
    (
        Feature("device", "context", "categorical"),
        Feature("budget", "user", "numeric"),
        Feature("brand", "item", "categorical"),
        Feature("drop", "candidate", "numeric"),
    ),
)


def statistics(rows=100, **columns):
    """Statistics of as many requests; `columns` are the values of one request each, repeated in turn."""
    given = {
        "user_id": [[b"u"]],
        "timestamp": [[T]],
        "scene": [[b"feed"], [b"search"]],
        "moveline_item_id": [[b"a"]],
        "moveline_scene": [[b"feed"], [b"live"]],
        "moveline_behavior": [[b"click"]],
        "moveline_timestamp": [[T - 1]],
        "candidate_item_id": [[b"a", b"b"]],
        "candidate_category_id": [[b"", b""]],
        "candidate_brand": [[b"x", b""]],
        "candidate_drop": [[-2.0, 3.0]],
        "label": [[0, 1]],
        "device": [[b"phone"], [b"phone"], [b"tablet"], None],
        "budget": [[5.0], None],
        **columns,
    }
    arrays = [pa.array([values[row % len(values)] for row in range(rows)]) for values in given.values()]
    return stats_impl.generate_statistics_in_memory(
        pa.RecordBatch.from_arrays(arrays, list(given)), tfdv.StatsOptions()
    )


def proposals(stats=None, schema=None):
    schema = schema or schema_for(CONTRACT)
    made = propose(schema, stats or statistics(), CONTRACT)
    return {(p.feature, p.asked): (p.found, p.proposed) for p in made.proposals}, made.schema


def test_few_names_ranges_and_presence_are_proposed():
    found, own = proposals()
    assert found == {
        # Scenes of requests and of movelines have one list.
        ("scene", "any text"): ("3 values: feed, live, search", "99% are of these"),
        ("moveline_scene", "any text"): ("3 values: feed, live, search", "99% are of these"),
        ("moveline_behavior", "any text"): ("1 values: click", "99% are of these"),
        ("device", "any text"): ("2 values: phone, tablet", "99% are of these"),
        ("device", "may be absent"): ("in 75.0% of the requests", "in 65% at least"),
        ("budget", "may be absent"): ("in 50.0% of the requests", "in 45% at least"),
        ("budget", "any number"): ("5 to 5", "0 to 10"),
        # An absent brand keeps its place as an empty text, which is no news.
        ("candidate_brand", "any text"): ("1 values: x", "99% are of these"),
        ("candidate_drop", "any number"): ("-2 to 3", "-7 to 8"),
    }
    domains = {domain.name: list(domain.value) for domain in own.string_domain}
    assert domains == {
        "scene": ["feed", "live", "search"],
        "behavior": ["click"],
        "device": ["phone", "tablet"],
        "brand": ["", "x"],
    }


def test_columns_of_many_values_get_no_list():
    many = [[b"s%d" % number] for number in range(60)]
    found, _ = proposals(statistics(rows=120, scene=many))
    assert not any(feature in ("scene", "moveline_scene") for feature, _ in found)


def test_what_is_proposed_holds_for_the_examples_and_fails_for_others():
    stats = statistics()
    _, own = proposals(stats)
    schema = schema_for(CONTRACT, own)
    assert not tfdv.validate_statistics(stats, schema).anomaly_info
    for columns in (
        {"scene": [[b"feed"], [b"unheard of"]]},
        {"candidate_drop": [[-2.0, 300.0]]},
        {"device": [[b"phone"], None, None]},
    ):
        (name,) = columns
        assert list(tfdv.validate_statistics(statistics(**columns), schema).anomaly_info) == [name]
    # One new name among a hundred is no fault.
    rare = [[b"feed"]] * 199 + [[b"new"]]
    assert not tfdv.validate_statistics(statistics(rows=200, scene=rare), schema).anomaly_info


def test_nothing_is_proposed_twice():
    stats = statistics()
    _, own = proposals(stats)
    assert proposals(stats, schema_for(CONTRACT, own)) == ({}, schema_pb2.Schema())


def test_the_difference_is_what_a_person_would_write():
    schema = schema_for(CONTRACT)
    _, own = proposals()
    text = difference(schema, own)
    assert text.startswith("--- the run's schema\n+++ with the proposals")
    assert '+  domain: "scene"' in text and '+  value: "live"' in text and "+    min_fraction: 0.65" in text
    assert difference(schema, schema_pb2.Schema()) == ""


@pytest.fixture
def reported(tmp_path, monkeypatch, capsys):
    """`reported(**settings of data)` -> (status, what was printed), on the statistics made by hand."""

    def _reported(stats=None, write=None, **data):
        features = [{"name": f.name, "owner": f.owner, "kind": f.kind} for f in CONTRACT.declared]
        settings = Settings.parse({"data": {"log": "x", "features": features, **data}}, "test")
        settings = settings.model_copy(
            update={"model": settings.model.model_copy(update={"moveline_length": 5, "flow_length": 2})}
        )
        made = StageResult("statistics", True, 0.0, {"statistics": str(tmp_path)})
        monkeypatch.setattr(schema_report, "run_data_stages", lambda given, last: (given, {last: made}))
        monkeypatch.setattr(schema_report, "read_statistics", lambda folder: stats or statistics())
        with open(tmp_path / "out.txt", "w+") as file:
            status = schema_report.report(settings, Console(file=file, width=200), write)
            file.seek(0)
            return status, file.read()

    return _reported


def test_a_written_file_is_read_as_the_settings_say(reported, tmp_path):
    status, text = reported(write=tmp_path / "own.pbtxt")
    assert status == 0 and "The examples fit the schema." in text
    assert f"data.schema_file: {tmp_path / 'own.pbtxt'}" in text
    status, text = reported(schema_file=str(tmp_path / "own.pbtxt"))
    assert status == 0 and "Nothing more to ask of them." in text


def test_anomalies_are_shown_and_are_the_status(reported):
    status, text = reported(stats=statistics(label=[[0, 7]]))
    assert status == 1 and "Out-of-range" in text and "label" in text


def test_rules_of_an_earlier_file_are_kept(reported, tmp_path):
    own = schema_pb2.Schema()
    own.feature.add(name="scene", type=schema_pb2.BYTES, domain="scene").value_count.max = 1
    own.string_domain.add(name="scene", value=["feed", "search", "later"])
    (tmp_path / "first.pbtxt").write_text(text_format.MessageToString(own))
    reported(schema_file=str(tmp_path / "first.pbtxt"), write=tmp_path / "second.pbtxt")
    second = read_schema(tmp_path / "second.pbtxt")
    assert {f.name: f for f in second.feature}["scene"] == own.feature[0]
    assert sum(f.name == "scene" for f in second.feature) == 1
    assert len({domain.name for domain in second.string_domain}) == len(second.string_domain)
