"""The local runner: TFX's launcher node by node, two at a time, with a line and a progress bar for who waits."""

import datetime
import threading
import time
import traceback
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.compiler import compiler, constants
from tfx.orchestration import metadata
from tfx.orchestration import pipeline as tfx_pipeline
from tfx.orchestration.local import runner_utils
from tfx.orchestration.portable import launcher, runtime_parameter_utils
from tfx.proto.orchestration import pipeline_pb2

from amen_tf.progress import Progress
from pipeline import progress
from pipeline.runners.interrupt import insistent
from pipeline.runners.side_process import SideProcess
from pipeline.runners.stage_error import StageError

# Where TFX's Pusher keeps the version on its artifact.
PUSHED_VERSION = "pushed_version"
COMPLETE, CACHED = metadata_store_pb2.Execution.COMPLETE, metadata_store_pb2.Execution.CACHED


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


class Watcher(Protocol):
    """Who is told what happens; called by one thread at a time."""

    def started(self, stage: str) -> None:
        """A stage begins."""

    def progressed(self, stage: str, done: Progress) -> None:
        """A stage reports how far it is."""

    def finished(self, result: StageResult) -> None:
        """A stage ended well."""

    def failed(self, stage: str) -> None:
        """A stage failed."""


def run_stages(
    pipeline: tfx_pipeline.Pipeline,
    watcher: Watcher,
    side: SideProcess | None = None,
    order: Sequence[str] = (),
) -> None:
    """Runs every stage as soon as those that it depends on are complete.

    TFX's LocalDagRunner runs them strictly one after the other, without saying what was cached and what came out.

    After a failure only those are still run that come before the failed stage in `order` and do not depend on it, so
    that what is reported is what a runner of one stage at a time would have met first.

    Args:
      pipeline: with a `metadata_connection_config`.
      watcher: is told what happens.
      side: takes stages that this process does not wait for; without it all run here, one after the other.
      order: ids of stages; those that it lacks come after it.

    Raises:
      StageError: a stage failed (of several, the first in `order`). What was running beside it has come to its end;
        all that is complete is kept and need not run again.
    """
    compiled = compiler.Compiler().compile(pipeline)
    run_id = {constants.PIPELINE_RUN_ID_PARAMETER_NAME: datetime.datetime.now().isoformat()}
    runtime_parameter_utils.substitute_runtime_parameter(compiled, run_id)
    upstream = {entry.pipeline_node.node_info.id: entry.pipeline_node.upstream_nodes for entry in compiled.nodes}
    ids = [stage for stage in order if stage in upstream] + [stage for stage in upstream if stage not in order]
    stages = _Stages(compiled, pipeline.metadata_connection_config, watcher)
    schedule = Schedule({stage: upstream[stage] for stage in ids})
    beside = threading.Thread(target=_work, args=(schedule, stages, side), daemon=True)
    with insistent() as heard:
        try:
            if side is not None:
                beside.start()
            _work(schedule, stages, None)
            if side is not None:
                beside.join()
        except BaseException:  # an interrupt: nobody waits for what runs beside it
            heard()
            schedule.stop()
            if side is not None:
                side.stop()
                beside.join()
            raise
    failures = [StageError(stage, schedule.failures[stage]) for stage in ids if stage in schedule.failures]
    for other in failures[1:]:
        traceback.print_exception(other)
    if failures:
        raise failures[0]


def _work(schedule: "Schedule", stages: "_Stages", side: SideProcess | None) -> None:
    """Runs what the schedule gives out until there is nothing left."""
    while (stage := schedule.take(beside=side is not None)) is not None:
        try:
            stages.run(stage, side)
        except Exception as e:
            schedule.failed(stage, e)
            stages.failed(stage)
        else:
            schedule.completed(stage)


