"""Mixed precision: which dtype layers compute in, and loss scaling where half precision needs it."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf
import tf_keras as keras


@contextlib.contextmanager
def precision(policy: str) -> Iterator[None]:
    """Layers made inside compute by this Keras policy: `float32`, `mixed_bfloat16` or `mixed_float16`.

    Variables, logits and losses are float32 under every policy.
    """
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


def with_loss_scaling(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """The optimizer, wrapped where the policy in force is `mixed_float16`, whose small gradients would vanish."""
    if keras.mixed_precision.global_policy().name != "mixed_float16":
        return optimizer
    return keras.mixed_precision.LossScaleOptimizer(optimizer)


def descend(model: keras.Model, tape: tf.GradientTape, loss: tf.Tensor) -> None:
    """One step of the model's optimizer down the gradient of a scalar `loss`, scaled where the optimizer scales."""
    optimizer, scales = model.optimizer, isinstance(model.optimizer, keras.mixed_precision.LossScaleOptimizer)
    with tape:
        scaled = optimizer.get_scaled_loss(loss) if scales else loss
    gradients = tape.gradient(scaled, model.trainable_variables)
    gradients = optimizer.get_unscaled_gradients(gradients) if scales else gradients
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
