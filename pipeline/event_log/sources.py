"""CSV and Parquet, each as a stream of Arrow batches that know their row numbers. TFRecords are read by `tfrecords`.

In: one file. Out: its column names, and `Part`s: rows as the file gave them (text for CSV), their numbers, and the
rows that could not be cut into single values.
"""

import csv
import dataclasses
import gzip
import io
import itertools
from collections.abc import Callable, Iterator
from typing import BinaryIO, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from pipeline.event_log import rules, storage
from pipeline.event_log.errors import EventLogError, short

# A CSV row must fit into one block; Arrow reads a few blocks ahead.
_BLOCK_BYTES = 8 << 20


@dataclasses.dataclass(frozen=True)
class Part:
    """Consecutive rows of a file.

    Attributes:
      rows: the wanted columns under the file's names.
      numbers: int64 `[rows]`, 1 = the first data row of the file.
      malformed: (number, column or "", reason, text) of rows that are none: a CSV row with a wrong number of fields, a
        record that is no tf.Example.
    """

    rows: pa.RecordBatch
    numbers: np.ndarray
    malformed: tuple[tuple[int, str, str, str], ...] = ()


@dataclasses.dataclass(frozen=True)
class Source:
    """An opened file: its column names and `parts(wanted columns, rows per part)`, to be called once.

    `open_ended`: rows may have columns that are not among them, and need not have those that are.
    """

    columns: list[str]
    parts: Callable[[list[str], int], Iterator[Part]]
    open_ended: bool = False


def open_parquet(path: str, row_groups: tuple[int, int] | None = None) -> Source:
    """A Parquet file, or of its row groups those from the first to before the second; read one at a time.

    Numbers of rows are those of the whole file.
    """
    try:
        file = pa.parquet.ParquetFile(storage.for_arrow(path))
    except (pa.ArrowException, OSError) as e:
        raise EventLogError(f"{path}: not a readable Parquet file ({short(e)}). Check data.log and data.format.") from e

    def parts(wanted: list[str], batch_rows: int) -> Iterator[Part]:
        first, end = row_groups or (0, file.num_row_groups)
        start = 1 + sum(file.metadata.row_group(group).num_rows for group in range(first))
        try:
            for rows in file.iter_batches(batch_rows, row_groups=range(first, end), columns=wanted):
                yield Part(rows, np.arange(start, start + rows.num_rows))
                start += rows.num_rows
        except (pa.ArrowException, OSError) as e:
            raise EventLogError(
                f"{path}: cannot read past row {start - 1} ({short(e)}). The file seems damaged: write it anew."
            ) from e

    return Source(list(file.schema_arrow.names), parts)


def open_csv(path: str) -> Source:
    """A comma-separated file with a header, quoted as RFC 4180 says, UTF-8, plain or gzipped."""
    header, has_rows = _csv_header(path)

    def parts(wanted: list[str], batch_rows: int) -> Iterator[Part]:
        if has_rows:
            yield from _csv_parts(path, wanted, batch_rows)

    return Source(header, parts)


def _csv_header(path: str) -> tuple[list[str], bool]:
    try:
        with storage.open_file(path) as stored, _text(stored, path.lower().endswith(".gz")) as file:
            lines = csv.reader(file)
            # Arrow skips blank lines, before the header too.
            header = next((line for line in lines if line), None)
            has_rows = any(line.strip() for line in file)
    except UnicodeDecodeError as e:
        raise EventLogError(f"{path}: not UTF-8 text ({e.reason}). Expected CSV in UTF-8: convert the file.") from e
    except (csv.Error, OSError, EOFError) as e:
        raise EventLogError(f"{path}: cannot be read as CSV ({short(e)}). Check data.log and data.format.") from e
    if header is None:
        raise EventLogError(
            f"{path}: the file is empty. Expected a header line with column names, then one event a row."
        )
    return header, has_rows


def _text(stored: BinaryIO, gzipped: bool) -> TextIO:
    content = gzip.GzipFile(fileobj=stored) if gzipped else stored
    return io.TextIOWrapper(content, encoding="utf-8-sig", newline="")


def _csv_parts(path: str, wanted: list[str], batch_rows: int) -> Iterator[Part]:
    malformed: list[tuple[int, str, str, str]] = []

    def keep(row) -> str:
        # Arrow counts the header as row 1.
        reason = f"{rules.WRONG_FIELDS}: expected {row.expected_columns} as in the header, got {row.actual_columns}"
        malformed.append((row.number - 1, "", reason, row.text))
        return "skip"

    start = 1
    try:
        reader = pa.csv.open_csv(
            storage.decompressed_for_arrow(path),
            # Row numbers of malformed rows are known to the single-threaded reader only.
            pa.csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
            pa.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=keep),
            pa.csv.ConvertOptions(
                column_types={name: pa.string() for name in wanted},
                include_columns=wanted,
                strings_can_be_null=False,
                quoted_strings_can_be_null=False,
            ),
        )
        for block in reader:
            for offset in range(0, block.num_rows, batch_rows):
                rows = block.slice(offset, batch_rows)
                numbers, passed = _numbers(start, rows.num_rows, [m[0] for m in malformed])
                yield Part(rows, numbers, tuple(malformed[:passed]))
                start = int(numbers[-1]) + 1
                del malformed[:passed]
    except pa.ArrowException as e:
        raise EventLogError(f"{path}: cannot read past row {start - 1}: {_csv_fault(e)}") from e
    except (OSError, EOFError) as e:
        raise EventLogError(f"{path}: cannot read past row {start - 1} ({short(e)}). Is the file complete?") from e
    if malformed:
        # Rows skipped at the very end have no batch to travel with.
        empty = pa.RecordBatch.from_arrays([pa.array([], pa.string())] * len(wanted), names=wanted)
        yield Part(empty, np.zeros(0, np.int64), tuple(malformed))


def _numbers(start: int, count: int, skipped: list[int]) -> tuple[np.ndarray, int]:
    """Numbers of the next `count` rows when the rows `skipped` (ascending) are left out, and how many were passed."""
    numbers = np.arange(start, start + count)
    passed = 0
    for number in itertools.takewhile(lambda s: s <= numbers[-1], skipped):
        numbers[number - start - passed :] += 1
        passed += 1
    return numbers, passed


def _csv_fault(error: Exception) -> str:
    text = str(error)
    if "straddling" in text:
        return (
            f"a row is longer than {_BLOCK_BYTES >> 20} MB, as happens when a quotation mark is opened and never "
            "closed. Close or double it."
        )
    if "UTF8" in text:
        return "text that is not UTF-8. Expected CSV in UTF-8: convert the file."
    return f"{short(error)}. Expected CSV with commas, a header and quotes as RFC 4180 has them."
