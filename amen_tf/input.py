"""From transformed tf.Examples to batches for the models: `tf.data`, deterministic for a given seed."""

import math
import pathlib
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from amen_tf.features import CANDIDATE, CANDIDATE_MASK, DIVERSITY, FLOW, ITEM_ID, LABEL, PAD_ID, VELOCITY

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


class FlowFile:
    """The frozen generator's outputs for every request of a data set, kept on disk in the order of the requests.

    The generator never changes in stage 2, so its outputs are computed once and not once per epoch.

    Args:
      path: file of float32 rows, written by `write`.
      flow_length: T.
      dim: d.
    """

    def __init__(self, path: str | pathlib.Path, flow_length: int, dim: int):
        self.path = str(path)
        self.shapes = {FLOW: (flow_length, dim), DIVERSITY: (flow_length,), VELOCITY: (flow_length, dim)}
        self._sizes = [math.prod(shape) for shape in self.shapes.values()]

    def write(self, generator: Callable, batches: tf.data.Dataset) -> None:
        """Computes and writes the rows for `batches`, which must come unshuffled."""
        compute = tf.function(generator, autograph=False, reduce_retracing=True)
        with open(self.path, "wb") as file:
            for features in batches:
                outputs = compute(features)
                rows = [tf.reshape(outputs[name], (tf.shape(outputs[name])[0], -1)) for name in self.shapes]
                file.write(tf.concat(rows, 1).numpy().astype("<f4").tobytes())

    def rows(self) -> tf.data.Dataset:
        """One raw string per request."""
        return tf.data.FixedLengthRecordDataset(self.path, 4 * sum(self._sizes))

    def decode(self, rows: tf.Tensor) -> dict[str, tf.Tensor]:
        """Raw strings `[B]` -> flow `[B, T, d]`, diversity `[B, T]`, velocity `[B, T, d]`."""
        parts = tf.split(tf.io.decode_raw(rows, tf.float32), self._sizes, 1)
        return {n: tf.reshape(part, (-1, *shape)) for part, (n, shape) in zip(parts, self.shapes.items(), strict=True)}


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
