"""Sizes for `tf.reshape`, known ones as numbers, so that a graph does not work them out for every request."""

import tensorflow as tf


def leading(x: tf.Tensor, axes: int) -> list[int | tf.Tensor]:
    """The sizes of the first `axes` axes; -1 for one that is not known until the graph runs.

    Of several that are not known none is left to be inferred, as any of them may be 0.
    """
    sizes = x.shape[:axes].as_list()
    unknown = [axis for axis, size in enumerate(sizes) if size is None]
    if len(unknown) == 1 and 0 not in x.shape.as_list():
        sizes[unknown[0]] = -1
    elif unknown:
        dynamic = tf.shape(x)
        for axis in unknown:
            sizes[axis] = dynamic[axis]
    return sizes
