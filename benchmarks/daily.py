"""What a new day costs of a log in daily files, beside making the whole window from nothing.

usage: python -m benchmarks.daily [--events 2] [--output runs/daily]

A simulated log of 28 days is cut into a file a day. The data stages then run three times, each in a process of its own:
on the window that ends a day before the log does, a day later in the same folder, and on that later window in an empty
folder. The last two make the same examples; what is shown is how long each stage took and the ratio of the two.
"""

import json
import pathlib
import shutil

import click
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from amen_tf.config import SimulateSettings
from amen_tf.strict_json import to_json
from benchmarks.jobs import run_job
from pipeline.commands import call
from pipeline.event_log.spans import DAY, name_of
from pipeline.runners.console import print_uncut

_DAYS = 28
_SPANS = {"history": 7, "stage1": 7, "stage2": 7, "eval": 1, "test": 1, "vocabulary": 4}
BEFORE, LATER, WHOLE = "the day before", "a day later", "from nothing"
console = Console(highlight=False)


def write_daily_log(folder: pathlib.Path, millions: float) -> list[str]:
    """Simulates a log of about so many million rows, a file a day below `folder`, unless it is there; its days."""
    from pipeline.datasets.simulator import simulate

    if not folder.exists():
        # A user of the simulator leaves about 190 rows in 14 days.
        users = max(round(millions * 1e6 / 190 * 14 / _DAYS), 10)
        whole, parts = folder.with_name(f"{folder.name}-whole"), folder.with_name(f"{folder.name}-parts")
        simulate(SimulateSettings(users=users, items=50_000, categories=200, days=_DAYS), whole)
        shutil.rmtree(parts, ignore_errors=True)
        parts.mkdir()
        events = pyarrow.dataset.dataset(whole / "events").to_table()
        day = pc.divide(events.column("timestamp"), DAY)
        # The last visits go on after the last midnight.
        for number in sorted(pc.unique(day).to_pylist())[:_DAYS]:
            name = name_of("{YYYY}-{MM}-{DD}", number)
            pq.write_table(events.filter(pc.equal(day, pa.scalar(number, day.type))), parts / f"{name}.parquet")
        shutil.rmtree(whole)
        parts.rename(folder)
    return sorted(path.stem for path in folder.glob("*.parquet"))


def measure(log: pathlib.Path, root: pathlib.Path, newest: str) -> dict[str, float]:
    """Runs the data stages in a new process: stage -> seconds."""
    settings = {
        "name": "daily",
        "data": {"log": f"{log}/{{YYYY}}-{{MM}}-{{DD}}.parquet", "max_candidates": 8},
        "split": {"spans": {**_SPANS, "newest": newest}},
        "run": {"root": str(root)},
    }
    return run_job("benchmarks.daily_job", json.dumps(settings), what=f"The window to {newest}")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--events", default=2.0, show_default=True, type=click.FloatRange(0.001), help="Million rows in all.")
@click.option("--output", default="runs/daily", show_default=True, type=click.Path(path_type=pathlib.Path))
def main(events: float, output: pathlib.Path) -> int:
    """What the data stages take for a day that is new, and for its whole window."""
    output = output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    log = output / f"log-{events:g}m"
    *_, before, newest = write_daily_log(log, events)
    runs = {}
    for name, root, last in ((BEFORE, "moving", before), (LATER, "moving", newest), (WHOLE, "whole", newest)):
        if name != LATER:
            shutil.rmtree(output / root, ignore_errors=True)
        runs[name] = measure(log, output / root, last)
    title = f"Seconds of the data stages, {events:g} million rows in {_DAYS} days, {sum(_SPANS.values())} of them read"
    table = Table(title=title, title_justify="left")
    for column in ("stage", *runs, "a day of the window"):
        table.add_column(column, justify="left" if column == "stage" else "right", no_wrap=True)
    for stage, whole in runs[WHOLE].items():
        # The schema is the same on both days.
        if stage in runs[LATER]:
            seconds = (f"{run[stage]:.1f}" for run in runs.values())
            table.add_row(stage, *seconds, f"{runs[LATER][stage] / whole:.2f}")
    print_uncut(table, console)
    (output / "daily.json").write_text(to_json({"events": events, "spans": _SPANS, "seconds": runs}), encoding="utf-8")
    return 0


if __name__ == "__main__":
    call(main, "python -m benchmarks.daily")
