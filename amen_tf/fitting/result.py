"""What a training comes to."""

from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf
import tf_keras as keras

from amen_tf.initialization import CopyReport


class Fitted(NamedTuple):
    """A trained model.

    Attributes:
      model: with the weights that were best on eval: of an epoch or, of a warm start, those that it began with.
      history: figure -> value of every epoch; see `amen_tf.training.train`.
      train_data: what it learned from, one shuffled pass.
      copied: what its weights were initialised from; None where they were not.
      figures: of the generator: ranks, cosines, leak; empty for others.
    """

    model: keras.Model
    history: dict[str, list[float]]
    train_data: tf.data.Dataset
    copied: CopyReport | None = None
    figures: Mapping[str, float] = {}
