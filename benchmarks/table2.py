"""`amen table2`: every row of the paper's Table 2 that can be run, on one prepared log, over several seeds."""

import datetime
import pathlib
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from amen_tf import metrics
from amen_tf.config import Settings
from amen_tf.strict_json import to_json
from benchmarks.rows import BASELINE, BASELINES, FULL, RowResult, Workshop, flat_labels, flat_users, row_title
from pipeline.runners.console import print_uncut
from pipeline.runners.layout import Layout

FIGURES = ("auc", "gauc_impression_weighted", "gauc_user_mean", "log_loss", "calibration")


class Line(NamedTuple):
    """A row over its seeds.

    Attributes:
      row: its name.
      seeds: which were trained.
      mean, deviation: of every figure over seeds; the deviation (n - 1) is NaN for one seed.
      difference: mean AUC difference to MEDN, paired by seed; None for MEDN itself and where it was not trained.
      interval: its bootstrap interval over users.
      eval_auc: mean over seeds.
      parameters, frozen_parameters, impressions_per_second: of the models; the rate is the median over seeds.
      generator: mean figures of the generators.
    """

    row: str
    seeds: tuple[int, ...]
    mean: dict[str, float]
    deviation: dict[str, float]
    difference: float | None
    interval: metrics.Interval | None
    eval_auc: float
    parameters: int
    frozen_parameters: int
    impressions_per_second: float
    generator: dict[str, float]


def summarise(
    results: dict[tuple[str, int], RowResult], rows: Sequence[str], seeds: Sequence[int], label, user, replicates: int
) -> list[Line]:
    """Results by (row, seed) -> a line per row.

    Args:
      results: of the seeds that are complete.
      rows, seeds: in the order of the table.
      label, user: `[impressions]` of the test split.
      replicates: of the bootstrap.
    """
    lines = []
    for row in rows:
        mine = [results[row, seed] for seed in seeds if (row, seed) in results]
        if not mine:
            continue
        values = {name: np.array([result.figures[name] for result in mine]) for name in FIGURES}
        pairs = [(r, results[BASELINE, r.seed]) for r in mine if row != BASELINE and (BASELINE, r.seed) in results]
        difference, interval = None, None
        if pairs:
            difference = float(np.mean([model.figures["auc"] - base.figures["auc"] for model, base in pairs]))
            scores, base_scores = zip(*((model.scores, base.scores) for model, base in pairs), strict=True)
            interval = metrics.bootstrap_auc_difference(label, scores, base_scores, user, replicates=replicates)
        generators = [result.generator for result in mine if result.generator]
        lines.append(
            Line(
                row,
                tuple(result.seed for result in mine),
                {name: float(v.mean()) for name, v in values.items()},
                {name: float(v.std(ddof=1)) if len(v) > 1 else float("nan") for name, v in values.items()},
                difference,
                interval,
                float(np.mean([result.eval_auc for result in mine])),
                mine[0].parameters,
                mine[0].frozen_parameters,
                float(np.median([result.impressions_per_second for result in mine])),
                {n: float(np.mean([g[n] for g in generators])) for n in (generators[0] if generators else {})},
            )
        )
    return lines


