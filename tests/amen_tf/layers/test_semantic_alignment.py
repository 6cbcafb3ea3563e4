"""Eq. 7: the target reads the flow."""

import numpy as np
import pytest
import tensorflow as tf

from amen_tf.layers.semantic_alignment import SemanticAlignment
from tests.amen_tf.layers.harness import randomise

B, N, T, H, D = 3, 4, 3, 2, 8


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(0)
    return tf.constant(rng.normal(size=(B, N, D)), tf.float32), tf.constant(rng.normal(size=(B, T, D)), tf.float32)


@pytest.fixture(scope="module")
def layer(inputs):
    layer = SemanticAlignment(H, D, seed=3)
    layer(*inputs)
    randomise(layer)
    return layer


def test_equals_numpy(layer, inputs):
    targets, flow = (x.numpy() for x in inputs)
    kernels = [dense.kernel.numpy() for dense in (layer.query, layer.key, layer.value, layer.output_projection)]
    expected, width = np.zeros((B, N, D)), D // H
    for b in range(B):
        for n in range(N):
            heads = []
            for h in range(H):
                part = slice(h * width, (h + 1) * width)
                query = (targets[b, n] @ kernels[0])[part]
                scores = [np.exp(query @ (state @ kernels[1])[part] / width**0.5) for state in flow[b]]
                values = [(state @ kernels[2])[part] for state in flow[b]]
                heads.append(sum(s * v for s, v in zip(scores, values, strict=True)) / sum(scores))
            expected[b, n] = np.concatenate(heads) @ kernels[3]
    np.testing.assert_allclose(layer(*inputs), expected, rtol=1e-5, atol=1e-5)


def test_weights_are_shares_of_the_states(layer, inputs):
    aligned, weights = layer(*inputs, return_weights=True)
    assert aligned.shape == (B, N, D) and weights.shape == (B, H, N, T)
    np.testing.assert_allclose(tf.reduce_sum(weights, -1), np.ones((B, H, N)), rtol=1e-6)
    assert weights.numpy().min() > 0


def test_one_state_is_read_whole_by_every_target(layer, inputs):
    targets, flow = inputs
    aligned, weights = layer(targets, flow[:, :1], return_weights=True)
    np.testing.assert_array_equal(weights, np.ones((B, H, N, 1)))
    expected = flow[:, 0].numpy() @ layer.value.kernel.numpy() @ layer.output_projection.kernel.numpy()
    np.testing.assert_allclose(aligned, np.repeat(expected[:, None], N, 1), rtol=1e-5, atol=1e-6)


def test_targets_read_differently(layer, inputs):
    # Otherwise it would be a mean of the flow, which the ablation without alignment is.
    _, weights = layer(*inputs, return_weights=True)
    assert np.ptp(weights.numpy(), axis=2).min() > 1e-3


def test_order_of_states_does_not_matter(layer, inputs):
    targets, flow = inputs
    np.testing.assert_allclose(layer(targets, flow[:, ::-1]), layer(targets, flow), rtol=1e-5, atol=1e-6)
