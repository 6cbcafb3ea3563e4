"""The CTR model: calibration and its pairs, the flow it reads, the frozen generator, ablations."""

import math

import numpy as np
import pytest
import tensorflow as tf

from amen_tf import losses
from amen_tf.config import CtrSettings
from amen_tf.features import CANDIDATE_MASK, DIVERSITY, FLOW, LABEL, VELOCITY
from amen_tf.flows import FlowFile
from amen_tf.models.ctr import CLICKED, UNCLICKED, CtrModel
from tests.amen_tf import batches
from tests.amen_tf.conftest import built

ROWS, N, L, T, D = 6, 4, 7, 3, 8


def close(left, right, tolerance=1e-5):
    np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance)


def test_logit_is_main_plus_calibration(ctr, features):
    # Eq. 8
    scores = ctr.score(features)
    assert scores.diff_calibration is None
    np.testing.assert_array_equal(ctr(features), scores.main + scores.calibration)
    assert np.abs(scores.calibration).min() > 0


def test_scoring_with_diff_samples_changes_no_candidate(ctr, features):
    plain, both = ctr.score(features), ctr.score(features, with_diff=True)
    np.testing.assert_array_equal(both.main, plain.main)
    close(both.calibration, plain.calibration)
    assert both.diff_calibration.shape == (ROWS, 2)


def test_diff_sample_is_scored_as_a_candidate_with_the_moveline_of_its_time(ctr, features):
    diff = ctr.score(features, with_diff=True).diff_calibration.numpy()
    for place, prefix in ((CLICKED, "diff_clicked_"), (UNCLICKED, "diff_unclicked_")):
        length = features[prefix + "moveline_length"]
        # Its item as the only candidate, and the events after its prefix taken away.
        kept = tf.cumsum(tf.cast(features["moveline_behavior"] > 0, tf.int64), 1) <= length[:, tf.newaxis]
        alone = batches.pick(features, [0])
        alone |= {f"candidate_{f}": features[prefix + f][:, tf.newaxis] for f in ctr.spec.contract.item_fields}
        alone["moveline_behavior"] = tf.where(kept, features["moveline_behavior"], 0)
        close(ctr.score(alone).calibration[:, 0], diff[:, place])


def pairs(features, label, mask, clicked, unclicked):
    """One request with these labels and candidates, and whether it has either diff sample."""
    one = batches.rows(features, [1])
    one[LABEL] = tf.constant([label], tf.float32)
    one[CANDIDATE_MASK] = tf.constant([mask])
    for prefix, exists in (("diff_clicked_", clicked), ("diff_unclicked_", unclicked)):
        one[prefix + "item_id"] = tf.constant([11 if exists else 0], tf.int64)
    return one


@pytest.mark.parametrize(
    ("clicked", "unclicked", "expected"),
    [
        # Candidates 0 and 2 were clicked and pair with the unclicked sample, candidate 1 with the clicked one.
        (True, True, [(0, UNCLICKED, 1), (1, CLICKED, -1), (2, UNCLICKED, 1)]),
        (False, True, [(0, UNCLICKED, 1), (2, UNCLICKED, 1)]),
        (True, False, [(1, CLICKED, -1)]),
        (False, False, []),
    ],
)
def test_which_pairs_count(ctr, features, clicked, unclicked, expected):
    # The last candidate is padding; its label says clicked all the same.
    one = pairs(features, [1, 0, 1, 1], [True, True, True, False], clicked, unclicked)
    terms, _ = ctr.compute_losses(one, training=False)
    scores = ctr.score(one, with_diff=True)
    own, diff = scores.calibration.numpy()[0], scores.diff_calibration.numpy()[0]
    # The clicked one of each pair belongs above: -log sigma(c_clicked - c_unclicked).
    means = []
    for kind in (CLICKED, UNCLICKED):
        margins = [sign * (own[n] - diff[place]) for n, place, sign in expected if place == kind]
        means += [np.mean([math.log1p(math.exp(-margin)) for margin in margins])] if margins else []
    assert float(terms["tsp"]) == pytest.approx(np.mean(means or [0.0]), rel=1e-5)
    if not expected:
        assert float(terms["tsp"]) == 0.0


def test_total_is_eq_10_of_its_parts(ctr, features):
    terms, logits = ctr.compute_losses(features, training=False)
    assert ctr.settings.tsp_weight == 0.3 and float(terms["tsp"]) > 0
    expected = losses.cross_entropy(features[LABEL], ctr(features), features[CANDIDATE_MASK])
    assert float(terms["cross_entropy"]) == pytest.approx(float(expected), rel=1e-5)
    assert float(terms["loss"]) == pytest.approx(float(terms["cross_entropy"]) + 0.3 * float(terms["tsp"]), rel=1e-6)
    close(logits, ctr(features))


