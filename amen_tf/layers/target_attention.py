"""Target attention: each candidate reads the moveline, with a sink for "nothing here matters"."""

import tensorflow as tf
import tf_keras as keras

from amen_tf.layers.attention import attend, merge_heads, split_heads
from amen_tf.layers.dense import Dense


class TargetAttention(keras.layers.Layer):
    """Multi-head scaled dot-product attention with a learned, always-present sink.

    The sink is one more key and value per head. It lets a candidate attend to nothing, and it keeps the softmax
    of an empty moveline well defined: such a user reads the sink alone, never the padding.

    Args:
      heads: H.
      dim: d, a multiple of H.
      seed: seed of the first kernel.
    """

    def __init__(self, heads: int, dim: int, seed: int, **kwargs):
        super().__init__(**kwargs)
        self.heads, self.dim, self.seed = heads, dim, seed
        self.query, self.key, self.value, self.output_projection = (
            Dense(dim, use_bias=False, kernel_initializer=keras.initializers.GlorotUniform(seed=seed + i), name=name)
            for i, name in enumerate(("query", "key", "value", "output"))
        )

    def build(self, input_shape):
        shape = (1, self.heads, 1, self.dim // self.heads)
        initializer = keras.initializers.RandomNormal(stddev=0.02, seed=self.seed + 4)
        self.sink_key = self.add_weight(name="sink_key", shape=shape, initializer=initializer)
        self.sink_value = self.add_weight(name="sink_value", shape=shape, initializer="zeros")
        super().build(input_shape)

    def call(self, targets, sequence, mask, return_weights: bool = False):
        """Reads `sequence` once for each target.

        Args:
          targets: `[B, N, d]` float32, the queries.
          sequence: `[B, L, d]` float32, keys and values.
          mask: `[B, L]` or `[B, N, L]` bool, True = may be read; the second form gives each target a prefix.
          return_weights: also return the attention.

        Returns:
          `[B, N, d]` float32; with `return_weights` also `[B, H, N, L + 1]`, the sink last.
        """
        query = split_heads(self.query(targets), self.heads)
        key = split_heads(self.key(sequence), self.heads)
        value = split_heads(self.value(sequence), self.heads)
        # The sink is one more event that every target may read.
        rows = tf.shape(key)[0]
        key = tf.concat([key, tf.repeat(tf.cast(self.sink_key, key.dtype), rows, 0)], 2)
        value = tf.concat([value, tf.repeat(tf.cast(self.sink_value, value.dtype), rows, 0)], 2)
        mask = mask[:, tf.newaxis, :] if mask.shape.rank == 2 else mask
        mask = tf.pad(mask, ((0, 0), (0, 0), (0, 1)), constant_values=True)
        read, weights = attend(query, key, value, mask)
        read = self.output_projection(merge_heads(read))
        return (read, weights) if return_weights else read

    def get_config(self):
        return {**super().get_config(), "heads": self.heads, "dim": self.dim, "seed": self.seed}
