"""The data path: rows a second against TFX's CsvExampleGen, and memory and time as the log grows.

usage: python -m benchmarks.data_path throughput [--rows 200000] [--rounds 3]
       python -m benchmarks.data_path growth [--events 1,5,20]

Every measurement is a process of its own (`data_path_job`), so that none inherits another's memory. Speeds are of the
stage's work alone, without imports; the two stages take turns, and a ratio is the median over the rounds, because a
machine need not be as fast in one minute as in the next. Status 1 says that something asked for is missed.
"""

import json
import pathlib
import statistics
import tempfile
from typing import NamedTuple

import click
from rich.console import Console
from rich.table import Table

from amen_tf.config import Settings, SimulateSettings, SplitSettings
from amen_tf.strict_json import to_json
from benchmarks.event_logs import CSV_LOGS, write_csv_log
from benchmarks.jobs import run_job
from pipeline.commands import call
from pipeline.runners.console import print_uncut
from pipeline.runners.prepare import borders

OURS, THEIRS = "moveline", "csv"
# Times the rows a second of CsvExampleGen, by the kind of log.
ASKED = {"one candidate": 3.0, "ten candidates": 10.0, "no impressions": 10.0}
# Of one process, however long the log.
MOST_BYTES = 6 * 2**30
# How much more memory a process may take, and how much longer a row, for a log that is many times as long.
FLAT = 1.2
console = Console(highlight=False)


class Measured(NamedTuple):
    """One run of a stage.

    Attributes:
      seconds: of the stage's work.
      before, peak: bytes of memory of the process before it and at most; `worker`: at most of any process it started,
        0 where it does all the work itself.
      shards: files that it wrote, for each split.
    """

    seconds: float
    before: int
    peak: int
    worker: int
    shards: int


def measure(stage: str, log: pathlib.Path, workers: int) -> Measured:
    """Runs a stage once, in a new process.

    Args:
      stage: `moveline` or `csv`.
      log: folder with the files of the log below `events/`, and its `settings.yaml`.
      workers: Beam workers.
    """
    with tempfile.TemporaryDirectory(dir=log) as folder:
        arguments = (stage, log / "events", folder, workers, _with_times(log))
        return Measured(**run_job("benchmarks.data_path_job", *arguments, what=f"{stage} on {log}"))


def _with_times(log: pathlib.Path) -> pathlib.Path:
    """The log's settings with its borders as times, in a file that is kept: finding them is not what is measured."""
    resolved = log / "settings-with-times.yaml"
    if not resolved.exists():
        settings = Settings.load(log / "settings.yaml")
        split = borders(settings.split, str(log / "events"), settings)
        resolved.write_text(settings.model_copy(update={"split": SplitSettings(**split)}).to_yaml())
    return resolved


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main():
    """Speed and memory of MovelineExampleGen."""


_folder = click.option("--output", default="runs/data-path", show_default=True, type=click.Path(path_type=pathlib.Path))
_workers = click.option("--workers", default=1, show_default=True, type=click.IntRange(1), help="Beam workers.")


@main.command()
@click.option("--rows", default=200_000, show_default=True, type=click.IntRange(1000), help="Of each log.")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1))
@_workers
@_folder
def throughput(rows: int, rounds: int, workers: int, output: pathlib.Path) -> int:
    """Rows a second of MovelineExampleGen and CsvExampleGen on the same CSV files."""
    output = output.resolve()
    seconds: dict[str, dict[str, list[float]]] = {}
    for kind in CSV_LOGS:
        log = output / "logs" / f"{kind.replace(' ', '-')}-{rows}"
        write_csv_log(log, kind, rows)
        taken = seconds[kind] = {OURS: [], THEIRS: []}
        for turn in range(rounds):
            for stage in (OURS, THEIRS) if turn % 2 == 0 else (THEIRS, OURS):
                measured = measure(stage, log, workers)
                taken[stage].append(measured.seconds)
    table = Table(title=f"Rows a second, {rows:,} rows, {workers} worker(s), medians of {rounds}", title_justify="left")
    for column in ("log", "MovelineExampleGen", "CsvExampleGen", "ratio", "asked", "came out"):
        table.add_column(column, no_wrap=True)
    ratios = {kind: _ratio(taken) for kind, taken in seconds.items()}
    for kind, taken in seconds.items():
        ours, theirs = (f"{rows / statistics.median(taken[stage]):,.0f}" for stage in (OURS, THEIRS))
        good = "as asked" if ratios[kind] >= ASKED[kind] else "MISSED"
        table.add_row(kind, ours, theirs, f"{ratios[kind]:.1f}", f"{ASKED[kind]:g}", good)
    print_uncut(table, console)
    content = {"rows": rows, "workers": workers, "seconds": seconds, "ratios": ratios, "asked": ASKED}
    (output / "throughput.json").write_text(to_json(content), encoding="utf-8")
    return 0 if all(ratios[kind] >= asked for kind, asked in ASKED.items()) else 1


