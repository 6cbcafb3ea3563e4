"""One training loop for all models: seeds, early stopping on eval, TensorBoard and progress."""

import math
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import tensorflow as tf
import tf_keras as keras

from amen_tf.config import ComputeSettings, TrainerSettings
from amen_tf.distribution import for_replicas
from amen_tf.initialization import START_AFRESH
from amen_tf.optimizer import LazyAdamW
from amen_tf.precision import with_loss_scaling
from amen_tf.progress import Progress

# Steps between two points of the per-step curves in TensorBoard; every step would cost more than it shows.
STEPS_PER_POINT = 10
# Before the names of the history's figures of the weights that a training has begun with.
START = "start_"


class Watched(NamedTuple):
    """The eval figure that decides about early stopping: its Keras name and whether more is better."""

    name: str
    more_is_better: bool


class Session(NamedTuple):
    """Where and how a training runs.

    Attributes:
      log_dir: TensorBoard's folder.
      report: called after every step.
      compute: precision and XLA.
      strategy: over which devices; None takes the one in force.
    """

    log_dir: str | pathlib.Path
    report: Callable[[Progress], None]
    compute: ComputeSettings = ComputeSettings()
    strategy: tf.distribute.Strategy | None = None

    @property
    def devices(self) -> tf.distribute.Strategy:
        """The strategy in force."""
        return self.strategy or tf.distribute.get_strategy()


class ProgressCallback(keras.callbacks.Callback):
    """Reports each step to a function, and ends the training after the last one, be it in the middle of an epoch.

    Args:
      report: called with a `Progress`.
      total: steps of the whole training.
    """

    def __init__(self, report: Callable[[Progress], None], total: int):
        super().__init__()
        self.report, self.total, self.done = report, total, 0

    def on_train_batch_end(self, batch, logs=None):
        self.done += 1
        self.report(Progress(self.done, self.total, dict(logs or {})))
        if self.done >= self.total:
            self.model.stop_training = True

    def on_epoch_end(self, epoch, logs=None):
        self.report(Progress(self.done, self.total, dict(logs or {})))


class KeepBest(keras.callbacks.Callback):
    """Ends the training after `patience` epochs without a better eval figure, and always restores the best epoch.

    Keras' own EarlyStopping restores only when it stops early, so that a last epoch that is worse would be kept.

    Args:
      watched: the figure.
      patience: epochs.
      start: the figure of the weights that the training begins with, which then are kept unless an epoch is better;
        None, and it is between the epochs alone.
    """

    def __init__(self, watched: Watched, patience: int, start: float | None = None):
        super().__init__()
        self.watched, self.patience, self.start = watched, patience, start
        self.best, self.weights, self.waited = None, None, 0

    def on_train_begin(self, logs=None):
        if self.start is None:
            return
        if not math.isfinite(self.start):
            raise FloatingPointError(
                f"Before the first epoch {self.watched.name} on eval is {self.start}: expected a number. The weights "
                f"of the earlier run are of no use here; start afresh: {START_AFRESH}."
            )
        self.best, self.weights = self._score(self.start), self.model.get_weights()

    def on_epoch_end(self, epoch, logs=None):
        figure = logs[f"val_{self.watched.name}"]
        if not math.isfinite(figure):
            raise FloatingPointError(
                f"After epoch {epoch + 1} {self.watched.name} on eval is {figure}: expected a number. The training has "
                "diverged; lower its learning_rate, or set compute.precision to float32."
            )
        score = self._score(figure)
        if self.best is None or score > self.best:
            self.best, self.weights, self.waited = score, self.model.get_weights(), 0
            return
        self.waited += 1
        self.model.stop_training = self.waited >= self.patience

    def on_train_end(self, logs=None):
        if self.weights is not None:
            self.model.set_weights(self.weights)

    def _score(self, figure: float) -> float:
        return figure if self.watched.more_is_better else -figure


