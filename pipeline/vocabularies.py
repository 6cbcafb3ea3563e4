"""What Transform has learned of names and numbers, read back: how many ids there are, and how often items follow.

In: Transform's output. Out: the `ModelSpec` that models are built from, the words of every
vocabulary, how often items follow.
"""

from collections.abc import Collection, Mapping

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from amen_tf.config import ModelSettings, TransformSettings
from amen_tf.features import ITEM_ID, PAD_ID, FeatureContract
from amen_tf.spec import ModelSpec

# The asset with the counts: a line an item, the number and then the item; of a log in spans a line an item and span,
# the number, the span and then the item.
ITEM_COUNTS = "item_counts"


def model_spec(
    learned: tft.TFTransformOutput,
    contract: FeatureContract,
    settings: TransformSettings,
    shape: ModelSettings,
    seed: int,
) -> ModelSpec:
    """What models of these features are built from.

    Args:
      learned: Transform's output.
      contract: the run's features.
      settings: those that Transform ran with.
      shape: L, T, H, d and the widths.
      seed: of the models.
    """
    hashed = tuple(settings.hash_buckets)
    words = {m: learned.vocabulary_size_by_name(m) for m in contract.categorical_meanings if m not in hashed}
    return ModelSpec(contract, feature_sizes(contract, words, settings), shape, seed, settings.oov_buckets, hashed)


def feature_sizes(contract: FeatureContract, words: Mapping[str, int], settings: TransformSettings) -> dict[str, int]:
    """Number of ids of every meaning, id 0 included.

    Args:
      contract: the run's features.
      words: vocabulary size of every categorical meaning that has one.
      settings: those that Transform ran with.
    """
    sizes = {meaning: 1 + buckets for meaning, buckets in settings.hash_buckets.items()}
    sizes |= {meaning: 1 + settings.oov_buckets + count for meaning, count in words.items()}
    return sizes | {feature.name: 1 + feature.buckets for feature in contract.numeric_features}


def vocabulary_words(learned: tft.TFTransformOutput, spec: ModelSpec) -> dict[str, list[bytes]]:
    """Meaning -> its vocabulary by rank; hashed meanings have none."""
    return {meaning: learned.vocabulary_by_name(meaning) for meaning in spec.in_vocabularies}


def item_words(learned: tft.TFTransformOutput, spec: ModelSpec) -> list[bytes]:
    """The vocabulary of the items, by rank; empty where they are hashed."""
    return [] if ITEM_ID in spec.hashed else learned.vocabulary_by_name(ITEM_ID)


def item_counts(learned: tft.TFTransformOutput, spec: ModelSpec, spans: Collection[int] | None = None) -> np.ndarray:
    """How often each item is a future item of the stage-1 window: int64 `[item ids]`, 0 for "nothing".

    Items that are not in the vocabulary count for their bucket.

    Args:
      learned: Transform's output.
      spec: of the models.
      spans: of the stage-1 window, where the log is in spans.
    """
    counts = np.zeros(spec.sizes[ITEM_ID], np.int64)
    lines = [line.split(b" ", 1) for line in learned.vocabulary_by_name(ITEM_COUNTS)]
    if spans is not None:
        of_span = [(number, *item.split(b" ", 1)) for number, item in lines]
        lines = [(number, item) for number, span, item in of_span if int(span) in spans]
    numbers = np.array([int(number) for number, _ in lines], np.int64)
    if ITEM_ID in spec.hashed:
        ids = np.array([int(item) for _, item in lines], np.int64)
    else:
        place = {word: 1 + spec.unseen + rank for rank, word in enumerate(item_words(learned, spec))}
        buckets = hashed_ids(tf.constant([item for _, item in lines], tf.string), spec.unseen).numpy()
        ids = np.array([place.get(item, int(b)) for (_, item), b in zip(lines, buckets, strict=True)], np.int64)
    np.add.at(counts, ids, numbers)
    counts[PAD_ID] = 0
    return counts


def hashed_ids(words: tf.Tensor, buckets: int) -> tf.Tensor:
    """1 + the bucket of a word, of so many: strings of any shape -> int64 of that shape. Not for the empty string."""
    return 1 + tf.strings.to_hash_bucket_fast(words, buckets)
