"""Pusher whose versions appear whole: TFX's own copies file by file into the folder that the server watches."""

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

from pipeline.trainers.extra import BASE_WEIGHTS, GENERATOR_WEIGHTS

# The server looks only at names that are all digits, so a copy under this prefix is invisible to it.
PARTIAL = "tmp."


class AtomicExecutor(pusher_executor.Executor):
    """Copies a blessed model under a temporary name, then renames it to its version.

    A process killed while copying leaves a `tmp.*` folder, which the next push removes; a version folder is always
    complete. Versions are unix seconds, raised above any that is there already.
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
        version = push(self.GetModelPath(input_dict), base)
        # The artifact keeps a copy for lineage; a link would dangle once old versions are pruned.
        io_utils.copy_dir(str(base / version), pushed.uri)
        self._MarkPushed(pushed, pushed_destination=str(base / version), pushed_version=version)


class Pusher(component.Pusher):
    """TFX's Pusher with `AtomicExecutor`; the destination must be a file system."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(AtomicExecutor)


def push(model: str | pathlib.Path, base: str | pathlib.Path) -> str:
    """Copies the folder `model` to a new version under `base`, all or nothing, and returns the version.

    Without the weights of other models that lie in it for a warm start, which reads the Trainer's folder.
    """
    base = pathlib.Path(base)
    base.mkdir(parents=True, exist_ok=True)
    for left_over in base.glob(f"{PARTIAL}*"):
        shutil.rmtree(left_over)
    there = [int(path.name) for path in base.iterdir() if path.name.isdigit()]
    version = str(max([int(time.time()), *(v + 1 for v in there)]))
    partial = base / f"{PARTIAL}{version}"
    shutil.copytree(model, partial, ignore=shutil.ignore_patterns(BASE_WEIGHTS, GENERATOR_WEIGHTS))
    os.rename(partial, base / version)
    return version
