"""From transformed tf.Examples to batches for the models: `tf.data`, deterministic for a given seed."""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from amen_tf.features import CANDIDATE, CANDIDATE_MASK, ITEM_ID, LABEL, PAD_ID
from amen_tf.flows import FlowFile

# Requests held for shuffling; ExampleGen mixes users and times within each file already.
SHUFFLE_BUFFER = 20_000


def densify(features: Mapping[str, tf.Tensor | tf.SparseTensor], width: int | None = None) -> dict[str, tf.Tensor]:
    """Pads candidates and labels on the right and adds their mask.

    Args:
      features: transformed columns; candidates and label are sparse `[B, <=N]`, all others dense.
      width: N at least; None takes the longest of the batch.

    Returns:
      The same columns dense, `label` as float32 `[B, N]`, and `candidate_mask` `[B, N]` bool, True = real.
    """
    sparse = {name: value for name, value in features.items() if isinstance(value, tf.SparseTensor)}
    dense = {name: value for name, value in features.items() if name not in sparse}
    columns = sparse[CANDIDATE + ITEM_ID].dense_shape[1]
    columns = columns if width is None else tf.maximum(columns, width)
    for name, value in sparse.items():
        shape = tf.stack([value.dense_shape[0], columns])
        padded = tf.SparseTensor(value.indices, value.values, shape)
        dense[name] = tf.ensure_shape(tf.sparse.to_dense(padded), (None, None))
    dense[CANDIDATE_MASK] = dense[CANDIDATE + ITEM_ID] != PAD_ID
    if LABEL in dense:
        dense[LABEL] = tf.cast(dense[LABEL], tf.float32)
    return dense


def example_files(patterns: Sequence[str]) -> list[str]:
    """The files that match, sorted.

    Raises:
      ValueError: no file matches.
    """
    paths = sorted({path for pattern in patterns for path in tf.io.gfile.glob(pattern)})
    if not paths:
        raise ValueError(f"No example files match {', '.join(patterns)}: expected the output of Transform.")
    return paths


def count_examples(patterns: Sequence[str]) -> int:
    """Number of examples in the files."""
    records = tf.data.TFRecordDataset(example_files(patterns), compression_type="GZIP")
    return int(records.reduce(tf.constant(0, tf.int64), lambda count, _: count + 1))


def requests(
    patterns: Sequence[str],
    feature_spec: Mapping,
    batch_size: int,
    *,
    shuffle_seed: int | None = None,
    flows: FlowFile | None = None,
) -> tf.data.Dataset:
    """One pass over the requests in the files.

    Args:
      patterns: globs of gzipped TFRecords of transformed tf.Examples; files are read in sorted order.
      feature_spec: of `tft.TFTransformOutput.transformed_feature_spec()`.
      batch_size: requests per batch; the last batch may be smaller. N is the most candidates in the batch.
      shuffle_seed: shuffles anew each epoch, the same way in every run; None keeps the order.
      flows: the generator's outputs for these very requests, to be added to the features.
    """
    records = tf.data.TFRecordDataset(example_files(patterns), compression_type="GZIP")
    if flows is not None:
        records = tf.data.Dataset.zip((records, flows.rows()))
    if shuffle_seed is not None:
        records = records.shuffle(SHUFFLE_BUFFER, seed=shuffle_seed, reshuffle_each_iteration=True)

    @tf.autograph.experimental.do_not_convert
    def parse(serialized, rows=None):
        features = densify(tf.io.parse_example(serialized, feature_spec))
        return features if rows is None else {**features, **flows.decode(rows)}

    return records.batch(batch_size).map(parse, tf.data.AUTOTUNE, deterministic=True).prefetch(2)
