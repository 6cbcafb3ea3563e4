"""Reading a dataset's own files as strict text tables, and the errors when they are not what they should be.

In: CSV or Parquet files with known columns. Out: batches of string columns without nulls. Unlike the event log, a
published file has one right form: the first row that breaks it stops the conversion.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.event_log import sources
from pipeline.event_log.columns import number, text
from pipeline.event_log.errors import EventLogError
from pipeline.event_log.files import format_of


def read_tables(path: str, wanted: tuple[str, ...], dataset: str, batch_rows: int) -> Iterator[tuple[pa.Table, int]]:
    """Batches of a CSV or Parquet file.

    Args:
      path: the file.
      wanted: columns that it must have.
      dataset: named in errors.
      batch_rows: at most this many rows a batch.

    Yields:
      The wanted columns as strings ("" where missing), and the number of the first row (1 = first data row).

    Raises:
      EventLogError: a column is missing or a row has the wrong number of fields.
    """
    opened = sources.open_csv(path) if format_of(path) == "csv" else sources.open_parquet(path)
    absent = [name for name in wanted if name not in opened.columns]
    if absent:
        raise EventLogError(
            f"{path}: no column {', '.join(absent)}. A {dataset} file has the columns {', '.join(wanted)}; this one "
            f"has {', '.join(opened.columns)}. Give the file as it was published."
        )
    for part in opened.parts(list(wanted), batch_rows):
        for row, _, reason, raw in part.malformed[:1]:
            raise EventLogError(f"{path}, row {row}: {reason}; got {raw[:200]}. Give the file as it was published.")
        if part.rows.num_rows:
            columns = [text(part.rows.column(part.rows.schema.get_field_index(name)))[0] for name in wanted]
            yield pa.table(dict(zip(wanted, columns, strict=True))), int(part.numbers[0])


def integers(table: pa.Table, name: str, path: str, first_row: int) -> np.ndarray:
    """A column of whole numbers: int64 `[n]`."""
    values = numbers(table, name, path, first_row)
    _stop(np.floor(values) != values, table, name, "a whole number", path, first_row)
    return values.astype(np.int64)


def numbers(table: pa.Table, name: str, path: str, first_row: int) -> np.ndarray:
    """A column of numbers, none missing: float64 `[n]`."""
    values, missing, broken = number(table[name].combine_chunks())
    _stop(missing | broken, table, name, "a number", path, first_row)
    return values


def filled(table: pa.Table, name: str, path: str, first_row: int) -> pa.Array:
    """A column of texts, none empty: string `[n]`."""
    values = table[name].combine_chunks()
    _stop(pc.equal(values, "").to_numpy(zero_copy_only=False), table, name, "a value", path, first_row)
    return values


def _stop(wrong: np.ndarray, table: pa.Table, name: str, expected: str, path: str, first_row: int) -> None:
    if wrong.any():
        at = int(wrong.argmax())
        raise EventLogError(
            f"{path}, row {first_row + at}, column `{name}`: expected {expected}, got {table[name][at].as_py()!r}. "
            "Give the file as it was published."
        )
