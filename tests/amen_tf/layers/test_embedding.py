"""Embeddings: padding is zero, unseen values start at zero, items are sums, events end at the newest."""

import numpy as np
import pytest
import tensorflow as tf

from amen_tf.layers.embedding import EventEmbedding, IdEmbedding, ItemEmbedding, NormalBelowZeros, concat_fields
from tests.amen_tf.layers.harness import randomise

D, L = 4, 3
SIZES = {"item_id": 9, "category_id": 5, "brand": 4}


def ids(*rows):
    return tf.constant(rows, tf.int64)


def test_initializer_zeros_the_first_rows_and_leaves_noise_of_its_size():
    table = NormalBelowZeros(rows=3, std=0.5, seed=1)((4000, 4)).numpy()
    assert (table[:3] == 0).all() and (table[3:] != 0).any(1).all()
    assert table[3:].std() == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("unseen", [0, 2])
def test_unseen_rows_start_at_zero_and_later_ones_do_not(unseen):
    vectors = IdEmbedding(9, D, 0.3, seed=1, unseen=unseen)(ids([*range(9)])).numpy()[0]
    assert (vectors[: 1 + unseen] == 0).all()
    assert (vectors[1 + unseen :] != 0).any(1).all()


def test_id_0_is_zero_whatever_its_row_holds():
    layer = IdEmbedding(9, D, 0.3, seed=1, unseen=2)
    layer(ids([0]))
    randomise(layer)
    vectors = layer(ids([0, 5, 0])).numpy()[0]
    assert (vectors[[0, 2]] == 0).all()
    np.testing.assert_array_equal(vectors[1], layer.table[5])


def test_id_0_is_never_learned_and_unseen_rows_are():
    layer = IdEmbedding(9, D, 0.3, seed=1, unseen=2)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(ids([0, 1, 1])))
    gradient = tf.convert_to_tensor(tape.gradient(loss, layer.table)).numpy()
    assert gradient[:, 0].tolist() == [0, 2, 0, 0, 0, 0, 0, 0, 0]


def test_item_is_the_sum_of_its_fields():
    layer = ItemEmbedding(SIZES, D, 0.3, seed=1)
    item = {"item_id": ids([4, 4, 0]), "category_id": ids([2, 0, 0]), "brand": ids([3, 0, 0])}
    vectors = layer(item).numpy()[0]
    tables = {field: table.table.numpy() for field, table in layer.tables.items()}
    np.testing.assert_allclose(
        vectors[0], tables["item_id"][4] + tables["category_id"][2] + tables["brand"][3], rtol=1e-6
    )
    np.testing.assert_array_equal(vectors[1], tables["item_id"][4])
    assert (vectors[2] == 0).all()


def test_hidden_ids_leave_category_and_features_and_the_others_as_they_are():
    layer = ItemEmbedding(SIZES, D, 0.3, seed=1, hidden=0.25)
    item = {
        field: tf.fill((40, 50), tf.constant(value, tf.int64)) for field, value in zip(SIZES, (4, 2, 3), strict=True)
    }
    whole, trained = layer(item).numpy()[0, 0], layer(item, training=True).numpy()
    rest = whole - layer.tables["item_id"].table.numpy()[4]
    hidden = np.isclose(trained, rest, atol=1e-6).all(-1)
    # Of 2,000 ids a quarter, give or take four standard deviations.
    assert abs(hidden.mean() - 0.25) < 4 * (0.25 * 0.75 / 2000) ** 0.5
    np.testing.assert_allclose(trained[~hidden], np.broadcast_to(whole, trained[~hidden].shape), atol=1e-6)
    np.testing.assert_array_equal(layer(item, training=False), np.broadcast_to(whole, trained.shape))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(item, training=True))
    assert np.isfinite(tf.convert_to_tensor(tape.gradient(loss, layer.tables["item_id"].table))).all()


def test_fields_have_tables_of_different_noise():
    layer = ItemEmbedding({"item_id": 9, "category_id": 9}, D, 0.3, seed=1)
    layer({"item_id": ids([1]), "category_id": ids([1])})
    one, other = (table.table.numpy() for table in layer.tables.values())
    assert (one[1:] != other[1:]).all()


@pytest.fixture(scope="module")
def events_layer():
    layer = EventEmbedding(ItemEmbedding(SIZES, D, 0.3, 1), scenes=4, behaviors=4, ages=6, length=L, std=0.3, seed=9)
    layer(events(L))
    randomise(layer)
    return layer


def events(count, scene=1):
    """`count` equal events at the right end."""
    real = np.arange(L)[None] >= L - count
    values = {"item_id": 4, "category_id": 2, "brand": 3, "scene": scene, "behavior": 1, "age": 5}
    return {field: tf.constant(value * real, tf.int64) for field, value in values.items()}


def test_event_is_item_plus_scene_behavior_age_and_position(events_layer):
    layer = events_layer
    item = layer.items({field: events(L)[field] for field in SIZES})
    parts = layer.scene.table[1] + layer.behavior.table[1] + layer.age.table[5]
    np.testing.assert_allclose(layer(events(L)), item + parts + layer.position, rtol=1e-5, atol=1e-6)


def test_padding_is_zero_whatever_its_ids(events_layer):
    garbled = {f: tf.fill((1, L), tf.constant(3, tf.int64)) for f in events(0)} | {"behavior": events(2)["behavior"]}
    vectors = events_layer(garbled).numpy()[0]
    assert (vectors[0] == 0).all()
    assert (vectors[1:] != 0).any(1).all()


def test_event_without_an_item_is_still_an_event(events_layer):
    search = events(1) | {field: tf.zeros((1, L), tf.int64) for field in SIZES}
    vectors = events_layer(search).numpy()[0]
    assert (vectors[:-1] == 0).all() and (vectors[-1] != 0).any()


def test_newest_event_has_the_same_position_in_movelines_of_every_length(events_layer):
    newest = [events_layer(events(count)).numpy()[0, -1] for count in (1, 2, 3)]
    np.testing.assert_array_equal(newest[0], newest[1])
    np.testing.assert_array_equal(newest[0], newest[2])


def test_event_and_item_share_one_table(events_layer):
    before = events_layer(events(L)).numpy()
    table = events_layer.items.tables["item_id"].table
    table.assign_add(tf.ones_like(table))
    np.testing.assert_allclose(events_layer(events(L)), before + 1, rtol=1e-5, atol=1e-5)


def test_concat_fields_joins_along_the_axis():
    joined = concat_fields([{"a": ids([1], [2])}, {"a": ids([3, 4], [5, 6])}], 1)
    assert joined["a"].numpy().tolist() == [[1, 3, 4], [2, 5, 6]]


def test_values_of_one_feature_share_a_table_and_are_added():
    layer = ItemEmbedding(
        {"item_id": 9, "tags_1": 5, "tags_2": 5}, D, 0.3, 1, meanings={"tags_1": "tags", "tags_2": "tags"}
    )
    both = layer({"item_id": ids([0, 0, 0]), "tags_1": ids([3, 4, 3]), "tags_2": ids([4, 3, 0])}).numpy()[0]
    table = layer.tables["tags"].table.numpy()
    assert set(layer.tables) == {"item_id", "tags"}
    np.testing.assert_allclose(both, [table[3] + table[4], table[3] + table[4], table[3]], rtol=1e-6)
