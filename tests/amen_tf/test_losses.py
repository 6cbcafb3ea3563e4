"""The losses of the paper: numbers by hand, a float64 NumPy version in plain loops, gradients, masks, properties."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from amen_tf import losses
from tests.mutants import mutant

B, T, C, H, HEAD, N = 5, 3, 4, 3, 2, 4


def numpy_info_nce(positive, negatives, negative_mask, mask):
    total, rows = 0.0, 0
    for b in range(len(mask)):
        rows += mask[b].any()
        for t in np.flatnonzero(mask[b]):
            pool = [positive[b, t]] + [negatives[b, t, c] for c in np.flatnonzero(negative_mask[b, t])]
            total -= math.log(math.exp(positive[b, t]) / sum(math.exp(score) for score in pool))
    return total / max(rows, 1)


def numpy_head_similarity(heads):
    """One state: the mean over pairs i < j of cos^2."""
    pairs = [(i, j) for i in range(len(heads)) for j in range(i + 1, len(heads))]
    cosines = [heads[i] @ heads[j] / (np.linalg.norm(heads[i]) * np.linalg.norm(heads[j])) for i, j in pairs]
    return sum(cosine**2 for cosine in cosines) / len(pairs)


def numpy_diversity(heads, mask):
    total = sum(numpy_head_similarity(heads[b, t]) for b, t in zip(*np.nonzero(mask), strict=True))
    return total / max(sum(mask.any(1)), 1)


def numpy_velocity_loss(flow, previous, mask):
    total, rows = 0.0, 0
    for b in range(len(mask)):
        rows += mask[b, 1:].any()
        states = [previous[b], *flow[b]]
        for t in range(1, flow.shape[1]):
            # states[t + 1] is the state of step t, because f of t0 - 1 stands first.
            change = (states[t + 1] - states[t]) - (states[t] - states[t - 1])
            total += mask[b, t] * sum(x * x for x in change)
    return total / max(rows, 1)


def numpy_cross_entropy(logits, labels, mask):
    terms = []
    for b, n in zip(*np.nonzero(mask), strict=True):
        probability = 1 / (1 + math.exp(-logits[b, n]))
        terms.append(-math.log(probability if labels[b, n] else 1 - probability))
    return sum(terms) / max(len(terms), 1)


def numpy_info_nce_mean(positive, negatives, negative_mask, mask):
    states = int(mask.sum())
    rows = max(int(mask.any(1).sum()), 1)
    return numpy_info_nce(positive, negatives, negative_mask, mask) * rows / max(states, 1)


def numpy_tsp_of_all(score, diff_score, diff_label, mask):
    signs = [1 if clicked else -1 for clicked in diff_label[mask]]
    terms = [-math.log(1 / (1 + math.exp(-i * x))) for i, x in zip(signs, (diff_score - score)[mask], strict=True)]
    return sum(terms) / max(len(terms), 1)


def numpy_tsp(score, diff_score, diff_label, mask):
    terms = {1: [], -1: []}
    for b, n in zip(*np.nonzero(mask), strict=True):
        indicator = 1 if diff_label[b, n] else -1
        terms[indicator].append(math.log(1 + math.exp(-indicator * (diff_score[b, n] - score[b, n]))))
    means = [sum(of_sign) / len(of_sign) for of_sign in terms.values() if of_sign]
    return sum(means) / max(len(means), 1)


class Case(NamedTuple):
    """A loss, its plain version, shapes of the inputs that have gradients, and the others `(rng) -> [..., mask]`."""

    function: Callable
    reference: Callable
    shapes: tuple[tuple[int, ...], ...]
    others: Callable[[np.random.Generator], list[np.ndarray]]

    def draw(self, seed):
        rng = np.random.default_rng(seed)
        return [rng.normal(size=shape) for shape in self.shapes], self.others(rng)


def bits(rng, *shape):
    return rng.random(shape) < 0.6


CASES = {
    "eq_1": Case(
        losses.info_nce, numpy_info_nce, ((B, T), (B, T, C)), lambda rng: [bits(rng, B, T, C), bits(rng, B, T)]
    ),
    "eq_3": Case(losses.diversity_loss, numpy_diversity, ((B, T, H, HEAD),), lambda rng: [bits(rng, B, T)]),
    "eq_5": Case(
        losses.velocity_loss, numpy_velocity_loss, ((B, T, H * HEAD), (B, H * HEAD)), lambda rng: [bits(rng, B, T)]
    ),
    "cross_entropy": Case(
        lambda logits, labels, mask: losses.cross_entropy(labels, logits, mask),
        numpy_cross_entropy,
        ((B, N),),
        lambda rng: [bits(rng, B, N).astype(np.float32), bits(rng, B, N)],
    ),
    "eq_1_mean": Case(
        losses.info_nce_mean,
        numpy_info_nce_mean,
        ((B, T), (B, T, C)),
        lambda rng: [bits(rng, B, T, C), bits(rng, B, T)],
    ),
    "eq_9": Case(
        losses.tsp_loss,
        numpy_tsp_of_all,
        ((B, N), (B, N)),
        lambda rng: [bits(rng, B, N).astype(np.float32), bits(rng, B, N)],
    ),
    "eq_9_balanced": Case(
        functools.partial(losses.tsp_loss, balanced=True),
        numpy_tsp,
        ((B, N), (B, N)),
        lambda rng: [bits(rng, B, N).astype(np.float32), bits(rng, B, N)],
    ),
}
by_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def value_and_gradients(case, floats, others):
    inputs = [tf.constant(x, tf.float32) for x in floats]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        loss = case.function(*inputs, *map(tf.constant, others))
    return loss.numpy(), [gradient.numpy() for gradient in tape.gradient(loss, inputs)]


@by_case
@pytest.mark.parametrize("seed", range(4))
def test_equals_numpy(case, seed):
    floats, others = case.draw(seed)
    loss, _ = value_and_gradients(case, floats, others)
    assert loss.shape == ()
    np.testing.assert_allclose(loss, case.reference(*floats, *others), rtol=1e-5, atol=1e-5)


@by_case
def test_gradients_equal_differences_of_numpy(case):
    floats, others = case.draw(7)
    _, gradients = value_and_gradients(case, floats, others)
    for values, gradient in zip(floats, gradients, strict=True):
        expected = np.zeros_like(values)
        for index in np.ndindex(values.shape):
            middle, step, around = values[index], 1e-5, []
            for moved in (middle + step, middle - step):
                values[index] = moved
                around.append(case.reference(*floats, *others))
            values[index] = middle
            expected[index] = (around[0] - around[1]) / (2 * step)
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)


@by_case
@pytest.mark.parametrize("size", [0.0, 1.0, 80.0])
def test_gradients_are_finite(case, size):
    # 0: heads and states without length. 80: exp() of it is the largest that float32 holds, so sums would overflow.
    floats, others = case.draw(8)
    loss, gradients = value_and_gradients(case, [size * np.sign(x) for x in floats], others)
    assert np.isfinite(loss) and all(np.isfinite(g).all() for g in gradients)


@by_case
@pytest.mark.parametrize("size", [0.0, 1.0, 1e4])
def test_all_masked_is_zero_with_zero_gradients(case, size):
    floats, others = case.draw(9)
    others[-1] = np.zeros_like(others[-1])
    loss, gradients = value_and_gradients(case, [size * x for x in floats], others)
    assert loss == 0.0
    assert all((g == 0.0).all() for g in gradients)


@by_case
def test_what_is_masked_does_not_matter(case):
    floats, others = case.draw(10)
    mask = others[-1]
    loss, gradients = value_and_gradients(case, floats, others)
    garbled = [x.copy() for x in floats]
    if case.function is losses.velocity_loss:
        # States are used by the terms of later steps too: only a masked last step is out of sight.
        mask = mask & (np.arange(T) < T - 1)
        others = [mask]
        loss, gradients = value_and_gradients(case, floats, others)
        garbled[0][:, -1] = 50.0
    else:
        for values in garbled:
            values[~mask] = 50.0
    again, gradients_again = value_and_gradients(case, garbled, others)
    assert again == loss
    if case.function is not losses.velocity_loss:
        assert all((g[~mask] == 0).all() for g in gradients_again)
    assert any((g != 0).any() for g in gradients)


@pytest.fixture(params=range(4))
def stage1(request):
    """Inputs of Eq. (6): those of its three terms, with one mask for all."""
    (scores, (negative_mask, mask)), (states, _), (heads, _) = (
        CASES[name].draw(request.param) for name in ("eq_1", "eq_5", "eq_3")
    )
    return [*scores, *heads, *states], negative_mask, mask


def eq_6(term, loss, floats, negative_mask, mask):
    """Eq. (6) with α = 0.3 and β = 0.2, its terms by `term`."""
    positive, negatives, heads, *states = floats
    generative = term("eq_1")(positive, negatives, negative_mask, mask)
    return loss(generative, term("eq_3")(heads, mask), term("eq_5")(*states, mask), 0.3, 0.2)


def test_eq_6_equals_numpy_and_has_the_gradients_of_its_terms(stage1):
    floats, negative_mask, mask = stage1
    plain = eq_6(lambda n: CASES[n].reference, lambda g, d, v, a, b: g + a * d + b * v, floats, negative_mask, mask)
    inputs = [tf.constant(x, tf.float32) for x in floats]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        loss = eq_6(
            lambda n: CASES[n].function, losses.stage1_loss, inputs, tf.constant(negative_mask), tf.constant(mask)
        )
    np.testing.assert_allclose(loss, plain, rtol=1e-5, atol=1e-5)
    of_terms = [
        [1.0 * g for g in value_and_gradients(CASES["eq_1"], floats[:2], [negative_mask, mask])[1]],
        [0.3 * g for g in value_and_gradients(CASES["eq_3"], floats[2:3], [mask])[1]],
        [0.2 * g for g in value_and_gradients(CASES["eq_5"], floats[3:], [mask])[1]],
    ]
    for found, expected in zip(tape.gradient(loss, inputs), sum(of_terms, []), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    nothing = tf.zeros_like(mask)
    empty = eq_6(lambda n: CASES[n].function, losses.stage1_loss, inputs, tf.constant(negative_mask), nothing)
    assert empty == 0.0


@pytest.mark.parametrize("seed", range(4))
def test_eq_10_equals_numpy_and_has_the_gradients_of_its_terms(seed):
    (logits, (labels, mask)), (scores, (diff_labels, pairs)) = (
        CASES["cross_entropy"].draw(seed),
        CASES["eq_9"].draw(seed),
    )
    plain = numpy_cross_entropy(*logits, labels, mask) + 0.4 * numpy_tsp_of_all(*scores, diff_labels, pairs)
    inputs = [tf.constant(x, tf.float32) for x in (*logits, *scores)]

    def eq_10(mask, pairs):
        click = losses.cross_entropy(tf.constant(labels), inputs[0], mask)
        return losses.stage2_loss(click, losses.tsp_loss(*inputs[1:], tf.constant(diff_labels), pairs), 0.4)

    with tf.GradientTape() as tape:
        tape.watch(inputs)
        loss = eq_10(tf.constant(mask), tf.constant(pairs))
    np.testing.assert_allclose(loss, plain, rtol=1e-5, atol=1e-5)
    of_terms = value_and_gradients(CASES["cross_entropy"], logits, [labels, mask])[1]
    of_terms += [0.4 * g for g in value_and_gradients(CASES["eq_9"], scores, [diff_labels, pairs])[1]]
    for found, expected in zip(tape.gradient(loss, inputs), of_terms, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert eq_10(tf.zeros_like(mask), tf.zeros_like(pairs)) == 0.0


def test_info_nce_by_hand():
    # Row 0, t0: e^positive = 3 against 1 and 2: -log(3 / 6) = log 2.
    # Row 0, t1: 1 against 3, the other negative is masked:  -log(1 / 4) = log 4.
    # Row 1: no future, so it is no row of the mean. Row 2, t0: log 2 as above; t1 is masked.
    # Mean over the two rows that have a future: (log 8 + log 2) / 2 = log 4.
    positive = np.log([[3, 1], [5, 5], [3, 9]])
    negatives = np.log([[[1, 2], [3, 9]], [[1, 1], [1, 1]], [[1, 2], [1, 1]]])
    negative_mask = np.array([[[1, 1], [1, 0]], [[1, 1], [1, 1]], [[1, 1], [1, 1]]], bool)
    mask = np.array([[1, 1], [0, 0], [1, 0]], bool)
    loss = losses.info_nce(tf.constant(positive, tf.float32), tf.constant(negatives, tf.float32), negative_mask, mask)
    np.testing.assert_allclose(loss, math.log(4), rtol=1e-6)


def test_info_nce_mean_by_hand():
    # The states of the test above: log 2, log 4 and log 2; their mean is 4/3 log 2, whatever rows they are of.
    positive = np.log([[3, 1], [5, 5], [3, 9]])
    negatives = np.log([[[1, 2], [3, 9]], [[1, 1], [1, 1]], [[1, 2], [1, 1]]])
    negative_mask = np.array([[[1, 1], [1, 0]], [[1, 1], [1, 1]], [[1, 1], [1, 1]]], bool)
    mask = np.array([[1, 1], [0, 0], [1, 0]], bool)
    scores = tf.constant(positive, tf.float32), tf.constant(negatives, tf.float32)
    np.testing.assert_allclose(losses.info_nce_mean(*scores, negative_mask, mask), 4 / 3 * math.log(2), rtol=1e-6)


def test_info_nce_without_negatives_is_zero():
    # The pool is the positive alone, whose share of itself is 1.
    none = np.zeros((B, T, C), bool)
    floats, (_, mask) = CASES["eq_1"].draw(0)
    loss, gradients = value_and_gradients(CASES["eq_1"], floats, [none, mask])
    assert loss == 0.0
    assert all(np.isfinite(g).all() for g in gradients)


def test_info_nce_falls_with_the_positive_and_rises_with_negatives():
    floats, (negative_mask, mask) = CASES["eq_1"].draw(1)
    negative_mask[:, :, 0] = True
    _, (positive, negatives) = value_and_gradients(CASES["eq_1"], floats, [negative_mask, mask])
    assert (positive[mask] < 0).all()
    counted = negative_mask & mask[:, :, None]
    assert (negatives[counted] > 0).all()
    assert (negatives[~counted] == 0).all()


def test_info_nce_ignores_masked_negatives():
    floats, others = CASES["eq_1"].draw(2)
    loss, _ = value_and_gradients(CASES["eq_1"], floats, others)
    floats[1][~others[0]] = 60.0
    assert value_and_gradients(CASES["eq_1"], floats, others)[0] == loss


def test_diversity_by_hand():
    # t0: h = (1, 0), (1, 1), (0, 2): cos^2 of the pairs 1/2, 0, 1/2; their mean is 1/3.
    # t1: three parallel heads of different lengths, one reversed: cos^2 = 1 throughout.
    # Row 0 counts both: 1/3 + 1. Row 1 counts t0 alone: 1/3. Row 2 counts nothing. Mean of rows 0 and 1: 5/6.
    states = [[[1, 0], [1, 1], [0, 2]], [[1, 2], [2, 4], [-1, -2]]]
    mask = np.array([[1, 1], [1, 0], [0, 0]], bool)
    heads = tf.constant([states, states, states], tf.float32)
    np.testing.assert_allclose(losses.head_similarity(heads)[0], [1 / 3, 1], rtol=1e-6)
    np.testing.assert_allclose(losses.diversity_loss(heads, mask), 5 / 6, rtol=1e-6)


def test_diversity_score_of_orthogonal_and_of_equal_heads():
    orthogonal = tf.constant([[[[3, 0, 0], [0, -1, 0], [0, 0, 2]]]], tf.float32)
    equal = tf.constant([[[[1, -2, 3]] * 3]], tf.float32)
    np.testing.assert_allclose(1 - losses.head_similarity(orthogonal), 1.0, atol=1e-7)
    np.testing.assert_allclose(1 - losses.head_similarity(equal), 0.0, atol=1e-6)


def test_diversity_score_lies_in_0_1_at_any_scale():
    # Two heads of two numbers: three of them could not be orthogonal, so the score would end at 3/4.
    heads = np.random.default_rng(3).normal(size=(200, T, 2, 2)).astype(np.float32)
    score = 1 - losses.head_similarity(tf.constant(heads)).numpy()
    # One unit of the last place beside the ends: cos^2 is not computed exactly.
    assert score.min() > -1e-6 and score.max() <= 1.0
    assert score.min() < 0.1 and score.max() > 0.9
    np.testing.assert_allclose(1 - losses.head_similarity(tf.constant(1000 * heads)), score, atol=1e-5)


def test_velocity_by_hand():
    # f_{t0-1} = (0, 1), then (1, 1), (1, 3), (0, 0).
    flow = tf.constant([[[1, 1], [1, 3], [0, 0]]], tf.float32)
    previous = tf.constant([[0, 1]], tf.float32)
    np.testing.assert_array_equal(losses.velocity(flow, previous), [[[1, 0], [0, 2], [-1, -3]]])


def test_velocity_equals_numpy():
    rng = np.random.default_rng(4)
    flow, previous = rng.normal(size=(B, T, 6)), rng.normal(size=(B, 6))
    states = np.concatenate([previous[:, None], flow], 1)
    found = losses.velocity(tf.constant(flow, tf.float32), tf.constant(previous, tf.float32))
    np.testing.assert_allclose(found, np.diff(states, axis=1), rtol=1e-5, atol=1e-6)


def test_velocity_loss_by_hand():
    # Velocities as above: (1, 0), (0, 2), (-1, -3). Their changes: (-1, 2) with square 5, (-1, -5) with square 26.
    # Row 0 counts both: 31. Row 1 ends after t1: 5. Row 2 has one step, so no change to count. Mean: 18.
    flow = tf.constant([[[1, 1], [1, 3], [0, 0]]] * 3, tf.float32)
    previous = tf.constant([[0, 1]] * 3, tf.float32)
    mask = np.array([[1, 1, 1], [1, 1, 0], [1, 0, 0]], bool)
    np.testing.assert_allclose(losses.velocity_loss(flow, previous, mask), 18.0)


def test_velocity_loss_is_zero_for_steady_motion():
    # Equal steps have no change of velocity, the first one, from f_{t0-1}, included. From (1, 0) the first velocity
    # is (0, 2) instead of (1, 2): a change of (1, 0).
    flow = tf.constant([[[1, 2], [2, 4], [3, 6]]], tf.float32)
    mask = np.ones((1, 3), bool)
    assert losses.velocity_loss(flow, tf.constant([[0.0, 0.0]]), mask) == 0.0
    assert losses.velocity_loss(flow, tf.constant([[1.0, 0.0]]), mask) == 1.0


def test_one_step_has_no_velocity_loss():
    one = tf.ones((2, 1, 4))
    assert losses.velocity_loss(one, tf.zeros((2, 4)), tf.ones((2, 1), tf.bool)) == 0.0


def test_stage1_by_hand():
    # 2 + 0.5 * 3 + 0.1 * 4 = 3.9
    assert losses.stage1_loss(2.0, 3.0, 4.0, diversity_weight=0.5, velocity_weight=0.1) == pytest.approx(3.9)


def test_cross_entropy_by_hand():
    # Clicked at logit 0: -log(1/2) = log 2. Not clicked at logit log 3, sigma = 3/4: -log(1/4) = 2 log 2.
    # The third is padding. Mean over the two candidates, not over the requests: 1.5 log 2.
    labels = tf.constant([[1.0, 0.0], [1.0, 0.0]])
    logits = tf.constant([[0.0, math.log(3)], [7.0, 7.0]])
    mask = tf.constant([[True, True], [False, False]])
    np.testing.assert_allclose(losses.cross_entropy(labels, logits, mask), 1.5 * math.log(2), rtol=1e-6)


def test_cross_entropy_weighs_candidates_equally_not_requests():
    # One request of one candidate at log 4, one of three at log 2 each: (2 + 3) log 2 / 4.
    labels, mask = tf.zeros((2, 3)), tf.constant([[True, False, False], [True, True, True]])
    logits = tf.constant([[math.log(3), 0.0, 0.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(losses.cross_entropy(labels, logits, mask), 1.25 * math.log(2), rtol=1e-6)


def test_tsp_by_hand():
    # c_t0 = log 3 and log 7, c_t1 = 0 in both pairs.
    # Candidate clicked, diff not, I = -1: -log sigma(-(0 - log 3)) = -log(3/4) = log(4/3).
    # Candidate not clicked, diff clicked, I = +1: -log sigma(0 - log 7) = -log(1/8) = log 8.
    # The third pair does not exist. Mean: (log(4/3) + log 8) / 2.
    score = tf.constant([[math.log(3), math.log(7), 9.0]])
    diff_label = tf.constant([[0.0, 1.0, 1.0]])
    loss = losses.tsp_loss(score, tf.zeros((1, 3)), diff_label, tf.constant([[True, True, False]]))
    np.testing.assert_allclose(loss, (math.log(4 / 3) + math.log(8)) / 2, rtol=1e-6)


def test_a_swapped_sign_of_the_diff_sample_makes_a_test_fail(monkeypatch):
    with mutant("amen_tf.losses", "sign = 2.0 * diff_label - 1.0", "sign = 1.0 - 2.0 * diff_label") as made:
        monkeypatch.setattr(losses, "tsp_loss", made.tsp_loss)
        with pytest.raises(AssertionError):
            test_tsp_by_hand()


def test_tsp_weighs_pairs_or_signs_alike():
    # Three pairs with a clicked diff sample, -log sigma(0 - log 3) = log 4 each; one with an unclicked one, log(4/3).
    score, zero = tf.fill((2, 2), math.log(3)), tf.zeros((2, 2))
    diff_label, every = tf.constant([[1.0, 1.0], [1.0, 0.0]]), tf.ones((2, 2), tf.bool)
    loss = losses.tsp_loss(score, zero, diff_label, every)
    np.testing.assert_allclose(loss, (3 * math.log(4) + math.log(4 / 3)) / 4, rtol=1e-6)
    loss = losses.tsp_loss(score, zero, diff_label, every, balanced=True)
    np.testing.assert_allclose(loss, (math.log(4) + math.log(4 / 3)) / 2, rtol=1e-6)
    # With pairs of one sign only, theirs is the loss.
    loss = losses.tsp_loss(score, zero, diff_label, tf.constant([[True, True], [True, False]]), balanced=True)
    np.testing.assert_allclose(loss, math.log(4), rtol=1e-6)


@pytest.mark.parametrize("diff_clicked", [0.0, 1.0])
def test_tsp_falls_when_the_clicked_one_rises(diff_clicked):
    score, diff_score = tf.constant([[0.3]]), tf.constant([[0.1]])

    def loss(candidate_up, diff_up):
        pair = tf.constant([[diff_clicked]]), tf.constant([[True]])
        return float(losses.tsp_loss(score + candidate_up, diff_score + diff_up, *pair))

    clicked_up = (0.0, 0.5) if diff_clicked else (0.5, 0.0)
    other_up = clicked_up[::-1]
    assert loss(*clicked_up) < loss(0.0, 0.0) < loss(*other_up)
    # Only the margin counts.
    assert loss(5.0, 5.0) == pytest.approx(loss(0.0, 0.0), rel=1e-5)


def test_stage2_by_hand():
    # 2 + 0.1 * 3 = 2.3
    assert losses.stage2_loss(2.0, 3.0, tsp_weight=0.1) == pytest.approx(2.3)
