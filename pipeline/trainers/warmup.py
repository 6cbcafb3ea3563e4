"""Warm-up requests of an exported model: one for every signature and number of candidates, run once before it is kept.

In: an exported CTR model, its features and words. Out: `assets.extra/tf_serving_warmup_requests`, which TensorFlow
Serving replays before a version answers. A record that fails there fails the load of the version; so it fails the run
here first.
"""

import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from amen_tf.features import FeatureContract, RawColumn
from amen_tf.signatures import (
    DTYPES,
    FLOW_COLUMNS,
    INTEREST_FLOW,
    RANK,
    RANK_WITH_FLOW,
    SERVING_DEFAULT,
    TRANSFORM_FEATURES,
)

# Where TensorFlow Serving looks for them.
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
_NOW = 1_700_000_000


class WarmupError(RuntimeError):
    """An exported model that does not answer its own warm-up requests."""


def write_warmup(
    folder: pathlib.Path,
    signatures: Mapping[str, Callable],
    contract: FeatureContract,
    words: Mapping[str, Sequence[str]],
    candidates: Iterable[int],
) -> int:
    """Writes the requests and has the model answer them.

    Args:
      folder: of the exported model.
      signatures: its functions, by name.
      contract: its features.
      words: meaning -> some of its words, with which to fill columns; none fills them with a word that is unknown.
      candidates: numbers of candidates N, one request each.

    Returns:
      How many there are.

    Raises:
      WarmupError: the model cannot be loaded, or fails on a request.
    """
    requests = _requests(signatures, Columns(contract, words), list(candidates))
    records = [_record(name, inputs) for name, inputs in requests]
    path = folder / WARMUP_FILE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record.SerializeToString())
    _replay(folder)
    return len(records)


def _replay(folder: pathlib.Path) -> None:
    """Has the model as it was saved answer the requests as they were written."""
    number, served = 0, tf.saved_model.load(str(folder)).signatures
    try:
        for data in tf.data.TFRecordDataset(str(folder / WARMUP_FILE)):
            number += 1
            request = prediction_log_pb2.PredictionLog.FromString(data.numpy()).predict_log.request
            inputs = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
            served[request.model_spec.signature_name](**inputs)
    except (tf.errors.OpError, TypeError, ValueError) as error:
        raise WarmupError(
            "The exported model does not answer its own warm-up requests, so that no server would take it. "
            f"Record {number}: {error}. The model is in {folder}."
        ) from error


def _requests(
    signatures: Mapping[str, Callable], columns: "Columns", candidates: list[int]
) -> Iterator[tuple[str, dict[str, tf.Tensor]]]:
    """(signature, inputs) of every request."""
    flow = {}
    if INTEREST_FLOW in signatures:
        inputs = {c.name: columns.filled(c, 1) for c in columns.contract.flow_columns}
        yield INTEREST_FLOW, inputs
        flow = signatures[INTEREST_FLOW](inputs)
    for count in candidates:
        inputs = {c.name: columns.filled(c, count) for c in columns.contract.rank_columns}
        yield RANK, inputs
        if RANK_WITH_FLOW in signatures:
            yield RANK_WITH_FLOW, {**inputs, **{name: flow[name] for name in FLOW_COLUMNS}}
    for name in (SERVING_DEFAULT, TRANSFORM_FEATURES):
        if name in signatures:
            yield name, {"examples": tf.constant([columns.example(max(candidates))])}


class Columns:
    """Values for the raw columns of a request.

    Args:
      contract: the features.
      words: see `write_warmup`.
    """

    def __init__(self, contract: FeatureContract, words: Mapping[str, Sequence[str]]):
        self.contract, self._words = contract, words

    def filled(self, column: RawColumn, candidates: int) -> tf.Tensor:
        """`[1]`, `[1, L]` or `[1, N]`: the column of one request."""
        values = self._values(column, candidates)
        return tf.constant(values if column.scalar else [values], DTYPES[column.kind])

    def example(self, candidates: int) -> bytes:
        """The same request as a serialized tf.Example."""
        example = tf.train.Example()
        for column in self.contract.rank_columns:
            values, feature = self._values(column, candidates), example.features.feature[column.name]
            if column.kind == "string":
                feature.bytes_list.value.extend(value.encode() for value in values)
            else:
                (feature.int64_list if column.kind == "int" else feature.float_list).value.extend(values)
        return example.SerializeToString()

    def _values(self, column: RawColumn, candidates: int) -> list:
        of_moveline = column in self.contract.moveline_columns
        count = 1 if column.scalar else self.contract.moveline_length if of_moveline else candidates
        if column.kind == "int":
            return [_NOW - place for place in range(count, 0, -1)] if of_moveline else [_NOW]
        if column.kind == "float":
            return [0.0] * count
        words = self._words.get(column.meaning) or ["warm-up"]
        return [words[place % len(words)] for place in range(count)]


def _record(signature: str, inputs: Mapping[str, tf.Tensor]) -> prediction_log_pb2.PredictionLog:
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
