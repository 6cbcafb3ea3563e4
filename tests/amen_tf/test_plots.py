"""Figures 2 and 3: what is drawn is what the model computes; the pictures themselves were looked at by eye."""

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from amen_tf import plots
from amen_tf.features import CANDIDATE_MASK, FLOW, LABEL

H, T = 2, 3


def test_attention_is_that_of_the_alignment_and_adds_up_to_one(ctr, features):
    weights = ctr.alignment_weights(features)
    assert weights.shape == (6, H, 4, T)
    np.testing.assert_allclose(tf.reduce_sum(weights, -1), np.ones((6, H, 4)), rtol=1e-5)
    vectors, flow = ctr.generator.candidate_vectors(features), ctr.flow(features)[FLOW]
    np.testing.assert_array_equal(weights, ctr.alignment(vectors, flow, return_weights=True)[1])


def test_models_without_alignment_say_so(ctr_without_flow, ctr_without_alignment, features):
    for model in (ctr_without_flow, ctr_without_alignment):
        with pytest.raises(ValueError, match="attends to no flow"):
            model.alignment_weights(features)


def test_probe_is_one_request_with_its_own_and_others_candidates(features):
    # Row 1 has the longest moveline; it gets a click.
    label = features[LABEL].numpy()
    label[1, 0] = 1
    changed = {**features, LABEL: tf.constant(label)}
    probe = plots.choose_probe(changed, targets=6)
    assert probe.features["moveline_item_id"].shape == (1, 7)
    np.testing.assert_array_equal(probe.features["moveline_item_id"][0], features["moveline_item_id"][1])
    count = probe.features["candidate_item_id"].shape[1]
    assert 1 < count <= 6 and probe.features[CANDIDATE_MASK].numpy().all()
    assert probe.clicked[0] and probe.features["candidate_item_id"][0, 0] == features["candidate_item_id"][1, 0]
    own = min(3, int(features[CANDIDATE_MASK][1].numpy().sum()))
    others = probe.features["candidate_category_id"].numpy()[0, own:]
    assert len(set(others)) == len(others) and not probe.clicked[own:].any()


def test_targets_can_be_chosen(features):
    shown, mask = features["candidate_item_id"].numpy(), features[CANDIDATE_MASK].numpy()
    own, other = shown[1, 0], next(item for item in shown[mask] if item not in shown[1])
    label = np.zeros(shown.shape, np.float32)
    label[1, 0] = 1
    probe = plots.choose_probe({**features, LABEL: tf.constant(label)}, items=[int(other), int(own)])
    np.testing.assert_array_equal(probe.features["candidate_item_id"], [[other, own]])
    np.testing.assert_array_equal(probe.features["moveline_item_id"][0], features["moveline_item_id"][1])
    assert list(probe.clicked) == [False, True]
    # What goes with the item is what it was shown with.
    place = tuple(np.argwhere((shown == other) & mask)[0])
    assert probe.features["candidate_category_id"][0, 0] == features["candidate_category_id"][place]
    with pytest.raises(ValueError, match="got id 999, which was not"):
        plots.choose_probe(features, items=[999])


def test_heat_map_shows_the_attention_by_state_and_head(ctr, features):
    probe = plots.choose_probe(features)
    figure = plots.alignment_heat_map(ctr, probe, lambda item: f"item {item}")
    axes = figure.axes[0]
    drawn = axes.images[0].get_array()
    weights = ctr.alignment_weights(probe.features)[0].numpy()
    assert drawn.shape == (weights.shape[1], H * T)
    for head in range(H):
        for state in range(T):
            np.testing.assert_allclose(drawn[:, state * H + head], weights[head, :, state], rtol=1e-6)
    assert axes.get_yticklabels()[0].get_text().startswith(f"item {int(probe.features['candidate_item_id'][0, 0])}")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["f(t0)", "f(t0+1)", "f(t0+2)"]


def test_calibration_scores_are_those_of_real_candidates(ctr, features):
    found = plots.calibration_scores(ctr, [features, features])
    mask = features[CANDIDATE_MASK].numpy()
    expected = ctr.score(features).calibration.numpy()[mask]
    np.testing.assert_allclose(found.score, np.tile(expected, 2), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.clicked, np.tile(features[LABEL].numpy()[mask] > 0.5, 2))


def test_density_integrates_to_one_and_is_zero_without_values():
    grid = np.linspace(-8, 8, 2001)
    found = plots.density(np.random.default_rng(0).normal(size=500), grid)
    assert found.sum() * (grid[1] - grid[0]) == pytest.approx(1.0, abs=1e-3)
    assert not plots.density(np.array([1.0]), grid).any() and not plots.density(np.ones(5), grid).any()


def test_density_figure_has_a_panel_a_variant_on_one_scale():
    rng = np.random.default_rng(0)
    scores = plots.CalibrationScores(rng.normal(size=50), rng.random(50) < 0.3)
    wide = plots.CalibrationScores(3 * rng.normal(size=50), rng.random(50) < 0.3)
    figure = plots.calibration_density({"with TSP": wide, "without TSP": scores})
    assert [axes.get_title() for axes in figure.axes] == ["with TSP", "without TSP"]
    assert len({axes.get_xlim() for axes in figure.axes}) == 1
    clicked = int(scores.clicked.sum())
    assert [t.get_text() for t in figure.axes[1].get_legend().get_texts()] == [
        f"clicked, {clicked}",
        f"unclicked, {50 - clicked}",
    ]


def test_images_come_to_tensorboard_and_as_png(ctr, features, tmp_path):
    figure = plots.alignment_heat_map(ctr, plots.choose_probe(features))
    plots.write_images({"figure_2_alignment": figure}, tmp_path)
    png = (tmp_path / "validation" / "figure_2_alignment.png").read_bytes()
    events = EventAccumulator(str(tmp_path / "validation"), size_guidance={"tensors": 0}).Reload()
    (event,) = events.Tensors("figure_2_alignment")
    width, height, encoded = event.tensor_proto.string_val
    drawn = tf.io.decode_png(png).numpy()
    assert (int(width), int(height)) == (drawn.shape[1], drawn.shape[0]) and min(drawn.shape[:2]) > 100
    np.testing.assert_array_equal(tf.io.decode_png(encoded, channels=4), drawn)
    # Not one colour throughout.
    assert len(np.unique(drawn.reshape(-1, drawn.shape[-1]), axis=0)) > 10


def test_item_names():
    assert plots.item_ids([b"tent", "Zelt \u00fc".encode()], unseen=3) == {"tent": 4, "Zelt \u00fc": 5}
    name = plots.item_names([b"tent", "Zelt \u00fc".encode()], unseen=3)
    assert [name(4), name(5), name(2), name(6)] == ["tent", "Zelt \u00fc", "new item, bucket 2", "new item, bucket 6"]
