"""The decoder of the generator G_φ: a causal Transformer whose last layer yields raw attention heads (Eq. 2)."""

import tensorflow as tf
import tf_keras as keras

from amen_tf.layers.attention import attend, merge_heads, split_heads
from amen_tf.layers.dense import Dense
from amen_tf.layers.shapes import leading

READOUTS = ("heads", "event_heads", "projection", "ffn")

# Keys and values of one layer: two tensors `[B, H, S, d_head]`.
Cache = tuple[tf.Tensor, tf.Tensor]


class CausalAttention(keras.layers.Layer):
    """Multi-head self-attention that hands out its heads before any output projection.

    Args:
      heads: H.
      dim: d, a multiple of H.
      seed: seed of the first kernel.
    """

    def __init__(self, heads: int, dim: int, seed: int, **kwargs):
        super().__init__(**kwargs)
        self.heads, self.dim, self.seed = heads, dim, seed
        self.query, self.key, self.value = (
            Dense(dim, use_bias=False, kernel_initializer=keras.initializers.GlorotUniform(seed=seed + i), name=name)
            for i, name in enumerate(("query", "key", "value"))
        )

    def call(self, x, mask, cache: Cache | None = None, values: tf.Tensor | None = None):
        """Attends from the new positions `x` to everything cached and to themselves.

        Args:
          x: `[B, S, d]` float32, the new positions.
          mask: `[B, S, P + S]` bool, what each new position may read of the P cached and S new ones.
          cache: keys and values of P earlier positions.
          values: `[B, S, d]`, what is read at the new positions; a learned projection of `x` if not given.

        Returns:
          heads `[B, H, S, d_head]` and the cache with the new positions appended.
        """
        query = split_heads(self.query(x), self.heads)
        key = split_heads(self.key(x), self.heads)
        value = split_heads(self.value(x) if values is None else tf.cast(values, key.dtype), self.heads)
        if cache is not None:
            key, value = tf.concat([cache[0], key], 2), tf.concat([cache[1], value], 2)
        return attend(query, key, value, mask)[0], (key, value)


class DecoderBlock(keras.layers.Layer):
    """A pre-norm Transformer block: causal attention and a feed-forward layer, each with a residual."""

    def __init__(self, heads: int, dim: int, dropout: float, seed: int, **kwargs):
        super().__init__(**kwargs)
        self.norm_attention = keras.layers.LayerNormalization(epsilon=1e-6, name="norm_attention")
        self.norm_feed_forward = keras.layers.LayerNormalization(epsilon=1e-6, name="norm_feed_forward")
        self.attention = CausalAttention(heads, dim, seed, name="attention")
        self.output_projection = Dense(
            dim, kernel_initializer=keras.initializers.GlorotUniform(seed=seed + 3), name="output"
        )
        self.expand = Dense(
            4 * dim, "gelu", kernel_initializer=keras.initializers.GlorotUniform(seed=seed + 4), name="expand"
        )
        self.contract = Dense(dim, kernel_initializer=keras.initializers.GlorotUniform(seed=seed + 5), name="contract")
        self.drop_attention = keras.layers.Dropout(dropout, seed=seed + 6)
        self.drop_feed_forward = keras.layers.Dropout(dropout, seed=seed + 7)

    def call(self, x, mask, cache: Cache | None = None, training=None):
        """x `[B, S, d]` -> `[B, S, d]` and the cache; arguments as in `CausalAttention.call`."""
        heads, cache = self.attention(self.norm_attention(x), mask, cache)
        x += self.drop_attention(self.output_projection(merge_heads(heads)), training=training)
        fed = self.contract(self.expand(self.norm_feed_forward(x)))
        return x + self.drop_feed_forward(fed, training=training), cache


