"""A split's raw requests: as serialized tf.Examples, and as the columns that a client sends to `rank`."""

import pathlib

import tensorflow as tf

from amen_tf.features import FeatureContract

EMPTY = {"string": "", "int": 0, "float": float("nan")}
DTYPES = {"string": tf.string, "int": tf.int64, "float": tf.float32}


def read_split(examples: pathlib.Path, split: str) -> list[bytes]:
    """Serialized raw examples of a split."""
    files = sorted(str(path) for path in (examples / f"Split-{split}").iterdir())
    return list(tf.data.TFRecordDataset(files, compression_type="GZIP").as_numpy_iterator())


def values(serialized: bytes, contract: FeatureContract) -> dict[str, list]:
    """Column -> values of one raw example; strings as bytes."""
    feature = tf.train.Example.FromString(serialized).features.feature
    found = {}
    for column in contract.raw_columns:
        kind = feature[column.name].WhichOneof("kind") if column.name in feature else None
        found[column.name] = list(getattr(feature[column.name], kind).value) if kind else []
    return found


def to_columns(requests: list[dict[str, list]], contract: FeatureContract) -> dict[str, tf.Tensor]:
    """Requests as `values` gives them -> the inputs of `rank`: lists padded on the right to the batch's longest."""
    columns = {}
    for column in contract.request_columns:
        rows = [(request[column.name] or [EMPTY[column.kind]])[0] for request in requests]
        columns[column.name] = tf.constant(rows, DTYPES[column.kind])
    for column in (*contract.moveline_columns, *contract.candidate_columns):
        rows = [request[column.name] for request in requests]
        # At least one place: TensorFlow makes no string tensor of empty lists.
        width = max([1, *(len(row) for row in rows)])
        padded = [row + [EMPTY[column.kind]] * (width - len(row)) for row in rows]
        columns[column.name] = tf.constant(padded, DTYPES[column.kind])
    return columns
