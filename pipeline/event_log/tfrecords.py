"""TFRecord files of tf.Examples, one event an Example, plain or gzipped.

In: one file. Out: what `sources` gives for the other formats. A module of its own because TensorFlow, which reads the
records, takes seconds to import.
"""

import itertools
import json
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.event_log import rules, storage
from pipeline.event_log.errors import EventLogError, short
from pipeline.event_log.sources import Part, Source

# The first so many also show which features the events have.
_RECORDS_AT_ONCE = 131_072
_GZIP = b"\x1f\x8b\x08"
# Length, its checksum and the content's, around every record.
_FRAME_BYTES = 16


def open_tfrecord(path: str) -> Source:
    """A TFRecord file; whether it is gzipped is read from its first bytes, for TFX's own files have any name.

    Its columns are the features of its first records: every Example says for itself which it has.
    """
    decoded = _decoded(path)
    first = next(decoded, None)
    batches = itertools.chain([] if first is None else [first], decoded)

    def parts(wanted: list[str], batch_rows: int) -> Iterator[Part]:
        for batch in batches:
            yield from _cut(_part(batch, wanted), batch_rows)

    return Source([] if first is None else sorted(first.lists.schema.names), parts, open_ended=True)


class _Decoded(NamedTuple):
    """Some records of a file.

    Attributes:
      start: number of the first record.
      records: bytes `[n]`.
      lists: a list column per feature, `[n - len(broken)]`.
      broken: places of records that are no tf.Example and are not in `lists`.
    """

    start: int
    records: np.ndarray
    lists: pa.RecordBatch
    broken: list[int]


def _decoded(path: str) -> Iterator[_Decoded]:
    for start, records in _read(path):
        yield _Decoded(start, records, *_decode(records, start, path))


def _read(path: str) -> Iterator[tuple[int, np.ndarray]]:
    """Number of the first record and the records `[n]` of each batch."""
    import tensorflow as tf

    start, seen = 1, 0
    try:
        with storage.local_copy(path) as local:
            with open(local, "rb") as file:
                gzipped = file.read(len(_GZIP)) == _GZIP
            records = tf.data.TFRecordDataset(local, "GZIP" if gzipped else "").batch(_RECORDS_AT_ONCE)
            for batch in records.as_numpy_iterator():
                yield start, batch
                start += len(batch)
                seen += sum(map(len, batch)) + _FRAME_BYTES * len(batch)
            # TensorFlow takes half a record at the end of a plain file for the end.
            if not gzipped and seen != storage.size(local):
                raise OSError("the file ends inside a record")
    except (tf.errors.OpError, OSError) as e:
        raise EventLogError(
            f"{path}: cannot read past row {start - 1} ({short(e)}). Expected a whole TFRecord file of tf.Examples, "
            "plain or gzipped; check data.log and data.format, or write the file anew."
        ) from e


def _decode(records: np.ndarray, start: int, path: str) -> tuple[pa.RecordBatch, list[int]]:
    """The records' features as list columns, and the places of records that are no tf.Example and are left out.

    Raises:
      EventLogError: a feature is of one kind here and of another there.
    """
    from tfx_bsl.coders import example_coder

    decoder = example_coder.ExamplesToRecordBatchDecoder()
    try:
        return decoder.DecodeBatch(list(records)), []
    except RuntimeError:
        good = np.array([_parses(decoder, record) for record in records])
    try:
        return decoder.DecodeBatch(list(records[good])), np.flatnonzero(~good).tolist()
    except RuntimeError as e:
        raise EventLogError(
            f"{path}, rows {start} to {start + len(records) - 1}: {short(e)}. Expected a feature to be of one kind in "
            "all events; write it as text or as number everywhere."
        ) from e


def _parses(decoder, record: bytes) -> bool:
    try:
        decoder.DecodeBatch([record])
    except RuntimeError:
        return False
    return True


def _part(batch: _Decoded, wanted: list[str]) -> Part:
    start, records, lists, broken = batch
    numbers = np.delete(np.arange(start, start + len(records)), broken)
    bad = [(start + place, "", rules.NOT_AN_EXAMPLE, records[place][:100].hex()) for place in broken]
    columns, refused = [], np.zeros(len(numbers), bool)
    for name in wanted:
        values, several = _single(lists, name)
        values, no_text = _as_text(values)
        columns.append(values)
        for reason, rows in ((rules.SEVERAL_VALUES, several), (rules.NOT_UTF8, no_text)):
            bad += [(int(numbers[i]), name, reason, _shown(lists, i)) for i in np.flatnonzero(rows & ~refused)]
            refused |= rows
    rows = pa.RecordBatch.from_arrays(columns, names=wanted).filter(pa.array(~refused))
    return Part(rows, numbers[~refused], tuple(sorted(bad)))


def _cut(part: Part, batch_rows: int) -> Iterator[Part]:
    """The same rows in parts of at most so many, what is malformed in its place among them."""
    count, malformed = part.rows.num_rows, part.malformed
    for offset in range(0, max(count, 1), batch_rows):
        numbers = part.numbers[offset : offset + batch_rows]
        later = () if offset + batch_rows >= count else tuple(bad for bad in malformed if bad[0] > numbers[-1])
        yield Part(part.rows.slice(offset, batch_rows), numbers, malformed[: len(malformed) - len(later)])
        malformed = later


def _single(lists: pa.RecordBatch, name: str) -> tuple[pa.Array, np.ndarray]:
    """A feature's first value, null where it has none; and where it has several."""
    place = lists.schema.get_field_index(name)
    if place < 0 or pa.types.is_null(lists.column(place).type):
        return pa.nulls(lists.num_rows), np.zeros(lists.num_rows, bool)
    column = lists.column(place)
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    first = pa.array(np.cumsum(lengths) - lengths, mask=lengths == 0)
    return column.flatten().take(first), lengths > 1


def _as_text(values: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Bytes as text, other kinds as they are; and where bytes are no UTF-8."""
    broken = np.zeros(len(values), bool)
    if not (pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type)):
        return values, broken
    try:
        return values.cast(pa.string()), broken
    except pa.ArrowInvalid:
        broken = np.array([not _is_utf8(value) for value in values.to_pylist()])
        return pc.if_else(pa.array(broken), None, values).cast(pa.string()), broken


def _is_utf8(value: bytes | None) -> bool:
    try:
        return value is None or value.decode() is not None
    except UnicodeDecodeError:
        return False


def _shown(lists: pa.RecordBatch, row: int) -> str:
    (content,) = lists.slice(row, 1).to_pylist()
    return json.dumps(content, ensure_ascii=False, default=lambda value: value.decode(errors="replace"))
