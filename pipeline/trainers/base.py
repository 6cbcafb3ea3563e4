"""Trainer of Θ_base: the discriminative base of the stage-1 window, and of the baseline, which learns from both."""

from amen_tf.config import BaseSettings
from amen_tf.fitting.ranker import fit_ranker
from pipeline.trainers.common import Stage


def run_fn(fn_args) -> None:
    """Trains the base on its Trainer's splits and exports it.

    There are two of it: Θ_base, of the stage-1 window, initialises the generator; the baseline (the paper's MEDN),
    which has seen both windows, is what AMEN is compared with. With a `base_model` training goes on from there.
    """
    with Stage(fn_args) as stage:
        settings = BaseSettings(**stage.config["settings"]["base"])
        weights = stage.base_weights() if fn_args.base_model else None
        fitted = fit_ranker(settings.architecture, stage.spec, settings, stage.windows, stage.session, weights)
        stage.export(fitted.model)
        stage.explain(fitted)
