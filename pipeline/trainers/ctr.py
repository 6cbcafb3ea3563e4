"""Trainer of F_θ: the CTR model on the frozen generator, learned from the stage-2 window."""

import pathlib
import tempfile

from amen_tf.config import CtrSettings
from amen_tf.fitting.ctr import fit_ctr
from amen_tf.flows import FlowStore
from amen_tf.initialization import load_weights
from pipeline.trainers.common import BASE_WEIGHTS, EXTRA, Stage


def run_fn(fn_args) -> None:
    """Trains the CTR model and exports it with its four signatures.

    `base_model` is the generator. The base's weights, which initialise the parts that both have, come along with it.
    Flows go to `flows` of the Trainer's `custom_config`, where later runs find them, or to a folder for this run alone.
    """
    generator = pathlib.Path(fn_args.base_model)
    weights = load_weights(generator / EXTRA / BASE_WEIGHTS)
    with Stage(fn_args) as stage, tempfile.TemporaryDirectory(prefix="amen-flows-") as passing:
        settings = CtrSettings(**stage.config["settings"]["ctr"])
        flows = FlowStore(stage.config.get("flows") or passing)
        fitted = fit_ctr(stage.spec, settings, stage.windows, stage.session, weights, generator, flows)
        stage.export(fitted.model)
        stage.explain(fitted)
