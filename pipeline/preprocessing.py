"""Transform: raw columns to ids and buckets; the same graph runs in training and inside every exported model.

In: the raw columns of `amen_tf.features`, all as sparse tensors. Out: the transformed columns, see `preprocessing_fn`.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import tensorflow as tf
import tensorflow_transform as tft

from amen_tf.features import (
    AGE,
    AGE_BUCKETS,
    BEHAVIOR,
    CANDIDATE,
    DIFF_CLICKED,
    DIFF_UNCLICKED,
    FUTURE,
    ITEM_ID,
    LABEL,
    MOVELINE,
    MOVELINE_LENGTH,
    PAD_ID,
    SCENE,
    SPAN,
    TIMESTAMP,
    USER_ID,
    USER_KEY,
    VALUE_SEPARATOR,
    FeatureContract,
)
from pipeline.vocabularies import ITEM_COUNTS, hashed_ids

Sparse = tf.SparseTensor
# Quantiles to within half a percent of rank: far finer than any bucket.
QUANTILE_ERROR = 0.005
# So many that two users of a batch never share a hash.
USER_HASHES = 2**62
# Smallest number of whole seconds of the second and every later age bucket: 2^(k/2), rounded up.
AGE_BORDERS = [math.isqrt(2**k - 1) + 1 for k in range(1, AGE_BUCKETS)]
# Vocabularies learn from these; the diff samples and request fields hold nothing that these lack.
LEARNED_FROM = (MOVELINE, CANDIDATE, FUTURE)


def preprocessing_fn(inputs: Mapping[str, Sparse], custom_config: Mapping) -> dict[str, tf.Tensor | Sparse]:
    """Maps raw to transformed columns.

    Ids: 0 = nothing, then `oov_buckets` hashed buckets for values not in the vocabulary, then words by falling
    frequency; or, for the meanings of `hash_buckets`, buckets alone. Numeric features: 0 = missing, then quantile
    buckets. Ages: 0 = no event, then buckets of half powers of two seconds before the request. All int64.

    Args:
      inputs: every raw column, `[B, any]`.
      custom_config: `contract` (as a dict), the `TransformSettings`, and `stage1_end` in unix seconds (None: the window
        has no end before that of training). Of a log in spans items are counted for each span instead.

    Returns:
      `moveline_*` `[B, L]` with the newest event at L-1; `candidate_*` and `label` sparse `[B, <=N]`; `future_*`
      `[B, T]`; `diff_*`, request features, `user_key` `[B]`.
    """
    contract = FeatureContract.from_dict(custom_config["contract"])
    words = {**inputs, **_split(inputs, contract)}
    ids = {**_categorical_ids(words, contract, custom_config), **_numeric_ids(inputs, contract)}
    _count_items(inputs, ids, custom_config)
    rows = inputs[TIMESTAMP].dense_shape[0]

    # The columns of a list are aligned: where its values go is worked out once.
    moveline = Placement.right_aligned(inputs[MOVELINE + BEHAVIOR], rows, contract.moveline_length)
    future = Placement.left_aligned(inputs[FUTURE + ITEM_ID], rows, contract.flow_length)
    outputs: dict[str, tf.Tensor | Sparse] = {
        MOVELINE + field: moveline.place(ids[MOVELINE + field]) for field in contract.moveline_fields if field != AGE
    }
    then = moveline.place(inputs[MOVELINE + TIMESTAMP])
    age = age_bucket(_scalar(inputs[TIMESTAMP], rows)[:, tf.newaxis] - then)
    outputs[MOVELINE + AGE] = tf.where(outputs[MOVELINE + BEHAVIOR] != PAD_ID, age, PAD_ID)
    for field in contract.candidate_fields:
        outputs[CANDIDATE + field] = ids[CANDIDATE + field]
    outputs[LABEL] = inputs[LABEL]
    for field in contract.item_fields:
        outputs[FUTURE + field] = future.place(ids[FUTURE + field])
        for prefix in (DIFF_CLICKED, DIFF_UNCLICKED):
            outputs[prefix + field] = _scalar(ids[prefix + field], rows)
    for prefix in (DIFF_CLICKED, DIFF_UNCLICKED):
        outputs[prefix + MOVELINE_LENGTH] = _scalar(inputs[prefix + MOVELINE_LENGTH], rows)
    for field in (SCENE, *contract.request_fields):
        outputs[field] = _scalar(ids[field], rows)
    user = tf.sparse.map_values(tf.strings.to_hash_bucket_fast, inputs[USER_ID], USER_HASHES)
    outputs[USER_KEY] = _scalar(user, rows)
    return outputs


class Placement(NamedTuple):
    """Where the values of aligned list columns go in a dense `[B, length]`.

    Attributes:
      kept: `[kept values]` int64, which values do not lie beyond `length`.
      target: `[kept values, 2]` int64, row and place of those that are kept.
      shape: of the result, `[2]` int64.
      length: of the result.
    """

    kept: tf.Tensor
    target: tf.Tensor
    shape: tf.Tensor
    length: int

    @classmethod
    def right_aligned(cls, like: Sparse, rows: tf.Tensor, length: int) -> "Placement":
        """The last `length` values of each row, so that the newest lies at `length - 1`."""
        row = like.indices[:, 0]
        counts = tf.math.unsorted_segment_sum(tf.ones_like(row), row, rows)
        place = like.indices[:, 1] + length - tf.gather(counts, row)
        return cls._of(row, place, place >= 0, rows, length)

    @classmethod
    def left_aligned(cls, like: Sparse, rows: tf.Tensor, length: int) -> "Placement":
        """The first `length` values of each row."""
        row, place = like.indices[:, 0], like.indices[:, 1]
        return cls._of(row, place, place < length, rows, length)

    @classmethod
    def _of(cls, row, place, kept, rows, length) -> "Placement":
        kept = tf.where(kept)[:, 0]
        return cls(kept, tf.gather(tf.stack([row, place], 1), kept), tf.stack([rows, length]), length)

    def place(self, column: Sparse) -> tf.Tensor:
        """A column that is aligned with the one that this was made of -> dense `[B, length]` int64, 0 at padding."""
        dense = tf.scatter_nd(self.target, tf.gather(column.values, self.kept), self.shape)
        return tf.ensure_shape(dense, (None, self.length))


def age_bucket(seconds: tf.Tensor) -> tf.Tensor:
    """Seconds before the request -> 1 ... AGE_BUCKETS, one bucket for every factor of sqrt(2); int64.

    By comparing integers: a logarithm's last bit depends on how TensorFlow rewrites the graph, and an age of 2^k
    seconds would change its bucket between training and serving.
    """
    flat = tf.searchsorted(
        tf.constant(AGE_BORDERS, tf.int64), tf.reshape(seconds, [-1]), side="right", out_type=tf.int64
    )
    return 1 + tf.reshape(flat, tf.shape(seconds))


def _scalar(values: Sparse, rows: tf.Tensor) -> tf.Tensor:
    """The value of every row, 0 where there is none: `[B]`. Rows have one value at most, as the schema demands."""
    return tf.ensure_shape(tf.scatter_nd(values.indices[:, :1], values.values, rows[tf.newaxis]), (None,))


def _split(inputs, contract: FeatureContract) -> dict[str, Sparse]:
    """Multi-valued columns as their single values: name_1, name_2, ... with "" behind the last one."""
    result = {}
    for feature in contract.declared:
        for column in contract.raw_columns:
            if feature.kind == "multi_valued" and column.meaning == feature.name:
                texts = inputs[column.name]
                parts = tf.strings.split(texts.values, VALUE_SEPARATOR).to_tensor("", shape=(None, feature.values))
                parts = tf.unstack(tf.strings.strip(parts), feature.values, 1)
                names = (column.name.removesuffix(feature.name) + field for field in feature.fields)
                result |= {
                    n: tf.SparseTensor(texts.indices, p, texts.dense_shape) for n, p in zip(names, parts, strict=True)
                }
    return result


def _columns_of(meaning: str, contract: FeatureContract) -> list[str]:
    """All columns, single values, that hold values of a meaning."""
    fields = next((feature.fields for feature in contract.declared if feature.name == meaning), (meaning,))
    columns = [column.name for column in contract.raw_columns if column.meaning == meaning]
    return [column.removesuffix(meaning) + field for column in columns for field in fields]


def _categorical_ids(inputs, contract: FeatureContract, config) -> dict[str, Sparse]:
    """Ids of every string column; columns of one meaning share one vocabulary and one lookup."""
    result = {}
    for meaning in contract.categorical_meanings:
        names = _columns_of(meaning, contract)
        if meaning in config["hash_buckets"]:
            result |= _mapped(inputs, names, functools.partial(_bucket_ids, buckets=config["hash_buckets"][meaning]))
            continue
        learned = [n for n in names if n.startswith(LEARNED_FROM) or contract.meaning_of(n) == meaning]
        values = tf.concat([inputs[n].values for n in learned], 0)
        vocabulary = tft.vocabulary(
            tf.boolean_mask(values, values != ""),
            top_k=config["max_words"],
            frequency_threshold=config["min_frequency"] if config["min_frequency"] > 1 else None,
            vocab_filename=meaning,
        )
        oov = config["oov_buckets"]

        def to_ids(words, vocabulary=vocabulary, oov=oov):
            index = tft.apply_vocabulary(words, vocabulary, default_value=-1)
            return tf.where(index >= 0, 1 + oov + index, _bucket_ids(words, oov))

        result |= _mapped(inputs, names, to_ids)
    return result


def _bucket_ids(words: tf.Tensor, buckets: int) -> tf.Tensor:
    return tf.where(words == "", tf.constant(PAD_ID, tf.int64), hashed_ids(words, buckets))


def _count_items(inputs, ids: Mapping[str, Sparse], config) -> None:
    """Has Transform count the future items of the stage-1 window, by their words, or by their ids where hashed.

    The log-Q correction of Eq. 1 needs how often an item is drawn as another user's future; an asset of Transform's
    output, so that no trainer need read the window for it.
    """
    future = FUTURE + ITEM_ID
    counted = (ids if ITEM_ID in config["hash_buckets"] else inputs)[future]
    if SPAN in inputs:
        # So that the counts of a span stay what they are when the window moves on.
        span = tf.gather(_scalar(inputs[SPAN], inputs[TIMESTAMP].dense_shape[0]), counted.indices[:, 0])
        items = counted.values if counted.dtype == tf.string else tf.strings.as_string(counted.values)
        by_span = tf.strings.join([tf.strings.as_string(span), items], " ")
        tft.vocabulary(by_span, vocab_filename=ITEM_COUNTS, store_frequency=True)
        return
    if config["stage1_end"] is not None:
        time = _scalar(inputs[TIMESTAMP], inputs[TIMESTAMP].dense_shape[0])
        counted = tf.sparse.retain(counted, tf.gather(time, counted.indices[:, 0]) < config["stage1_end"])
    tft.vocabulary(counted.values, vocab_filename=ITEM_COUNTS, store_frequency=True)


def _numeric_ids(inputs, contract: FeatureContract) -> dict[str, Sparse]:
    """Quantile buckets of every numeric column; columns of one feature share their boundaries."""
    result = {}
    for feature in contract.numeric_features:
        names = [c.name for c in contract.raw_columns if c.meaning == feature.name]
        # Movelines repeat an event in every request that sees it; what was shown now says how values are spread.
        learned = [n for n in names if n.startswith(CANDIDATE) or n == feature.name]
        values = tf.concat([inputs[n].values for n in learned], 0)
        known = tf.boolean_mask(values, ~tf.math.is_nan(values))
        boundaries = tft.quantiles(known, feature.buckets, QUANTILE_ERROR)

        def to_ids(numbers, boundaries=boundaries):
            missing = tf.math.is_nan(numbers)
            bucket = tft.apply_buckets(tf.where(missing, 0.0, numbers), boundaries)
            return tf.where(missing, tf.constant(PAD_ID, tf.int64), 1 + bucket)

        result |= _mapped(inputs, names, to_ids)
    return result


def _mapped(inputs, names: list[str], to_ids: Callable[[tf.Tensor], tf.Tensor]) -> dict[str, Sparse]:
    """Applies `to_ids` once to the values of all `names`, then deals the results out again."""
    ids = to_ids(tf.concat([inputs[n].values for n in names], 0))
    parts = tf.split(ids, tf.stack([tf.size(inputs[n].values) for n in names]), num=len(names))
    return {
        n: tf.SparseTensor(inputs[n].indices, part, inputs[n].dense_shape) for n, part in zip(names, parts, strict=True)
    }
