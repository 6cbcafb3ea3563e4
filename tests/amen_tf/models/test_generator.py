"""The generator: decoding, what each loss term is made of, and which negatives count."""

import math

import numpy as np
import pytest
import tensorflow as tf

from amen_tf import losses
from amen_tf.config import GeneratorSettings
from amen_tf.features import FUTURE, ITEM_ID, MOVELINE, USER_KEY
from amen_tf.layers.request_encoder import with_prefix
from amen_tf.models.generator import FlowTokens, Generator, concat_heads
from amen_tf.models.negatives import Catalogue
from tests.amen_tf import batches
from tests.amen_tf.layers.harness import randomise

ROWS, T, H, D = 6, 3, 2, 8
SEED = tf.constant([5, 0], tf.int64)


def make(spec, features, catalogue=None, **settings):
    """A generator with noise in every weight, and the sharpest of temperatures that still leaves all terms visible."""
    options = {"temperature": 0.5, "next_item_weight": 0.0, "item_dropout": 0.0, **settings}
    model = Generator(spec, GeneratorSettings(**options), catalogue or batches.catalogue(spec))
    model(features)
    randomise(model)
    return model


def close(left, right, tolerance=1e-5):
    np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance)


def test_flow_is_t_unit_vectors(generator, features):
    flow = generator.generate(features)
    assert flow.heads.shape == (ROWS, T, H, D // H) and flow.previous.shape == (ROWS, D)
    assert flow.states.dtype == tf.float32
    close(tf.norm(flow.states, axis=-1), np.ones((ROWS, T)))
    np.testing.assert_array_equal(generator(features), flow.states)


def test_states_are_their_heads_in_order():
    heads = tf.reshape(tf.range(12), (1, 2, 3, 2))
    np.testing.assert_array_equal(concat_heads(heads), [[[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]])


def test_feeding_the_generated_states_as_items_gives_the_same_states(generator, features):
    # Teacher forcing in one pass and step-by-step decoding with a cache are one and the same function.
    flow = generator.generate(features)
    again = generator.teacher_forced(features, flow.states, training=False).flow
    close(again.heads, flow.heads)
    close(again.previous, flow.previous)


def test_teacher_forcing_reads_the_items_before_and_no_later_one(generator, features):
    items = generator.item_vectors(with_prefix(features, FUTURE, generator.spec.contract.item_fields))
    before = generator.teacher_forced(features, items, training=False).flow.states.numpy()
    for step in range(T):
        moved = items.numpy().copy()
        moved[:, step] = np.random.default_rng(step).normal(size=(ROWS, D))
        after = generator.teacher_forced(features, tf.constant(moved), training=False).flow.states.numpy()
        np.testing.assert_array_equal(after[:, : step + 1], before[:, : step + 1])
        assert step == T - 1 or (np.abs(after - before).max((0, 2))[step + 1 :] > 1e-4).all()


def test_only_the_moveline_is_read(generator, features):
    moveline = {name: column for name, column in features.items() if name.startswith(MOVELINE)}
    np.testing.assert_array_equal(generator(moveline), generator(features))


def test_padded_events_change_nothing(generator, features):
    flow, garbled = generator.generate(features), generator.generate(batches.garble(features))
    np.testing.assert_array_equal(garbled.states, flow.states)
    np.testing.assert_array_equal(garbled.previous, flow.previous)


def test_requests_do_not_see_one_another(generator, features):
    whole = generator(features)
    for row in (0, 1, 3):
        close(generator(batches.rows(features, [row]))[0], whole[row])


def test_empty_moveline_has_a_flow_without_first_velocity(generator, features):
    flow = generator.generate(features)
    assert not features["moveline_behavior"][0].numpy().any()
    velocity = losses.velocity(flow.states, flow.previous).numpy()
    assert np.isfinite(velocity).all()
    np.testing.assert_array_equal(velocity[0, 0], 0.0)
    # Nothing is known of this user: the flow is what the model has learned to say then, at every step. Others move.
    nothing = tf.nn.l2_normalize(generator.values.nothing)
    np.testing.assert_allclose(flow.states[0], np.broadcast_to(nothing, flow.states[0].shape), atol=1e-6)
    assert np.abs(velocity[1]).max(-1).min() > 1e-3


def test_state_before_t0_is_the_state_at_the_newest_event(generator, features):
    # A request whose newest event is taken off ends one event earlier; nothing after that event may matter.
    flow = generator.generate(features)
    later = {**features, "future_item_id": tf.ones_like(features["future_item_id"])}
    items = tf.ones((ROWS, T, D))
    np.testing.assert_allclose(generator.teacher_forced(later, items, False).flow.previous, flow.previous, atol=1e-6)
    moved = tf.where(features["moveline_behavior"] > 1, tf.ones_like(features["moveline_behavior"]), 2)
    changed = {**features, "moveline_behavior": tf.where(features["moveline_behavior"] > 0, moved, 0)}
    difference = np.abs(generator.generate(changed).previous - flow.previous).max(1)
    assert (difference[features["moveline_behavior"].numpy()[:, -1] > 0] > 1e-4).all()


def test_one_step_flow(features):
    spec = batches.spec(flow=1)
    one = batches.batch(spec)
    model = make(spec, one, sampled_negatives=3)
    flow = model.generate(one)
    assert flow.states.shape == (ROWS, 1, D)
    close(model.teacher_forced(one, tf.zeros((ROWS, 1, D)), training=False).flow.heads, flow.heads)
    terms = model.compute_losses(one, True, SEED)
    assert float(terms["velocity"]) == 0.0 and float(terms["info_nce"]) > 0


def test_tokens_are_scaled_vectors_plus_their_step():
    tokens = FlowTokens(T, D, 0.3, seed=1)
    vectors = tf.constant(np.random.default_rng(0).normal(size=(2, T - 1, D)), tf.float32)
    all_at_once = tokens(vectors)
    # The first scale brings a unit vector to the length of an embedding: std * sqrt(d).
    assert float(tokens.scale) == pytest.approx(0.3 * D**0.5)
    close(all_at_once[:, 0], np.tile(tokens.step[0], (2, 1)))
    for step in range(1, T):
        close(all_at_once[:, step], vectors[:, step - 1] * tokens.scale + tokens.step[step])
        close(tokens.next(vectors[:, step - 1 : step], step)[:, 0], all_at_once[:, step])


def test_item_vectors_have_unit_length_and_padding_has_none(generator):
    item = {field: tf.constant([0, 3], tf.int64) for field in generator.spec.contract.item_fields}
    vectors = generator.item_vectors(item).numpy()
    assert (vectors[0] == 0).all()
    assert np.linalg.norm(vectors[1]) == pytest.approx(1.0, rel=1e-5)


def test_total_is_eq_6_of_its_parts(spec, features):
    settings = {"sampled_negatives": 5, "diversity_weight": 0.3, "velocity_weight": 0.7}
    terms = make(spec, features, **settings).compute_losses(features, True, SEED)
    terms = {name: float(value) for name, value in terms.items()}
    assert all(terms[name] > 0 for name in ("info_nce", "diversity", "velocity"))
    assert terms["loss"] == pytest.approx(
        terms["info_nce"] + 0.3 * terms["diversity"] + 0.7 * terms["velocity"], rel=1e-6
    )


def test_weights_of_zero_switch_the_regularisers_off(spec, features):
    terms = make(spec, features, sampled_negatives=5, diversity_weight=0, velocity_weight=0).compute_losses(
        features, True, SEED
    )
    assert float(terms["loss"]) == float(terms["info_nce"])


def test_info_nce_and_accuracy_equal_plain_loops(spec, features):
    # Rows 1 and 3 are one user.
    features = features | {USER_KEY: tf.constant([0, 1, 2, 1, 4, 5], tf.int64)}
    drawn, temperature = 20, 0.5
    model = make(spec, features, sampled_negatives=drawn)
    terms = model.compute_losses(features, False, SEED)
    catalogue, users = model.catalogue, features[USER_KEY].numpy()
    future = with_prefix(features, FUTURE, spec.contract.item_fields)
    items, ids = model.item_vectors(future), future[ITEM_ID].numpy()
    states, items = model.teacher_forced(features, items, False).flow.states.numpy(), items.numpy()
    sample = catalogue.sample(drawn, SEED)
    sampled, sampled_ids = model.item_vectors(sample).numpy(), sample[ITEM_ID].numpy()

    def score(state, vector, item):
        # The chance that one of the B + M places of the pool holds the item.
        probability = (ROWS * catalogue.frequency[item] + drawn / catalogue.size) / (ROWS + drawn)
        return state @ vector / temperature - math.log(probability)

    total, hits, masked = 0.0, [], 0
    for b in range(ROWS):
        for t in range(T):
            if ids[b, t] == 0:
                continue
            positive, pool = score(states[b, t], items[b, t], ids[b, t]), []
            for c in range(ROWS):
                if users[c] != users[b] and ids[c, t] != 0 and ids[c, t] not in ids[b]:
                    pool.append(score(states[b, t], items[c, t], ids[c, t]))
            for vector, item in zip(sampled, sampled_ids, strict=True):
                if item in ids[b]:
                    masked += 1
                    continue
                pool.append(score(states[b, t], vector, item))
            total += math.log(sum(math.exp(x - positive) for x in [positive, *pool]))
            hits.append(positive > max(pool))
    assert masked > 0
    assert float(terms["info_nce"]) == pytest.approx(total / (ids > 0).any(1).sum(), rel=1e-5)
    assert float(terms["accuracy"]) == pytest.approx(np.mean(hits), rel=1e-6)


def in_batch_only(spec, features, future, users, **changes):
    """L_G where each row's future items are `future` and no negatives are drawn beside those of the batch."""
    rows = len(future)
    features = batches.rows(features, list(range(rows)))
    ids = tf.constant(future, tf.int64)
    present = tf.cast(ids > 0, tf.int64)
    features |= {FUTURE + field: present for field in spec.contract.item_fields} | {FUTURE + ITEM_ID: ids}
    features |= {USER_KEY: tf.constant(users, tf.int64), **changes}
    return float(make(spec, features, sampled_negatives=0).compute_losses(features, False, SEED)["info_nce"])


# With every negative masked, the positive is the whole pool and the loss is 0.
def test_other_users_items_are_negatives(spec, features):
    assert in_batch_only(spec, features, [[1, 2, 3], [4, 5, 6]], [1, 2]) > 0.1


def test_same_user_gives_no_negatives(spec, features):
    assert in_batch_only(spec, features, [[1, 2, 3], [4, 5, 6]], [1, 1]) == 0.0


def test_same_item_is_no_negative(spec, features):
    assert in_batch_only(spec, features, [[1, 2, 3], [1, 2, 3]], [1, 2]) == 0.0


def test_own_items_of_other_steps_are_no_negatives(spec, features):
    assert in_batch_only(spec, features, [[1, 2, 3], [2, 3, 1]], [1, 2]) == 0.0


def test_missing_steps_of_others_are_no_negatives(spec, features):
    # Row 1 ends after its first item, which is row 0's own.
    assert in_batch_only(spec, features, [[1, 2, 3], [1, 0, 0]], [1, 2]) == 0.0


def test_no_future_at_all_is_zero(spec, features):
    assert in_batch_only(spec, features, [[0, 0, 0], [0, 0, 0]], [1, 2]) == 0.0


def test_own_items_are_no_sampled_negatives(spec, features):
    # The catalogue holds the row's own items and nothing else.
    own = Catalogue({field: np.array([1, 2, 3]) for field in spec.contract.item_fields}, np.full(50, 0.02, np.float32))
    one = batches.rows(features, [1]) | {
        FUTURE + field: tf.constant([[1, 2, 3]], tf.int64) for field in spec.contract.item_fields
    }
    terms = make(spec, one, own, sampled_negatives=8).compute_losses(one, False, SEED)
    assert float(terms["info_nce"]) == 0.0 and float(terms["accuracy"]) == 1.0
    other = one | {FUTURE + ITEM_ID: tf.constant([[1, 2, 4]], tf.int64)}
    assert float(make(spec, other, own, sampled_negatives=8).compute_losses(other, False, SEED)["info_nce"]) > 0.1


def test_every_weight_has_a_gradient(spec, features):
    model = make(spec, features, sampled_negatives=5)
    with tf.GradientTape() as tape:
        loss = model.compute_losses(features, True, SEED)["loss"]
    gradients = tape.gradient(loss, model.trainable_variables)
    for weight, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert gradient is not None, weight.name
        gradient = tf.convert_to_tensor(gradient).numpy()
        assert np.isfinite(gradient).all() and (gradient != 0).any(), weight.name


def test_figures_are_the_terms_of_eq_6_and_accuracy(generator):
    assert {metric.name for metric in generator.metrics} == {"loss", "info_nce", "diversity", "velocity", "accuracy"}
