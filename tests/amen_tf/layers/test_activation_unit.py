"""DIN's activation unit: by hand, against plain loops, no normalisation, padding."""

import numpy as np
import pytest
import tensorflow as tf

from amen_tf.layers.activation_unit import ActivationUnit
from tests.amen_tf.layers.harness import randomise

B, N, L, D, UNITS = 4, 3, 5, 6, 7


@pytest.fixture(scope="module")
def layer():
    layer = ActivationUnit(D, UNITS, seed=3)
    layer(tf.zeros((1, 1, D)), tf.zeros((1, 1, D)), tf.ones((1, 1), tf.bool))
    randomise(layer)
    return layer


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(0)
    mask = np.arange(L) >= L - np.array([0, L, 3, 1])[:, None]
    targets, events = rng.normal(size=(B, N, D)), rng.normal(size=(B, L, D))
    return tf.constant(targets, tf.float32), tf.constant(events, tf.float32), tf.constant(mask)


def close(left, right):
    np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)


def test_by_hand():
    # d = 1, one unit: hidden = 2 e + 3 q - 1 * e q + 0, and weight = 5 * prelu(hidden) + 0.5, slope 0.25.
    # e = 1, q = 2: 2 + 6 - 2 = 6 -> weight 30.5; e = -2, q = 2: -4 + 6 + 4 = 6 -> 30.5. The sum keeps its size: nothing
    # is divided by the sum of the weights.
    layer = ActivationUnit(1, 1, seed=0)
    arguments = (
        tf.constant([[[2.0], [-3.0]]]),
        tf.constant([[[1.0], [-2.0], [-1.0]]]),
        tf.constant([[True, True, False]]),
    )
    layer(*arguments)
    layer.event.set_weights([np.array([[2.0]]), np.array([0.0])])
    layer.target.set_weights([np.array([[3.0]])])
    layer.product.assign([[-1.0]])
    layer.weight.set_weights([np.array([[5.0]]), np.array([0.5])])
    read, weights = layer(*arguments, return_weights=True)
    close(weights[0, 0], [30.5, 30.5, 0.0])
    close(read[0, 0], [30.5 * 1 + 30.5 * -2])
    # q = -3: e = 1: 2 - 9 + 3 = -4 -> -1 -> -4.5; e = -2: -4 - 9 - 6 = -19 -> -4.75 -> -23.25.
    close(weights[0, 1], [-4.5, -23.25, 0.0])


def test_equals_an_mlp_over_the_concatenation(layer, inputs):
    # [e, q, q - e, q * e] times a kernel whose third block is zero: q - e adds no columns that the others lack.
    targets, events, mask = (x.numpy() for x in inputs)
    kernel = np.concatenate([layer.event.kernel, layer.target.kernel, np.zeros((D, UNITS)), layer.product.numpy()])
    read, weights = layer(*inputs, return_weights=True)
    for b in range(B):
        for n in range(N):
            total = np.zeros(D)
            for j in range(L):
                q, e = targets[b, n], events[b, j]
                hidden = np.concatenate([e, q, q - e, q * e]) @ kernel + layer.event.bias.numpy()
                hidden = np.where(hidden > 0, hidden, layer.slope.numpy() * hidden)
                weight = (hidden @ layer.weight.kernel.numpy() + layer.weight.bias.numpy())[0] * mask[b, j]
                close(weights[b, n, j], weight)
                total += weight * e
            close(read[b, n], total)


def test_difference_is_a_change_of_kernels(layer, inputs):
    # A kernel for q - e moves into those of q and e: W_q + W_d and W_e - W_d compute the same.
    targets, events, mask = inputs
    extra = np.random.default_rng(1).normal(size=(D, UNITS)).astype(np.float32)
    other = ActivationUnit(D, UNITS, seed=3)
    other(*inputs)
    other.set_weights(layer.get_weights())
    other.target.kernel.assign_add(extra)
    other.event.kernel.assign_sub(extra)
    n, j = 1, 4
    q, e = targets[1, n].numpy(), events[1, j].numpy()
    hidden = e @ layer.event.kernel.numpy() + q @ layer.target.kernel.numpy() + (q - e) @ extra
    hidden += (q * e) @ layer.product.numpy() + layer.event.bias.numpy()
    hidden = np.where(hidden > 0, hidden, layer.slope.numpy() * hidden)
    expected = hidden @ layer.weight.kernel.numpy() + layer.weight.bias.numpy()
    close(other(targets, events, mask, return_weights=True)[1][1, n, j], expected[0])


def test_padding_is_not_read_and_an_empty_moveline_gives_zero(layer, inputs):
    targets, events, mask = inputs
    garbled = tf.where(mask[..., tf.newaxis], events, 50.0)
    np.testing.assert_array_equal(layer(targets, garbled, mask), layer(targets, events, mask))
    assert not layer(targets, events, mask).numpy()[0].any()
