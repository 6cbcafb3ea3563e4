"""Record batches -> serialized tf.Examples, the same bytes for the same rows on every run.

In: record batches of list columns. Out: bytes, and TFRecord files written whole or not at all.
"""

import uuid
from collections.abc import Iterable, Iterator

import pyarrow as pa
import tensorflow as tf
from tfx.dsl.io import fileio
from tfx_bsl.coders import example_coder

# Level 1 is about four times as fast as zlib's default and costs a fifth more disk.
_OPTIONS = tf.io.TFRecordOptions(compression_type="GZIP", compression_level=1)


def encode(batch: pa.RecordBatch) -> Iterator[bytes]:
    """One serialized tf.Example a row, features in a fixed order.

    tfx_bsl writes the features, a protobuf map, in an order that changes from message to message. Readers do not
    care, but files could not be compared byte by byte.
    """
    return map(canonical, example_coder.RecordBatchToExamplesEncoder().encode(batch))


def canonical(example: bytes) -> bytes:
    """The same tf.Example with the entries of its feature map sorted by their bytes.

    On the wire an Example is one field `features`, and that a run of map entries, each tag, length, content: sorting
    slices is several times as fast as parsing into a message and serializing that.
    """
    if not example:
        return example
    _, position = _varint(example, 1)
    head, entries = example[:position], []
    while position < len(example):
        size, content = _varint(example, position + 1)
        entries.append(example[position : content + size])
        position = content + size
    return head + b"".join(sorted(entries))


def _varint(buffer: bytes, position: int) -> tuple[int, int]:
    """The number at `position` and the position after it."""
    value = shift = 0
    while True:
        byte = buffer[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7


def write_tfrecord(path: str, temporary: str, examples: Iterable[bytes]) -> None:
    """Writes a gzipped TFRecord file; it appears under `path` only when it is complete.

    Args:
      path: final name. A file of that name is replaced, so a repeated attempt leaves one file.
      temporary: an existing folder on the same file system.
      examples: serialized tf.Examples.
    """
    unfinished = f"{temporary}/{uuid.uuid4().hex}"
    with tf.io.TFRecordWriter(unfinished, _OPTIONS) as writer:
        for example in examples:
            writer.write(example)
    fileio.rename(unfinished, path, overwrite=True)


def write_whole(path: str, temporary: str, content: bytes) -> None:
    """Like `write_tfrecord`, for a file of any kind."""
    unfinished = f"{temporary}/{uuid.uuid4().hex}"
    with fileio.open(unfinished, "wb") as file:
        file.write(content)
    fileio.rename(unfinished, path, overwrite=True)
