"""Matched events: what the user did with this very item or category, by exact match of ids."""

from collections.abc import Mapping

import tensorflow as tf
import tf_keras as keras

from amen_tf.features import AGE, AGE_BUCKETS, BEHAVIOR
from amen_tf.layers.embedding import IdEmbedding, same_events, side_by_side


class MatchedEvents(keras.layers.Layer):
    """The mean of (behaviour, age) vectors over the events that share a field's id with the target.

    The hard search of SIM (Qi et al. 2020) for every field: soft attention has to learn that an equal id means the same
    item, and does so item by item; here it is given.

    Args:
      fields: the fields compared, e.g. `("item_id", "category_id")`.
      behaviors: number of behaviour ids.
      dim: width k of the vectors.
      std: standard deviation of the initialiser.
      seed: seed of the first table.
    """

    def __init__(self, fields: tuple[str, ...], behaviors: int, dim: int, std: float, seed: int, **kwargs):
        super().__init__(**kwargs)
        self.fields, self.behaviors, self.dim, self.std, self.seed = tuple(fields), behaviors, dim, std, seed
        self.behavior = IdEmbedding(behaviors, dim, std, seed, name=BEHAVIOR)
        self.age = IdEmbedding(AGE_BUCKETS + 1, dim, std, seed + 1, name=AGE)

    def call(self, targets: Mapping[str, tf.Tensor], events: Mapping[str, tf.Tensor]):
        """targets: field -> `[B, N]`, events: field -> `[B, L]` -> `[B, N, k * fields]`, zero where nothing matches."""
        vectors = self.behavior(events[BEHAVIOR]) + self.age(events[AGE])
        same = same_events(targets, events, self.fields)
        # One product for all fields; its last column counts.
        counted = tf.concat([vectors, tf.ones_like(vectors[..., :1])], -1)
        sums = tf.matmul(tf.cast(same, vectors.dtype), counted)
        means = tf.math.divide_no_nan(sums[..., :-1], sums[..., -1:])
        return side_by_side(means, self.fields)

    def get_config(self):
        config = {"fields": self.fields, "behaviors": self.behaviors, "dim": self.dim, "std": self.std}
        return {**super().get_config(), **config, "seed": self.seed}
