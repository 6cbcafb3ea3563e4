"""Pusher whose versions appear whole: TFX's own copies file by file into the folder that the server watches."""

import filecmp
import json
import os
import pathlib
import shutil
import time

from tfx.components.pusher import component
from tfx.components.pusher import executor as pusher_executor
from tfx.dsl.components.base import executor_spec
from tfx.proto import pusher_pb2
from tfx.types import artifact_utils
from tfx.utils import io_utils, proto_utils

from pipeline.pruning import PARTIAL, prune, versions
from pipeline.trainers.extra import BASE_WEIGHTS, GENERATOR_WEIGHTS

# In the artifact's folder: what became of the model and of older versions, for the run's line.
REPORT = "push.json"
# Weights of other models that lie in the model's folder for a warm start, which reads the Trainer's.
_NOT_PUSHED = (BASE_WEIGHTS, GENERATOR_WEIGHTS)


class AtomicExecutor(pusher_executor.Executor):
    """Copies a blessed model under a temporary name, then renames it to its version.

    A process killed while copying leaves a `tmp.*` folder, which the next push removes; a version folder is always
    complete. Versions are unix seconds, raised above any that is there already.

    A model that is the newest version already is not pushed again: what else this stage depends on, its code and how
    many versions to keep, may change without a new model for the servers.
    """

    def Do(self, input_dict, output_dict, exec_properties):
        self._log_startup(input_dict, output_dict, exec_properties)
        pushed = artifact_utils.get_single_instance(output_dict["pushed_model"])
        if not self.CheckBlessing(input_dict):
            self._MarkNotPushed(pushed)
            return
        destination = pusher_pb2.PushDestination()
        proto_utils.json_to_proto(exec_properties["push_destination"], destination)
        base = pathlib.Path(destination.filesystem.base_directory)
        model = self.GetModelPath(input_dict)
        there = newest_if_same(model, base)
        version = there or push(model, base)
        # The artifact keeps a copy for lineage; a link would dangle once old versions are pruned.
        io_utils.copy_dir(str(base / version), pushed.uri)
        report = {"version": version, "was_there": there is not None}
        settings = json.loads(exec_properties["custom_config"])
        if "keep_versions" in settings:
            report |= prune(base, settings["keep_versions"], settings["models_config"])._asdict()
        (pathlib.Path(pushed.uri) / REPORT).write_text(json.dumps(report), encoding="utf-8")
        self._MarkPushed(pushed, pushed_destination=str(base / version), pushed_version=version)


class Pusher(component.Pusher):
    """TFX's Pusher with `AtomicExecutor`; the destination must be a file system."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(AtomicExecutor)


def newest_if_same(model: str | pathlib.Path, base: str | pathlib.Path) -> str | None:
    """The name of the newest version under `base` if it is what `push` makes of `model`, byte by byte; else None."""
    there = list(versions(pathlib.Path(base)).values()) if pathlib.Path(base).is_dir() else []
    if not there:
        return None
    model, newest = pathlib.Path(model), there[-1]
    files, others = (
        {path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.name not in _NOT_PUSHED}
        for folder in (model, newest)
    )
    same = files == others and all(filecmp.cmp(model / file, newest / file, shallow=False) for file in files)
    return newest.name if same else None


def push(model: str | pathlib.Path, base: str | pathlib.Path) -> str:
    """Copies the folder `model`, but for what no server reads, to a new version under `base`, all or nothing.

    Returns:
      The version.
    """
    base = pathlib.Path(base)
    base.mkdir(parents=True, exist_ok=True)
    for left_over in base.glob(f"{PARTIAL}*"):
        shutil.rmtree(left_over)
    version = str(max([int(time.time()), *(v + 1 for v in versions(base))]))
    partial = base / f"{PARTIAL}{version}"
    shutil.copytree(model, partial, ignore=shutil.ignore_patterns(*_NOT_PUSHED))
    os.rename(partial, base / version)
    return version
