"""Outside check: FuxiCTR's DIN, our DIN and AMEN on the same rows and features, one after the other in one run.

usage: python -m benchmarks.outside_check SETTINGS [--set KEY=VALUE ...] [--seed 1] [--option=--epochs=9 ...]
needs: the environment that benchmarks/outside/setup.sh makes.

Prints test AUC and training speed in impressions a second, and writes them to outside.json. Speeds are of training
steps alone, and mean something only where nothing else runs; what counts is their ratio.
"""

import json
import pathlib
import subprocess
import tempfile
from collections.abc import Sequence

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from amen_tf.config import Settings
from pipeline.commands import call
from pipeline.runners.console import print_uncut, quiet
from pipeline.runners.layout import Layout

OUTSIDE = pathlib.Path(__file__).parent / "outside"
THEIRS, ROWS = "FuxiCTR DIN", ("din", "amen")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("settings", type=click.Path(path_type=pathlib.Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(1))
@click.option("--option", "options", multiple=True, metavar="--KEY=VALUE", help="For outside/fuxictr_din.py.")
@click.option("--output", type=click.Path(path_type=pathlib.Path), help="Default: outside/ in the run's folder.")
def main(settings: pathlib.Path, overrides: tuple[str, ...], seed: int, options: tuple[str, ...], output) -> None:
    """Trains all three on the log of SETTINGS and prints AUC, speed and ratios."""
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
        print_table(found, f"{chosen.name}: test {prepared.test.impressions:,} impressions", person)
        (folder / "outside.json").write_text(json.dumps(found, indent=1), encoding="utf-8")


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
    command = [str(python), str(OUTSIDE / "fuxictr_din.py"), data, f"--seed={seed}", *options]
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


def print_table(found: dict[str, dict], title: str, console: Console) -> None:
    """A line a model; differences and ratios are to FuxiCTR's."""
    theirs = found[THEIRS]
    table = Table(title=title, title_justify="left")
    for column in ("model", "test AUC", "difference, pt", "impressions/s", "ratio", "parameters"):
        table.add_column(column, justify="left" if column == "model" else "right", no_wrap=True)
    for name, figures in found.items():
        rate = figures["impressions_per_second"] or float("nan")
        ratio = rate / (theirs["impressions_per_second"] or np.nan)
        table.add_row(
            name,
            f"{figures['auc_test']:.4f}",
            "" if name == THEIRS else f"{100 * (figures['auc_test'] - theirs['auc_test']):+.2f}",
            f"{rate:,.0f}",
            "" if name == THEIRS else f"{ratio:.1f}",
            f"{figures['parameters']:,}",
        )
    print_uncut(table, console)


if __name__ == "__main__":
    call(main, "python -m benchmarks.outside_check")
