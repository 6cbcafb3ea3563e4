"""Stage 1: the generator, from Θ_base to a model that has been looked at."""

import logging
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from amen_tf.config import GeneratorSettings
from amen_tf.diagnostics import Cosines, Diagnosis, check_collapse
from amen_tf.features import CANDIDATE, FUTURE, ITEM_ID, MOVELINE, PAD_ID, is_of_candidates
from amen_tf.fitting.result import Fitted
from amen_tf.initialization import CopyReport, copy_by_name
from amen_tf.models.generator import Generator
from amen_tf.models.negatives import Catalogue
from amen_tf.spec import ModelSpec
from amen_tf.training import Session, Watched, train, watched_figures
from amen_tf.warm_start import WarmStart
from amen_tf.windows import Window, Windows

# What base and generator share.
GENERATOR_PARTS = ("encoder",)


class TrainingDataError(ValueError):
    """The generator's windows hold nothing that it could learn from or be judged by."""


def fit_generator(
    spec: ModelSpec,
    settings: GeneratorSettings,
    windows: Windows,
    session: Session,
    base_weights: Mapping,
    item_counts: np.ndarray,
    warm: WarmStart | None = None,
) -> Fitted:
    """Stage 1 (Algorithm 1, lines 2-15): initialises the generator from Θ_base and trains it.

    Args:
      spec: features, sizes and shapes.
      settings: losses, decoder, optimisation.
      windows: with future items.
      session: where and how.
      base_weights: of Θ_base, by name.
      item_counts: `[ids]`, how often each item is a future item of the window, for the log-Q correction.
      warm: the generator of an earlier run, to go on from instead, all of it: see `start_warm`. `weight_init` is for
        those that start afresh.

    Raises:
      TrainingDataError: no request of a window is followed by a positive event.
      InitializationError: what it should go on from has nothing for it.
      CollapseError: the trained generator says the same of everyone.
    """
    catalogue, known, followed = read_catalogue(spec, windows.train, item_counts)
    eval_data = with_future(windows.eval.batches(settings.batch_size), settings.batch_size)
    first = next(iter(eval_data), None)
    if first is None:
        raise TrainingDataError(
            "The generator has nothing to be evaluated on: no request of the eval split is followed by a positive "
            "event inside it. Expected at least one; widen the eval window (settings: split.train_end, eval_end)."
        )
    with session.devices.scope():
        model = Generator(spec, settings, catalogue)
        model.compute_losses(first, False, tf.constant([0, 0], tf.int64))
        model(first)
    if warm is not None:
        copied = start_warm(model, warm, known)
    else:
        copied = copy_by_name(base_weights, model, GENERATOR_PARTS) if settings.weight_init else None
        silence_unknown(model, known)
    logging.info("Generator: %s.", copied or "weights as initialised, none copied")
    diagnosis, seen, unseen = Diagnosis(model, catalogue), windows.train.batches(256), windows.eval.batches(256)
    diagnosed = []

    def diagnose() -> dict[str, float]:
        diagnosed.append(diagnosis.figures(seen, unseen, settings.rank_requests))
        return diagnosed[-1]

    train_data = with_future(windows.train.batches(settings.batch_size, spec.seed), settings.batch_size)
    steps = -(-followed // settings.batch_size)
    watched = Watched("info_nce", False)
    history = train(model, settings, train_data, eval_data, watched, session, steps, diagnose, warm is not None)
    # Of the weights that are kept, which need not be those of the last epoch.
    found = watched_figures(history, watched.name)
    figures = diagnosed[found.index(min(found))]
    if windows.eval.size > settings.rank_requests:
        figures = {**figures, **diagnosis.rank_all(unseen)}
    check_collapse(Cosines(**{name: figures[f"cosine_{name}"] for name in Cosines._fields}), settings.collapse_limit)
    return Fitted(model, history, train_data, copied, figures)


def silence_unknown(model: Generator, known: Mapping[str, np.ndarray]) -> None:
    """Sets to zero the vectors of items, categories and item features that are not among `known`, ids by meaning.

    The window has none of them, so nothing is learned of them: the noise that they start with would be read, in stage
    2, as if it meant something. An item that is new in stage 2 is its category and features, as in serving.
    """
    for meaning, table in model.encoder.items.tables.items():
        there = np.zeros((table.table.shape[0], 1), bool)
        there[known[meaning]] = True
        table.table.assign(tf.where(there, table.table, 0.0))


def start_warm(model: Generator, warm: WarmStart, known: Mapping[str, np.ndarray]) -> CopyReport:
    """Copies an earlier generator, encoder included, into a built `model`.

    Reading: Θ_base gives nothing to a generator that starts warm. Its encoder has moved away from Θ_base's since it
    started from there, and the decoder, and the CTR model that reads the flow, have followed it.

    What it knows is what the earlier one had learned: of an item that the window lacks, the vector that it had. It is
    not trained on any more, but stays near, for all else goes on from where it was; to set it to zero would take from
    stage 2 what was known of an item that comes back. What the earlier one was silent about starts at zero.

    Args:
      model: built.
      warm: the earlier generator.
      known: ids of the window by meaning; of a table that the earlier one has nothing for, all that is not silent.
    """
    copied = warm.into(model)
    # Nothing in a table that was copied is noise.
    whole = {
        meaning: np.arange(table.size)
        for meaning, table in model.encoder.items.tables.items()
        if f"encoder/items/tables/{meaning}/table" in copied.copied
    }
    silence_unknown(model, {**known, **whole})
    return copied


def with_future(batches: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
    """Only requests that the user followed with a positive event, without their candidates, which no flow reads.

    The other requests teach a generator nothing. Candidates could not be batched anew either: each batch has as many as
    its widest request.
    """

    @tf.autograph.experimental.do_not_convert
    def keep(features):
        followed = features[FUTURE + ITEM_ID][:, 0] != PAD_ID
        read = {name: column for name, column in features.items() if not is_of_candidates(name)}
        return {name: tf.boolean_mask(column, followed) for name, column in read.items()}

    return batches.map(keep, tf.data.AUTOTUNE, deterministic=True).rebatch(batch_size).prefetch(2)


def read_catalogue(
    spec: ModelSpec, window: Window, item_counts: np.ndarray
) -> tuple[Catalogue, dict[str, np.ndarray], int]:
    """The distinct items of the window, with one value of each field and their frequencies as future items.

    Also every id that occurs, by meaning, and the number of rows with a future. `item_counts` as of `fit_generator`.

    Raises:
      TrainingDataError: no request is followed by a positive event.
    """
    fields = spec.contract.item_fields
    items, followed = np.zeros((0, len(fields)), np.int64), 0
    for features in window.batches(1024).as_numpy_iterator():
        followed += int((features[FUTURE + ITEM_ID][:, 0] != PAD_ID).sum())
        for prefix in (FUTURE, CANDIDATE, MOVELINE):
            rows = np.stack([features[prefix + field].ravel() for field in fields], 1)
            items = np.unique(np.concatenate([items, rows]), axis=0)
    known: dict[str, np.ndarray] = {}
    for i, meaning in enumerate(map(spec.contract.meaning_of, fields)):
        known[meaning] = np.union1d(known.get(meaning, [0]), items[:, i]).astype(np.int64)
    items = items[items[:, 0] != PAD_ID]
    # An item whose category changed appears more than once; one row is enough, and unique() put them side by side.
    items = items[np.r_[True, items[1:, 0] != items[:-1, 0]]] if len(items) else items
    if not followed:
        raise TrainingDataError(
            "The generator has nothing to learn from: no request of its window is followed by a positive event inside "
            "it. Expected rows whose behaviour is in data.positive_behaviors; check that setting and split.stage1_end."
        )
    columns = {field: np.ascontiguousarray(items[:, i]) for i, field in enumerate(fields)}
    return Catalogue(columns, (item_counts / item_counts.sum()).astype(np.float32)), known, followed
