"""Trainer of Θ_base: the discriminative base, learned from the stage-1 window; also its continuation on stage 2."""

from amen_tf.config import TrainerSettings
from amen_tf.initialization import copy_by_name
from amen_tf.models.base import BaseModel
from amen_tf.training import Watched
from pipeline.trainers.common import Stage


def run_fn(fn_args) -> None:
    """Trains the base on its Trainer's splits.

    Without a `base_model` it starts afresh: Θ_base, from the stage-1 window. With one it goes on from there: the
    baseline (the paper's MEDN) that has seen the same windows as AMEN and is what AMEN is compared with.
    """
    stage = Stage(fn_args)
    settings = TrainerSettings(**stage.config["settings"]["base"])
    model = BaseModel(stage.spec)
    eval_data = stage.requests(fn_args.eval_files, settings.batch_size, shuffle=False)
    model(next(iter(eval_data)))
    if fn_args.base_model:
        weights = stage.base_weights()
        copy_by_name(weights, model, {name.split("/")[0] for name in weights})
    train_data = stage.requests(fn_args.train_files, settings.batch_size, shuffle=True)
    history = stage.train(model, settings, Watched("auc", True), train_data, eval_data)
    stage.export(model)
    stage.explain(model, history)
