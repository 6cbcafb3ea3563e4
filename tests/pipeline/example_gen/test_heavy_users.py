"""Users above the limit of rows: which rows stay, whatever the parts in which they come."""

import random

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.example_gen import shuffle
from pipeline.example_gen.heavy_users import newest_rows
from tests.pipeline.example_gen.logs import event, make_rules, random_events, shown, to_table
from tests.pipeline.example_gen.test_properties import logs, many

RULES = make_rules()


def rows(table):
    return sorted(map(repr, table.to_pylist()))


def expected(events, limit):
    """By sorting each user's rows, newest first, then by every other column in the order of the table's."""
    kept = []
    for user in {e["user_id"] for e in events}:
        theirs = to_table([e for e in events if e["user_id"] == user], RULES).to_pylist()
        theirs.sort(key=lambda e: (-e["timestamp"], *(v for k, v in e.items() if k not in ("user_id", "timestamp"))))
        kept += theirs[:limit]
    return sorted(map(repr, kept))


def test_the_newest_rows_of_a_user_stay():
    log = [event(time, "click", f"i{time}", user="bot") for time in (30, 10, 50, 20, 40)]
    log += [event(5, "click", "old", user="person"), shown(6, "shown", 1, user="person")]
    kept, left_out = newest_rows(to_table(log, RULES), 3)
    assert left_out == 2
    assert sorted(zip(kept["user_id"].to_pylist(), kept["timestamp"].to_pylist(), strict=True)) == [
        ("bot", 30),
        ("bot", 40),
        ("bot", 50),
        ("person", 5),
        ("person", 6),
    ]


def test_nothing_is_touched_where_nobody_is_above_the_limit():
    table = to_table(random_events(random.Random(2), RULES, 30), RULES)
    assert newest_rows(table, table.num_rows) == (table, 0)
    most = max(entry["counts"] for entry in table["user_id"].value_counts().to_pylist())
    assert newest_rows(table, most) == (table, 0)
    assert newest_rows(table, most - 1)[1] >= 1


@many
@given(logs(), st.integers(1, 6), st.integers(1, 4))
def test_in_any_order_and_in_any_parts_the_same_rows_stay(log, limit, size):
    table = to_table(log, RULES)
    kept, left_out = newest_rows(table, limit)
    assert rows(kept) == expected(log, limit) and kept.num_rows + left_out == len(log)
    # Before the shuffle and after it, a part at a time.
    cut = [newest_rows(pa.Table.from_batches([part]), limit) for part in table.to_batches(max_chunksize=size)]
    blocks = [shuffle.to_bytes(part) for part, _ in cut] or [shuffle.to_bytes(table)]
    gathered, more = shuffle.gather(blocks, limit)
    assert rows(gathered) == rows(kept)
    assert sum(left for _, left in cut) + more == left_out


@pytest.mark.parametrize("limit", [1, 10])
def test_a_user_alone_does_not_fill_a_workers_memory(limit, monkeypatch):
    # 1,000 blocks of one user: what is held at a time stays below a few times the limit.
    held = []
    concat = pa.concat_tables
    monkeypatch.setattr(
        pa, "concat_tables", lambda tables: held.append(sum(t.num_rows for t in tables)) or concat(tables)
    )
    blocks = (shuffle.to_bytes(to_table([event(time, "click", "i", user="bot")], RULES)) for time in range(1000))
    kept, left_out = shuffle.gather(blocks, limit)
    assert kept["timestamp"].to_pylist() == list(range(1000 - limit, 1000)) and left_out == 1000 - limit
    assert max(held) <= 4 * limit + 1
