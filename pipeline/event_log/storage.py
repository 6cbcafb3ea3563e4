"""Where files of a log lie: on this machine, or wherever Apache Beam has a file system (gs://, s3://, hdfs://).

In: a path, a folder or a glob. Out: lists of files, files opened for reading, and a fingerprint of them. What is local
goes to Python and Arrow by its path and never loads Beam.
"""

import contextlib
import fnmatch
import glob
import hashlib
import importlib
import io
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

import pyarrow as pa

from pipeline.event_log.errors import EventLogError, short

# Scheme -> the extra of apache-beam that brings its client, and the client's module. Beam says differently for each
# scheme, and sometimes only in an assertion, that a client is absent.
_EXTRAS = {
    "gs": ("gcp", "google.cloud.storage"),
    "s3": ("aws", "boto3"),
    "hdfs": ("hadoop", "hdfs"),
    "azfs": ("azure", "azure.storage.blob"),
}
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
        from apache_beam.io.filesystems import FileSystems
        from apache_beam.options.pipeline_options import PipelineOptions

        FileSystems.set_options(PipelineOptions(list(beam_options)))


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
    system = _system(folder)
    root = f"{folder.rstrip('/')}/"
    with _storage_errors(folder):
        below = _folder(system, root)
    if below is None or not (below or system.has_dirs()):
        return None
    return sorted(path for path in below if not _set_aside(path[len(root) :].split("/")))


def _set_aside(names: Iterable[str]) -> bool:
    return any(name.startswith((".", "_")) for name in names)


def is_file(path: str) -> bool:
    """Whether there is a file of this name.

    Raises:
      EventLogError: its storage cannot be read.
    """
    if not is_remote(path):
        return os.path.isfile(path)
    system = _system(path)
    with _storage_errors(path):
        return system.exists(path)


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
    with _storage_errors(pattern):
        found = _walk(_system(pattern), pattern[:start])
        return sorted(path for path in found if _fits(path.split("/"), names))


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


def fingerprint(files: Sequence[str]) -> str:
    """Changes with the name, size or modification time of any file; errors as of `size`."""
    digest = hashlib.sha256()
    for path, (bytes_, updated) in zip(files, each(_version, files), strict=True):
        digest.update(f"{path}\0{bytes_}\0{updated}\n".encode())
    return f"files:{len(files)},sha256:{digest.hexdigest()}"


def _version(path: str) -> tuple[int, int | float]:
    """Size in bytes and time of the last change: nanoseconds of a local file, else seconds."""
    if not is_remote(path):
        stat = os.stat(path)
        return stat.st_size, stat.st_mtime_ns
    with _storage_errors(path):
        found = _system(path).metadata(path)
        return found.size_in_bytes, found.last_updated_in_seconds


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
    from apache_beam.io.filesystem import CompressionTypes

    with _os_errors():
        content = _system(path).open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    return io.BufferedReader(_Content(content), _READ_BYTES)


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


class _Content(io.RawIOBase):
    """A file that Beam has opened, as one of Python's; whatever its client raises is an `OSError`."""

    def __init__(self, content: BinaryIO):
        self._content = content

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, target) -> int:
        with _os_errors():
            found = self._content.read(len(target))
        target[: len(found)] = found
        return len(found)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with _os_errors():
            self._content.seek(offset, whence)
            return self._content.tell()

    def tell(self) -> int:
        return self._content.tell()

    def close(self) -> None:
        if not self.closed:
            self._content.close()
        super().close()


def _walk(system, prefix: str) -> list[str]:
    """The files whose path begins with `prefix`."""
    files = []
    for entry in system.match([f"{prefix}**"])[0].metadata_list:
        # HDFS lists a folder at a time, what is below it as files of no bytes. Object stores list all at once, some of
        # them with an empty object for a folder.
        inner = _folder(system, f"{entry.path}/") if system.has_dirs() and not entry.size_in_bytes else None
        if inner is not None:
            files += inner
        elif not entry.path.endswith("/"):
            files.append(entry.path)
    return files


def _folder(system, root: str) -> list[str] | None:
    """The files below a folder whose path ends with /; None if it is none."""
    if not system.has_dirs():
        return _walk(system, root)
    path = root.rstrip("/")
    if not system.exists(path) or system.metadata(path).size_in_bytes:
        return None
    try:
        return _walk(system, root)
    except OSError as e:
        # Beam cannot be asked what an entry without bytes is: an empty file says so when it is listed as a folder.
        if "not a directory" in str(e).lower():
            return None
        raise


def _system(path: str):
    """Beam's file system for a path with a scheme."""
    from apache_beam.io.filesystems import FileSystems

    scheme = FileSystems.get_scheme(path)
    extra, client = _EXTRAS.get(scheme, ("", ""))
    if client:
        try:
            importlib.import_module(client)
        except ImportError as e:
            raise EventLogError(
                f"{path}: the library that reads {scheme}:// is not installed. Install apache-beam[{extra}], on every "
                "Beam worker too."
            ) from e
    try:
        return FileSystems.get_filesystem(path)
    except (ValueError, OSError) as e:
        if client:
            hint = f"Its options go into run.beam_options (`--{scheme}_...`)"
        else:
            hint = f"Expected a local path without a scheme, or one of {', '.join(f'{name}://' for name in _EXTRAS)}"
        raise EventLogError(f"{path}: no file system for {scheme}:// ({short(_cause(e))}). {hint}.") from e


def _cause(error: Exception) -> Exception:
    """What a client said, which Beam wraps, at times twice, into a table by path."""
    inner = next(iter((getattr(error, "exception_details", None) or {}).values()), None)
    return _cause(inner) if isinstance(inner, Exception) else error


@contextlib.contextmanager
def _os_errors() -> Iterator[None]:
    """Turns what clients of storage raise, each its own kind, into `OSError`."""
    try:
        yield
    except (OSError, EventLogError):
        raise
    except Exception as e:
        raise OSError(short(e)) from e


@contextlib.contextmanager
def _storage_errors(place: str) -> Iterator[None]:
    """Says of which place it is that files cannot be listed or looked at."""
    try:
        with _os_errors():
            yield
    except OSError as e:
        raise EventLogError(
            f"{place}: its storage cannot be read ({short(_cause(e))}). Check the path, the credentials of "
            "this process, and run.beam_options."
        ) from e
