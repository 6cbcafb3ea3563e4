"""TFX artifacts of folders, for executors that run without a pipeline."""

from tfx.types import artifact_utils


def artifact(kind, folder, splits=()):
    """An artifact of a type, whose files lie in a folder; with the names of its splits, where it has any."""
    made = kind()
    made.uri = str(folder)
    if splits:
        made.split_names = artifact_utils.encode_split_names(list(splits))
    return made
