"""CalibrationNet of the Temporal Sequential Pairwise task: a score for an item given a prefix of the moveline."""

import tensorflow as tf
import tf_keras as keras

from amen_tf.layers.dense import Dense
from amen_tf.layers.target_attention import TargetAttention


class CalibrationNet(keras.layers.Layer):
    """c = CalibrationNet(e_t, M_<t), a scalar for each target (used in Eq. 8 and 9).

    Reading: the paper gives inputs and output but no architecture. Here the target reads its prefix of the moveline
    through target attention of its own; an MLP scores the reading, the target and their product. Because
    M_<t1 is a prefix of M_<t0, the moveline is encoded once for candidates and diff samples, which differ by mask. Ages
    and positions of the events are those seen from t0 for both.

    Args:
      heads: H.
      dim: d.
      units: width of the hidden layer.
      seed: seed of the first kernel.
    """

    def __init__(self, heads: int, dim: int, units: int, seed: int, **kwargs):
        super().__init__(**kwargs)
        self.heads, self.dim, self.units, self.seed = heads, dim, units, seed
        self.attention = TargetAttention(heads, dim, seed, name="attention")
        self.hidden = Dense(
            units, "relu", kernel_initializer=keras.initializers.GlorotUniform(seed=seed + 10), name="hidden"
        )
        # c starts at 0: it joins a logit that may come trained from the base.
        self.score = Dense(1, kernel_initializer="zeros", name="score", dtype=tf.float32)

    def call(self, targets, events, mask):
        """targets `[B, N, d]`, events `[B, L, d]`, mask `[B, N, L]` or `[B, L]` bool -> c `[B, N]` float32."""
        read = self.attention(targets, events, mask)
        return self.score(self.hidden(tf.concat([read, targets, read * targets], -1)))[..., 0]

    def get_config(self):
        config = {"heads": self.heads, "dim": self.dim, "units": self.units, "seed": self.seed}
        return {**super().get_config(), **config}


def prefix_mask(mask: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """The first `lengths` real events of each left-padded moveline.

    Args:
      mask: `[B, L]` bool, True = real; the padding is on the left.
      lengths: `[B, K]` int, K prefix lengths a row.

    Returns:
      `[B, K, L]` bool.
    """
    order = tf.cumsum(tf.cast(mask, lengths.dtype), axis=1)
    return mask[:, tf.newaxis, :] & (order[:, tf.newaxis, :] <= lengths[:, :, tf.newaxis])
