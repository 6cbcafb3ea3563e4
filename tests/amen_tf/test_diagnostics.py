"""Diagnostics of a generator: ranks in the catalogue against plain loops, collapse by hand, the leak meter."""

import math

import numpy as np
import pytest
import tensorflow as tf

from amen_tf.diagnostics import (
    CollapseError,
    Cosines,
    Diagnosis,
    Looked,
    check_collapse,
    cosines,
    mean_cosine,
    rank_figures,
    ranks,
    similarity_auc,
)
from amen_tf.features import CANDIDATE, CANDIDATE_MASK, FUTURE, ITEM_ID, LABEL
from amen_tf.layers.request_encoder import with_prefix
from tests.amen_tf import batches


@pytest.fixture(scope="module")
def diagnosis(generator):
    return Diagnosis(generator, generator.catalogue)


@pytest.fixture
def rank(diagnosis):
    """batches of features -> ranks by step."""
    return lambda parts, **limit: ranks(
        diagnosis.look(parts, **limit), diagnosis.items(), diagnosis.catalogue.fields[ITEM_ID]
    )


def test_ranks_equal_plain_loops(rank, diagnosis, generator, features):
    figures = rank_figures(rank([features]), 5)
    fields = generator.spec.contract.item_fields
    future = with_prefix(features, FUTURE, fields)
    states, truth = generator(features).numpy(), generator.item_vectors(future).numpy()
    vectors, ids, own = diagnosis.items(), generator.catalogue.fields[ITEM_ID], future[ITEM_ID].numpy()
    for step in range(3):
        hits, gains = [], []
        for row in range(6):
            if own[row, step] == 0:
                continue
            mine = states[row, step] @ truth[row, step]
            others = [states[row, step] @ vectors[i] for i in range(len(ids)) if ids[i] != own[row, step]]
            place = 1 + sum(score > mine for score in others)
            hits.append(place <= 5)
            gains.append(1 / math.log2(1 + place) if place <= 5 else 0)
        assert figures[f"hr@5_step_{step}"] == pytest.approx(np.mean(hits))
        assert figures[f"ndcg@5_step_{step}"] == pytest.approx(np.mean(gains))
    assert set(figures) == {f"{what}@5_step_{t}" for what in ("hr", "ndcg") for t in range(3)}


def test_rank_figures_by_hand():
    # Ranks 1, 2 and 11: two of three hits, gains 1, 1/log2(3) and 0.
    figures = rank_figures([np.array([1.0, 2, 11]), np.zeros(0)], 10)
    assert figures["hr@10_step_0"] == pytest.approx(2 / 3)
    assert figures["ndcg@10_step_0"] == pytest.approx((1 + 1 / math.log2(3)) / 3)
    assert math.isnan(figures["hr@10_step_1"]) and math.isnan(figures["ndcg@10_step_1"])


def test_batches_and_chunks_do_not_matter(rank, features, monkeypatch):
    whole = rank([features])
    parts = [batches.rows(features, rows) for rows in ([0, 1], [2], [3, 4, 5])]
    for step, found in enumerate(rank(parts)):
        np.testing.assert_array_equal(found, whole[step])
    monkeypatch.setattr("amen_tf.diagnostics.MOST_SCORES", 60)
    for step, found in enumerate(rank([features])):
        np.testing.assert_array_equal(found, whole[step])


def test_limit_takes_the_first_requests(diagnosis, features):
    parts = [batches.rows(features, rows) for rows in ([0, 1], [2, 3, 4], [5])]
    looked, expected = diagnosis.look(parts, limit=4), diagnosis.look([batches.rows(features, [0, 1, 2, 3])])
    for name, found in looked._asdict().items():
        np.testing.assert_allclose(found, getattr(expected, name), atol=1e-6, err_msg=name)


def test_all_requests_are_ranked_batch_by_batch(rank, diagnosis, features):
    parts = [batches.rows(features, [0, 1]), batches.rows(features, [2, 3, 4, 5])]
    expected = rank_figures(rank([features]), 10)
    assert diagnosis.rank_all(parts) == pytest.approx(expected, nan_ok=True)


def test_each_request_is_decoded_once(generator, features):
    class Counted:
        spec, settings, decoded = generator.spec, generator.settings, 0
        item_vectors = staticmethod(generator.item_vectors)

        @classmethod
        def generate(cls, inputs):
            tf.py_function(cls.count, [tf.shape(inputs["moveline_behavior"])[0]], [])
            return generator.generate(inputs)

        @classmethod
        def count(cls, rows):
            cls.decoded += int(rows)

    Diagnosis(Counted, generator.catalogue).figures([features], [features, features])
    assert Counted.decoded == 18


def test_without_futures_ranks_are_nan(rank, features):
    figures = rank_figures(rank([batches.rows(features, [2])]), 10)
    assert len(figures) == 6 and all(math.isnan(v) for v in figures.values())


