"""Reading files into canonical batches: formats, types, names, units, row numbers and memory-sized batches."""

import datetime as dt
import decimal
import gzip
import math
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.event_log.errors import EventLogError
from pipeline.event_log.reader import read_batches, require_good
from pipeline.event_log.schema import canonical_schema

T = 1_500_000_000
GOOD = [
    f"u1,{T},feed,impression,i1,c1,1,r1",
    f'u1,{T + 1},"live, late",visit,i2,c1,,',
    f"u2,{T + 2},search,search,,,,",
]
FEATURES = [
    {"name": "brand", "owner": "item", "kind": "categorical"},
    {"name": "price", "owner": "candidate", "kind": "numeric"},
]


def read(path, data, **kw):
    """All good rows as one table, all bad ones as a list."""
    batches = list(read_batches(path, data, **kw))
    table = pa.Table.from_batches([b.table for b in batches])
    table.validate(full=True)
    return table, [row for b in batches for row in b.bad.to_pylist()]


def test_csv_becomes_canonical(write, settings):
    table, bad = read(write("a.csv", *GOOD), settings())
    assert table.schema == canonical_schema(settings()) and not bad
    assert table.to_pydict() == {
        "user_id": ["u1", "u1", "u2"],
        "timestamp": [T, T + 1, T + 2],
        "scene": ["feed", "live, late", "search"],
        "behavior": ["impression", "visit", "search"],
        "item_id": ["i1", "i2", ""],
        "category_id": ["c1", "c1", ""],
        "label": [1, -1, -1],
        "request_id": ["r1", "", ""],
    }


def test_gzip_bom_crlf_and_no_last_newline(tmp_path, write, settings):
    plain, _ = read(write("a.csv", *GOOD), settings())
    text = pathlib.Path(write("b.csv", *GOOD, end="")).read_text().replace("\n", "\r\n")
    with gzip.open(tmp_path / "c.csv.gz", "wb") as file:
        file.write(b"\xef\xbb\xbf" + text.encode())
    table, bad = read(str(tmp_path / "c.csv.gz"), settings())
    assert table.equals(plain) and not bad


def test_parquet_equals_csv(tmp_path, write, settings):
    table, _ = read(write("a.csv", *GOOD), settings())
    columns = table.to_pydict()
    columns["label"] = [1, None, None]
    columns["item_id"][2] = columns["request_id"][1] = None
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    again, bad = read(str(tmp_path / "a.parquet"), settings())
    assert again.equals(table) and not bad


def test_optional_columns_may_be_absent(write, settings):
    path = write("a.csv", f"u1,{T},feed,visit,i1", header="user_id,timestamp,scene,behavior,item_id")
    table, bad = read(path, settings())
    assert not bad
    assert table.slice(0, 1).select(["category_id", "label", "request_id"]).to_pylist() == [
        {"category_id": "", "label": -1, "request_id": ""}
    ]


def test_renamed_columns_and_milliseconds(write, settings):
    path = write(
        "a.csv", f"x,u1,{T * 1000 + 999},feed,impression,i1,0", header="other,uid,ts_ms,page,behavior,item_id,clicked"
    )
    names = {"user_id": "uid", "timestamp": "ts_ms", "scene": "page", "label": "clicked"}
    table, bad = read(path, settings(columns=names, time_unit="milliseconds"))
    assert not bad
    assert table.select(["user_id", "timestamp", "scene", "label"]).to_pylist() == [
        {"user_id": "u1", "timestamp": T, "scene": "feed", "label": 0}
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([17, None], pa.int64()), ["17", ""]),
        (pa.array([17, None], pa.uint32()), ["17", ""]),
        # What pandas makes of an integer column with gaps.
        (pa.array([17.0, math.nan], pa.float64()), ["17", ""]),
        (pa.array([decimal.Decimal("17"), None], pa.decimal128(9, 0)), ["17", ""]),
        (pa.array(["17", None], pa.large_string()), ["17", ""]),
        (pa.array(["17", None]).dictionary_encode(), ["17", ""]),
        (pa.array([True, None]), ["true", ""]),
        (pa.array([None, None], pa.null()), ["", ""]),
    ],
)
def test_ids_of_any_type_become_text(values, expected, tmp_path, settings):
    rows = {"user_id": ["u", "u"], "timestamp": [T, T], "scene": ["s", "s"], "behavior": ["visit", "visit"]}
    pq.write_table(pa.table({**rows, "item_id": values}), tmp_path / "a.parquet")
    table, bad = read(str(tmp_path / "a.parquet"), settings())
    assert not bad and table["item_id"].to_pylist() == expected


