"""Figures of merit: by hand, against scikit-learn, and an interval that holds what it says."""

import numpy as np
import pytest
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from amen_tf import metrics


def drawn(rows=600, users=40, seed=0):
    rng = np.random.default_rng(seed)
    label, user = rng.integers(0, 2, rows), rng.integers(0, users, rows)
    # Few distinct scores, so that there are ties.
    return label, np.round(rng.normal(size=rows) + 0.5 * label, 1), user


def test_auc_by_hand():
    # Clicked 0.8 and 0.3, unclicked 0.5 and 0.3: 0.8 beats both, 0.3 loses to 0.5 and ties with 0.3: 2.5 of 4 pairs.
    assert metrics.auc(np.array([1, 1, 0, 0]), np.array([0.8, 0.3, 0.5, 0.3])) == 2.5 / 4


@pytest.mark.parametrize("seed", range(3))
def test_auc_equals_scikit_learn(seed):
    label, score, _ = drawn(seed=seed)
    assert metrics.auc(label, score) == pytest.approx(roc_auc_score(label, score), abs=1e-12)


def test_weighted_auc_is_the_auc_of_repeated_rows():
    label, score, _ = drawn(80)
    weight = np.random.default_rng(3).integers(0, 4, 80)
    repeated = np.repeat(np.arange(80), weight)
    expected = roc_auc_score(label[repeated], score[repeated])
    assert metrics.Ranking(label, score).auc(weight) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("label", [[1, 1], [0, 0], []])
def test_auc_of_one_class_is_nan(label):
    assert np.isnan(metrics.auc(np.array(label), np.arange(len(label))))


def test_group_auc_by_hand():
    # User 7: clicked 0.9 over 0.1 and under nothing: 1. User 3: clicked 0.2, unclicked 0.4 and 0.2: 0.5 of 2 pairs.
    # User 5 has clicks alone and does not count.
    user, label = np.array([7, 3, 3, 7, 5, 3]), np.array([1, 0, 1, 0, 1, 0])
    score = np.array([0.9, 0.4, 0.2, 0.1, 0.5, 0.2])
    result = metrics.group_auc(label, score, user)
    assert result.users == 2
    assert result.user_mean == pytest.approx((1 + 0.25) / 2)
    assert result.impression_weighted == pytest.approx((2 * 1 + 3 * 0.25) / 5)


def test_group_auc_equals_scikit_learn_by_user():
    label, score, user = drawn()
    figures, sizes = [], []
    for key in np.unique(user):
        mine = user == key
        if 0 < label[mine].sum() < mine.sum():
            figures.append(roc_auc_score(label[mine], score[mine]))
            sizes.append(mine.sum())
    result = metrics.group_auc(label, score, user)
    assert result.user_mean == pytest.approx(np.mean(figures), abs=1e-12)
    assert result.impression_weighted == pytest.approx(np.average(figures, weights=sizes), abs=1e-12)


def test_group_auc_without_a_user_of_both_kinds_is_nan():
    result = metrics.group_auc(np.array([1, 0]), np.array([0.1, 0.2]), np.array([1, 2]))
    assert np.isnan(result.impression_weighted) and np.isnan(result.user_mean) and result.users == 0
    assert metrics.group_auc(np.zeros(0), np.zeros(0), np.zeros(0, int)).users == 0


def test_log_loss_and_calibration():
    label, probability = np.array([1, 0, 0, 1]), np.array([0.8, 0.4, 0.1, 0.5])
    assert metrics.log_loss(label, probability) == pytest.approx(sklearn_log_loss(label, probability))
    assert metrics.calibration(label, probability) == pytest.approx(1.8 / 2)
    assert np.isfinite(metrics.log_loss(np.array([1, 0]), np.array([0.0, 1.0])))
    assert np.isnan(metrics.calibration(np.zeros(2), probability[:2]))


def test_summary_names_every_figure():
    label, score, user = drawn()
    probability = 1 / (1 + np.exp(-score))
    figures = metrics.summary(label, probability, user)
    assert list(figures) == ["auc", "gauc_impression_weighted", "gauc_user_mean", "log_loss", "calibration"]
    assert all(np.isfinite(list(figures.values())))


def test_interval_of_equal_models_is_zero():
    label, score, user = drawn()
    assert metrics.bootstrap_auc_difference(label, [score], [score], user, replicates=20) == (0.0, 0.0)


def test_interval_holds_a_difference_and_a_random_one_covers_zero():
    label, score, user = drawn(4000, 200)
    rng = np.random.default_rng(5)
    worse = [score + 2.0 * rng.normal(size=len(score)) for _ in range(2)]
    found = metrics.bootstrap_auc_difference(label, [score, score], worse, user, replicates=200)
    truth = np.mean([metrics.auc(label, score) - metrics.auc(label, other) for other in worse])
    assert 0 < found.low < truth < found.high
    noise = [score + 0.05 * rng.normal(size=len(score)) for _ in range(2)]
    found = metrics.bootstrap_auc_difference(label, noise[:1], noise[1:], user, replicates=200)
    assert found.low < 0 < found.high


def test_users_stand_together_in_an_interval():
    # Every impression twice says nothing new: by users the interval stays, by impressions it would shrink.
    label, score, user = drawn(500, 50)
    other = score + np.random.default_rng(1).normal(size=len(score))
    once = metrics.bootstrap_auc_difference(label, [score], [other], user, replicates=300)
    twice = metrics.bootstrap_auc_difference(
        np.tile(label, 2), [np.tile(score, 2)], [np.tile(other, 2)], np.tile(user, 2), replicates=300
    )
    assert twice.low == pytest.approx(once.low, abs=1e-9) and twice.high == pytest.approx(once.high, abs=1e-9)


def test_seeds_must_pair():
    with pytest.raises(ValueError, match="got 1 and 0"):
        metrics.bootstrap_auc_difference(np.zeros(1), [np.zeros(1)], [], np.zeros(1))
