"""Trainer of G_φ: the generator of the Next Interest Flow, initialised from Θ_base or from an earlier generator."""

import pathlib
import shutil

from amen_tf.config import GeneratorSettings, SplitSettings
from amen_tf.fitting.generator import fit_generator
from amen_tf.models.frozen_generator import export_generator
from amen_tf.strict_json import to_json
from pipeline.event_log.spans import stage1_spans
from pipeline.trainers.common import Stage
from pipeline.trainers.extra import BASE_WEIGHTS, EXTRA, GENERATOR_FIGURES, GENERATOR_WEIGHTS, WEIGHTS
from pipeline.vocabularies import item_counts


def run_fn(fn_args) -> None:
    """Trains the generator on the stage-1 window and exports it as a SavedModel on ids, to be frozen in stage 2."""
    with Stage(fn_args) as stage:
        settings = stage.trainer_settings(GeneratorSettings, "generator")
        run = stage.config["settings"]
        spans = stage1_spans(run["data"]["log"], SplitSettings(**run["split"]))
        counts = item_counts(stage.transform, stage.spec, spans)
        weights, warm = stage.base_weights(), stage.warm_start(GENERATOR_WEIGHTS)
        fitted = fit_generator(stage.spec, settings, stage.windows, stage.session, weights, counts, warm)
        export_generator(fitted.model, stage.output)
        stage.explain(fitted)
        figures = to_json(fitted.figures)
        (stage.output / EXTRA / GENERATOR_FIGURES).write_text(figures, encoding="utf-8")
        shutil.copyfile(pathlib.Path(fn_args.base_model) / EXTRA / WEIGHTS, stage.output / EXTRA / BASE_WEIGHTS)
