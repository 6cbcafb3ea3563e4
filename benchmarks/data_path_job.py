"""One run of one ExampleGen in a process of its own, for `data_path`.

usage: python -m benchmarks.data_path_job moveline|csv LOG FOLDER WORKERS SETTINGS

The settings' borders are times. Prints a line of JSON: the fields of `data_path.Measured`.
"""

import json
import pathlib
import resource
import sys
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
    before, start = _bytes(resource.RUSAGE_SELF), time.perf_counter()
    executor(context).Do({}, {"examples": [artifact]}, dict(stage.exec_properties))
    seconds = time.perf_counter() - start
    files = list(pathlib.Path(folder).glob("Split-*/*"))
    splits = {file.parent for file in files}
    return {
        "seconds": seconds,
        "before": before,
        "peak": _bytes(resource.RUSAGE_SELF),
        # With one worker all is done here, and what importing has started is not meant.
        "worker": _bytes(resource.RUSAGE_CHILDREN) if workers > 1 else 0,
        "shards": len(files) // len(splits),
    }


def _stage(kind: str, log: str, settings: Settings):
    if kind == "csv":
        from tfx.components import CsvExampleGen

        stage = CsvExampleGen(input_base=log)
        return stage.EXECUTOR_SPEC.executor_class, stage
    from pipeline.example_gen.component import MovelineExampleGen
    from pipeline.example_gen.executor import MovelineExampleGenExecutor
    from pipeline.example_gen.rules import MovelineRules

    return MovelineExampleGenExecutor, MovelineExampleGen(log, MovelineRules.from_settings(settings), "benchmark")


def _bytes(who: int) -> int:
    """The most memory that a process has had; of all children, the largest one's."""
    return resource.getrusage(who).ru_maxrss * 1024


if __name__ == "__main__":
    kind, log, folder, workers, settings_file = sys.argv[1:]
    print(json.dumps(main(kind, log, folder, int(workers), settings_file)))
