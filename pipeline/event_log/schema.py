"""The canonical shape of an event log: what every file becomes, whatever its column names and types were.

In: the run's `DataSettings`. Out: Arrow schemas. Canonical columns have no nulls: a missing text is "", a missing
label is -1, a missing number is NaN.
"""

import difflib
from collections.abc import Iterable

import pyarrow as pa

from amen_tf import features
from amen_tf.config import DataSettings, FeatureSettings
from pipeline.event_log.errors import EventLogError

# Files must have these; `label` as well, as soon as one of their rows is an impression.
REQUIRED = (features.USER_ID, features.TIMESTAMP, features.SCENE, features.BEHAVIOR, features.ITEM_ID)
OPTIONAL = (features.CATEGORY_ID, features.LABEL, features.REQUEST_ID)
NO_LABEL = -1

BAD_SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("row", pa.int64()),
        ("column", pa.string()),
        ("reason", pa.string()),
        ("raw", pa.string()),
    ]
)


def canonical_schema(data: DataSettings) -> pa.Schema:
    """Columns of every batch that `read_batches` yields.

    Returns:
      `user_id` string, `timestamp` int64 (unix seconds), `scene` string, `behavior` string, `item_id` string,
      `category_id` string, `label` int8 (-1 = none), `request_id` string, then the declared features of the log in
      the order of declaration: categorical as string ("" = missing), numeric as float32 (NaN = missing), multi-valued
      as one string with separators.
    """
    text = pa.string()
    fields = [
        (features.USER_ID, text),
        (features.TIMESTAMP, pa.int64()),
        (features.SCENE, text),
        (features.BEHAVIOR, text),
        (features.ITEM_ID, text),
        (features.CATEGORY_ID, text),
        (features.LABEL, pa.int8()),
        (features.REQUEST_ID, text),
        *of_features(data.log_features),
    ]
    return of_columns(fields)


def of_features(declared: Iterable[FeatureSettings]) -> list[tuple[str, pa.DataType]]:
    """Name and type of each declared feature's canonical column."""
    return [(f.name, pa.float32() if f.kind == "numeric" else pa.string()) for f in declared]


def of_columns(fields: Iterable[tuple[str, pa.DataType]]) -> pa.Schema:
    """A schema of these columns, none of which has nulls."""
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in fields])


def source_columns(data: DataSettings, present: Iterable[str], file: str) -> dict[str, str]:
    """Which column of a file holds which canonical column.

    Args:
      data: `columns` renames (canonical name -> the file's name) and declares the features.
      present: the column names found in the file.
      file: named in error messages.

    Returns:
      Canonical name -> the file's column name, for the columns that the file has. Optional columns that are absent
      and not renamed are left out.

    Raises:
      EventLogError: a required, declared or renamed column is absent or there twice, or a rename is of no use.
    """
    present = list(present)
    names = canonical_schema(data).names
    for name in data.columns:
        if name not in names:
            raise EventLogError(
                f"data.columns: `{name}` is not a column of the event log.{_nearest(name, names)} "
                f"Its keys are the event log's own names ({', '.join(names)}), its values those of your files."
            )
    found = {}
    for name in names:
        source = data.columns.get(name, name)
        if source in present:
            found[name] = source
        elif name not in OPTIONAL or name in data.columns:
            raise missing_column(name, source, present, file, declared=name not in REQUIRED + OPTIONAL)
    refuse_repeated(found.values(), present, file)
    return found


def refuse_repeated(wanted: Iterable[str], present: list[str], file: str) -> None:
    """Raises where a file has one of the wanted columns more than once."""
    repeated = sorted({name for name in wanted if present.count(name) > 1})
    if repeated:
        raise EventLogError(
            f"{file}: the header names {', '.join(repeated)} more than once, so it is unclear which to read. "
            "Rename or drop one of them in the file."
        )


def missing_column(name: str, source: str, present: list[str], file: str, declared: bool = False) -> EventLogError:
    """The error for a column that a file must have and does not."""
    what = "the declared feature" if declared else "the event log column"
    renamed = f" (read from `{source}` as data.columns says)" if source != name else ""
    message = f"{file}: no column for {what} `{name}`{renamed}. Columns present: {', '.join(present) or 'none'}."
    if len(present) == 1:
        for sign, sign_name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
            if sign in present[0]:
                return EventLogError(f"{message} The file seems to be separated by {sign_name}; expected commas.")
    near = difflib.get_close_matches(source, present, n=1, cutoff=0.5)
    example = near[0] if near else "its name in the file"
    hint = f" The nearest name is `{near[0]}`." if near else ""
    also = ", or take the feature out of data.features" if declared else ""
    return EventLogError(f"{message}{hint} Set data.columns: {{{name}: {example}}} if it goes by another name{also}.")


def _nearest(name: str, valid: list[str]) -> str:
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    return f" Did you mean `{near[0]}`?" if near else ""
