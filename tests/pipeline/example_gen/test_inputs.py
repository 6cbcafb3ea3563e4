"""The log and the rules through TFX's protos and back."""

import pytest
from tfx.utils import proto_utils

from pipeline.example_gen.component import MovelineExampleGen
from pipeline.example_gen.inputs import log_of, pack, rules_of, split_log
from tests.pipeline.example_gen.logs import FEATURES, make_rules


@pytest.mark.parametrize(
    ("log", "base", "pattern"),
    [
        ("/data/log.csv", "/data", "log.csv"),
        ("/data/log/", "/data", "log"),
        ("/data/log/*.parquet", "/data/log", "*.parquet"),
        ("/data/*/part-?.csv", "/data", "*/part-?.csv"),
        ("/data/**/*.csv", "/data", "**/*.csv"),
        ("/data/day={YYYY}-{MM}-{DD}/*.csv", "/data", "day={YYYY}-{MM}-{DD}/*.csv"),
        ("/data/span-{SPAN}/v{VERSION}/x.csv", "/data", "span-{SPAN}/v{VERSION}/x.csv"),
        ("gs://bucket/log.csv", "gs://bucket", "log.csv"),
        ("gs://bucket/*/part-?.csv", "gs://bucket", "*/part-?.csv"),
        ("gs://bucket", "gs://bucket", ""),
        ("hdfs://cluster/log/", "hdfs://cluster", "log"),
    ],
)
def test_split_log(log, base, pattern):
    assert split_log(log) == (base, pattern)


def test_a_relative_log_is_found_from_any_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert split_log("logs/*.csv") == (f"{tmp_path}/logs", "*.csv")


def test_rules_come_back_equal():
    rules = make_rules(features=FEATURES)
    properties = {"custom_config": proto_utils.proto_to_json(pack(rules, "code"))}
    assert rules_of(properties) == rules


def test_the_component_carries_rules_code_log_and_split_names():
    rules = make_rules()
    stage = MovelineExampleGen("/data/*.csv", rules, "code")
    assert rules_of(stage.exec_properties) == rules
    assert log_of(stage.exec_properties) == "/data/*.csv"
    for log in ("gs://bucket", "gs://bucket/log"):
        assert log_of(MovelineExampleGen(log, rules, "code").exec_properties) == log
    config = stage.exec_properties["output_config"]
    assert [name in config for name in rules.split_names] == [True] * 4


def test_rules_and_code_are_in_the_properties_that_the_cache_looks_at():
    rules = make_rules()
    seen = {
        MovelineExampleGen("/data/log", r, code).exec_properties["custom_config"]
        for r, code in [(rules, "a"), (rules, "b"), (make_rules(length=6), "a"), (make_rules(max_candidates=3), "a")]
    }
    assert len(seen) == 4
    assert len({MovelineExampleGen("/data/log", rules, "a").exec_properties["custom_config"] for _ in range(9)}) == 1
