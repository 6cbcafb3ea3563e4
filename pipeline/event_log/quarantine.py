"""Putting bad rows aside where a person can look at them.

In: bad rows as the reader yields them. Out: a CSV file with file, row, column, reason, raw.
"""

import csv
import os
import pathlib
from collections.abc import Iterable

import pyarrow as pa

from pipeline.event_log import schema


def write_bad_rows(path: str, bad: pa.Table | Iterable[pa.Table]) -> int:
    """Writes bad rows as CSV, a header even when there are none; the file appears whole or not at all.

    Args:
      path: the file to write; its folder is made, an earlier file replaced.
      bad: one table or many with `BAD_SCHEMA`.

    Returns:
      The number of rows written.
    """
    tables = [bad] if isinstance(bad, pa.Table) else bad
    target = pathlib.Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(target.name + ".part")
    count = 0
    with open(unfinished, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(schema.BAD_SCHEMA.names)
        for table in tables:
            writer.writerows(zip(*(column.to_pylist() for column in table.columns), strict=True))
            count += table.num_rows
    os.replace(unfinished, target)
    return count