def print_table(lines: Sequence[Line], title: str, console: Console) -> None:
    """The paper's table with what it leaves out."""
    table = Table(title=title, title_justify="left")
    table.add_column("category", no_wrap=True)
    table.add_column("model", no_wrap=True)
    for column in ("AUC", "to MEDN, pt", "95 % interval", "GAUC impr.", "GAUC user", "log loss", "calibration"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("parameters", "impr./s"):
        table.add_column(column, justify="right", no_wrap=True)
    for line in lines:
        category = "baseline" if line.row in BASELINES else "ours" if line.row == FULL else "ablation"
        difference = "" if line.difference is None else f"{100 * line.difference:+.2f}"
        interval = "" if line.interval is None else f"{100 * line.interval.low:+.2f} to {100 * line.interval.high:+.2f}"
        frozen = f" + {line.frozen_parameters:,} frozen" if line.frozen_parameters else ""
        rate = "" if np.isnan(line.impressions_per_second) else f"{line.impressions_per_second:,.0f}"
        table.add_row(
            category,
            row_title(line.row),
            _spread(line, "auc", 4),
            difference,
            interval,
            _spread(line, "gauc_impression_weighted", 4),
            _spread(line, "gauc_user_mean", 4),
            _spread(line, "log_loss", 4),
            _spread(line, "calibration", 3),
            f"{line.parameters:,}{frozen}",
            rate,
        )
    print_uncut(table, console)


def _spread(line: Line, figure: str, digits: int) -> str:
    """Mean ± standard deviation over seeds; the mean alone where there is one seed."""
    mean, deviation = line.mean[figure], line.deviation[figure]
    return f"{mean:.{digits}f}" + ("" if np.isnan(deviation) else f" ± {deviation:.{digits}f}")


def write_picture(lines: Sequence[Line], title: str, path: pathlib.Path) -> None:
    """AUC differences to MEDN with their intervals, as a PNG."""
    from matplotlib.figure import Figure

    shown = [line for line in lines if line.difference is not None][::-1]
    figure = Figure(figsize=(8, 0.5 + 0.45 * max(1, len(shown))), layout="constrained")
    axes = figure.subplots()
    for place, line in enumerate(shown):
        low, high = 100 * line.interval.low, 100 * line.interval.high
        colour = {FULL: "tab:red"}.get(line.row, "tab:gray" if line.row in BASELINES else "tab:blue")
        axes.plot([low, high], [place, place], color=colour, linewidth=2)
        axes.plot(100 * line.difference, place, "o", color=colour)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.set_yticks(range(len(shown)), [row_title(line.row) for line in shown])
    axes.set_xlabel("AUC difference to MEDN in points, with a 95 % bootstrap interval over users")
    axes.set_title(title, fontsize=10)
    figure.savefig(path, dpi=120)


def run(
    settings: Settings,
    rows: Sequence[str],
    seeds: Sequence[int],
    console: Console,
    output: pathlib.Path | None = None,
    replicates: int = 1000,
) -> tuple[list[Line], dict[tuple[str, int], RowResult]]:
    """Trains what is not trained yet, then prints the table and writes `table2.json` and `table2.png`.

    Args:
      settings: of the log and the models; data stages are those of `amen run` with the same settings.
      rows: see `benchmarks.rows.is_row`.
      seeds: of weights, dropout and order; the log and its split stay the same.
      console: for the person.
      output: folder of all that is kept; None takes `table2/` in the run's folder.
      replicates: of the bootstrap.

    Returns:
      The table's lines, and every result by (row, seed).
    """
    from benchmarks.prepared import prepare_log

    folder = (output or Layout(settings).folder / "table2").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    console.print(f"[bold]{settings.name}[/]: preparing the log")
    prepared = prepare_log(settings)
    sizes = ", ".join(f"{n} {getattr(prepared, n).impressions:,}" for n in ("stage1", "stage2", "eval", "test"))
    console.print(f"impressions: {sizes}")
    workshop, results = Workshop(prepared, folder, lambda progress: None), {}
    # Seed by seed, so that a run that is cut short has whole seeds.
    for seed in seeds:
        for row in rows:
            begin, found = time.monotonic(), workshop.result(row, seed)
            result = found or workshop.train(row, seed)
            results[row, seed] = result
            took = "   kept" if found else f"{time.monotonic() - begin:5.0f} s"
            auc = f"AUC test {result.figures['auc']:.4f}, eval {result.eval_auc:.4f}"
            console.print(f"  {took}  seed {seed}  {row_title(row)}: {auc}")
    lines = summarise(results, rows, seeds, flat_labels(prepared.test), flat_users(prepared.test), replicates)
    title = f"{settings.name}: test {prepared.test.impressions:,} impressions, seeds: {len(seeds)}"
    print_table(lines, title, console)
    content = {
        "name": settings.name,
        "seeds": list(seeds),
        "test_impressions": prepared.test.impressions,
        "date": datetime.date.today().isoformat(),
        "lines": [{**line._asdict(), "interval": line.interval and list(line.interval)} for line in lines],
        "settings": prepared.settings.model_dump(mode="json"),
    }
    (folder / "table2.json").write_text(to_json(content), encoding="utf-8")
    write_picture(lines, title, folder / "table2.png")
    console.print(f"Written: {folder / 'table2.json'}, {folder / 'table2.png'}", markup=False)
    return lines, results
