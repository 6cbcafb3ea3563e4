"""The merge MLP against a plain MLP over the concatenation."""

import numpy as np
import pytest
import tensorflow as tf

from amen_tf.layers.merge_mlp import MergeMLP
from tests.amen_tf.layers.harness import randomise

B, N = 3, 4


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(0)
    return tf.constant(rng.normal(size=(B, N, 5)), tf.float32), tf.constant(rng.normal(size=(B, 2)), tf.float32)


@pytest.mark.parametrize("hidden_units", [(6,), (6, 4), (6, 4, 3)])
def test_equals_a_plain_mlp_over_the_concatenation(inputs, hidden_units):
    candidate, request = (x.numpy() for x in inputs)
    layer = MergeMLP(hidden_units, 0.0, seed=1)
    layer(*inputs)
    randomise(layer)
    first = np.concatenate([layer.candidate_input.kernel.numpy(), layer.request_input.kernel.numpy()])
    later = [(dense.kernel.numpy(), dense.bias.numpy()) for dense in (*layer.hidden, layer.logit)]
    layers = [(first, layer.candidate_input.bias.numpy()), *later]
    expected = np.zeros((B, N))
    for b in range(B):
        for n in range(N):
            x = np.concatenate([candidate[b, n], request[b]])
            for kernel, bias in layers[:-1]:
                x = np.maximum(x @ kernel + bias, 0.0)
            expected[b, n] = (x @ layers[-1][0] + layers[-1][1])[0]
    np.testing.assert_allclose(layer(*inputs), expected, rtol=1e-5, atol=1e-5)


def test_dropout_acts_in_training_only(inputs):
    layer = MergeMLP((16, 8), 0.5, seed=1)
    plain = layer(*inputs)
    np.testing.assert_array_equal(layer(*inputs, training=False), plain)
    assert (layer(*inputs, training=True).numpy() != plain.numpy()).any()


def test_logits_are_float32_under_mixed_precision(inputs):
    # Half precision logits would lose the difference between close candidates.
    layer = MergeMLP((16,), 0.0, seed=1, dtype="mixed_bfloat16")
    assert layer(*inputs).dtype == tf.float32
