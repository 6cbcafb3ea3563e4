"""Trainer of Θ_base: the discriminative base, learned from the stage-1 window; also its continuation on stage 2."""

from amen_tf.config import BaseSettings
from amen_tf.fitting.ranker import fit_ranker
from pipeline.trainers.common import Stage


def run_fn(fn_args) -> None:
    """Trains the base on its Trainer's splits.

    Without a `base_model` it starts afresh: Θ_base, from the stage-1 window. With one it goes on from there: the
    baseline (the paper's MEDN) that has seen the same windows as AMEN and is what AMEN is compared with.
    """
    with Stage(fn_args) as stage:
        settings = BaseSettings(**stage.config["settings"]["base"])
        weights = stage.base_weights() if fn_args.base_model else None
        fitted = fit_ranker(settings.architecture, stage.spec, settings, stage.windows, stage.session, weights)
        stage.export(fitted.model)
        stage.explain(fitted)
