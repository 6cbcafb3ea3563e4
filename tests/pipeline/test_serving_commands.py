"""`amen serve` and `amen load-test`: what their options mean, and what a person is told who gives wrong ones."""

import click.testing
import pytest

import serving.load_test.runner
import serving.local_server
from pipeline.serving_commands import load_test, serve
from serving.load_test.target import LoadTestError
from serving.local_server import ServerOptions


def invoke(command, *arguments):
    return click.testing.CliRunner().invoke(command, [str(argument) for argument in arguments])


@pytest.fixture
def served(monkeypatch):
    """Arguments of the calls of `serving.local_server.serve`."""
    calls = []
    monkeypatch.setattr(serving.local_server, "serve", lambda *args, **kwargs: calls.append((args, kwargs)))
    return calls


def test_the_defaults_are_those_of_the_server(served, tmp_path):
    result = invoke(serve, tmp_path / "amen")
    assert result.exit_code == 0, result.output
    [(arguments, options)] = served
    assert arguments == (tmp_path / "amen", "amen", "127.0.0.1", 8501)
    assert options["options"] == ServerOptions() and options["models_config"] is None


def test_options_have_the_names_and_units_of_the_server(served, tmp_path):
    (tmp_path / "monitoring.config").write_text('prometheus_config { enable: true path: "/metrics" }')
    flags = {
        "model-config-file": tmp_path / "models.config",
        "model-config-file-poll-wait-seconds": 2,
        "monitoring-config-file": tmp_path / "monitoring.config",
        "rest-api-timeout-in-ms": 1500,
        "max-body-mib": 2,
        "max-num-load-retries": 0,
        "load-retry-interval-micros": 250_000,
    }
    result = invoke(serve, *(f"--{name}={value}" for name, value in flags.items()))
    assert result.exit_code == 0, result.output
    [(_, options)] = served
    assert options["models_config"] == tmp_path / "models.config"
    assert options["options"] == ServerOptions(
        max_body_bytes=2 * 2**20,
        timeout_seconds=1.5,
        config_poll_seconds=2.0,
        max_load_retries=0,
        load_retry_seconds=0.25,
        monitoring_path="/metrics",
        stop_seconds=1.5,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Give a push folder or --model-config-file, one of the two."),
        (("folder", "--model-config-file", "file"), "one of the two"),
        (("--model-config-file", "file", "--model", "m"), "--model names the model of a push folder"),
        (("folder", "--rest-api-timeout-in-ms", "0"), "is not in the range x>=1"),
    ],
)
def test_serve_with_wrong_options(served, arguments, message):
    result = invoke(serve, *arguments)
    assert result.exit_code == 2 and message in result.output and not served


@pytest.mark.parametrize(
    ("option", "value"), [("rate", 0), ("rate", 10_001), ("seconds", 3601), ("concurrency", 1025), ("timeout", 61)]
)
def test_the_load_is_bounded(option, value):
    result = invoke(load_test, "request.json", f"--{option}", value)
    assert result.exit_code == 2 and "is not in the range" in result.output


def test_no_other_machine_is_asked(monkeypatch):
    monkeypatch.setattr(serving.load_test.runner, "run_load", None)
    result = invoke(load_test, "request.json", "--address", "10.0.0.1:8501")
    assert isinstance(result.exception, LoadTestError) and "on this machine only" in str(result.exception)
