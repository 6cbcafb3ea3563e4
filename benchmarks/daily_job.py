"""The data stages of one run in a process of its own, for `daily`.

usage: python -m benchmarks.daily_job SETTINGS

SETTINGS is JSON. Prints a line of JSON: stage -> seconds, those before the first stage under `log`.
"""

import json
import sys
import time

from amen_tf.config import Settings
from pipeline.runners.beam import collect_garbage_rarely


def main(settings: str) -> dict[str, float]:
    """Runs the stages up to Transform; nothing may come from the cache."""
    collect_garbage_rarely()
    start = time.perf_counter()
    from pipeline.pipeline import TRANSFORM
    from pipeline.runners.data_stages import run_data_stages

    imported = time.perf_counter() - start
    _, results = run_data_stages(Settings.parse(json.loads(settings), source="benchmark"), TRANSFORM)
    taken = time.perf_counter() - start - imported
    stages = {stage: result.seconds for stage, result in results.items() if not result.cached}
    return {"log": taken - sum(stages.values()), **stages}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
