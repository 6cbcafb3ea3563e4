"""Tables beside the log: what is known of items and users, one row each, joined to the events by their ids.

In: `data.item_table` and `data.user_table`, CSV or Parquet files, and the features declared with `source: table`. Out:
canonical tables `[items or users]` with the key and its features, and events with the features as further columns.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from amen_tf import features
from amen_tf.config import DataSettings
from pipeline.event_log import columns, rules, schema, sources
from pipeline.event_log.errors import EventLogError
from pipeline.event_log.files import format_of, list_files
from pipeline.event_log.hashing import hash_column

ITEM, USER = "item", "user"
KEYS = {ITEM: features.ITEM_ID, USER: features.USER_ID}
_OPENERS = {"csv": sources.open_csv, "parquet": sources.open_parquet}
_ROWS_AT_ONCE = 131_072
_SHOWN = 5


def place_of(owner: str, data: DataSettings) -> str | None:
    """Where the table of items or of users lies; None if there is none."""
    return data.item_table if owner == ITEM else data.user_table


def files_of(owner: str, data: DataSettings) -> list[str]:
    """The files of a table, sorted.

    Raises:
      EventLogError: there are none.
    """
    place = place_of(owner, data)
    return list_files(place, "auto") if place else []


def all_files(data: DataSettings) -> list[str]:
    """The files of both tables; arguments and errors as of `files_of`."""
    return [path for owner in KEYS for path in files_of(owner, data)]


def schema_of(owner: str, data: DataSettings) -> pa.Schema:
    """The key, for items the category, then the declared features: as in `canonical_schema`."""
    fields = [(KEYS[owner], pa.string())]
    if owner == ITEM:
        fields.append((features.CATEGORY_ID, pa.string()))
    return schema.of_columns([*fields, *schema.of_features(data.table_features(owner))])


def check(owner: str, data: DataSettings) -> None:
    """Raises what `read` would raise, holding no more of the table than a number for each of its ids."""
    hashes = [np.zeros(0, np.uint64)]
    for path in files_of(owner, data):
        hashes += [hash_column(batch.column(0)) for batch in batches(path, owner, data)]
    every = np.concatenate(hashes)
    if len(np.unique(every)) < len(every):
        read(owner, data)


def read(owner: str, data: DataSettings) -> pa.Table:
    """A whole table.

    Raises:
      EventLogError: see `batches`; or an id has two rows.
    """
    parts = [batch for path in files_of(owner, data) for batch in batches(path, owner, data)]
    table = pa.Table.from_batches(parts, schema_of(owner, data))
    stop_at_repeated(repeated(table, owner), owner, data)
    return table


def batches(path: str, owner: str, data: DataSettings) -> Iterator[pa.RecordBatch]:
    """One file of a table, some rows at a time.

    Raises:
      EventLogError: a column is absent, a row has no id, or a value is none of its kind; with file and row.
    """
    kind = format_of(path)
    if kind not in _OPENERS:
        raise EventLogError(f"{path}: expected a {owner} table as CSV or Parquet.")
    opened = _OPENERS[kind](path)
    target = schema_of(owner, data)
    absent = [name for name in target.names if name not in opened.columns and name != features.CATEGORY_ID]
    if absent:
        raise EventLogError(
            f"{path}: the {owner} table (data.{owner}_table) has no column {', '.join(absent)}. Expected "
            f"`{KEYS[owner]}` and every {owner} feature with source: table. Columns present: "
            f"{', '.join(opened.columns) or 'none'}."
        )
    schema.refuse_repeated(target.names, opened.columns, path)
    declared = {f.name: f for f in data.table_features(owner)}
    for part in opened.parts([name for name in target.names if name in opened.columns], _ROWS_AT_ONCE):
        made, faults = {}, [(number, reason) for number, _, reason, _ in part.malformed]
        for name in target.names:
            made[name], found = _column(name, part.rows, declared.get(name), path)
            faults += [(int(part.numbers[row]), f"column `{name}`: {reason}") for row, reason in found]
        empty = np.flatnonzero(pc.equal(made[KEYS[owner]], "").to_numpy(zero_copy_only=False))
        faults += [(int(part.numbers[row]), f"no {KEYS[owner]}") for row in empty]
        if faults:
            shown = "\n".join(f"  {path}, row {row}: {reason}" for row, reason in sorted(faults)[:_SHOWN])
            raise EventLogError(f"The {owner} table has rows that cannot be used:\n{shown}\nMend or remove them.")
        yield pa.RecordBatch.from_arrays([made[name] for name in target.names], schema=target)


def _column(name: str, rows: pa.RecordBatch, feature, path: str) -> tuple[pa.Array, list[tuple[int, str]]]:
    """A canonical column and (row, reason) of the values that cannot be used."""
    place = rows.schema.get_field_index(name)
    if place < 0:
        return pa.array([""] * rows.num_rows, pa.string()), []
    values = rows.column(place)
    kind = feature.kind if feature is not None else "categorical"
    columns.refuse_nested(values, name, path, kind == "multi_valued")
    if kind == "numeric":
        made, broken = columns.numeric_feature(values)
        return made, [(row, rules.NOT_A_NUMBER) for row in np.flatnonzero(broken)]
    made, broken = columns.text(values)
    faults = [(row, rules.NOT_AN_ID) for row in np.flatnonzero(broken)]
    if kind == "multi_valued":
        made, broken = columns.several_texts(made, feature.values)
        faults += [(row, rules.TOO_MANY_VALUES.format(values=feature.values)) for row in np.flatnonzero(broken)]
    return made, faults


def repeated(table: pa.Table, owner: str) -> dict:
    """The ids that have more than one row: which of them is meant cannot be known.

    Returns:
      `ids`: how many; `rows`: of the first few ids in alphabetical order, how many each has. Empty if there are none.
    """
    counts = table.column(KEYS[owner]).value_counts()
    found = counts.filter(pc.greater(counts.field("counts"), 1))
    if not len(found):
        return {}
    first = sorted((entry["values"], entry["counts"]) for entry in found.to_pylist())[:_SHOWN]
    return {"ids": len(found), "rows": dict(first)}


def stop_at_repeated(found: dict, owner: str, data: DataSettings) -> None:
    """Raises what `repeated` found in a table; of parts of it, with their numbers added up.

    Raises:
      EventLogError: it found something.
    """
    if found:
        first = ", ".join(f"{key} ({count} rows)" for key, count in sorted(found["rows"].items())[:_SHOWN])
        raise EventLogError(
            f"{place_of(owner, data)}: {found['ids']} {owner}s have more than one row in the {owner} table: {first}. "
            "Expected one row each: keep the newest."
        )


def join(events: pa.Table, table: pa.Table, owner: str) -> tuple[pa.Table, np.ndarray]:
    """Events with what the table says of their item or user.

    The log's own category wins over the table's: it is that of the event's time.

    Returns:
      The events with further columns, missing values ("", NaN) where the table has no row.
      bool `[events]`: an item or user that the table does not have. Events without an item need none.
    """
    key = KEYS[owner]
    coded = events.column(key).combine_chunks().dictionary_encode()
    place = pc.index_in(coded.dictionary, value_set=table.column(key).combine_chunks()).take(coded.indices)
    for name in table.column_names[1:]:
        values = table.column(name).combine_chunks().take(place)
        missing = np.float32(np.nan) if pa.types.is_floating(values.type) else ""
        values = pc.fill_null(values, pa.scalar(missing, values.type))
        if name == features.CATEGORY_ID:
            own = events.column(name)
            values = pc.if_else(pc.equal(own, ""), values, own)
            events = events.set_column(events.column_names.index(name), events.schema.field(name), values)
        else:
            events = events.append_column(pa.field(name, values.type, nullable=False), values)
    unknown = pc.and_(pc.is_null(place), pc.not_equal(events.column(key), ""))
    return events, unknown.to_numpy()
