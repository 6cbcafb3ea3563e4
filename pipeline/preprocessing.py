"""Transform: raw columns to ids and buckets; the same graph runs in training and inside every exported model.

In: the raw columns of `amen_tf.features`, all as sparse tensors. Out: the transformed columns, see `preprocessing_fn`.
"""

from collections.abc import Callable, Mapping

import tensorflow as tf
import tensorflow_transform as tft

from amen_tf.features import (
    AGE,
    AGE_BUCKETS,
    CANDIDATE,
    DIFF_CLICKED,
    DIFF_UNCLICKED,
    FUTURE,
    LABEL,
    MOVELINE,
    MOVELINE_LENGTH,
    PAD_ID,
    SCENE,
    TIMESTAMP,
    USER_ID,
    USER_KEY,
    FeatureContract,
)

Sparse = tf.SparseTensor
# Quantiles to within half a percent of rank: far finer than any bucket.
QUANTILE_ERROR = 0.005
# Vocabularies learn from these; the diff samples and request fields hold nothing that these lack.
LEARNED_FROM = (MOVELINE, CANDIDATE, FUTURE)


def preprocessing_fn(inputs: Mapping[str, Sparse], custom_config: Mapping) -> dict[str, tf.Tensor | Sparse]:
    """Maps raw to transformed columns.

    Ids: 0 = nothing, then `oov_buckets` hashed buckets for values not in the vocabulary, then words by falling
    frequency. Numeric features: 0 = missing, then quantile buckets. Ages: 0 = no event, then buckets of half powers
    of two seconds before the request. All int64.

    Args:
      inputs: every raw column, `[B, any]`.
      custom_config: `contract` (as a dict), `oov_buckets`, `min_frequency`, `max_words`.

    Returns:
      `moveline_*` `[B, L]` with the newest event at L-1; `candidate_*` and `label` sparse `[B, <=N]`; `future_*`
      `[B, T]`; `diff_*`, request features, `user_key` `[B]`.
    """
    contract = FeatureContract.from_dict(custom_config["contract"])
    ids = {**_categorical_ids(inputs, contract, custom_config), **_numeric_ids(inputs, contract)}

    outputs: dict[str, tf.Tensor | Sparse] = {}
    length = contract.moveline_length
    now = _scalar(inputs[TIMESTAMP])
    for column in contract.moveline_columns:
        if column.name == MOVELINE + TIMESTAMP:
            age = now[:, tf.newaxis] - pad_left(inputs[column.name], length, 0)
            real = pad_left(tf.sparse.map_values(tf.ones_like, inputs[column.name]), length, 0) > 0
            outputs[MOVELINE + AGE] = tf.where(real, age_bucket(age), PAD_ID)
        else:
            outputs[column.name] = pad_left(ids[column.name], length, PAD_ID)
    for column in contract.candidate_columns:
        outputs[column.name] = ids[column.name]
    outputs[LABEL] = inputs[LABEL]
    for field in contract.item_fields:
        outputs[FUTURE + field] = _pad_right(ids[FUTURE + field], contract.flow_length)
        for prefix in (DIFF_CLICKED, DIFF_UNCLICKED):
            outputs[prefix + field] = _scalar(ids[prefix + field])
    for prefix in (DIFF_CLICKED, DIFF_UNCLICKED):
        outputs[prefix + MOVELINE_LENGTH] = _scalar(inputs[prefix + MOVELINE_LENGTH])
    for field in (SCENE, *contract.request_fields):
        outputs[field] = _scalar(ids[field])
    outputs[USER_KEY] = tf.strings.to_hash_bucket_fast(_scalar(inputs[USER_ID], ""), 2**62)
    return outputs


def age_bucket(seconds: tf.Tensor) -> tf.Tensor:
    """Seconds before the request -> 1 ... AGE_BUCKETS, one bucket for every factor of sqrt(2); int64."""
    log = 2.0 * tf.math.log(tf.cast(tf.maximum(seconds, 1), tf.float64)) / tf.math.log(tf.constant(2.0, tf.float64))
    return 1 + tf.minimum(tf.cast(tf.floor(log), tf.int64), AGE_BUCKETS - 1)


def pad_left(values: Sparse, length: int, fill) -> tf.Tensor:
    """Sparse `[B, any]` -> `[B, length]`: the last `length` values of every row, right-aligned."""
    ragged = tf.RaggedTensor.from_sparse(values)[:, -length:]
    dense = ragged.to_tensor(fill, shape=(None, length))
    shift = length - ragged.row_lengths()
    index = tf.range(length, dtype=tf.int64)[tf.newaxis] - shift[:, tf.newaxis]
    moved = tf.gather(dense, tf.maximum(index, 0), batch_dims=1)
    return tf.ensure_shape(tf.where(index >= 0, moved, tf.cast(fill, moved.dtype)), (None, length))


def _pad_right(values: Sparse, length: int) -> tf.Tensor:
    ragged = tf.RaggedTensor.from_sparse(values)[:, :length]
    return tf.ensure_shape(ragged.to_tensor(PAD_ID, shape=(None, length)), (None, length))


def _scalar(values: Sparse, fill=0) -> tf.Tensor:
    """The first value of every row, `fill` where there is none: `[B]`."""
    return tf.RaggedTensor.from_sparse(values)[:, :1].to_tensor(fill, shape=(None, 1))[:, 0]


def _categorical_ids(inputs, contract: FeatureContract, config) -> dict[str, Sparse]:
    """Ids of every string column; columns of one meaning share one vocabulary and one lookup."""
    result = {}
    for meaning in contract.categorical_meanings:
        names = [c.name for c in contract.raw_columns if c.meaning == meaning]
        learned = [n for n in names if n.startswith(LEARNED_FROM) or n == meaning]
        values = tf.concat([inputs[n].values for n in learned], 0)
        vocabulary = tft.vocabulary(
            tf.boolean_mask(values, values != ""),
            top_k=config["max_words"],
            frequency_threshold=config["min_frequency"],
            vocab_filename=meaning,
        )
        oov = config["oov_buckets"]

        def to_ids(words, vocabulary=vocabulary, oov=oov):
            index = tft.apply_vocabulary(words, vocabulary, default_value=-1)
            unseen = 1 + tf.strings.to_hash_bucket_fast(words, oov)
            return tf.where(index >= 0, 1 + oov + index, tf.where(words == "", tf.constant(PAD_ID, tf.int64), unseen))

        result |= _mapped(inputs, names, to_ids)
    return result


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


def feature_sizes(contract: FeatureContract, words: Mapping[str, int], oov_buckets: int) -> dict[str, int]:
    """Number of ids of every meaning, id 0 included.

    Args:
      contract: the run's features.
      words: vocabulary size of every categorical meaning.
      oov_buckets: as given to `preprocessing_fn`.
    """
    sizes = {meaning: 1 + oov_buckets + words[meaning] for meaning in contract.categorical_meanings}
    return sizes | {feature.name: 1 + feature.buckets for feature in contract.numeric_features}
