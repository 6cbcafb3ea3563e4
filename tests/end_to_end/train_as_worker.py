"""Calls a Trainer's `run_fn` as TFX does, in a process of its own; prints its history as JSON.

usage: python -m tests.end_to_end.train_as_worker MODULE FN_ARGS_AS_JSON
"""

import importlib
import json
import sys
import types

from pipeline.trainers import common


def main() -> None:
    module, fn_args = sys.argv[1], json.loads(sys.argv[2])
    histories = []
    explain = common.Stage.explain

    def told(stage, fitted):
        histories.append(fitted.history)
        explain(stage, fitted)

    common.Stage.explain = told
    importlib.import_module(module).run_fn(types.SimpleNamespace(**fn_args))
    print(json.dumps(histories[0]))


if __name__ == "__main__":
    main()
