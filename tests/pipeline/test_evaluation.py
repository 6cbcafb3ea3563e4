"""The gate on TFX's own Evaluator: pooled figures, bounds and their reasons, for a model whose answers are given.

The fake model has the two signatures that the Evaluator uses, over vectors padded to the widest request of a batch.
"""

import json

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import json_format
from tfx.components.evaluator import constants
from tfx.components.evaluator.executor import Executor
from tfx.types import artifact_utils, standard_artifacts

from amen_tf.config import GateSettings
from amen_tf.signatures import CANDIDATE_WEIGHT, PROBABILITY, SERVING_DEFAULT, TRANSFORM_FEATURES
from pipeline.datasets.auc import exact_auc
from pipeline.evaluation import AUC, CALIBRATION, IMPRESSIONS, eval_config, metrics, verdict

BEAM = ["--max_cache_memory_usage_mb=0"]
CANDIDATE_MODEL, BASELINE_MODEL = 7, 5


def make_requests(seed=3, count=60):
    """Requests of 1 to 6 candidates: (labels, scores), the scores a little better than chance."""
    rng = np.random.default_rng(seed)
    made = []
    for size in rng.integers(1, 7, count):
        labels = rng.integers(0, 2, size)
        made.append((labels, np.clip(rng.uniform(0.05, 0.7, size) + 0.25 * labels, 0.01, 0.99).astype(np.float32)))
    return made


REQUESTS = make_requests()
LABELS = np.concatenate([labels for labels, _ in REQUESTS])
SCORES = np.concatenate([scores for _, scores in REQUESTS])


class Fake(tf.Module):
    """Answers with the scores that the examples carry, times `scale`, or with 1 - score."""

    def __init__(self, scale=1.0, turned=False):
        super().__init__()
        self.scale, self.turned = scale, turned

    def parse(self, examples):
        spec = {"label": tf.io.VarLenFeature(tf.int64), "score": tf.io.VarLenFeature(tf.float32)}
        return tf.io.parse_example(examples, spec)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def serving_default(self, examples):
        score = tf.sparse.to_dense(self.parse(examples)["score"])
        # Padding answers 0.9: it must not count, whatever it is.
        real = tf.sparse.to_dense(tf.sparse.map_values(tf.ones_like, self.parse(examples)["score"]))
        score = 1.0 - score if self.turned else score
        return {PROBABILITY: tf.where(real > 0, score * self.scale, 0.9)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def transform_features(self, examples):
        parsed = self.parse(examples)
        ones = tf.sparse.map_values(lambda v: tf.ones_like(v, tf.float32), parsed["label"])
        label = tf.cast(tf.sparse.to_dense(parsed["label"]), tf.float32)
        return {"label": label, CANDIDATE_WEIGHT: tf.sparse.to_dense(ones)}


def saved(folder, number, **kind):
    """A Model artifact with the fake in it."""
    fake = Fake(**kind)
    signatures = {SERVING_DEFAULT: fake.serving_default, TRANSFORM_FEATURES: fake.transform_features}
    tf.saved_model.save(fake, str(folder / "Format-Serving"), signatures=signatures)
    artifact = standard_artifacts.Model()
    artifact.uri, artifact.id = str(folder), number
    return artifact


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """name -> Model artifact: good as given, backwards turns the ranking round, quiet is a quarter as high."""
    root = tmp_path_factory.mktemp("models")
    return {
        "good": saved(root / "good", CANDIDATE_MODEL),
        "backwards": saved(root / "backwards", CANDIDATE_MODEL, turned=True),
        "quiet": saved(root / "quiet", CANDIDATE_MODEL, scale=0.25),
        "before": saved(root / "before", BASELINE_MODEL),
    }


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    for split in ("eval", "test"):
        path = folder / f"Split-{split}" / "data_tfrecord-00000-of-00001.gz"
        path.parent.mkdir()
        # Whatever reads the eval split too would count 120 requests and not 60.
        with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
            for labels, scores in REQUESTS:
                feature = {
                    "label": tf.train.Feature(int64_list=tf.train.Int64List(value=labels)),
                    "score": tf.train.Feature(float_list=tf.train.FloatList(value=scores)),
                }
                example = tf.train.Example(features=tf.train.Features(feature=feature))
                writer.write(example.SerializeToString())
    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder)
    artifact.split_names = artifact_utils.encode_split_names(["eval", "test"])
    artifact.set_string_custom_property("file_format", "tfrecords_gzip")
    artifact.set_string_custom_property("payload_format", "FORMAT_TF_EXAMPLE")
    return artifact


