"""From files to users: rows are dealt to shards by a hash of their user, and shuffled as Arrow batches.

In: batches of canonical rows. Out: (shard, block) pairs for Beam to group, and again the rows of one shard. A block is
the rows themselves, or where they lie in a file: a runner that keeps what it shuffles in its own memory would need the
whole log's worth of it, one that is made for clusters shuffles better than files do.
"""

import functools
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.options.pipeline_options import DirectOptions, StandardOptions, WorkerOptions
from tfx.dsl.io import fileio

from amen_tf import features
from pipeline.event_log import storage
from pipeline.event_log.errors import EventLogError
from pipeline.event_log.files import format_of
from pipeline.event_log.hashing import hash_column
from pipeline.example_gen.heavy_users import newest_rows

# Runners of this machine, which keep in their own memory what is between two steps.
_LOCAL_RUNNERS = ("DirectRunner", "BundleBasedDirectRunner", "SwitchingDirectRunner", "FnApiRunner", "PrismRunner")
# Of a shard: some hundred bytes each while its examples are made.
_ROWS_OF_A_SHARD = 400_000
_FEWEST_SHARDS, _MOST_SHARDS, _SHARDS_OF_A_WORKER = 16, 4096, 4
# What a row takes in a file whose rows cannot be counted without reading it; rather too little, for more shards do no
# harm.
_BYTES_OF_A_ROW = {".csv": 60, ".csv.gz": 8, ".tfrecord": 200, ".gz": 20}


class Placed(NamedTuple):
    """A block of rows in a file: `size` bytes from `offset` on."""

    path: str
    offset: int
    size: int


Block = bytes | Placed


def keeps_shuffles_in_memory(options: beam.options.pipeline_options.PipelineOptions) -> bool:
    """Whether the runner of a pipeline holds in this process's memory what it shuffles."""
    return (options.view_as(StandardOptions).runner or "DirectRunner").split(".")[-1] in _LOCAL_RUNNERS


def workers_of(options: beam.options.pipeline_options.PipelineOptions) -> int:
    """How many workers a pipeline has, as far as its options say; at least 1."""
    workers, local = options.view_as(WorkerOptions), options.view_as(DirectOptions).direct_num_workers
    # Flink's and Spark's own option; Beam asks their job server for it, so that it is in no class of options here.
    known = options.get_all_options(drop_default=True).get("parallelism")
    # The direct runner takes 0 for all cores.
    counts = (os.cpu_count() if local == 0 else local, workers.num_workers, workers.max_num_workers, known)
    return max([1, *(int(count) for count in counts if count)])


def shards_for(files: Sequence[str], format: str, workers: int, more_rows: int = 0) -> int:
    """How many user shards a log is cut into: so many that one fits into a worker and that no worker waits long.

    Args:
      files: of the log.
      format: `data.format`.
      workers: of the runner.
      more_rows: that are shuffled besides.
    """
    rows = more_rows + sum(storage.each(functools.partial(_rows_of, format=format), files))
    wanted = max(math.ceil(rows / _ROWS_OF_A_SHARD), _SHARDS_OF_A_WORKER * workers)
    return min(max(wanted, _FEWEST_SHARDS), _MOST_SHARDS)


def _rows_of(path: str, format: str) -> float:
    """The rows of a file, estimated by its size where it does not say; 0 if it cannot be read, which is said later."""
    try:
        if format_of(path, format) == "parquet":
            return pq.read_metadata(storage.for_arrow(path)).num_rows
        size = storage.size(path)
    except (OSError, EventLogError, pa.ArrowException):
        return 0
    endings = [ending for ending in _BYTES_OF_A_ROW if path.lower().endswith(ending)]
    return size / min((_BYTES_OF_A_ROW[ending] for ending in endings), default=min(_BYTES_OF_A_ROW.values()))


class Spill:
    """Writes blocks of rows one after the other to one file and says where they lie. Use as a context manager.

    Args:
      path: of a file that is this call's alone.
    """

    def __init__(self, path: str):
        self._path = path
        self._offset = 0

    def __enter__(self) -> "Spill":
        self._file = fileio.open(self._path, "wb")
        return self

    def __exit__(self, *error) -> None:
        self._file.close()

    def write(self, block: bytes) -> Placed:
        """Adds a block. It can be read once the context has ended."""
        placed = Placed(self._path, self._offset, len(block))
        self._file.write(block)
        self._offset += len(block)
        return placed


def passed_on(blocks: Iterable[tuple[int, bytes]], path: str | None) -> Iterable[tuple[int, Block]]:
    """(shard, rows) pairs as they go to the runner: themselves, or, with the path of a file, where they lie in it."""
    if path is None:
        return blocks
    with Spill(path) as spill:
        return [(shard, spill.write(block)) for shard, block in blocks]


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


def gather(blocks: Iterable[Block], most_rows_of_a_user: int) -> tuple[pa.Table, int]:
    """The rows of a shard, of every user the newest so many, and how many were left out.

    Users are cut while blocks still come in, so that one of them alone never fills a worker's memory.
    """
    tables: list[pa.Table] = []
    rows = left_out = 0
    bound = 4 * most_rows_of_a_user
    for block in blocks:
        tables.append(read_block(block))
        rows += tables[-1].num_rows
        if rows > bound:
            kept, more = newest_rows(pa.concat_tables(tables), most_rows_of_a_user)
            tables, rows, left_out = [kept], kept.num_rows, left_out + more
            bound = max(bound, 2 * rows)
    kept, more = newest_rows(pa.concat_tables(tables), most_rows_of_a_user)
    return kept, left_out + more


def read_block(block: Block) -> pa.Table:
    """The rows of a block, wherever they lie."""
    if isinstance(block, bytes):
        return from_bytes(block)
    path, offset, size = block
    with fileio.open(path, "rb") as file:
        file.seek(offset)
        return from_bytes(file.read(size))


def to_bytes(rows: pa.RecordBatch | pa.Table) -> bytes:
    """Arrow's stream format, compressed: what is shuffled crosses a network or goes through a disk."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write(rows)
    return sink.getvalue().to_pybytes()


def from_bytes(content: bytes) -> pa.Table:
    """Inverse of `to_bytes`, as a table."""
    return pa.ipc.open_stream(content).read_all()
