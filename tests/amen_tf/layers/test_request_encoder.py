"""Encoders of a request: which columns are read, and how they are laid side by side."""

import numpy as np
import pytest
import tensorflow as tf

from amen_tf.features import FeatureContract
from amen_tf.layers.request_encoder import SIDE_DIM, InterestEncoder, SideEmbedding, with_prefix
from amen_tf.spec import ModelSpec
from tests.amen_tf import batches


@pytest.fixture(scope="module")
def spec():
    return batches.spec()


@pytest.fixture(scope="module")
def features(spec):
    return batches.batch(spec)


def test_with_prefix_keys_by_field():
    assert with_prefix({"a_x": 1, "a_y": 2, "b_x": 3}, "a_", ("x", "y")) == {"x": 1, "y": 2}


def test_encoder_reads_moveline_and_candidates(spec, features):
    encoder = InterestEncoder(spec)
    item = ["item_id", "category_id", "brand", "tags_1", "tags_2"]
    assert list(encoder.moveline(features)) == [*item, "scene", "behavior", "age"]
    assert list(encoder.candidates(features)) == item
    np.testing.assert_array_equal(encoder.moveline(features)["age"], features["moveline_age"])
    np.testing.assert_array_equal(encoder.candidates(features)["brand"], features["candidate_brand"])
    assert encoder(features).shape == (6, 7, 8)


def test_unseen_ids_start_at_zero_for_items(spec, features):
    encoder = InterestEncoder(ModelSpec(spec.contract, spec.sizes, spec.shape, spec.seed, unseen=3))
    encoder(features)
    for table in encoder.items.tables.values():
        assert (table.table.numpy()[:4] == 0).all() and (table.table.numpy()[4:] != 0).any()


def test_side_of_request_is_scene_then_declared(spec, features):
    layer = SideEmbedding.of_request(spec)
    vectors = layer(features, tf.zeros((6, 1)))
    assert list(layer.sizes) == ["scene", "device", "likes"] and vectors.shape == (6, 3 * SIDE_DIM)
    scene, device, likes = tf.split(vectors, 3, -1)
    np.testing.assert_array_equal(scene, tf.gather(layer.tables["scene"].table, features["scene"]))
    np.testing.assert_array_equal(device, tf.gather(layer.tables["device"].table, features["device"]))
    # Up to three values, one table; what is not there adds nothing.
    table = layer.tables["likes"].table.numpy() * (np.arange(5) > 0)[:, np.newaxis]
    expected = sum(table[features[f"likes_{place}"].numpy()] for place in (1, 2, 3))
    np.testing.assert_allclose(likes, expected, rtol=1e-6)


def test_side_of_candidate_is_what_was_shown(spec, features):
    layer = SideEmbedding.of_candidate(spec)
    vectors = layer(features, tf.zeros((6, 4, 1)))
    assert list(layer.sizes) == ["candidate_position", "candidate_price"] and vectors.shape == (6, 4, 2 * SIDE_DIM)
    padded = ~features["candidate_mask"].numpy()
    assert (vectors.numpy()[padded] == 0).all()


def test_no_declared_candidate_features_leave_nothing_to_concatenate(spec, features):
    bare = ModelSpec(FeatureContract(7, 3), spec.sizes, spec.shape, spec.seed)
    assert SideEmbedding.of_candidate(bare)(features, tf.ones((6, 4, 8))).shape == (6, 4, 0)
