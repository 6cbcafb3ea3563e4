"""The exact AUC, against figures by hand and against all pairs."""

import numpy as np
import pytest

from pipeline.datasets.auc import exact_auc


@pytest.mark.parametrize(
    ("label", "score", "expected"),
    [
        ([0, 1], [0.1, 0.9], 1.0),
        ([1, 0], [0.1, 0.9], 0.0),
        ([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5], 0.5),
        # Pairs: (.8 > .1), (.8 > .4), (.4 > .1), (.4 = .4, a half): 3.5 of 4.
        ([0, 1, 0, 1], [0.1, 0.4, 0.4, 0.8], 0.875),
    ],
)
def test_by_hand(label, score, expected):
    assert exact_auc(np.array(label), np.array(score)) == expected


def test_equals_all_pairs():
    rng = np.random.default_rng(1)
    label, score = rng.integers(0, 2, 500), rng.integers(0, 40, 500) / 40
    difference = score[label == 1][:, None] - score[label == 0][None, :]
    assert exact_auc(label, score) == pytest.approx(((difference > 0) + 0.5 * (difference == 0)).mean(), abs=1e-12)


def test_one_class_has_none():
    with pytest.raises(ValueError, match="both classes, got 3 positives and 0 negatives"):
        exact_auc(np.ones(3), np.arange(3))
