"""The generator as the CTR model sees it: a SavedModel on integer ids, exported once and frozen."""

import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf
import tf_keras as keras

from amen_tf import losses
from amen_tf.features import CANDIDATE, DIVERSITY, FLOW, ITEM_ID, MOVELINE, VELOCITY, FeatureContract
from amen_tf.layers.embedding import concat_fields
from amen_tf.layers.request_encoder import with_prefix
from amen_tf.models.generator import Flow, Generator

FLOW_SIGNATURE, ITEM_SIGNATURE, REQUEST_SIGNATURE = "interest_flow", "item_vectors", "request"
UNIT, BEYOND = "unit", "beyond_category"


class GeneratedItems(NamedTuple):
    """What the generator knows of candidates `[B, N, d]` and of the moveline's items `[B, L, d]`; all float32.

    Attributes:
      candidates: unit vectors, to be compared with the flow.
      beyond, moveline_beyond: what sets candidates and events apart from others of their category, unit vectors or 0.
    """

    candidates: tf.Tensor
    beyond: tf.Tensor
    moveline_beyond: tf.Tensor


class _Exported(tf.Module):
    """Holds the generator's variables and its functions for saving, but not the Keras model: see `ServingModel`."""

    def __init__(self, generator: Generator):
        super().__init__()
        self.weights = list(generator.variables)
        contract, length = generator.spec.contract, generator.spec.shape.moveline_length
        moveline = {
            MOVELINE + f: tf.TensorSpec((None, length), tf.int64, MOVELINE + f) for f in contract.moveline_fields
        }
        items = {f: tf.TensorSpec((None, None), tf.int64, f) for f in contract.item_fields}
        candidates = {CANDIDATE + f: tf.TensorSpec((None, None), tf.int64, CANDIDATE + f) for f in items}

        def outputs(flow: Flow) -> dict[str, tf.Tensor]:
            return {
                FLOW: flow.states,
                DIVERSITY: 1.0 - losses.head_similarity(flow.heads),
                VELOCITY: losses.velocity(flow.states, flow.previous),
            }

        @tf.function(autograph=False, input_signature=[moveline])
        def interest_flow(features):
            return outputs(generator.generate(features))

        @tf.function(autograph=False, input_signature=[items])
        def item_vectors(items):
            known = generator.known_of(items)
            return {UNIT: known.unit, BEYOND: known.beyond_category}

        @tf.function(autograph=False, input_signature=[{**moveline, **candidates}])
        def request(features):
            known = generator.known_of(_both(features, contract))
            own = tf.ensure_shape(known.vectors[:, -length:], (None, length, generator.spec.shape.dim))
            return {**outputs(generator.generate(features, own)), UNIT: known.unit, BEYOND: known.beyond_category}

        self.interest_flow, self.item_vectors, self.request = interest_flow, item_vectors, request


def _both(features: Mapping[str, tf.Tensor], contract: FeatureContract) -> dict[str, tf.Tensor]:
    """Items of the candidates and then of the moveline: field -> ids `[B, N + L]`."""
    return concat_fields([with_prefix(features, prefix, contract.item_fields) for prefix in (CANDIDATE, MOVELINE)], 1)


def export_generator(generator: Generator, path: str | pathlib.Path) -> None:
    """Saves G_φ with three functions on transformed ids.

    `interest_flow`: moveline columns `[B, L]` int64 -> flow `[B, T, d]`, diversity S_div `[B, T]`, velocity
    `[B, T, d]`. `item_vectors`: item fields `[B, N]` int64 -> unit vectors `[B, N, d]` and what they say beyond their
    category `[B, N, d]`. `request`: moveline columns and candidates' item fields -> both at once, of the candidates and
    then of the moveline's items `[B, N + L, d]`, with one look into each table.
    """
    exported = _Exported(generator)
    signatures = {
        FLOW_SIGNATURE: exported.interest_flow,
        ITEM_SIGNATURE: exported.item_vectors,
        REQUEST_SIGNATURE: exported.request,
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
        self._request = self.loaded.signatures[REQUEST_SIGNATURE]

    def call(self, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """features -> flow `[B, T, d]`, diversity `[B, T]`, velocity `[B, T, d]`, all float32."""
        return _flow_of(self._flow(**self._moveline(features)))

    def of_request(self, features: Mapping[str, tf.Tensor]) -> tuple[dict[str, tf.Tensor], GeneratedItems]:
        """The flow as of `call`, and what is known of candidates and events, with one look into each table."""
        items = with_prefix(features, CANDIDATE, self.contract.item_fields)
        found = self._request(**self._moveline(features), **{CANDIDATE + field: ids for field, ids in items.items()})
        return _flow_of(found), self._split(found, features)

    def of_items(self, features: Mapping[str, tf.Tensor]) -> GeneratedItems:
        """What is known of candidates and events, for requests whose flow is there."""
        return self._split(self._items(**_both(features, self.contract)), features)

    def candidate_vectors(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Candidates `[B, N]` -> their unit vectors `[B, N, d]` in the generator's own item table."""
        items = with_prefix(features, CANDIDATE, self.contract.item_fields)
        return tf.stop_gradient(self._items(**items)[UNIT])

    def _moveline(self, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        columns = with_prefix(features, MOVELINE, self.contract.moveline_fields)
        return {MOVELINE + field: ids for field, ids in columns.items()}

    def _split(self, found: Mapping[str, tf.Tensor], features: Mapping[str, tf.Tensor]) -> GeneratedItems:
        count = tf.shape(features[CANDIDATE + ITEM_ID])[1]
        unit, beyond = (tf.stop_gradient(found[name]) for name in (UNIT, BEYOND))
        return GeneratedItems(unit[:, :count], beyond[:, :count], beyond[:, count:])


def _flow_of(found: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    return {name: tf.stop_gradient(found[name]) for name in (FLOW, DIVERSITY, VELOCITY)}
