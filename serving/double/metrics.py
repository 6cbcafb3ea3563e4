"""Prometheus metrics under TensorFlow Serving's names; times are in microseconds, as there.

Counts are exposed as `untyped`: prometheus_client adds `_total` to the names of its counters, which the server's lack.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import Metric

# The server's own bounds, 10 µs to about 24 minutes, with the six digits that it prints.
_BUCKETS = tuple(float(f"{10 * 1.8**i:g}") for i in range(33))
_SERVING, _LOADING = ":tensorflow:serving:", ":tensorflow:cc:saved_model:"

Run = Callable[[Mapping, list], list]


class Metrics:
    """Counts and times of one server; thread-safe. Model names are those of the URLs, known to the server or not."""

    def __init__(self):
        model = ("model_name", "API")
        self._requests = _counter(_SERVING + "request_count", "Inference requests.", ("model_name", "status"))
        self._latency = _histogram(_SERVING + "request_latency", "Successful requests.", (*model, "entrypoint"))
        self._runtime = _histogram(_SERVING + "runtime_latency", "Runs of the graph.", (*model, "runtime"))
        self._warmup = _histogram(_SERVING + "model_warmup_latency", "Warm-ups.", ("model_path", "status"))
        self._attempts = _counter(_LOADING + "load_attempt_count", "Loads of versions.", ("model_path", "status"))
        self._loading = _counter(_LOADING + "load_latency", "Time spent on loads.", ("model_path",))
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def request(self, model: str, verb: str, status: str, seconds: float) -> None:
        """Records an inference request.

        Args:
            model: the name in the URL.
            verb: "predict", "classify" or "regress".
            status: name of the canonical code, "OK" or the error's.
            seconds: from the whole body to the whole answer.
        """
        # A name may hold bytes that are no UTF-8, the page may not.
        model = model.encode("utf-8", "replace").decode()
        self._requests.labels(model, status).inc()
        if status == "OK":
            self._latency.labels(model, verb, "REST").observe(seconds * 1e6)

    def timed(self, run: Run, model: str, verb: str) -> Run:
        """`run`, with the time of every run that succeeds recorded."""

        def timed_run(feeds: Mapping, fetches: list) -> list:
            begin = time.perf_counter()
            results = run(feeds, fetches)
            observed = (time.perf_counter() - begin) * 1e6
            self._runtime.labels(model, verb.capitalize(), "TF1").observe(observed)
            return results

        return timed_run

    def loaded(self, folder: str, succeeded: bool, seconds: float) -> None:
        """Records a try to load the version in `folder`."""
        self._attempts.labels(folder, "success" if succeeded else "fail").inc()
        self._loading.labels(folder).inc(seconds * 1e6)

    def warmed_up(self, folder: str, seconds: float) -> None:
        """Records a warm-up that succeeded."""
        self._warmup.labels(folder, "OK").observe(seconds * 1e6)

    def page(self) -> bytes:
        """All of it in Prometheus's text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """What the registry asks for: the families without the samples and endings that the server does not have."""
        for metric in (self._attempts, self._loading, self._warmup, self._requests, self._latency, self._runtime):
            for family in metric.collect():
                counts = family.type == "counter"
                renamed = Metric(family.name, family.documentation, "unknown" if counts else family.type)
                for sample in family.samples:
                    if not sample.name.endswith("_created"):
                        name = sample.name.removesuffix("_total") if counts else sample.name
                        renamed.add_sample(name, sample.labels, sample.value)
                yield renamed


def _counter(name: str, documentation: str, labels: Sequence[str]) -> Counter:
    return Counter(name, documentation, labels, registry=None)


def _histogram(name: str, documentation: str, labels: Sequence[str]) -> Histogram:
    return Histogram(name, documentation, labels, registry=None, buckets=_BUCKETS)
