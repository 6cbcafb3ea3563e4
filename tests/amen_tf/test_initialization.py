"""Weights by name: every weight once, the same names in every instance, and what a copy reports."""

import numpy as np
import pytest
import tensorflow as tf

from amen_tf.config import CtrSettings, GeneratorSettings
from amen_tf.fitting.ctr import CTR_GROWN, initialise
from amen_tf.initialization import copy_by_name, load_weights, named_weights, save_weights
from amen_tf.models.base import BaseModel
from amen_tf.models.ctr import CtrModel
from amen_tf.models.generator import Generator
from amen_tf.models.registry import RANKERS, make_ranker
from tests.amen_tf import batches
from tests.amen_tf.layers.harness import randomise


def values(model):
    return {name: weight.numpy() for name, weight in named_weights(model).items()}


@pytest.mark.parametrize("name", ["base", "generator", "ctr"])
def test_every_trainable_weight_has_one_name(request, name):
    model = request.getfixturevalue(name)
    weights = named_weights(model)
    assert len(weights) == len(model.trainable_variables) > 10
    assert {id(weight) for weight in weights.values()} == {id(weight) for weight in model.trainable_variables}


def test_names_are_paths_of_attributes(base):
    # Keras' own names carry counters that depend on what was built before.
    names = set(named_weights(base))
    assert {
        "encoder/items/tables/item_id/table",
        "encoder/events/position",
        "attention/sink_key",
        "candidate_side/tables/candidate_price/table",
        "merge/candidate_input/kernel",
        "merge/hidden/0/bias",
    } <= names


def test_names_are_the_same_in_another_instance(spec, features, base, generator):
    another = BaseModel(spec, name="another")
    another(features)
    assert list(named_weights(another)) == list(named_weights(base))
    other = Generator(spec, GeneratorSettings())
    other(features)
    assert set(named_weights(other)) == set(named_weights(generator))


def test_names_do_not_change_when_the_model_is_compiled(spec, features, base):
    model = BaseModel(spec)
    model(features)
    model.compile("adam")
    model.optimizer.build(model.trainable_variables)
    assert set(named_weights(model)) == set(named_weights(base))


def test_a_shared_layer_has_one_name_under_its_shortest_path(base):
    # The event embedding holds the item embedding too.
    assert base.encoder.events.items is base.encoder.items
    assert not any(name.startswith("encoder/events/items") for name in named_weights(base))


def test_saved_weights_come_back_by_name(base, tmp_path):
    save_weights(base, tmp_path / "weights.npz")
    loaded = load_weights(tmp_path / "weights.npz")
    assert set(loaded) == set(named_weights(base))
    for name, value in values(base).items():
        np.testing.assert_array_equal(loaded[name], value)


def test_generator_takes_the_whole_encoder_of_the_base(spec, features, base):
    generator = Generator(spec, GeneratorSettings(sampled_negatives=5), batches.catalogue(spec))
    generator(features)
    before = values(generator)
    report = copy_by_name(values(base), generator, ("encoder",))
    encoder = {name for name in before if name.startswith("encoder/")}
    # Four item tables, one of them for both tags; scene, behaviour, age and position of the events.
    assert set(report.copied) == encoder and len(encoder) == 8
    assert set(report.absent) == set(before) - encoder
    assert report.other_shape == report.extended == ()
    assert str(report) == f"8 weights copied, 0 extended by zeros, {len(before) - 8} left as initialised"
    for name, value in values(generator).items():
        np.testing.assert_array_equal(value, values(base)[name] if name in encoder else before[name])
    # The two now see every event alike.
    np.testing.assert_array_equal(generator.encoder(features), base.encoder(features))


def test_ctr_model_starts_as_the_base(spec, features, base, generator_folder):
    # The flow's features stand behind the base's own inputs and their rows start at zero; c starts at 0.
    model = CtrModel(spec, CtrSettings(), generator_folder)
    model(features)
    report = initialise(model, values(base))
    assert set(report.copied) | set(report.extended) == set(named_weights(base))
    assert set(report.extended) == set(CTR_GROWN)
    np.testing.assert_allclose(model(features), base(features), rtol=1e-5, atol=1e-5)