class InterestFlowDecoder(keras.layers.Layer):
    """Token vectors to flow states: `layers - 1` full blocks, then a last layer that is read out as H heads.

    Eq. (2): f̂_t = Concat(h_1, ..., h_H). Four readings of "the output of each head":

    - `heads`: the raw outputs of the last layer's attention, with no output projection, residual or feed-forward after
      them. This is Eq. (2) as it is written, and the default. What its heads read is given (`values`) and not
      projected: a state is a mean of vectors out of the very space that it is compared in, and what two items have in
      common need not be learned through a matrix that turns one space into the other.
    - `event_heads`: the same, but the heads read a learned projection of the events, as attention layers mostly do.
    - `projection`: an output projection mixes the heads; h_i is the i-th of H equal parts of its result.
    - `ffn`: the last layer is a whole block with residuals and a feed-forward layer, and a norm; h_i as above.

    The concatenation is then scaled to unit length, so that the similarity of Eq. (1) is a cosine over τ; without it
    the velocity term (Eq. 5) could be made to vanish by shrinking the flow.

    Args:
      layers: number of attention layers, the last one included.
      heads: H.
      dim: d.
      dropout: rate inside the blocks, in training only.
      seed: seed of the first kernel.
      readout: `heads`, `event_heads`, `projection` or `ffn`.
    """

    def __init__(self, layers: int, heads: int, dim: int, dropout: float, seed: int, readout: str = "heads", **kwargs):
        super().__init__(**kwargs)
        if readout not in READOUTS:
            raise ValueError(
                f"InterestFlowDecoder: expected readout to be one of {', '.join(READOUTS)}, got {readout!r}."
            )
        self.layers, self.heads, self.dim, self.dropout, self.seed = layers, heads, dim, dropout, seed
        self.readout = readout
        whole = layers if readout == "ffn" else layers - 1
        self.blocks = [DecoderBlock(heads, dim, dropout, seed + 10 * i, name=f"block_{i}") for i in range(whole)]
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6, name="norm")
        if readout != "ffn":
            self.last = CausalAttention(heads, dim, seed + 10 * layers, name="last")
        if readout == "projection":
            initializer = keras.initializers.GlorotUniform(seed=seed + 10 * layers + 3)
            self.projection = Dense(dim, kernel_initializer=initializer, name="projection")

    def call(self, x, mask, caches: list[Cache] | None = None, training=None, values: tf.Tensor | None = None):
        """Decodes new positions.

        Args:
          x: `[B, S, d]` float32, token vectors of the new positions.
          mask: `[B, S, P + S]` bool, what each new position may read.
          caches: one cache per layer from the earlier call, for P positions.
          training: whether dropout is on.
          values: `[B, S, d]`, of which the heads give means, the i-th of the i-th of H equal parts; `x` if not given.
            The other read-outs make their own.

        Returns:
          states `[B, S, H, d_head]` float32 with unit length over their last two axes, and the caches.
        """
        caches = list(caches) if caches else [None] * self.layers
        values = (x if values is None else values) if self.readout == "heads" else None
        kept = []
        for i, block in enumerate(self.blocks):
            x, cache = block(x, mask, caches[i], training=training)
            kept.append(cache)
        x = self.norm(x)
        if self.readout != "ffn":
            heads, cache = self.last(x, mask, caches[-1], values)
            kept.append(cache)
            x = merge_heads(heads)
        if self.readout == "projection":
            x = self.projection(x)
        states = tf.cast(tf.reshape(x, [*leading(x, 2), self.heads, self.dim // self.heads]), tf.float32)
        return tf.nn.l2_normalize(states, axis=(-2, -1), epsilon=1e-12), kept

    def get_config(self):
        config = {"layers": self.layers, "heads": self.heads, "dim": self.dim, "dropout": self.dropout}
        return {**super().get_config(), **config, "seed": self.seed, "readout": self.readout}


def causal_mask(real: tf.Tensor) -> tf.Tensor:
    """`[B, S]` bool, True = real -> `[B, S, S]` bool: each position reads itself and the real ones before it.

    A padded position reads itself, so that no softmax is over nothing; no real position reads it.
    """
    size = tf.shape(real)[1]
    earlier = tf.range(size)[:, tf.newaxis] >= tf.range(size)[tf.newaxis, :]
    itself = tf.eye(size, dtype=tf.bool)
    return (earlier[tf.newaxis] & real[:, tf.newaxis, :]) | itself[tf.newaxis]


def parallel_mask(real: tf.Tensor, slots: int) -> tf.Tensor:
    """The mask of a moveline followed by `slots` tokens that read the moveline and themselves, but not one another.

    Args:
      real: `[B, L]` bool, True = real event.
      slots: T.

    Returns:
      `[B, L + T, L + T]` bool.
    """
    every = tf.pad(real, ((0, 0), (0, slots)), constant_values=True)
    length = tf.shape(real)[1]
    slot = tf.range(length + slots) >= length
    itself = tf.eye(length + slots, dtype=tf.bool)
    return causal_mask(every) & (itself | ~slot[tf.newaxis, :])[tf.newaxis]
