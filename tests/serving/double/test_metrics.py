"""Metrics for Prometheus: names, labels and units as TensorFlow Serving's, served only where they are asked for."""

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from serving.double.metrics import Metrics
from serving.double.monitoring_config import DEFAULT_PATH, read_monitoring_config
from serving.local_server import ModelConfigError, ServerOptions, running_server

LOADS = ":tensorflow:cc:saved_model:"


class Page:
    """The samples of a page of metrics; a bucket has its bound as label `le`."""

    def __init__(self, text):
        families = text_string_to_metric_families(text)
        self.samples = [sample for family in families for sample in family.samples]

    def __call__(self, name, **labels):
        [value] = [sample.value for sample in self.samples if (sample.name, sample.labels) == (name, labels)]
        return value


def test_requests_runs_loads_and_warmups_are_counted(push, tmp_path, write_warmup):
    push("scaled_2", tmp_path, 1)
    write_warmup(tmp_path / "1", {"x": [1.0]})
    with running_server(tmp_path, "m", options=ServerOptions(monitoring_path="/metrics")) as server:
        for body in ("[1]", '{"inputs": [1]}', '{"inputs": [2]}'):
            requests.post(f"{server.address}/v1/models/m:predict", data=body, timeout=10)
        requests.post(f"{server.address}/v1/models/%FF%22:predict", data='{"inputs": [2]}', timeout=10)
        requests.get(f"{server.address}/v1/models/m", timeout=10)
        for method in ("GET", "POST", "DELETE"):
            page = requests.request(method, f"{server.address}/metrics", timeout=10)
            assert (page.status_code, page.headers["Content-Type"].split(";")[0]) == (200, "text/plain")
        assert requests.get(f"{server.address}/metrics?x=1", timeout=10).status_code == 404
    value, serving, folder = Page(page.text), ":tensorflow:serving:", str(tmp_path / "1")
    assert value(serving + "request_count", model_name="m", status="OK") == 2
    assert value(serving + "request_count", model_name="m", status="INVALID_ARGUMENT") == 1
    assert value(serving + "request_count", model_name='?"', status="NOT_FOUND") == 1
    rest = {"model_name": "m", "API": "predict", "entrypoint": "REST"}
    assert value(serving + "request_latency_count", **rest) == 2, "successes only"
    runtime = {"model_name": "m", "API": "Predict", "runtime": "TF1"}
    assert value(serving + "runtime_latency_count", **runtime) == 2
    took = value(serving + "runtime_latency_sum", **runtime)
    assert 10 < took < value(serving + "request_latency_sum", **rest) < 10e6, "microseconds"
    assert value(serving + "model_warmup_latency_count", model_path=folder, status="OK") == 1
    assert value(LOADS + "load_attempt_count", model_path=folder, status="success") == 1
    assert value(LOADS + "load_latency", model_path=folder) > 100
    assert not any("created" in sample.name or "_total" in sample.name for sample in value.samples)


def test_a_failed_load_is_an_attempt_too():
    metrics = Metrics()
    metrics.loaded("/m/1", False, 2.0)
    value = Page(metrics.page().decode())
    assert value(LOADS + "load_attempt_count", model_path="/m/1", status="fail") == 1
    assert value(LOADS + "load_latency", model_path="/m/1") == 2e6


def test_bounds_of_the_histograms():
    metrics = Metrics()
    metrics.request("m", "predict", "OK", 32e-6)
    page = metrics.page().decode()
    for bound, count in (("10.0", 0), ("18.0", 0), ("32.4", 1), ("+Inf", 1)):
        assert f'le="{bound}",model_name="m"}} {count}.0' in page


def test_without_a_monitoring_config_there_is_no_page(call):
    reply = call(DEFAULT_PATH)
    assert (reply.status_code, reply.headers["Content-Type"].split(";")[0]) == (404, "text/html")


class TestConfig:
    @pytest.mark.parametrize(
        ("text", "path"),
        [
            ("prometheus_config { enable: true }", DEFAULT_PATH),
            ('prometheus_config { enable: true, path: "/models/metrics" }', "/models/metrics"),
            ('prometheus_config: { path: "/metrics" }', None),
            ("", None),
        ],
    )
    def test_path(self, tmp_path, text, path):
        (tmp_path / "monitoring.config").write_text(text)
        assert read_monitoring_config(tmp_path / "monitoring.config") == path

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (None, "cannot be read"),
            ("prometheus { }", r"line:column\); expected prometheus_config \{ enable: true"),
            ('prometheus_config { enable: true path: "metrics" }', "'metrics' does not begin with '/'"),
        ],
    )
    def test_errors(self, tmp_path, text, message):
        if text is not None:
            (tmp_path / "monitoring.config").write_text(text)
        with pytest.raises(ModelConfigError, match=message):
            read_monitoring_config(tmp_path / "monitoring.config")
