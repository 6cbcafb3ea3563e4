"""Every way in which an event log can be wrong, with the message that a person gets."""

import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.event_log.check import check_log, require_trainable, require_whole
from pipeline.event_log.errors import EventLogError
from pipeline.event_log.reader import read_batches

T = 1_500_000_000
PRICE = [{"name": "price", "owner": "candidate", "kind": "numeric"}]
BRAND = [{"name": "brand", "owner": "item", "kind": "categorical"}]


def bad_rows(path, data):
    return [row for batch in read_batches(path, data) for row in batch.bad.to_pylist()]


@pytest.mark.parametrize(
    ("row", "column", "reason"),
    [
        (f",{T},feed,impression,i,c,1,r", "user_id", "no user"),
        ("u,,feed,impression,i,c,1,r", "timestamp", "no time"),
        ("u,2017-07-14,feed,impression,i,c,1,r", "timestamp", "time is not a number of unix seconds"),
        ("u,inf,feed,impression,i,c,1,r", "timestamp", "time is not a number of unix seconds"),
        ("u,17,feed,impression,i,c,1,r", "timestamp", "time lies outside the years 1990 to 2100 as unix seconds"),
        ("u,-5,feed,impression,i,c,1,r", "timestamp", "time lies outside the years 1990 to 2100 as unix seconds"),
        (f"u,{T},,impression,i,c,1,r", "scene", "no scene"),
        (f"u,{T},feed,,i,c,,r", "behavior", "no behavior"),
        (f"u,{T},feed,impression,,c,1,r", "item_id", "impression without an item"),
        (f"u,{T},feed,impression,i,c,,r", "label", "impression without a label"),
        (f"u,{T},feed,impression,i,c,2,r", "label", "label of an impression is not 0 or 1"),
        (f"u,{T},feed,impression,i,c,0.5,r", "label", "label of an impression is not 0 or 1"),
        (f"u,{T},feed,impression,i,c,yes,r", "label", "label of an impression is not 0 or 1"),
        (f"u,{T},feed,click,i,c,1,r", "label", "label outside impression rows, where it must be empty"),
        (f"u,{T},feed,click,i,c,maybe,r", "label", "label outside impression rows, where it must be empty"),
    ],
)
def test_bad_row(row, column, reason, write, settings):
    (bad,) = bad_rows(write("a.csv", f"u,{T},feed,impression,i,c,1,r", row), settings())
    assert (bad["row"], bad["column"], bad["reason"]) == (2, column, reason)


@pytest.mark.parametrize("price", ["dear", "1,5", "1e99", "inf", "0x10", "--1"])
def test_numeric_feature_that_is_no_number(price, write, settings):
    header = "user_id,timestamp,scene,behavior,item_id,price"
    (bad,) = bad_rows(write("a.csv", f'u,{T},s,visit,i,"{price}"', header=header), settings(features=PRICE))
    assert (bad["column"], bad["reason"]) == ("price", "numeric feature is not a finite number")


def test_fraction_as_id(tmp_path, settings):
    rows = {"user_id": ["u"] * 3, "timestamp": [T] * 3, "scene": ["s"] * 3, "behavior": ["visit"] * 3}
    pq.write_table(pa.table({**rows, "item_id": [1.0, 1.5, 2.0**60]}), tmp_path / "a.parquet")
    bad = bad_rows(str(tmp_path / "a.parquet"), settings())
    assert [(b["row"], b["column"], b["reason"]) for b in bad] == [
        (row, "item_id", "fraction or inexact number where an id or category belongs") for row in (2, 3)
    ]


def test_column_is_named_as_the_file_names_it(write, settings):
    path = write("a.csv", f",{T},s,visit,i", header="uid,timestamp,scene,behavior,item_id")
    (bad,) = bad_rows(path, settings(columns={"user_id": "uid"}))
    assert bad["column"] == "uid" and '"uid": ""' in bad["raw"]


def first_error(path, data):
    with pytest.raises(EventLogError) as error:
        list(read_batches(path, data))
    return str(error.value)


def test_missing_column_names_the_nearest(write, settings):
    message = first_error(write("a.csv", header="userid,timestamp,scene,behavior,item_id"), settings())
    for part in ("a.csv", "`user_id`", "userid, timestamp, scene", "nearest name is `userid`", "{user_id: userid}"):
        assert part in message


def test_missing_declared_feature(write, settings):
    message = first_error(write("a.csv"), settings(features=BRAND))
    assert "declared feature `brand`" in message and "data.features" in message


def test_missing_renamed_column(write, settings):
    message = first_error(write("a.csv"), settings(columns={"request_id": "rid"}))
    assert "`request_id` (read from `rid` as data.columns says)" in message


def test_rename_of_an_unknown_column(write, settings):
    assert "Did you mean `user_id`?" in first_error(write("a.csv"), settings(columns={"userid": "uid"}))


def test_repeated_column(write, settings):
    header = "user_id,user_id,timestamp,scene,behavior,item_id"
    assert "names user_id more than once" in first_error(write("a.csv", header=header), settings())


def test_impressions_without_a_label_column(write, settings):
    path = write("a.csv", f"u,{T},s,impression,i", header="user_id,timestamp,scene,behavior,item_id")
    message = first_error(path, settings())
    assert "impression rows but no column" in message and "data.columns: {label: its name in the file}" in message


