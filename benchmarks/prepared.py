"""A prepared log in memory: the pipeline's own data stages, then every split as dense columns."""

import dataclasses
import glob
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from amen_tf.config import Settings
from amen_tf.features import FeatureContract
from amen_tf.input import densify, requests
from amen_tf.signatures import TransformGraph, raw_feature_spec
from amen_tf.spec import ModelSpec
from amen_tf.windows import RequestTable
from pipeline.event_log.spans import stage1_spans
from pipeline.pipeline import EXAMPLES, TRANSFORM
from pipeline.runners.data_stages import run_data_stages
from pipeline.vocabularies import item_counts, item_words, model_spec


class Prepared(NamedTuple):
    """A log that models can be trained on.

    Attributes:
      settings: with split borders in unix seconds.
      spec: features and sizes; its seed is that of the settings.
      stage1: the first part of the train window, that Θ_base and the generator learn from.
      stage2: the second part, that the CTR model learns from; the same as `stage1` where the settings name one window.
      train: the whole train window.
      eval: for early stopping and tuning.
      test: what figures are given for.
      item_counts: `[ids]`, how often each item is a future item of stage 1.
      item_words: the items' own ids by transformed id, after the padding and the buckets of unseen ones; empty where
        items are hashed.
    """

    settings: Settings
    spec: ModelSpec
    stage1: RequestTable
    stage2: RequestTable
    train: RequestTable
    eval: RequestTable
    test: RequestTable
    item_counts: np.ndarray
    item_words: Sequence[bytes] = ()

    def seeded(self, seed: int) -> ModelSpec:
        """The spec with another seed of weights, dropout and order."""
        return dataclasses.replace(self.spec, seed=seed)


def prepare_log(settings: Settings) -> Prepared:
    """Runs ExampleGen to Transform in the settings' run folder (or takes them from its cache) and reads the splits.

    Trainers never see the test split; it goes through the Transform graph here, as it does in the exported model.
    """
    settings, results = run_data_stages(settings, TRANSFORM)
    contract = FeatureContract.from_settings(settings)
    return _read(settings, contract, results[TRANSFORM].outputs, results[EXAMPLES].outputs["examples"])


def _read(settings: Settings, contract: FeatureContract, outputs: dict[str, str], examples: str) -> Prepared:
    transform = tft.TFTransformOutput(outputs["transform_graph"])
    spec = model_spec(transform, contract, settings.transform, settings.model, settings.seed)

    def split(name: str) -> RequestTable:
        patterns = [f"{outputs['transformed_examples']}/Split-{name}/*"]
        return RequestTable.read(requests(patterns, transform.transformed_feature_spec(), 1024))

    parts = {name: split(name) for name in dict.fromkeys([*settings.split.train_splits, "eval"])}
    stage1, stage2 = parts[settings.split.stage1_splits[0]], parts[settings.split.stage2_splits[0]]
    train = stage1 if stage1 is stage2 else RequestTable.concatenated([stage1, stage2])
    test = _raw_split(f"{examples}/Split-test/*", TransformGraph(transform.transform_savedmodel_dir), contract)
    counts = item_counts(transform, spec, stage1_spans(settings.data.log, settings.split))
    words = item_words(transform, spec)
    return Prepared(settings, spec, stage1, stage2, train, parts["eval"], test, counts, words)


def _raw_split(pattern: str, transform: TransformGraph, contract: FeatureContract) -> RequestTable:
    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string)])
    def features(serialized):
        return densify(transform(tf.io.parse_example(serialized, raw_feature_spec(contract))))

    records = tf.data.TFRecordDataset(sorted(glob.glob(pattern)), compression_type="GZIP").batch(1024)
    return RequestTable.read(map(features, records))
