"""Trainer of F_θ: the CTR model on the frozen generator, learned from the stage-2 window or from both."""

import pathlib
import shutil
import tempfile

from amen_tf.config import CtrSettings, ServingSettings
from amen_tf.features import ITEM_ID
from amen_tf.fitting.ctr import fit_ctr
from amen_tf.flows import FlowStore
from amen_tf.initialization import load_weights
from amen_tf.models.ctr import CtrModel
from amen_tf.plots import (
    alignment_heat_map,
    calibration_density,
    calibration_scores,
    choose_probe,
    item_names,
    write_images,
)
from pipeline.trainers.common import Stage
from pipeline.trainers.extra import BASE_WEIGHTS, EXTRA, GENERATOR_WEIGHTS, WEIGHTS
from pipeline.trainers.warmup import write_warmup
from pipeline.vocabularies import item_words, vocabulary_words

# Requests of the eval split that the figures are drawn from.
SHOWN = 2048
# Words of each vocabulary that warm-up requests are made of.
_WORDS = 1000


def run_fn(fn_args) -> None:
    """Trains the CTR model and exports it with its signatures and warm-up requests.

    `base_model` is the generator. The base's weights, which initialise the parts that both have, come along with it.
    Flows go to `flows` of the Trainer's `custom_config`, where later runs find them, or to a folder for this run alone.
    The weights of all three models come to lie beside the model, for a later run that starts warm from it.
    """
    generator = pathlib.Path(fn_args.base_model)
    weights = load_weights(generator / EXTRA / BASE_WEIGHTS)
    with Stage(fn_args) as stage, tempfile.TemporaryDirectory(prefix="amen-flows-") as passing:
        settings = stage.trainer_settings(CtrSettings, "ctr")
        flows = FlowStore(stage.config.get("flows") or passing)
        *earlier, stage2 = stage.splits
        windows = stage.windows._replace(train=stage2)
        session = stage.session
        earlier = earlier[0] if earlier else None
        warm = stage.warm_start(WEIGHTS)
        fitted = fit_ctr(stage.spec, settings, windows, session, weights, generator, flows, earlier, warm)
        write_images(_figures(stage, fitted.model), stage.session.log_dir)
        exported = stage.export(fitted.model).exported
        wanted = ServingSettings(**stage.config["settings"]["serving"])
        learned = vocabulary_words(stage.transform, stage.spec)
        words = {meaning: [word.decode() for word in known[:_WORDS]] for meaning, known in learned.items()}
        write_warmup(stage.output, exported, stage.spec.contract, words, wanted.warmup_candidates)
        stage.explain(fitted)
        for theirs, here in ((BASE_WEIGHTS, BASE_WEIGHTS), (WEIGHTS, GENERATOR_WEIGHTS)):
            shutil.copyfile(generator / EXTRA / theirs, stage.output / EXTRA / here)


def _figures(stage: Stage, model: CtrModel) -> dict:
    """Figures 2 and 3 of this model on the eval split, as far as the model has what they show."""
    names = item_names(item_words(stage.transform, stage.spec), stage.spec.unseen_ids(ITEM_ID))
    title = "with TSP" if model.settings.tsp_weight else "without TSP"
    first = list(stage.windows.eval.batches(SHOWN).take(1))
    figures = {"figure_3_calibration": calibration_density({title: calibration_scores(model, first)})}
    if model.settings.use_flow and model.settings.use_alignment:
        figures["figure_2_alignment"] = alignment_heat_map(model, choose_probe(first[0]), names)
    return figures
