"""The generator's settings: parallel decoding, read-outs, the next item at every event."""

import math

import numpy as np
import pytest
import tensorflow as tf

from amen_tf import losses
from amen_tf.config import GeneratorSettings
from amen_tf.features import BEHAVIOR, FUTURE, ITEM_ID, MOVELINE, USER_KEY
from amen_tf.layers.interest_flow_decoder import READOUTS, InterestFlowDecoder, parallel_mask
from amen_tf.layers.request_encoder import with_prefix
from amen_tf.models.generator import Generator
from tests.amen_tf import batches
from tests.amen_tf.layers.harness import randomise

ROWS, L, T, H, D = 6, 7, 3, 2, 8
SEED = tf.constant([5, 0], tf.int64)


def make(spec, features, **settings):
    options = {"temperature": 0.5, "sampled_negatives": 5, "next_item_weight": 0.0, "item_dropout": 0.0, **settings}
    model = Generator(spec, GeneratorSettings(**options), batches.catalogue(spec))
    model(features)
    randomise(model)
    return model


def close(left, right, tolerance=1e-5):
    np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance)


def test_item_dropout_hides_ids_in_training_alone(spec, features):
    plain, hiding = make(spec, features), make(spec, features, item_dropout=0.9)
    future = with_prefix(features, FUTURE, spec.contract.item_fields)
    close(hiding(features), plain(features))
    close(hiding.item_vectors(future), plain.item_vectors(future))
    assert np.abs(hiding.item_vectors(future, training=True) - plain.item_vectors(future, training=True)).max() > 0.01
    terms = [float(hiding.compute_losses(features, training, SEED)["info_nce"]) for training in (False, False, True)]
    assert terms[0] == terms[1] != terms[2] and np.isfinite(terms[2])


def test_parallel_mask_by_hand():
    # One padded event, one real, two slots: slots read the real event and themselves, no event reads a slot.
    expected = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 1, 0, 1]]
    np.testing.assert_array_equal(parallel_mask(tf.constant([[False, True]]), 2)[0], np.array(expected, bool))


@pytest.fixture(scope="module", params=READOUTS)
def readout(request):
    return request.param


@pytest.fixture(scope="module", params=["autoregressive", "parallel"])
def decoder(request):
    return request.param


@pytest.fixture(scope="module")
def model(spec, features, decoder, readout):
    return make(spec, features, decoder=decoder, readout=readout)


def test_generation_equals_the_training_pass_on_what_was_generated(model, features):
    # Cached = uncached: with the parallel decoder there is one pass, with the other T passes with a cache.
    flow = model.generate(features)
    again = model.teacher_forced(features, flow.states, training=False).flow
    close(again.heads, flow.heads)
    close(again.previous, flow.previous)
    close(tf.norm(flow.states, axis=-1), np.ones((ROWS, T)))


def test_padding_changes_nothing_and_an_empty_moveline_is_finite(model, features):
    close(model(batches.garble(features)), model(features))
    assert np.isfinite(model(batches.without_history(features))).all()
    close(model(batches.rows(features, [1]))[0], model(features)[1])


def test_every_weight_has_a_gradient(model, features, decoder):
    # The parallel decoder has no use for the scale of what is fed back.
    unused = {"scale:0"} if decoder == "parallel" else set()
    with tf.GradientTape() as tape:
        loss = model.compute_losses(features, True, SEED)["loss"]
    for weight, gradient in zip(model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True):
        if weight.name.split("/")[-1] in unused:
            continue
        gradient = tf.convert_to_tensor(gradient).numpy()
        assert np.isfinite(gradient).all() and (gradient != 0).any(), weight.name


def test_parallel_states_do_not_read_future_items(spec, features):
    model = make(spec, features, decoder="parallel")
    items = model.item_vectors(with_prefix(features, FUTURE, spec.contract.item_fields))
    one = model.teacher_forced(features, items, training=False)
    other = model.teacher_forced(features, tf.reverse(items, [1]), training=False)
    np.testing.assert_array_equal(one.flow.states, other.flow.states)
    # And each slot is another step: where the user has done something, states differ.
    states = one.flow.states.numpy()[features[MOVELINE + BEHAVIOR].numpy().any(-1)]
    assert np.abs(states[:, 1:] - states[:, :-1]).max(-1).min() > 1e-3


def test_states_at_events_read_nothing_after_them(model, features):
    items = model.item_vectors(with_prefix(features, FUTURE, model.spec.contract.item_fields))
    before = model.teacher_forced(features, items, training=False).events.numpy()
    changed = dict(features)
    last = features[MOVELINE + ITEM_ID].numpy().copy()
    last[:, -1] = np.where(last[:, -1] > 0, 1 + last[:, -1] % 40, 0)
    changed[MOVELINE + ITEM_ID] = tf.constant(last)
    after = model.teacher_forced(changed, items, training=False).events.numpy()
    np.testing.assert_array_equal(after[:, :-1], before[:, :-1])
    assert (after[1, -1] != before[1, -1]).any()


