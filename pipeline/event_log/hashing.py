"""64-bit hashes of whole Arrow columns, to count and group without keeping the texts.

In: Arrow arrays. Out: uint64 arrays, equal for equal values on every machine and run. With n distinct values two of
them share a hash with probability n^2 / 2^65: one in 3,700 for a hundred million.
"""

import numpy as np
import pyarrow as pa

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(values: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64: uint64 `[n]` in, well spread uint64 `[n]` out, one to one."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def combine(*parts: np.ndarray) -> np.ndarray:
    """One hash of several columns of hashes or integers `[n]`; their order matters."""
    total = np.zeros(len(parts[0]), np.uint64)
    for part in parts:
        total = mix(total * _GOLDEN + part.astype(np.uint64) + _GOLDEN)
    return total


def hash_column(values: pa.Array) -> np.ndarray:
    """Hashes of a string, integer or float column without nulls: uint64 `[n]`."""
    if pa.types.is_string(values.type):
        encoded = values.dictionary_encode()
        return _hash_texts(encoded.dictionary)[encoded.indices.to_numpy()]
    numbers = values.to_numpy(zero_copy_only=False)
    if numbers.dtype.kind == "f":
        # NaNs come in many bit patterns and -0.0 equals 0.0.
        numbers = np.where(np.isnan(numbers), np.nan, numbers + 0.0).astype(np.float64).view(np.int64)
    return mix(numbers.astype(np.int64).view(np.uint64) + _GOLDEN)


def _hash_texts(values: pa.Array) -> np.ndarray:
    """Sum over the bytes of mix(byte, place), then mixed with the length, for all texts at once."""
    _, offset_buffer, data = values.buffers()
    offsets = np.frombuffer(offset_buffer, np.int32)[values.offset : values.offset + len(values) + 1].astype(np.int64)
    lengths = np.diff(offsets)
    if not offsets[-1] - offsets[0]:
        return mix(lengths.astype(np.uint64) + _GOLDEN)
    content = np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]].astype(np.uint64)
    starts = offsets[:-1] - offsets[0]
    place = np.arange(len(content)) - np.repeat(starts, lengths)
    mixed = mix(content + place.astype(np.uint64) * np.uint64(256) + _GOLDEN)
    running = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed)])
    return mix(running[starts + lengths] - running[starts] + lengths.astype(np.uint64) * _GOLDEN)
