"""A dense layer over the last axis of tensors of any rank, as one matrix product."""

import tensorflow as tf
import tf_keras as keras

from amen_tf.layers.shapes import leading


class Dense(keras.layers.Dense):
    """`keras.layers.Dense`, with all leading axes as the rows of one matrix.

    Keras contracts tensors of rank 3 with `tf.tensordot`: a dozen small ops a layer, a transposition among them, that
    keep TensorFlow from fusing the product with its bias and activation. For one user these took longer than the
    products themselves.
    """

    def call(self, inputs):
        """`[..., k]` -> `[..., units]`."""
        if inputs.shape.rank == 2:
            return super().call(inputs)
        rows = super().call(tf.reshape(inputs, (-1, inputs.shape[-1])))
        return tf.reshape(rows, [*leading(inputs, inputs.shape.rank - 1), self.units])
