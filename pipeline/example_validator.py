"""ExampleValidator that stops the run: TFX's own only writes its findings down."""

from collections.abc import Mapping

from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.components.example_validator import component
from tfx.components.example_validator import executor as validator_executor
from tfx.dsl.components.base import executor_spec
from tfx.dsl.io import fileio
from tfx.types import BaseChannel, artifact_utils


class AnomalyError(ValueError):
    """The examples break the schema; the message is a table of what, where and why."""


class StrictExecutor(validator_executor.Executor):
    """Validates as TFX does, then raises if there was any anomaly."""

    def Do(self, input_dict, output_dict, exec_properties):
        result = super().Do(input_dict, output_dict, exec_properties)
        artifact = artifact_utils.get_single_instance(output_dict["anomalies"])
        found = {}
        for split in artifact_utils.decode_split_names(artifact.split_names):
            path = f"{artifact_utils.get_split_uri([artifact], split)}/{validator_executor.DEFAULT_FILE_NAME}"
            with fileio.open(path, "rb") as file:
                anomalies = anomalies_pb2.Anomalies.FromString(file.read())
            if anomalies.anomaly_info:
                found[split] = anomalies.anomaly_info
        if found:
            raise AnomalyError(anomaly_table(found))
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
        "The examples do not fit the schema (schemas/moveline.pbtxt and the declared features):\n"
        + "\n".join(lines)
        + "\nMend the event log, or the schema if the log is right; `amen check` lists broken rows of the log."
    )