def make_deterministic(seed: int) -> None:
    """Seeds Python, NumPy and TensorFlow and asks for deterministic kernels: same seed, same machine, same result."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


class Throughput(keras.callbacks.Callback):
    """Adds `steps_per_second` to every epoch's figures: training steps alone, without eval and without tracing."""

    # Steps at the beginning of an epoch that are not timed: the first trace, and fill the input's buffers.
    WARM = 3

    def on_epoch_begin(self, epoch, logs=None):
        self.done, self.begin, self.end = 0, None, None

    def on_train_batch_end(self, batch, logs=None):
        self.done, self.end = self.done + 1, time.perf_counter()
        if self.done == self.WARM:
            self.begin = self.end

    def on_epoch_end(self, epoch, logs=None):
        if self.done > self.WARM and self.end > self.begin:
            logs["steps_per_second"] = (self.done - self.WARM) / (self.end - self.begin)


class Diagnose(keras.callbacks.Callback):
    """Adds figures to those of eval at the end of every epoch, before others write them down.

    Args:
      figures: gives figures by name for the model as it is.
    """

    def __init__(self, figures: Callable[[], Mapping[str, float]]):
        super().__init__()
        self.figures = figures

    def on_epoch_end(self, epoch, logs=None):
        logs.update({f"val_{name}": value for name, value in self.figures().items()})


def train(
    model: keras.Model,
    settings: TrainerSettings,
    train_data: tf.data.Dataset,
    eval_data: tf.data.Dataset,
    watched: Watched,
    session: Session,
    steps_per_epoch: int,
    diagnose: Callable[[], Mapping[str, float]] | None = None,
    keep_start: bool = False,
) -> dict[str, list[float]]:
    """Fits `model`, keeps the weights of the epoch that was best on eval, and returns the history by figure.

    The history has a value for each epoch; with `keep_start` also, under `start_` and the figure's name, the one on
    eval before the first, which `watched_figures` puts where it belongs.

    Args:
      model: built by its first batch; its metrics are what TensorBoard shows.
      settings: epochs, learning rate, decay, patience, steps. All are those of the global batch: with several devices
        each takes a part of every batch.
      train_data, eval_data: batches of features; train is one shuffled pass.
      watched: the eval figure for early stopping.
      session: where and how; `train/` and `validation/` come to lie under its TensorBoard folder.
      steps_per_epoch: batches in one pass of `train_data`.
      diagnose: further eval figures, worked out at the end of every epoch, and before the first with `keep_start`.
      keep_start: the weights that the model has come with are kept where no epoch is better. A warm start's are good
        ones; those of a cold start are noise, and are not looked at.
    """
    total = steps_per_epoch * settings.epochs
    if settings.max_steps is not None:
        total = min(total, settings.max_steps)
    steps = min(steps_per_epoch, total)
    epochs = -(-total // steps)
    with session.devices.scope():
        optimizer = LazyAdamW(settings.learning_rate, weight_decay=settings.weight_decay)
        optimizer = with_loss_scaling(optimizer)
        # Slots made here are not made inside the first step, which would then be traced twice.
        optimizer.build(model.trainable_variables)
        model.compile(optimizer=optimizer, jit_compile=session.compute.xla)
    if session.devices.num_replicas_in_sync > 1:
        train_data, eval_data = for_replicas(train_data), for_replicas(eval_data)
    # Nothing here has control flow for AutoGraph to find; looking for it in Keras' sources takes seconds.
    plain = tf.autograph.experimental.do_not_convert
    start = {}
    if keep_start:
        start = {**(diagnose() if diagnose is not None else {})}
        start |= plain(model.evaluate)(eval_data, verbose=0, return_dict=True)
    callbacks = [
        ProgressCallback(session.report, total),
        Throughput(),
        *([Diagnose(diagnose)] if diagnose is not None else []),
        keras.callbacks.TensorBoard(str(session.log_dir), update_freq=STEPS_PER_POINT, write_graph=False),
        KeepBest(watched, settings.patience, start.get(watched.name)),
    ]
    fit = plain(model.fit)
    history = fit(train_data.take(steps), epochs=epochs, validation_data=eval_data, callbacks=callbacks, verbose=0)
    figures = {name: [float(v) for v in values] for name, values in history.history.items()}
    return figures | {START + name: [float(value)] for name, value in start.items()}


def watched_figures(history: Mapping[str, list[float]], name: str) -> list[float]:
    """The eval figures among which `train` has chosen: of the start, where it could be kept, then of every epoch.

    Args:
      history: of `train`.
      name: of the watched figure.
    """
    return [*history.get(START + name, []), *history[f"val_{name}"]]
