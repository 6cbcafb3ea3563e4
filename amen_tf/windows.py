"""Windows of requests that models learn from and are measured on: in files of any size, or in memory.

Both kinds have `size` (requests), `key` (what tells one window's contents from another's) and `batches`, which gives
the features of one pass as a `tf.data.Dataset`.
"""

import functools
import hashlib
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from amen_tf.features import CANDIDATE_MASK, LABEL, USER_KEY, is_of_candidates
from amen_tf.flows import FlowFile
from amen_tf.input import count_examples, example_files, requests


class Window(Protocol):
    """Requests in a fixed order."""

    @property
    def size(self) -> int:
        """Number of requests."""

    @property
    def key(self) -> str:
        """16 hexadecimal digits; the same for the same requests."""

    def batches(
        self, batch_size: int, shuffle_seed: int | None = None, flows: FlowFile | None = None
    ) -> tf.data.Dataset:
        """One pass: `shuffle_seed` mixes anew each epoch, None keeps the order; `flows` are added to the features."""


class Windows(NamedTuple):
    """What a training reads: the window it learns from and the one that stops it."""

    train: Window
    eval: Window


class JoinedWindow:
    """Several windows as one, mixed with one another where they are mixed at all.

    Args:
      parts: at least one.
    """

    def __init__(self, parts: Sequence[Window]):
        self.parts = tuple(parts)

    @property
    def size(self) -> int:
        """Number of requests."""
        return sum(part.size for part in self.parts)

    @property
    def key(self) -> str:
        """Of the parts' keys."""
        return hashlib.sha256("".join(part.key for part in self.parts).encode()).hexdigest()[:16]

    def batches(
        self,
        batch_size: int,
        shuffle_seed: int | None = None,
        flows: Sequence[FlowFile] | None = None,
    ) -> tf.data.Dataset:
        """See `Window`; `flows` are one file a part."""
        flows = flows or [None] * len(self.parts)
        parts = list(zip(self.parts, flows, strict=True))
        if shuffle_seed is None:
            datasets = [part.batches(batch_size, None, file) for part, file in parts]
            return functools.reduce(lambda one, other: one.concatenate(other), datasets)
        # Of every part a batch has as much as the part is of the whole, one request at least. A part that ends early,
        # by rounding, begins again, so that a pass is as long as one over the whole.
        shares = [max(1, round(batch_size * part.size / self.size)) for part, _ in parts]
        datasets = [
            part.batches(share, shuffle_seed + place, file).repeat()
            for place, (share, (part, file)) in enumerate(zip(shares, parts, strict=True))
        ]
        mixed = tf.data.Dataset.zip(tuple(datasets)).take(-(-self.size // batch_size))
        return mixed.map(_stacked, tf.data.AUTOTUNE, deterministic=True).prefetch(2)


@tf.autograph.experimental.do_not_convert
def _stacked(*batches: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Batches of features one below the other, with as many candidates as the widest has."""
    width = functools.reduce(tf.maximum, [tf.shape(batch[LABEL])[1] for batch in batches])

    def column(name):
        values = [batch[name] for batch in batches]
        if is_of_candidates(name):
            values = [tf.pad(v, ((0, 0), (0, width - tf.shape(v)[1]))) for v in values]
        return tf.concat(values, 0)

    return {name: column(name) for name in batches[0]}


class ExampleFiles:
    """A window in gzipped TFRecords of transformed tf.Examples, read anew in every pass.

    Args:
      patterns: globs.
      feature_spec: of `tft.TFTransformOutput.transformed_feature_spec()`.
    """

    def __init__(self, patterns: Sequence[str], feature_spec: Mapping):
        self.patterns, self.feature_spec = patterns, feature_spec

    @functools.cached_property
    def size(self) -> int:
        """Number of requests, counted once."""
        return count_examples(self.patterns)

    @functools.cached_property
    def key(self) -> str:
        """Of the files' places, sizes and times of change: what Transform wrote is not read for it."""
        digest = hashlib.sha256()
        for path in example_files(self.patterns):
            found = tf.io.gfile.stat(path)
            digest.update(f"{path}\0{found.length}\0{found.mtime_nsec}\0".encode())
        return digest.hexdigest()[:16]

    def batches(
        self, batch_size: int, shuffle_seed: int | None = None, flows: FlowFile | None = None
    ) -> tf.data.Dataset:
        """See `Window`."""
        return requests(self.patterns, self.feature_spec, batch_size, shuffle_seed=shuffle_seed, flows=flows)


class RequestTable:
    """A window in memory, for logs that fit: no parsing in any pass, and every pass is mixed as a whole.

    Args:
      columns: transformed, dense columns of all requests by name; integers may be of any width.
    """

    def __init__(self, columns: Mapping[str, np.ndarray]):
        self.columns = dict(columns)

    @classmethod
    def read(cls, batches: Iterable[Mapping[str, tf.Tensor]]) -> "RequestTable":
        """Takes up batches of dense features; ids are kept in 32 bits, candidates padded to the longest request."""
        parts = [{name: column.numpy() for name, column in batch.items()} for batch in batches]
        if not parts:
            raise ValueError("Expected at least one batch of requests, got none.")
        width = max(part[LABEL].shape[1] for part in parts)
        columns = {}
        for name, first in parts[0].items():
            values = [part[name] for part in parts]
            if is_of_candidates(name):
                values = [np.pad(v, ((0, 0), (0, width - v.shape[1]))) for v in values]
            narrow = np.int32 if first.dtype == np.int64 and name != USER_KEY else first.dtype
            columns[name] = np.concatenate(values).astype(narrow)
        return cls(columns)

    @classmethod
    def load(cls, path: str | pathlib.Path) -> "RequestTable":
        """Reads what `save` wrote."""
        with np.load(path) as archive:
            return cls({name: archive[name] for name in archive.files})

    def save(self, path: str | pathlib.Path) -> None:
        """Writes a NumPy archive."""
        np.savez(path, **self.columns)

    @classmethod
    def concatenated(cls, tables: Sequence["RequestTable"]) -> "RequestTable":
        """The requests of several tables with the same columns, one after the other."""
        width = max(table.columns[LABEL].shape[1] for table in tables)

        def widened(name, values):
            wide = is_of_candidates(name)
            return np.pad(values, ((0, 0), (0, width - values.shape[1]))) if wide else values

        names = tables[0].columns
        return cls({n: np.concatenate([widened(n, table.columns[n]) for table in tables]) for n in names})

    @property
    def size(self) -> int:
        """Number of requests."""
        return len(self.columns[LABEL])

    @property
    def impressions(self) -> int:
        """Number of real candidates in all requests."""
        return int(self.columns[CANDIDATE_MASK].sum())

    @functools.cached_property
    def key(self) -> str:
        """Of the contents."""
        digest = hashlib.sha256()
        for name in sorted(self.columns):
            column = np.ascontiguousarray(self.columns[name])
            digest.update(f"{name}\0{column.dtype}\0{column.shape}\0".encode())
            digest.update(column.data)
        return digest.hexdigest()[:16]

    @functools.cached_property
    def _tensors(self) -> dict[str, tf.Tensor]:
        """The columns for TensorFlow: one copy, however many passes of however many kinds there are."""
        return {name: tf.constant(column) for name, column in self.columns.items()}

    def batches(
        self, batch_size: int, shuffle_seed: int | None = None, flows: FlowFile | None = None
    ) -> tf.data.Dataset:
        """See `Window`."""
        columns = self._tensors
        kept = None if flows is None else tf.constant(flows.array())
        places = tf.data.Dataset.range(self.size)
        if shuffle_seed is not None:
            places = places.shuffle(self.size, seed=shuffle_seed, reshuffle_each_iteration=True)

        @tf.autograph.experimental.do_not_convert
        def rows(place):
            features = {name: tf.gather(column, place) for name, column in columns.items()}
            features = {n: tf.cast(c, tf.int64) if c.dtype == tf.int32 else c for n, c in features.items()}
            return features if kept is None else {**features, **flows.named(tf.gather(kept, place))}

        return places.batch(batch_size).map(rows, tf.data.AUTOTUNE, deterministic=True).prefetch(2)
