"""The two steps that Beam runs in parallel: files -> rows by user shard, and shard -> example files.

In: names of files. Out: example files, quarantined rows, and small dictionaries that count. Everything that depends on
the order in which Beam delivers things is removed by sorting.
"""

import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from tfx.dsl.io import fileio

from amen_tf import features
from pipeline.event_log import side_tables
from pipeline.event_log.errors import EventLogError
from pipeline.event_log.reader import Batch, describe, read_batches
from pipeline.event_log.units import Unit, units_of
from pipeline.example_gen import shuffle, wire
from pipeline.example_gen.heavy_users import newest_rows
from pipeline.example_gen.moveline import Plan, make_plan
from pipeline.example_gen.rules import MovelineRules

ROWS, USERS, FACTS = "rows", "users", "facts"
# Of the facts, what is counted, and what is known of each span.
SUMS = ("rows", "bad_rows", "above_user_limit")
OF_SPAN = (*SUMS, "first_bad", "clicks_are_logged")
REPEATED_USERS = "repeated_users"
# Requests turned into Arrow at once: with L = 50 some tens of megabytes.
_REQUESTS_AT_ONCE = 4096
_SHOWN_BAD_ROWS = 5


def cut(file: tuple[int, str, int | None], format: str) -> Iterator[tuple[str, Unit, int | None]]:
    """(number, path, span) of a file -> its units of work for `ReadFile`."""
    number, path, span = file
    for part, unit in enumerate(units_of(path, format)):
        yield f"{number:06d}-{part:06d}", unit, span


@beam.typehints.with_output_types(tuple[int, Any])
class ReadFile(beam.DoFn):
    """(place, unit of work, span) -> (shard, (kind, block)) on `ROWS`, one dictionary of facts on `FACTS`.

    A place is a text that sorts as the units of the log do. The kind is the span, or `ROWS` where there are no spans
    and the span is None; facts tell spans apart.

    Errors of the log travel as facts: an exception would come back from Beam as a traceback in a string.

    Args:
      rules: of the run.
      temporary: folder that all workers see.
      shards: of the users.
      spill: whether rows go through files and not through the runner.
    """

    def __init__(self, rules: MovelineRules, temporary: str, shards: int, spill: bool):
        self._rules = rules
        self._temporary = temporary
        self._shards = shards
        self._spill = spill

    def process(self, element: tuple[str, Unit, int | None]) -> Iterator:
        place, unit, span = element
        facts = no_facts()
        # A name for every attempt: the same unit may be read twice, by two workers at a time.
        path = f"{self._temporary}/rows-{place}-{uuid.uuid4().hex}" if self._spill else None
        blocks = shuffle.passed_on(self._blocks(place, unit, facts), path)
        yield from ((shard, (ROWS if span is None else span, block)) for shard, block in blocks)
        if span is not None:
            facts["spans"][str(span)] = {name: facts[name] for name in OF_SPAN}
        yield beam.pvalue.TaggedOutput(FACTS, facts)

    def _blocks(self, place: str, unit: Unit, facts: dict) -> Iterator[tuple[int, bytes]]:
        """The unit's rows by user shard; fills in the facts on the way."""
        data = self._rules.data
        try:
            for number, batch in enumerate(read_batches(unit.path, data, row_groups=unit.row_groups)):
                behaviors = batch.table.column(batch.table.schema.get_field_index(features.BEHAVIOR))
                facts["rows"] += batch.table.num_rows + batch.bad.num_rows
                facts["clicks_are_logged"] |= data.click_behavior in behaviors.unique().to_pylist()
                if batch.bad.num_rows:
                    facts["bad_rows"] += batch.bad.num_rows
                    facts["first_bad"] = (facts["first_bad"] + _described(batch))[:_SHOWN_BAD_ROWS]
                    if data.bad_rows == "quarantine":
                        name = f"{self._temporary}/{quarantine_file(place, f'{number:06d}')}"
                        wire.write_whole(name, self._temporary, shuffle.to_bytes(batch.bad))
                table, left_out = newest_rows(pa.Table.from_batches([batch.table]), data.max_user_rows)
                facts["above_user_limit"] += left_out
                for part in table.to_batches():
                    yield from shuffle.by_shard(part, self._shards)
        except EventLogError as e:
            facts["errors"].append(str(e))


@beam.typehints.with_output_types(tuple[int, Any])
class ReadUsers(beam.DoFn):
    """Path of a file of the user table -> (shard, (`USERS`, block)) on `USERS`, facts with its errors on `FACTS`."""

    def __init__(self, rules: MovelineRules, shards: int):
        self._rules = rules
        self._shards = shards

    def process(self, path: str) -> Iterator:
        facts = no_facts()
        try:
            for batch in side_tables.batches(path, side_tables.USER, self._rules.data):
                yield from ((shard, (USERS, block)) for shard, block in shuffle.by_shard(batch, self._shards))
        except EventLogError as e:
            facts["errors"].append(str(e))
        yield beam.pvalue.TaggedOutput(FACTS, facts)


