"""Target attention: by hand, the sink, padding, candidates that do not see one another, prefixes."""

import math

import numpy as np
import pytest
import tensorflow as tf

from amen_tf.layers.attention import merge_heads, split_heads
from amen_tf.layers.target_attention import TargetAttention
from tests.amen_tf.layers.harness import randomise

B, N, L, H, D = 4, 5, 7, 2, 8


@pytest.fixture(scope="module")
def layer():
    layer = TargetAttention(H, D, seed=3)
    layer(tf.zeros((1, 1, D)), tf.zeros((1, 1, D)), tf.ones((1, 1), tf.bool))
    randomise(layer)
    return layer


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(0)
    lengths = np.array([0, L, 3, 5])
    mask = np.arange(L) >= L - lengths[:, None]
    targets, sequence = rng.normal(size=(B, N, D)), rng.normal(size=(B, L, D))
    return tf.constant(targets, tf.float32), tf.constant(sequence, tf.float32), tf.constant(mask)


def close(left, right):
    np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)


def test_split_heads_cuts_the_last_axis_and_merge_heads_joins_it():
    x = tf.reshape(tf.range(2 * 3 * D), (2, 3, D))
    heads = split_heads(x, H)
    np.testing.assert_array_equal(heads[1, 1, 2], x[1, 2, D // 2 :])
    np.testing.assert_array_equal(merge_heads(heads), x)


def test_by_hand():
    # One head of one number and identity kernels. Scores q k / sqrt(1): 2 * log(2) / 2 = log 2 for the event with
    # key log(2) / 2, and 0 for the sink: weights 2/3 and 1/3. The masked event counts nothing.
    # The values are log(2) / 2 and the sink's 3: 2/3 * log(2) / 2 + 1/3 * 3.
    layer = TargetAttention(1, 1, seed=0)
    event = math.log(2) / 2
    arguments = tf.constant([[[2.0]]]), tf.constant([[[9.0], [event]]]), tf.constant([[False, True]])
    layer(*arguments)
    for dense in (layer.query, layer.key, layer.value, layer.output_projection):
        dense.kernel.assign([[1.0]])
    layer.sink_key.assign([[[[0.0]]]])
    layer.sink_value.assign([[[[3.0]]]])
    read, weights = layer(*arguments, return_weights=True)
    close(weights[0, 0, 0], [0, 2 / 3, 1 / 3])
    close(read[0, 0], [2 / 3 * event + 1])


def test_scores_are_divided_by_the_square_root_of_the_head_width(layer, inputs):
    # By plain loops over requests, candidates and heads.
    targets, sequence, mask = (x.numpy() for x in inputs)
    read, weights = layer(*inputs, return_weights=True)
    kernels = [dense.kernel.numpy() for dense in (layer.query, layer.key, layer.value, layer.output_projection)]
    width = D // H
    for b in range(B):
        for n in range(N):
            outputs = []
            for h in range(H):
                part = slice(h * width, (h + 1) * width)
                query = (targets[b, n] @ kernels[0])[part]
                keys = [(event @ kernels[1])[part] for event in sequence[b]] + [layer.sink_key.numpy()[0, h, 0]]
                values = [(event @ kernels[2])[part] for event in sequence[b]] + [layer.sink_value.numpy()[0, h, 0]]
                real = [*mask[b], True]
                scores = [math.exp(query @ key / math.sqrt(width)) * r for key, r in zip(keys, real, strict=True)]
                share = np.array(scores) / sum(scores)
                close(weights[b, h, n], share)
                outputs.append(share @ np.array(values))
            close(read[b, n], np.concatenate(outputs) @ kernels[3])


def test_empty_moveline_reads_the_sink_alone(layer, inputs):
    targets, sequence, mask = inputs
    read, weights = layer(*inputs, return_weights=True)
    assert not mask[0].numpy().any()
    np.testing.assert_array_equal(weights[0, :, :, :-1], 0.0)
    np.testing.assert_array_equal(weights[0, :, :, -1], 1.0)
    sink = layer.sink_value.numpy().reshape(D) @ layer.output_projection.kernel.numpy()
    close(read[0], np.tile(sink, (N, 1)))


def test_weights_sum_to_one_and_are_zero_at_padding(layer, inputs):
    _, weights = layer(*inputs, return_weights=True)
    close(tf.reduce_sum(weights, -1), np.ones((B, H, N)))
    padded = ~inputs[2].numpy()
    assert (np.moveaxis(weights.numpy()[..., :-1], -1, 1)[padded] == 0).all()


def test_what_lies_at_padding_changes_nothing(layer, inputs):
    targets, sequence, mask = inputs
    garbled = tf.where(mask[..., None], sequence, 1e3)
    np.testing.assert_array_equal(layer(targets, garbled, mask), layer(targets, sequence, mask))


def test_more_padding_changes_nothing(layer, inputs):
    targets, sequence, mask = inputs
    longer = tf.pad(sequence, ((0, 0), (4, 0), (0, 0)), constant_values=2.0)
    close(layer(targets, longer, tf.pad(mask, ((0, 0), (4, 0)))), layer(*inputs))


def test_candidates_do_not_see_one_another(layer, inputs):
    targets, sequence, mask = inputs
    together = layer(*inputs)
    for n in range(N):
        close(layer(targets[:, n : n + 1], sequence, mask)[:, 0], together[:, n])


def test_order_of_candidates_carries_through(layer, inputs):
    targets, sequence, mask = inputs
    order = [3, 0, 4, 2, 1]
    close(layer(tf.gather(targets, order, axis=1), sequence, mask), tf.gather(layer(*inputs), order, axis=1))


def test_mask_per_candidate_equals_calls_with_cut_movelines(layer, inputs):
    targets, sequence, mask = inputs
    kept = np.random.default_rng(1).integers(0, L + 1, (B, N))
    prefixes = mask.numpy()[:, None, :] & (np.arange(L) < kept[:, :, None])
    together = layer(targets, sequence, tf.constant(prefixes))
    for b in range(B):
        for n in range(N):
            # The events that stay, behind one of padding: a sequence has at least one place.
            events = np.concatenate([np.zeros((1, D)), sequence.numpy()[b, prefixes[b, n]]])[None].astype(np.float32)
            alone = layer(targets[b : b + 1, n : n + 1], events, tf.constant(np.arange(events.shape[1])[None] > 0))
            close(alone[0, 0], together[b, n])


def test_one_mask_for_all_equals_the_same_mask_for_each(layer, inputs):
    targets, sequence, mask = inputs
    each = tf.repeat(mask[:, tf.newaxis], N, axis=1)
    np.testing.assert_array_equal(layer(targets, sequence, each), layer(*inputs))
