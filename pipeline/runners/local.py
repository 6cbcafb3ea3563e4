"""The local runner: TFX's launcher node by node, with a line and a progress bar for the person who waits."""

import datetime
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.compiler import compiler, constants
from tfx.orchestration import metadata
from tfx.orchestration import pipeline as tfx_pipeline
from tfx.orchestration.local import runner_utils
from tfx.orchestration.portable import launcher, runtime_parameter_utils

from amen_tf.training import Progress
from pipeline import progress

# Where TFX's Pusher keeps the version on its artifact.
PUSHED_VERSION = "pushed_version"
COMPLETE, CACHED = metadata_store_pb2.Execution.COMPLETE, metadata_store_pb2.Execution.CACHED


class StageError(RuntimeError):
    """A stage that failed; `__cause__` is what the stage raised."""

    def __init__(self, stage: str, cause: BaseException | None):
        super().__init__(f"Stage {stage} failed: {cause or 'its inputs are missing'}")
        self.stage = stage


class StageResult(NamedTuple):
    """A stage that ended well.

    Attributes:
      stage: its id.
      cached: nothing was computed; the outputs are an earlier run's.
      seconds: wall time.
      outputs: output key -> folder of the artifact.
      pushed: the version that a Pusher made of its model, now or in the run that it is cached from; else None.
    """

    stage: str
    cached: bool
    seconds: float
    outputs: dict[str, str]
    pushed: str | None = None


def run_stages(
    pipeline: tfx_pipeline.Pipeline,
    started: Callable[[str], None],
    progressed: Callable[[str, Progress], None],
) -> Iterator[StageResult]:
    """Runs the stages one after the other and yields each result as it is there.

    TFX's LocalDagRunner does the same in one go, without saying what was cached and what came out.

    Args:
      pipeline: with a `metadata_connection_config`.
      started: called with a stage's id before it runs.
      progressed: called with a stage's id and its `Progress`.

    Raises:
      StageError: a stage failed; those before it are kept and need not run again.
    """
    compiled = compiler.Compiler().compile(pipeline)
    run_id = {constants.PIPELINE_RUN_ID_PARAMETER_NAME: datetime.datetime.now().isoformat()}
    runtime_parameter_utils.substitute_runtime_parameter(compiled, run_id)
    deployment = runner_utils.extract_local_deployment_config(compiled)
    connection = pipeline.metadata_connection_config
    for node in (entry.pipeline_node for entry in compiled.nodes):
        stage = node.node_info.id
        started(stage)
        begin = time.monotonic()
        try:
            with progress.listening(lambda p, stage=stage: progressed(stage, p)):
                execution = launcher.Launcher(
                    pipeline_node=node,
                    mlmd_connection=metadata.Metadata(connection),
                    pipeline_info=compiled.pipeline_info,
                    pipeline_runtime_spec=compiled.runtime_spec,
                    executor_spec=runner_utils.extract_executor_spec(deployment, stage),
                    custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, stage),
                ).launch()
        except Exception as e:
            raise StageError(stage, e) from e
        state, *made = _outcome(connection, execution.execution_id) if execution else (None, {}, None)
        # The launcher does not raise when inputs cannot be resolved; it records a failed execution.
        if state not in (None, COMPLETE, CACHED):
            raise StageError(stage, None)
        yield StageResult(stage, state == CACHED, time.monotonic() - begin, *made)


def _outcome(connection, execution_id: int | None) -> tuple[int | None, dict[str, str], str | None]:
    """State of an execution, output key -> folder, and the version that it pushed."""
    if execution_id is None:
        return None, {}, None
    with metadata.Metadata(connection) as handle:
        store = handle.store
        [execution] = store.get_executions_by_id([execution_id])
        kinds = (metadata_store_pb2.Event.OUTPUT, metadata_store_pb2.Event.INTERNAL_OUTPUT)
        events = [e for e in store.get_events_by_execution_ids([execution_id]) if e.type in kinds]
        artifacts = {a.id: a for a in store.get_artifacts_by_id([e.artifact_id for e in events])}
    pushed = [a.custom_properties[PUSHED_VERSION].string_value for a in artifacts.values()]
    outputs = {e.path.steps[0].key: artifacts[e.artifact_id].uri for e in events}
    return execution.last_known_state, outputs, max(pushed, default=None) or None