def _ratio(seconds: dict[str, list[float]]) -> float:
    """Median over the rounds of how many times as long theirs took."""
    return statistics.median(theirs / ours for ours, theirs in zip(seconds[OURS], seconds[THEIRS], strict=True))


@main.command()
@click.option("--events", default="1,5,20", show_default=True, help="Sizes of the logs, in million rows, ascending.")
@_workers
@_folder
def growth(events: str, workers: int, output: pathlib.Path) -> int:
    """Memory and rows a second of MovelineExampleGen on simulated logs of growing length."""
    from pipeline.datasets.simulator import simulate

    output = output.resolve()
    measured = {}
    for millions in map(float, events.split(",")):
        log = output / "logs" / f"simulated-{millions:g}m"
        if not (log / "settings.yaml").exists():
            simulate(_simulation(millions), log, settings_file=True)
        rows = json.loads((log / "simulation.json").read_text())["counts"]["rows"]
        measured[rows] = measure(OURS, log, workers)
    table = Table(title=f"MovelineExampleGen as the log grows, {workers} worker(s)", title_justify="left")
    for column in ("rows", "rows a second", "files a split", "GiB before", "GiB at most", "GiB of a worker"):
        table.add_column(column, justify="right", no_wrap=True)
    for rows, m in measured.items():
        memory = (f"{value / 2**30:.2f}" for value in (m.before, m.peak, m.worker))
        table.add_row(f"{rows:,}", f"{rows / m.seconds:,.0f}", str(m.shards), *memory)
    print_uncut(table, console)
    faults = _faults(measured)
    for fault in faults:
        console.print(f"[red]Missed:[/] {fault}")
    content = {"workers": workers, "runs": {str(rows): m._asdict() for rows, m in measured.items()}, "missed": faults}
    (output / "growth.json").write_text(to_json(content), encoding="utf-8")
    return 1 if faults else 0


def _simulation(millions: float) -> SimulateSettings:
    """A simulated log of about so many rows: a user of the simulator leaves about 190."""
    return SimulateSettings(users=max(round(millions * 1e6 / 190), 10), items=50_000, categories=200)


def _faults(measured: dict[int, Measured]) -> list[str]:
    """What is asked and was missed: memory of the longest log, its growth, and the time of a row."""
    runs = list(measured.items())
    faults = [
        f"{rows:,} rows take {max(m.peak, m.worker) / 2**30:.1f} GiB in one process, asked at most "
        f"{MOST_BYTES / 2**30:g}"
        for rows, m in runs
        if max(m.peak, m.worker) > MOST_BYTES
    ]
    (few, first), (many, last) = runs[0], runs[-1]
    if last.seconds / many > FLAT * first.seconds / few:
        faults.append(f"a row of {many:,} takes more than {FLAT:g} times as long as one of {few:,}")
    for what, early, late in (("process", first.peak, last.peak), ("worker", first.worker, last.worker)):
        if late > FLAT * early:
            faults.append(f"memory of the {what}: {late / early:.2f} times as much for {many:,} rows as for {few:,}")
    return faults


if __name__ == "__main__":
    call(main, "python -m benchmarks.data_path")
