"""The shared parts of attention: shapes, scale, mask."""

import numpy as np
import pytest
import tensorflow as tf

from amen_tf.layers.attention import attend, merge_heads, split_heads

B, S, H, D = 2, 3, 2, 8


def test_split_heads_cuts_the_last_axis_and_merge_heads_joins_it():
    x = tf.reshape(tf.range(B * S * D), (B, S, D))
    heads = split_heads(x, H)
    assert heads.shape == (B, H, S, D // H)
    np.testing.assert_array_equal(heads[1, 1, 2], x[1, 2, D // 2 :])
    np.testing.assert_array_equal(merge_heads(heads), x)


def test_by_hand():
    # d_head = 4: scores q·k / 2 = 0.5 and 10 - 9.5 + ln 3 = 0.5 + ln 3, so that the weights are 1/4 and 3/4.
    query = tf.constant([[[[1.0, 2, 3, 4]]]])
    key = tf.constant([[[[1.0, 0, 0, 0], [1 + 2 * np.log(3.0), 0, 0, 0]]]])
    value = tf.constant([[[[0.0, 4, 8, 12], [4.0, 0, 8, 16]]]])
    for queries in (1, 2):
        read, weights = attend(tf.repeat(query, queries, 2), key, value)
        np.testing.assert_allclose(weights, [[[[0.25, 0.75]] * queries]], rtol=1e-6)
        np.testing.assert_allclose(read, [[[[3.0, 1.0, 8.0, 15.0]] * queries]], rtol=1e-6)


@pytest.mark.parametrize("queries", [1, 2])
def test_masked_places_vanish(queries):
    query = tf.ones((1, 2, queries, 1))
    key = value = tf.constant([[[[300.0], [1.0]], [[-300.0], [1.0]]]])
    read, weights = attend(query, key, value, tf.constant([[[False, True]]]))
    np.testing.assert_array_equal(weights[..., 0], np.zeros((1, 2, queries)))
    np.testing.assert_array_equal(read, np.ones((1, 2, queries, 1)))


def test_one_query_reads_what_it_reads_among_many():
    query, key, value = (tf.random.stateless_normal((B, H, S, D), (seed, 0)) * 5 for seed in range(3))
    mask = tf.constant([[[True, False, True]], [[True, True, True]]])
    read, weights = attend(query, key, value, mask)
    for i in range(S):
        one, its_weights = attend(query[:, :, i : i + 1], key, value, mask)
        np.testing.assert_allclose(its_weights, weights[:, :, i : i + 1], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(one, read[:, :, i : i + 1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("queries", [1, 2])
def test_weights_are_float32_and_what_is_read_is_of_the_values(queries):
    query, key = (tf.ones((B, H, n, D), tf.bfloat16) for n in (queries, S))
    read, weights = attend(query, key, key)
    assert (read.dtype, weights.dtype) == (tf.bfloat16, tf.float32)
