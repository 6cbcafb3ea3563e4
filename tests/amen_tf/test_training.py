"""The training loop: the best epoch is kept, steps are counted, TensorBoard shows every figure."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from amen_tf.config import TrainerSettings
from amen_tf.features import CANDIDATE_MASK, LABEL
from amen_tf.models.ranking import RankingModel, keras_step
from amen_tf.progress import Progress
from amen_tf.training import KeepBest, Session, Watched, make_deterministic, train, watched_figures


class Scripted(keras.Model):
    """Each training step adds 1 to its only weight; eval reads its figure off a curve by the weight's value."""

    def __init__(self, curve):
        super().__init__()
        self.curve = tf.constant(curve, tf.float32)
        self.w = self.add_weight(name="w", shape=(), initializer="zeros")

    def call(self, x):
        return x

    @keras_step
    def train_step(self, data):
        self.w.assign_add(1.0)
        return {"figure": self.w.value()}

    @keras_step
    def test_step(self, data):
        return {"figure": tf.gather(self.curve, tf.cast(self.w, tf.int32))}


def run(folder, curve, more_is_better=True, steps_per_epoch=1, diagnose=None, keep_start=False, **settings):
    """Trains a scripted model. Returns its weight at the end, the history and all reports."""
    model, reports = Scripted(curve), []
    data = tf.data.Dataset.range(steps_per_epoch).batch(1)
    options = TrainerSettings(**{"epochs": len(curve) - 1, "patience": 99, **settings})
    watched = Watched("figure", more_is_better)
    session = Session(folder, reports.append)
    history = train(
        model, options, data, data.take(1), watched, session, steps_per_epoch, diagnose and diagnose(model), keep_start
    )
    return float(model.w.numpy()), history, reports


def test_best_epoch_is_restored_though_a_worse_one_came_last(tmp_path):
    # The curve's value after 1, 2, 3 and 4 steps, one step an epoch; the training ends by itself.
    weight, history, _ = run(tmp_path, [9, 0.5, 0.8, 0.7, 0.6])
    assert weight == 2.0
    assert history["val_figure"] == pytest.approx([0.5, 0.8, 0.7, 0.6])
    assert history["figure"] == [1.0, 2.0, 3.0, 4.0]


def test_first_of_equal_epochs_is_kept(tmp_path):
    assert run(tmp_path, [9, 0.5, 0.8, 0.8, 0.8])[0] == 2.0


def test_less_is_better_for_a_loss(tmp_path):
    assert run(tmp_path, [-9, 0.5, 0.2, 0.7, 0.6], more_is_better=False)[0] == 2.0


@pytest.mark.parametrize(("patience", "epochs"), [(1, 3), (2, 6), (3, 7)])
def test_stops_after_patience_epochs_without_a_better_one(tmp_path, patience, epochs):
    # Better at epochs 1, 2, 4; patience 1 ends at the first worse one, patience 2 at the second in a row.
    weight, history, _ = run(tmp_path, [0, 0.5, 0.6, 0.5, 0.7, 0.6, 0.6, 0.6, 0.6], patience=patience)
    assert len(history["figure"]) == epochs
    assert weight == (2.0 if patience == 1 else 4.0)


@pytest.mark.parametrize("direction", [1, -1])
def test_the_start_is_kept_where_no_epoch_is_better(tmp_path, direction):
    def trained(start, patience=99):
        curve = direction * np.array([start, 0.5, 0.8, 0.7])
        return run(tmp_path, curve, direction > 0, keep_start=True, patience=patience)

    weight, history, reports = trained(0.9)
    assert weight == 0.0 and reports[-1].done == 3
    # What has a value for each epoch has no other one.
    assert history["start_figure"] == pytest.approx([direction * 0.9])
    assert history["val_figure"] == pytest.approx([direction * f for f in (0.5, 0.8, 0.7)])
    assert history["figure"] == [1.0, 2.0, 3.0]
    assert watched_figures(history, "figure") == pytest.approx([direction * f for f in (0.9, 0.5, 0.8, 0.7)])
    assert trained(0.6)[0] == 2.0
    # The first of equal ones.
    assert trained(0.8)[0] == 0.0
    # The first epoch is not better: it is the first to be waited for.
    assert len(trained(0.6, patience=1)[1]["figure"]) == 1


def test_a_start_that_is_not_to_be_kept_is_not_looked_at(tmp_path):
    weight, history, _ = run(tmp_path, [9, 0.5, 0.8])
    assert weight == 2.0 and "start_figure" not in history
    assert watched_figures(history, "figure") == history["val_figure"]


def test_the_start_is_diagnosed_first(tmp_path):
    seen = []

    def diagnose(model):
        return lambda: seen.append(float(model.w.numpy())) or {"more": 10 * seen[-1]}

    _, history, _ = run(tmp_path, [1, 2, 3], diagnose=diagnose, keep_start=True)
    assert seen == [0.0, 1.0, 2.0]
    assert history["start_more"] == [0.0] and history["val_more"] == [10.0, 20.0]


def test_tensorboard_shows_epochs_alone_where_the_start_takes_part(tmp_path):
    run(tmp_path, [9, 0.5, 0.8], keep_start=True)
    steps, figures = zip(*scalars(tmp_path / "validation")["epoch_figure"], strict=True)
    assert steps == (0, 1) and figures == pytest.approx([0.5, 0.8])


