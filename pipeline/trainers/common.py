"""What every `run_fn` does around its model: read Transform's output, train, write the model and what explains it."""

import json
import pathlib

import tensorflow as tf
import tensorflow_transform as tft
import tf_keras as keras
import yaml

from amen_tf.config import ModelSettings, TrainerSettings
from amen_tf.features import FeatureContract
from amen_tf.initialization import load_weights, save_weights
from amen_tf.input import FlowFile, count_examples, requests
from amen_tf.models.ranking import RankingModel
from amen_tf.signatures import ServingModel, TransformGraph
from amen_tf.spec import ModelSpec
from amen_tf.training import Watched, make_deterministic, train
from pipeline import progress
from pipeline.preprocessing import feature_sizes

# TensorFlow Serving and Pusher leave `assets.extra/` alone and carry it along.
EXTRA = "assets.extra"
SPEC, WEIGHTS, SETTINGS, HISTORY = "model_spec.json", "weights.npz", "settings.yaml", "history.json"
# A Trainer takes one `base_model`: the generator carries the base's weights along for the CTR model.
BASE_WEIGHTS = "base_weights.npz"


class Stage:
    """One Trainer's inputs, read from TFX's `fn_args`.

    Attributes:
      config: the Trainer's `custom_config`: `contract`, `seed`, `width`, `settings` and what the stage adds.
      transform: Transform's output.
      spec: what models are built from.
    """

    def __init__(self, fn_args):
        self.fn_args = fn_args
        self.config = fn_args.custom_config
        self.transform = tft.TFTransformOutput(fn_args.transform_graph_path)
        settings = self.config["settings"]
        make_deterministic(settings["seed"])
        contract = FeatureContract.from_dict(self.config["contract"])
        words = {m: self.transform.vocabulary_size_by_name(m) for m in contract.categorical_meanings}
        oov_buckets = settings["transform"]["oov_buckets"]
        sizes = feature_sizes(contract, words, oov_buckets)
        self.spec = ModelSpec(contract, sizes, ModelSettings(**settings["model"]), settings["seed"], oov_buckets)
        self.width = settings["data"]["max_candidates"]
        self.output = pathlib.Path(fn_args.serving_model_dir)

    def requests(self, files, batch_size: int, *, shuffle: bool, flows: FlowFile | None = None) -> tf.data.Dataset:
        """Batches of the requests in `files`, see `amen_tf.input.requests`."""
        spec = self.transform.transformed_feature_spec()
        seed = self.spec.seed if shuffle else None
        return requests(files, spec, batch_size, shuffle_seed=seed, flows=flows)

    def train(
        self,
        model: keras.Model,
        settings: TrainerSettings,
        watched: Watched,
        train_data: tf.data.Dataset,
        eval_data: tf.data.Dataset,
        examples: int | None = None,
    ) -> dict[str, list[float]]:
        """Trains on the Trainer's own splits; TensorBoard's files go where TFX keeps them."""
        examples = count_examples(self.fn_args.train_files) if examples is None else examples
        steps = -(-examples // settings.batch_size)
        log_dir = self.fn_args.model_run_dir
        return train(model, settings, train_data, eval_data, watched, log_dir, progress.report, steps)

    def base_weights(self) -> dict:
        """Weights by name of the model wired in as `base_model`."""
        return load_weights(pathlib.Path(self.fn_args.base_model) / EXTRA / WEIGHTS)

    def export(self, model: RankingModel) -> None:
        """Writes a servable model with the Transform graph inside."""
        transform = TransformGraph(self.transform.transform_savedmodel_dir)
        ServingModel(model, self.spec.contract, transform, self.width).export(self.output)

    def explain(self, model: keras.Model, history: dict) -> None:
        """Writes what made the model beside it: spec, settings, weights by name, history."""
        extra = self.output / EXTRA
        extra.mkdir(parents=True, exist_ok=True)
        self.spec.save(extra / SPEC)
        save_weights(model, extra / WEIGHTS)
        (extra / SETTINGS).write_text(yaml.safe_dump(self.config["settings"], sort_keys=False), encoding="utf-8")
        (extra / HISTORY).write_text(json.dumps(history, indent=1), encoding="utf-8")
