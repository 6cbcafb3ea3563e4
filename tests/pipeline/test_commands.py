"""Every command ends with words and a status, whatever goes wrong."""

import importlib

import click
import pytest

from amen_tf.diagnostics import CollapseError
from amen_tf.distribution import ClusterError
from amen_tf.fitting.generator import TrainingDataError
from amen_tf.initialization import InitializationError
from pipeline.commands import call
from pipeline.event_log.errors import EventLogError
from pipeline.runners.layout import RunBusyError
from pipeline.runners.stage_error import StageError


def run(command, *arguments):
    with pytest.raises(SystemExit) as ended:
        call(command, "name", list(arguments))
    return ended.value.code


def raising(error):
    @click.command()
    def command():
        raise error

    return command


KNOWN = (
    *(EventLogError, RunBusyError, OSError, FloatingPointError, CollapseError, TrainingDataError),
    *(InitializationError, ClusterError),
)


@pytest.mark.parametrize("error", [*(kind("row 3 [a]") for kind in KNOWN), StageError("Base", OSError("row 3 [a]"))])
def test_a_known_error_becomes_a_message(capsys, error):
    assert run(raising(error)) == 2
    err = capsys.readouterr().err
    assert err.startswith("Error: ") and "row 3 [a]" in err


@pytest.mark.parametrize("error", [KeyError("x"), ValueError("x"), StageError("Base", KeyError("x"))])
def test_an_unknown_error_stays_what_it_is(error):
    with pytest.raises(type(error)):
        call(raising(error), "name", [])


@pytest.mark.parametrize(("value", "status"), [(None, 0), (0, 0), (1, 1)])
def test_status_is_what_the_command_returns(value, status):
    assert run(click.Command("c", callback=lambda: value)) == status


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("controls", ["--set", "ctr.epocs=1"]),
        ("figures", ["--set", "ctr.epocs=1"]),
        ("outside_check", ["settings.yaml", "--set", "ctr.epocs=1"]),
    ],
)
def test_benchmarks_say_which_setting_is_wrong(capsys, monkeypatch, tmp_path, name, arguments):
    module = importlib.import_module(f"benchmarks.{name}")
    if name == "outside_check":
        (tmp_path / ".venv" / "bin").mkdir(parents=True)
        (tmp_path / ".venv" / "bin" / "python").touch()
        monkeypatch.setattr(module, "OUTSIDE", tmp_path)
        (tmp_path / "settings.yaml").write_text("preset: demo\n", encoding="utf-8")
        arguments = [str(tmp_path / "settings.yaml"), *arguments[1:]]
    assert run(module.main, *arguments) == 2
    assert "epocs" in capsys.readouterr().err
