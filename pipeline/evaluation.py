"""The gate: TFMA's configuration, and its verdict in words.

One tf.Example is a request with N candidates; label, prediction and weight are vectors `[N]` padded with weight 0,
which TFMA flattens, so that every figure is pooled over impressions.
"""

from typing import NamedTuple

import tensorflow_model_analysis as tfma
from google.protobuf import wrappers_pb2
from tensorflow_model_analysis.proto import config_pb2

from amen_tf.config import GateSettings
from amen_tf.features import LABEL
from amen_tf.models.ranking import AUC_THRESHOLDS
from amen_tf.signatures import CANDIDATE_WEIGHT, PROBABILITY, SERVING_DEFAULT, TRANSFORM_FEATURES

AUC, CALIBRATION, IMPRESSIONS = "auc", "calibration", "weighted_example_count"
TEST_SPLIT = "test"


class Verdict(NamedTuple):
    """What the gate decided, and one line for every bound that was broken."""

    blessed: bool
    reasons: tuple[str, ...]


def eval_config(gate: GateSettings | None) -> config_pb2.EvalConfig:
    """The Evaluator's configuration.

    Args:
      gate: bounds that a model must meet to be blessed; None only measures.
    """
    model = {
        "signature_name": SERVING_DEFAULT,
        "preprocessing_function_names": [TRANSFORM_FEATURES],
        "label_key": LABEL,
        "example_weight_key": CANDIDATE_WEIGHT,
        "prediction_key": PROBABILITY,
    }
    auc = config_pb2.MetricConfig(class_name="AUC", config=f'{{"name": "{AUC}", "num_thresholds": {AUC_THRESHOLDS}}}')
    calibration = config_pb2.MetricConfig(class_name="Calibration", config=f'{{"name": "{CALIBRATION}"}}')
    count = config_pb2.MetricConfig(class_name="WeightedExampleCount", config=f'{{"name": "{IMPRESSIONS}"}}')
    if gate is not None:
        auc.threshold.CopyFrom(_auc_threshold(gate))
        calibration.threshold.value_threshold.lower_bound.CopyFrom(_number(gate.min_calibration))
        calibration.threshold.value_threshold.upper_bound.CopyFrom(_number(gate.max_calibration))
    return config_pb2.EvalConfig(
        model_specs=[config_pb2.ModelSpec(**model)],
        slicing_specs=[config_pb2.SlicingSpec()],
        metrics_specs=[config_pb2.MetricsSpec(metrics=[auc, calibration, count])],
        # A model version can only be compared with the one before when both were written with padded vectors.
        options=config_pb2.Options(include_default_metrics=wrappers_pb2.BoolValue(value=False)),
    )


def _number(value: float) -> wrappers_pb2.DoubleValue:
    return wrappers_pb2.DoubleValue(value=value)


def _auc_threshold(gate: GateSettings) -> config_pb2.MetricThreshold:
    return config_pb2.MetricThreshold(
        value_threshold=config_pb2.GenericValueThreshold(lower_bound=_number(gate.min_auc)),
        change_threshold=config_pb2.GenericChangeThreshold(
            direction=config_pb2.MetricDirection.HIGHER_IS_BETTER, absolute=_number(-gate.max_auc_drop)
        ),
    )


def metrics(evaluation_folder: str) -> dict[str, float]:
    """The model's overall figures by name, from the Evaluator's output; differences to the baseline as `name_diff`."""
    found = {}
    for record in tfma.load_metrics(evaluation_folder):
        if record.slice_key.single_slice_keys:
            continue
        for item in record.metric_keys_and_values:
            if item.key.model_name == tfma.BASELINE_KEY:
                continue
            name = f"{item.key.name}_diff" if item.key.is_diff else item.key.name
            found[name] = item.value.double_value.value
    return found


def verdict(evaluation_folder: str) -> Verdict:
    """Reads the gate's decision and says which bound was broken by which value."""
    result = tfma.load_validation_result(evaluation_folder)
    reasons = []
    for slice_ in result.metric_validations_per_slice:
        reasons += [_reason(failure) for failure in slice_.failures]
    if not result.validation_ok and not reasons:
        reasons.append("the gate found no metric to judge: was the test split empty?")
    return Verdict(result.validation_ok, tuple(reasons))


def _reason(failure) -> str:
    """A broken bound in words: TFMA leaves the message empty and gives value and threshold as numbers."""
    name = failure.metric_key.name + (" (change)" if failure.metric_key.is_diff else "")
    if not failure.HasField("metric_value"):
        return f"{name}: missing{failure.message and '; '}{failure.message}"
    bounds, asked = failure.metric_threshold.value_threshold, []
    if failure.metric_key.is_diff:
        asked.append(f"at least {failure.metric_threshold.change_threshold.absolute.value:g}")
    else:
        asked += [f"at least {bounds.lower_bound.value:g}"] if bounds.HasField("lower_bound") else []
        asked += [f"at most {bounds.upper_bound.value:g}"] if bounds.HasField("upper_bound") else []
    return f"{name}: {failure.metric_value.double_value.value:.4f}, expected {' and '.join(asked)}"
