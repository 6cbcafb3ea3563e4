"""What a generator is worth before any CTR model reads it: ranks in the catalogue, collapse, leak."""

import sys
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from amen_tf import metrics
from amen_tf.features import (
    BEHAVIOR,
    CANDIDATE,
    CANDIDATE_MASK,
    FUTURE,
    ITEM_ID,
    LABEL,
    MOVELINE,
    PAD_ID,
    is_of_candidates,
)
from amen_tf.layers.request_encoder import with_prefix
from amen_tf.models.generator import Generator
from amen_tf.models.negatives import Catalogue

# Scores of requests against the whole catalogue are kept below this many numbers at a time (256 MiB).
MOST_SCORES = 64 * 2**20


class CollapseError(RuntimeError):
    """The generator says the same of everyone: its flows, heads or items have become one direction."""


class Cosines(NamedTuple):
    """Mean pairwise cosines; 1 means that all are the same direction. NaN where there are no two to compare.

    Attributes:
      flows: states of one step of requests with a moveline, at the step where they are most alike.
      heads: the H heads of one state, averaged over states.
      items: the items of the catalogue.
    """

    flows: float
    heads: float
    items: float


class Looked(NamedTuple):
    """What a generator says of R requests that show C candidates in all.

    Attributes:
      heads: `[R, T, H, d_head]` float32; their concatenation has unit length.
      seen: `[R]` bool, whether there is a moveline.
      future_ids: `[R, T]` int64, 0 where the future has ended.
      future: `[R, T, d]` float32, unit vectors of those items.
      similarity: `[C]` float32, the greatest cosine of a candidate with a state of its request's flow.
      label: `[C]` float32.
    """

    heads: np.ndarray
    seen: np.ndarray
    future_ids: np.ndarray
    future: np.ndarray
    similarity: np.ndarray
    label: np.ndarray

    @property
    def states(self) -> np.ndarray:
        """F̂ `[R, T, d]`."""
        return self.heads.reshape(*self.heads.shape[:2], -1)


class Diagnosis:
    """Asks a generator about requests; each is decoded once, for all figures.

    Args:
      generator: built.
      catalogue: all items that a flow is ranked against.
    """

    def __init__(self, generator: Generator, catalogue: Catalogue):
        self.generator, self.catalogue = generator, catalogue
        self._vectors = tf.function(generator.item_vectors, autograph=False, reduce_retracing=True)
        self._answers = None

    def _traced(self, features):
        """`_answer` as a graph for any number of requests and candidates: every other shape would be traced anew."""
        specs = {
            name: tf.TensorSpec((None, None) if is_of_candidates(name) else (None, *column.shape[1:]), column.dtype)
            for name, column in features.items()
        }
        return tf.function(self._answer, autograph=False, input_signature=[specs])

    def _answer(self, features):
        fields = self.generator.spec.contract.item_fields
        flow = self.generator.generate(features)
        candidates = self.generator.item_vectors(with_prefix(features, CANDIDATE, fields))
        similarity = tf.reduce_max(tf.matmul(candidates, flow.states, transpose_b=True), -1)
        future = self.generator.item_vectors(with_prefix(features, FUTURE, fields))
        seen = tf.reduce_any(features[MOVELINE + BEHAVIOR] != PAD_ID, 1)
        shown = features[CANDIDATE_MASK]
        candidates = tf.boolean_mask(similarity, shown), tf.boolean_mask(features[LABEL], shown)
        return Looked(flow.heads, seen, features[FUTURE + ITEM_ID], future, *candidates)

    def items(self) -> np.ndarray:
        """Unit vectors of the catalogue `[V, d]` float32."""
        fields, size = self.catalogue.fields, self.catalogue.size
        parts = [
            self._vectors({f: tf.constant(ids[at : at + 65_536], tf.int64) for f, ids in fields.items()}).numpy()
            for at in range(0, size, 65_536)
        ]
        vectors = np.concatenate(parts)
        _expect_finite(vectors, "item vectors")
        return vectors

    def look(self, batches: Iterable[Mapping[str, tf.Tensor]], limit: int | None = 2000) -> Looked:
        """The generator's answers for the first `limit` requests.

        Args:
          batches: features, with futures and labels; at least one batch.
          limit: the most requests; None takes all of them.
        """
        parts, left = [], sys.maxsize if limit is None else limit
        for features in batches:
            self._answers = self._answers or self._traced(features)
            parts.append(self._answers({name: column[:left] for name, column in features.items()}))
            left -= len(parts[-1].seen)
            if left <= 0:
                break
        looked = Looked(*(np.concatenate(values) for values in zip(*parts, strict=True)))
        _expect_finite(looked.heads, "flow states")
        return looked

    def figures(self, seen: Iterable, unseen: Iterable, limit: int = 2000) -> dict[str, float]:
        """All figures by name, as they stand in TensorBoard and in the report.

        Args:
          seen: batches of requests whose clicks the generator was trained on.
          unseen: of requests of the eval split.
          limit: the most requests of each.

        Returns:
          `hr@10_step_<t>`, `ndcg@10_step_<t>`, `cosine_<flows|heads|items>`, `similarity_auc_<seen|unseen>`.
        """
        looked, vectors = self.look(unseen, limit), self.items()
        found = rank_figures(ranks(looked, vectors, self.catalogue.fields[ITEM_ID]), 10)
        found |= {f"cosine_{name}": value for name, value in cosines(looked, vectors)._asdict().items()}
        similarity = {"seen": similarity_auc(self.look(seen, limit)), "unseen": similarity_auc(looked)}
        return found | {f"similarity_auc_{window}": value for window, value in similarity.items()}

    def rank_all(self, batches: Iterable[Mapping[str, tf.Tensor]]) -> dict[str, float]:
        """`hr@10_step_<t>` and `ndcg@10_step_<t>` over all requests, in memory that does not grow with their number."""
        vectors, ids = self.items(), self.catalogue.fields[ITEM_ID]
        by_batch = [ranks(self.look([features], None), vectors, ids) for features in batches]
        return rank_figures([np.concatenate(steps) for steps in zip(*by_batch, strict=True)], 10)


