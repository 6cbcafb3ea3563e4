"""Stage 2: the CTR model on the frozen generator."""

import logging
import pathlib
from collections.abc import Mapping

from amen_tf.config import CtrSettings
from amen_tf.fitting.result import Fitted
from amen_tf.flows import FlowStore
from amen_tf.initialization import CopyReport, copy_by_name, named_weights
from amen_tf.models.candidate_ranker import MERGE_INPUTS
from amen_tf.models.ctr import CtrModel
from amen_tf.models.frozen_generator import FrozenGenerator
from amen_tf.spec import ModelSpec
from amen_tf.training import Session, Watched, train
from amen_tf.warm_start import WarmStart
from amen_tf.windows import JoinedWindow, Window, Windows

# What the CTR model shares with a Θ_base of any architecture; the merge MLP reads other inputs in other places.
COMMON_PARTS = ("encoder", "matched", "request_side", "candidate_side")
# What it shares with a `BaseModel`. The merge MLP has the flow's features behind the base's own inputs: the CTR model
# starts as the base and learns from stage 2 what the flow adds.
CTR_PARTS = (*COMMON_PARTS, "attention", "merge")
CTR_GROWN = tuple(MERGE_INPUTS)


def fit_ctr(
    spec: ModelSpec,
    settings: CtrSettings,
    windows: Windows,
    session: Session,
    base_weights: Mapping,
    generator: str | pathlib.Path | None,
    flows: FlowStore,
    earlier: Window | None = None,
    warm: WarmStart | None = None,
) -> Fitted:
    """Stage 2 (Algorithm 1, lines 16-33): trains F_θ on the frozen generator's flows, which are computed once.

    Args:
      spec: features, sizes and shapes.
      settings: λ, parts, optimisation.
      windows: what it learns from and what stops it.
      session: where and how.
      base_weights: of Θ_base, by name; they initialise the parts that both have, unless the model starts afresh
        (`settings.window: train`).
      generator: folder of the exported generator.
      flows: where its outputs are kept.
      earlier: the stage-1 window, where there are two; the model learns from it too with `settings.window: train`, but
        without flows: of those clicks the generator knows too much.
      warm: the CTR model of an earlier run, to go on from instead, whatever the window. Its generator must be the one
        that `generator` went on from: what it has learned to read is that one's flow.

    Raises:
      InitializationError: what it should go on from has nothing for it.
    """
    goes_on = settings.window == "stage2"
    window = windows.train if goes_on or earlier is None else JoinedWindow([earlier, windows.train])
    eval_batches = windows.eval.batches(settings.batch_size)
    # Loaded outside the scope: inside, a SavedModel's functions could be called in replicas and nowhere else. What is
    # frozen needs no copy a device that is kept the same.
    frozen = FrozenGenerator(generator, spec.contract, name="generator") if settings.use_flow else None
    with session.devices.scope():
        model = CtrModel(spec, settings, frozen)
        model(next(iter(eval_batches)))
    copied = None
    if warm is not None:
        copied = warm.into(model)
    elif goes_on:
        copied = initialise(model, base_weights)
    logging.info("CTR model: %s.", copied or "weights as initialised, none copied")
    train_flows, eval_flows = None, None
    if settings.use_flow:
        shape = (spec.shape.flow_length, spec.shape.dim)
        train_flows = flows.of(generator, model.generator, windows.train, *shape)
        if window is not windows.train:
            train_flows = [flows.absent(earlier, *shape), train_flows]
        eval_flows = flows.of(generator, model.generator, windows.eval, *shape)
    train_data = window.batches(settings.batch_size, spec.seed, train_flows)
    eval_data = windows.eval.batches(settings.batch_size, None, eval_flows)
    steps = -(-window.size // settings.batch_size)
    watched = Watched("auc", True)
    history = train(model, settings, train_data, eval_data, watched, session, steps, keep_start=warm is not None)
    return Fitted(model, history, train_data, copied)


def initialise(model: CtrModel, base_weights: Mapping) -> CopyReport:
    """Copies from Θ_base what both have: all of it from a `BaseModel`, from other architectures what means the same.

    Args:
      model: built.
      base_weights: of Θ_base, by name.

    Raises:
      InitializationError: nothing could be copied.
    """
    is_base = all(name in base_weights for name in named_weights(model) if name.startswith("attention/"))
    if is_base:
        return copy_by_name(base_weights, model, CTR_PARTS, CTR_GROWN)
    return copy_by_name(base_weights, model, COMMON_PARTS)