class ShardStep(beam.DoFn):
    """What is done with a shard: its rows are joined with the tables of items and users, and files are written.

    Args:
      rules: of the run.
      temporary: folder that all workers see.
      shards: of the users.
    """

    def __init__(self, rules: MovelineRules, temporary: str, shards: int):
        self._rules = rules
        self._temporary = temporary
        self._shards = shards

    def setup(self) -> None:
        """Reads the item table, once for each worker."""
        data = self._rules.data
        self._items = side_tables.read(side_tables.ITEM, data) if data.item_table else None

    def _users(self, blocks: list[shuffle.Block]) -> pa.Table:
        """The shard's rows of the user table."""
        schema = side_tables.schema_of(side_tables.USER, self._rules.data)
        return pa.concat_tables([schema.empty_table(), *map(shuffle.from_bytes, blocks)])

    def _joined(self, events: pa.Table, users: pa.Table) -> tuple[pa.Table, dict[str, np.ndarray]]:
        """Events with what the tables say, and, by name of the count, of which rows the tables say nothing."""
        data, unknown = self._rules.data, {}
        if self._items is not None:
            events, absent = side_tables.join(events, self._items, side_tables.ITEM)
            unknown["rows_without_item"] = absent
        if data.user_table:
            events, absent = side_tables.join(events, users, side_tables.USER)
            unknown["rows_without_user"] = absent
        return events, unknown


class WriteShard(ShardStep):
    """(shard, blocks of its rows and users) and the facts of the whole log -> a file per split, a dictionary of counts.

    Users with more than one row in their table are counted under `REPEATED_USERS`; their shard has no files then.

    The step writes its files itself. TFX's own writer sends every example through a reshuffle with random keys, after
    which neither the order of the examples nor their files are the same twice; and one more shuffle of the examples,
    which are larger than the events, would cost more than everything before it.
    """

    def __init__(self, rules: MovelineRules, folder: str, temporary: str, shards: int):
        super().__init__(rules, temporary, shards)
        self._folder = folder

    def process(self, element: tuple[int, Iterable[tuple[str, shuffle.Block]]], facts: dict) -> Iterator[dict]:
        shard, blocks = element
        rules = self._rules
        if facts["errors"] or rules.data.stops_at(facts["bad_rows"], facts["rows"]):
            return
        events, left_out = shuffle.gather((b for kind, b in blocks if kind == ROWS), rules.data.max_user_rows)
        users = self._users([b for kind, b in blocks if kind == USERS])
        if repeated := side_tables.repeated(users, side_tables.USER):
            # It travels as a count, as what is wrong with the log travels as facts.
            yield {REPEATED_USERS: repeated}
            return
        events, absent = self._joined(events, users)
        plan = make_plan(events, rules, facts["clicks_are_logged"])
        for split in rules.split_names:
            path = f"{self._folder}/Split-{split}/{example_file(shard, self._shards)}"
            wire.write_tfrecord(path, self._temporary, encoded(plan, split))
        log = {**plan.counts, "above_user_limit": left_out}
        splits = {split: plan.split_counts(split) for split in rules.split_names}
        tables = {name: int(rows.sum()) for name, rows in absent.items()}
        yield {"log": log, "splits": splits, "tables": tables}


def encoded(plan: Plan, split: str) -> Iterator[bytes]:
    """The serialized examples of a split, a bounded number at a time."""
    requests = plan.requests_of(split)
    for start in range(0, len(requests), _REQUESTS_AT_ONCE):
        yield from wire.encode(plan.batch(requests[start : start + _REQUESTS_AT_ONCE]))


def quarantine_file(place: str, batch: str) -> str:
    """The name for the bad rows of a batch of a unit; "*" for any."""
    return f"quarantine-{place}-{batch}.arrow"


def number_of(path: str) -> int:
    """The number of the file that the bad rows in a file of `quarantine_file` are of."""
    return int(path.rpartition("/quarantine-")[2].partition("-")[0])


def read_tables(paths: Iterable[str]) -> Iterator[pa.Table]:
    """Tables from files, one after the other."""
    for path in paths:
        with fileio.open(path, "rb") as file:
            yield shuffle.from_bytes(file.read())


def example_file(shard: int, shards: int) -> str:
    """As TFX names them."""
    return f"data_tfrecord-{shard:05d}-of-{shards:05d}.gz"


def no_facts() -> dict:
    """What is known of a log of which nothing was read."""
    return {
        "rows": 0,
        "bad_rows": 0,
        "above_user_limit": 0,
        "first_bad": [],
        "clicks_are_logged": False,
        "errors": [],
        "spans": {},
    }


def merge_facts(parts: Iterable[dict]) -> dict:
    """Facts of several files as one; associative, and blind to the order."""
    merged = no_facts()
    for part in parts:
        for name in SUMS:
            merged[name] += part[name]
        for span, known in part["spans"].items():
            of_span = merge_facts([{**no_facts(), **merged["spans"].get(span, {})}, {**no_facts(), **known}])
            merged["spans"][span] = {name: of_span[name] for name in OF_SPAN}
        merged["clicks_are_logged"] |= part["clicks_are_logged"]
        merged["first_bad"] += part["first_bad"]
        merged["errors"] += part["errors"]
    merged["first_bad"] = sorted(merged["first_bad"])[:_SHOWN_BAD_ROWS]
    # Units of one file may say the same of it.
    merged["errors"] = sorted(set(merged["errors"]))[:_SHOWN_BAD_ROWS]
    return merged


def merge_counts(parts: Iterable[dict]) -> dict:
    """Sums nested dictionaries of integers key by key."""
    merged: dict = {}
    for part in parts:
        for key, value in part.items():
            merged[key] = (
                merge_counts([merged.get(key, {}), value]) if isinstance(value, dict) else merged.get(key, 0) + value
            )
    return merged


def _described(batch: Batch) -> list[tuple[str, int, str]]:
    """(file, row, text) of the first bad rows, which sorts by where they stand."""
    return [(row["file"], row["row"], describe(row)) for row in batch.bad.slice(0, _SHOWN_BAD_ROWS).to_pylist()]
