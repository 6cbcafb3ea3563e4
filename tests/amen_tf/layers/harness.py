"""One harness that every layer goes through.

Eager = graph, save and load, config, fully masked rows; for layers that have them: N candidates = N single calls, their
order, and padding that changes nothing.

A `Case` says how to make a layer and what to call it with; `tests/amen_tf/layers/test_every_layer.py` lists them all.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras as keras

from amen_tf.initialization import copy_by_name, load_weights, named_weights, save_weights


class Case(NamedTuple):
    """How to test a layer.

    Attributes:
      make: builds a new layer, the same each time.
      inputs: positional arguments of its call; tensors, or mappings of tensors.
      masked: the same with everything masked that a mask can hide; None for layers without a mask.
      candidates: places of the arguments that have the candidates as their axis 1, as the result then has.
      garbled: the inputs with other numbers wherever a mask hides them; None for layers without a mask.
    """

    make: Callable[[], keras.layers.Layer]
    inputs: tuple
    masked: tuple | None = None
    candidates: tuple[int, ...] = ()
    garbled: tuple | None = None


def randomise(layer: tf.Module, seed: int = 0, size: float = 0.4) -> None:
    """Gives every trainable weight noise: zeros and ones as first values would hide what a weight does."""
    rng = np.random.default_rng(seed)
    for weight in named_weights(layer).values():
        weight.assign(rng.normal(0.0, size, weight.shape).astype(np.float32))


def flat(outputs: Any) -> list[np.ndarray]:
    """All tensors of a nested result."""
    return [tensor.numpy() for tensor in tf.nest.flatten(outputs)]


def assert_equal(left: Any, right: Any, tolerance: float = 0.0) -> None:
    """Compares nested results tensor by tensor; a tolerance of 0 asks for equal bits."""
    left, right = flat(left), flat(right)
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def check_graph(case: Case) -> None:
    """A traced call gives what an eager call gives."""
    layer = case.make()
    eager = layer(*case.inputs)
    randomise(layer)
    eager = layer(*case.inputs)
    # The kernels are the same, but the graph may fuse and reorder sums.
    assert_equal(tf.function(layer, autograph=False)(*case.inputs), eager, 1e-5)


def check_save(case: Case, path: str) -> None:
    """Weights saved by name and loaded into a new instance give the same results."""
    layer, fresh = case.make(), case.make()
    layer(*case.inputs), fresh(*case.inputs)
    weights = named_weights(layer)
    assert {id(w) for w in weights.values()} == {id(w) for w in layer.trainable_variables}
    if not weights:
        return
    randomise(layer)
    expected = layer(*case.inputs)
    different = zip(flat(expected), flat(fresh(*case.inputs)), strict=True)
    assert any((one != other).any() for one, other in different), "the weights do not matter; nothing is tested"
    save_weights(layer, path)
    archive = load_weights(path)
    report = copy_by_name(archive, fresh, {name.split("/")[0] for name in archive})
    assert set(report.copied) == set(weights) and not report.absent and not report.other_shape
    assert_equal(fresh(*case.inputs), expected)


def check_config(case: Case) -> None:
    """The config holds every constructor argument by value, and a layer made from it starts out the same."""
    layer = case.make()
    config = layer.get_config()
    again = type(layer).from_config(config)
    assert again.get_config() == config
    for name in inspect.signature(type(layer)).parameters:
        if name != "kwargs":
            assert config[name] == getattr(layer, name), name
    assert_equal(again(*case.inputs), layer(*case.inputs))


def check_masked(case: Case) -> None:
    """Fully masked rows give finite numbers, and finite gradients."""
    layer = case.make()
    layer(*case.masked)
    randomise(layer)
    with tf.GradientTape() as tape:
        outputs = tf.nest.flatten(layer(*case.masked))
        total = tf.add_n([tf.reduce_sum(output) for output in outputs])
    assert all(np.isfinite(output.numpy()).all() for output in outputs)
    for gradient in tape.gradient(total, layer.trainable_variables):
        if gradient is not None:
            assert np.isfinite(tf.convert_to_tensor(gradient).numpy()).all()


def check_candidates(case: Case) -> None:
    """N candidates give what N single calls give, in whatever order they come."""
    layer = case.make()
    layer(*case.inputs)
    randomise(layer)
    together = flat(layer(*case.inputs))

    def chosen(places: list[int]) -> list[np.ndarray]:
        def pick(place: int, argument: Any) -> Any:
            if place not in case.candidates:
                return argument
            return tf.nest.map_structure(lambda tensor: tf.gather(tensor, places, axis=1), argument)

        return flat(layer(*(pick(place, argument) for place, argument in enumerate(case.inputs))))

    count = together[0].shape[1]
    for places in (*([n] for n in range(count)), list(range(count))[::-1]):
        for one, other in zip(chosen(places), together, strict=True):
            np.testing.assert_allclose(one, other[:, places], rtol=1e-5, atol=1e-5)
    assert any(np.ptp(output, axis=1).max() > 0 for output in together), "candidates do not differ; nothing is tested"


def check_padding(case: Case) -> None:
    """What a mask hides changes nothing."""
    layer = case.make()
    layer(*case.inputs)
    randomise(layer)
    assert any((a != b).any() for a, b in zip(flat(case.inputs), flat(case.garbled), strict=True)), "nothing is garbled"
    assert_equal(layer(*case.garbled), layer(*case.inputs), 1e-6)
