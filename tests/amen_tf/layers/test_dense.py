"""The dense layer against that of Keras, and reshapes with sizes that are known only when a graph runs."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from amen_tf.layers.dense import Dense
from amen_tf.layers.shapes import leading

SIGNATURES = [(2, 3), (None, 3), (2, None), (None, None)]


@pytest.mark.parametrize("known", SIGNATURES)
@pytest.mark.parametrize("rows", [0, 2])
def test_equals_the_dense_layer_of_keras(known, rows):
    if known[0] and not rows:
        pytest.skip("two rows are promised")
    x = tf.constant(np.random.default_rng(0).normal(size=(rows, 3, 4)), tf.float32)
    ours, theirs = Dense(5, "gelu"), keras.layers.Dense(5, "gelu")
    ours.build(x.shape)
    theirs.build(x.shape)
    ours.set_weights([np.full((4, 5), 0.1) * np.arange(5), np.arange(5.0)])
    theirs.set_weights(ours.get_weights())
    got = tf.function(ours, input_signature=[tf.TensorSpec((*known, 4))])(x)
    assert got.shape == (rows, 3, 5)
    np.testing.assert_allclose(got, theirs(x), rtol=1e-6)


def test_a_matrix_and_a_tensor_of_rank_four_are_taken():
    x = tf.constant(np.arange(48.0).reshape(2, 3, 2, 4), tf.float32)
    layer = Dense(1, kernel_initializer="ones", use_bias=False)
    np.testing.assert_array_equal(layer(x)[..., 0], np.arange(48.0).reshape(2, 3, 2, 4).sum(-1))
    np.testing.assert_array_equal(layer(x[0, 0]), layer(x)[0, 0])


@pytest.mark.parametrize("known", SIGNATURES)
@pytest.mark.parametrize("size", [0, 4])
def test_leading_sizes_serve_a_reshape_of_tensors_that_may_be_empty(known, size):
    rows = 2 if known[0] else 0

    @tf.function(input_signature=[tf.TensorSpec((*known, size))])
    def same(x):
        return tf.reshape(x, [*leading(x, 2), size])

    assert same(tf.zeros((rows, 3, size))).shape == (rows, 3, size)


def test_sizes_that_are_known_add_nothing_to_a_graph():
    @tf.function(input_signature=[tf.TensorSpec((None, 3, 4))])
    def reshaped(x):
        return tf.reshape(x, [*leading(x, 2), 2, 2])

    assert [op.type for op in reshaped.get_concrete_function().graph.get_operations()].count("Shape") == 0
