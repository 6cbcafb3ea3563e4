"""Times of a model's signatures in a process of its own, for `serving`.

usage: python -m benchmarks.serving_job MODEL ROUNDS

Prints a line of JSON, see `main`.
"""

import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from amen_tf.features import CANDIDATE, MOVELINE, TIMESTAMP
from amen_tf.signatures import INTEREST_FLOW, PROBABILITY, RANK, RANK_WITH_FLOW
from benchmarks.serving import ONE, REPEATED, WIDE
from serving.double.warmup import WARMUP_FILE

COUNTS = (1, 100, 500, 1000)
_CALLS = 10


def main(model: pathlib.Path, rounds: int) -> dict:
    """Times every request `rounds` times by turns.

    Returns:
      `gpus`: how many TensorFlow sees. `scores`: of 500 candidates. `requests`: name -> `ms` (median of a call),
      `to_one` (median over the rounds of the times that one candidate takes), `candidates`, `json_request` and
      `json_reply` in bytes (0 where nobody would send it).
    """
    signatures = tf.saved_model.load(str(model)).signatures
    columns = _columns(model)
    calls: dict[str, tuple[Callable, dict, int]] = {}
    for count in COUNTS:
        calls[f"rank, N = {count}"] = (signatures[RANK], _tensors(_with(columns, count)), count)
    if INTEREST_FLOW in signatures:
        wide = _with(columns, 500)
        known = {n: v for n, v in wide.items() if n.startswith(MOVELINE) or n == TIMESTAMP}
        flow = {name: value.numpy() for name, value in signatures[INTEREST_FLOW](**_tensors(known)).items()}
        calls["rank_with_flow, N = 500"] = (signatures[RANK_WITH_FLOW], _tensors({**wide, **flow}), 500)
    calls[REPEATED] = (signatures[RANK], _tensors(_repeated(_with(columns, 500))), 500)

    milliseconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, (signature, inputs, _) in calls.items():
            taken = _median(signature, inputs, 1 if name == REPEATED else _CALLS)
            # The first round traces, fills caches and compiles.
            milliseconds[name] += [taken] if turn else []
    ones = milliseconds[ONE]
    requests = {}
    for name, (signature, inputs, candidates) in calls.items():
        sent, back = (0, 0) if name == REPEATED else _json_sizes(signature, inputs)
        ratio = statistics.median(taken / one for taken, one in zip(milliseconds[name], ones, strict=True))
        requests[name] = {
            "ms": statistics.median(milliseconds[name]),
            "to_one": ratio,
            "candidates": candidates,
            "json_request": sent,
            "json_reply": back,
        }
    signature, inputs, _ = calls[WIDE]
    scores = signature(**inputs)[PROBABILITY].numpy()[0].tolist()
    return {"gpus": len(tf.config.list_physical_devices("GPU")), "scores": scores, "requests": requests}


def _columns(model: pathlib.Path) -> dict[str, np.ndarray]:
    """The inputs of `rank` with the most candidates among the model's warm-up requests."""
    found: dict[str, np.ndarray] = {}
    for record in tf.data.TFRecordDataset(str(model / WARMUP_FILE)):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        if request.model_spec.signature_name == RANK:
            found = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
    return found


def _with(columns: Mapping[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    """The same with so many candidates."""
    return {
        name: np.resize(values, (1, count)) if name.startswith(CANDIDATE) else values
        for name, values in columns.items()
    }


def _repeated(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A request for each candidate, with all else repeated."""
    count = columns[f"{CANDIDATE}item_id"].shape[1]
    return {
        name: values.T if name.startswith(CANDIDATE) else np.repeat(values, count, 0)
        for name, values in columns.items()
    }


def _tensors(columns: Mapping[str, np.ndarray]) -> dict[str, tf.Tensor]:
    return {name: tf.constant(values) for name, values in columns.items()}


def _median(signature: Callable, inputs: Mapping[str, tf.Tensor], calls: int) -> float:
    taken = []
    for _ in range(calls):
        start = time.perf_counter()
        signature(**inputs)[PROBABILITY].numpy()
        taken.append((time.perf_counter() - start) * 1000)
    return statistics.median(taken)


def _json_sizes(signature: Callable, inputs: Mapping[str, tf.Tensor]) -> tuple[int, int]:
    """Bytes of the REST request and of its reply."""

    def plain(values):
        return values.astype(str).tolist() if values.dtype == object else values.tolist()

    body = {"signature_name": RANK, "inputs": {name: plain(value.numpy()) for name, value in inputs.items()}}
    reply = {"outputs": [[float(f"{p:.7g}") for p in signature(**inputs)[PROBABILITY].numpy()[0]]]}
    return len(json.dumps(body)), len(json.dumps(reply))


if __name__ == "__main__":
    print(json.dumps(main(pathlib.Path(sys.argv[1]), int(sys.argv[2]))))
