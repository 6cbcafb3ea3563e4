"""Match features by hand."""

import math

import numpy as np
import tensorflow as tf

from amen_tf.features import AGE_BUCKETS
from amen_tf.layers.match_features import MatchFeatures

TOUCHED, LOG_COUNT, BY_AGE, BY_ORDER = range(4)


def ids(*rows):
    return tf.constant(rows, tf.int64)


# Padding, then four events, newest last. The third carries no item; ages 32, 16, 8, 1 of 64.
EVENTS = {
    "item_id": ids([0, 5, 7, 0, 5]),
    "category_id": ids([0, 2, 3, 0, 2]),
    "behavior": ids([0, 1, 1, 2, 1]),
    "age": ids([0, 32, 16, 8, 1]),
}


def match(items, categories, events=None):
    layer = MatchFeatures(("item_id", "category_id"))
    return layer({"item_id": ids(items), "category_id": ids(categories)}, events or EVENTS)[0].numpy()


def test_by_hand():
    features = match([5, 7, 9, 0], [2, 3, 2, 3])
    assert features.shape == (4, 8) and AGE_BUCKETS == 64
    # Item 5: twice, newest at age 1 of 64 and one step back.
    np.testing.assert_allclose(features[0, :4], [1, math.log(3), 1 - 1 / 64, 1], rtol=1e-6)
    # Item 7: once, at age 16, three steps back (the event without an item is a step too).
    np.testing.assert_allclose(features[1, :4], [1, math.log(2), 1 - 16 / 64, 1 / 3], rtol=1e-6)
    # Item 9 was never touched, but its category 2 was, twice.
    np.testing.assert_allclose(features[2], [0, 0, 0, 0, 1, math.log(3), 1 - 1 / 64, 1], rtol=1e-6)
    # No item: it does not match the event without an item; its category 3 is a category all the same.
    np.testing.assert_allclose(features[3], [0, 0, 0, 0, 1, math.log(2), 1 - 16 / 64, 1 / 3], rtol=1e-6)


def test_padding_matches_nothing():
    # The padding's ids are garbage here; its behaviour of 0 is what counts.
    events = {**EVENTS, "item_id": ids([9, 5, 7, 0, 5]), "age": ids([1, 32, 16, 8, 1])}
    assert (match([9], [8], events) == 0).all()


def test_empty_moveline_and_padded_candidates_give_zeros():
    nothing = {field: tf.zeros_like(column) for field, column in EVENTS.items()}
    assert (match([5, 7, 0], [2, 3, 0], nothing) == 0).all()
    assert (match([0, 0], [0, 0]) == 0).all()


def test_the_oldest_age_still_differs_from_untouched_by_its_flag():
    events = {**EVENTS, "age": ids([0, 64, 64, 64, 64])}
    assert match([5], [8], events)[0, [TOUCHED, BY_AGE]].tolist() == [1.0, 0.0]


def test_count_grows_and_recency_stays_when_an_older_touch_is_added():
    events = {**EVENTS, "item_id": ids([0, 5, 5, 0, 5])}
    before, after = match([5], [8])[0], match([5], [8], events)[0]
    assert after[LOG_COUNT] > before[LOG_COUNT]
    assert (after[[TOUCHED, BY_AGE, BY_ORDER]] == before[[TOUCHED, BY_AGE, BY_ORDER]]).all()
