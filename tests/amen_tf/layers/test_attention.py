"""The shared parts of attention: shapes, scale, mask."""

import numpy as np
import tensorflow as tf

from amen_tf.layers.attention import attend, attention_scores, heads_last, merge_heads, split_heads

B, S, H, D = 2, 3, 2, 8


def test_split_heads_cuts_the_last_axis_and_merge_heads_joins_it():
    x = tf.reshape(tf.range(B * S * D), (B, S, D))
    heads = split_heads(x, H)
    assert heads.shape == (B, H, S, D // H)
    np.testing.assert_array_equal(heads[1, 1, 2], x[1, 2, D // 2 :])
    np.testing.assert_array_equal(heads_last(heads)[1, 2, 1], x[1, 2, D // 2 :])
    np.testing.assert_array_equal(merge_heads(heads), x)


def test_scores_by_hand():
    # d_head = 4: q·k / 2.
    query, key = tf.constant([[[[1.0, 2, 3, 4]]]]), tf.constant([[[[1.0, 0, 0, 0], [2, 2, 2, 2]]]])
    np.testing.assert_allclose(attention_scores(query, key), [[[[0.5, 10.0]]]])


def test_masked_places_vanish_in_the_softmax():
    query, key = tf.constant([[[[1.0]], [[1.0]]]]), tf.constant([[[[300.0], [1.0]], [[-300.0], [1.0]]]])
    scores = attention_scores(query, key, tf.constant([[[False, True]]]))
    np.testing.assert_array_equal(tf.nn.softmax(scores)[..., 0], np.zeros((1, 2, 1)))


def test_mask_of_each_query():
    query = key = tf.ones((1, 1, 2, 1))
    weights = tf.nn.softmax(attention_scores(query, key, tf.constant([[[True, False], [True, True]]])))
    np.testing.assert_allclose(weights[0, 0], [[1, 0], [0.5, 0.5]])


def test_one_query_reads_what_it_reads_among_many():
    query, key, value = (tf.random.stateless_normal((B, H, S, D), (seed, 0)) for seed in range(3))
    mask = tf.constant([[[True, False, True]], [[True, True, True]]])
    scores = attention_scores(query, key, mask)
    read = attend(tf.nn.softmax(scores), value)
    for i in range(S):
        one = attention_scores(query[:, :, i : i + 1], key, mask)
        np.testing.assert_allclose(one, scores[:, :, i : i + 1], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(attend(tf.nn.softmax(one), value), read[:, :, i : i + 1], rtol=1e-5, atol=1e-6)
