"""MovelineRules: made from settings, stored as JSON, blind to what decides no example."""

import json

import pytest

from pipeline.example_gen.rules import MovelineRules
from tests.pipeline.example_gen.logs import BORDERS, FEATURES, make_rules, make_settings


def test_json_round_trip_gives_equal_rules():
    rules = make_rules(features=FEATURES, positive_behaviors=["click"], columns={"user_id": "uid"})
    assert MovelineRules.from_dict(json.loads(json.dumps(rules.to_dict()))) == rules


def test_splits_with_two_windows():
    rules = make_rules()
    assert rules.split_names == ("stage1", "stage2", "eval", "test")
    assert rules.split_ends == (1_000, 2_000, 3_000, None)


def test_splits_with_one_window():
    rules = make_rules(split={**BORDERS, "stage1_end": None})
    assert rules.split_names == ("train", "eval", "test")
    assert rules.split_ends == (2_000, 3_000, None)


def test_fractions_are_refused():
    fractions = {"stage1_end": 0.5, "train_end": 0.8, "eval_end": 0.9}
    with pytest.raises(ValueError, match=r"unix seconds, got fractions \(train_end=0.8, eval_end=0.9\)"):
        MovelineRules.from_settings(make_settings(split=fractions))


@pytest.mark.parametrize("ends", [(1, 2), (2, 1, None), (1, 1, None), (1.5, 2, None), (1, None)])
def test_ends_must_ascend_and_close_with_none(ends):
    rules = make_rules(split={**BORDERS, "stage1_end": None})
    with pytest.raises(ValueError, match="one ascending end in unix seconds per split"):
        MovelineRules(rules.contract, rules.data, rules.split_names, ends)


def test_settings_that_decide_no_example_leave_the_rules_equal():
    numeric = {"name": "price", "owner": "item", "kind": "numeric", "buckets": 16}
    assert make_rules(log="here", features=[numeric]) == make_rules(log="there", features=[{**numeric, "buckets": 99}])


@pytest.mark.parametrize(
    ("choice", "clicks_are_logged", "enter"),
    [
        ("auto", False, True),
        ("auto", True, False),
        ("always", True, True),
        ("always", False, True),
        ("never", False, False),
        ("never", True, False),
    ],
)
def test_impressions_enter(choice, clicks_are_logged, enter):
    assert make_rules(impressions_as_clicks=choice).impressions_enter(clicks_are_logged) is enter


def test_diff_window_is_in_seconds():
    assert make_rules(diff_window_hours=0.5).diff_window == 1_800
