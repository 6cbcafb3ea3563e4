"""The optimizer of all trainers: AdamW whose cost per step does not grow with the vocabulary."""

import tensorflow as tf
import tf_keras as keras


class LazyAdamW(keras.optimizers.AdamW):
    """AdamW that touches only those rows of an embedding table that the batch has read.

    Keras' own updates moments and weights of every row in every step, so that a step takes longer the more items there
    are, and items go on moving by momentum in batches that do not have them. Here rows rest while they are not read:
    their moments and their decay wait for the next batch that has them. Weights that are no tables are updated as by
    Keras (decoupled decay, Loshchilov and Hutter 2019).

    Args:
      As `tf_keras.optimizers.AdamW`; `amsgrad` is not supported.
    """

    def __init__(self, *args, **kwargs):
        # Keras would have XLA compile the updates of every number of rows anew where there is a GPU.
        super().__init__(*args, **{"jit_compile": False, **kwargs})
        if self.amsgrad:
            raise ValueError("LazyAdamW: expected amsgrad=False, got True.")
        self._tables: set[str] = set()

    def apply_gradients(self, grads_and_vars, *args, **kwargs):
        """See Keras; notes which variables have gradients by rows, because decay treats those apart."""
        pairs = list(grads_and_vars)
        # By key, which a variable shares with its copies on the devices that train together.
        self._tables |= {self._var_key(v) for gradient, v in pairs if isinstance(gradient, tf.IndexedSlices)}
        return super().apply_gradients(pairs, *args, **kwargs)

    def _use_weight_decay(self, variable):
        return self._var_key(variable) not in self._tables and super()._use_weight_decay(variable)

    def update_step(self, gradient, variable):
        """One update of one variable; a gradient by rows must have every row once, as Keras sees to."""
        if not isinstance(gradient, tf.IndexedSlices):
            super().update_step(gradient, variable)
            return
        place = self._index_dict[self._var_key(variable)]
        moments, squares, rows = self._momentums[place], self._velocities[place], gradient.indices
        step, rate = tf.cast(self.iterations + 1, variable.dtype), tf.cast(self.learning_rate, variable.dtype)
        beta_1, beta_2 = tf.cast(self.beta_1, variable.dtype), tf.cast(self.beta_2, variable.dtype)
        corrected = rate * tf.sqrt(1 - tf.pow(beta_2, step)) / (1 - tf.pow(beta_1, step))
        moment = beta_1 * tf.gather(moments, rows) + (1 - beta_1) * gradient.values
        square = beta_2 * tf.gather(squares, rows) + (1 - beta_2) * tf.square(gradient.values)
        change = -corrected * moment / (tf.sqrt(square) + self.epsilon)
        if self.weight_decay:
            change -= rate * self.weight_decay * tf.gather(variable, rows)
        moments.scatter_update(tf.IndexedSlices(moment, rows))
        squares.scatter_update(tf.IndexedSlices(square, rows))
        variable.scatter_add(tf.IndexedSlices(change, rows))
