"""TFRecords of tf.Examples: the same rows as a CSV of them, and what is wrong with others."""

import gzip
import json

import pytest

from pipeline.event_log import tfrecords
from pipeline.event_log.errors import EventLogError
from pipeline.event_log.reader import read_batches
from tests.pipeline.records import example, write_tfrecord

T = 1_500_000_000
PRICE = ({"name": "price", "owner": "item", "kind": "numeric"},)
SHOWN = {"user_id": "u1", "timestamp": T, "scene": "feed", "behavior": "impression", "item_id": "i1", "label": 1}
SEARCH = {"user_id": "u2", "timestamp": T + 2, "scene": "search", "behavior": "search", "item_id": []}


@pytest.fixture
def write_records(tmp_path):
    """`write_records(name, *records)`: a TFRecord file, gzipped where the name says so."""

    def _write(name, *records):
        write_tfrecord(tmp_path / name, records)
        return str(tmp_path / name)

    return _write


def read(path, data, **keys):
    batches = list(read_batches(path, data, **keys))
    return (
        [row for b in batches for row in b.table.to_pylist()],
        [(row["row"], row["column"], row["reason"], row["raw"]) for b in batches for row in b.bad.to_pylist()],
    )


@pytest.mark.parametrize("name", ["a.tfrecord", "a.tfrecord.gz"])
@pytest.mark.parametrize("at_once", [1, 2, 100])
@pytest.mark.parametrize("batch_rows", [1, 2, 100])
def test_the_same_rows_as_a_csv(name, batch_rows, at_once, write, write_records, settings, monkeypatch):
    monkeypatch.setattr(tfrecords, "_RECORDS_AT_ONCE", at_once)
    data = settings(features=PRICE)
    table = write(
        "a.csv",
        f"u1,{T},feed,impression,i1,,1,r1,2.5",
        f"u2,{T + 2},search,search,,,,,",
        f"7,{T + 3},feed,visit,i2,c1,,,",
        header="user_id,timestamp,scene,behavior,item_id,category_id,label,request_id,price",
    )
    # Category and label are in some events alone; the ids of the third are of another kind, and so in another batch.
    records = [example(**SHOWN, request_id="r1", price=2.5), example(**SEARCH)]
    third = {"timestamp": T + 3, "scene": "feed", "behavior": "visit", "item_id": "i2", "category_id": "c1"}
    path = write_records(name, *records, example(user_id="7", **third))
    found, bad = read(path, data, batch_rows=batch_rows)
    assert repr(found) == repr(read(table, data)[0]) and not bad


def test_a_name_that_says_nothing(write_records, settings):
    path = write_records("data_tfrecord-00000-of-00001.gz", example(**SHOWN))
    assert len(read(path, settings(format="tfrecord"))[0]) == 1
    with pytest.raises(EventLogError, match="cannot tell the format"):
        read(path, settings())


def test_other_names_and_whole_numbers_as_ids(write_records, settings, monkeypatch):
    monkeypatch.setattr(tfrecords, "_RECORDS_AT_ONCE", 1)
    names = {"user_id": "uid", "category_id": "cat"}
    first = {**SHOWN, "uid": 12345678901, "other": [1, 2]}
    del first["user_id"]
    # The renamed optional column comes with the second event only.
    path = write_records("a.tfrecord", example(**first), example(**first, cat=5))
    found, bad = read(path, settings(columns=names))
    assert [row["user_id"] for row in found] == ["12345678901"] * 2 and not bad
    assert [row["category_id"] for row in found] == ["", "5"]


def test_a_file_without_events(write_records, settings):
    assert read(write_records("a.tfrecord"), settings(features=PRICE)) == ([], [])


def test_records_are_decoded_once(write_records, settings, monkeypatch):
    seen, decode = [], tfrecords._decode
    monkeypatch.setattr(tfrecords, "_RECORDS_AT_ONCE", 2)
    monkeypatch.setattr(tfrecords, "_decode", lambda records, *rest: seen.extend(records) or decode(records, *rest))
    records = [example(**{**SHOWN, "user_id": f"u{n}"}) for n in range(5)]
    assert len(read(write_records("a.tfrecord", *records), settings())[0]) == 5
    assert seen == records


@pytest.mark.parametrize("batch_rows", [1, 2, 3, 4, 100])
def test_bad_records_are_named(batch_rows, write_records, settings):
    no_text = example(**{**SHOWN, "scene": b"\xff\xfe"})
    several = example(**{**SHOWN, "item_id": ["i1", "i2"]})
    records = [
        example(**SHOWN),
        b"\xff\xffgarbage",
        several,
        example(**SHOWN),
        no_text,
        example(**{**SHOWN, "label": 2}),
    ]
    found, bad = read(write_records("a.tfrecord", *records), settings(), batch_rows=batch_rows)
    assert len(found) == 2
    assert [(row, column) for row, column, _, _ in bad] == [(2, ""), (3, "item_id"), (5, "scene"), (6, "label")]
    reasons = [reason for _, _, reason, _ in bad]
    assert reasons[:3] == ["not a tf.Example", "several values where one belongs", "text that is not UTF-8"]
    assert bad[0][3] == b"\xff\xffgarbage".hex() and json.loads(bad[1][3])["item_id"] == ["i1", "i2"]


def test_a_required_column_that_no_event_has(write_records, settings):
    without = {name: value for name, value in SHOWN.items() if name != "scene"}
    with pytest.raises(EventLogError, match="no column for the event log column `scene`"):
        read(write_records("a.tfrecord", example(**without)), settings())
    with pytest.raises(EventLogError, match="no column for the declared feature `price`"):
        read(write_records("a.tfrecord", example(**SHOWN)), settings(features=PRICE))


def test_a_feature_of_two_kinds(write_records, settings):
    path = write_records("a.tfrecord", example(**SHOWN), example(**{**SHOWN, "user_id": 5}))
    with pytest.raises(EventLogError, match=r"rows 1 to 2: .*user_id.*one kind"):
        read(path, settings())


@pytest.mark.parametrize("name", ["a.tfrecord", "a.tfrecord.gz"])
def test_a_damaged_file(name, write_records, settings):
    path = write_records(name, *[example(**SHOWN)] * 50)
    with open(path, "rb") as file:
        content = file.read()
    with open(path, "wb") as file:
        file.write(content[: len(content) // 2 + 3])
    with pytest.raises(EventLogError, match=r"cannot read past row \d+ .*whole TFRecord"):
        read(path, settings(), batch_rows=5)


def test_a_file_of_another_format(tmp_path, settings):
    with gzip.open(tmp_path / "a.tfrecord.gz", "wb") as file:
        file.write(b"user_id,timestamp\nu,5\n")
    with pytest.raises(EventLogError, match="cannot read past row 0"):
        read(str(tmp_path / "a.tfrecord.gz"), settings())
