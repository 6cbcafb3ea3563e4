"""Finding the files of an event log.

In: a path, a folder or a glob. Out: a sorted list of files, all of one format.
"""

import glob
import hashlib
import os
import pathlib
from collections.abc import Iterable

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
      log: a file, a folder (searched in depth, hidden files and names starting with _ left out) or a glob.
      format: `auto`, `csv`, `parquet` or `tfrecord`. A folder gives the files whose suffix fits; a file or glob is
        taken as it is.

    Raises:
      EventLogError: nothing is there, or a folder holds several formats and `format` is `auto`.
    """
    if os.path.isdir(log):
        found = sorted(
            str(p)
            for p in pathlib.Path(log).rglob("*")
            if p.is_file()
            and not any(part.startswith((".", "_")) for part in p.relative_to(log).parts)
            and p.name.lower().endswith(_suffixes(format))
        )
        if not found:
            raise EventLogError(
                f"No event log in folder {log}: looked there and below for files ending in {_suffix_text(format)}. "
                "Give a folder, file or glob with such files as data.log."
            )
    elif os.path.isfile(log):
        found = [log]
    elif glob.has_magic(log):
        found = sorted(p for p in glob.glob(log, recursive=True) if os.path.isfile(p))
        if not found:
            raise EventLogError(f"No file matches {log} (looked from {os.getcwd()}). Check data.log.")
    else:
        folder = pathlib.Path(log).parent
        beside = "" if folder.is_dir() else f" Its folder {folder} does not exist either."
        remote = " Only local paths are read: copy or mount the log first." if "://" in log else ""
        raise EventLogError(
            f"No such event log: {log} (looked from {os.getcwd()}).{beside}{remote} "
            f"Expected a file ending in {_suffix_text(format)}, a folder of such files, or a glob. Check data.log."
        )
    formats = {format_of(path, format) for path in found}
    if len(formats) > 1:
        raise EventLogError(
            f"{log} holds files of several formats ({', '.join(sorted(formats))}), which would be read as one log. "
            "Set data.format to the one that is meant, or move the others away."
        )
    return found


def _suffixes(format: str) -> tuple[str, ...]:
    return SUFFIXES.get(format) or tuple(s for group in SUFFIXES.values() for s in group)


def _suffix_text(format: str) -> str:
    suffixes = _suffixes(format)
    return f"{', '.join(suffixes[:-1])} or {suffixes[-1]}" if len(suffixes) > 1 else suffixes[0]


def fingerprint(files: Iterable[str], *more: str) -> str:
    """Changes with the name, size or modification time of any file, and with any of the further texts."""
    digest, count = hashlib.sha256(), 0
    for path in files:
        stat = os.stat(path)
        digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        count += 1
    for text in more:
        digest.update(f"{text}\0".encode())
    return f"files:{count},sha256:{digest.hexdigest()}"
