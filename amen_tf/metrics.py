"""Figures of merit on predictions, in NumPy: AUC, GAUC, log loss, calibration, and intervals over users.

Everything takes flat arrays with one entry an impression: `label` (0 or 1), `score` (float, higher = more likely) and
`user` (any integer key). Figures that are not defined (one class only) are NaN.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """A percentile interval of a bootstrap."""

    low: float
    high: float


class Ranking:
    """Scores in order, prepared once so that AUC under many weightings costs one pass each.

    Args:
      label: `[n]` 0 or 1.
      score: `[n]`.
    """

    def __init__(self, label: np.ndarray, score: np.ndarray):
        self.order = np.argsort(score, kind="stable")
        ordered = np.asarray(score)[self.order]
        self.positive = np.asarray(label)[self.order] > 0.5
        # Where a new score begins: equal scores share their fate.
        self.starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else np.zeros(0, int)

    def auc(self, weight: np.ndarray | None = None) -> float:
        """Chance that a clicked impression outscores an unclicked one, ties counting one half; NaN without both.

        Args:
          weight: `[n]` how often each impression counts, in the order of the constructor's arrays.
        """
        ones = np.ones(len(self.order)) if weight is None else np.asarray(weight, np.float64)[self.order]
        positive = np.add.reduceat(np.where(self.positive, ones, 0.0), self.starts) if len(ones) else np.zeros(0)
        negative = np.add.reduceat(np.where(self.positive, 0.0, ones), self.starts) if len(ones) else np.zeros(0)
        pairs = positive.sum() * negative.sum()
        below = np.cumsum(negative) - 0.5 * negative
        return float(positive @ below / pairs) if pairs else float("nan")


def auc(label: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve, pooled over all impressions; exact, without thresholds."""
    return Ranking(label, score).auc()


class GroupAUC(NamedTuple):
    """AUC within each user that has both clicked and unclicked impressions.

    Attributes:
      impression_weighted: mean over those users, weighted by their impressions (GAUC of the DIN paper).
      user_mean: plain mean over those users.
      users: how many those are.
    """

    impression_weighted: float
    user_mean: float
    users: int


def group_auc(label: np.ndarray, score: np.ndarray, user: np.ndarray) -> GroupAUC:
    """AUC by user, in one pass over all users at a time."""
    order = np.lexsort((score, user))
    label, score, user = (np.asarray(x)[order] for x in (label, score, user))
    if not len(label):
        return GroupAUC(float("nan"), float("nan"), 0)
    new_user = np.r_[True, user[1:] != user[:-1]]
    tie = np.cumsum(new_user | np.r_[True, score[1:] != score[:-1]]) - 1
    group = np.cumsum(new_user) - 1
    size = np.bincount(group)
    first = np.flatnonzero(new_user)
    # Ranks from 1 within the user; equal scores share the mean of theirs.
    rank = np.arange(len(label)) - first[group] + 1.0
    rank = (np.bincount(tie, rank) / np.bincount(tie))[tie]
    clicked = label > 0.5
    positives = np.bincount(group, clicked)
    negatives = size - positives
    both = (positives > 0) & (negatives > 0)
    if not both.any():
        return GroupAUC(float("nan"), float("nan"), 0)
    rank_sum = np.bincount(group, rank * clicked)
    pairs = np.where(both, positives * negatives, 1.0)
    by_user = ((rank_sum - positives * (positives + 1) / 2) / pairs)[both]
    weighted = np.average(by_user, weights=size[both])
    return GroupAUC(float(weighted), float(by_user.mean()), int(both.sum()))


def log_loss(label: np.ndarray, probability: np.ndarray) -> float:
    """Mean binary cross-entropy in nats; probabilities are kept 1e-7 from 0 and 1, as by Keras."""
    kept = np.clip(np.asarray(probability, np.float64), 1e-7, 1 - 1e-7)
    return float(-np.mean(np.where(np.asarray(label) > 0.5, np.log(kept), np.log1p(-kept))))


def calibration(label: np.ndarray, probability: np.ndarray) -> float:
    """Mean predicted probability over click rate; 1 = level right, above 1 = too high. NaN without a click."""
    clicks = float(np.sum(label))
    return float(np.sum(probability, dtype=np.float64) / clicks) if clicks else float("nan")


def summary(label: np.ndarray, probability: np.ndarray, user: np.ndarray) -> dict[str, float]:
    """Every figure of a report by name."""
    by_user = group_auc(label, probability, user)
    return {
        "auc": auc(label, probability),
        "gauc_impression_weighted": by_user.impression_weighted,
        "gauc_user_mean": by_user.user_mean,
        "log_loss": log_loss(label, probability),
        "calibration": calibration(label, probability),
    }


def bootstrap_auc_difference(
    label: np.ndarray,
    scores: Sequence[np.ndarray],
    baseline_scores: Sequence[np.ndarray],
    user: np.ndarray,
    *,
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile interval of the mean paired AUC difference over seeds, users being drawn with replacement.

    Users are drawn and not impressions, because impressions of one user stand and fall together. Every replicate
    weighs both models by the same users.

    Args:
      label: `[n]` 0 or 1.
      scores: one `[n]` a seed.
      baseline_scores: one `[n]` a seed, paired with `scores`.
      user: `[n]` integer keys.
      replicates: bootstrap samples.
      level: coverage.
      seed: of the draws.

    Returns:
      The interval, as a difference of AUC (not in points).
    """
    if len(scores) != len(baseline_scores) or not len(scores):
        raise ValueError(f"expected as many scores as baseline scores, got {len(scores)} and {len(baseline_scores)}")
    pairs = [(Ranking(label, a), Ranking(label, b)) for a, b in zip(scores, baseline_scores, strict=True)]
    keys, group = np.unique(user, return_inverse=True)
    rng, differences = np.random.default_rng(seed), []
    for _ in range(replicates):
        weight = np.bincount(rng.integers(0, len(keys), len(keys)), minlength=len(keys))[group]
        differences.append(np.mean([model.auc(weight) - baseline.auc(weight) for model, baseline in pairs]))
    low, high = np.nanquantile(differences, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))
