"""The merge MLP: per-candidate and per-request inputs to one logit per candidate."""

import tensorflow as tf
import tf_keras as keras

from amen_tf.layers.dense import Dense


class MergeMLP(keras.layers.Layer):
    """An MLP over the concatenation of candidate and request inputs, with the request part computed once.

    The first layer of an MLP over `concat(candidate, request)` is the sum of one product for each part; computing
    the request's `[B, .]` product once and broadcasting it over N candidates gives the same numbers at N times less.

    Args:
      hidden_units: widths of the hidden layers.
      dropout: rate after each hidden layer, in training only.
      seed: seed of the first kernel; kernels and dropout count on from it.
    """

    def __init__(self, hidden_units: tuple[int, ...], dropout: float, seed: int, **kwargs):
        super().__init__(**kwargs)
        self.hidden_units, self.dropout, self.seed = tuple(hidden_units), dropout, seed

        def dense(units, i, name, **options):
            return Dense(
                units, kernel_initializer=keras.initializers.GlorotUniform(seed=seed + i), name=name, **options
            )

        self.candidate_input = dense(hidden_units[0], 0, "candidate_input")
        self.request_input = dense(hidden_units[0], 1, "request_input", use_bias=False)
        self.hidden = [dense(units, 2 + i, f"hidden_{i + 1}") for i, units in enumerate(hidden_units[1:])]
        self.logit = dense(1, 2 + len(self.hidden), "logit", dtype=tf.float32)
        self.dropouts = [
            keras.layers.Dropout(dropout, seed=seed + 100 + i, name=f"dropout_{i}") for i in range(len(hidden_units))
        ]

    def call(self, candidate, request, training=None):
        """candidate `[B, N, a]`, request `[B, b]` -> logits `[B, N]` float32."""
        x = self.candidate_input(candidate) + self.request_input(request)[:, tf.newaxis, :]
        x = self.dropouts[0](tf.nn.relu(x), training=training)
        for layer, dropout in zip(self.hidden, self.dropouts[1:], strict=True):
            x = dropout(tf.nn.relu(layer(x)), training=training)
        return self.logit(x)[..., 0]

    def get_config(self):
        config = {"hidden_units": self.hidden_units, "dropout": self.dropout, "seed": self.seed}
        return {**super().get_config(), **config}