def test_flow_diversity_and_velocity_are_read(ctr, features):
    flow = {**ctr.flow(features)}
    plain = ctr({**features, **flow})
    close(plain, ctr(features))
    for name in (FLOW, DIVERSITY, VELOCITY):
        moved = {**flow, name: flow[name] + tf.random.stateless_normal(flow[name].shape, (1, 2))}
        assert np.abs(ctr({**features, **moved}) - plain).max(1).min() > 1e-4, name


def test_only_the_first_velocity_and_the_mean_diversity_are_read(ctr, features):
    flow = {**ctr.flow(features)}
    plain = ctr({**features, **flow})
    later = tf.concat([flow[VELOCITY][:, :1], 9 + flow[VELOCITY][:, 1:]], 1)
    np.testing.assert_array_equal(ctr({**features, **flow, VELOCITY: later}), plain)
    # One state gains what another loses.
    shifted = flow[DIVERSITY] + tf.constant([[0.2, -0.2, 0.0]])
    close(ctr({**features, **flow, DIVERSITY: shifted}), plain)


def test_precomputed_flow_gives_the_same_as_computing_it(ctr, features, tmp_path):
    file = FlowFile(tmp_path / "flows", T, D)
    file.write(ctr.generator, tf.data.Dataset.from_tensors(features))
    rows = next(iter(file.rows().batch(ROWS)))
    kept = file.decode(rows)
    for name, value in ctr.flow(features).items():
        close(kept[name], value, 1e-6)
    close(ctr({**features, **kept}), ctr(features))
    terms, _ = ctr.compute_losses({**features, **kept}, training=False)
    assert float(terms["loss"]) == pytest.approx(float(ctr.compute_losses(features, False)[0]["loss"]), rel=1e-5)


def test_target_of_the_alignment_is_looked_up_in_the_generators_table(ctr, features, generator):
    # The CTR model's own table moves in training; what is compared with the flow must not.
    vectors = ctr.generator.candidate_vectors(features)
    table = ctr.encoder.items.tables["item_id"].table
    before = table.numpy()
    table.assign_add(tf.ones_like(table))
    try:
        np.testing.assert_array_equal(ctr.generator.candidate_vectors(features), vectors)
    finally:
        table.assign(before)


def test_without_alignment_every_candidate_reads_the_mean_of_the_flow(ctr_without_alignment, features):
    model = ctr_without_alignment
    flow = {**model.flow(features)}
    # The order of the states cannot matter to a mean; alignment is not even built.
    close(model({**features, **flow, FLOW: flow[FLOW][:, ::-1]}), model({**features, **flow}))
    assert not any("alignment" in weight.name for weight in model.trainable_variables)
    assert np.abs(model({**features, **flow, FLOW: flow[FLOW] + 1}) - model(features)).max() > 1e-4


def test_without_flow_no_generator_is_needed(ctr_without_flow, features):
    model = ctr_without_flow
    assert not hasattr(model, "generator") and model.frozen_parts == []
    terms, _ = model.compute_losses(features, training=False)
    assert all(np.isfinite(float(value)) for value in terms.values())
    assert not any("alignment" in weight.name for weight in model.trainable_variables)


def test_tsp_weight_of_zero_leaves_cross_entropy(spec, features):
    model = built(CtrModel(spec, CtrSettings(tsp_weight=0, use_flow=False), None), features)
    terms, _ = model.compute_losses(features, training=False)
    assert float(terms["loss"]) == float(terms["cross_entropy"]) and float(terms["tsp"]) > 0


def test_every_weight_has_a_gradient_and_the_generator_has_none(ctr, features):
    own, frozen = ctr.trainable_variables, list(ctr.generator.loaded.weights)
    with tf.GradientTape() as tape:
        tape.watch(frozen)
        loss = ctr.compute_losses(features, training=True)[0]["loss"]
    gradients = tape.gradient(loss, [*own, *frozen])
    for weight, gradient in zip(own, gradients[: len(own)], strict=True):
        assert gradient is not None, weight.name
        gradient = tf.convert_to_tensor(gradient).numpy()
        assert np.isfinite(gradient).all() and (gradient != 0).any(), weight.name
    assert frozen and all(gradient is None for gradient in gradients[len(own) :])


def test_generator_is_not_part_of_what_is_trained(ctr):
    frozen = list(ctr.generator.loaded.weights)
    names = {id(variable) for variable in (*ctr.variables, *ctr.trainable_variables)}
    assert frozen and not any(id(variable) in names for variable in frozen)
