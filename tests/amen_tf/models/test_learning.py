"""Each model learns a toy in a few steps, and the same seed gives the same bits."""

import numpy as np
import pytest
import tensorflow as tf

from amen_tf.config import CtrSettings, GeneratorSettings
from amen_tf.features import CANDIDATE_MASK, LABEL
from amen_tf.initialization import named_weights
from amen_tf.models.base import BaseModel
from amen_tf.models.ctr import CtrModel
from amen_tf.models.generator import Generator
from amen_tf.training import make_deterministic
from tests.amen_tf import batches

STEPS = 30


@pytest.fixture(scope="module")
def toy(ctr):
    """Clicks on items of low id and on nothing else, dropout on, and the flow at hand."""
    spec = batches.spec(dropout=0.1)
    features = batches.batch(spec, rows=24, seed=1)
    clicked = (features["candidate_item_id"] <= 25) & features[CANDIDATE_MASK]
    return spec, {**features, LABEL: tf.cast(clicked, tf.float32), **ctr.generator(features)}


@pytest.fixture(scope="module", params=["base", "generator", "ctr"])
def fit(request, toy, generator_folder):
    """Returns a function seed -> the model as built, its first weights, and the loss of each step."""
    spec, features = toy

    def make(spec):
        if request.param == "base":
            return BaseModel(spec)
        if request.param == "ctr":
            return CtrModel(spec, CtrSettings(), generator_folder)
        return Generator(spec, GeneratorSettings(sampled_negatives=5, layers=2), batches.catalogue(spec))

    def run(seed, steps):
        make_deterministic(seed)
        model = make(batches.reseeded(spec, seed))
        model(features)
        first = {name: weight.numpy() for name, weight in named_weights(model).items()}
        optimizer = tf.optimizers.AdamW(0.02)
        optimizer.build(model.trainable_variables)
        model.compile(optimizer)
        step = tf.function(model.train_step, autograph=False)
        history = []
        for _ in range(steps):
            model.reset_metrics()
            history.append(float(step(features)["loss"]))
        return first, {name: weight.numpy() for name, weight in named_weights(model).items()}, history

    return run


def test_learns_and_repeats(fit):
    first, trained, history = fit(5, STEPS)
    assert history[-1] < 0.6 * history[0], history
    first_again, trained_again, history_again = fit(5, 3)
    assert history_again == history[:3]
    assert set(first) == set(first_again)
    for name, weight in first.items():
        np.testing.assert_array_equal(first_again[name], weight)
        # Norms start as ones and biases as zeros; all have moved.
        assert (trained[name] != weight).any(), name


def test_another_seed_gives_another_model(fit):
    (first, _, _), (other, _, _) = fit(5, 0), fit(6, 0)
    constant = ("bias", "gamma", "beta", "scale", "sink_value")
    for name, weight in first.items():
        assert name.endswith(constant) or (other[name] != weight).any(), name
