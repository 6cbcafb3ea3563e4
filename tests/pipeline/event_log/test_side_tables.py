"""Tables of items and users: how they are read, what is wrong with them, and how events come to their columns."""

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from amen_tf.config import DataSettings
from pipeline.event_log import side_tables
from pipeline.event_log.errors import EventLogError
from tests.pipeline.example_gen.logs import event, make_rules, to_table

FEATURES = [
    {"name": "brand", "owner": "item", "kind": "categorical", "source": "table"},
    {"name": "price", "owner": "item", "kind": "numeric", "source": "table"},
    {"name": "tags", "owner": "item", "kind": "multi_valued", "values": 2, "source": "table"},
    {"name": "age", "owner": "user", "kind": "numeric", "source": "table"},
    {"name": "device", "owner": "context", "kind": "categorical"},
]
HEADER = "item_id,brand,price,tags"


@pytest.fixture
def data(tmp_path):
    """`data(lines of the item table, lines of the user table)` -> settings."""

    def _data(items=(HEADER,), users=("user_id,age",)):
        (tmp_path / "items.csv").write_text("\n".join(items) + "\n")
        (tmp_path / "users.csv").write_text("\n".join(users) + "\n")
        tables = {"item_table": str(tmp_path / "items.csv"), "user_table": str(tmp_path / "users.csv")}
        return DataSettings(log="log", features=FEATURES, **tables)

    return _data


def test_a_table_is_read_as_declared(data):
    table = side_tables.read("item", data((f"{HEADER},unused", "a,x,1.5,red|blue,7", "b,,,,8")))
    assert table.schema == side_tables.schema_of("item", data())
    assert table.to_pydict() == {
        "item_id": ["a", "b"],
        "category_id": ["", ""],
        "brand": ["x", ""],
        "price": [1.5, pytest.approx(math.nan, nan_ok=True)],
        "tags": ["red|blue", ""],
    }
    users = side_tables.read("user", data(users=("user_id,age", "u,30")))
    assert users.to_pydict() == {"user_id": ["u"], "age": [30.0]}


def test_tables_of_several_parquet_files(tmp_path):
    (tmp_path / "items").mkdir()
    for name, rows in (("a", [1, 2]), ("b", [3])):
        columns = {"item_id": rows, "category_id": ["c"] * len(rows), "brand": ["x"] * len(rows)}
        columns |= {"price": [1] * len(rows), "tags": [["r", "s"]] * len(rows)}
        pq.write_table(pa.table(columns), tmp_path / "items" / f"{name}.parquet")
    data = DataSettings(log="log", features=FEATURES[:3], item_table=str(tmp_path / "items"))
    table = side_tables.read("item", data)
    assert table["item_id"].to_pylist() == ["1", "2", "3"] and table["tags"].to_pylist() == ["r|s"] * 3
    assert len(side_tables.files_of("item", data)) == 2 and side_tables.files_of("user", data) == []


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (("item_id,brand,tags", "a,x,"), "has no column price. Expected `item_id` and every item feature"),
        ((HEADER, "a,x,dear,"), "row 1: column `price`: numeric feature is not a finite number"),
        ((HEADER, "a,x,1,", "b,x,1,r|s|t"), "row 2: column `tags`: more than 2 values"),
        ((HEADER, ",x,1,"), "row 1: no item_id"),
        ((f"{HEADER},brand", "a,x,1,,y"), "the header names brand more than once"),
        ((HEADER, "a,x"), "row 1: wrong number of fields: expected 4 as in the header, got 2"),
        ((HEADER, "a,x,1,", "b,x,1,", "a,y,1,"), r"1 items have more than one row in the item table: a \(2 rows\)"),
    ],
)
def test_what_is_wrong_with_a_table(items, message, data):
    for look in (side_tables.read, side_tables.check):
        with pytest.raises(EventLogError, match=message):
            look("item", data(items))


def test_a_table_that_is_not_there(tmp_path):
    data = DataSettings(log="log", features=FEATURES[:3], item_table=str(tmp_path / "none.csv"))
    with pytest.raises(EventLogError, match="No such"):
        side_tables.files_of("item", data)


def test_events_get_the_columns_of_their_item(data):
    settings = data((f"{HEADER},category_id", "a,x,1.5,red,c1", "b,y,2.5,,c2"))
    items = side_tables.read("item", settings)
    log = [event(1, "click", item, category=own) for item, own in (("b", ""), ("new", "c9"), ("", ""), ("a", "own"))]
    rules = make_rules()
    joined, unknown = side_tables.join(to_table(log, rules), items, "item")
    assert joined["brand"].to_pylist() == ["y", "", "", "x"]
    assert joined["tags"].to_pylist() == ["", "", "", "red"]
    np.testing.assert_array_equal(joined["price"].to_numpy(), [2.5, math.nan, math.nan, 1.5])
    # The log's own category is that of the event's time; the table fills in where there is none.
    assert joined["category_id"].to_pylist() == ["c2", "c9", "", "own"]
    # An event without an item needs no row.
    assert unknown.tolist() == [False, True, False, False]
    assert joined.column_names[: len(to_table(log, rules).column_names)] == to_table(log, rules).column_names


def test_an_empty_table_and_no_events(data):
    items = side_tables.read("item", data())
    joined, unknown = side_tables.join(to_table([event(1, "click", "a")], make_rules()), items, "item")
    assert joined["brand"].to_pylist() == [""] and unknown.tolist() == [True]
    joined, unknown = side_tables.join(to_table([], make_rules()), items, "item")
    assert joined.num_rows == 0 and "price" in joined.column_names and len(unknown) == 0
