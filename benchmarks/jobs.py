"""Measurements in processes of their own, so that none inherits another's memory, threads or compiled graphs."""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import click


def run_job(module: str, *arguments: object, what: str, environment: Mapping[str, str] | None = None) -> Any:
    """Runs `python -m module arguments` and reads the JSON in its last line.

    Args:
      module: such as `benchmarks.serving_job`.
      arguments: of its command line.
      what: is measured, for the message.
      environment: of the process; None takes that of this one.

    Raises:
      click.ClickException: the process ended with another status than 0.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    job = subprocess.run(command, capture_output=True, text=True, env=environment)
    if job.returncode:
        raise click.ClickException(f"{what} ended with status {job.returncode}:\n{job.stderr[-2000:]}")
    return json.loads(job.stdout.splitlines()[-1])
