"""Serialized examples: the same bytes every time, and files that appear whole."""

import os

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from tfx_bsl.coders import example_coder

from pipeline.example_gen import wire


def some_batch(rows=20):
    columns = {
        "text": [[f"{n}-{i}".encode() for i in range(n % 4)] for n in range(rows)],
        "number": [[n * 10**12, -n] for n in range(rows)],
        "real": [[0.5 * n, float("nan")][: n % 3] for n in range(rows)],
        # Longer than one byte of a varint can say, and than two bytes.
        "long": [[b"x" * (n * 2_000)] for n in range(rows)],
    }
    kinds = {"text": pa.binary(), "number": pa.int64(), "real": pa.float32(), "long": pa.binary()}
    return pa.RecordBatch.from_arrays([pa.array(v, pa.list_(kinds[k])) for k, v in columns.items()], list(columns))


def test_canonical_examples_say_what_tfx_bsl_wrote():
    batch = some_batch()
    plain = example_coder.RecordBatchToExamplesEncoder().encode(batch)
    assert [tf.train.Example.FromString(e).SerializeToString(deterministic=True) for e in wire.encode(batch)] == [
        tf.train.Example.FromString(e).SerializeToString(deterministic=True) for e in plain
    ]


def test_the_same_rows_give_the_same_bytes_whatever_surrounds_them():
    batch = some_batch()
    whole = list(wire.encode(batch))
    assert whole == list(wire.encode(batch))
    assert whole[7:11] == list(wire.encode(batch.slice(7, 4)))
    assert whole[::-1] == list(wire.encode(batch.take(pa.array(np.arange(20)[::-1]))))


def test_an_example_without_features():
    assert wire.canonical(b"") == b""


def read(path):
    return [r.numpy() for r in tf.data.TFRecordDataset(path, compression_type="GZIP")]


@pytest.mark.parametrize("records", [[], [b"one", b"two"]])
def test_files_read_back_and_replace_earlier_ones(tmp_path, records):
    path, temporary = f"{tmp_path}/file.gz", f"{tmp_path}/temporary"
    os.mkdir(temporary)
    wire.write_tfrecord(path, temporary, [b"earlier"])
    wire.write_tfrecord(path, temporary, records)
    assert read(path) == records
    assert os.listdir(temporary) == []


def test_a_file_that_fails_half_way_does_not_appear(tmp_path):
    def fails():
        yield b"one"
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        wire.write_tfrecord(f"{tmp_path}/file.gz", str(tmp_path), fails())
    assert not os.path.exists(f"{tmp_path}/file.gz")
