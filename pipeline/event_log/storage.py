"""Where files of a log lie: on this machine, or wherever Apache Beam has a file system (gs://, s3://, hdfs://).

In: a path, a folder or a glob. Out: lists of files, files opened for reading, and a fingerprint of them. What is local
goes to Python and Arrow by its path and never loads Beam.
"""

import contextlib
import fnmatch
import glob
import hashlib
import io
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

import pyarrow as pa

from pipeline.event_log import beam_files

# A request over a network waits most of its time.
_REQUESTS_AT_ONCE = 32
_READ_BYTES = 8 << 20


def is_remote(place: str) -> bool:
    """Whether a path, folder or glob has a scheme, as in gs://bucket/log.csv."""
    return "://" in place


def configure(beam_options: Sequence[str], *places: str | None) -> None:
    """Gives Beam's file systems their options (`--hdfs_host=...`, `--s3_endpoint_url=...`) in this process.

    Beam does so itself where it runs a pipeline; whoever looks at a log before that calls this first.

    Args:
      beam_options: `run.beam_options`.
      places: where the run reads; if none is remote, nothing is done.
    """
    if any(place and is_remote(place) for place in places):
        beam_files.configure(beam_options)


def files_below(folder: str) -> list[str] | None:
    """The files in a folder and below it, sorted; hidden ones and names starting with _ are left out.

    Returns:
      None if there is no such folder. An object store has those that lie on the way to its files.

    Raises:
      EventLogError: its storage cannot be read.
    """
    if not is_remote(folder):
        if not os.path.isdir(folder):
            return None
        below = [p for p in pathlib.Path(folder).rglob("*") if p.is_file()]
        return sorted(str(p) for p in below if not _set_aside(p.relative_to(folder).parts))
    if glob.has_magic(folder):
        return None
    root = f"{folder.rstrip('/')}/"
    below = beam_files.in_folder(root)
    return None if below is None else sorted(p for p in below if not _set_aside(p[len(root) :].split("/")))


def _set_aside(names: Iterable[str]) -> bool:
    return any(name.startswith((".", "_")) for name in names)


def is_file(path: str) -> bool:
    """Whether there is a file of this name.

    Raises:
      EventLogError: its storage cannot be read.
    """
    return beam_files.exists(path) if is_remote(path) else os.path.isfile(path)


def matching(pattern: str) -> list[str]:
    """The files that a glob finds, sorted: * within a name, ** through folders, ? one sign, [ab] one of some.

    Raises:
      EventLogError: its storage cannot be read.
    """
    if not is_remote(pattern):
        # A set, because a pattern with ** twice finds a file in more than one way.
        return sorted({path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path)})
    # ** at the end stands for what is in a folder, never for the place before it alone.
    names = (f"{pattern}/*" if pattern.endswith("/**") else pattern).split("/")
    start = min((pattern.find(sign) for sign in "*?[" if sign in pattern), default=len(pattern))
    return sorted(path for path in beam_files.beginning_with(pattern[:start]) if _fits(path.split("/"), names))


def _fits(names: list[str], patterns: list[str]) -> bool:
    """A path cut into names, against a pattern cut so: as `glob` has it, where a name that begins with . is hidden."""
    if not patterns:
        return not names
    if patterns[0] == "**" and _fits(names, patterns[1:]):
        return True
    if not names or (names[0].startswith(".") and not patterns[0].startswith(".")):
        return False
    if patterns[0] == "**":
        return _fits(names[1:], patterns)
    return fnmatch.fnmatchcase(names[0], patterns[0]) and _fits(names[1:], patterns[1:])


def size(path: str) -> int:
    """The bytes of a file.

    Raises:
      OSError, EventLogError: it is not there or cannot be read.
    """
    return _version(path)[0]


def fingerprint(files: Sequence[str], *more: str) -> str:
    """Changes with the name, size or modification time of any file, and with any further text; errors as of `size`."""
    digest = hashlib.sha256()
    for path, (bytes_, updated) in zip(files, each(_version, files), strict=True):
        digest.update(f"{path}\0{bytes_}\0{updated}\n".encode())
    for text in more:
        digest.update(f"{text}\0".encode())
    return f"files:{len(files)},sha256:{digest.hexdigest()}"


def _version(path: str) -> tuple[int, int | float]:
    """Size in bytes and time of the last change: nanoseconds of a local file, else seconds."""
    if not is_remote(path):
        stat = os.stat(path)
        return stat.st_size, stat.st_mtime_ns
    return beam_files.size_and_time(path)


def each(function: Callable[[str], Any], files: Sequence[str]) -> list:
    """`function` of every file, in their order; of many files at once where each costs a request."""
    if not any(map(is_remote, files)):
        return list(map(function, files))
    with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
        return list(pool.map(function, files))


def open_file(path: str) -> BinaryIO:
    """A file's bytes as they are stored, also where the name says that they are compressed. To be closed.

    Raises:
      OSError: it cannot be opened; or later on, it cannot be read.
    """
    if not is_remote(path):
        return open(path, "rb")
    return io.BufferedReader(beam_files.open_stored(path), _READ_BYTES)


def for_arrow(path: str) -> str | pa.NativeFile:
    """What Arrow is to read a file from: its path where that is local."""
    return pa.PythonFile(open_file(path), "r") if is_remote(path) else path


def decompressed_for_arrow(path: str) -> str | pa.NativeFile:
    """As `for_arrow`, for readers that go by the name whether a local file is gzipped."""
    opened = for_arrow(path)
    gzipped = is_remote(path) and path.lower().endswith(".gz")
    return pa.CompressedInputStream(opened, "gzip") if gzipped else opened


@contextlib.contextmanager
def local_copy(path: str) -> Iterator[str]:
    """A local path with the file's content: its own, or that of a copy which goes with the context.

    For libraries that open files by themselves. A copy takes the file's size on this machine's disk.

    Raises:
      OSError: it cannot be read.
    """
    if not is_remote(path):
        yield path
        return
    with tempfile.NamedTemporaryFile(prefix="amen-") as copy:
        with open_file(path) as content:
            shutil.copyfileobj(content, copy, _READ_BYTES)
        copy.flush()
        yield copy.name