def ranks(looked: Looked, vectors: np.ndarray, ids: np.ndarray) -> list[np.ndarray]:
    """Rank of e_t among all items of the catalogue, by the state of step t: for every step, `[requests with e_t]`.

    It is 1 + how many other items score higher; ties count as half. An item that is not in the catalogue (new since
    training) is ranked by its own vector.

    Args:
      looked: requests with futures.
      vectors: `[V, d]` float32, the catalogue's unit vectors.
      ids: `[V]` int64, its distinct item ids.
    """
    order = np.argsort(ids)
    found = []
    for step in range(looked.future_ids.shape[1]):
        real = np.flatnonzero(looked.future_ids[:, step] != PAD_ID)
        parts = [np.zeros(0)]
        for rows in np.array_split(real, max(1, -(-len(real) * len(ids) // MOST_SCORES))):
            state, own = looked.states[rows, step], looked.future_ids[rows, step]
            scores = state @ vectors.T
            truth = np.sum(state * looked.future[rows, step], -1)[:, np.newaxis]
            # The item itself, where the catalogue has it, is no competitor: its score is taken out of reach.
            place = order[np.minimum(np.searchsorted(ids, own, sorter=order), len(ids) - 1)]
            known = np.flatnonzero(ids[place] == own)
            scores[known, place[known]] = -np.inf
            parts.append(1 + np.sum(scores > truth, 1) + 0.5 * np.sum(scores == truth, 1))
        found.append(np.concatenate(parts))
    return found


def rank_figures(found: list[np.ndarray], at: int) -> dict[str, float]:
    """HR@k and NDCG@k by step from ranks: with one true item, NDCG@k is 1 / log2(1 + rank) where rank <= k, else 0.

    Args:
      found: ranks of step t, t from 0 (the next item) to T-1.
      at: k.

    Returns:
      `hr@k_step_<t>` and `ndcg@k_step_<t>`; NaN for a step without ranks.
    """
    figures = {}
    for step, rank in enumerate(found):
        hit = rank <= at
        gain = np.where(hit, 1 / np.log2(1 + rank), 0.0)
        figures[f"hr@{at}_step_{step}"] = float(hit.mean()) if len(rank) else float("nan")
        figures[f"ndcg@{at}_step_{step}"] = float(gain.mean()) if len(rank) else float("nan")
    return figures


def cosines(looked: Looked, vectors: np.ndarray) -> Cosines:
    """Mean pairwise cosines of flows, heads and the items `[V, d]`; requests without a moveline do not count."""
    if not looked.seen.any():
        return Cosines(float("nan"), float("nan"), float(mean_cosine(vectors)))
    by_state = mean_cosine(looked.heads[looked.seen])
    # A state of which one head alone is not zero has no pair of heads.
    by_state = by_state[~np.isnan(by_state)]
    heads = by_state.mean() if len(by_state) else float("nan")
    # One step that is the same for everyone is a collapse, whatever the others are.
    flows = np.max(mean_cosine(np.swapaxes(looked.states[looked.seen], 0, 1)))
    return Cosines(float(flows), float(heads), float(mean_cosine(vectors)))


def similarity_auc(looked: Looked) -> float:
    """AUC of the greatest cosine between a candidate and a flow state as a score for the click.

    On requests whose clicks the generator was trained on it shows what was learned by heart: the leak meter is the
    difference to requests that it was not trained on.
    """
    return metrics.auc(looked.label, looked.similarity)


def mean_cosine(vectors: np.ndarray) -> np.ndarray:
    """Mean cosine over all pairs of different rows: `[..., n, d]` -> `[...]` float64.

    Rows of length 0 do not count; NaN below two others.
    """
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    real = length > 1e-12
    unit = np.divide(vectors, length, out=np.zeros(vectors.shape), where=real)
    n = real.sum((-1, -2))
    # The squared length of the sum counts every pair twice and every row with itself.
    twice = np.sum(np.square(unit.sum(-2)), -1) - n
    return np.divide(twice, n * (n - 1), out=np.full(n.shape, np.nan), where=n > 1)


def _expect_finite(vectors: np.ndarray, what: str) -> None:
    if not np.isfinite(vectors).all():
        raise FloatingPointError(
            f"The generator's {what} are not finite: the training has diverged. Lower generator.learning_rate, or set "
            "compute.precision to float32."
        )


def check_collapse(measured: Cosines, limit: float) -> None:
    """Raises a CollapseError where a mean cosine reaches `limit`; what could not be measured passes."""
    bad = {name: value for name, value in measured._asdict().items() if value >= limit}
    if bad:
        said = ", ".join(f"{name} {value:.4f}" for name, value in bad.items())
        raise CollapseError(
            f"The generator has collapsed: mean cosine between {said}, expected below {limit} "
            "(generator.collapse_limit). A flow that is the same for everyone tells the CTR model nothing. Lower "
            "generator.learning_rate, raise generator.sampled_negatives or generator.diversity_weight, or give it more "
            "data."
        )
