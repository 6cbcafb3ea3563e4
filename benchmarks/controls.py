"""Controls on the simulator: the flow must gain where there is something ahead to see, and nowhere else.

usage: python -m benchmarks.controls [--seeds 5] [--preset demo] [--set KEY=VALUE ...]

The simulator has two things that a flow can foresee: clicks in one scene lead to clicks in another (`lead`), and
intents follow one another (`chain`). What is expected was written down here before anything was run; the simulator is
not to be tuned until it comes true. Two gains are judged: that of the flow by itself, and that of all which the
generator brings, its item vectors included, which know what is alike and need not foresee anything.
"""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import click
import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from amen_tf.config import Settings
from amen_tf.strict_json import to_json
from pipeline.commands import call
from pipeline.runners.console import print_uncut, quiet_command

# What is compared with AMEN without the generator: the flow by itself, and all that the generator brings.
WITHOUT = "no_nif"
COMPARED = {"the flow alone": "no_similarity", "flow and item vectors": "amen"}
# A gain has vanished where less than this is left of it, in AUC: what would not be seen among the rows of Table 2.
NEGLIGIBLE = 0.001


class Control(NamedTuple):
    """A simulated world and what the flow must be worth in it.

    Attributes:
      name: for the table.
      lead, chain: the simulator's settings of that name.
      gains: whether AMEN must beat itself without the flow.
    """

    name: str
    lead: float
    chain: float
    gains: bool


CONTROLS = (
    Control("nothing to foresee", lead=0.0, chain=0.0, gains=False),
    Control("lead and chain", lead=1.0, chain=1.0, gains=True),
)


class Judged(NamedTuple):
    """The flow's gain in AUC over seeds, its 95 % t-interval, and whether that is what was expected."""

    mean: float
    low: float
    high: float
    as_expected: bool


def judge(gains: Sequence[float], expected: bool) -> Judged:
    """What the gains of several seeds say.

    A gain is there where its 95 % interval over seeds (Student's t, paired by seed) lies above 0; it has vanished where
    the interval does not, and ends below `NEGLIGIBLE`: one that is wide for want of seeds says nothing.

    Args:
      gains: AUC of AMEN minus AUC of AMEN without the flow, one a seed, at least two.
      expected: whether a gain was expected.
    """
    if len(gains) < 2:
        raise ValueError(f"expected the gains of at least two seeds, got {len(gains)}")
    mean, error = float(np.mean(gains)), float(np.std(gains, ddof=1) / np.sqrt(len(gains)))
    reach = float(stats.t.ppf(0.975, len(gains) - 1)) * error
    low, high = mean - reach, mean + reach
    return Judged(mean, low, high, low > 0 if expected else low <= 0 and high < NEGLIGIBLE)


def world(settings: Settings, control: Control) -> Settings:
    """`settings` with a log of that world, in a run folder of its own."""
    simulate = settings.data.simulate.model_copy(update={"lead": control.lead, "chain": control.chain})
    data = settings.data.model_copy(update={"simulate": simulate})
    name = f"{settings.name}-lead{control.lead:g}-chain{control.chain:g}".replace(".", "_")
    return settings.model_copy(update={"name": name, "data": data})


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--preset", default="demo", show_default=True)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE")
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(2))
def main(preset: str, overrides: tuple[str, ...], seeds: int) -> int:
    """Trains AMEN with and without the flow in every world; status 1 if one is not as expected."""
    settings = Settings.from_preset(preset, overrides)
    folder = pathlib.Path(settings.run.root).resolve() / f"{settings.name}-controls"
    judged = {}
    with quiet_command(settings, "controls") as person:
        from benchmarks.table2 import run

        rows = (WITHOUT, *COMPARED.values())
        for control in CONTROLS:
            lines, results = run(world(settings, control), rows, range(1, seeds + 1), person)
            aucs = {key: result.figures["auc"] for key, result in results.items()}
            for what, row in COMPARED.items():
                gains = [aucs[row, seed] - aucs[WITHOUT, seed] for seed in lines[0].seeds]
                judged[control.name, what] = judge(gains, control.gains)
        _print(judged, person)
    folder.mkdir(parents=True, exist_ok=True)
    content = [{"world": name, "gain_of": what, **result._asdict()} for (name, what), result in judged.items()]
    (folder / "controls.json").write_text(to_json(content), encoding="utf-8")
    return 0 if all(result.as_expected for result in judged.values()) else 1


def _print(judged: dict[tuple[str, str], Judged], console: Console) -> None:
    table = Table(title="What the generator gains, AUC in points", title_justify="left")
    for column in ("world", "gain of", "mean over seeds", "95 % interval", "expected", "came out"):
        table.add_column(column, no_wrap=True)
    expected = {control.name: "a gain" if control.gains else "no gain" for control in CONTROLS}
    for (name, what), result in judged.items():
        table.add_row(
            name,
            what,
            f"{100 * result.mean:+.2f}",
            f"{100 * result.low:+.2f} to {100 * result.high:+.2f}",
            expected[name],
            "as expected" if result.as_expected else "NOT as expected",
        )
    print_uncut(table, console)


if __name__ == "__main__":
    call(main, "python -m benchmarks.controls")
