"""The TFX pipeline: one module per stage, from the event log to the pushed model."""

# First of all imports: it makes `tf.keras` Keras 2, which has to happen before TensorFlow is loaded.
import amen_tf  # noqa: F401
