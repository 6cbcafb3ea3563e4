"""Warm start: the weights of an earlier run, moved to the ids of this one.

In: weights by name, and what ids stand for in the run that they come from and in this one. Out: the weights in a model
of this run, and a count of what became of the words.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from amen_tf.config import Section
from amen_tf.features import AGE, CANDIDATE, FeatureContract
from amen_tf.initialization import START_AFRESH, CopyReport, InitializationError, copy_by_name, named_weights
from amen_tf.models.candidate_ranker import MERGE_INPUTS
from amen_tf.spec import ModelSpec

# Tables of these layers under the name `age` hold buckets of time; under any other, a declared feature of that name.
LAYERS_WITH_AGES = ("events", "matched")
# Settings by section that decide what weights stand for: the numbers of a vector, the flow, the merge MLP's inputs.
# Where one has changed, weights of the same shape would be read as something else.
DECISIVE = {
    "model": ("dim", "heads", "match_features"),
    "base": ("architecture",),
    "generator": ("decoder", "readout"),
    "ctr": ("use_flow", "use_alignment", "flow_similarity", "moveline_similarity"),
}


class Ids(NamedTuple):
    """What the ids of one run stand for.

    Attributes:
      spec: of the run's models.
      words: meaning -> its vocabulary by rank; hashed meanings and numbers have none.
    """

    spec: ModelSpec
    words: Mapping[str, Sequence[bytes]]


class Rows(NamedTuple):
    """Rows of a table that stand for the same in two runs, pair by pair: both `[rows]` int64."""

    source: np.ndarray
    target: np.ndarray


@dataclasses.dataclass(frozen=True)
class WarmStart:
    """The weights of a model of an earlier run, for a model of this run to go on from.

    Optimisers start afresh: only weights are carried over.

    Attributes:
      weights: by name.
      source: ids of the run that they come from.
      target: ids of this run.
    """

    weights: Mapping[str, np.ndarray]
    source: Ids
    target: Ids

    def into(self, model: tf.Module) -> CopyReport:
        """Copies all that is the same in both runs into a built `model`; the rest is left as initialised.

        Raises:
          InitializationError: the runs have other settings in `DECISIVE["model"]`, or nothing could be copied.
        """
        expect_unchanged("model", self.source.spec.shape, self.target.spec.shape)
        shapes = {name: tuple(weight.shape) for name, weight in named_weights(model).items()}
        weights = moved(self.weights, self.source, shapes, self.target)
        return copy_by_name(weights, model, {name.split("/")[0] for name in shapes})


def expect_unchanged(section: str, before: Section, now: Section) -> None:
    """Refuses a warm start across settings that decide what weights mean.

    Args:
      section: name of the settings, one of `DECISIVE`.
      before: those of the earlier run.
      now: those of this one.

    Raises:
      InitializationError: they differ in what is decisive.
    """
    changed = [name for name in DECISIVE[section] if getattr(before, name) != getattr(now, name)]
    if changed:
        told = ", ".join(f"{section}.{name} {getattr(before, name)}, got {getattr(now, name)}" for name in changed)
        raise InitializationError(
            f"The models cannot start warm. Expected what the earlier run had: {told}. Give the earlier value, or "
            f"start afresh: {START_AFRESH}."
        )


def moved(
    weights: Mapping[str, np.ndarray], source: Ids, shapes: Mapping[str, tuple[int, ...]], target: Ids
) -> dict[str, np.ndarray]:
    """Weights of an earlier run with the rows of their tables where this run has them.

    A row that stands for nothing of the earlier run, such as that of a new word, is zero, as those of values never seen
    are: at a small learning rate the noise that it would start with on a cold start would still be most of it when it
    is served.

    Args:
      weights: of the earlier run, by name.
      source: ids of the earlier run.
      shapes: of the weights of this run's model, by name.
      target: ids of this run.

    Returns:
      The earlier weights by name: tables of ids in this run's shape, all others as they are. A table is left out
      where no row of it stands for the same in both runs, a kernel of the merge MLP where the declared features behind
      its rows are others, or in another order.
    """
    found = {}
    for name, weight in weights.items():
        if _declared(name, source) != _declared(name, target):
            continue
        meaning = meaning_of_table(name, target.spec.contract)
        if meaning is None or name not in shapes or shapes[name][1:] != weight.shape[1:]:
            found[name] = weight
            continue
        rows = matching_rows(meaning, source, target)
        if len(rows.source):
            found[name] = np.zeros(shapes[name], weight.dtype)
            found[name][rows.target] = weight[rows.source]
    return found


def meaning_of_table(name: str, contract: FeatureContract) -> str | None:
    """Whose ids the rows of a weight stand for: `encoder/items/tables/brand/table` -> `brand`; None for other weights.

    Ages are no such ids: their buckets are the same in every run.
    """
    *path, table, last = name.split("/")
    if last != "table" or (table == AGE and path[-1] in LAYERS_WITH_AGES):
        return None
    meaning = table.removeprefix(CANDIDATE)
    known = (*contract.categorical_meanings, *(feature.name for feature in contract.numeric_features))
    return meaning if meaning in known else None


def matching_rows(meaning: str, source: Ids, target: Ids) -> Rows:
    """The rows of a meaning's tables that stand for the same in both runs.

    Words match by name, wherever they stand; buckets (of unseen values, of hashed values, of numbers) match by their
    place, where there are as many of them in both. (Borders between the buckets of numbers are quantiles, which move a
    little from run to run.) Nothing matches where a meaning has a vocabulary in one run and none in the other.
    """
    if (meaning in source.words) != (meaning in target.words):
        return _first(0)
    if meaning not in target.words:
        sizes, hashed = (source.spec.sizes, target.spec.sizes), (source.spec.hashed, target.spec.hashed)
        alike = sizes[0].get(meaning) == sizes[1][meaning] and (meaning in hashed[0]) == (meaning in hashed[1])
        return _first(sizes[1][meaning] if alike else 0)
    words = _common(source.words[meaning], target.words[meaning])
    before, now = source.spec.unseen_ids(meaning), target.spec.unseen_ids(meaning)
    buckets = _first(1 + now if before == now else 1)
    return Rows(
        np.concatenate([buckets.source, 1 + before + words.source]),
        np.concatenate([buckets.target, 1 + now + words.target]),
    )


def word_counts(source: Ids, target: Ids) -> dict[str, dict[str, int]]:
    """Meaning -> how many words both runs have (`kept`), this one alone (`new`), the earlier one alone (`gone`)."""
    counts = {}
    for meaning in sorted(source.words.keys() & target.words.keys()):
        before, now = source.words[meaning], target.words[meaning]
        kept = len(_common(before, now).source)
        counts[meaning] = {"kept": kept, "new": len(now) - kept, "gone": len(before) - kept}
    return counts


def _declared(name: str, ids: Ids) -> list[tuple]:
    """The declared features that a kernel has rows for, in the order of the rows; none for other weights."""
    features = ids.spec.contract.owned_by(*MERGE_INPUTS.get(name, ()))
    return [(feature.owner, feature.name, feature.kind, feature.fields) for feature in features]


def _first(count: int) -> Rows:
    """So many rows from the beginning, each where it was."""
    return Rows(np.arange(count), np.arange(count))


def _common(source: Sequence[bytes], target: Sequence[bytes]) -> Rows:
    """Ranks of the words that both vocabularies have."""
    rank = dict(zip(source, range(len(source)), strict=True))
    ranks = np.fromiter((rank.get(word, -1) for word in target), np.int64, len(target))
    there = np.flatnonzero(ranks >= 0)
    return Rows(ranks[there], there)
