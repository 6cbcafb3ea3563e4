"""One column of a file -> its canonical values and a mask of the rows where that failed. Whole arrays, no row loop.

In: Arrow arrays of whatever type the file had. Out: canonical Arrow or NumPy arrays plus boolean masks (True = the
row breaks the rule).
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from amen_tf.features import VALUE_SEPARATOR
from pipeline.event_log.errors import EventLogError

_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
# pandas, R and SQL exports write these where a number is missing.
_MISSING = ("", "nan", "na", "null", "none")
# Above 2^53 neighbouring integers share one float64, so an id stored as float has already lost its digits.
_EXACT_IN_FLOAT = float(2**53)


def _plain(values: pa.Array) -> pa.Array:
    """Dictionary-encoded columns as the values they stand for."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def _mask(condition: pa.Array) -> np.ndarray:
    return pc.fill_null(condition, False).to_numpy(zero_copy_only=False)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def refuse_nested(values: pa.Array, source: str, file: str, several: bool = False) -> None:
    """Stops at column types that hold no single value per row, or, where there may be several, no list of values."""
    if several and (pa.types.is_list(values.type) or pa.types.is_large_list(values.type)):
        of = values.type.value_type
        if _is_text(of) or pa.types.is_integer(of):
            return
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        raise EventLogError(
            f"{file}: column `{source}` has the type {kind}; expected one text or number per row. "
            "Write it as text or number, or point data.columns at another column."
        )


def text(values: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Ids and categories: string, "" where missing.

    Integers are written out. Whole floats too (5.0 -> "5"), because pandas turns an integer column with gaps into
    floats; a fraction or a number that float64 no longer holds exactly breaks the rule.

    Returns:
      values: string `[n]`, no nulls.
      broken: bool `[n]`.
    """
    values = _plain(values)
    if pa.types.is_large_list(values.type):
        values = pc.cast(values, pa.list_(values.type.value_type))
    if pa.types.is_list(values.type):
        values, _ = _joined(values, pc.is_valid(pc.list_flatten(values)))
    broken = np.zeros(len(values), bool)
    if pa.types.is_floating(values.type) or pa.types.is_decimal(values.type):
        numbers = pc.cast(values, pa.float64()).to_numpy(zero_copy_only=False)
        there = ~np.isnan(numbers)
        with np.errstate(invalid="ignore"):
            broken = there & ((np.floor(numbers) != numbers) | (np.abs(numbers) > _EXACT_IN_FLOAT))
        whole = np.where(there & ~broken, numbers, 0).astype(np.int64)
        values = pa.array(whole, mask=~there | broken)
    if pa.types.is_null(values.type):
        return pa.array([""] * len(values), pa.string()), broken
    return pc.fill_null(pc.cast(values, pa.string()), ""), broken


def several_texts(values: pa.Array, most: int) -> tuple[pa.Array, np.ndarray]:
    """A multi-valued feature: string `[n]` with separators, without empty values; bool `[n]`, more values than `most`.

    Args:
      values: string `[n]`, as `text` makes it.
      most: values a row may have.
    """
    lists = pc.split_pattern(values, VALUE_SEPARATOR)
    joined, counts = _joined(lists, pc.not_equal(pc.utf8_trim_whitespace(pc.list_flatten(lists)), ""))
    return joined, counts > most


def _joined(lists: pa.Array, kept: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Lists as texts with separators, of their values `kept` (bool, by value): string `[n]`, values in each `[n]`."""
    flat = pc.utf8_trim_whitespace(pc.cast(pc.list_flatten(lists).filter(kept), pa.string()))
    parents = pc.list_parent_indices(lists).filter(kept).to_numpy()
    counts = np.bincount(parents, minlength=len(lists))
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    return pc.binary_join(pa.ListArray.from_arrays(offsets, flat), VALUE_SEPARATOR), counts


def number(values: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Any column read as numbers.

    Returns:
      values: float64 `[n]`, NaN where missing or not a number.
      missing: bool `[n]`, nothing was given (null, "", NaN).
      broken: bool `[n]`, something was given and it is no finite number.
    """
    values = _plain(values)
    n = len(values)
    if pa.types.is_null(values.type):
        return np.full(n, np.nan), np.ones(n, bool), np.zeros(n, bool)
    if _is_text(values.type):
        trimmed = pc.utf8_trim_whitespace(pc.fill_null(pc.cast(values, pa.string()), ""))
        missing = _mask(pc.is_in(pc.utf8_lower(trimmed), value_set=pa.array(_MISSING)))
        good = _mask(pc.match_substring_regex(trimmed, _NUMBER)) & ~missing
        # Arrow's parser refuses a leading plus sign.
        unsigned = pc.replace_substring_regex(pc.if_else(pa.array(good), trimmed, None), r"^\+", "")
        numbers = pc.cast(unsigned, pa.float64()).to_numpy(zero_copy_only=False)
        broken = ~missing & ~good
    elif pa.types.is_temporal(values.type):
        missing = _mask(pc.is_null(values))
        return np.full(n, np.nan), missing, ~missing
    else:
        if pa.types.is_boolean(values.type):
            values = pc.cast(values, pa.int8())
        numbers = pc.cast(values, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        missing, broken = np.isnan(numbers), np.zeros(n, bool)
    broken = broken | np.isinf(numbers)
    return np.where(broken, np.nan, numbers), missing, broken


def numeric_feature(values: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """A declared numeric feature.

    Returns:
      values: float32 `[n]`, NaN where missing.
      broken: bool `[n]`, no finite float32.
    """
    numbers, _, broken = number(values)
    with np.errstate(over="ignore"):
        small = numbers.astype(np.float32)
    overflow = np.isinf(small)
    return pa.array(np.where(overflow, np.float32(np.nan), small), pa.float32()), broken | overflow


def time_value(values: pa.Array, unit: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times as the file gives them, in the file's unit.

    Arrow timestamps and dates know their own unit and are brought to `unit` (no time zone means UTC).

    Args:
      unit: `seconds` or `milliseconds`.

    Returns:
      values: float64 `[n]` in `unit`, NaN where missing or not a number. Exact: times of this and the next century
        in milliseconds or microseconds stay below 2^53.
      missing, broken: bool `[n]`.
    """
    values = _plain(values)
    if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
        missing = _mask(pc.is_null(values))
        micros = pc.cast(pc.cast(values, pa.timestamp("us"), safe=False), pa.int64()).to_numpy(zero_copy_only=False)
        numbers = np.where(missing, np.nan, micros) / (1e6 if unit == "seconds" else 1e3)
        return numbers, missing, np.zeros(len(values), bool)
    return number(values)
