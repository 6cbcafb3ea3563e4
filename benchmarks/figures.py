"""Figures 2 and 3 of the paper on one prepared log, from models trained as in Table 2.

usage: python -m benchmarks.figures [SETTINGS] [--preset demo] [--set KEY=VALUE ...] [--seed 1] [--names CSV]
                                    [--items ID,ID,...]

Figure 2 is of AMEN; Figure 3 compares c_tsp with and without the TSP task, both without the flow, on the test split.
What rows have in common is taken from the folder of `amen table2`, or left there for it. TensorBoard shows both as
images of the run `figures-<seed>`.
"""

import csv
import pathlib
import shutil
from collections.abc import Sequence

import click
from rich.console import Console
from rich.table import Table

from amen_tf import metrics
from amen_tf.config import Settings
from amen_tf.strict_json import to_json
from pipeline.commands import call
from pipeline.runners.console import print_uncut, quiet_command
from pipeline.runners.layout import Layout

# Requests of the test split among which the one of Figure 2 is chosen.
LOOKED_AT = 2048


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("settings", required=False, type=click.Path(path_type=pathlib.Path))
@click.option("--preset", default="demo", show_default=True, help="Without SETTINGS.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(1))
@click.option("--names", type=click.Path(path_type=pathlib.Path, exists=True), help="CSV with item_id and name.")
@click.option("--items", default="", metavar="ID,ID", help="Targets of Figure 2; default: chosen from a request.")
@click.option("--output", type=click.Path(path_type=pathlib.Path), help="Default: table2/ in the run's folder.")
def main(settings, preset: str, overrides: tuple[str, ...], seed: int, names, items: str, output) -> None:
    """Writes figure_2.png, figure_3.png and figure_3.json."""
    chosen = Settings.load(settings, overrides) if settings else Settings.from_preset(preset, overrides)
    folder = (output or Layout(chosen).folder / "table2").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    named = read_names(names) if names else {}
    with quiet_command(chosen, "figures") as person:
        from benchmarks.prepared import prepare_log
        from benchmarks.rows import Workshop

        workshop = Workshop(prepare_log(chosen), folder, lambda progress: None)
        draw(workshop, seed, named, [item for item in items.split(",") if item], person)


def draw(workshop, seed: int, names: dict[str, str], items: Sequence[str], person: Console) -> None:
    """Writes both figures into the workshop's folder and prints what Figure 3 shows in numbers.

    Args:
      workshop: see `benchmarks.rows.Workshop`.
      seed: of the models.
      names: item_id -> name; items that are not in it go by their ids.
      items: ids of the targets of Figure 2; none: some are chosen.
      person: for the person.
    """
    from amen_tf.plots import write_images

    figures = {"figure_2": _figure_2(workshop, seed, names, items), "figure_3": _figure_3(workshop, seed, person)}
    drawn = write_images(figures, workshop.folder / "tensorboard" / f"figures-{seed}")
    written = [shutil.copy(path, workshop.folder) for path in drawn]
    person.print(f"Written: {', '.join(map(str, written))}", markup=False)


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


def _figure_2(workshop, seed: int, names: dict[str, str], items: Sequence[str]):
    from amen_tf.plots import alignment_heat_map, choose_probe, item_ids, item_names
    from benchmarks.rows import FULL

    prepared = workshop.prepared
    if items and not prepared.item_words:
        raise click.ClickException("--items: items are hashed (transform.hash_buckets), so their ids have no names.")
    known = item_ids(prepared.item_words, prepared.spec.unseen) if items else {}
    unknown = [item for item in items if item not in known]
    if unknown:
        raise click.ClickException(f"--items: expected items that training has seen, got {', '.join(unknown)}.")
    first = next(iter(prepared.test.batches(prepared.test.size if items else LOOKED_AT)))
    try:
        probe = choose_probe(first, items=[known[item] for item in items])
    except ValueError as e:
        raise click.ClickException(f"--items: expected items that the test split shows. {e}") from e
    fitted, _, _ = workshop.fit(FULL, seed)
    id_of = item_names(prepared.item_words, prepared.spec.unseen)

    def name(item: int) -> str:
        return names.get(id_of(item), id_of(item))

    return alignment_heat_map(fitted.model, probe, name)


def _figure_3(workshop, seed: int, person: Console):
    from amen_tf.plots import calibration_density, calibration_scores

    variants = {}
    for title, row in (("with TSP, w/o NIF", "no_nif"), ("w/o TSP, w/o NIF", "no_nif+no_tsp")):
        fitted, _, _ = workshop.fit(row, seed)
        variants[title] = calibration_scores(fitted.model, workshop.prepared.test.batches(LOOKED_AT))
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
    (workshop.folder / "figure_3.json").write_text(to_json(figures), encoding="utf-8")
    return calibration_density(variants)


if __name__ == "__main__":
    call(main, "python -m benchmarks.figures")
