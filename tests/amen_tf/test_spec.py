"""What a model is built from, stored beside it and read back."""

import dataclasses

from amen_tf.features import AGE_BUCKETS
from amen_tf.spec import ModelSpec


def test_spec_round_trips_through_its_file(spec, tmp_path):
    spec = dataclasses.replace(spec, unseen=3, hashed=("item_id",))
    spec.save(tmp_path / "spec.json")
    again = ModelSpec.load(tmp_path / "spec.json")
    assert again == spec
    # JSON keeps no order of keys by contract, but the item fields' order decides which table has which seed.
    assert list(again.item_sizes) == list(spec.item_sizes)


def test_sizes_of_items_and_events(spec):
    assert spec.item_sizes == {"item_id": 50, "category_id": 9, "brand": 7, "tags_1": 6, "tags_2": 6}
    # Ages are buckets 1 to AGE_BUCKETS, and 0 where there is no event.
    assert spec.event_sizes == {"scenes": 5, "behaviors": 6, "ages": AGE_BUCKETS + 1}


def test_unseen_ids_are_those_of_vocabularies(spec):
    spec = dataclasses.replace(spec, unseen=3, hashed=("item_id",))
    assert {m: spec.unseen_ids(m) for m in ("item_id", "category_id", "brand", "position", "price", "device")} == {
        "item_id": 0,
        "category_id": 3,
        "brand": 3,
        "position": 3,
        "price": 0,
        "device": 3,
    }
