"""Units of work: what of a log one worker reads at a time.

In: a file. Out: the file whole, or, of a large Parquet file, some row groups each. No other format can be entered in
the middle: a line break of a CSV may stand in quotation marks, gzip is one stream, and TFRecords have no index.
"""

from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.event_log import storage
from pipeline.event_log.errors import EventLogError
from pipeline.event_log.files import format_of

# A unit ends with the row group that fills it: seconds of work, so that starting on it costs nothing beside it.
_UNIT_BYTES = 128 << 20
_UNIT_ROWS = 1 << 20


class Unit(NamedTuple):
    """Part of a log for one worker.

    Attributes:
      path: the file.
      row_groups: the first of them and the one after the last; None for the whole file.
    """

    path: str
    row_groups: tuple[int, int] | None = None


def units_of(path: str, format: str) -> list[Unit]:
    """The units of a file, in the order of their rows; one of it whole if it is small or is no Parquet.

    A file that cannot be read is one unit: whoever reads that says what is wrong.

    Args:
      path: of the file.
      format: `data.format`.
    """
    if format_of(path, format) != "parquet":
        return [Unit(path)]
    try:
        footer = pq.read_metadata(storage.for_arrow(path))
    except (OSError, EventLogError, pa.ArrowException):
        return [Unit(path)]
    ends, rows, size = [], 0, 0
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        rows, size = rows + group.num_rows, size + group.total_byte_size
        if rows >= _UNIT_ROWS or size >= _UNIT_BYTES:
            ends.append(number + 1)
            rows = size = 0
    if rows or not ends:
        ends.append(footer.num_row_groups)
    if len(ends) == 1:
        return [Unit(path)]
    return [Unit(path, groups) for groups in zip([0, *ends], ends, strict=False)]
