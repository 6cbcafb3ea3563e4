"""The generator as the CTR model sees it: a SavedModel on integer ids, exported once and frozen."""

import pathlib
from collections.abc import Mapping

import tensorflow as tf
import tf_keras as keras

from amen_tf import losses
from amen_tf.features import CANDIDATE, DIVERSITY, FLOW, MOVELINE, VELOCITY, FeatureContract
from amen_tf.layers.request_encoder import with_prefix
from amen_tf.models.generator import Generator

FLOW_SIGNATURE, ITEM_SIGNATURE, BEYOND_SIGNATURE = "interest_flow", "item_vectors", "beyond_category"


class _Exported(tf.Module):
    """Holds the generator's variables and its functions for saving, but not the Keras model: see `ServingModel`."""

    def __init__(self, generator: Generator):
        super().__init__()
        self.weights = list(generator.variables)
        contract, length = generator.spec.contract, generator.spec.shape.moveline_length

        def moveline_spec(field):
            return tf.TensorSpec((None, length), tf.int64, MOVELINE + field)

        def item_spec(field):
            return tf.TensorSpec((None, None), tf.int64, field)

        @tf.function(
            autograph=False, input_signature=[{MOVELINE + f: moveline_spec(f) for f in contract.moveline_fields}]
        )
        def interest_flow(features):
            flow = generator.generate(features)
            return {
                FLOW: flow.states,
                DIVERSITY: 1.0 - losses.head_similarity(flow.heads),
                VELOCITY: losses.velocity(flow.states, flow.previous),
            }

        def of_items(function):
            @tf.function(autograph=False, input_signature=[{f: item_spec(f) for f in contract.item_fields}])
            def vectors(items):
                return {"vectors": function(items)}

            return vectors

        self.interest_flow = interest_flow
        self.item_vectors, self.beyond_category = of_items(generator.item_vectors), of_items(generator.beyond_category)


def export_generator(generator: Generator, path: str | pathlib.Path) -> None:
    """Saves G_φ with three functions on transformed ids.

    `interest_flow`: moveline columns `[B, L]` int64 -> flow `[B, T, d]`, diversity S_div `[B, T]`, velocity
    `[B, T, d]`. `item_vectors` and `beyond_category`: item fields `[B, N]` int64 -> unit vectors `[B, N, d]`.
    """
    exported = _Exported(generator)
    signatures = {
        FLOW_SIGNATURE: exported.interest_flow,
        ITEM_SIGNATURE: exported.item_vectors,
        BEYOND_SIGNATURE: exported.beyond_category,
    }
    tf.saved_model.save(exported, str(path), signatures=signatures)


class FrozenGenerator(keras.layers.Layer):
    """Loads an exported generator; nothing of it is trained, and saving the outer model saves it too.

    Args:
      path: folder of `export_generator`.
      contract: the run's features.
    """

    def __init__(self, path: str | pathlib.Path, contract: FeatureContract, **kwargs):
        super().__init__(trainable=False, **kwargs)
        self.contract = contract
        self.loaded = tf.saved_model.load(str(path))
        self._flow = self.loaded.signatures[FLOW_SIGNATURE]
        self._items = self.loaded.signatures[ITEM_SIGNATURE]
        self._beyond = self.loaded.signatures[BEYOND_SIGNATURE]

    def call(self, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """features -> flow `[B, T, d]`, diversity `[B, T]`, velocity `[B, T, d]`, all float32."""
        columns = with_prefix(features, MOVELINE, self.contract.moveline_fields)
        outputs = self._flow(**{MOVELINE + field: ids for field, ids in columns.items()})
        return {name: tf.stop_gradient(outputs[name]) for name in (FLOW, DIVERSITY, VELOCITY)}

    def candidate_vectors(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Candidates `[B, N]` -> their unit vectors `[B, N, d]` in the generator's own item table."""
        items = with_prefix(features, CANDIDATE, self.contract.item_fields)
        return tf.stop_gradient(self._items(**items)["vectors"])

    def beyond_category(self, items: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """What sets items apart from others of their category: field -> ids `[B, N]` -> unit vectors `[B, N, d]`."""
        return tf.stop_gradient(self._beyond(**items)["vectors"])
