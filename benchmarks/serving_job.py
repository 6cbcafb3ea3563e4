"""Times of a model's signatures in a process of its own, for `serving`.

usage: python -m benchmarks.serving_job MODEL ROUNDS

Prints a line of JSON, see `main`.
"""

import contextlib
import functools
import json
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import requests
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from amen_tf.features import CANDIDATE, MOVELINE, TIMESTAMP
from amen_tf.signatures import INTEREST_FLOW, PROBABILITY, RANK, RANK_WITH_FLOW
from benchmarks.serving import ONE, OVER_REST, REPEATED
from serving.client import RankClient
from serving.double.warmup import WARMUP_FILE
from serving.local_server import running_server

COUNTS = (1, 100, 500, 1000)
_CALLS = 10


def main(model: pathlib.Path, rounds: int) -> dict:
    """Times every request `rounds` times by turns.

    Returns:
      `gpus`: how many TensorFlow sees. `scores`: name -> those of the candidates. `requests`: name -> `ms` (median
      of a call), `to_one` (median over the rounds of the times that one candidate takes), `candidates`, `json_request`
      and `json_reply` in bytes (0 where nothing is sent).
    """
    signatures = tf.saved_model.load(str(model)).signatures
    columns = _columns(model)
    wide, sizes = _with(columns, 500), {}
    with _posts(model) as post:
        calls: dict[str, tuple[Callable, int]] = {}
        for count in COUNTS:
            calls[f"rank, N = {count}"] = _plain(signatures[RANK], _with(columns, count)), count
        if INTEREST_FLOW in signatures:
            known = {n: v for n, v in wide.items() if n.startswith(MOVELINE) or n == TIMESTAMP}
            flow = {name: value.numpy() for name, value in signatures[INTEREST_FLOW](**_tensors(known)).items()}
            calls["rank_with_flow, N = 500"] = _plain(signatures[RANK_WITH_FLOW], {**wide, **flow}), 500
        for count in (1, 500):
            name = f"rank, N = {count}, {OVER_REST}"
            calls[name] = functools.partial(post, _with(columns, count)), count
            sizes[name] = calls[name][0]()
        calls[REPEATED] = _plain(signatures[RANK], _repeated(wide)), 500
        milliseconds = _by_turns({name: call for name, (call, _) in calls.items()}, rounds)
    found = {}
    for name, (_, candidates) in calls.items():
        ratios = (taken / one for taken, one in zip(milliseconds[name], milliseconds[ONE], strict=True))
        sent, back = sizes.get(name, (0, 0))
        found[name] = {
            "ms": statistics.median(milliseconds[name]),
            "to_one": statistics.median(ratios),
            "candidates": candidates,
            "json_request": sent,
            "json_reply": back,
        }
    scores = {name: calls[name][0]()[0].tolist() for name in (f"rank, N = {count}" for count in COUNTS)}
    return {"gpus": len(tf.config.list_physical_devices("GPU")), "scores": scores, "requests": found}


def _plain(signature: Callable, columns: Mapping[str, np.ndarray]) -> Callable[[], np.ndarray]:
    """A call of the SavedModel in this process: the floor under every server."""
    inputs = _tensors(columns)
    return lambda: signature(**inputs)[PROBABILITY].numpy()


@contextlib.contextmanager
def _posts(model: pathlib.Path) -> Iterator[Callable[[Mapping[str, np.ndarray]], tuple[int, int]]]:
    """The local double over this version: columns -> bytes of the JSON that was sent, and of that which came back."""
    policy = f"model_version_policy {{ specific {{ versions: {model.name} }} }}"
    base = json.dumps(str(model.resolve().parent))
    with tempfile.TemporaryDirectory() as folder, requests.Session() as session:
        session.trust_env = False
        config = pathlib.Path(folder) / "models.config"
        config.write_text(
            f'model_config_list {{ config {{ name: "amen" base_path: {base} model_platform: "tensorflow" {policy} }} }}'
        )
        with running_server(None, models_config=config) as server, RankClient(server.address) as client:

            def post(columns: Mapping[str, np.ndarray]) -> tuple[int, int]:
                url, body = client.predict_call({name: _lists(values) for name, values in columns.items()})
                reply = session.post(url, data=body)
                reply.raise_for_status()
                return len(body), len(reply.content)

            yield post


def _lists(values: np.ndarray) -> list:
    return values.astype(str).tolist() if values.dtype == object else values.tolist()


def _by_turns(calls: Mapping[str, Callable], rounds: int) -> dict[str, list[float]]:
    """Name -> milliseconds of a call in each round. A first round, which is not counted, traces and compiles."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            taken = _median(call, 1 if name == REPEATED else _CALLS)
            found[name] += [taken] if turn else []
    return found


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


def _median(call: Callable, times: int) -> float:
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        taken.append((time.perf_counter() - start) * 1000)
    return statistics.median(taken)


if __name__ == "__main__":
    print(json.dumps(main(pathlib.Path(sys.argv[1]), int(sys.argv[2]))))
