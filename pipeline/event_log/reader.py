"""Reading an event log: one file in, batches of canonical rows and of bad rows out, in bounded memory.

In: a CSV, Parquet or TFRecord file with one event per row and the run's `DataSettings`. Out: an iterator of
`Batch`. A row is either in `table` (canonical, obeys every rule) or in `bad` (with file, row and reason), never in
neither.
"""

import dataclasses
import json
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from amen_tf.config import DataSettings
from pipeline.event_log import columns, rules, schema, sources, tfrecords
from pipeline.event_log.errors import EventLogError, bad_rows_advice
from pipeline.event_log.files import format_of

BATCH_ROWS = 131_072
_OPENERS = {"csv": sources.open_csv, "tfrecord": tfrecords.open_tfrecord}


@dataclasses.dataclass(frozen=True)
class Batch:
    """Some rows of one file.

    Attributes:
      table: the good rows, in file order, with `canonical_schema(data)`.
      bad: the bad rows, in file order: `file` string, `row` int64 (1 = the first data row; blank lines of a CSV are
        not counted), `column` string (the file's name for it, "" when the whole row is at fault), `reason` string,
        `raw` string (the columns read as JSON, the text of a CSV row that has the wrong number of fields, or the first
        bytes, in hexadecimal digits, of a record that is no tf.Example).
      file: where the rows come from.
    """

    table: pa.RecordBatch
    bad: pa.Table
    file: str


def read_batches(
    path: str, data: DataSettings, batch_rows: int = BATCH_ROWS, row_groups: tuple[int, int] | None = None
) -> Iterator[Batch]:
    """Reads one file of an event log.

    Args:
      path: a file as given by `list_files`.
      data: format, column names, time unit, behaviours and declared features.
      batch_rows: at most this many rows a batch.
      row_groups: of a Parquet file those to read, see `units.Unit`; the batches of all units of a file are its rows.

    Yields:
      Batches in file order. A file without rows yields one empty batch.

    Raises:
      EventLogError: the file cannot be read, lacks a column, has a column of a nested type, or its times are in
        another unit than `data.time_unit` says. Single bad rows do not raise, see `require_good`.
    """
    kind = format_of(path, data.format)
    opened = sources.open_parquet(path, row_groups) if kind == "parquet" else _OPENERS[kind](path)
    present = opened.columns
    if opened.open_ended:
        # Later rows may have what the first do not; of a file without rows nothing is asked.
        more = schema.OPTIONAL if present else schema.canonical_schema(data).names
        present = list(dict.fromkeys([*present, *(data.columns.get(name, name) for name in more)]))
    found = schema.source_columns(data, present, path)
    target = schema.canonical_schema(data)
    wanted = [name for name in present if name in found.values()]
    # A wrong unit shows in the first batch; later on, an odd time is one row's fault and no reason to stop.
    judge_unit = row_groups is None or row_groups[0] == 0
    empty = True
    for part in opened.parts(wanted, batch_rows):
        yield _to_batch(part, found, target, data, path, judge_unit)
        judge_unit = empty = False
    if empty:
        yield Batch(
            pa.RecordBatch.from_arrays([pa.array([], field.type) for field in target], schema=target),
            schema.BAD_SCHEMA.empty_table(),
            path,
        )


def require_good(batch: Batch, data: DataSettings, examples: int = 5) -> None:
    """Raises on the first bad rows when `data.bad_rows` is `stop`; does nothing under `quarantine`."""
    if data.bad_rows != "stop" or not batch.bad.num_rows:
        return
    first = batch.bad.slice(0, examples).to_pylist()
    lines = "\n".join(f"  {describe(row)}" for row in first)
    more = batch.bad.num_rows - len(first)
    rest = f"\n  and {more} more nearby" if more > 0 else ""
    advice = bad_rows_advice(batch.bad.num_rows, batch.bad.num_rows + batch.table.num_rows, data)
    raise EventLogError(f"The event log has rows that break its rules:\n{lines}{rest}\n{advice}")


def describe(row: dict, width: int = 200) -> str:
    """One bad row in words: file, row, column, reason and what was there."""
    column = f", column `{row['column']}`" if row["column"] else ""
    raw = row["raw"] if len(row["raw"]) <= width else row["raw"][: width - 3] + "..."
    return f"{row['file']}, row {row['row']}{column}: {row['reason']}; got {raw}"


def _to_batch(
    part: sources.Part, found: dict[str, str], target: pa.Schema, data: DataSettings, path: str, judge_unit: bool
) -> Batch:
    rows = part.rows
    raw = {name: rows.column(rows.schema.get_field_index(source)) for name, source in found.items()}
    several = {f.name for f in data.log_features if f.kind == "multi_valued"}
    for name, values in raw.items():
        columns.refuse_nested(values, found[name], path, name in several)
    made, faults = rules.apply(raw, rows.num_rows, data, path, judge_unit)
    first = rules.first_fault(faults, rows.num_rows)
    table = pa.RecordBatch.from_arrays([made[field.name] for field in target], schema=target)
    broken = np.flatnonzero(first >= 0)
    bad = list(part.malformed)
    if len(broken):
        table = table.filter(pa.array(first < 0))
        texts = rows.take(pa.array(broken)).to_pylist()
        for index, content in zip(broken.tolist(), texts, strict=True):
            fault = faults[first[index]]
            bad.append((int(part.numbers[index]), found[fault.column], fault.reason, _raw(content)))
        bad.sort(key=lambda row: row[0])
    return Batch(table, _bad_table(path, bad), path)


def _raw(content: dict) -> str:
    return json.dumps(content, ensure_ascii=False, default=str)


def _bad_table(path: str, bad: list[tuple[int, str, str, str]]) -> pa.Table:
    if not bad:
        return schema.BAD_SCHEMA.empty_table()
    rows, names, reasons, raws = zip(*bad, strict=True)
    return pa.Table.from_arrays(
        [
            pa.array(values, field.type)
            for values, field in zip(([path] * len(bad), rows, names, reasons, raws), schema.BAD_SCHEMA, strict=True)
        ],
        schema=schema.BAD_SCHEMA,
    )