def small(rows, columns=2, name="kernel"):
    """A module `part` with one weight."""
    model = tf.Module()
    model.part = tf.Module()
    setattr(model.part, name, tf.Variable(tf.ones((rows, columns))))
    return model


@pytest.mark.parametrize("name", [name for name in RANKERS if name != "base"])
def test_of_another_architecture_the_merge_mlp_is_left_alone(name, spec, features):
    # Its inputs are others, in other places: rows of one would come to lie under inputs that mean something else.
    source, model = make_ranker(name, spec), CtrModel(spec, CtrSettings(use_flow=False), None)
    source(features), model(features)
    randomise(source)
    before = values(model)
    report = initialise(model, values(source))
    expected = {n for n in before if n.split("/")[0] in ("encoder", "matched", "request_side", "candidate_side")}
    assert set(report.copied) == expected and not report.extended
    after = values(model)
    for weight, value in before.items():
        np.testing.assert_array_equal(after[weight], values(source)[weight] if weight in expected else value)


def test_further_rows_are_zero_where_that_was_asked_for():
    source = {"part/kernel": np.array([[1.0, 2.0], [3.0, 4.0]], np.float32), "part/other": np.zeros(1, np.float32)}
    model = small(3)
    model.part.other = tf.Variable([5.0])
    report = copy_by_name(source, model, ["part"], extend=["part/kernel"])
    assert report.extended == ("part/kernel",) and report.copied == ("part/other",)
    assert model.part.kernel.numpy().tolist() == [[1, 2], [3, 4], [0, 0]]


@pytest.mark.parametrize("shape", [(4, 2), (2, 3), (2,)])
def test_other_shapes_are_reported_and_left_alone(shape):
    # More rows than there is room for, other columns, another rank: none of these is an extension.
    model = small(3)
    model.part.other = tf.Variable([5.0])
    source = {"part/kernel": np.zeros(shape, np.float32), "part/other": np.zeros(1, np.float32)}
    report = copy_by_name(source, model, ["part"], extend=["part/kernel"])
    assert report.other_shape == ("part/kernel",) and report.copied == ("part/other",)
    assert (model.part.kernel.numpy() == 1).all()


def test_more_rows_are_another_shape_unless_asked_for():
    model = small(3)
    model.part.other = tf.Variable([5.0])
    source = {"part/kernel": np.zeros((2, 2), np.float32), "part/other": np.zeros(1, np.float32)}
    assert copy_by_name(source, model, ["part"]).other_shape == ("part/kernel",)


def test_weights_outside_the_parts_are_left_alone():
    model = small(3)
    model.rest = tf.Variable([5.0])
    source = {"part/kernel": np.zeros((3, 2), np.float32), "rest": np.zeros(1, np.float32)}
    report = copy_by_name(source, model, ["part"])
    assert report.copied == ("part/kernel",) and report.absent == ("rest",)
    assert model.rest.numpy() == 5.0


def test_copying_nothing_is_an_error_that_says_why(spec, base):
    model = small(3)
    with pytest.raises(
        ValueError, match="copied nothing: expected weights under encoder, head; the source has"
    ) as error:
        copy_by_name(values(base), model, ("encoder", "head"))
    assert "same model settings and vocabularies?" in str(error.value)
    with pytest.raises(ValueError, match="of other shape were part/kernel"):
        copy_by_name({"part/kernel": np.zeros((9, 9), np.float32)}, model, ("part",))
    assert (model.part.kernel.numpy() == 1).all()


def test_randomised_models_are_not_alike(base, generator):
    # Guards the tests above: with equal values in both, a copy would show nothing.
    table = "encoder/items/tables/item_id/table"
    fresh = values(base)[table].copy()
    again = small(1)
    randomise(again, seed=1)
    assert fresh.std() > 0.1 and (again.part.kernel.numpy() != 1).all()
