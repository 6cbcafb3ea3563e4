"""An embedded, seeded, all-domain event log with a known truth.

In: `SimulateSettings`. Out: `OUT/events/*.parquet` (an event log), `OUT/truth.parquet` (the true click probability of
every impression) and `OUT/simulation.json` (settings, counts, AUC of the truth).

The process, for one user; constants in `sim_scenes`, `sim_intents`, `sim_feed`:

1. **World.** Items have a category, a style within it, a quality, a price and a popularity; four in ten are there
   from the start, the others come later, and most go again after some weeks. Each category has two successors. Names
   are numbered at random: an id tells nothing of item, popularity or display order.
2. **Intents.** Up to four a user, each for one category and style, born at random (0.35 a day), in a favourite
   category of the user with chance 0.6. An intent reaches the feed after a delay that is exponential with mean
   `lead` x 12 hours; from then on its strength halves every three days until it is forgotten.
3. **Scenes.** Sessions start as a Poisson process at the user's own rate (gamma distributed around
   `requests_per_user`); within one, scenes follow one another as the Markov chain `sim_scenes.NEXT` says: feed, search,
   live, content, item page, cart, end. Where it goes on depends on what happened: a click, an item of an intent.
4. **Other scenes before the feed.** In search, live and content the user meets an item: with chance 1 - exp(-`lead`)
   one of a present intent, whether or not it has reached the feed; otherwise a popular one that has nothing to do with
   the user. With `lead` = 0, intents are in the feed from their birth, and search, live and content tell nothing
   about the user: the control that an interest flow gains nothing from them.
5. **Purchases.** An item page may lead to the cart and to a purchase. A purchase ends the intent behind the item;
   with chance 1 - exp(-`chain`) an intent for a successor category takes its place, with a lead of its own. With
   `chain` = 0 a purchase starts nothing.
6. **Feed.** An upstream recalls `candidates` items: for intents in the feed (30 %, often in the wrong style), for
   favourite categories (15 %), from the whole catalogue (20 %), else popular ones; it orders them by a noisy score.
   Every item is clicked or not, independently, with the true probability
   sigmoid(bias + 4 match + 0.6 quality + 0.5 [favourite category] - 0.12 fatigue - 0.75 log8(position)), where match is
   the largest strength of an intent in the feed that has the item's category (x 0.35 unless the style fits too), and
   fatigue the decayed number of earlier impressions of the category.

The truth knows intents that no log shows, so its AUC is a bound that no model reaches.

Users are simulated in blocks with a random stream of their own. Block size depends on the settings of a user alone,
so all users of a full block do the same however many users there are; memory is bounded by a block.
"""

import dataclasses
import json
import os
import pathlib
import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.table import Table

from amen_tf.config import SimulateSettings
from pipeline.datasets.auc import exact_auc
from pipeline.datasets.sim_scenes import BEHAVIORS, SCENES
from pipeline.datasets.sim_users import Block
from pipeline.datasets.sim_world import START_TIME, World, make_world, numbered
from pipeline.datasets.writer import EventWriter, figure_table, write_settings
from pipeline.event_log.errors import EventLogError

TRUTH_SCHEMA = pa.schema(
    [
        ("request_id", pa.string()),
        ("item_id", pa.string()),
        ("position", pa.int16()),
        ("timestamp", pa.int64()),
        ("label", pa.int8()),
        ("probability", pa.float32()),
    ]
)
# Rows that a block is cut to, roughly; small enough for laptops, large enough for NumPy to be fast.
_ROWS_PER_BLOCK = 1_000_000
_MOST_USERS_PER_BLOCK = 4096
_FEATURES = [
    {"name": "position", "owner": "candidate", "kind": "categorical"},
    {"name": "price", "owner": "candidate", "kind": "numeric"},
]


@dataclasses.dataclass(frozen=True)
class SimSummary:
    """What a simulation made. `oracle_auc` is None when all impressions have the same label."""

    folder: str
    rows: int
    users: int
    requests: int
    impressions: int
    clicked: int
    click_rate: float
    events: int
    median_events_per_user: float
    oracle_auc: float | None
    seconds: float

    def _figures(self) -> list[tuple[str, str]]:
        return [
            ("event log", f"{self.folder}/events ({self.rows:,} rows)"),
            ("users", f"{self.users:,}"),
            ("requests", f"{self.requests:,}"),
            ("impressions", f"{self.impressions:,}, {self.click_rate:.2%} clicked"),
            ("other events", f"{self.events:,}, median {self.median_events_per_user:g} per user"),
            ("AUC of the truth", "-" if self.oracle_auc is None else f"{self.oracle_auc:.4f}"),
            ("time", f"{self.seconds:.1f} s"),
        ]

    def __str__(self) -> str:
        return "Simulated\n" + "\n".join(f"  {name}: {value}" for name, value in self._figures())

    def __rich__(self) -> Table:
        return figure_table("Simulated", self._figures())


