"""What lies in a model's base path: version folders, and the graph file that makes one complete."""

from pathlib import Path

from serving.double.config import ModelConfig
from serving.double.errors import NoModelError

_MAX_INT64 = 2**63 - 1


def model_file(folder: Path) -> Path | None:
    """The graph file of a version folder, None while it is not there (a push still under way)."""
    for name in ("saved_model.pb", "saved_model.pbtxt"):
        if (folder / name).is_file():
            return folder / name
    return None


def version_folders(base_path: Path) -> dict[int, Path]:
    """Version number -> folder: the folders whose names are all digits (leading zeros do not count)."""
    folders = [entry for entry in sorted(base_path.iterdir()) if entry.name.isascii() and entry.name.isdigit()]
    # Versions are int64.
    numbered = {int(folder.name): folder for folder in folders if folder.is_dir()}
    return {version: folder for version, folder in numbered.items() if version <= _MAX_INT64}


def no_model(config: ModelConfig) -> NoModelError:
    """The error of a start without anything to serve, which says what the base path holds instead."""
    base = config.base_path
    if not base.exists():
        found = "the folder does not exist"
    elif not base.is_dir():
        found = "it is a file"
    else:
        names = sorted(entry.name for entry in base.iterdir())
        found = f"found {', '.join(names[:5]) + (', ...' if len(names) > 5 else '') if names else 'an empty folder'}"
    policy = "" if config.policy.kind != "specific" else f" among versions {list(config.policy.versions)}"
    return NoModelError(
        f"No version of model '{config.name}' to serve in '{base}': expected folders named by digits that hold a "
        f"saved_model.pb, as in '{base}/1718000000/saved_model.pb'{policy}; {found}. "
        "Train and push a model with `amen run`, or give the push folder of an earlier run."
    )