def test_projection_mixes_the_heads_before_they_are_cut():
    x, mask = tf.random.stateless_normal((2, 4, D), (1, 2)), tf.linalg.band_part(tf.ones((2, 4, 4)), -1, 0) > 0
    decoder = InterestFlowDecoder(1, H, D, 0.0, 3, "projection")
    decoder(x, mask)
    randomise(decoder)
    heads, _ = decoder.last(decoder.norm(x), mask)
    merged = np.transpose(heads.numpy(), (0, 2, 1, 3)).reshape(2, 4, D)
    expected = merged @ decoder.projection.kernel.numpy() + decoder.projection.bias.numpy()
    expected /= np.linalg.norm(expected, axis=-1, keepdims=True)
    close(decoder(x, mask)[0], expected.reshape(2, 4, H, D // H))


def test_ffn_is_a_whole_block_and_a_norm():
    x, mask = tf.random.stateless_normal((2, 4, D), (1, 2)), tf.linalg.band_part(tf.ones((2, 4, 4)), -1, 0) > 0
    decoder = InterestFlowDecoder(2, H, D, 0.0, 3, "ffn")
    decoder(x, mask)
    randomise(decoder)
    expected = x
    for block in decoder.blocks:
        expected, _ = block(expected, mask)
    assert len(decoder.blocks) == 2
    expected = decoder.norm(expected).numpy()
    expected /= np.linalg.norm(expected, axis=-1, keepdims=True)
    close(decoder(x, mask)[0], expected.reshape(2, 4, H, D // H))


def test_unknown_readout_is_refused():
    with pytest.raises(ValueError, match="one of heads, event_heads, projection, ffn, got 'mean'"):
        InterestFlowDecoder(2, H, D, 0.0, 3, "mean")


@pytest.mark.parametrize("targets", ["all", "new"])
def test_next_item_loss_equals_plain_loops(spec, features, targets):
    # Rows 1 and 3 are one user. In row 1 an item comes back, with another and with none between.
    ids = features[MOVELINE + ITEM_ID].numpy()
    ids[1, -4:] = [4, 5, 4, 4]
    features = features | {MOVELINE + ITEM_ID: tf.constant(ids)}
    features = features | {USER_KEY: tf.constant([0, 1, 2, 1, 4, 5], tf.int64)}
    drawn, temperature = 20, 0.5
    model = make(spec, features, sampled_negatives=drawn, next_item_weight=0.7, targets=targets)
    terms = model.compute_losses(features, False, SEED)
    catalogue, users = model.catalogue, features[USER_KEY].numpy()
    future = with_prefix(features, FUTURE, spec.contract.item_fields)
    future_items, future_ids = model.item_vectors(future).numpy(), future[ITEM_ID].numpy()
    states = model.teacher_forced(features, model.item_vectors(future), False).events.numpy()
    moveline = with_prefix(features, MOVELINE, spec.contract.item_fields)
    vectors, ids = model.item_vectors(moveline).numpy(), moveline[ITEM_ID].numpy()
    real = features[MOVELINE + "behavior"].numpy() > 0
    sample = catalogue.sample(drawn, SEED)
    sampled, sampled_ids = model.item_vectors(sample).numpy(), sample[ITEM_ID].numpy()

    def score(state, vector, item):
        probability = (ROWS * catalogue.frequency[item] + drawn / catalogue.size) / (ROWS + drawn)
        return state @ vector / temperature - math.log(probability)

    found = []
    for b in range(ROWS):
        for i in range(L - 1):
            item = ids[b, i + 1]
            if not real[b, i] or item == 0 or (targets == "new" and item in ids[b, : i + 1]):
                continue
            positive = score(states[b, i], vectors[b, i + 1], item)
            pool = [
                score(states[b, i], future_items[c, 0], future_ids[c, 0])
                for c in range(ROWS)
                if users[c] != users[b] and future_ids[c, 0] not in (0, item)
            ]
            pool += [score(states[b, i], v, n) for v, n in zip(sampled, sampled_ids, strict=True) if n not in (0, item)]
            found.append(math.log(sum(math.exp(x - positive) for x in [positive, *pool])))
    assert len(found) > 8
    assert float(terms["next_item"]) == pytest.approx(np.mean(found), rel=1e-5)
    without = float(terms["info_nce"]) + 0.1 * float(terms["diversity"]) + 0.01 * float(terms["velocity"])
    assert float(terms["loss"]) == pytest.approx(without + 0.7 * np.mean(found), rel=1e-5)


def test_next_item_of_empty_movelines_is_zero(spec, features):
    model = make(spec, features, next_item_weight=1.0)
    terms = model.compute_losses(batches.without_history(features), False, SEED)
    assert float(terms["next_item"]) == 0.0 and np.isfinite(float(terms["loss"]))
    assert "next_item" in {metric.name for metric in model.metrics}


def test_known_items_are_no_targets(spec, features):
    # Row 1 goes on with an item of its moveline.
    known = features[MOVELINE + ITEM_ID].numpy()[1, -1]
    ids = features[FUTURE + ITEM_ID].numpy()
    ids[1, 1] = known
    features = features | {FUTURE + ITEM_ID: tf.constant(ids)}
    everything, new = (make(spec, features, targets=targets) for targets in ("all", "new"))
    future = with_prefix(features, FUTURE, spec.contract.item_fields)
    items = new.item_vectors(future)
    states = new.teacher_forced(features, items, False).flow.states
    pool = new._pool(items, future[ITEM_ID], features[USER_KEY], SEED, False)
    scores = new._window_scores(states, items, future[ITEM_ID], pool)
    moveline = features[MOVELINE + ITEM_ID].numpy()
    is_new = (ids != 0) & (ids[:, :, None] != moveline[:, None, :]).all(-1)
    assert known != 0 and not is_new[1, 1] and is_new.any()
    terms = new.compute_losses(features, False, SEED)
    close(terms["info_nce"], losses.info_nce(*scores, tf.constant(is_new)))
    plain = everything.compute_losses(features, False, SEED)
    close(plain["info_nce"], losses.info_nce(*scores, tf.constant(ids != 0)))
    assert abs(float(plain["info_nce"]) - float(terms["info_nce"])) > 1e-3
    # Every state of the flow counts in the other terms.
    close([terms["diversity"], terms["velocity"]], [plain["diversity"], plain["velocity"]])
