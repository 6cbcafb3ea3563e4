"""Columns as integer codes whose order is the order of their values, and the index arithmetic on top.

In: Arrow columns without nulls. Out: NumPy index arrays. Sorting, comparing and gathering then cost the same for a
string as for a number.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# Keys are packed into one int64 as long as they fit; the rest of the range guards against overflow.
_KEY_RANGE = 2**62


@dataclasses.dataclass(frozen=True)
class CodedColumn:
    """A column as codes into its distinct values.

    Attributes:
      codes: int32 `[rows]`; equal values have equal codes, and codes ascend with the values.
      values: `[distinct]`; binary for text (bytewise order), else the column's own type, NaN last.
    """

    codes: np.ndarray
    values: pa.Array

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> "CodedColumn":
        """Codes a column of strings, integers or floats."""
        if pa.types.is_string(column.type):
            coded = column.combine_chunks().dictionary_encode()
            values = coded.dictionary.cast(pa.binary())
            order = pc.sort_indices(values).to_numpy(zero_copy_only=False)
            rank = np.empty(len(order), np.int32)
            rank[order] = np.arange(len(order), dtype=np.int32)
            return cls(rank[coded.indices.to_numpy(zero_copy_only=False)], values.take(pa.array(order)))
        numbers = column.to_numpy()
        if pa.types.is_floating(column.type):
            # -0.0 and 0.0 are equal: which of the two is kept must not depend on the order of the rows.
            numbers = numbers + numbers.dtype.type(0)
        values, codes = np.unique(numbers, return_inverse=True)
        return cls(codes.astype(np.int32).reshape(-1), pa.array(values, column.type))

    def rows(self, index: np.ndarray) -> "CodedColumn":
        """The column restricted to these rows, in this order."""
        return CodedColumn(self.codes[index], self.values)

    def replaced(self, where: np.ndarray, text: str) -> "CodedColumn":
        """A text column with `text` in the rows where the mask holds; its codes no longer ascend with the values."""
        code, values = self.code_of(text), self.values
        if code < 0:
            code, values = len(values), pa.concat_arrays([values, pa.array([text.encode()], pa.binary())])
        return CodedColumn(np.where(where, np.int32(code), self.codes), values)

    def take(self, index: np.ndarray) -> pa.Array:
        """The values at these rows."""
        return self.values.take(pa.array(self.codes[index]))

    def code_of(self, text: str) -> int:
        """Code of a text, -1 when the column does not hold it."""
        return self.values.index(pa.scalar(text.encode(), self.values.type)).as_py()

    def is_in(self, texts: Iterable[str]) -> np.ndarray:
        """bool `[rows]`: the row holds one of these texts."""
        return np.isin(self.codes, [self.code_of(text) for text in texts])

    def present(self) -> np.ndarray:
        """bool `[rows]`: the row holds a value, neither "" nor NaN."""
        if pa.types.is_binary(self.values.type):
            there = pc.not_equal(self.values, pa.scalar(b"", pa.binary())).to_numpy(zero_copy_only=False)
        elif pa.types.is_floating(self.values.type):
            there = ~np.isnan(self.values.to_numpy(zero_copy_only=False))
        else:
            there = np.ones(len(self.values), bool)
        return there[self.codes] if len(there) else np.zeros(0, bool)


def total_order(columns: Iterable[CodedColumn]) -> np.ndarray:
    """Sorts by the columns, the first one most significant, and keeps one of every group of equal rows.

    Returns:
      int64 `[distinct rows]`: which rows, in which order. Only the set of rows decides the sorted content.
    """
    keys: list[np.ndarray] = []
    span = 1
    for column in columns:
        size = max(len(column.values), 1)
        if keys and span * size < _KEY_RANGE:
            keys[-1] = keys[-1] * size + column.codes
            span *= size
        else:
            keys.append(column.codes.astype(np.int64))
            span = size
    order = np.lexsort(keys[::-1])
    fresh = np.zeros(len(order), bool)
    fresh[:1] = True
    for key in keys:
        ordered = key[order]
        fresh[1:] |= ordered[1:] != ordered[:-1]
    return order[fresh]


def ragged(starts: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Consecutive ranges, one after the other.

    Args:
      starts: int64 `[n]`, first index of each range.
      lengths: int64 `[n]`.

    Returns:
      index: int64 `[sum(lengths)]`.
      offsets: int64 `[n + 1]`, where each range begins in `index`.
    """
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    return np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths), offsets
