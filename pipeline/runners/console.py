"""What a person sees of a run: a line per stage, a bar for training, a table at the end; the noise goes to a file."""

import os
import pathlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn
from rich.table import Table

from amen_tf.config import Settings
from pipeline.runners.layout import Layout

# One line each: what the stage does for the person, in the words of the documentation.
TITLES = {
    "log": "start, event log checked",
    "example_gen": "ExampleGen: event log to moveline examples",
    "statistics": "StatisticsGen: statistics of the examples",
    "schema": "ImportSchemaGen: the curated schema",
    "validation": "ExampleValidator: examples against the schema",
    "transform": "Transform: ids, buckets, padding",
    "warm_start": "Resolver: the models to start warm from",
    "base": "Trainer: base",
    "baseline": "Trainer: baseline, the base on both windows",
    "generator": "Trainer: generator of the Next Interest Flow",
    "ctr": "Trainer: AMEN on the frozen generator",
    "last_blessed": "Resolver: the last blessed model",
    "evaluator_baseline": "Evaluator: base on the test split",
    "evaluator": "Evaluator: AMEN on the test split, gate",
    "pusher": "Pusher: a version for the server",
}


@contextmanager
def quiet(log_file: pathlib.Path) -> Iterator[Console]:
    """Sends everything that this process prints, from Python or C++, to `log_file`; yields a console for people.

    The file descriptors themselves are redirected, because TensorFlow and Beam write past `sys.stderr`.
    """
    log_file.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with open(log_file, "a", encoding="utf-8") as log, os.fdopen(os.dup(1), "w", encoding="utf-8") as person:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            yield Console(file=person, soft_wrap=True, highlight=False)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(kept[0], 1)
            os.dup2(kept[1], 2)
            os.close(kept[0])
            os.close(kept[1])


@contextmanager
def quiet_command(settings: Settings, command: str) -> Iterator[Console]:
    """`quiet` for a command on a run: its log file lies in the run's folder, and the person is told where.

    Args:
      settings: of the run.
      command: its name, which begins the file's.
    """
    log_file = Layout(settings).log_file(command)
    with quiet(log_file) as person:
        person.print(messages_in(log_file), markup=False)
        yield person


def messages_in(log_file: pathlib.Path) -> str:
    """The sentence that tells the person of the log file."""
    return f"TensorFlow's own messages: {log_file}"


def print_uncut(table: Table, console: Console) -> None:
    """Prints a table as wide as it is: one that is cut to the terminal has lost its figures."""
    Console(file=console.file, width=240, highlight=False).print(table)


class StageLines:
    """A line per finished stage; on a terminal also a live bar for each that runs.

    Args:
      console: of `quiet`.
    """

    def __init__(self, console: Console):
        self.console = console
        self.bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TextColumn("{task.fields[figures]}"),
            console=console,
            transient=True,
            # Else what goes to standard error, and so to the log file, would come back to the terminal.
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not console.is_terminal,
        )
        self.tasks = {}

    def __enter__(self):
        self.bar.start()
        return self

    def __exit__(self, *error):
        self.bar.stop()

    def started(self, stage: str) -> None:
        """Shows the stage as running."""
        self.tasks[stage] = self.bar.add_task(TITLES.get(stage, stage), total=None, figures="")

    def progressed(self, stage: str, progress) -> None:
        """Moves the bar of a training stage."""
        shown = ("loss", "auc", "accuracy")
        figures = "  ".join(f"{name} {progress.figures[name]:.4f}" for name in shown if name in progress.figures)
        self.bar.update(self.tasks[stage], completed=progress.done, total=progress.total, figures=figures)

    def finished(self, stage: str, seconds: float, cached: bool, detail: str) -> None:
        """Prints the stage's line."""
        self._clear(stage)
        took = "  cached" if cached else f"{seconds:6.1f} s"
        self.console.print(
            f"  [green]✓[/] {took}  {TITLES.get(stage, stage)}" + (f"  [dim]{escape(detail)}[/]" if detail else "")
        )

    def failed(self, stage: str) -> None:
        """Prints the line of the stage that failed."""
        self._clear(stage)
        self.console.print(f"  [red]✗[/]           {TITLES.get(stage, stage)}")

    def _clear(self, stage: str) -> None:
        if stage in self.tasks:
            self.bar.remove_task(self.tasks.pop(stage))
