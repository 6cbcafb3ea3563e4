"""AMEN, the two-stage click-through-rate model of "Next Interest Flow", on TensorFlow and Keras 2.

Importing the package checks the environment and makes `tf.keras` Keras 2; it does not import TensorFlow, so that what
only reads settings starts at once.
"""

from amen_tf import environment

environment.use_keras_2()
environment.check()
