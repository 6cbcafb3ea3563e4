"""Units of work: together they are the file, row by row and number by number."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.event_log import units
from pipeline.event_log.errors import EventLogError
from pipeline.event_log.reader import read_batches
from pipeline.event_log.units import Unit, units_of
from tests.pipeline.event_log.remote import Shelf

T = 1_500_000_000


def write(path, rows=10, group=2, first_time=T):
    table = {
        "user_id": [f"u{n}" if n % 4 else "" for n in range(rows)],
        "timestamp": [first_time, *range(T + 1, T + rows)],
        "scene": ["feed"] * rows,
        "behavior": ["click"] * rows,
        "item_id": [f"i{n}" for n in range(rows)],
    }
    pq.write_table(pa.table(table), path, row_group_size=group)
    return str(path)


def test_row_groups_are_put_together_until_a_unit_is_full(tmp_path, monkeypatch):
    path = write(tmp_path / "a.parquet")
    assert units_of(path, "auto") == [Unit(path)]
    monkeypatch.setattr(units, "_UNIT_ROWS", 3)
    assert units_of(path, "auto") == [Unit(path, (0, 2)), Unit(path, (2, 4)), Unit(path, (4, 5))]
    monkeypatch.setattr(units, "_UNIT_ROWS", 10)
    assert units_of(path, "auto") == [Unit(path)]
    monkeypatch.setattr(units, "_UNIT_BYTES", 1)
    assert units_of(path, "auto") == [Unit(path, (group, group + 1)) for group in range(5)]
    assert units_of(write(tmp_path / "b.parquet", group=10), "auto") == [Unit(str(tmp_path / "b.parquet"))]


def test_a_remote_file_is_cut_as_a_local_one(tmp_path, monkeypatch):
    write(tmp_path / "a.parquet")
    monkeypatch.setattr(Shelf, "root", tmp_path, raising=False)
    monkeypatch.setattr(units, "_UNIT_ROWS", 6)
    path = "shelf://a.parquet"
    assert units_of(path, "auto") == [Unit(path, (0, 3)), Unit(path, (3, 5))]


def test_what_cannot_be_cut_is_one_unit(tmp_path, monkeypatch):
    monkeypatch.setattr(units, "_UNIT_ROWS", 1)
    monkeypatch.setattr(units, "_UNIT_BYTES", 1)
    for name, format in (("a.csv", "auto"), ("a.csv.gz", "auto"), ("a.tfrecord", "auto"), ("a.parquet", "csv")):
        assert units_of(name, format) == [Unit(name)]
    (tmp_path / "a.parquet").write_bytes(b"no Parquet")
    for path in (str(tmp_path / "a.parquet"), str(tmp_path / "absent.parquet"), "nowhere://a.parquet"):
        assert units_of(path, "auto") == [Unit(path)]
    empty = write(tmp_path / "empty.parquet", rows=1)
    pq.write_table(pq.read_table(empty).slice(0, 0), empty)
    assert units_of(empty, "auto") == [Unit(empty)]


@pytest.mark.parametrize("size", [1, 3, 5, 100])
def test_the_units_of_a_file_are_its_rows_under_their_numbers(size, tmp_path, monkeypatch, settings):
    path, data = write(tmp_path / "a.parquet", rows=23, group=2), settings()
    (whole,) = read_batches(path, data)
    monkeypatch.setattr(units, "_UNIT_ROWS", size)
    batches = [b for u in units_of(path, "auto") for b in read_batches(path, data, 3, u.row_groups)]
    assert pa.Table.from_batches([b.table for b in batches]) == pa.Table.from_batches([whole.table])
    assert pa.concat_tables([b.bad for b in batches]) == whole.bad
    assert whole.bad.column("row").to_pylist() == [1, 5, 9, 13, 17, 21]


def test_the_unit_of_time_is_judged_at_the_beginning_of_the_file(tmp_path, settings):
    path = write(tmp_path / "a.parquet")
    table = pq.read_table(path).to_pydict()
    # Milliseconds in the second row group: one row's fault.
    table["timestamp"][2:4] = [(T + n) * 1000 for n in (2, 3)]
    pq.write_table(pa.table(table), path, row_group_size=2)
    (batch,) = read_batches(path, settings(), row_groups=(1, 2))
    assert batch.bad.column("row").to_pylist() == [3, 4]
    table["timestamp"][:2] = [(T + n) * 1000 for n in (0, 1)]
    pq.write_table(pa.table(table), path, row_group_size=2)
    with pytest.raises(EventLogError, match="milliseconds"):
        next(read_batches(path, settings(), row_groups=(0, 1)))
