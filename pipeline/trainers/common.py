"""What every `run_fn` does around its model: read Transform's output, train, write the model and what explains it."""

import contextlib
import functools
import json
import pathlib
import shutil
from typing import TypeVar

import tensorflow_transform as tft
import yaml

from amen_tf.config import ComputeSettings, ModelSettings, TrainerSettings, TransformSettings
from amen_tf.distribution import choose_strategy, is_chief, output_folder
from amen_tf.features import FeatureContract
from amen_tf.fitting.result import Fitted
from amen_tf.initialization import load_weights, save_weights
from amen_tf.models.ranking import RankingModel
from amen_tf.precision import precision
from amen_tf.signatures import ServingModel, TransformGraph
from amen_tf.strict_json import to_json
from amen_tf.training import Session, make_deterministic
from amen_tf.warm_start import Ids, WarmStart, word_counts
from amen_tf.windows import ExampleFiles, JoinedWindow, Windows
from pipeline import progress
from pipeline.trainers.component import WARM_START
from pipeline.trainers.earlier_model import EarlierModel
from pipeline.trainers.extra import COPIED, EXTRA, HISTORY, SETTINGS, SPEC, STARTED_FROM, WEIGHTS
from pipeline.vocabularies import model_spec, vocabulary_words

Kind = TypeVar("Kind", bound=TrainerSettings)


class Stage(contextlib.AbstractContextManager):
    """One Trainer's inputs, read from TFX's `fn_args`. As a context it holds the precision of the settings in force.

    Attributes:
      config: the Trainer's `custom_config`: `contract`, `settings` and what the stage adds.
      transform: Transform's output.
      spec: what models are built from.
      earlier: the model of an earlier run to start warm from; None where there is none.
      splits: one window for each of the Trainer's train splits, in the order of time.
      windows: all of them as one, and the eval split.
      session: where and how to train.
      is_chief: whether this process is the one that others read from.
      output: the model's folder; for all workers but the chief a folder that nobody reads and that goes with the stage.
    """

    def __init__(self, fn_args):
        self.fn_args = fn_args
        self.config = fn_args.custom_config
        self.transform = tft.TFTransformOutput(fn_args.transform_graph_path)
        settings = self.config["settings"]
        # Before anything is computed: a cluster's devices can only be set up first.
        strategy = choose_strategy()
        self.is_chief = is_chief(strategy)
        make_deterministic(settings["seed"])
        contract = FeatureContract.from_dict(self.config["contract"])
        transform, shape = TransformSettings(**settings["transform"]), ModelSettings(**settings["model"])
        self.spec = model_spec(self.transform, contract, transform, shape, settings["seed"])
        self.earlier = EarlierModel(fn_args.warm_start) if fn_args.warm_start else None
        self.width = settings["data"]["max_candidates"]
        self.output = output_folder(fn_args.serving_model_dir, strategy)
        feature_spec = self.transform.transformed_feature_spec()
        # One pattern a split, in the order of time.
        self.splits = [ExampleFiles([pattern], feature_spec) for pattern in fn_args.train_files]
        train = self.splits[0] if len(self.splits) == 1 else JoinedWindow(self.splits)
        self.windows = Windows(train, ExampleFiles(fn_args.eval_files, feature_spec))
        compute = ComputeSettings(**settings["compute"])
        log_dir = output_folder(fn_args.model_run_dir, strategy)
        report = progress.report if self.is_chief else lambda _: None
        self.session = Session(log_dir, report, compute, strategy)
        self._precision = precision(compute.precision)

    def __enter__(self) -> "Stage":
        self._precision.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self._precision.__exit__(*error)
        if not self.is_chief:
            for folder in (self.output, self.session.log_dir):
                shutil.rmtree(folder, ignore_errors=True)

    def base_weights(self) -> dict:
        """Weights by name of the model wired in as `base_model`."""
        return load_weights(pathlib.Path(self.fn_args.base_model) / EXTRA / WEIGHTS)

    @functools.cached_property
    def ids(self) -> Ids:
        """What the ids of this run stand for."""
        return Ids(self.spec, vocabulary_words(self.transform, self.spec))

    def trainer_settings(self, kind: type[Kind], section: str) -> Kind:
        """The Trainer's own settings; of a warm start with its share of the learning rate.

        Raises:
          InitializationError: the earlier model had others of those that decide what weights mean.
        """
        settings = kind(**self.config["settings"][section])
        if self.earlier is None:
            return settings
        self.earlier.expect_unchanged(section, settings)
        share = self.config["settings"][WARM_START]["learning_rate"]
        return settings.model_copy(update={"learning_rate": share * settings.learning_rate})

    def warm_start(self, file: str) -> WarmStart | None:
        """The weights in a file of the earlier model's `assets.extra/`, to go on from; None without such a model."""
        return self.earlier and WarmStart(self.earlier.weights(file), self.earlier.ids, self.ids)

    def export(self, model: RankingModel) -> ServingModel:
        """Writes a servable model with the Transform graph inside."""
        transform = TransformGraph(self.transform.transform_savedmodel_dir)
        serving = ServingModel(model, self.spec.contract, transform, self.width)
        serving.export(self.output)
        return serving

    def explain(self, fitted: Fitted) -> None:
        """Writes what made the model beside it: spec, settings, weights by name, their source, history."""
        extra = self.output / EXTRA
        extra.mkdir(parents=True, exist_ok=True)
        self.spec.save(extra / SPEC)
        save_weights(fitted.model, extra / WEIGHTS)
        (extra / SETTINGS).write_text(yaml.safe_dump(self.config["settings"], sort_keys=False), encoding="utf-8")
        (extra / HISTORY).write_text(to_json(fitted.history), encoding="utf-8")
        if fitted.copied is not None:
            copied = fitted.copied._asdict()
            if self.earlier is not None:
                copied[STARTED_FROM] = {
                    "model": str(self.earlier.folder),
                    "eval_end": self.earlier.settings["split"]["eval_end"],
                    "words": word_counts(self.earlier.ids, self.ids),
                }
            (extra / COPIED).write_text(json.dumps(copied, indent=1), encoding="utf-8")
