"""The two steps that Beam runs in parallel: files -> rows by user shard, and shard -> example files.

In: file names. Out: example files, quarantined rows, and small dictionaries that count. Everything that depends on
the order in which Beam delivers things is removed by sorting.
"""

import os
from collections.abc import Iterable, Iterator

import apache_beam as beam
import numpy as np
import pyarrow as pa
from tfx.dsl.io import fileio

from amen_tf import features
from pipeline.event_log.errors import EventLogError
from pipeline.event_log.hashing import hash_column
from pipeline.event_log.reader import Batch, describe, read_batches
from pipeline.example_gen import wire
from pipeline.example_gen.moveline import Plan, make_plan
from pipeline.example_gen.rules import MovelineRules

ROWS, FACTS = "rows", "facts"
# Requests turned into Arrow at once: with L = 50 some tens of megabytes.
_REQUESTS_AT_ONCE = 4096
_SHOWN_BAD_ROWS = 5


@beam.typehints.with_output_types(tuple[int, bytes])
class ReadFile(beam.DoFn):
    """(number, path) of a file -> (shard, Arrow bytes) on `ROWS`, one dictionary of facts on `FACTS`.

    Errors of the log travel as facts: an exception would come back from Beam as a traceback in a string.
    """

    def __init__(self, rules: MovelineRules, temporary: str):
        self._rules = rules
        self._temporary = temporary

    def process(self, element: tuple[int, str]) -> Iterator:
        number, path = element
        data = self._rules.data
        facts = no_facts()
        try:
            for place, batch in enumerate(read_batches(path, data)):
                behaviors = batch.table.column(batch.table.schema.get_field_index(features.BEHAVIOR))
                facts["rows"] += batch.table.num_rows + batch.bad.num_rows
                facts["clicks_are_logged"] |= data.click_behavior in behaviors.unique().to_pylist()
                if batch.bad.num_rows:
                    facts["bad_rows"] += batch.bad.num_rows
                    facts["first_bad"] = (facts["first_bad"] + _described(batch))[:_SHOWN_BAD_ROWS]
                    if data.bad_rows == "quarantine":
                        name = f"{self._temporary}/quarantine-{number:06d}-{place:06d}.arrow"
                        wire.write_whole(name, self._temporary, to_bytes(batch.bad))
                yield from by_shard(batch.table, data.user_shards)
        except EventLogError as e:
            facts["errors"].append(str(e))
        yield beam.pvalue.TaggedOutput(FACTS, facts)


class WriteShard(beam.DoFn):
    """(shard, its Arrow bytes) and the facts of the whole log -> one file per split, and a dictionary of counts.

    The step writes its files itself. TFX's own writer sends every example through a reshuffle with random keys, after
    which neither the order of the examples nor their files are the same twice; and one more shuffle of the examples,
    which are larger than the events, would cost more than everything before it.
    """

    def __init__(self, rules: MovelineRules, folder: str, temporary: str):
        self._rules = rules
        self._folder = folder
        self._temporary = temporary

    def process(self, element: tuple[int, Iterable[bytes]], facts: dict) -> Iterator[dict]:
        shard, pieces = element
        rules = self._rules
        if facts["errors"] or rules.data.stops_at(facts["bad_rows"], facts["rows"]):
            return
        events = pa.concat_tables(map(from_bytes, pieces))
        plan = make_plan(events, rules, facts["clicks_are_logged"])
        for split in rules.split_names:
            wire.write_tfrecord(
                example_file(self._folder, split, shard, rules.data.user_shards), self._temporary, encoded(plan, split)
            )
        yield {"log": plan.counts, "splits": {split: plan.split_counts(split) for split in rules.split_names}}


def encoded(plan: Plan, split: str) -> Iterator[bytes]:
    """The serialized examples of a split, a bounded number at a time."""
    requests = plan.requests_of(split)
    for start in range(0, len(requests), _REQUESTS_AT_ONCE):
        yield from wire.encode(plan.batch(requests[start : start + _REQUESTS_AT_ONCE]))


def by_shard(table: pa.RecordBatch, shards: int) -> Iterator[tuple[int, bytes]]:
    """Cuts a batch by a hash of the user that is the same in every process, on every machine and in every version."""
    users = table.column(table.schema.get_field_index(features.USER_ID))
    shard = (hash_column(users) % np.uint64(shards)).astype(np.int64)
    order = np.argsort(shard, kind="stable")
    ordered = table.take(pa.array(order))
    bounds = np.searchsorted(shard[order], np.arange(shards + 1))
    for number, (start, stop) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
        if stop > start:
            yield number, to_bytes(ordered.slice(start, stop - start))


def to_bytes(rows: pa.RecordBatch | pa.Table) -> bytes:
    """Arrow's stream format, compressed: what is shuffled is kept in memory or crosses a network."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write(rows)
    return sink.getvalue().to_pybytes()


def from_bytes(content: bytes) -> pa.Table:
    """Inverse of `to_bytes`, as a table."""
    return pa.ipc.open_stream(content).read_all()


def quarantined(temporary: str) -> Iterator[pa.Table]:
    """The bad rows put aside by `ReadFile`, in the order of the files and of their rows."""
    for name in sorted(fileio.glob(f"{temporary}/quarantine-*.arrow")):
        with fileio.open(name, "rb") as file:
            yield from_bytes(file.read())


def example_file(folder: str, split: str, shard: int, shards: int) -> str:
    """TFX's names, so that every reader of `Split-<name>/*` finds them."""
    return os.path.join(folder, f"Split-{split}", f"data_tfrecord-{shard:05d}-of-{shards:05d}.gz")


def no_facts() -> dict:
    """What is known of a log of which nothing was read."""
    return {"rows": 0, "bad_rows": 0, "first_bad": [], "clicks_are_logged": False, "errors": []}


def merge_facts(parts: Iterable[dict]) -> dict:
    """Facts of several files as one; associative, and blind to the order."""
    merged = no_facts()
    for part in parts:
        merged["rows"] += part["rows"]
        merged["bad_rows"] += part["bad_rows"]
        merged["clicks_are_logged"] |= part["clicks_are_logged"]
        merged["first_bad"] += part["first_bad"]
        merged["errors"] += part["errors"]
    merged["first_bad"] = sorted(merged["first_bad"])[:_SHOWN_BAD_ROWS]
    merged["errors"] = sorted(merged["errors"])[:_SHOWN_BAD_ROWS]
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
