"""The exported generator: the same numbers as the live one, and nothing in it that can be trained."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

from amen_tf import losses
from amen_tf.features import CANDIDATE, DIVERSITY, FLOW, VELOCITY
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


@pytest.mark.parametrize("rows", [1, 4])
def test_any_number_of_requests_and_candidates(frozen, generator, features, rows):
    some = batches.pick(batches.rows(features, list(range(rows))), [0, 1])
    close(frozen(some)[FLOW], generator(some))
    assert frozen.candidate_vectors(some).shape == (rows, 2, 8)


def test_has_nothing_to_train(frozen, features):
    frozen(features)
    assert frozen.variables == [] and frozen.trainable_variables == []
