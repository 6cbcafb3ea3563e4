"""Outside check: FuxiCTR's DIN, our DIN and AMEN on the same rows and features, in one run.

usage: python -m benchmarks.outside_check SETTINGS [--set KEY=VALUE ...] [--seed 1] [--option=--epochs=9 ...]
needs: the environment that benchmarks/outside/setup.sh makes.

Prints test AUC and training speed in impressions a second, and writes them to outside.json. Once all are trained, they
train on by turns, a lap each, because a machine need not be as fast in one minute as in the next: a ratio is the median
over the laps of what was measured side by side. Speeds are of training steps alone. Status 1 says that a model of ours
is too far from FuxiCTR's in AUC, or too slow (`ONE_CANDIDATE`, `SEVERAL_CANDIDATES`).
"""

import contextlib
import functools
import json
import math
import os
import pathlib
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from amen_tf.config import Settings
from amen_tf.features import LABEL
from amen_tf.strict_json import to_json
from pipeline.commands import call
from pipeline.runners.console import print_uncut, quiet_command
from pipeline.runners.layout import Layout

LAPS, LAP_SECONDS = 7, 10.0
OUTSIDE = pathlib.Path(__file__).parent / "outside"
THEIRS, ROWS = "FuxiCTR DIN", ("din", "amen")


class Asked(NamedTuple):
    """What a model of ours must reach: points of AUC it may be away from theirs at most, and times their speed."""

    points: float | None
    ratio: float