STAMPS = [
    pa.array([dt.datetime.fromtimestamp(T, dt.timezone.utc)], pa.timestamp("ms", tz="UTC")),
    pa.array([dt.datetime(2017, 7, 14, 2, 40, 0, 999_999)], pa.timestamp("us")),
    pa.array([T * 10**9 + 1], pa.int64()).cast(pa.timestamp("ns")),
]
NUMBERS = [pa.array([T]), pa.array([T + 0.9]), pa.array([f" +{T} "]), pa.array(["1.5e9"])]


@pytest.mark.parametrize(
    ("values", "unit"),
    # Arrow's timestamps know their own unit, whatever the settings say of plain numbers.
    [(v, "seconds") for v in NUMBERS + STAMPS] + [(v, "milliseconds") for v in STAMPS],
)
def test_times_of_any_type_become_seconds(values, unit, tmp_path, settings):
    rows = {"user_id": ["u"], "scene": ["s"], "behavior": ["visit"], "item_id": ["i"], "timestamp": values}
    # Only this version of the format has nanoseconds.
    pq.write_table(pa.table(rows), tmp_path / "a.parquet", version="2.6")
    table, bad = read(str(tmp_path / "a.parquet"), settings(time_unit=unit))
    assert not bad and table["timestamp"].to_pylist() == [T]


def test_dates_are_midnight_utc(tmp_path, settings):
    day = pa.array([dt.date(2017, 7, 14)], pa.date32())
    rows = {"user_id": ["u"], "scene": ["s"], "behavior": ["visit"], "item_id": ["i"], "timestamp": day}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    table, _ = read(str(tmp_path / "a.parquet"), settings())
    assert table["timestamp"].to_pylist() == [T - 9600]


def test_features_in_order_of_declaration(write, settings):
    header = "price,brand,user_id,timestamp,scene,behavior,item_id"
    rows = [f"1.5,b,u,{T},s,visit,i", f",,u,{T},s,visit,i", f".5e1,b,u,{T},s,visit,i", f"NaN,b,u,{T},s,visit,i"]
    table, bad = read(write("a.csv", *rows, header=header), settings(features=FEATURES))
    assert not bad
    assert table.schema.names[-2:] == ["brand", "price"]
    assert table["brand"].to_pylist() == ["b", "", "b", "b"]
    assert table["price"].type == pa.float32()
    np.testing.assert_array_equal(table["price"].to_numpy(), np.float32([1.5, np.nan, 5, np.nan]))


def test_labels_as_pandas_writes_them(write, settings):
    rows = [f"u,{T},feed,impression,i,,1.0,", f"u,{T},feed,impression,i,,0.0,", f"u,{T},feed,visit,i,,nan,"]
    table, bad = read(write("a.csv", *rows), settings())
    assert not bad and table["label"].to_pylist() == [1, 0, -1]


@pytest.mark.parametrize("batch_rows", [1, 2, 3, 1000])
def test_row_numbers_hold_across_batches(batch_rows, write, settings):
    rows = [*GOOD, "u1,,feed,visit,i1,,,", "", "too,short", 'u1,"a\nb",feed,visit,i1,,,', *GOOD, "short", "short"]
    table, bad = read(write("a.csv", *rows), settings(), batch_rows=batch_rows)
    assert table.num_rows == 6
    # The blank line is no data row.
    assert [row["row"] for row in bad] == [4, 5, 6, 10, 11]
    assert bad[0]["reason"] == "no time" and bad[0]["column"] == "timestamp"
    assert bad[1]["reason"].startswith("wrong number of fields: expected 8") and bad[1]["raw"] == "too,short"
    assert '"a\\nb"' in bad[2]["raw"]


