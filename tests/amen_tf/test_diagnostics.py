"""Diagnostics of a generator: ranks in the catalogue against plain loops, collapse by hand, the leak meter."""

import math

import numpy as np
import pytest
import tensorflow as tf

from amen_tf.diagnostics import CollapseError, Cosines, Diagnosis, check_collapse, mean_cosine
from amen_tf.features import CANDIDATE, CANDIDATE_MASK, FUTURE, ITEM_ID, LABEL
from amen_tf.layers.request_encoder import with_prefix
from tests.amen_tf import batches


@pytest.fixture(scope="module")
def diagnosis(generator):
    return Diagnosis(generator, generator.catalogue)


def test_ranks_equal_plain_loops(diagnosis, generator, features):
    figures = diagnosis.ranks([features], at=5)
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
            rank = 1 + sum(score > mine for score in others)
            hits.append(rank <= 5)
            gains.append(1 / math.log2(1 + rank) if rank <= 5 else 0)
        assert figures[f"hr@5_step_{step}"] == pytest.approx(np.mean(hits))
        assert figures[f"ndcg@5_step_{step}"] == pytest.approx(np.mean(gains))
    assert set(figures) == {f"{what}@5_step_{t}" for what in ("hr", "ndcg") for t in range(3)}


def test_batches_and_chunks_do_not_matter(diagnosis, features, monkeypatch):
    whole = diagnosis.ranks([features])
    parts = [batches.rows(features, rows) for rows in ([0, 1], [2], [3, 4, 5])]
    assert diagnosis.ranks(parts) == pytest.approx(whole)
    monkeypatch.setattr("amen_tf.diagnostics.MOST_SCORES", 60)
    assert diagnosis.ranks([features]) == pytest.approx(whole)


def test_limit_counts_requests_with_a_future(diagnosis, features):
    # Row 2 has no future: the first three that have one are rows 0, 1 and 3.
    expected = diagnosis.ranks([batches.rows(features, [0, 1, 3])])
    assert diagnosis.ranks([features], limit=3) == pytest.approx(expected)


def test_without_futures_ranks_are_nan(diagnosis, features):
    assert all(math.isnan(v) for v in diagnosis.ranks([batches.rows(features, [2])]).values())


def test_mean_cosine_by_hand():
    # (1, 0), (0, 2) and (3, 3): cosines 0, 1/sqrt(2), 1/sqrt(2).
    assert mean_cosine(np.array([[1.0, 0], [0, 2], [3, 3]])) == pytest.approx(2 / math.sqrt(2) / 3)
    assert mean_cosine(np.array([[1.0, 2], [2, 4], [0, 0]])) == pytest.approx(1.0)
    assert math.isnan(mean_cosine(np.array([[1.0, 2]])))


def test_cosines_leave_empty_movelines_out(diagnosis, generator, features):
    found = diagnosis.cosines([features])
    rows = np.flatnonzero((features["moveline_behavior"].numpy() > 0).any(1))
    flow = generator.generate(batches.rows(features, rows.tolist()))
    assert found.flows == pytest.approx(mean_cosine(flow.states.numpy()[:, 0]), abs=1e-6)
    heads = flow.heads.numpy().reshape(-1, *flow.heads.shape[-2:])
    assert found.heads == pytest.approx(np.mean([mean_cosine(h) for h in heads]), abs=1e-6)
    assert found.items == pytest.approx(mean_cosine(diagnosis.items()))
    empty = diagnosis.cosines([batches.without_history(features)])
    assert math.isnan(empty.flows) and math.isnan(empty.heads)


def test_collapse_is_loud_and_names_what_collapsed():
    check_collapse(Cosines(0.5, float("nan"), 0.1), 0.99)
    with pytest.raises(CollapseError, match=r"flows 0\.9950, items 1\.0000, expected below 0\.99 \(generator"):
        check_collapse(Cosines(0.995, 0.2, 1.0), 0.99)


def test_a_generator_that_says_the_same_of_everyone_is_found(generator, features):
    class Same:
        spec, settings = generator.spec, generator.settings
        item_vectors = staticmethod(generator.item_vectors)

        @staticmethod
        def generate(inputs):
            flow = generator.generate(inputs)
            return flow._replace(heads=tf.ones_like(flow.heads) * flow.heads[:1, :1])

    cosines = Diagnosis(Same, generator.catalogue).cosines([features])
    assert cosines.flows == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(CollapseError, match="flows 1.0000"):
        check_collapse(cosines, 0.99)


def test_similarity_auc_is_that_of_the_best_state(diagnosis, generator, features):
    found = diagnosis.similarity_auc([features])
    candidates = with_prefix(features, CANDIDATE, generator.spec.contract.item_fields)
    states, vectors = generator(features).numpy(), generator.item_vectors(candidates).numpy()
    mask, label = features[CANDIDATE_MASK].numpy(), features[LABEL].numpy()
    score = np.max(vectors @ states.transpose(0, 2, 1), -1)[mask]
    clicked, not_clicked = score[label[mask] == 1], score[label[mask] == 0]
    assert found == pytest.approx((clicked[:, None] > not_clicked[None, :]).mean(), abs=1e-9)
    halves = [batches.rows(features, rows) for rows in ([0, 1, 2], [3, 4, 5])]
    assert diagnosis.similarity_auc(halves) == pytest.approx(found)
