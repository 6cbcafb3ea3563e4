"""Weight initialisation across stages: copying by name, with a count of what was copied and what was not."""

import pathlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

# What to do where an earlier run gives nothing to go on from. Only a run that is blessed is the next one's start.
START_AFRESH = "warm_start.enabled=false until a run is blessed"


class InitializationError(ValueError):
    """A weight initialisation that initialises nothing."""


class CopyReport(NamedTuple):
    """Names of weights by what became of them.

    Attributes:
      copied: as they are in the source; of a warm start, row by row, see `amen_tf.warm_start`.
      extended: the source's rows copied, further rows zero.
      absent: not in the source, or not among the parts asked for, or of ids or features that are others there.
      other_shape: of another shape in the source.
    """

    copied: tuple[str, ...]
    extended: tuple[str, ...]
    absent: tuple[str, ...]
    other_shape: tuple[str, ...]

    def __str__(self) -> str:
        left = len(self.absent) + len(self.other_shape)
        return f"{len(self.copied)} weights copied, {len(self.extended)} extended by zeros, {left} left as initialised"


def named_weights(model: tf.Module) -> dict[str, tf.Variable]:
    """Trainable weights by attribute path, such as `encoder/items/tables/item_id/table`.

    Paths come from the object graph, as in TensorFlow checkpoints, so they are the same in every process and in
    every model that has the part under the same attribute. A shared weight appears once, under its shortest path.
    """
    trainable = {id(v) for v in model.trainable_variables}
    found: dict[str, tf.Variable] = {}
    seen: set[int] = set()
    queue: list[tuple[str, object]] = [("", model)]
    while queue:
        path, node = queue.pop(0)
        if id(node) in seen:
            continue
        seen.add(id(node))
        if id(node) in trainable:
            found[path] = node
            continue
        for name, child in tf.train.TrackableView.children(node).items():
            # The Keras bookkeeping lists repeat what attributes already name.
            if not name.startswith(("layer_with_weights-", "layer-", "keras_api", "_")):
                queue.append((f"{path}/{name}" if path else name, child))
    return found


def save_weights(model: tf.Module, path: str | pathlib.Path) -> None:
    """Writes all trainable weights by name as a NumPy archive."""
    np.savez(path, **{name: weight.numpy() for name, weight in named_weights(model).items()})


def load_weights(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Reads what `save_weights` wrote."""
    with np.load(path) as archive:
        return {name: archive[name] for name in archive.files}


def copy_by_name(
    source: Mapping[str, np.ndarray], model: tf.Module, parts: Iterable[str], extend: Iterable[str] = ()
) -> CopyReport:
    """Copies the weights under `parts` (first path components) from `source` into a built `model`.

    Args:
      source: weights by name.
      model: what receives them.
      parts: first path components to copy.
      extend: kernels whose layer has further inputs behind the source's: the rows of those become zero, so that the
        layer starts by computing what it computed in the source.

    Raises:
      InitializationError: nothing could be copied; an initialisation that initialises nothing is a mistake.
    """
    parts, extend = tuple(parts), tuple(extend)
    copied, extended, absent, other_shape = [], [], [], []
    for name, weight in named_weights(model).items():
        shape = tuple(weight.shape)
        if name.split("/")[0] not in parts or name not in source:
            absent.append(name)
        elif source[name].shape == shape:
            weight.assign(source[name])
            copied.append(name)
        elif name in extend and source[name].shape[1:] == shape[1:] and len(source[name]) < shape[0]:
            rows = np.zeros(shape, source[name].dtype)
            rows[: len(source[name])] = source[name]
            weight.assign(rows)
            extended.append(name)
        else:
            other_shape.append(name)
    if not copied:
        raise InitializationError(
            f"Weight initialisation copied nothing: expected weights under {', '.join(parts)}; the source has "
            f"{', '.join(sorted(source)[:5])} ..., of other shape were {', '.join(other_shape) or 'none'}. "
            "Was the source trained with the same model settings and vocabularies?"
        )
    return CopyReport(tuple(copied), tuple(extended), tuple(absent), tuple(other_shape))
