"""Each model learns a toy in a few steps, the same seed gives the same bits, and the generator stays frozen."""

import numpy as np
import pytest
import tensorflow as tf

from amen_tf.config import CtrSettings, GeneratorSettings
from amen_tf.features import CANDIDATE_MASK, DIVERSITY, FLOW, LABEL, VELOCITY
from amen_tf.initialization import named_weights
from amen_tf.models.base import BaseModel
from amen_tf.models.ctr import CtrModel
from amen_tf.models.generator import Generator
from amen_tf.training import make_deterministic
from tests.amen_tf import batches


@pytest.fixture(scope="module")
def toy(ctr):
    """Clicks on items of low id and on nothing else, dropout on, and the flow at hand."""
    spec = batches.spec(dropout=0.1)
    features = batches.batch(spec, rows=24, seed=1)
    clicked = (features["candidate_item_id"] <= 25) & features[CANDIDATE_MASK]
    return spec, {**features, LABEL: tf.cast(clicked, tf.float32), **ctr.generator(features)}


def values(model):
    return {name: weight.numpy() for name, weight in named_weights(model).items()}


def train(model, features, steps, graph):
    """Trains on one batch. Returns the loss of each step and the weights after the third and the last."""
    model.compile(tf.optimizers.Adam(0.03))
    model.optimizer.build(model.trainable_variables)
    step, history, after = tf.function(model.train_step, autograph=False) if graph else model.train_step, [], {}
    for number in range(1, steps + 1):
        model.reset_metrics()
        history.append(float(step(features)["loss"]))
        if number in (3, steps):
            after[number] = values(model)
    return history, after


# Traced for one of them: tracing takes as long as all the steps of the other two.
@pytest.mark.parametrize(("name", "steps", "graph"), [("base", 12, True), ("generator", 8, False), ("ctr", 8, False)])
def test_learns_and_repeats(name, steps, graph, toy, generator_folder):
    spec, features = toy

    def make(seed):
        make_deterministic(seed)
        seeded = batches.reseeded(spec, seed)
        if name == "base":
            model = BaseModel(seeded)
        elif name == "ctr":
            model = CtrModel(seeded, CtrSettings(), generator_folder)
        else:
            settings = GeneratorSettings(sampled_negatives=5, item_dropout=0.2)
            model = Generator(seeded, settings, batches.catalogue(spec))
        model(features)
        return model

    model = make(5)
    first = values(model)
    history, after = train(model, features, steps, graph)
    assert history[-1] < 0.8 * history[0], history
    for weight in first:
        # Biases start as zeros and norms as ones; every weight has moved.
        assert (after[steps][weight] != first[weight]).any(), weight

    again = make(5)
    assert set(values(again)) == set(first)
    for weight, value in values(again).items():
        np.testing.assert_array_equal(value, first[weight])
    history_again, after_again = train(again, features, 3, graph)
    assert history_again == history[:3]
    for weight, value in after_again[3].items():
        np.testing.assert_array_equal(value, after[3][weight])

    if name == "ctr":
        # Training has moved nothing of the generator: its flow is what another model's copy gave beforehand.
        for output, value in model.generator(features).items():
            np.testing.assert_array_equal(value, features[output])
        assert {FLOW, DIVERSITY, VELOCITY} == set(model.generator(features))
        vectors = again.generator.candidate_vectors(features)
        np.testing.assert_array_equal(model.generator.candidate_vectors(features), vectors)
    else:
        constant = ("bias", "gamma", "beta", "scale", "sink_value")
        for weight, value in values(make(6)).items():
            assert weight.endswith(constant) or (value != first[weight]).any(), weight