def test_a_start_whose_figure_is_no_number_stops_the_training(tmp_path):
    with pytest.raises(
        FloatingPointError, match="Before the first epoch figure on eval is nan: .*warm_start.enabled=false"
    ):
        run(tmp_path, [float("nan"), 0.5], keep_start=True)


def test_keep_best_restores_every_weight_as_it_was():
    model = keras.Sequential([keras.layers.Dense(2, input_shape=(3,)), keras.layers.BatchNormalization()])
    callback = KeepBest(Watched("auc", True), patience=2)
    callback.set_model(model)
    best = None
    for epoch, figure in enumerate([0.5, 0.9, 0.7]):
        model.set_weights([np.full(w.shape, epoch + 1.0) for w in model.get_weights()])
        callback.on_epoch_end(epoch, {"val_auc": figure})
        best = best if figure != 0.9 else model.get_weights()
    assert not model.stop_training
    callback.on_train_end()
    for weight, expected in zip(model.get_weights(), best, strict=True):
        np.testing.assert_array_equal(weight, expected)


# Steps of an epoch, epochs, the bound -> steps done in all.
@pytest.mark.parametrize(
    ("steps_per_epoch", "epochs", "max_steps", "total"),
    [(4, 3, None, 12), (4, 3, 100, 12), (4, 3, 3, 3), (4, 3, 6, 6)],
)
def test_max_steps_bounds_all_epochs_together(tmp_path, steps_per_epoch, epochs, max_steps, total):
    curve = np.arange(20)
    weight, _, reports = run(tmp_path, curve, steps_per_epoch=steps_per_epoch, epochs=epochs, max_steps=max_steps)
    assert weight == total
    assert reports[-1].done == reports[-1].total == total


def test_progress_is_reported_after_every_step_with_the_newest_figures(tmp_path):
    _, _, reports = run(tmp_path, np.arange(9) / 10, steps_per_epoch=2, epochs=2)
    # One report a step, and one at the end of each epoch, which has the eval figures too.
    assert [r.done for r in reports] == [1, 2, 2, 3, 4, 4]
    assert all(isinstance(r, Progress) and r.total == 4 for r in reports)
    assert reports[0].figures == {"figure": 1.0}
    assert reports[2].figures == pytest.approx({"figure": 2.0, "val_figure": 0.2})
    assert reports[5].figures["val_figure"] == pytest.approx(0.4)


class TinyRanking(RankingModel):
    """A ranking model of one weight with a loss term of its own."""

    loss_terms = ("loss", "extra")

    def __init__(self):
        super().__init__()
        self.scale = self.add_weight(name="scale", shape=(), initializer="zeros")

    def call(self, features, training=None):
        return features["x"] * self.scale

    def compute_losses(self, features, training):
        terms, logits = super().compute_losses(features, training)
        return {**terms, "extra": self.scale**2}, logits


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tiny ranking model after two epochs of 25 steps: TensorBoard's folder and the history."""
    folder = tmp_path_factory.mktemp("tensorboard")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 2, 3)).astype(np.float32)
    features = {"x": x, LABEL: (x > 0).astype(np.float32), CANDIDATE_MASK: np.ones(x.shape, bool)}
    data = tf.data.Dataset.from_tensor_slices(features)
    settings = TrainerSettings(epochs=2, learning_rate=0.1, patience=2)
    watched = Watched("auc", True)
    make_deterministic(1)
    history = train(TinyRanking(), settings, data.take(25), data.skip(25), watched, Session(folder, lambda _: None), 25)
    return folder, history


def scalars(folder):
    """tag -> [(step, value)] of TensorBoard's files in a folder."""
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    return {
        tag: [(event.step, float(tf.make_ndarray(event.tensor_proto))) for event in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
    }


def test_tensorboard_has_every_loss_term_and_auc_per_epoch(trained):
    folder, history = trained
    train_scalars, eval_scalars = scalars(folder / "train"), scalars(folder / "validation")
    for name in ("loss", "extra", "auc"):
        np.testing.assert_allclose(train_scalars[f"epoch_{name}"], [*enumerate(history[name])], rtol=1e-6)
        np.testing.assert_allclose(eval_scalars[f"epoch_{name}"], [*enumerate(history[f"val_{name}"])], rtol=1e-6)


def test_tensorboard_has_every_loss_term_and_auc_per_step(trained):
    train_scalars = scalars(trained[0] / "train")
    for name in ("loss", "extra", "auc"):
        points = train_scalars[f"batch_{name}"]
        # 25 steps an epoch, a point every 10.
        assert len(points) >= 2 * 2
        steps = [step for step, _ in points]
        assert steps == sorted(set(steps)) and max(steps) > 25
        assert all(np.isfinite(value) for _, value in points)


def test_the_toy_is_learned(trained):
    history = trained[1]
    assert history["loss"][1] < history["loss"][0] < np.log(2)
    assert history["val_auc"][-1] > 0.99


def test_make_deterministic_seeds_everything():
    draws = []
    for seed in (3, 3, 4):
        make_deterministic(seed)
        draws.append((np.random.rand(), float(tf.random.uniform(()))))
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize("more_is_better", [True, False])
def test_a_figure_that_is_no_number_stops_the_training(tmp_path, more_is_better):
    with pytest.raises(FloatingPointError, match=r"After epoch 2 figure on eval is -?nan: .*learning_rate"):
        run(tmp_path, [9, 0.5, float("nan"), 0.7], more_is_better=more_is_better)
