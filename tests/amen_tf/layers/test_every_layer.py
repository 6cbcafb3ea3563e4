"""Every layer of the package through the harness; a layer that is not listed here fails a test."""

import importlib
import pkgutil

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import amen_tf.layers
from amen_tf.features import BEHAVIOR, MOVELINE, is_of_candidates
from amen_tf.layers.activation_unit import ActivationUnit
from amen_tf.layers.calibration import CalibrationNet
from amen_tf.layers.dense import Dense
from amen_tf.layers.embedding import EventEmbedding, IdEmbedding, ItemEmbedding, NormalBelowZeros
from amen_tf.layers.flow_tokens import FlowTokens, FlowValues
from amen_tf.layers.interest_flow_decoder import (
    READOUTS,
    CausalAttention,
    DecoderBlock,
    InterestFlowDecoder,
    causal_mask,
)
from amen_tf.layers.match_features import MatchFeatures
from amen_tf.layers.matched_events import MatchedEvents
from amen_tf.layers.merge_mlp import MergeMLP
from amen_tf.layers.request_encoder import InterestEncoder, SideEmbedding, with_prefix
from amen_tf.layers.semantic_alignment import SemanticAlignment
from amen_tf.layers.similar_events import SimilarEvents
from amen_tf.layers.target_attention import TargetAttention
from tests.amen_tf import batches
from tests.amen_tf.layers import harness
from tests.amen_tf.layers.harness import Case

B, N, L, T, H, D = 6, 4, 7, 3, 2, 8
SPEC = batches.spec()
FEATURES = batches.batch(SPEC)
EMPTY = {name: tf.zeros_like(column) for name, column in FEATURES.items()}


def noise(*shape):
    return tf.constant(np.random.default_rng(len(shape)).normal(size=shape), tf.float32)


def moveline(features):
    return with_prefix(features, MOVELINE, SPEC.contract.moveline_fields)


def items(features):
    return with_prefix(features, "candidate_", SPEC.contract.item_fields)


def of_candidates(features):
    return {name: column for name, column in features.items() if is_of_candidates(name)}


def make_events():
    table = ItemEmbedding(SPEC.item_sizes, D, 0.3, seed=1)
    return EventEmbedding(table, length=L, std=0.3, seed=9, **SPEC.event_sizes)


GARBLED = batches.garble(FEATURES)
REAL = FEATURES[MOVELINE + BEHAVIOR] != 0
NOTHING = tf.zeros_like(REAL)
# Other events count for each candidate, real ones alone.
SAME = REAL[:, tf.newaxis, :] & (noise(B, N, L) > 0.0)


def events(garbled: bool = False):
    """Vectors of events; with 9 at the padding, where a layer must not look."""
    return tf.where(REAL[..., tf.newaxis], noise(B, L, D), 9.0) if garbled else noise(B, L, D)


