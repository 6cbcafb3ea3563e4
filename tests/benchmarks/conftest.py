"""As for the models: graphs run a few times here, and optimising each would take most of the time."""

import pytest
import tensorflow as tf


@pytest.fixture(scope="package", autouse=True)
def unoptimised_graphs():
    """Turns TensorFlow's graph optimizer off."""
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    yield
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})