@pytest.fixture
def evaluate(models, examples, tmp_path):
    """`evaluate(model, gate, against)`: runs TFX's Evaluator; (folder of the evaluation, blessing artifact)."""

    def _evaluate(model, gate, against=None):
        evaluation, blessing = standard_artifacts.ModelEvaluation(), standard_artifacts.ModelBlessing()
        evaluation.uri, blessing.uri = str(tmp_path / "evaluation"), str(tmp_path / "blessing")
        inputs = {"examples": [examples], "model": [models[model]]}
        if against:
            inputs["baseline_model"] = [models[against]]
        properties = {
            "eval_config": json_format.MessageToJson(eval_config(gate), preserving_proto_field_name=True),
            "example_splits": json.dumps(["test"]),
            "fairness_indicator_thresholds": "null",
        }
        context = Executor.Context(beam_pipeline_args=BEAM, tmp_dir=str(tmp_path / "tmp"))
        Executor(context).Do(inputs, {"evaluation": [evaluation], "blessing": [blessing]}, properties)
        return evaluation.uri, blessing

    return _evaluate


def is_blessed(blessing):
    return blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY) == 1


def test_the_first_model_has_pooled_figures_and_must_meet_the_bounds(evaluate):
    # No predecessor: a drop of nothing is allowed, and still only the absolute bound counts.
    folder, blessing = evaluate("good", GateSettings(min_auc=0.999, max_auc_drop=0.0))
    found = metrics(folder)
    assert found[IMPRESSIONS] == len(LABELS) == sum(len(labels) for labels, _ in REQUESTS)
    # 10,000 thresholds: a pair of scores within 1e-4 may count as a tie.
    assert found[AUC] == pytest.approx(exact_auc(LABELS, SCORES), abs=1e-3)
    assert found[CALIBRATION] == pytest.approx(SCORES.sum() / LABELS.sum(), rel=1e-5)
    assert verdict(folder) == (False, (f"auc: {found[AUC]:.4f}, expected at least 0.999",))
    assert not is_blessed(blessing)


def test_a_model_within_all_bounds_is_blessed_against_the_one_before(evaluate):
    # The candidate is the baseline with another level: its own figures must be reported, not the baseline's.
    folder, blessing = evaluate("quiet", GateSettings(min_auc=0.5, min_calibration=0.1), "before")
    assert verdict(folder) == (True, ())
    assert is_blessed(blessing)
    assert blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY) == CANDIDATE_MODEL
    found = metrics(folder)
    assert found[CALIBRATION] == pytest.approx(0.25 * SCORES.sum() / LABELS.sum(), rel=1e-5)
    assert found[f"{AUC}_diff"] == pytest.approx(0.0, abs=1e-3)
    assert found[f"{CALIBRATION}_diff"] == pytest.approx(-0.75 * SCORES.sum() / LABELS.sum(), rel=1e-5)


def test_every_broken_bound_has_its_reason(evaluate):
    gate = GateSettings(min_auc=0.5, max_auc_drop=0.01, min_calibration=0.1, max_calibration=0.2)
    folder, blessing = evaluate("backwards", gate, "before")
    blessed, reasons = verdict(folder)
    assert not blessed and not is_blessed(blessing)
    found = metrics(folder)
    wrong = exact_auc(LABELS, 1.0 - SCORES)
    assert found[AUC] == pytest.approx(wrong, abs=1e-3) and wrong < 0.5
    assert found[f"{AUC}_diff"] == pytest.approx(wrong - exact_auc(LABELS, SCORES), abs=2e-3)
    assert set(reasons) == {
        f"auc: {found[AUC]:.4f}, expected at least 0.5",
        f"auc (change): {found[f'{AUC}_diff']:.4f}, expected at least -0.01",
        f"calibration: {found[CALIBRATION]:.4f}, expected at least 0.1 and at most 0.2",
    }


def test_what_the_gate_asks_for():
    gate = GateSettings(min_auc=0.6, max_auc_drop=0.02, min_calibration=0.8, max_calibration=1.2)
    config = eval_config(gate)
    [spec] = config.model_specs
    assert (spec.signature_name, spec.prediction_key, spec.label_key) == ("serving_default", "probability", "label")
    assert (spec.example_weight_key, list(spec.preprocessing_function_names)) == (
        "candidate_weight",
        ["transform_features"],
    )
    assert [len(s.feature_keys) + len(s.feature_values) for s in config.slicing_specs] == [0]
    auc, calibration, count = config.metrics_specs[0].metrics
    assert json.loads(auc.config) == {"name": "auc", "num_thresholds": 10_000}
    assert auc.threshold.value_threshold.lower_bound.value == 0.6
    assert auc.threshold.change_threshold.absolute.value == -0.02
    assert auc.threshold.change_threshold.direction == 2  # higher is better
    bounds = calibration.threshold.value_threshold
    assert (bounds.lower_bound.value, bounds.upper_bound.value) == (0.8, 1.2)
    assert not count.HasField("threshold")


def test_without_a_gate_nothing_has_a_bound():
    assert not any(metric.HasField("threshold") for metric in eval_config(None).metrics_specs[0].metrics)
