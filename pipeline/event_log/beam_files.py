"""Beam's file systems, for paths with a scheme: what `storage` asks of them, in one kind of error.

In: addresses such as gs://bucket/log. Out: their files, and files as Python has them. Loads Beam when first asked.
"""

import contextlib
import importlib
import io
import os
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from pipeline.event_log.errors import EventLogError, short

# Scheme -> the extra of apache-beam that brings its client, and the client's module. Beam says differently for each
# scheme, and sometimes only in an assertion, that a client is absent.
_EXTRAS = {
    "gs": ("gcp", "google.cloud.storage"),
    "s3": ("aws", "boto3"),
    "hdfs": ("hadoop", "hdfs"),
    "azfs": ("azure", "azure.storage.blob"),
}


def configure(beam_options: Sequence[str]) -> None:
    """Gives all file systems Beam's options in this process."""
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions

    FileSystems.set_options(PipelineOptions(list(beam_options)))


def in_folder(root: str) -> list[str] | None:
    """The files in and below a folder whose path ends with /; None if there is none.

    Raises:
      EventLogError: its storage cannot be read.
    """
    path = root.rstrip("/")
    system = system_of(path)
    with _storage_errors(path):
        if not system.has_dirs():
            # There are only those folders that lie on the way to a file.
            return _walk(system, root) or None
        if not system.exists(path) or system.metadata(path).size_in_bytes:
            return None
        return _below(system, root)


def beginning_with(prefix: str) -> list[str]:
    """The files whose path begins so; errors as of `in_folder`."""
    system = system_of(prefix)
    with _storage_errors(prefix):
        return _walk(system, prefix)


def exists(path: str) -> bool:
    """Whether there is a file of this name; errors as of `in_folder`."""
    system = system_of(path)
    with _storage_errors(path):
        return system.exists(path)


def size_and_time(path: str) -> tuple[int, float]:
    """Bytes of a file and unix seconds of its last change; errors as of `in_folder`."""
    system = system_of(path)
    with _storage_errors(path):
        found = system.metadata(path)
        return found.size_in_bytes, found.last_updated_in_seconds


def open_stored(path: str) -> io.RawIOBase:
    """A file's bytes as they are stored, compressed or not.

    Raises:
      OSError: it cannot be opened; or later on, it cannot be read.
      EventLogError: see `system_of`.
    """
    from apache_beam.io.filesystem import CompressionTypes

    with _os_errors():
        return _Stored(system_of(path).open(path, compression_type=CompressionTypes.UNCOMPRESSED))


class _Stored(io.RawIOBase):
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
    files = []
    for entry in system.match([f"{prefix}**"])[0].metadata_list:
        # HDFS lists a folder at a time, what is below it as files of no bytes. Object stores list all at once, some of
        # them with an empty object for a folder.
        below = _below(system, f"{entry.path}/") if system.has_dirs() and not entry.size_in_bytes else None
        if below is not None:
            files += below
        elif not entry.path.endswith("/"):
            files.append(entry.path)
    return files


def _below(system, root: str) -> list[str] | None:
    """The files below what has a path and no bytes; None if it is an empty file, where the file system has folders."""
    try:
        return _walk(system, root)
    except OSError as e:
        # Beam cannot be asked what it is: a file says so when it is listed.
        if "not a directory" in str(e).lower():
            return None
        raise


def system_of(path: str):
    """Beam's file system for a path with a scheme.

    Raises:
      EventLogError: it is not installed, or lacks an option.
    """
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
