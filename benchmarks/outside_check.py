"""Outside check: FuxiCTR's DIN, our DIN and AMEN on the same rows and features, one after the other in one run.

usage: python -m benchmarks.outside_check SETTINGS [--set KEY=VALUE ...] [--seed 1] [--option=--epochs=9 ...]
needs: the environment that benchmarks/outside/setup.sh makes.

Prints test AUC and training speed in impressions a second, and writes them to outside.json. Speeds are of training
steps alone, and mean something only where nothing else runs; what counts is their ratio. Status 1 says that a model of
ours is too far from FuxiCTR's in AUC, or too slow (`ONE_CANDIDATE`, `SEVERAL_CANDIDATES`).
"""

import json
import os
import pathlib
import subprocess
import tempfile
from collections.abc import Sequence
from typing import NamedTuple

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from amen_tf.config import Settings
from amen_tf.features import LABEL
from amen_tf.strict_json import to_json
from pipeline.commands import call
from pipeline.runners.console import print_uncut, quiet
from pipeline.runners.layout import Layout

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
    python = OUTSIDE / ".venv" / "bin" / "python"
    if not python.exists():
        raise click.ClickException(f"{python} is not there. Make its environment first: {OUTSIDE / 'setup.sh'}")
    chosen = Settings.load(settings, overrides)
    layout = Layout(chosen)
    folder = (output or layout.folder / "outside").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with quiet(layout.log_file("outside")) as person:
        from benchmarks.prepared import prepare_log

        prepared = prepare_log(chosen)
        with tempfile.TemporaryDirectory(prefix="amen-outside-") as data:
            dump(prepared, pathlib.Path(data))
            found = {THEIRS: run_theirs(python, data, seed, options)}
        found |= run_ours(prepared, folder, seed)
        asked = ONE_CANDIDATE if prepared.test.columns[LABEL].shape[1] == 1 else SEVERAL_CANDIDATES
        print_table(found, asked, f"{chosen.name}: test {prepared.test.impressions:,} impressions", person)
        content = {"models": found, "missed": missed(found, asked), "threads": cores()}
        (folder / "outside.json").write_text(to_json(content), encoding="utf-8")
    return 1 if content["missed"] else 0


def cores() -> int:
    """What this process may run on; TensorFlow takes all of it, and the other side is told to."""
    return len(os.sched_getaffinity(0))


def missed(found: dict[str, dict], asked: dict[str, Asked]) -> list[str]:
    """A sentence for everything asked that did not come out."""
    theirs, said = found[THEIRS], []
    for name, one in asked.items():
        away = 100 * (found[name]["auc_test"] - theirs["auc_test"])
        if one.points is not None and abs(away) > one.points:
            said.append(f"{name}: test AUC {away:+.2f} pt from {THEIRS}'s, asked: at most {one.points} pt away")
        ratio = _ratio(found[name], theirs)
        if not ratio >= one.ratio:
            said.append(f"{name}: {ratio:.2f} times the speed of {THEIRS}, asked: at least {one.ratio}")
    return said


def _ratio(ours: dict, theirs: dict) -> float:
    return (ours["impressions_per_second"] or np.nan) / (theirs["impressions_per_second"] or np.nan)


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


def run_theirs(python: pathlib.Path, data: str, seed: int, options: Sequence[str]) -> dict:
    """The JSON line of `outside/fuxictr_din.py`, run in its own environment.

    Raises:
      click.ClickException: it failed; with what it had to say.
    """
    command = [str(python), str(OUTSIDE / "fuxictr_din.py"), data, f"--seed={seed}", f"--threads={cores()}", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def run_ours(prepared, folder: pathlib.Path, seed: int) -> dict[str, dict]:
    """Our rows, trained anew: a kept result's speed would be of another day."""
    from benchmarks.rows import Workshop, row_title

    found = {}
    with tempfile.TemporaryDirectory(prefix="anew-", dir=folder) as anew:
        workshop = Workshop(prepared, pathlib.Path(anew), lambda progress: None)
        for row in ROWS:
            result = workshop.train(row, seed)
            found[f"amen_tf {row_title(row)}"] = {
                "auc_test": result.figures["auc"],
                "auc_eval": result.eval_auc,
                "impressions_per_second": result.impressions_per_second,
                "epochs": result.epochs,
                "parameters": result.parameters,
            }
    return found


def print_table(found: dict[str, dict], asked: dict[str, Asked], title: str, console: Console) -> None:
    """A line a model; differences and ratios are to FuxiCTR's. Then what was asked, and whether it came out."""
    theirs = found[THEIRS]
    table = Table(title=title, title_justify="left")
    for column in ("model", "test AUC", "difference, pt", "impressions/s", "ratio", "parameters"):
        table.add_column(column, justify="left" if column == "model" else "right", no_wrap=True)
    for name, figures in found.items():
        rate = figures["impressions_per_second"] or float("nan")
        table.add_row(
            name,
            f"{figures['auc_test']:.4f}",
            "" if name == THEIRS else f"{100 * (figures['auc_test'] - theirs['auc_test']):+.2f}",
            f"{rate:,.0f}",
            "" if name == THEIRS else f"{_ratio(figures, theirs):.1f}",
            f"{figures['parameters']:,}",
        )
    print_uncut(table, console)
    for sentence in missed(found, asked) or ["All that is asked came out."]:
        console.print(sentence, soft_wrap=True, highlight=False)


if __name__ == "__main__":
    call(main, "python -m benchmarks.outside_check")
