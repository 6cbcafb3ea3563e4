"""CalibrationNet and the prefixes of the moveline that it reads."""

import numpy as np
import pytest
import tensorflow as tf

from amen_tf.layers.calibration import CalibrationNet, prefix_mask
from tests.amen_tf.layers.harness import randomise

B, N, L, H, D = 3, 4, 7, 2, 8


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(0)
    mask = np.arange(L) >= L - np.array([[0], [L], [4]])
    return (
        tf.constant(rng.normal(size=(B, N, D)), tf.float32),
        tf.constant(rng.normal(size=(B, L, D)), tf.float32),
        tf.constant(mask),
    )


@pytest.fixture(scope="module")
def layer(inputs):
    layer = CalibrationNet(H, D, 6, seed=3)
    layer(*inputs)
    randomise(layer)
    return layer


def test_scores_the_reading_the_target_and_their_product(layer, inputs):
    targets = inputs[0].numpy()
    read = layer.attention(*inputs).numpy()
    x = np.concatenate([read, targets, read * targets], -1)
    x = np.maximum(x @ layer.hidden.kernel.numpy() + layer.hidden.bias.numpy(), 0)
    expected = (x @ layer.score.kernel.numpy() + layer.score.bias.numpy())[..., 0]
    scores = layer(*inputs)
    assert scores.shape == (B, N) and scores.dtype == tf.float32
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)


def test_scores_of_candidates_and_diff_samples_from_one_call_equal_separate_calls(layer, inputs):
    targets, events, mask = inputs
    lengths = tf.constant([[0, 0, 0, 0], [7, 3, 0, 1], [4, 2, 1, 0]], tf.int64)
    together = layer(targets, events, prefix_mask(mask, lengths))
    for n in range(N):
        prefix = prefix_mask(mask, lengths[:, n : n + 1])[:, 0]
        np.testing.assert_allclose(
            layer(targets[:, n : n + 1], events, prefix)[:, 0], together[:, n], rtol=1e-5, atol=1e-6
        )


def test_events_after_the_prefix_do_not_matter(layer, inputs):
    targets, events, mask = inputs
    prefix = prefix_mask(mask, tf.constant([[0], [3], [2]], tf.int64))
    later = np.arange(L) >= np.array([[0], [3], [5]])
    garbled = tf.where(later[..., None], 99.0, events)
    np.testing.assert_array_equal(layer(targets[:, :1], garbled, prefix), layer(targets[:, :1], events, prefix))


def test_prefix_mask_by_hand():
    # The first row has two events at the right end, the second is full, the third is empty.
    mask = tf.constant(np.array([[0, 0, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]], bool))
    lengths = tf.constant([[0, 1, 2], [3, 4, 9], [0, 1, 4]], tf.int64)
    expected = [
        [[0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]],
        [[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1]],
        [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
    ]
    np.testing.assert_array_equal(prefix_mask(mask, lengths), np.array(expected, bool))
