"""How a command of ours ends: a known error becomes a message and status 2, never a stack trace."""

import sys
from collections.abc import Sequence

import click
from rich.console import Console

from pipeline.runners.stage_error import StageError

ROOMS = ("amen_tf", "pipeline", "schemas", "serving", "benchmarks")
errors = Console(stderr=True)


def call(command: click.Command, name: str, arguments: Sequence[str] | None = None) -> None:
    """Runs a click command and ends the process with its status.

    Args:
      command: returns its status, or None for 0.
      name: what the person typed, for the usage line.
      arguments: of the command; those of the process if not given.
    """
    try:
        status = command.main(args=arguments, prog_name=name, standalone_mode=False)
    except click.ClickException as e:
        e.show()
        status = e.exit_code
    except click.Abort:
        status = 130
    except Exception as e:
        if not _is_known(e):
            raise
        status = _fail(e)
    sys.exit(status if isinstance(status, int) else 0)


def _is_known(error: BaseException) -> bool:
    """Errors of files and of diverged trainings, and those with a class of our own.

    Classes are looked up by module, so that no command need import the others' rooms. That a stage failed is as known
    as what it failed of.
    """
    if isinstance(error, (OSError, FloatingPointError)):
        return True
    if isinstance(error, StageError):
        return _is_known(error.__cause__)
    return any(kind.__module__.split(".")[0] in ROOMS for kind in type(error).__mro__)


def _fail(error: Exception) -> int:
    errors.print("[red]Error:[/]", end=" ")
    errors.print(str(error), markup=False, soft_wrap=True, highlight=False)
    return 2
