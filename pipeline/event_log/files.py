"""Finding the files of an event log.

In: a path, a folder or a glob. Out: a sorted list of files, all of one format.
"""

import glob
import os
import pathlib

from pipeline.event_log import storage
from pipeline.event_log.errors import EventLogError

SUFFIXES = {
    "csv": (".csv", ".csv.gz"),
    "parquet": (".parquet",),
    "tfrecord": (".tfrecord", ".tfrecord.gz", ".tfrecords", ".tfrecords.gz"),
}


def format_of(path: str, format: str = "auto") -> str:
    """`csv`, `parquet` or `tfrecord`: the setting when it says so, else from the file's suffix."""
    if format in SUFFIXES:
        return format
    for name, suffixes in SUFFIXES.items():
        if path.lower().endswith(suffixes):
            return name
    raise EventLogError(
        f"{path}: cannot tell the format from the name. Expected a file ending in {_suffix_text('auto')}; "
        "set data.format to csv, parquet or tfrecord if it is one under another name."
    )


def list_files(log: str, format: str = "auto") -> list[str]:
    """The files of a log, sorted by path.

    Args:
      log: a file, a folder (searched in depth, hidden files and names starting with _ left out) or a glob; local, or
        with a scheme that `storage` reads.
      format: `auto`, `csv`, `parquet` or `tfrecord`. A folder gives the files whose suffix fits; a file or glob is
        taken as it is.

    Raises:
      EventLogError: nothing is there, or a folder holds several formats and `format` is `auto`.
    """
    below = storage.files_below(log)
    if below is not None:
        found = [path for path in below if has_suffix(path, format)]
        if not found:
            raise EventLogError(
                f"No event log in folder {log}: looked there and below for files ending in {_suffix_text(format)}. "
                "Give a folder, file or glob with such files as data.log."
            )
    elif storage.is_file(log):
        found = [log]
    elif glob.has_magic(log):
        found = storage.matching(log)
        if not found:
            raise EventLogError(f"No file matches {log}{_from_where(log)}. Check data.log.")
    else:
        folder = pathlib.Path(log).parent
        absent = not storage.is_remote(log) and not folder.is_dir()
        beside = f" Its folder {folder} does not exist either." if absent else ""
        raise EventLogError(
            f"No such event log: {log}{_from_where(log)}.{beside} "
            f"Expected a file ending in {_suffix_text(format)}, a folder of such files, or a glob. Check data.log."
        )
    formats = {format_of(path, format) for path in found}
    if len(formats) > 1:
        raise EventLogError(
            f"{log} holds files of several formats ({', '.join(sorted(formats))}), which would be read as one log. "
            "Set data.format to the one that is meant, or move the others away."
        )
    return found


def _from_where(log: str) -> str:
    return "" if storage.is_remote(log) else f" (looked from {os.getcwd()})"


def has_suffix(path: str, format: str = "auto") -> bool:
    """Whether a file is of a log by the end of its name, of the format of the settings."""
    return path.lower().endswith(_suffixes(format))


def _suffixes(format: str) -> tuple[str, ...]:
    return SUFFIXES.get(format) or tuple(s for group in SUFFIXES.values() for s in group)


def _suffix_text(format: str) -> str:
    suffixes = _suffixes(format)
    return f"{', '.join(suffixes[:-1])} or {suffixes[-1]}" if len(suffixes) > 1 else suffixes[0]
