"""Area under the ROC curve, exact, from ranks.

In: labels and scores. Out: one number. Equal scores count half, as in every exact implementation.
"""

import numpy as np


def exact_auc(label: np.ndarray, score: np.ndarray) -> float:
    """The chance that a positive outranks a negative; ties count half.

    Args:
      label: `[n]`, 0 or 1.
      score: float `[n]`.

    Raises:
      ValueError: labels of one class alone have no AUC.
    """
    positive = np.asarray(label) == 1
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        raise ValueError(f"AUC needs both classes, got {positives} positives and {negatives} negatives.")
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    # Mean rank of each distinct score, ranks starting at 1.
    mean_rank = np.cumsum(count) - (count - 1) / 2
    return float((mean_rank[place][positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))