def simulate(sim: SimulateSettings, out_folder: str | os.PathLike, settings_file: bool = False) -> SimSummary:
    """Writes a simulated log; the same settings give the same rows.

    Args:
      sim: sizes, `lead`, `chain` and the seed.
      out_folder: made if need be; an earlier simulation there is replaced.
      settings_file: also write `settings.yaml`, for a run over this very folder.

    Raises:
      EventLogError: more candidates than half the items, or `out_folder/events` holds files of another origin.
    """
    if sim.candidates * 2 > sim.items:
        raise EventLogError(
            f"data.simulate: {sim.candidates} candidates out of {sim.items} items. Expected at least twice as many "
            "items as candidates: raise data.simulate.items or lower data.simulate.candidates."
        )
    started = time.monotonic()
    folder = pathlib.Path(out_folder)
    world = make_world(sim)
    block_users = _users_per_block(sim)
    # -1: a user who left no row at all, and so is not in the log.
    events_of = np.full(sim.users, -1)
    truth_path, unfinished = folder / "truth.parquet", folder / "truth.unfinished"
    with EventWriter(folder) as events:
        with pq.ParquetWriter(unfinished, TRUTH_SCHEMA) as truth:
            for number, first in enumerate(range(0, sim.users, block_users)):
                users = min(block_users, sim.users - first)
                rows = Block(world, sim, first, users, number).run()
                table = _event_table(rows, world)
                events.write(table)
                truth.write_table(_truth_table(rows, table))
                present = np.unique(rows["user"])
                events_of[present] = np.bincount(rows["user"][rows["label"] < 0], minlength=sim.users)[present]
        os.replace(unfinished, truth_path)
    summary = SimSummary(
        folder=str(folder),
        rows=events.rows,
        users=events.users,
        requests=events.requests,
        impressions=events.impressions,
        clicked=events.clicked,
        click_rate=events.clicked / events.impressions if events.impressions else 0.0,
        events=events.rows - events.impressions,
        median_events_per_user=float(np.median(events_of[events_of >= 0])) if events.users else 0.0,
        oracle_auc=oracle_auc(folder) if 0 < events.clicked < events.impressions else None,
        seconds=round(time.monotonic() - started, 2),
    )
    # Only what the settings decide: the folder may be moved, and time differs from run to run.
    counts = {name: v for name, v in dataclasses.asdict(summary).items() if name not in ("folder", "seconds")}
    content = {"settings": sim.model_dump(), "counts": counts}
    (folder / "simulation.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    if settings_file:
        write_settings(
            folder, "simulated", {"features": _FEATURES, "max_candidates": sim.candidates}, "A simulated log."
        )
    return summary


def oracle_auc(folder: str | os.PathLike, from_time: int | None = None) -> float:
    """AUC of the true click probability over all impressions, or those at or after `from_time` (unix seconds).

    Raises:
      EventLogError: no truth in the folder.
      ValueError: the impressions asked for have labels of one class.
    """
    path = pathlib.Path(folder) / "truth.parquet"
    if not path.is_file():
        raise EventLogError(f"No {path}: expected the folder that `amen simulate` wrote.")
    truth = pq.read_table(path, columns=["timestamp", "label", "probability"])
    if from_time is not None:
        truth = truth.filter(pc.greater_equal(truth["timestamp"], from_time))
    return exact_auc(truth["label"].to_numpy(), truth["probability"].to_numpy())


def _users_per_block(sim: SimulateSettings) -> int:
    per_user = sim.requests_per_user * (sim.candidates + 3.0)
    return int(np.clip(_ROWS_PER_BLOCK / per_user, 64, _MOST_USERS_PER_BLOCK))


def _event_table(rows: dict[str, np.ndarray], world: World) -> pa.Table:
    user, label, item = rows["user"], rows["label"], rows["item"]
    shown, none = label >= 0, item < 0
    low = int(user.min()) if len(user) else 0
    users = numbered("u", np.arange(low, int(user.max(initial=low)) + 1))
    user_id = users.take(pa.array(user - low))
    place = pa.array(item, mask=none)
    request = pa.array(rows["request"], mask=~shown)
    return pa.table(
        {
            "user_id": user_id,
            "timestamp": pa.array(rows["time"] + START_TIME),
            "scene": pa.array(SCENES).take(pa.array(rows["scene"])),
            "behavior": pa.array(BEHAVIORS).take(pa.array(rows["behavior"])),
            "item_id": world.names.take(place),
            "category_id": world.category_names.take(pa.array(world.category[item], mask=none)),
            "label": pa.array(label, mask=~shown),
            "request_id": pc.binary_join_element_wise(user_id, pc.cast(request, pa.string()), "-"),
            "position": pc.cast(pa.array(rows["position"], mask=~shown), pa.string()),
            "price": pa.array(world.price[item], mask=none),
        }
    )


def _truth_table(rows: dict[str, np.ndarray], table: pa.Table) -> pa.Table:
    shown = pa.array(rows["label"] >= 0)
    columns = {name: table[name] for name in ("request_id", "item_id", "timestamp", "label")}
    columns["position"] = pa.array(rows["position"])
    columns["probability"] = pa.array(rows["probability"])
    return pa.table(columns).select(TRUTH_SCHEMA.names).filter(shown).cast(TRUTH_SCHEMA)