@pytest.mark.parametrize("batch_rows", [1, 7, 1000])
def test_row_numbers_hold_in_parquet_row_groups(batch_rows, tmp_path, settings):
    n = 50
    users = ["" if i in (0, 13, 49) else "u" for i in range(n)]
    rows = {"user_id": users, "timestamp": [T] * n, "scene": ["s"] * n, "behavior": ["visit"] * n, "item_id": ["i"] * n}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet", row_group_size=12)
    table, bad = read(str(tmp_path / "a.parquet"), settings(), batch_rows=batch_rows)
    assert table.num_rows == 47
    assert [row["row"] for row in bad] == [1, 14, 50]


def test_row_numbers_hold_across_blocks(monkeypatch, write, settings):
    monkeypatch.setattr("pipeline.event_log.sources._BLOCK_BYTES", 200)
    rows = ["x,y" if i % 7 == 3 else f",{T},s,visit,i,,," if i % 11 == 5 else GOOD[0] for i in range(300)]
    table, bad = read(write("a.csv", *rows), settings(), batch_rows=4)
    assert [row["row"] for row in bad] == [i + 1 for i in range(300) if i % 7 == 3 or i % 11 == 5]
    assert table.num_rows + len(bad) == 300


def test_header_alone_is_one_empty_batch(write, settings):
    for end in ("", "\n", "\n\n"):
        batches = list(read_batches(write("a.csv", end=end), settings()))
        assert len(batches) == 1 and batches[0].table.num_rows == 0
        assert batches[0].table.schema == canonical_schema(settings())


def test_require_good_stops_or_lets_pass(write, settings):
    path = write("a.csv", *GOOD, f",{T},feed,visit,i1,,,")
    (batch,) = read_batches(path, settings())
    with pytest.raises(EventLogError, match=r"(?s)a\.csv, row 4, column `user_id`: no user; got .*quarantine"):
        require_good(batch, settings())
    require_good(batch, settings(bad_rows="quarantine"))


def test_many_unsorted_files_keep_their_own_numbers(write, settings):
    first = write("a.csv", GOOD[2], f"u,{T},,visit,i,,,")
    second = write("b.csv", f"u,{T},,visit,i,,,", GOOD[0])
    found = [(row["file"], row["row"]) for path in (second, first) for row in read(path, settings())[1]]
    assert found == [(second, 1), (first, 2)]


TAGS = [{"name": "tags", "owner": "item", "kind": "multi_valued", "values": 3}]


@pytest.mark.parametrize(
    ("given", "read_as"),
    [
        ("", ""),
        ("jazz", "jazz"),
        ("jazz|live|jazz", "jazz|live|jazz"),
        (" jazz | live ", "jazz|live"),
        ("|jazz||", "jazz"),
    ],
)
def test_several_values_in_one_text(given, read_as, write, settings):
    header = "user_id,timestamp,scene,behavior,item_id,tags"
    table, bad = read(write("a.csv", f"u,{T},s,visit,i,{given}", header=header), settings(features=TAGS))
    assert table.column("tags").to_pylist() == [read_as] and not bad


@pytest.mark.parametrize("kind", [pa.list_(pa.string()), pa.list_(pa.int64()), pa.large_list(pa.string())])
def test_lists_of_values_in_parquet(kind, tmp_path, settings):
    text = pa.types.is_string(kind.value_type)
    lists = pa.array([["1", "2"] if text else [1, 2], None, [], ["3" if text else 3, None]], kind)
    rows = {"user_id": ["u"] * 4, "timestamp": [T] * 4, "scene": ["s"] * 4, "behavior": ["visit"] * 4}
    pq.write_table(pa.table({**rows, "item_id": ["i"] * 4, "tags": lists}), tmp_path / "a.parquet")
    for batch_rows in (4, 1, 3):
        table, bad = read(str(tmp_path / "a.parquet"), settings(features=TAGS), batch_rows=batch_rows)
        assert table.column("tags").to_pylist() == ["1|2", "", "", "3"] and not bad


def test_more_values_than_declared_are_a_bad_row(write, settings):
    header = "user_id,timestamp,scene,behavior,item_id,tags"
    rows = [f"u,{T},s,visit,i,{tags}" for tags in ("a|b|c", "a|b|c|d", "a|b||c|")]
    table, (bad,) = read(write("a.csv", *rows, header=header), settings(features=TAGS))
    assert table.column("tags").to_pylist() == ["a|b|c", "a|b|c"]
    assert (bad["row"], bad["column"]) == (2, "tags")
    assert bad["reason"] == "more than 3 values, as many as the feature is declared with"
