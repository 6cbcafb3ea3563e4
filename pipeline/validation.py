"""Statistics of examples against a schema: what breaks its rules, and how far two sets lie from each other."""

import copy

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

Statistics = statistics_pb2.DatasetFeatureStatisticsList

_OUT_OF_RANGE = (
    anomalies_pb2.AnomalyInfo.INT_TYPE_SMALL_INT,
    anomalies_pb2.AnomalyInfo.INT_TYPE_BIG_INT,
    anomalies_pb2.AnomalyInfo.FLOAT_TYPE_SMALL_FLOAT,
    anomalies_pb2.AnomalyInfo.FLOAT_TYPE_BIG_FLOAT,
)
_COMPARED = (
    anomalies_pb2.AnomalyInfo.COMPARATOR_L_INFTY_HIGH,
    anomalies_pb2.AnomalyInfo.COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH,
)


def anomalies(
    statistics: Statistics, schema: schema_pb2.Schema, environment: str | None = None
) -> dict[str, anomalies_pb2.AnomalyInfo]:
    """feature -> what of it breaks a rule of the schema.

    A column of empty lists has no number that could lie out of range; TFDV takes its missing minimum for 0.
    """
    found = tfdv.validate_statistics(statistics, schema, environment).anomaly_info
    (dataset,) = statistics.datasets
    stats = {feature.path.step[0]: feature.num_stats.common_stats for feature in dataset.features}
    empty = {name for name, of in stats.items() if of.num_non_missing and not of.tot_num_values}
    return {
        name: info
        for name, info in found.items()
        if name not in empty or any(reason.type not in _OUT_OF_RANGE for reason in info.reason)
    }


def distances(
    statistics: Statistics,
    schema: schema_pb2.Schema,
    *,
    previous: Statistics | None = None,
    serving: Statistics | None = None,
) -> dict[str, str]:
    """feature -> what TFDV says of a distance above its threshold.

    Missing numbers, which lists keep as NaN, are left out: TFDV takes no NaN for equal to another, so that a column
    would lie far from itself.

    Args:
      statistics: of the examples.
      schema: with comparators.
      previous: compared by `drift_comparator`.
      serving: compared by `skew_comparator`.
    """
    given = (None if part is None else _without_missing(part) for part in (statistics, previous, serving))
    of, before, served = given
    found = tfdv.validate_statistics(of, schema, previous_statistics=before, serving_statistics=served)
    reasons = {name: [r for r in info.reason if r.type in _COMPARED] for name, info in found.anomaly_info.items()}
    return {name: " ".join(r.description for r in of) for name, of in sorted(reasons.items()) if of}


def _without_missing(statistics: Statistics) -> Statistics:
    numbers = copy.deepcopy(statistics)
    for dataset in numbers.datasets:
        for feature in dataset.features:
            for histogram in feature.num_stats.histograms:
                histogram.num_nan = 0
    return numbers
