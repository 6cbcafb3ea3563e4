"""Figures 2 and 3 of the paper on one prepared log, from models trained as in Table 2.

usage: python -m benchmarks.figures [SETTINGS] [--preset demo] [--set KEY=VALUE ...] [--seed 1] [--names CSV]

Figure 2 is of AMEN; Figure 3 compares c_tsp with and without the TSP task, both without the flow, on the test split.
What rows have in common is taken from the folder of `amen table2`, or left there for it.
"""

import csv
import json
import pathlib

import click
from rich.console import Console
from rich.table import Table

from amen_tf import metrics
from amen_tf.config import Settings
from pipeline.commands import call
from pipeline.runners.console import print_uncut, quiet
from pipeline.runners.layout import Layout

# Requests of the test split among which the one of Figure 2 is chosen.
LOOKED_AT = 2048


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("settings", required=False, type=click.Path(path_type=pathlib.Path))
@click.option("--preset", default="demo", show_default=True, help="Without SETTINGS.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(1))
@click.option("--names", type=click.Path(path_type=pathlib.Path, exists=True), help="CSV with item_id and name.")
@click.option("--output", type=click.Path(path_type=pathlib.Path), help="Default: table2/ in the run's folder.")
def main(settings, preset: str, overrides: tuple[str, ...], seed: int, names, output) -> None:
    """Writes figure_2.png, figure_3.png and figure_3.json."""
    chosen = Settings.load(settings, overrides) if settings else Settings.from_preset(preset, overrides)
    layout = Layout(chosen)
    folder = (output or layout.folder / "table2").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    named = read_names(names) if names else {}
    with quiet(layout.log_file("figures")) as person:
        from benchmarks.prepared import prepare_log
        from benchmarks.rows import Workshop

        draw(Workshop(prepare_log(chosen), folder, lambda progress: None), seed, named, person)


def draw(workshop, seed: int, names: dict[str, str], person: Console) -> None:
    """Writes both figures into the workshop's folder and prints what Figure 3 shows in numbers.

    Args:
      workshop: see `benchmarks.rows.Workshop`.
      seed: of the models.
      names: item_id -> name; items that are not in it go by their ids.
      person: for the person.
    """
    _figure_2(workshop, seed, names)
    _figure_3(workshop, seed, person)
    pictures = ", ".join(str(workshop.folder / f"figure_{number}.png") for number in (2, 3))
    person.print(f"Written: {pictures}", markup=False)


def read_names(path: pathlib.Path) -> dict[str, str]:
    """item_id -> name from a CSV file with these two columns.

    Raises:
      click.ClickException: a column is missing.
    """
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if not {"item_id", "name"} <= set(reader.fieldnames or ()):
            raise click.ClickException(f"{path}: expected the columns item_id and name, got {reader.fieldnames}.")
        return {row["item_id"]: row["name"] for row in reader}


def _figure_2(workshop, seed: int, names: dict[str, str]) -> None:
    from amen_tf.plots import alignment_heat_map, choose_probe, item_names, write_png

    prepared = workshop.prepared
    fitted, _, _ = workshop.fit("amen", seed)
    id_of = item_names(prepared.item_words, prepared.spec.unseen)

    def name(item: int) -> str:
        return names.get(id_of(item), id_of(item))

    first = next(iter(prepared.test.batches(LOOKED_AT)))
    write_png(alignment_heat_map(fitted.model, choose_probe(first), name), workshop.folder / "figure_2.png")


def _figure_3(workshop, seed: int, person: Console) -> None:
    from amen_tf.plots import calibration_density, calibration_scores, write_png

    variants = {}
    for title, row in (("with TSP, w/o NIF", "no_nif"), ("w/o TSP, w/o NIF", "no_nif+no_tsp")):
        fitted, _, _ = workshop.fit(row, seed)
        variants[title] = calibration_scores(fitted.model, workshop.prepared.test.batches(LOOKED_AT))
    write_png(calibration_density(variants), workshop.folder / "figure_3.png")
    table = Table(title="c_tsp on the test split", title_justify="left")
    for column in ("model", "mean, clicked", "mean, unclicked", "standard deviation", "its AUC alone"):
        table.add_column(column, justify="left" if column == "model" else "right", no_wrap=True)
    figures = {}
    for title, scores in variants.items():
        clicked, unclicked = scores.score[scores.clicked], scores.score[~scores.clicked]
        values = (clicked.mean(), unclicked.mean(), scores.score.std(), metrics.auc(scores.clicked, scores.score))
        names = ("mean_clicked", "mean_unclicked", "deviation", "auc")
        figures[title] = dict(zip(names, map(float, values), strict=True))
        table.add_row(title, *(f"{value:.4f}" for value in values))
    print_uncut(table, person)
    (workshop.folder / "figure_3.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    call(main, "python -m benchmarks.figures")