# Where requests show one candidate each, as FuxiCTR sees them, and where they show several. With several, half of which
# may be new, what models are given (match features) counts more than what they are: AUC is no yardstick there.
ONE_CANDIDATE = {"amen_tf DIN": Asked(0.5, 2.0), "amen_tf AMEN": Asked(None, 1.0)}
SEVERAL_CANDIDATES = {"amen_tf AMEN": Asked(None, 5.0)}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("settings", type=click.Path(path_type=pathlib.Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(1))
@click.option("--option", "options", multiple=True, metavar="--KEY=VALUE", help="For outside/fuxictr_din.py.")
@click.option("--output", type=click.Path(path_type=pathlib.Path), help="Default: outside/ in the run's folder.")
def main(settings: pathlib.Path, overrides: tuple[str, ...], seed: int, options: tuple[str, ...], output) -> int:
    """Trains all three on the log of SETTINGS and prints AUC, speed and ratios; status 1 if what is asked is missed."""
    several = [f.name for f in Settings.load(settings, overrides).data.features if f.kind == "multi_valued"]
    if several:
        raise click.ClickException(f"FuxiCTR's side reads single values: leave out {', '.join(several)}.")
    python = OUTSIDE / ".venv" / "bin" / "python"
    if not python.exists():
        raise click.ClickException(f"{python} is not there. Make its environment first: {OUTSIDE / 'setup.sh'}")
    chosen = Settings.load(settings, overrides)
    folder = (output or Layout(chosen).folder / "outside").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with quiet_command(chosen, "outside") as person:
        from benchmarks.prepared import prepare_log

        prepared = prepare_log(chosen)
        with tempfile.TemporaryDirectory(prefix="amen-outside-") as data:
            dump(prepared, pathlib.Path(data))
            with theirs(python, data, seed, options) as answer:
                found, laps = {THEIRS: answer()}, {THEIRS: lambda: answer(LAP_SECONDS)}
                for name, figures, lap in ours(prepared, folder, seed):
                    found[name], laps[name] = figures, lap
                for name, speeds in by_turns(laps).items():
                    found[name]["laps"] = speeds
        asked = ONE_CANDIDATE if prepared.test.columns[LABEL].shape[1] == 1 else SEVERAL_CANDIDATES
        content = {"models": found, "missed": missed(found, asked), "threads": cores()}
        (folder / "outside.json").write_text(to_json(content), encoding="utf-8")
        print_table(found, f"{chosen.name}: test {prepared.test.impressions:,} impressions", person)
        for sentence in content["missed"] or ["All that is asked came out."]:
            person.print(sentence, soft_wrap=True, highlight=False)
    return 1 if content["missed"] else 0


def cores() -> int:
    """What this process may run on; TensorFlow takes all of it, and the other side is told to."""
    return len(os.sched_getaffinity(0))


def missed(found: dict[str, dict], asked: dict[str, Asked]) -> list[str]:
    """A sentence for everything asked that did not come out."""
    said = []
    for name, one in asked.items():
        points, ratio = compared(found[name], found[THEIRS])
        if one.points is not None and abs(points) > one.points:
            said.append(f"{name}: test AUC {points:+.2f} pt from {THEIRS}'s, asked: at most {one.points} pt away")
        if not ratio >= one.ratio:
            said.append(f"{name}: {ratio:.2f} times the speed of {THEIRS}, asked: at least {one.ratio}")
    return said


def compared(ours: dict, theirs: dict) -> tuple[float, float]:
    """Points of AUC above theirs, and times their speed: the median over the laps, NaN where one was too short."""
    points = 100 * (ours["auc_test"] - theirs["auc_test"])
    return points, float(np.median(np.divide(ours["laps"], theirs["laps"])))


def by_turns(laps: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Everyone's speed in each of `LAPS` rounds; in a round all take their turn."""
    rounds = [{name: lap() for name, lap in laps.items()} for _ in range(LAPS)]
    return {name: [one[name] for one in rounds] for name in laps}


def dump(prepared, folder: pathlib.Path) -> None:
    """Writes the splits as `outside/fuxictr_din.py` reads them: train is the whole train window."""
    for name in ("train", "eval", "test"):
        getattr(prepared, name).save(folder / f"{name}.npz")
    spec, contract = prepared.spec, prepared.spec.contract
    columns = {
        "sizes": spec.sizes,
        "item_fields": contract.item_fields,
        "moveline_fields": contract.moveline_fields,
        "candidate_fields": contract.candidate_fields,
        "request_fields": ("scene", *contract.request_fields),
    }
    (folder / "columns.json").write_text(json.dumps(columns), encoding="utf-8")


@contextlib.contextmanager
def theirs(python: pathlib.Path, data: str, seed: int, options: Sequence[str]) -> Iterator[Callable]:
    """Runs `outside/fuxictr_din.py` in its own environment; gives `answer([seconds])`.

    Without seconds, `answer` is what the script says of its training; with them it asks for a lap first.

    Raises:
      click.ClickException: by `answer`: the script has ended; with what it had to say.
    """
    command = [str(python), str(OUTSIDE / "fuxictr_din.py"), data, f"--seed={seed}", f"--threads={cores()}", *options]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    with tempfile.TemporaryFile("w+") as errors, subprocess.Popen(command, stderr=errors, **pipes) as process:

        def answer(seconds: float | None = None):
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write("" if seconds is None else f"{seconds}\n")
            for line in process.stdout:
                with contextlib.suppress(json.JSONDecodeError):
                    return json.loads(line)
            errors.seek(0)
            raise click.ClickException(f"{' '.join(command)} failed:\n{errors.read()[-2000:]}")

        try:
            yield answer
        finally:
            process.kill()


def ours(prepared, folder: pathlib.Path, seed: int) -> Iterator[tuple[str, dict, Callable[[], float]]]:
    """Our rows, trained anew: name, figures, and what trains the model for a lap -> impressions a second."""
    from benchmarks.rows import Workshop, row_title

    with tempfile.TemporaryDirectory(prefix="anew-", dir=folder) as anew:
        workshop = Workshop(prepared, pathlib.Path(anew), lambda progress: None)
        for row in ROWS:
            fitted, *rest = workshop.fit(row, seed)
            result = workshop.measure(row, seed, fitted, *rest)
            figures = {
                "auc_test": result.figures["auc"],
                "auc_eval": result.eval_auc,
                "epochs": result.epochs,
                "parameters": result.parameters,
            }
            yield f"amen_tf {row_title(row)}", figures, functools.partial(lap, fitted, result.impressions_per_second)


def lap(fitted, impressions_per_second: float) -> float:
    """Trains for about `LAP_SECONDS`, one pass at most -> impressions a second; NaN where a pass is too short.

    Args:
      fitted: a trained model.
      impressions_per_second: of its training, which says how many impressions there are to a step.
    """
    from amen_tf.training import Throughput

    steps_per_second = float(np.median(fitted.history.get("steps_per_second", np.nan)))
    steps = math.ceil(LAP_SECONDS * steps_per_second) if math.isfinite(steps_per_second) else -1
    found = fitted.model.fit(fitted.train_data.take(steps), callbacks=[Throughput()], verbose=0).history
    return found.get("steps_per_second", [np.nan])[0] * impressions_per_second / steps_per_second


def print_table(found: dict[str, dict], title: str, console: Console) -> None:
    """A line a model; differences and ratios are to FuxiCTR's."""
    table = Table(title=title, title_justify="left")
    for column in ("model", "test AUC", "difference, pt", "impressions/s", "ratio", "parameters"):
        table.add_column(column, justify="left" if column == "model" else "right", no_wrap=True)
    for name, figures in found.items():
        points, ratio = compared(figures, found[THEIRS])
        table.add_row(
            name,
            f"{figures['auc_test']:.4f}",
            "" if name == THEIRS else f"{points:+.2f}",
            f"{np.median(figures['laps']):,.0f}",
            "" if name == THEIRS else f"{ratio:.2f}",
            f"{figures['parameters']:,}",
        )
    print_uncut(table, console)


if __name__ == "__main__":
    call(main, "python -m benchmarks.outside_check")
