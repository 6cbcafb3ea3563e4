"""The exported generator: the same numbers as the live one, and nothing in it that can be trained."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

from amen_tf import losses
from amen_tf.features import CANDIDATE, DIVERSITY, FLOW, ITEM_ID, MOVELINE, VELOCITY
from amen_tf.layers.request_encoder import with_prefix
from amen_tf.models.frozen_generator import FrozenGenerator
from tests.amen_tf import batches


@pytest.fixture(scope="module")
def frozen(spec, generator_folder, tmp_path_factory):
    """Loaded from a copy that is gone afterwards: nothing may be read from the folder later."""
    folder = tmp_path_factory.mktemp("frozen") / "generator"
    shutil.copytree(generator_folder, folder)
    layer = FrozenGenerator(folder, spec.contract)
    shutil.rmtree(folder)
    return layer


def close(left, right):
    np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-6)


def test_flow_diversity_and_velocity_equal_the_live_generators(frozen, generator, features):
    outputs, flow = frozen(features), generator.generate(features)
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        FLOW: (6, 3, 8),
        DIVERSITY: (6, 3),
        VELOCITY: (6, 3, 8),
    }
    assert {value.dtype for value in outputs.values()} == {tf.float32}
    close(outputs[FLOW], flow.states)
    close(outputs[DIVERSITY], 1 - losses.head_similarity(flow.heads))
    close(outputs[VELOCITY], losses.velocity(flow.states, flow.previous))
    # Velocities add up to the way from f_{t0-1} to the last state (Eq. 4).
    np.testing.assert_allclose(
        flow.previous + tf.reduce_sum(outputs[VELOCITY], 1), flow.states[:, -1], rtol=1e-5, atol=1e-5
    )


def test_candidate_vectors_come_from_the_generators_table(frozen, generator, features):
    items = with_prefix(features, CANDIDATE, generator.spec.contract.item_fields)
    close(frozen.candidate_vectors(features), generator.item_vectors(items))


def test_what_an_id_says_beyond_its_category(frozen, generator, features):
    items = with_prefix(features, CANDIDATE, generator.spec.contract.item_fields)
    beyond = frozen.of_items(features).beyond.numpy()
    close(beyond, generator.known_of(items).beyond_category)
    category = generator.item_vectors({**items, ITEM_ID: tf.zeros_like(items[ITEM_ID])}).numpy()
    there = items[ITEM_ID].numpy() != 0
    # A unit vector at right angles to the category's, in the plane of the two; nothing where there is no item.
    np.testing.assert_allclose(np.linalg.norm(beyond, axis=-1), there, atol=1e-5)
    np.testing.assert_allclose((beyond * category).sum(-1), 0.0, atol=1e-5)
    vectors = generator.item_vectors(items).numpy()
    along = (vectors * category).sum(-1, keepdims=True) * category
    across = (vectors * beyond).sum(-1, keepdims=True) * beyond
    np.testing.assert_allclose(along + across, vectors, atol=1e-5)
    hidden = {**features, CANDIDATE + ITEM_ID: tf.zeros_like(items[ITEM_ID])}
    np.testing.assert_array_equal(frozen.of_items(hidden).beyond, 0.0)


def test_all_of_a_request_at_once(frozen, generator, features):
    flow, items = frozen.of_request(features)
    alone = frozen(features)
    assert flow.keys() == alone.keys()
    for name in flow:
        close(flow[name], alone[name])
    for together, apart in zip(items, frozen.of_items(features), strict=True):
        close(together, apart)
    close(items.candidates, frozen.candidate_vectors(features))
    moveline = with_prefix(features, MOVELINE, generator.spec.contract.item_fields)
    close(items.moveline_beyond, generator.known_of(moveline).beyond_category)


@pytest.mark.parametrize("rows", [1, 4])
def test_any_number_of_requests_and_candidates(frozen, generator, features, rows):
    some = batches.pick(batches.rows(features, list(range(rows))), [0, 1])
    close(frozen(some)[FLOW], generator(some))
    assert frozen.candidate_vectors(some).shape == (rows, 2, 8)


def test_has_nothing_to_train(frozen, features):
    frozen(features)
    assert frozen.variables == [] and frozen.trainable_variables == []
