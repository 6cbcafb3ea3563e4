"""Removes old versions from a push folder, never one that a server's models.config serves or names by a label."""

import os
import pathlib
import shutil
from typing import NamedTuple

from serving.double.config import read_models_config
from serving.double.errors import ModelConfigError
from serving.double.folders import version_folders

# The server looks only at names that are all digits, so whatever carries this prefix is invisible to it.
PARTIAL = "tmp."


class Pruned(NamedTuple):
    """What became of the versions.

    Attributes:
      removed: folder names, oldest first.
      kept: how many versions are left.
      problem: why not all was removed that should have been; empty where it was.
    """

    removed: list[str]
    kept: int
    problem: str = ""


def versions(base: pathlib.Path) -> dict[int, pathlib.Path]:
    """Version -> folder, ascending."""
    return dict(sorted(version_folders(base).items()))


def prune(base: pathlib.Path, keep: int, models_config: str | pathlib.Path | None) -> Pruned:
    """Removes all but the newest `keep` versions and those that the servers need.

    A folder gets a name that servers do not look at before it is deleted: a version is whole or gone, whenever the
    process is killed. Nothing is raised, since the push before it has succeeded; `problem` says what went wrong.

    Args:
      base: the push folder; its name is the model's.
      keep: how many of the newest stay, at least 1.
      models_config: of the servers: what its policy serves and its labels name stays too. "" or None: there is none.
    """
    there = versions(base)
    try:
        needed = set() if not models_config else _needed(list(there), base.name, models_config)
    except ModelConfigError as e:
        return Pruned([], len(there), str(e))
    removed = []
    for version in sorted(set(there) - set(list(there)[-keep:]) - needed):
        partial = base / f"{PARTIAL}{there[version].name}"
        try:
            os.rename(there[version], partial)
            shutil.rmtree(partial)
        except OSError as e:
            return Pruned(removed, len(versions(base)), f"version {version} cannot be removed: {e}")
        removed.append(there[version].name)
    return Pruned(removed, len(there) - len(removed))


def _needed(there: list[int], model: str, models_config: str | pathlib.Path) -> set[int]:
    for entry in read_models_config(models_config):
        if entry.name == model:
            return {*entry.policy.select(there), *entry.labels.values()}
    raise ModelConfigError(
        f"push.models_config '{models_config}' has no model '{model}', so nobody knows which versions it needs. Name "
        "the file that serves this push folder."
    )
