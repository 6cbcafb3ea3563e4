"""Curated schemas of the raw examples, and the loader that completes them with a run's declared features."""

# First of all imports: it makes `tf.keras` Keras 2, which has to happen before TensorFlow is loaded.
import amen_tf  # noqa: F401
