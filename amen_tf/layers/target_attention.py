"""Target attention: each candidate reads the moveline, with a sink for "nothing here matters"."""

import tensorflow as tf
import tf_keras as keras

# Added to masked scores; large enough to vanish in a float32 softmax, small enough not to overflow in half precision.
MASKED = -1e4


def split_heads(x: tf.Tensor, heads: int) -> tf.Tensor:
    """`[B, S, d]` -> `[B, S, H, d_head]`."""
    return tf.reshape(x, (tf.shape(x)[0], tf.shape(x)[1], heads, x.shape[-1] // heads))


def merge_heads(x: tf.Tensor) -> tf.Tensor:
    """`[B, S, H, d_head]` -> `[B, S, H * d_head]`."""
    return tf.reshape(x, (tf.shape(x)[0], tf.shape(x)[1], x.shape[-2] * x.shape[-1]))


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
            keras.layers.Dense(
                dim, use_bias=False, kernel_initializer=keras.initializers.GlorotUniform(seed=seed + i), name=name
            )
            for i, name in enumerate(("query", "key", "value", "output"))
        )

    def build(self, input_shape):
        shape = (1, 1, self.heads, self.dim // self.heads)
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
        batch = tf.shape(sequence)[0]
        query = split_heads(self.query(targets), self.heads)
        key = split_heads(self.key(sequence), self.heads)
        value = split_heads(self.value(sequence), self.heads)
        key = tf.concat([key, tf.tile(tf.cast(self.sink_key, key.dtype), (batch, 1, 1, 1))], 1)
        value = tf.concat([value, tf.tile(tf.cast(self.sink_value, value.dtype), (batch, 1, 1, 1))], 1)
        mask = mask[:, tf.newaxis, :] if mask.shape.rank == 2 else mask
        mask = tf.concat([mask, tf.ones_like(mask[:, :, :1])], -1)
        scores = tf.einsum("bnhk,blhk->bhnl", query, key) * (self.dim // self.heads) ** -0.5
        scores = tf.where(mask[:, tf.newaxis], scores, tf.cast(MASKED, scores.dtype))
        weights = tf.nn.softmax(scores)
        read = self.output_projection(merge_heads(tf.einsum("bhnl,blhk->bnhk", weights, value)))
        return (read, weights) if return_weights else read

    def get_config(self):
        return {**super().get_config(), "heads": self.heads, "dim": self.dim, "seed": self.seed}
