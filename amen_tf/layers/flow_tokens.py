"""What the generator's decoder reads behind the moveline, and what its heads read of items."""

import tensorflow as tf
import tf_keras as keras


class FlowTokens(keras.layers.Layer):
    """The decoder's tokens after the moveline: the start token, then one per fed-back state.

    A fed-back vector has unit length; a learned scale brings it to the size of the event embeddings, and a learned
    vector per step says how far ahead it lies.

    Args:
      length: T.
      dim: d.
      std: standard deviation of the initialiser.
      seed: of the initialiser.
    """

    def __init__(self, length: int, dim: int, std: float, seed: int, **kwargs):
        super().__init__(**kwargs)
        self.length, self.dim, self.std, self.seed = length, dim, std, seed

    def build(self, input_shape):
        initializer = keras.initializers.RandomNormal(stddev=self.std, seed=self.seed)
        self.step = self.add_weight(name="step", shape=(self.length, self.dim), initializer=initializer)
        scale = keras.initializers.Constant(self.std * self.dim**0.5)
        self.scale = self.add_weight(name="scale", shape=(), initializer=scale)
        super().build(input_shape)

    def call(self, vectors):
        """vectors of steps t0 ... t0+K-2 `[B, K-1, d]` (K may be 1) -> tokens of t0 ... t0+K-1 `[B, K, d]`."""
        start = (
            tf.zeros_like(vectors[:, :1])
            if vectors.shape[1]
            else tf.zeros((tf.shape(vectors)[0], 1, self.dim), vectors.dtype)
        )
        fed = tf.concat([start, vectors * self.scale], 1)
        return fed + self.step[: fed.shape[1]]

    def next(self, state, step: int):
        """The token that follows state f̂ `[B, 1, d]`, `step` steps after t0."""
        return state * tf.cast(self.scale, state.dtype) + tf.cast(self.step[step], state.dtype)


class FlowValues(keras.layers.Layer):
    """What the decoder's heads read: items' unit vectors, and a learned one where there is no item.

    There is none at the start token and at events such as a search.

    Args:
      std: standard deviation of the initialiser.
      seed: of the initialiser.
    """

    def __init__(self, std: float, seed: int, **kwargs):
        super().__init__(**kwargs)
        self.std, self.seed = std, seed

    def build(self, input_shape):
        initializer = keras.initializers.RandomNormal(stddev=self.std, seed=self.seed)
        self.nothing = self.add_weight(name="nothing", shape=(input_shape[-1],), initializer=initializer)
        super().build(input_shape)

    def call(self, vectors):
        """Unit vectors of items `[B, S, d]`, zero where there is none -> unit vectors `[B, S, d]` float32."""
        nothing = tf.nn.l2_normalize(tf.cast(self.nothing, tf.float32), -1)
        return tf.where(tf.reduce_any(vectors != 0.0, -1, keepdims=True), tf.cast(vectors, tf.float32), nothing)
