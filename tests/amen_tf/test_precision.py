"""Mixed precision and XLA: the same figures within what half precision holds, logits and losses in float32."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from amen_tf.config import ComputeSettings, CtrSettings, GeneratorSettings
from amen_tf.initialization import copy_by_name, named_weights
from amen_tf.models.ctr import CtrModel
from amen_tf.models.frozen_generator import export_generator
from amen_tf.models.generator import Generator
from amen_tf.models.registry import RANKERS, make_ranker
from amen_tf.precision import precision, with_loss_scaling
from amen_tf.training import Session, Watched, make_deterministic, train
from tests.amen_tf import batches
from tests.amen_tf.conftest import built
from tests.amen_tf.layers.harness import randomise

# bfloat16 has 8 significant bits, float16 has 11: about 0.4 % and 0.05 % a number, and sums of tens of them.
TOLERANCE = {"mixed_bfloat16": 0.1, "mixed_float16": 0.02}
SEED = tf.constant([5, 0], tf.int64)


def same_weights(model, other):
    weights = {name: w.numpy() for name, w in named_weights(model).items()}
    copy_by_name(weights, other, {name.split("/")[0] for name in weights})
    return other


@pytest.fixture(params=list(TOLERANCE))
def policy(request):
    return request.param


@pytest.mark.parametrize("name", [*RANKERS, "ctr"])
def test_logits_are_float32_and_close(name, policy, spec, features, generator_folder, request):
    reference = request.getfixturevalue(name)
    with precision(policy):
        model = make_ranker(name, spec) if name != "ctr" else CtrModel(spec, CtrSettings(), generator_folder)
        model(features)
    same_weights(reference, model)
    terms, logits = model.compute_losses(features, training=False)
    assert logits.dtype == tf.float32 and all(term.dtype == tf.float32 for term in terms.values())
    expected = reference(features).numpy()
    assert np.abs(logits - expected).max() <= TOLERANCE[policy] * max(1.0, np.abs(expected).max())
    # It is another computation: nothing here would be tested if the policy had not been taken up.
    assert (logits.numpy() != expected).any()
    assert all(weight.dtype == tf.float32 for weight in model.trainable_variables)


@pytest.mark.parametrize("decoder", ["autoregressive", "parallel"])
def test_contrastive_losses_are_float32_and_close(policy, decoder, spec, features, tmp_path):
    settings = GeneratorSettings(sampled_negatives=5, decoder=decoder, next_item_weight=0.5, item_dropout=0.0)
    reference = built(Generator(spec, settings, batches.catalogue(spec)), features)
    with precision(policy):
        model = Generator(spec, settings, batches.catalogue(spec))
        model(features)
        same_weights(reference, model)
        export_generator(model, tmp_path)
    terms, expected = (m.compute_losses(features, False, SEED) for m in (model, reference))
    for name, value in expected.items():
        assert terms[name].dtype == tf.float32
        if name != "accuracy":
            assert float(terms[name]) == pytest.approx(float(value), rel=5 * TOLERANCE[policy]), name
    flow = model.generate(features)
    assert flow.states.dtype == tf.float32
    np.testing.assert_allclose(flow.states, reference.generate(features).states, atol=5 * TOLERANCE[policy])


def test_policy_ends_with_the_context():
    with precision("mixed_bfloat16"):
        assert keras.mixed_precision.global_policy().name == "mixed_bfloat16"
    assert keras.mixed_precision.global_policy().name == "float32"
    with pytest.raises(ZeroDivisionError), precision("mixed_float16"):
        raise ZeroDivisionError
    assert keras.mixed_precision.global_policy().name == "float32"


def stepped(spec, features, policy="float32", xla=False):
    """Weights after two training steps from the same first weights."""
    with precision(policy):
        model = make_ranker("base", spec)
        model(features)
        optimizer = with_loss_scaling(keras.optimizers.SGD(0.1))
        model.compile(optimizer, jit_compile=xla)
    step = tf.function(model.train_step, autograph=False, jit_compile=xla)
    losses = [float(step(features)["loss"]) for _ in range(2)]
    return losses, {name: w.numpy() for name, w in named_weights(model).items()}


def test_half_precision_scales_the_loss_and_takes_the_same_steps(spec, features):
    with precision("mixed_float16"):
        assert isinstance(with_loss_scaling(keras.optimizers.SGD()), keras.mixed_precision.LossScaleOptimizer)
    assert not isinstance(with_loss_scaling(keras.optimizers.SGD()), keras.mixed_precision.LossScaleOptimizer)
    losses, weights = stepped(spec, features, "mixed_float16")
    expected_losses, expected = stepped(spec, features)
    assert losses == pytest.approx(expected_losses, rel=0.01)
    for name, value in expected.items():
        np.testing.assert_allclose(weights[name], value, atol=0.01, err_msg=name)


def test_xla_takes_the_same_steps(spec, features):
    losses, weights = stepped(spec, features, xla=True)
    expected_losses, expected = stepped(spec, features)
    assert losses == pytest.approx(expected_losses, rel=1e-5)
    for name, value in expected.items():
        np.testing.assert_allclose(weights[name], value, atol=1e-5, err_msg=name)


def test_xla_compiles_the_generators_and_the_ctr_models_losses(spec, features, ctr, generator):
    compiled = tf.function(lambda f: ctr.compute_losses(f, False)[0], autograph=False, jit_compile=True)
    for name, value in ctr.compute_losses(features, False)[0].items():
        assert float(compiled(features)[name]) == pytest.approx(float(value), rel=1e-4)
    compiled = tf.function(lambda f: generator.compute_losses(f, False, SEED), autograph=False, jit_compile=True)
    for name, value in generator.compute_losses(features, False, SEED).items():
        assert float(compiled(features)[name]) == pytest.approx(float(value), rel=1e-4), name


EPOCHS = 6


def trained(name, compute, spec, features, generator_folder, tmp_path):
    """Losses of six steps of `train`, from the same first weights."""
    with precision(compute.precision):
        make_deterministic(spec.seed)
        options = {"epochs": EPOCHS, "patience": 9, "learning_rate": 0.01}
        if name == "generator":
            settings = GeneratorSettings(sampled_negatives=5, **options)
            model, watched = Generator(spec, settings, batches.catalogue(spec)), Watched("info_nce", False)
            model.compute_losses(features, False, SEED)
        else:
            settings = CtrSettings(tsp_weight=0.3, flow_similarity=True, **options)
            model, watched = CtrModel(spec, settings, generator_folder), Watched("auc", True)
        model(features)
        randomise(model, size=0.2)
        data = tf.data.Dataset.from_tensors(features)
        return train(model, settings, data, data, watched, Session(tmp_path, lambda progress: None, compute), 1)


@pytest.fixture(scope="module")
def in_float32(spec, features, generator_folder, tmp_path_factory):
    """Losses on eval in single precision, without XLA."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("generator", "ctr")}
    plain = ComputeSettings()
    return {name: trained(name, plain, spec, features, generator_folder, f)["val_loss"] for name, f in folders.items()}


@pytest.mark.parametrize("name", ["generator", "ctr"])
@pytest.mark.parametrize("compute", [{"xla": True}, {"precision": "mixed_bfloat16"}, {"precision": "mixed_float16"}])
def test_training_takes_the_same_steps(name, compute, spec, features, generator_folder, in_float32, tmp_path):
    compute, expected = ComputeSettings(**compute), in_float32[name]
    history = trained(name, compute, spec, features, generator_folder, tmp_path)["val_loss"]
    tolerance = 1e-3 if compute.xla else 0.02
    assert expected[-1] < 0.9 * expected[0]
    if compute.precision != "mixed_float16":
        assert history == pytest.approx(expected, rel=tolerance)
        return
    # A step whose scaled gradients overflow is left out and the scale halved: training is up to two steps behind.
    assert sorted(history, reverse=True) == history
    assert expected[-1] * (1 - tolerance) <= history[-1] <= expected[-3] * (1 + tolerance)
