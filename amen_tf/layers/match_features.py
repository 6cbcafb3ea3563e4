"""Match features: has the user touched this item or category, how often, how long ago."""

from collections.abc import Mapping

import tensorflow as tf
import tf_keras as keras

from amen_tf.features import AGE, AGE_BUCKETS, ITEM_ID
from amen_tf.layers.embedding import same_events, side_by_side


class MatchFeatures(keras.layers.Layer):
    """Four numbers per field that target and events share: touched, log count, recency by age, recency by order.

    Args:
      fields: the fields compared, e.g. `("item_id", "category_id")`; without any there are no features.
    """

    def __init__(self, fields: tuple[str, ...], **kwargs):
        super().__init__(**kwargs)
        self.fields = tuple(fields)

    def call(self, targets: Mapping[str, tf.Tensor], events: Mapping[str, tf.Tensor]):
        """targets: field -> `[B, N]`, events: field -> `[B, L]` -> `[B, N, 4 * fields]` float32 in [0, log(1 + L)]."""
        if not self.fields:
            # A tensor of width 0, so that callers need not ask.
            return tf.zeros((*tf.unstack(tf.shape(targets[ITEM_ID])), 0))
        age = tf.cast(events[AGE], tf.float32) / AGE_BUCKETS
        length = tf.shape(age)[1]
        newest_first = 1.0 / tf.cast(length - tf.range(length), tf.float32)
        hit = tf.cast(same_events(targets, events, self.fields), tf.float32)
        count = tf.reduce_sum(hit, -1)
        features = [
            tf.minimum(count, 1.0),
            tf.math.log1p(count),
            tf.reduce_max(hit * (1.0 - age)[:, tf.newaxis, :], -1),
            tf.reduce_max(hit * newest_first, -1),
        ]
        return side_by_side(tf.stack(features, -1), self.fields)

    def get_config(self):
        return {**super().get_config(), "fields": self.fields}
