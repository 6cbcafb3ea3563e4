"""The causal decoder: what each position may read, cached decoding, raw heads of unit length."""

import numpy as np
import pytest
import tensorflow as tf

from amen_tf.layers.interest_flow_decoder import READOUTS, CausalAttention, InterestFlowDecoder, causal_mask
from tests.amen_tf.layers.harness import randomise

B, S, H, D = 4, 6, 2, 8


def heads_last(x):
    """`[B, H, S, d_head]` -> `[B, S, H, d_head]`."""
    return tf.transpose(x, (0, 2, 1, 3))


def make(layers=3, dropout=0.0, readout="heads"):
    decoder = InterestFlowDecoder(layers, H, D, dropout, 3, readout)
    decoder(tf.zeros((1, 2, D)), causal_mask(tf.ones((1, 2), tf.bool)))
    randomise(decoder)
    return decoder


@pytest.fixture(scope="module", params=READOUTS)
def decoder(request):
    return make(readout=request.param)


@pytest.fixture(scope="module")
def tokens():
    return tf.constant(np.random.default_rng(0).normal(size=(B, S, D)), tf.float32)


# Left padding of 0, 2, 5 and all tokens.
REAL = np.arange(S) >= np.array([[0], [2], [5], [6]])


def test_causal_mask_by_hand():
    # Padding, then two real tokens: the padding reads itself alone, nobody reads it.
    expected = [[[1, 0, 0], [0, 1, 0], [0, 1, 1]]]
    np.testing.assert_array_equal(causal_mask(tf.constant([[False, True, True]])), np.array(expected, bool))


def test_causal_mask_never_leaves_a_position_without_anything_to_read():
    assert causal_mask(tf.constant(REAL)).numpy().any(-1).all()


