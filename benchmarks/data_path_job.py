"""One run of one ExampleGen in a process of its own, for `data_path`.

usage: python -m benchmarks.data_path_job moveline|csv LOG FOLDER WORKERS SETTINGS

The settings' borders are times. Prints a line of JSON: the fields of `data_path.Measured`.
"""

import contextlib
import json
import os
import pathlib
import sys
import threading
import time

from amen_tf.config import Settings
from pipeline.runners.beam import beam_arguments, collect_garbage_rarely, settle


def main(kind: str, log: str, folder: str, workers: int, settings_file: str) -> dict:
    """Writes the examples of a log and says what it took."""
    collect_garbage_rarely()
    settings = Settings.load(pathlib.Path(settings_file))
    executor, stage = _stage(kind, log, settings)
    from tfx.types import standard_artifacts

    artifact = standard_artifacts.Examples()
    artifact.uri = folder
    context = executor.Context(beam_pipeline_args=beam_arguments(workers), tmp_dir=folder)
    settle()
    before, start = _peak("self"), time.perf_counter()
    with LargestWorker() as largest:
        executor(context).Do({}, {"examples": [artifact]}, dict(stage.exec_properties))
    seconds = time.perf_counter() - start
    files = list(pathlib.Path(folder).glob("Split-*/*"))
    splits = {file.parent for file in files}
    return {
        "seconds": seconds,
        "before": before,
        "peak": _peak("self"),
        "worker": largest.bytes,
        "shards": len(files) // len(splits),
    }


class LargestWorker(contextlib.AbstractContextManager):
    """Watches the processes that this one starts; `bytes`: the most memory that one of them has had."""

    def __init__(self):
        self.bytes = 0
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "LargestWorker":
        self._watch.start()
        return self

    def __exit__(self, *error) -> None:
        self._over.set()
        self._watch.join()

    def _look(self) -> None:
        # The system's own sum over ended children counts what they had of this process's memory before they began.
        while not self._over.wait(0.2):
            self.bytes = max([self.bytes, *map(_peak, _started_by(str(os.getpid())))])


def _started_by(process: str) -> list[str]:
    """The processes that one has started, and those that they have started."""
    found: list[str] = []
    for children in pathlib.Path(f"/proc/{process}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += children.read_text().split()
    return found + [later for child in found for later in _started_by(child)]


def _peak(process: str) -> int:
    """The most memory that a process has had, in bytes; 0 if it has ended."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def _stage(kind: str, log: str, settings: Settings):
    if kind == "csv":
        from tfx.components import CsvExampleGen

        stage = CsvExampleGen(input_base=log)
        return stage.EXECUTOR_SPEC.executor_class, stage
    from pipeline.example_gen.component import MovelineExampleGen
    from pipeline.example_gen.executor import MovelineExampleGenExecutor
    from pipeline.example_gen.rules import MovelineRules

    return MovelineExampleGenExecutor, MovelineExampleGen(log, MovelineRules.from_settings(settings), "benchmark")


if __name__ == "__main__":
    kind, log, folder, workers, settings_file = sys.argv[1:]
    print(json.dumps(main(kind, log, folder, int(workers), settings_file)))
