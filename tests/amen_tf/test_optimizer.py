"""LazyAdamW: Keras' AdamW for dense gradients; for tables the rows of the batch and no others."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from amen_tf.optimizer import LazyAdamW

OPTIONS = {"learning_rate": 0.01, "weight_decay": 0.1}


def sparse(rows, values, size=6):
    return tf.IndexedSlices(tf.constant(values, tf.float32), tf.constant(rows), (size, 2))


def table(size=6):
    return tf.Variable(np.random.default_rng(0).normal(size=(size, 2)).astype(np.float32))


def test_dense_gradients_are_updated_as_by_keras():
    ours, theirs = table(), table()
    lazy, plain = LazyAdamW(**OPTIONS), keras.optimizers.AdamW(**OPTIONS)
    for step in range(3):
        gradient = tf.constant(np.random.default_rng(step).normal(size=(6, 2)), tf.float32)
        lazy.apply_gradients([(gradient, ours)])
        plain.apply_gradients([(gradient, theirs)])
    np.testing.assert_array_equal(ours, theirs)


def test_rows_that_are_always_read_are_updated_as_by_keras():
    ours, theirs = table(3), table(3)
    lazy, plain = LazyAdamW(**OPTIONS), keras.optimizers.AdamW(**OPTIONS)
    for step in range(3):
        values = np.random.default_rng(step).normal(size=(3, 2))
        lazy.apply_gradients([(sparse([2, 0, 1], values, 3), ours)])
        plain.apply_gradients([(sparse([2, 0, 1], values, 3), theirs)])
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


def test_first_step_by_hand():
    # After one step the corrected moments are g and g^2, so every weight moves by the learning rate against the sign
    # of its gradient (epsilon aside), and decays by learning rate times decay: w - 0.01 * sign(g) - 0.01 * 0.1 * w.
    weights = tf.Variable([[1.0, -2.0], [3.0, 4.0]])
    LazyAdamW(**OPTIONS).apply_gradients([(sparse([0], [[0.5, -0.5]], 2), weights)])
    np.testing.assert_allclose(weights, [[1 - 0.01 - 0.001, -2 + 0.01 + 0.002], [3, 4]], rtol=1e-5)


def test_rows_that_are_not_read_rest():
    weights, optimizer = table(), LazyAdamW(**OPTIONS)
    optimizer.build([weights])
    before = weights.numpy().copy()
    optimizer.apply_gradients([(sparse([1, 4], [[1, 1], [1, 1]]), weights)])
    after_first = weights.numpy().copy()
    optimizer.apply_gradients([(sparse([4], [[1, 1]]), weights)])
    assert (after_first[[0, 2, 3, 5]] == before[[0, 2, 3, 5]]).all() and (after_first[[1, 4]] != before[[1, 4]]).all()
    # No momentum and no decay moves row 1 in the second step.
    np.testing.assert_array_equal(weights.numpy()[1], after_first[1])
    assert (weights.numpy()[4] != after_first[4]).all()


def test_a_row_that_comes_twice_is_one_row_with_the_sum_of_its_gradients():
    ours, other = table(), table()
    LazyAdamW(**OPTIONS).apply_gradients([(sparse([2, 2], [[1, 2], [3, -1]]), ours)])
    LazyAdamW(**OPTIONS).apply_gradients([(sparse([2], [[4, 1]]), other)])
    np.testing.assert_array_equal(ours, other)


def test_embedding_in_a_traced_step():
    layer, optimizer = keras.layers.Embedding(5, 3), LazyAdamW(**OPTIONS)
    layer.build(None)
    optimizer.build(layer.trainable_variables)
    before = layer.embeddings.numpy().copy()

    @tf.function
    def step(ids):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(layer(ids)))
        weights = layer.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))

    step(tf.constant([1, 1, 3]))
    step(tf.constant([1, 1, 3]))
    moved = (layer.embeddings.numpy() != before).any(1)
    np.testing.assert_array_equal(moved, [False, True, False, True, False])


def test_amsgrad_is_refused():
    with pytest.raises(ValueError, match="expected amsgrad=False"):
        LazyAdamW(amsgrad=True)


def test_rows_rest_under_a_strategy():
    strategy = tf.distribute.MirroredStrategy(["/cpu:0"])
    with strategy.scope():
        weights, optimizer = table(), LazyAdamW(learning_rate=0.01, weight_decay=0.5)
        optimizer.build([weights])
    before = weights.numpy().copy()

    @tf.function
    def step():
        strategy.run(lambda: optimizer.apply_gradients([(sparse([1, 4], [[1, 1], [1, 1]]), weights)]))

    step()
    np.testing.assert_array_equal(weights.numpy()[[0, 2, 3, 5]], before[[0, 2, 3, 5]])
    # Decay is taken once: w - rate * sign(g) - rate * decay * w.
    np.testing.assert_allclose(weights.numpy()[[1, 4]], 0.995 * before[[1, 4]] - 0.01, rtol=1e-4)


def test_updates_are_not_compiled_for_every_number_of_rows():
    assert not LazyAdamW().jit_compile
