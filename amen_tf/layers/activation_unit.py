"""DIN's local activation unit: a weight for every pair of candidate and event, not normalised to 1."""

import tensorflow as tf
import tf_keras as keras

from amen_tf.layers.dense import Dense


class ActivationUnit(keras.layers.Layer):
    """Deep Interest Network (Zhou et al. 2018, Eq. 3 and Figure 2): h_user = Σ_j a(e_j, e_target) e_j.

    a() is an MLP over [e_j, e_target, e_target - e_j, e_target * e_j]. There is no softmax over the events: the sum
    keeps the intensity of the interest. Reading: one hidden layer with PReLU; the paper's Dice normalises by the batch,
    which would make a score depend on what else is asked.

    The first layer of the MLP is the sum of one product for each of its four inputs, and those with e_j in them are one
    product with a kernel of the target's own, so nothing of the shape `[B, N, L, 4d]` is ever made. The second layer
    reads PReLU (He et al. 2015) as two products, w·prelu(x) = (s w)·x + ((1 - s) w)·relu(x) with s the slopes, so that
    of its activations none but relu's is kept.

    Args:
      dim: d.
      units: width of the hidden layer.
      seed: seed of the first kernel.
    """

    def __init__(self, dim: int, units: int, seed: int, **kwargs):
        super().__init__(**kwargs)
        self.dim, self.units, self.seed = dim, units, seed

        def dense(units, i, name, **options):
            return Dense(
                units, kernel_initializer=keras.initializers.GlorotUniform(seed=seed + i), name=name, **options
            )

        self.event, self.target = dense(units, 0, "event"), dense(units, 1, "target", use_bias=False)
        self.weight = dense(1, 2, "weight")

    def build(self, input_shape):
        initializer = keras.initializers.GlorotUniform(seed=self.seed + 3)
        self.event.build((None, self.dim))
        self.weight.build((None, self.units))
        self.product = self.add_weight(name="product", shape=(self.dim, self.units), initializer=initializer)
        slope = keras.initializers.Constant(0.25)
        self.slope = self.add_weight(name="slope", shape=(self.units,), initializer=slope)
        super().build(input_shape)

    def call(self, targets, events, mask, return_weights: bool = False):
        """Sums the events once for each target.

        Args:
          targets: `[B, N, d]` float32.
          events: `[B, L, d]` float32.
          mask: `[B, L]` bool, True = may be read.
          return_weights: also return the weights.

        Returns:
          `[B, N, d]` float32, zero for an empty moveline; with `return_weights` also `[B, N, L]`.
        """
        product, slope, event, event_bias, weight, weight_bias = (
            tf.cast(w, targets.dtype) for w in (self.product, self.slope, *self.event.weights, *self.weight.weights)
        )
        # e_target - e_j gives no columns of its own: its product is part of those of e_target and of e_j.
        by_target = tf.expand_dims(targets, -1) * product + event
        # expand_dims, because the gradient of a slice is copied into zeros of its full size.
        x = tf.matmul(tf.expand_dims(events, 1), by_target) + tf.expand_dims(self.target(targets) + event_bias, 2)
        weight = tf.squeeze(weight, -1)
        weights = tf.tensordot(x, slope * weight, 1) + tf.tensordot(tf.nn.relu(x), (1 - slope) * weight, 1)
        weights = (weights + weight_bias) * tf.expand_dims(tf.cast(mask, x.dtype), 1)
        read = tf.matmul(weights, events)
        return (read, weights) if return_weights else read

    def get_config(self):
        return {**super().get_config(), "dim": self.dim, "units": self.units, "seed": self.seed}