class Schedule:
    """Which stage may run next. Of those that are ready, the main process gets the one that most others wait for.

    Args:
      upstream: stage -> the stages that must be complete before it, in the pipeline's order.

    Attributes:
      order: all stages.
      failures: stage -> what it raised.
    """

    def __init__(self, upstream: dict[str, Iterable[str]]):
        self.order = list(upstream)
        self.failures: dict[str, Exception] = {}
        self._waits_for = {stage: set(needed) & set(upstream) for stage, needed in upstream.items()}
        self._left, self._complete = list(upstream), set()
        self._main_is_free, self._stopped = True, False
        self._changed = threading.Condition()

    def take(self, beside: bool) -> str | None:
        """Waits for a stage that may run, and returns it; None when there will be none.

        Args:
          beside: asked by the side process, which never takes the only stage that a free main process could take.
        """
        with self._changed:
            if not beside:
                self._main_is_free = True
                self._changed.notify_all()
            while True:
                wanted = self._wanted()
                if not wanted:
                    return None
                ready = [stage for stage in wanted if self._waits_for[stage] <= self._complete]
                ready.sort(key=lambda stage: -len(self._waiting_for(stage)))
                if beside and self._main_is_free:
                    del ready[:1]
                if ready:
                    break
                self._changed.wait()
            stage = ready[0]
            self._left.remove(stage)
            if not beside:
                self._main_is_free = False
            self._changed.notify_all()
            return stage

    def completed(self, stage: str) -> None:
        """Those that waited for `stage` may be ready now."""
        with self._changed:
            self._complete.add(stage)
            self._changed.notify_all()

    def failed(self, stage: str, error: Exception) -> None:
        """Of what is left, only what comes before `stage` and does not wait for it is still wanted."""
        with self._changed:
            self.failures[stage] = error
            self._changed.notify_all()

    def stop(self) -> None:
        """Nothing new is started any more, and nobody waits."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _wanted(self) -> list[str]:
        """Stages that are to be given out now or later."""
        if self._stopped:
            return []
        if not self.failures:
            return self._left
        lost = set().union(*map(self._waiting_for, self.failures))
        first = min(map(self.order.index, self.failures))
        return [stage for stage in self._left if stage not in lost and self.order.index(stage) < first]

    def _waiting_for(self, stage: str) -> set[str]:
        """The stages that wait for `stage`, directly or not, and itself."""
        waiting, before = {stage}, 0
        while len(waiting) > before:
            before = len(waiting)
            waiting |= {later for later, needed in self._waits_for.items() if needed & waiting}
        return waiting


class _Stages:
    """Runs single stages; their drivers and publishers take turns, their executors do not.

    Args:
      compiled: TFX's intermediate representation of the pipeline.
      connection: to the metadata.
      watcher: of `run_stages`.
    """

    def __init__(self, compiled: pipeline_pb2.Pipeline, connection, watcher: Watcher):
        self.nodes = {entry.pipeline_node.node_info.id: entry.pipeline_node for entry in compiled.nodes}
        self.compiled, self.connection, self.watcher = compiled, connection, watcher
        self.deployment = runner_utils.extract_local_deployment_config(compiled)
        # SQLite has one writer at a time, and the watcher is called by one thread at a time.
        self.turn = threading.Lock()

    def run(self, stage: str, side: SideProcess | None) -> None:
        """Runs a stage, its executor here or in `side`."""
        with self.turn:
            self.watcher.started(stage)
            begin = time.monotonic()
            spec = runner_utils.extract_executor_spec(self.deployment, stage)
            execution = launcher.Launcher(
                pipeline_node=self.nodes[stage],
                mlmd_connection=metadata.Metadata(self.connection),
                pipeline_info=self.compiled.pipeline_info,
                pipeline_runtime_spec=self.compiled.runtime_spec,
                executor_spec=spec,
                custom_driver_spec=runner_utils.extract_custom_driver_spec(self.deployment, stage),
                custom_executor_operators=self._operators(stage, spec, side),
            ).launch()
            state, *made = _outcome(self.connection, execution.execution_id) if execution else (None, {}, None)
            # The launcher does not raise when inputs cannot be resolved; it records a failed execution.
            if state not in (None, COMPLETE, CACHED):
                raise RuntimeError("its inputs are missing")
            self.watcher.finished(StageResult(stage, state == CACHED, time.monotonic() - begin, *made))

    def _operators(self, stage: str, spec, side: SideProcess | None) -> dict:
        """TFX's operators of executors, but that they give up the turn while they run."""
        if spec is None:
            return {}
        usual, others_turn = launcher.DEFAULT_EXECUTOR_OPERATORS[type(spec)], self._others_turn

        def progressed(done: Progress) -> None:
            with self.turn:
                self.watcher.progressed(stage, done)

        class Operator(usual):
            def run_executor(self, execution_info):
                with others_turn():
                    if side is not None:
                        return side.run(spec, execution_info, progressed)
                    with progress.listening(progressed):
                        return super().run_executor(execution_info)

        return {type(spec): Operator}

    def failed(self, stage: str) -> None:
        """Tells the watcher."""
        with self.turn:
            self.watcher.failed(stage)

    @contextmanager
    def _others_turn(self):
        self.turn.release()
        try:
            yield
        finally:
            _surely_acquire(self.turn)


def _surely_acquire(lock: threading.Lock) -> None:
    """Acquires a lock that the caller will release, whatever interrupts the wait for it."""
    interrupt = None
    while True:
        try:
            lock.acquire()
            break
        except KeyboardInterrupt as e:
            interrupt = e
    if interrupt is not None:
        raise interrupt


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
