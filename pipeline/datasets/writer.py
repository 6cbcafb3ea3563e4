"""What every adapter leaves behind: Parquet parts of an event log, a `settings.yaml` for it, and a summary.

In: batches of event-log rows. Out: `OUT/events/part-00000.parquet` and following, which appear all at once when the
last is written; `OUT/settings.yaml`, checked by reading it back.
"""

import dataclasses
import os
import pathlib
import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import rich.box
import yaml
from rich.table import Table

from amen_tf.config import Settings
from pipeline.event_log.errors import EventLogError
from pipeline.event_log.hashing import combine, hash_column

_PART = re.compile(r"part-\d{5,}\.parquet")


@dataclasses.dataclass(frozen=True)
class ConvertSummary:
    """What an adapter made.

    Attributes:
      source: the dataset and the file it came from.
      folder, settings: the output folder, and the settings file in it.
      files, rows: Parquet parts and event-log rows in them.
      users, requests, impressions, clicked, events: `events` are the rows that are no impressions.
      notes: what was left out or read in a way that a person should know.
    """

    source: str
    folder: str
    settings: str
    files: int
    rows: int
    users: int
    requests: int
    impressions: int
    clicked: int
    events: int
    notes: tuple[str, ...] = ()

    @property
    def click_rate(self) -> float:
        """Share of clicked impressions, 0 without impressions."""
        return self.clicked / self.impressions if self.impressions else 0.0

    def _figures(self) -> list[tuple[str, str]]:
        return [
            ("event log", f"{self.folder}/events ({self.files} files, {self.rows:,} rows)"),
            ("users", f"{self.users:,}"),
            ("requests", f"{self.requests:,}"),
            ("impressions", f"{self.impressions:,}, {self.click_rate:.2%} clicked"),
            ("other events", f"{self.events:,}"),
            ("settings", self.settings),
        ]

    def __str__(self) -> str:
        figures = "\n".join(f"  {name}: {value}" for name, value in self._figures())
        return "\n".join([f"{self.source}\n{figures}", *(f"  note: {note}" for note in self.notes)])

    def __rich__(self) -> Table:
        table = figure_table(self.source, self._figures())
        for note in self.notes:
            table.add_row("note", note)
        return table


def figure_table(title: str, figures: list[tuple[str, str]]) -> Table:
    """Names and values as a two-column table."""
    table = Table(title=title, title_justify="left", box=rich.box.SIMPLE, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in figures:
        table.add_row(name, value)
    return table


class EventWriter:
    """Writes the parts of an event log and counts what goes into them. Use as a context manager.

    Nothing is to be seen under `OUT/events` until all went well; parts of an earlier call are then replaced.
    """

    def __init__(self, out_folder: str | os.PathLike):
        self.folder = pathlib.Path(out_folder)
        self._target = self.folder / "events"
        self._unfinished = self.folder / "events.unfinished"
        self.files = self.rows = self.impressions = self.clicked = 0
        self._users: list[np.ndarray] = []
        self._requests: list[np.ndarray] = []

    def __enter__(self) -> "EventWriter":
        foreign = [p.name for p in self._target.glob("*") if not _PART.fullmatch(p.name)]
        if foreign:
            raise EventLogError(
                f"{self._target} holds files that are not ours, for instance {foreign[0]}. "
                "Give another output folder, or move them away."
            )
        shutil.rmtree(self._unfinished, ignore_errors=True)
        self._unfinished.mkdir(parents=True)
        return self

    def write(self, table: pa.Table) -> None:
        """Adds a part. `table` has the event log's columns by their canonical names; empty tables make no part."""
        if not table.num_rows:
            return
        pq.write_table(table, self._unfinished / f"part-{self.files:05d}.parquet", compression="snappy")
        self.files += 1
        self.rows += table.num_rows
        shown = table.filter(pc.is_valid(table["label"]))
        self.impressions += shown.num_rows
        self.clicked += pc.sum(shown["label"]).as_py() or 0
        self._users.append(np.unique(_hashes(table["user_id"])))
        self._requests.append(np.unique(combine(_hashes(shown["user_id"]), _hashes(shown["request_id"]))))

    def __exit__(self, kind, error, trace) -> None:
        if kind is not None:
            shutil.rmtree(self._unfinished, ignore_errors=True)
            return
        shutil.rmtree(self._target, ignore_errors=True)
        os.replace(self._unfinished, self._target)

    @property
    def users(self) -> int:
        """Different users so far."""
        return _distinct(self._users)

    @property
    def requests(self) -> int:
        """Different requests so far."""
        return _distinct(self._requests)

    def summary(self, source: str, settings: pathlib.Path, notes: tuple[str, ...] = ()) -> ConvertSummary:
        """Call after the `with` block."""
        return ConvertSummary(
            source=source,
            folder=str(self.folder),
            settings=str(settings),
            files=self.files,
            rows=self.rows,
            users=self.users,
            requests=self.requests,
            impressions=self.impressions,
            clicked=self.clicked,
            events=self.rows - self.impressions,
            notes=notes,
        )


def write_settings(out_folder: str | os.PathLike, name: str, data: dict, comment: str) -> pathlib.Path:
    """Writes `OUT/settings.yaml`: the demo preset over `OUT/events`, and reads it back to be sure of it.

    Args:
      out_folder: where `events/` lies.
      name: of the run.
      data: keys of the `data` section beside `log` and `format`.
      comment: the first line of the file.

    Returns:
      The file's path. A settings file that was there and differs is kept beside it as `settings.yaml.bak`.
    """
    folder = pathlib.Path(out_folder).resolve()
    content = {
        "name": name,
        "preset": "demo",
        "data": {"log": str(folder / "events"), "format": "parquet", **data},
        # Fractions of the labelled impressions in time order.
        "split": {"stage1_end": 0.5, "train_end": 0.8, "eval_end": 0.9},
    }
    path = folder / "settings.yaml"
    text = f"# {comment}\n# Keys that are not here have the values of the preset.\n"
    text += yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=110)
    if path.exists() and path.read_text(encoding="utf-8") != text:
        os.replace(path, path.with_suffix(".yaml.bak"))
    unfinished = path.with_suffix(".yaml.unfinished")
    unfinished.write_text(text, encoding="utf-8")
    Settings.load(unfinished)
    os.replace(unfinished, path)
    return path


def _hashes(column: pa.ChunkedArray) -> np.ndarray:
    chunks = [hash_column(pc.fill_null(chunk, "")) for chunk in column.chunks]
    return np.concatenate(chunks) if chunks else np.zeros(0, np.uint64)


def _distinct(parts: list[np.ndarray]) -> int:
    return len(np.unique(np.concatenate(parts))) if parts else 0
