"""Θ_base, the baseline, and every other ranker of the registry."""

from collections.abc import Mapping

from amen_tf.config import TrainerSettings
from amen_tf.fitting.result import Fitted
from amen_tf.initialization import copy_by_name
from amen_tf.models.registry import make_ranker
from amen_tf.spec import ModelSpec
from amen_tf.training import Session, Watched, train
from amen_tf.warm_start import WarmStart
from amen_tf.windows import Windows


def fit_ranker(
    name: str,
    spec: ModelSpec,
    settings: TrainerSettings,
    windows: Windows,
    session: Session,
    weights: Mapping | None = None,
    warm: WarmStart | None = None,
) -> Fitted:
    """Trains the ranker called `name` (see `amen_tf.models.registry`): Θ_base, the baseline, a model of Table 2.

    Args:
      name: of the ranker.
      spec: features, sizes and shapes.
      settings: optimisation.
      windows: what it learns from and what stops it.
      session: where and how.
      weights: by name, to go on from; None starts afresh.
      warm: the same ranker of an earlier run, to go on from instead.

    Raises:
      InitializationError: what it should go on from has nothing for it.
    """
    eval_data = windows.eval.batches(settings.batch_size)
    with session.devices.scope():
        model = make_ranker(name, spec)
        model(next(iter(eval_data)))
    copied = None
    if warm is not None:
        copied = warm.into(model)
    elif weights is not None:
        copied = copy_by_name(weights, model, {name.split("/")[0] for name in weights})
    train_data = windows.train.batches(settings.batch_size, spec.seed)
    steps = -(-windows.train.size // settings.batch_size)
    watched = Watched("auc", True)
    history = train(model, settings, train_data, eval_data, watched, session, steps, keep_start=warm is not None)
    return Fitted(model, history, train_data, copied)
