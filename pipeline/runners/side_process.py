"""A second process that runs executors beside this one, so that independent stages use both cores.

Threads would not do: most of a stage is Python (tracing graphs, building Beam pipelines), which holds the interpreter's
lock. Driver and publisher of every stage stay in the main process: one process alone writes the metadata.
"""

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection

from amen_tf.progress import Progress
from pipeline.progress import listening
from pipeline.runners.beam import collect_garbage_rarely, settle

# TFX and TensorFlow are imported inside functions: this process may still have to, while the other one does.


class SideProcessError(RuntimeError):
    """An executor failed in the side process; the text is what it raised."""


class SideProcess:
    """A context whose end is the end of the process."""

    def __init__(self):
        self._process, self._connection, self._stopped = None, None, False
        self._changing = threading.Lock()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stop()

    def start(self) -> None:
        """Starts the process unless it runs; imports take it seconds, which `run` waits for.

        Raises:
          SideProcessError: it was stopped, which is for good.
        """
        with self._changing:
            if self._stopped:
                raise SideProcessError("The side process was stopped.")
            if self._process is not None:
                return
            context = multiprocessing.get_context("spawn")
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,), name="amen-side", daemon=True)
            process.start()
            theirs.close()
            self._process, self._connection = process, ours

    def run(self, spec, info, listener: Callable[[Progress], None]):
        """Runs an executor there and returns its `ExecutorOutput`.

        Args:
          spec: the executor's specification, a message of TFX's `executable_spec_pb2`.
          info: the execution, TFX's `ExecutionInfo`.
          listener: called with every `Progress` that the executor reports.

        Raises:
          SideProcessError: the executor raised, or the process is gone.
        """
        from tfx.proto.orchestration.execution_result_pb2 import ExecutorOutput

        self.start()
        process, connection = self._process, self._connection
        try:
            connection.send((spec, info.to_proto()))
        except OSError as e:
            raise _gone(process) from e
        while True:
            try:
                kind, content = connection.recv()
            except (EOFError, OSError) as e:
                raise _gone(process) from e
            if kind == "progress":
                listener(content)
            elif kind == "failed":
                raise SideProcessError(content)
            else:
                return ExecutorOutput.FromString(content)

    def stop(self) -> None:
        """Ends the process, be it in the middle of a stage; it does not start again."""
        with self._changing:
            self._stopped = True
            if self._process is not None:
                self._process.kill()
                self._process.join()


def _gone(process) -> SideProcessError:
    process.join(10)
    if process.exitcode == -signal.SIGKILL:
        return SideProcessError(
            "The side process was killed before its stage ended, which is what Linux does when memory runs out. With "
            "run.processes=1 all stages run one after the other in one process, which needs about half the memory."
        )
    return SideProcessError(f"The side process ended before its stage did, with exit status {process.exitcode}.")


def _serve(connection: Connection) -> None:
    # A parent that is killed tells nobody: without this the stage would go on, and a second run would meet it.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    collect_garbage_rarely()
    # What executors need, imported while the main process still works alone.
    import pipeline.pipeline
    import pipeline.trainers.common  # noqa: F401

    settle()
    while True:
        spec, invocation = connection.recv()
        try:
            connection.send(("done", _execute(connection, spec, invocation)))
        except Exception as e:
            traceback.print_exc()
            connection.send(("failed", str(e) or type(e).__name__))


def _execute(connection: Connection, spec, invocation) -> bytes:
    from tfx.orchestration.portable.data_types import ExecutionInfo
    from tfx.orchestration.portable.launcher import DEFAULT_EXECUTOR_OPERATORS

    operator = DEFAULT_EXECUTOR_OPERATORS[type(spec)](executor_spec=spec)
    with listening(lambda p: connection.send(("progress", p))):
        return operator.run_executor(ExecutionInfo.from_proto(invocation)).SerializeToString()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
