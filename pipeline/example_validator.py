"""ExampleValidator that stops the run: TFX's own only writes its findings down.

Beside them it writes down how far each later split has drifted from the first, which stops nothing.
"""

import json
from collections.abc import Mapping

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.components.example_validator import component
from tfx.components.example_validator import executor as validator_executor
from tfx.dsl.components.base import executor_spec
from tfx.dsl.io import fileio
from tfx.types import BaseChannel, artifact_utils
from tfx.utils import io_utils

from pipeline.validation import anomalies, distances

# Beside the splits' findings: split -> feature -> what TFDV says of its distance.
DRIFT = "drift.json"


class AnomalyError(ValueError):
    """The examples break the schema; the message is a table of what, where and why."""


class StrictExecutor(validator_executor.Executor):
    """Validates as TFX does, then raises if there was any anomaly."""

    def Do(self, input_dict, output_dict, exec_properties):
        result = super().Do(input_dict, output_dict, exec_properties)
        artifact = artifact_utils.get_single_instance(output_dict["anomalies"])
        statistics = artifact_utils.get_single_instance(input_dict["statistics"])
        schema = io_utils.SchemaReader().read(
            io_utils.get_only_uri_in_dir(artifact_utils.get_single_uri(input_dict["schema"]))
        )
        by_split = {
            split: read_statistics(artifact_utils.get_split_uri([statistics], split))
            for split in artifact_utils.decode_split_names(statistics.split_names)
        }
        found = broken(by_split, schema)
        if found:
            raise AnomalyError(anomaly_table(found))
        with fileio.open(f"{artifact.uri}/{DRIFT}", "w") as file:
            file.write(json.dumps(drift(by_split, schema), indent=1))
        return result


class ExampleValidator(component.ExampleValidator):
    """TFX's ExampleValidator with `StrictExecutor`.

    Args:
      statistics, schema: as TFX's.
      code: a fingerprint of this module, for the cache.
    """

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(StrictExecutor)

    def __init__(self, statistics: BaseChannel, schema: BaseChannel, code: str = ""):
        super().__init__(statistics=statistics, schema=schema)
        self.spec.exec_properties["code"] = code


def read_statistics(folder: str):
    """What StatisticsGen has written of a split."""
    return tfdv.load_stats_binary(io_utils.get_only_uri_in_dir(folder))


def broken(by_split: Mapping, schema) -> dict[str, dict[str, anomalies_pb2.AnomalyInfo]]:
    """What of each split breaks the schema: split -> `anomalies`, without splits where all is well."""
    found = {split: anomalies(statistics, schema) for split, statistics in by_split.items()}
    return {split: features for split, features in found.items() if features}


def drift(by_split: Mapping, schema) -> dict[str, dict[str, str]]:
    """How far each split but the first lies from it: split -> `distances`, without splits where all is well.

    Args:
      by_split: statistics by split, in the order of time.
      schema: its drift comparators say from where on a distance counts.
    """
    (_, first), *later = by_split.items()
    found = {split: distances(statistics, schema, previous=first) for split, statistics in later}
    return {split: features for split, features in found.items() if features}


def anomaly_table(found: Mapping[str, Mapping]) -> str:
    """split -> feature -> AnomalyInfo, as aligned text lines."""
    rows = [("split", "feature", "anomaly", "found")]
    for split, features in found.items():
        for feature, info in sorted(features.items()):
            for reason in info.reason:
                rows.append((split, feature, reason.short_description, reason.description))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3]]) for row in rows]
    return (
        "The examples do not fit the schema (schemas/moveline.pbtxt, declared features, data.schema_file):\n"
        + "\n".join(lines)
        + "\nMend the event log, or the schema if the log is right; `amen check` lists broken rows of the log."
    )