CASES = {
    IdEmbedding: Case(
        lambda: IdEmbedding(50, D, 0.3, 1, unseen=2),
        (FEATURES["candidate_item_id"],),
        (EMPTY["candidate_item_id"],),
        (0,),
    ),
    ItemEmbedding: Case(
        lambda: ItemEmbedding(SPEC.item_sizes, D, 0.3, 1, unseen={"item_id": 2}),
        (items(FEATURES),),
        (items(EMPTY),),
        (0,),
    ),
    EventEmbedding: Case(make_events, (moveline(FEATURES),), (moveline(EMPTY),), garbled=(moveline(GARBLED),)),
    InterestEncoder: Case(lambda: InterestEncoder(SPEC), (FEATURES,), (EMPTY,), garbled=(GARBLED,)),
    SideEmbedding: Case(
        lambda: SideEmbedding({"scene": 5, "device": 4}, 0.3, 1), (FEATURES, noise(B, 1)), (EMPTY, noise(B, 1))
    ),
    (SideEmbedding, "of_candidate"): Case(
        lambda: SideEmbedding.of_candidate(SPEC),
        (of_candidates(FEATURES), noise(B, N, D)),
        (of_candidates(EMPTY), noise(B, N, D)),
        (0, 1),
    ),
    MatchFeatures: Case(
        lambda: MatchFeatures(("item_id", "category_id")),
        (items(FEATURES), moveline(FEATURES)),
        (items(EMPTY), moveline(EMPTY)),
        (0,),
        (items(FEATURES), moveline(GARBLED)),
    ),
    MatchedEvents: Case(
        lambda: MatchedEvents(("item_id", "category_id"), SPEC.sizes[BEHAVIOR], 4, 0.3, 2),
        (items(FEATURES), moveline(FEATURES)),
        (items(EMPTY), moveline(EMPTY)),
        (0,),
        (items(FEATURES), moveline(GARBLED)),
    ),
    Dense: Case(
        lambda: Dense(5, "relu", kernel_initializer=keras.initializers.GlorotUniform(seed=3)),
        (noise(B, N, D),),
        None,
        (0,),
    ),
    MergeMLP: Case(lambda: MergeMLP((16, 8), 0.1, 3), (noise(B, N, 5), noise(B, 3)), None, (0,)),
    TargetAttention: Case(
        lambda: TargetAttention(H, D, 3),
        (noise(B, N, D), events(), REAL),
        (noise(B, N, D), events(), NOTHING),
        (0,),
        (noise(B, N, D), events(garbled=True), REAL),
    ),
    ActivationUnit: Case(
        lambda: ActivationUnit(D, 5, 3),
        (noise(B, N, D), events(), REAL),
        (noise(B, N, D), events(), NOTHING),
        (0,),
        (noise(B, N, D), events(garbled=True), REAL),
    ),
    SemanticAlignment: Case(lambda: SemanticAlignment(H, D, 3), (noise(B, N, D), noise(B, T, D)), None, (0,)),
    CalibrationNet: Case(
        lambda: CalibrationNet(H, D, 6, 3),
        (noise(B, N, D), events(), REAL),
        (noise(B, N, D), events(), NOTHING),
        (0,),
        (noise(B, N, D), events(garbled=True), REAL),
    ),
    CausalAttention: Case(
        lambda: CausalAttention(H, D, 3), (noise(B, L, D), causal_mask(REAL)), (noise(B, L, D), causal_mask(NOTHING))
    ),
    DecoderBlock: Case(
        lambda: DecoderBlock(H, D, 0.1, 3), (noise(B, L, D), causal_mask(REAL)), (noise(B, L, D), causal_mask(NOTHING))
    ),
    # Zero vectors stand at padding, where a state has no length to be scaled to 1.
    **{
        (InterestFlowDecoder, readout): Case(
            lambda readout=readout: InterestFlowDecoder(2, H, D, 0.1, 3, readout),
            (noise(B, L, D), causal_mask(REAL)),
            (tf.zeros((B, L, D)), causal_mask(NOTHING)),
        )
        for readout in READOUTS[1:]
    },
    InterestFlowDecoder: Case(
        lambda: InterestFlowDecoder(2, H, D, 0.1, 3),
        (noise(B, L, D), causal_mask(REAL)),
        (tf.zeros((B, L, D)), causal_mask(NOTHING)),
    ),
    SimilarEvents: Case(
        lambda: SimilarEvents((2, 4)),
        (noise(B, N, D), events(), SAME),
        (noise(B, N, D), events(), tf.zeros_like(SAME)),
        (0, 2),
        (noise(B, N, D), events(garbled=True), SAME),
    ),
    FlowValues: Case(
        lambda: FlowValues(0.3, 3),
        (noise(B, L, D) * tf.cast(REAL, tf.float32)[..., tf.newaxis],),
        (tf.zeros((B, L, D)),),
    ),
    FlowTokens: Case(lambda: FlowTokens(T, D, 0.3, 3), (noise(B, T - 1, D),)),
}


def named(cases):
    return pytest.mark.parametrize("case", cases.values(), ids=[_name(layer) for layer in cases])


def _name(layer):
    return "-".join((layer[0].__name__, *layer[1:])) if isinstance(layer, tuple) else layer.__name__


def test_no_layer_is_left_out():
    modules = [
        importlib.import_module(m.name) for m in pkgutil.iter_modules(amen_tf.layers.__path__, "amen_tf.layers.")
    ]
    found = {
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, keras.layers.Layer) and value.__module__ == module.__name__
    }
    assert len(found) >= 13
    assert found <= set(CASES), found - set(CASES)


@named(CASES)
def test_graph_equals_eager(case):
    harness.check_graph(case)


@named(CASES)
def test_saved_weights_give_the_same_results(case, tmp_path):
    harness.check_save(case, tmp_path / "weights.npz")


@named({layer: case for layer, case in CASES.items() if not isinstance(layer, tuple) and "get_config" in vars(layer)})
def test_config_round_trips(case):
    harness.check_config(case)


@named({layer: case for layer, case in CASES.items() if case.masked is not None})
def test_fully_masked_is_finite(case):
    harness.check_masked(case)


@named({layer: case for layer, case in CASES.items() if case.candidates})
def test_candidates_are_scored_one_by_one_and_in_any_order(case):
    harness.check_candidates(case)


@named({layer: case for layer, case in CASES.items() if case.garbled is not None})
def test_padding_changes_nothing(case):
    harness.check_padding(case)


@named(CASES)
def test_same_seed_same_first_weights(case):
    one, other = case.make(), case.make()
    harness.assert_equal(one(*case.inputs), other(*case.inputs))


def test_initializer_config_round_trips():
    one = NormalBelowZeros(rows=3, std=0.5, seed=4)
    again = NormalBelowZeros.from_config(one.get_config())
    assert again.get_config() == one.get_config() == {"rows": 3, "std": 0.5, "seed": 4}
    np.testing.assert_array_equal(one((6, 2)), again((6, 2)))
