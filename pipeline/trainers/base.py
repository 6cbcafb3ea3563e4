"""Trainer of Θ_base: the discriminative base of the stage-1 window, and of the baseline, which learns from both."""

from amen_tf.config import BaseSettings
from amen_tf.fitting.ranker import fit_ranker
from pipeline.trainers.common import Stage


def run_fn(fn_args) -> None:
    """Trains the base on its Trainer's splits and exports it.

    There are two of it: Θ_base, of the stage-1 window, initialises the generator; the baseline (the paper's MEDN),
    which has seen both windows, is what AMEN is compared with. With a `base_model` training goes on from there.

    Reading of a warm start: Θ_base goes on from the earlier run's Θ_base, the baseline from its baseline and no longer
    from Θ_base. AMEN's CTR model goes on from the earlier one too, which has learned from stage 2 of every run before:
    a baseline that came by way of Θ_base would have had each day of stage 2 in one run, AMEN in as many as the day was
    in. Without an earlier baseline it starts as on a cold start, where it goes on from a Θ_base that is warm.

    Raises:
      InitializationError: the earlier run had another architecture, or its weights fit nowhere.
    """
    with Stage(fn_args) as stage:
        settings = stage.trainer_settings(BaseSettings, "base")
        name = settings.architecture
        warm = stage.earlier and stage.warm_start(stage.earlier.ranker_file)
        weights = stage.base_weights() if fn_args.base_model else None
        fitted = fit_ranker(name, stage.spec, settings, stage.windows, stage.session, weights, warm)
        stage.export(fitted.model)
        stage.explain(fitted)
