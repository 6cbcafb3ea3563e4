"""Trainer of F_θ: the CTR model on the frozen generator, learned from the stage-2 window."""

import logging
import pathlib
import tempfile

from amen_tf.config import CtrSettings
from amen_tf.initialization import copy_by_name, load_weights
from amen_tf.input import FlowFile
from amen_tf.models.ctr import CtrModel
from amen_tf.training import Watched
from pipeline.trainers.common import BASE_WEIGHTS, EXTRA, Stage

# The parts that base and CTR model share. The merge MLP has the flow's features behind the base's own inputs: the CTR
# model starts as the base and learns from stage 2 what the flow adds.
SHARED = ("encoder", "attention", "request_side", "candidate_side", "merge")
GROWN = ("merge/candidate_input/kernel", "merge/request_input/kernel")


def run_fn(fn_args) -> None:
    """Trains the CTR model and exports it with its four signatures.

    `base_model` is the generator. The base's weights, which initialise the parts that both have, come along with it.
    """
    stage = Stage(fn_args)
    settings = CtrSettings(**stage.config["settings"]["ctr"])
    generator = pathlib.Path(fn_args.base_model)
    model = CtrModel(stage.spec, settings, generator if settings.use_flow else None)
    eval_batches = stage.requests(fn_args.eval_files, settings.batch_size, shuffle=False)
    model(next(iter(eval_batches)))
    weights = load_weights(generator / EXTRA / BASE_WEIGHTS)
    logging.info("CTR model: %s.", copy_by_name(weights, model, SHARED, GROWN))
    with tempfile.TemporaryDirectory(prefix="amen-flows-") as folder:
        train_flows, eval_flows = None, None
        if settings.use_flow:
            train_flows = _flows(stage, model, fn_args.train_files, f"{folder}/train")
            eval_flows = _flows(stage, model, fn_args.eval_files, f"{folder}/eval")
        size = settings.batch_size
        train_data = stage.requests(fn_args.train_files, size, shuffle=True, flows=train_flows)
        eval_data = stage.requests(fn_args.eval_files, size, shuffle=False, flows=eval_flows)
        history = stage.train(model, settings, Watched("auc", True), train_data, eval_data)
    stage.export(model)
    stage.explain(model, history)


def _flows(stage: Stage, model: CtrModel, files, path: str) -> FlowFile:
    flows = FlowFile(path, stage.spec.shape.flow_length, stage.spec.shape.dim)
    flows.write(model.generator, stage.requests(files, 512, shuffle=False))
    return flows
