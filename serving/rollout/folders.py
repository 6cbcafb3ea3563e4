"""What the version folders of a model say: which are there, and whether one is whole."""

import re
from pathlib import Path

from serving.double.folders import model_file, version_folders
from serving.rollout.errors import RolloutError

_SHARD = re.compile(r"variables\.data-\d{5}-of-(\d{5})")


def faults(base: Path, version: int) -> list[str]:
    """Why the folder of a version is not whole; empty where it is.

    Args:
        base: folder of the version folders, as this machine sees it.
        version: its number; leading zeros in the folder's name do not count.

    Raises:
        RolloutError: `base` is not there.
    """
    if not base.is_dir():
        raise RolloutError(
            f"The folder of the versions, '{base}', is not on this machine, so nobody can tell whether version "
            f"{version} is whole. Give the place where this machine sees it: --folder."
        )
    folder = version_folders(base).get(version)
    if folder is None:
        return [f"no folder '{base / str(version)}'"]
    graph = model_file(folder)
    found = [] if graph is not None and graph.stat().st_size else ["no saved_model.pb, or an empty one"]
    variables = folder / "variables"
    if not (variables / "variables.index").is_file():
        return [*found, "no variables/variables.index"]
    shards = [match for path in variables.iterdir() if (match := _SHARD.fullmatch(path.name))]
    count = max((int(match.group(1)) for match in shards), default=1)
    if len(shards) != count:
        found.append(f"{len(shards)} of {count} files variables/variables.data-*")
    return found


def refuse_unless_whole(base: Path, version: int) -> None:
    """Refuses a version that a server could not load.

    Raises:
        RolloutError: the version's folder is missing or lacks files.
    """
    found = faults(base, version)
    if found:
        raise RolloutError(
            f"Version {version} is not whole: {'; '.join(found)} (looked in '{base}'). Nothing was changed. Push it "
            "again with `amen run`, or give another version."
        )