@pytest.mark.parametrize("layers", [1, 3])
def test_states_have_unit_length(tokens, layers):
    states, _ = make(layers)(tokens, causal_mask(tf.ones((B, S), tf.bool)))
    assert states.shape == (B, S, H, D // H)
    np.testing.assert_allclose(tf.norm(tf.reshape(states, (B, S, D)), axis=-1), np.ones((B, S)), rtol=1e-5)


def test_last_layer_gives_its_raw_heads(tokens):
    # One layer: attention by the normalised tokens over the values, and nothing after it but the scaling (Eq. 2).
    decoder, mask = make(layers=1), causal_mask(tf.constant(REAL))
    values = tf.constant(np.random.default_rng(1).normal(size=(B, S, D)), tf.float32)
    for read, states in ((tokens, decoder(tokens, mask)[0]), (values, decoder(tokens, mask, values=values)[0])):
        heads = heads_last(decoder.last(decoder.norm(tokens), mask, values=read)[0])
        length = np.linalg.norm(heads.numpy().reshape(B, S, D), axis=-1)[..., None, None]
        np.testing.assert_allclose(states, heads / length, rtol=1e-5, atol=1e-6)


def test_attention_equals_numpy(tokens):
    attention = CausalAttention(H, D, seed=3)
    mask = causal_mask(tf.constant(REAL))
    heads = heads_last(attention(tokens, mask)[0])
    x, width = tokens.numpy(), D // H
    query, key, value = (
        (x @ dense.kernel.numpy()).reshape(B, S, H, width)
        for dense in (attention.query, attention.key, attention.value)
    )
    for b in range(B):
        for s in range(S):
            may_read = mask.numpy()[b, s]
            for h in range(H):
                share = np.exp([query[b, s, h] @ key[b, p, h] / width**0.5 for p in range(S)]) * may_read
                expected = share / share.sum() @ value[b, :, h]
                np.testing.assert_allclose(heads[b, s, h], expected, rtol=1e-5, atol=1e-6)


def test_raw_heads_are_means_of_the_values(tokens):
    attention, mask = CausalAttention(H, D, seed=3), causal_mask(tf.ones((B, S), tf.bool))
    values = np.random.default_rng(1).normal(size=(B, S, D)).astype("f4")
    heads = heads_last(attention(tokens, mask, values=tf.constant(values))[0]).numpy().reshape(B, S, D)
    # The first position reads itself alone, the others lie between those that they read.
    np.testing.assert_allclose(heads[:, 0], values[:, 0], rtol=1e-6)
    for s in range(S):
        read = values[:, : s + 1]
        assert (heads[:, s] <= read.max(1) + 1e-6).all() and (heads[:, s] >= read.min(1) - 1e-6).all()
    assert not attention.value.built


def test_other_readouts_make_their_own_values(tokens):
    mask = causal_mask(tf.ones((B, S), tf.bool))
    for readout in READOUTS[1:]:
        decoder = InterestFlowDecoder(2, H, D, 0.0, 3, readout)
        plain = decoder(tokens, mask)[0]
        np.testing.assert_array_equal(decoder(tokens, mask, values=tf.ones_like(tokens))[0], plain)


def test_a_later_token_changes_no_earlier_state(decoder, tokens):
    mask = causal_mask(tf.ones((B, S), tf.bool))
    before = decoder(tokens, mask)[0].numpy()
    for changed in range(S):
        moved = tokens.numpy().copy()
        # Not by a constant: layer normalisation takes that out of queries and keys again.
        moved[:, changed] += np.arange(D)
        after = decoder(tf.constant(moved), mask)[0].numpy()
        np.testing.assert_array_equal(after[:, :changed], before[:, :changed])
        # Every later state has read it.
        assert (np.abs(after[:, changed:] - before[:, changed:]).max((0, 2, 3)) > 1e-4).all()


def test_padding_changes_no_real_state(decoder, tokens):
    mask = causal_mask(tf.constant(REAL))
    garbled = tf.where(REAL[..., None], tokens, 50.0)
    before, after = decoder(tokens, mask)[0].numpy(), decoder(garbled, mask)[0].numpy()
    np.testing.assert_array_equal(after[REAL], before[REAL])


def test_left_padding_equals_a_shorter_sequence(decoder, tokens):
    whole = decoder(tokens, causal_mask(tf.constant(REAL)))[0].numpy()
    for b, padding in enumerate((0, 2, 5)):
        short = tokens[b : b + 1, padding:]
        alone, _ = decoder(short, causal_mask(tf.ones((1, S - padding), tf.bool)))
        np.testing.assert_allclose(alone[0], whole[b, padding:], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("prompt", [1, 3, 5])
def test_step_by_step_with_a_cache_equals_one_pass(decoder, tokens, prompt):
    # Sums run over the same numbers in another order, hence the tolerance.
    real = tf.concat([REAL[:, :prompt], tf.ones((B, S - prompt), tf.bool)], 1)
    whole, caches_whole = decoder(tokens, causal_mask(real))
    states, caches = decoder(tokens[:, :prompt], causal_mask(real[:, :prompt]))
    states = [states]
    for step in range(prompt, S):
        state, caches = decoder(tokens[:, step : step + 1], real[:, tf.newaxis, : step + 1], caches)
        states.append(state)
    kept = real.numpy()
    np.testing.assert_allclose(tf.concat(states, 1).numpy()[kept], whole.numpy()[kept], rtol=1e-5, atol=1e-5)
    for one, other in zip(tf.nest.flatten(caches), tf.nest.flatten(caches_whole), strict=True):
        one, other = heads_last(one).numpy()[kept], heads_last(other).numpy()[kept]
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_several_new_positions_at_once_equal_one_pass(decoder, tokens):
    mask = causal_mask(tf.ones((B, S), tf.bool))
    whole, _ = decoder(tokens, mask)
    _, caches = decoder(tokens[:, :2], mask[:, :2, :2])
    rest, _ = decoder(tokens[:, 2:], mask[:, 2:, :], caches)
    np.testing.assert_allclose(rest, whole[:, 2:], rtol=1e-5, atol=1e-5)


def test_dropout_acts_in_training_only(tokens):
    decoder, mask = make(dropout=0.5), causal_mask(tf.ones((B, S), tf.bool))
    plain = decoder(tokens, mask)[0].numpy()
    np.testing.assert_array_equal(decoder(tokens, mask, training=False)[0], plain)
    assert (decoder(tokens, mask, training=True)[0].numpy() != plain).any()