def test_mean_cosine_by_hand():
    # (1, 0), (0, 2) and (3, 3): cosines 0, 1/sqrt(2), 1/sqrt(2).
    assert mean_cosine(np.array([[1.0, 0], [0, 2], [3, 3]])) == pytest.approx(2 / math.sqrt(2) / 3)
    assert mean_cosine(np.array([[1.0, 2], [2, 4], [0, 0]])) == pytest.approx(1.0)
    assert math.isnan(mean_cosine(np.array([[1.0, 2]])))
    both = np.array([[[1.0, 0], [0, 2], [3, 3]], [[1.0, 2], [2, 4], [0, 0]]])
    np.testing.assert_allclose(mean_cosine(both), [2 / math.sqrt(2) / 3, 1.0])


def test_cosines_leave_empty_movelines_out(diagnosis, generator, features):
    found = cosines(diagnosis.look([features]), diagnosis.items())
    rows = np.flatnonzero((features["moveline_behavior"].numpy() > 0).any(1))
    flow = generator.generate(batches.rows(features, rows.tolist()))
    by_step = [mean_cosine(flow.states.numpy()[:, step]) for step in range(flow.states.shape[1])]
    assert found.flows == pytest.approx(max(by_step), abs=1e-6) and max(by_step) > min(by_step)
    heads = flow.heads.numpy().reshape(-1, *flow.heads.shape[-2:])
    assert found.heads == pytest.approx(np.mean([mean_cosine(h) for h in heads]), abs=1e-6)
    assert found.items == pytest.approx(mean_cosine(diagnosis.items()))
    empty = cosines(diagnosis.look([batches.without_history(features)]), diagnosis.items())
    assert math.isnan(empty.flows) and math.isnan(empty.heads)


def test_a_state_with_one_head_has_no_pair_of_heads():
    # Heads of two states: the first has a pair with cosine 0, the second one head that is not zero.
    heads = np.array([[[[1.0, 0], [0, 1]], [[1.0, 0], [0, 0]]]])
    looked = Looked(heads, np.array([True]), *[None] * 4)
    assert cosines(looked, np.eye(2)).heads == pytest.approx(0.0)
    assert math.isnan(cosines(looked._replace(heads=heads[:, 1:]), np.eye(2)).heads)


def test_what_is_no_number_is_an_error_and_not_a_perfect_rank(generator, features):
    def broken(vectors):
        return tf.where(tf.range(tf.shape(vectors)[-1]) == 0, float("nan"), vectors)

    class Broken:
        spec, settings = generator.spec, generator.settings
        item_vectors = staticmethod(lambda items: broken(generator.item_vectors(items)))

        @staticmethod
        def generate(inputs):
            flow = generator.generate(inputs)
            return flow._replace(heads=broken(flow.heads))

    diagnosis = Diagnosis(Broken, generator.catalogue)
    with pytest.raises(FloatingPointError, match=r"flow states are not finite.*generator\.learning_rate"):
        diagnosis.look([features])
    with pytest.raises(FloatingPointError, match="item vectors are not finite"):
        diagnosis.items()


def test_collapse_is_loud_and_names_what_collapsed():
    check_collapse(Cosines(0.5, float("nan"), 0.1), 0.99)
    with pytest.raises(CollapseError, match=r"flows 0\.9950, items 1\.0000, expected below 0\.99 \(generator"):
        check_collapse(Cosines(0.995, 0.2, 1.0), 0.99)


@pytest.mark.parametrize("step", [0, -1])
def test_a_generator_that_says_the_same_of_everyone_is_found(step, generator, features):
    class Same:
        spec, settings = generator.spec, generator.settings
        item_vectors = staticmethod(generator.item_vectors)

        @staticmethod
        def generate(inputs):
            flow = generator.generate(inputs)
            heads = flow.heads.numpy()
            heads[:, step] = heads[:1, step]
            return flow._replace(heads=tf.constant(heads))

    same = Diagnosis(Same, generator.catalogue)
    same._traced = lambda features: same._answer
    found = cosines(same.look([features]), same.items())
    assert found.flows == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(CollapseError, match="flows 1.0000"):
        check_collapse(found, 0.99)


def test_similarity_auc_is_that_of_the_best_state(diagnosis, generator, features):
    found = similarity_auc(diagnosis.look([features]))
    candidates = with_prefix(features, CANDIDATE, generator.spec.contract.item_fields)
    states, vectors = generator(features).numpy(), generator.item_vectors(candidates).numpy()
    mask, label = features[CANDIDATE_MASK].numpy(), features[LABEL].numpy()
    score = np.max(vectors @ states.transpose(0, 2, 1), -1)[mask]
    clicked, not_clicked = score[label[mask] == 1], score[label[mask] == 0]
    assert found == pytest.approx((clicked[:, None] > not_clicked[None, :]).mean(), abs=1e-9)
    halves = [batches.rows(features, rows) for rows in ([0, 1, 2], [3, 4, 5])]
    assert similarity_auc(diagnosis.look(halves)) == pytest.approx(found)
