"""The frozen generator's outputs, computed once for a window of requests and kept on disk."""

import contextlib
import hashlib
import math
import os
import pathlib
import uuid
from collections.abc import Callable, Iterator
from typing import BinaryIO

import numpy as np
import tensorflow as tf

from amen_tf.features import DIVERSITY, FLOW, VELOCITY


class FlowFile:
    """The frozen generator's outputs for every request of a data set, kept on disk in the order of the requests.

    The generator never changes in stage 2, so its outputs are computed once and not once per epoch.

    Args:
      path: file of float32 rows, written by `write`.
      flow_length: T.
      dim: d.
    """

    def __init__(self, path: str | pathlib.Path, flow_length: int, dim: int):
        self.path = str(path)
        self.shapes = {FLOW: (flow_length, dim), DIVERSITY: (flow_length,), VELOCITY: (flow_length, dim)}
        self._sizes = [math.prod(shape) for shape in self.shapes.values()]

    def write(self, generator: Callable, batches: tf.data.Dataset) -> None:
        """Computes and writes the rows for `batches`, which must come unshuffled."""
        compute = tf.function(generator, autograph=False, reduce_retracing=True)
        with self._being_written() as file:
            for features in batches:
                outputs = compute(features)
                rows = [tf.reshape(outputs[name], (tf.shape(outputs[name])[0], -1)) for name in self.shapes]
                file.write(tf.concat(rows, 1).numpy().astype("<f4").tobytes())

    @property
    def row_bytes(self) -> int:
        """Size of one request's row."""
        return 4 * sum(self._sizes)

    def array(self) -> np.ndarray:
        """All rows `[R, .]` float32, mapped from disk."""
        return np.memmap(self.path, "<f4", "r").reshape(-1, sum(self._sizes))

    def rows(self) -> tf.data.Dataset:
        """One raw string per request."""
        return tf.data.FixedLengthRecordDataset(self.path, self.row_bytes)

    def write_absent(self, size: int) -> None:
        """Writes `size` rows of zeros, which say that a request has no flow: a state has unit length."""
        with self._being_written() as file:
            file.truncate(size * self.row_bytes)

    @contextlib.contextmanager
    def _being_written(self) -> Iterator[BinaryIO]:
        """The file, under its name only when it is whole: a run that is killed must not leave half of it behind."""
        # Named by chance: workers of a cluster may write at one time, and their processes may have one number.
        partial = f"{self.path}.{uuid.uuid4().hex}.partial"
        try:
            with open(partial, "wb") as file:
                yield file
            os.replace(partial, self.path)
        except BaseException:
            pathlib.Path(partial).unlink(missing_ok=True)
            raise

    def decode(self, rows: tf.Tensor) -> dict[str, tf.Tensor]:
        """Raw strings `[B]` -> flow `[B, T, d]`, diversity `[B, T]`, velocity `[B, T, d]`."""
        return self.named(tf.io.decode_raw(rows, tf.float32))

    def named(self, values: tf.Tensor) -> dict[str, tf.Tensor]:
        """Rows `[B, .]` float32 -> flow `[B, T, d]`, diversity `[B, T]`, velocity `[B, T, d]`."""
        parts = tf.split(values, self._sizes, 1)
        return {n: tf.reshape(part, (-1, *shape)) for part, (n, shape) in zip(parts, self.shapes.items(), strict=True)}


def fingerprint(exported: str | pathlib.Path) -> str:
    """16 hexadecimal digits that tell exported generators apart: of their graph and of their weights."""
    exported, digest = pathlib.Path(exported), hashlib.sha256()
    files = [exported / "saved_model.pb", *sorted((exported / "variables").glob("*"))]
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


class FlowStore:
    """Flows of any generator for any window, each computed once: over epochs, seeds, ablations and repeated runs.

    Files are named after the generator's fingerprint and the window's key, so that a flow is never another model's.
    Nothing here is precious: whatever is deleted is computed again.

    Args:
      folder: made if need be.
    """

    def __init__(self, folder: str | pathlib.Path):
        self.folder = pathlib.Path(folder)

    def of(self, exported: str | pathlib.Path, generator: Callable, window, flow_length: int, dim: int) -> FlowFile:
        """The flows of `window` (see `amen_tf.windows`), computed if they are not there.

        Args:
          exported: folder of the generator's SavedModel.
          generator: the same, loaded: features -> flow, diversity, velocity.
          window: the requests, in an order of their own.
          flow_length: T.
          dim: d.
        """
        file = FlowFile(self.folder / f"{fingerprint(exported)}-{window.key}.f4", flow_length, dim)
        if not self._whole(file, window):
            file.write(generator, window.batches(512))
        return file

    def absent(self, window, flow_length: int, dim: int) -> FlowFile:
        """Rows of zeros for requests that get no flow, because the generator has learned from their clicks."""
        file = FlowFile(self.folder / f"absent-{window.key}.f4", flow_length, dim)
        if not self._whole(file, window):
            file.write_absent(window.size)
        return file

    def _whole(self, file: FlowFile, window) -> bool:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = pathlib.Path(file.path)
        return path.exists() and path.stat().st_size == window.size * file.row_bytes