@pytest.mark.parametrize(("separator", "name"), [(";", "semicolons"), ("\t", "tabs")])
def test_other_separators(separator, name, write, settings):
    header = "user_id,timestamp,scene,behavior,item_id".replace(",", separator)
    assert f"separated by {name}; expected commas" in first_error(write("a.csv", header=header), settings())


@pytest.mark.parametrize(
    ("time", "unit", "message"),
    [
        (T * 1000, "seconds", "look like milliseconds .*Set data.time_unit to milliseconds"),
        (T, "milliseconds", "look like seconds .*Set data.time_unit to seconds"),
        (T * 10**6, "seconds", "look like microseconds .*Only seconds and milliseconds are read"),
        (T * 10**9, "milliseconds", "look like nanoseconds .*convert the column"),
    ],
)
def test_wrong_time_unit(time, unit, message, write, settings):
    path = write("a.csv", *[f"u,{time + i},feed,visit,i,c,," for i in range(5)])
    with pytest.raises(EventLogError, match=message):
        list(read_batches(path, settings(time_unit=unit)))


def test_one_odd_time_is_a_bad_row_not_a_wrong_unit(write, settings):
    rows = [f"u,{T},feed,visit,i,c,,", f"u,{T},feed,visit,i,c,,", f"u,{T * 1000},feed,visit,i,c,,"]
    path = write("a.csv", *rows)
    for batch_rows in (1, 3):
        batches = list(read_batches(path, settings(), batch_rows))
        assert [row["row"] for b in batches for row in b.bad.to_pylist()] == [3]


def test_nested_column_type(tmp_path, settings):
    rows = {"user_id": ["u"], "timestamp": [T], "scene": ["s"], "behavior": ["visit"], "item_id": [["i", "j"]]}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    message = first_error(str(tmp_path / "a.parquet"), settings())
    assert "column `item_id` has the type list<" in message and "one text or number per row" in message


def test_empty_file(tmp_path, settings):
    for content in ("", "\n\n"):
        (tmp_path / "a.csv").write_text(content)
        assert "the file is empty. Expected a header" in first_error(str(tmp_path / "a.csv"), settings())


def test_not_utf8(tmp_path, write, settings):
    path = write("a.csv", f"u,{T},feed,visit,i,c,,")
    with open(path, "ab") as file:
        file.write(f"u\xe9,{T},feed,visit,i,c,,\n".encode("latin-1"))
    assert "not UTF-8" in first_error(path, settings())


def test_open_quotation_mark(monkeypatch, write, settings):
    monkeypatch.setattr("pipeline.event_log.sources._BLOCK_BYTES", 500)
    path = write("a.csv", *[f"u,{T},feed,visit,i,c,,"] * 30, f'u,{T},"feed,visit,i,c,,', *[f"u,{T},s,visit,i,,,"] * 99)
    message = first_error(path, settings())
    assert "quotation mark is opened and never closed" in message and "past row" in message


def test_no_parquet(tmp_path, settings):
    (tmp_path / "a.parquet").write_text("user_id,timestamp\n")
    assert "not a readable Parquet file" in first_error(str(tmp_path / "a.parquet"), settings())


def test_truncated_gzip(tmp_path, settings):
    whole = gzip.compress(b"user_id,timestamp,scene,behavior,item_id\n" + b"u,1500000000,s,visit,i\n" * 1000)
    (tmp_path / "a.csv.gz").write_bytes(whole[: len(whole) // 2])
    assert "cannot" in first_error(str(tmp_path / "a.csv.gz"), settings())


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "the event log is empty"),
        ([f",{T},feed,visit,i,c,,"] * 2, r"all 2 rows break a rule.*row 1.*no user"),
        ([f"u,{T},feed,visit,i,c,,"], r"no impressions.*`impression`.*behaviors are visit"),
        ([f"u,{T},feed,impressions,i,c,,"], r"Set data\.impression_behavior \(`impressions`\?\)"),
        ([f"u,{T},feed,impression,i,c,1,"] * 3, r"all 3 impressions have label 1"),
        ([f"u,{T},feed,impression,i,c,0,"] * 3, r"all 3 impressions have label 0"),
    ],
)
def test_untrainable(rows, message, write, settings):
    report = check_log(write("a.csv", *rows), settings())
    with pytest.raises(EventLogError, match=message):
        require_trainable(report)


def test_rows_that_break_a_rule_are_named_by_rule(write, settings):
    good, label, nobody = f"u,{T},feed,impression,i,c,0,", f"u,{T},feed,impression,i,c,2,", f",{T},feed,visit,i,c,,"
    report = check_log(write("a.csv", good, label, nobody, label), settings())
    with pytest.raises(EventLogError, match=r"3 of 4 rows") as stopped:
        require_whole(report, settings())
    text = str(stopped.value)
    assert "2 rows: " in text and "row 2, column `label`" in text and "1 row: " in text and "row 3" in text
    require_whole(check_log(write("b.csv", good), settings()), settings())
    require_whole(report, settings(bad_rows="quarantine", max_bad_share=0.75))
    with pytest.raises(EventLogError, match=r"75\.00% of all rows, and data\.max_bad_share lets 74\.00% be put aside"):
        require_whole(report, settings(bad_rows="quarantine", max_bad_share=0.74))


def test_trainable(write, settings):
    rows = [f"u,{T + i},feed,impression,i,c,{i % 2}," for i in range(4)]
    require_trainable(check_log(write("a.csv", *rows), settings()))
