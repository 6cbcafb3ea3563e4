"""What every ranking model must do, whatever it is made of: base, baselines, CTR model and its ablations."""

import numpy as np
import pytest
import tensorflow as tf

from amen_tf.features import CANDIDATE_MASK, LABEL, is_of_candidates
from tests.amen_tf import batches

ROWS, N = 6, 4


RANKING = ("base", "din", "wide_and_deep", "ctr", "ctr_without_flow", "ctr_without_alignment", "ctr_with_similarity")


@pytest.fixture(scope="module", params=RANKING)
def model(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def logits(model, features):
    return model(features).numpy()


def close(left, right):
    np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-5)


def test_logits_are_float32_one_for_each_candidate(logits):
    assert logits.shape == (ROWS, N) and logits.dtype == np.float32
    assert np.isfinite(logits).all()


def test_candidates_of_a_request_differ_and_so_do_requests(logits, features):
    # A model that ignored one of its inputs would pass every other test of this file.
    real = features[CANDIDATE_MASK].numpy()
    assert len(np.unique(logits[real].round(5))) == real.sum()


def test_padded_events_and_candidates_change_nothing(model, logits, features):
    real = features[CANDIDATE_MASK].numpy()
    np.testing.assert_array_equal(model(batches.garble(features)).numpy()[real], logits[real])


def test_more_padded_candidates_change_nothing(model, logits, features):
    wider = {
        name: tf.pad(column, ((0, 0), (0, 3))) if is_of_candidates(name) else column
        for name, column in features.items()
    }
    close(model(wider)[:, :N], logits)


def test_order_of_candidates_carries_through(model, logits, features):
    order = [2, 0, 3, 1]
    close(model(batches.pick(features, order)), logits[:, order])


def test_n_candidates_equal_n_single_calls(model, logits, features):
    for n in (0, N - 1):
        close(model(batches.pick(features, [n]))[:, 0], logits[:, n])


def test_requests_do_not_see_one_another(model, logits, features):
    for row in (0, 1, 3):
        close(model(batches.rows(features, [row]))[0], logits[row])


def test_empty_movelines_are_finite_and_still_rank(model, features):
    logits = model(batches.without_history(features)).numpy()
    assert np.isfinite(logits).all()
    assert np.ptp(logits[1][features[CANDIDATE_MASK][1].numpy()]) > 0


def test_label_user_and_what_comes_later_are_not_read(model, logits, features):
    hidden = ("label", "future_", "diff_", "user_key")
    blind = {name: tf.zeros_like(c) if name.startswith(hidden) else c for name, c in features.items()}
    np.testing.assert_array_equal(model(blind), logits)


@pytest.mark.parametrize(
    "name", ["moveline_item_id", "moveline_behavior", "moveline_age", "candidate_brand", "candidate_price", "device"]
)
def test_every_kind_of_feature_is_read(model, logits, features, name):
    # Ids 1 and 2 change places, so that masks stay.
    column = features[name]
    swapped = tf.where(column == 1, 2 * tf.ones_like(column), tf.where(column > 1, tf.ones_like(column), column))
    assert (model({**features, name: swapped}).numpy() != logits).any()


def test_figures_are_the_loss_terms_and_auc(model, features):
    terms, _ = model.compute_losses(features, training=False)
    assert set(terms) == set(model.loss_terms)
    assert {metric.name for metric in model.metrics} == {*model.loss_terms, "auc"}


def test_auc_is_pooled_over_real_candidates(base, features):
    # Far enough apart that no two fall between the same two of the 10,000 thresholds.
    logits = np.random.default_rng(3).permutation(np.linspace(-2, 2, ROWS * N)).reshape(ROWS, N).astype(np.float32)
    base.reset_metrics()
    update = tf.autograph.experimental.do_not_convert(base._update)
    figures = update({"loss": tf.constant(0.5)}, tf.constant(logits), features)
    real = features[CANDIDATE_MASK].numpy()
    label, score = features[LABEL].numpy()[real], logits[real]
    difference = score[label == 1][:, None] - score[label == 0][None, :]
    assert figures["auc"].numpy() == pytest.approx((difference > 0).mean(), abs=1e-4)
    assert figures["loss"].numpy() == 0.5
    base.reset_metrics()


def test_prediction_is_the_sigmoid_of_the_logit(model, logits, features):
    close(model.predict_step(features), 1 / (1 + np.exp(-logits)))
