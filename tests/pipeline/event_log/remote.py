"""Two file systems for Beam over local folders, so that remote logs can be tested without a network.

`shelf://` is an object store: no folders, listings in depth by prefix, an empty object where a tool made a folder.
`tree://` is like HDFS: one folder at a time, folders as entries without bytes, an error where a file is listed as one.
"""

import os
import pathlib

from apache_beam.io.filesystem import BeamIOError, CompressedFile, CompressionTypes, FileMetadata, FileSystem


class _OverFolder:
    """What both have in common; `root` is the folder."""

    root: pathlib.Path

    def _local(self, url: str) -> pathlib.Path:
        return self.root / url.removeprefix(f"{self.scheme()}://")

    def _url(self, path: pathlib.Path) -> str:
        return f"{self.scheme()}://{path.relative_to(self.root)}"

    def open(self, path, mime_type=None, compression_type=CompressionTypes.AUTO):
        file = self._local(path).open("rb")
        kind = self._get_compression_type(path, compression_type)
        return file if kind == CompressionTypes.UNCOMPRESSED else CompressedFile(file, kind)

    def exists(self, path):
        return self._local(path).exists() if self.has_dirs() else self._local(path).is_file()

    def metadata(self, path):
        local = self._local(path)
        if not local.exists():
            raise BeamIOError("Metadata operation failed", {path: "not found"})
        return FileMetadata(path, 0 if local.is_dir() else local.stat().st_size, local.stat().st_mtime)

    def size(self, path):
        return self.metadata(path).size_in_bytes

    def last_updated(self, path):
        return self.metadata(path).last_updated_in_seconds

    def _not_for_reading(self, *args, **kwargs):
        raise AssertionError("The log is only read.")

    join = split = mkdirs = create = copy = rename = delete = _not_for_reading


class Shelf(_OverFolder, FileSystem):
    @classmethod
    def scheme(cls):
        return "shelf"

    def has_dirs(self):
        return False

    def _list(self, dir_or_prefix):
        for folder, folders, files in os.walk(self.root):
            found = [self._url(pathlib.Path(folder, name)) for name in files]
            for url in [*found, *(f"{self._url(pathlib.Path(folder, name))}/" for name in folders)]:
                if url.startswith(dir_or_prefix):
                    yield FileMetadata(url, 0) if url.endswith("/") else self.metadata(url)


class Tree(_OverFolder, FileSystem):
    @classmethod
    def scheme(cls):
        return "tree"

    def has_dirs(self):
        return True

    def _list(self, dir_or_prefix):
        local = self._local(dir_or_prefix)
        if not local.is_dir():
            problem = "is not a directory" if local.exists() else "does not exist"
            raise BeamIOError("List operation failed", {dir_or_prefix: f"{local} {problem}."})
        for path in local.iterdir():
            yield self.metadata(self._url(path))
