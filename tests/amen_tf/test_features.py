"""The feature contract: which columns a declared set has, in which order, of which kind."""

import dataclasses
import json

import pytest

from amen_tf.config import Settings
from amen_tf.features import Feature, FeatureContract, RawColumn

CONTRACT = FeatureContract(
    50,
    4,
    (
        Feature("brand", "item", "categorical"),
        Feature("price", "candidate", "numeric", 8),
        Feature("city", "user", "categorical"),
        Feature("weight", "item", "numeric"),
        Feature("hour", "context", "numeric"),
        Feature("position", "candidate", "categorical"),
    ),
)


def described(columns):
    return [f"{c.name}: {c.kind}{'' if c.scalar else '[]'} of {c.meaning}" for c in columns]


def test_request_columns():
    assert described(CONTRACT.request_columns) == [
        "timestamp: int of timestamp",
        "scene: string of scene",
        "city: string of city",
        "hour: float of hour",
    ]


def test_moveline_columns():
    # Candidate features belong to a request, not to an item: a past event has none.
    assert described(CONTRACT.moveline_columns) == [
        "moveline_item_id: string[] of item_id",
        "moveline_category_id: string[] of category_id",
        "moveline_brand: string[] of brand",
        "moveline_weight: float[] of weight",
        "moveline_scene: string[] of scene",
        "moveline_behavior: string[] of behavior",
        "moveline_timestamp: int[] of timestamp",
    ]


def test_candidate_columns():
    assert described(CONTRACT.candidate_columns) == [
        "candidate_item_id: string[] of item_id",
        "candidate_category_id: string[] of category_id",
        "candidate_brand: string[] of brand",
        "candidate_weight: float[] of weight",
        "candidate_price: float[] of price",
        "candidate_position: string[] of position",
    ]


def test_raw_columns_are_all_of_these_and_what_only_training_has():
    columns = described(CONTRACT.raw_columns)
    shared = described((*CONTRACT.request_columns, *CONTRACT.moveline_columns, *CONTRACT.candidate_columns))
    assert columns[:2] == ["user_id: string of user_id", "request_id: string of request_id"]
    assert columns[2 : 2 + len(shared)] == shared
    assert columns[2 + len(shared) :] == [
        "label: int[] of label",
        "future_item_id: string[] of item_id",
        "future_category_id: string[] of category_id",
        "future_brand: string[] of brand",
        "future_weight: float[] of weight",
        "diff_clicked_item_id: string of item_id",
        "diff_clicked_category_id: string of category_id",
        "diff_clicked_brand: string of brand",
        "diff_clicked_weight: float of weight",
        "diff_clicked_moveline_length: int of moveline_length",
        "diff_unclicked_item_id: string of item_id",
        "diff_unclicked_category_id: string of category_id",
        "diff_unclicked_brand: string of brand",
        "diff_unclicked_weight: float of weight",
        "diff_unclicked_moveline_length: int of moveline_length",
    ]


def test_without_declared_features():
    bare = FeatureContract(50, 4)
    assert bare.item_fields == bare.candidate_fields == ("item_id", "category_id")
    assert bare.request_fields == bare.numeric_features == ()
    assert described(bare.request_columns) == ["timestamp: int of timestamp", "scene: string of scene"]
    assert len(bare.raw_columns) == 20
    assert len({column.name for column in bare.raw_columns}) == 20


def test_fields_by_owner_keep_the_order_of_declaration():
    assert CONTRACT.item_fields == ("item_id", "category_id", "brand", "weight")
    assert CONTRACT.candidate_fields == (*CONTRACT.item_fields, "price", "position")
    assert CONTRACT.request_fields == ("city", "hour")
    assert CONTRACT.moveline_fields == (*CONTRACT.item_fields, "scene", "behavior", "age")
    assert [f.name for f in CONTRACT.owned_by("item", "context")] == ["brand", "weight", "hour"]


def test_meanings_have_one_vocabulary_or_one_set_of_buckets_each():
    assert CONTRACT.categorical_meanings == (
        "item_id",
        "category_id",
        "scene",
        "behavior",
        "brand",
        "city",
        "position",
    )
    assert [(f.name, f.buckets) for f in CONTRACT.numeric_features] == [("price", 8), ("weight", 16), ("hour", 16)]
    learned = {*CONTRACT.categorical_meanings, *(f.name for f in CONTRACT.numeric_features)}
    rest = {"user_id", "request_id", "timestamp", "label", "moveline_length"}
    assert {column.meaning for column in CONTRACT.raw_columns} == learned | rest


def test_feature_by_name():
    assert CONTRACT.feature("price") == Feature("price", "candidate", "numeric", 8)
    assert CONTRACT.kind_of("price") == "float" and CONTRACT.kind_of("city") == CONTRACT.kind_of("scene") == "string"


def test_contract_round_trips_through_json():
    stored = json.loads(json.dumps(dataclasses.asdict(CONTRACT)))
    assert FeatureContract.from_dict(stored) == CONTRACT


def test_contract_of_settings():
    settings = Settings.parse(
        {
            "data": {"simulate": {}, "features": [{"name": "price", "owner": "item", "kind": "numeric", "buckets": 5}]},
            "model": {"moveline_length": 9, "flow_length": 2},
        },
        "run.yaml",
    )
    assert FeatureContract.from_settings(settings) == FeatureContract(9, 2, (Feature("price", "item", "numeric", 5),))


def test_columns_are_values():
    assert RawColumn("a", "int", True, "a") == RawColumn("a", "int", True, "a")
    with pytest.raises(dataclasses.FrozenInstanceError):
        CONTRACT.moveline_length = 3
