"""Trainer of G_φ: the generator of the Next Interest Flow, initialised by name from Θ_base."""

import logging
import pathlib
import shutil

import numpy as np
import tensorflow as tf

from amen_tf.config import GeneratorSettings
from amen_tf.features import CANDIDATE, FUTURE, ITEM_ID, PAD_ID
from amen_tf.initialization import copy_by_name
from amen_tf.models.frozen_generator import export_generator
from amen_tf.models.generator import Generator
from amen_tf.models.negatives import Catalogue
from amen_tf.training import Watched
from pipeline.trainers.common import BASE_WEIGHTS, EXTRA, WEIGHTS, Stage

# The parts that base and generator share.
SHARED = ("encoder",)


def run_fn(fn_args) -> None:
    """Trains the generator on the stage-1 window and exports it as a SavedModel on ids, to be frozen in stage 2."""
    stage = Stage(fn_args)
    settings = GeneratorSettings(**stage.config["settings"]["generator"])
    catalogue, examples = _catalogue(stage, stage.requests(fn_args.train_files, 1024, shuffle=False))
    model = Generator(stage.spec, settings, catalogue)
    eval_data = _with_future(stage.requests(fn_args.eval_files, settings.batch_size, shuffle=False), settings)
    first = next(iter(eval_data), None)
    if first is None:
        raise ValueError(
            "The generator has nothing to be evaluated on: no request of the eval split is followed by a positive "
            "event inside it. Expected at least one; widen the eval window (settings: split.train_end, eval_end)."
        )
    model.compute_losses(first, False, tf.constant([0, 0], tf.int64))
    model(first)
    if settings.weight_init:
        logging.info("Generator: %s.", copy_by_name(stage.base_weights(), model, SHARED))
    train_data = _with_future(stage.requests(fn_args.train_files, settings.batch_size, shuffle=True), settings)
    history = stage.train(model, settings, Watched("info_nce", False), train_data, eval_data, examples)
    export_generator(model, stage.output)
    stage.explain(model, history)
    shutil.copyfile(pathlib.Path(fn_args.base_model) / EXTRA / WEIGHTS, stage.output / EXTRA / BASE_WEIGHTS)


def _with_future(batches: tf.data.Dataset, settings: GeneratorSettings) -> tf.data.Dataset:
    """Only requests that the user followed with a positive event: the others teach nothing."""

    @tf.autograph.experimental.do_not_convert
    def keep(features):
        followed = features[FUTURE + ITEM_ID][:, 0] != PAD_ID
        return {name: tf.boolean_mask(column, followed) for name, column in features.items()}

    return batches.map(keep, tf.data.AUTOTUNE, deterministic=True).rebatch(settings.batch_size).prefetch(2)


def _catalogue(stage: Stage, batches: tf.data.Dataset) -> tuple[Catalogue, int]:
    """The distinct items of the window with their fields, their frequencies as future items, and rows with a future."""
    fields = stage.spec.contract.item_fields
    items = np.zeros((0, len(fields)), np.int64)
    counts, examples = np.zeros(stage.spec.sizes[ITEM_ID], np.int64), 0
    for features in batches.as_numpy_iterator():
        future = features[FUTURE + ITEM_ID]
        examples += int((future[:, 0] != PAD_ID).sum())
        counts += np.bincount(future.ravel(), minlength=len(counts))
        for prefix in (FUTURE, CANDIDATE):
            rows = np.stack([features[prefix + field].ravel() for field in fields], 1)
            items = np.unique(np.concatenate([items, rows]), axis=0)
    items = items[items[:, 0] != PAD_ID]
    # An item whose category changed appears more than once; one row is enough, and unique() put them side by side.
    items = items[np.r_[True, items[1:, 0] != items[:-1, 0]]] if len(items) else items
    counts[PAD_ID] = 0
    if not counts.any():
        raise ValueError(
            "The generator has nothing to learn from: no request of its window is followed by a positive event inside "
            "it. Expected rows whose behaviour is in data.positive_behaviors; check that setting and split.stage1_end."
        )
    columns = {field: np.ascontiguousarray(items[:, i]) for i, field in enumerate(fields)}
    return Catalogue(columns, (counts / counts.sum()).astype(np.float32)), examples
