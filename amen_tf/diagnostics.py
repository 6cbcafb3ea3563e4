"""What a generator is worth before any CTR model reads it: ranks in the catalogue, collapse, leak."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from amen_tf import metrics
from amen_tf.features import BEHAVIOR, CANDIDATE, CANDIDATE_MASK, FUTURE, ITEM_ID, LABEL, MOVELINE, PAD_ID
from amen_tf.layers.request_encoder import with_prefix
from amen_tf.models.generator import Generator
from amen_tf.models.negatives import Catalogue

# Scores of one batch of requests against the whole catalogue are kept below this many numbers (256 MiB).
MOST_SCORES = 64 * 2**20


class CollapseError(RuntimeError):
    """The generator says the same of everyone: its flows, heads or items have become one direction."""


class Cosines(NamedTuple):
    """Mean pairwise cosines; 1 means that all are the same direction. NaN where there are no two to compare.

    Attributes:
      flows: f̂_t0 of requests with a moveline.
      heads: the H heads of one state, averaged over states.
      items: the items of the catalogue.
    """

    flows: float
    heads: float
    items: float


class Diagnosis:
    """Figures of a generator on requests that come in batches of features.

    Args:
      generator: built.
      catalogue: all items that a flow is ranked against.
    """

    def __init__(self, generator: Generator, catalogue: Catalogue):
        self.generator, self.catalogue = generator, catalogue
        self._flow = tf.function(generator.generate, autograph=False, reduce_retracing=True)
        self._vectors = tf.function(generator.item_vectors, autograph=False, reduce_retracing=True)

    def items(self) -> np.ndarray:
        """Unit vectors of the catalogue `[V, d]` float32."""
        fields, size = self.catalogue.fields, self.catalogue.size
        parts = [
            self._vectors({f: tf.constant(ids[at : at + 65_536], tf.int64) for f, ids in fields.items()}).numpy()
            for at in range(0, size, 65_536)
        ]
        return np.concatenate(parts)

    def ranks(self, batches, at: int = 10, limit: int = 2000) -> dict[str, float]:
        """HR@k and NDCG@k of every flow step against the whole catalogue.

        Step t's state is compared with every item of the catalogue; the rank of e_t is 1 + how many other items score
        higher (ties count as half). An item that is not in the catalogue (new since training) is ranked by its own
        vector. With one true item, NDCG@k is 1 / log2(1 + rank) where rank <= k, else 0.

        Args:
          batches: features with futures.
          at: k.
          limit: requests looked at, the first ones that have a future.

        Returns:
          `hr@k_step_<t>` and `ndcg@k_step_<t>`, t from 0 (the next item) to T-1; NaN without requests.
        """
        vectors, ids = self.items(), self.catalogue.fields[ITEM_ID]
        steps = self.generator.spec.shape.flow_length
        found: list[list[np.ndarray]] = [[] for _ in range(steps)]
        seen = 0
        for features in batches:
            future = with_prefix(features, FUTURE, self.generator.spec.contract.item_fields)
            rows = np.flatnonzero(future[ITEM_ID][:, 0].numpy() != PAD_ID)[: limit - seen]
            seen += len(rows)
            for part in np.array_split(rows, max(1, -(-len(rows) * len(ids) // MOST_SCORES))):
                if len(part):
                    self._rank(_take(features, part), vectors, ids, found)
            if seen >= limit:
                break
        return _rank_figures([np.concatenate(f) if f else np.zeros(0) for f in found], at)

    def _rank(self, features, vectors, ids, found) -> None:
        future = with_prefix(features, FUTURE, self.generator.spec.contract.item_fields)
        states, items = self._flow(features).states.numpy(), self._vectors(future).numpy()
        order = np.argsort(ids)
        for step, ranks in enumerate(found):
            own = future[ITEM_ID][:, step].numpy()
            real = own != PAD_ID
            state, own = states[real, step], own[real]
            scores = state @ vectors.T
            truth = np.sum(state * items[real, step], -1)[:, np.newaxis]
            # The item itself, where the catalogue has it, is no competitor: its score is taken out of reach.
            place = order[np.minimum(np.searchsorted(ids, own, sorter=order), len(ids) - 1)]
            known = np.flatnonzero(ids[place] == own)
            scores[known, place[known]] = -np.inf
            ranks.append(1 + np.sum(scores > truth, 1) + 0.5 * np.sum(scores == truth, 1))

    def cosines(self, batches, limit: int = 2000) -> Cosines:
        """Mean pairwise cosines of flows, heads and items, from the first `limit` requests with a moveline."""
        first, heads, seen = [], [], 0
        for features in batches:
            rows = np.flatnonzero((features[MOVELINE + BEHAVIOR].numpy() != PAD_ID).any(1))[: limit - seen]
            if not len(rows):
                continue
            flow = self._flow(_take(features, rows))
            first.append(flow.states.numpy()[:, 0])
            heads.append(flow.heads.numpy().reshape(-1, *flow.heads.shape[-2:]))
            seen += len(rows)
            if seen >= limit:
                break
        if not first:
            return Cosines(float("nan"), float("nan"), mean_cosine(self.items()))
        by_state = [mean_cosine(state) for state in np.concatenate(heads)[:limit]]
        return Cosines(mean_cosine(np.concatenate(first)), float(np.mean(by_state)), mean_cosine(self.items()))

    def similarity_auc(self, batches, limit: int = 2000) -> float:
        """AUC of the greatest cosine between a candidate and a flow state as a score for the click.

        On requests whose clicks the generator was trained on it shows what was learned by heart: the leak meter is the
        difference to requests that it was not trained on.
        """
        labels, scores, seen = [], [], 0
        for features in batches:
            rows = np.arange(len(features[LABEL]))[: limit - seen]
            features = _take(features, rows)
            candidates = with_prefix(features, CANDIDATE, self.generator.spec.contract.item_fields)
            states, vectors = self._flow(features).states.numpy(), self._vectors(candidates).numpy()
            mask = features[CANDIDATE_MASK].numpy()
            scores.append(np.einsum("btd,bnd->bnt", states, vectors).max(-1)[mask])
            labels.append(features[LABEL].numpy()[mask])
            seen += len(rows)
            if seen >= limit:
                break
        return metrics.auc(np.concatenate(labels), np.concatenate(scores)) if labels else float("nan")


def mean_cosine(vectors: np.ndarray) -> float:
    """Mean cosine over all pairs of different rows of `[n, d]`; rows of length 0 do not count. NaN below two rows."""
    length = np.linalg.norm(vectors, axis=-1)
    unit = vectors[length > 1e-12].astype(np.float64) / length[length > 1e-12, np.newaxis]
    n = len(unit)
    return float((np.sum(np.square(unit.sum(0))) - n) / (n * (n - 1))) if n > 1 else float("nan")


def check_collapse(cosines: Cosines, limit: float) -> None:
    """Raises a CollapseError where a mean cosine reaches `limit`; what could not be measured passes."""
    bad = {name: value for name, value in cosines._asdict().items() if value >= limit}
    if bad:
        said = ", ".join(f"{name} {value:.4f}" for name, value in bad.items())
        raise CollapseError(
            f"The generator has collapsed: mean cosine between {said}, expected below {limit} "
            "(generator.collapse_limit). A flow that is the same for everyone tells the CTR model nothing. Lower "
            "generator.learning_rate, raise generator.sampled_negatives or generator.diversity_weight, or give it more "
            "data."
        )


def _take(features: Mapping[str, tf.Tensor], rows: np.ndarray) -> dict[str, tf.Tensor]:
    return {name: tf.gather(column, rows) for name, column in features.items()}


def _rank_figures(ranks: list[np.ndarray], at: int) -> dict[str, float]:
    figures = {}
    for step, rank in enumerate(ranks):
        hit = rank <= at
        figures[f"hr@{at}_step_{step}"] = float(hit.mean()) if len(rank) else float("nan")
        gain = np.where(hit, 1 / np.log2(1 + rank), 0.0)
        figures[f"ndcg@{at}_step_{step}"] = float(gain.mean()) if len(rank) else float("nan")
    return figures
