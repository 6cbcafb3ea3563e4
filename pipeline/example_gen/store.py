"""What was made of the spans of a log, kept from run to run, so that a new span is all that a new window has to read.

In: a folder and keys. Out: pieces, each a folder that is complete once it has its `done.json`. The folder may be
deleted at any time: what is missing is made again, with the same result.
"""

import json
from collections.abc import Iterable
from typing import NamedTuple

from tfx.dsl.io import fileio

_DONE = "done.json"
EXAMPLES, HISTORY = KINDS = ("examples", "history")


class Piece(NamedTuple):
    """The examples of a span, or the history that later spans need.

    Attributes:
      kind: `examples` or `history`.
      span: of its requests; the last one that the history knows.
      until: the last span that future items may lie in; for a history `span`.
      key: of all that decides what is in it.
    """

    kind: str
    span: int
    until: int
    key: str

    @property
    def name(self) -> str:
        """The folder's name, below that of the span."""
        return f"{self.kind}-{self.key}"


class Store:
    """Pieces in a folder that all workers see.

    Args:
      folder: made if it is not there.

    Attributes:
      temporary: a folder on the same file system, for files that are not finished.
    """

    def __init__(self, folder: str):
        self._folder = folder
        self.temporary = f"{folder}/_unfinished"
        fileio.makedirs(self.temporary)

    def path(self, piece: Piece) -> str:
        """The piece's folder."""
        return f"{self._folder}/{piece.span}/{piece.name}"

    def files(self, piece: Piece, pattern: str) -> list[str]:
        """Files of the piece, sorted."""
        return sorted(fileio.glob(f"{self.path(piece)}/{pattern}"))

    def done(self, piece: Piece) -> dict | None:
        """What was said of a complete piece; None if it is not there, or not whole."""
        path = f"{self.path(piece)}/{_DONE}"
        if not fileio.exists(path):
            return None
        with fileio.open(path, "rb") as file:
            return json.loads(file.read())

    def begin(self, piece: Piece) -> None:
        """Makes an empty folder; what an attempt that was cut off left there goes."""
        if fileio.exists(self.path(piece)):
            fileio.rmtree(self.path(piece))
        fileio.makedirs(self.path(piece))

    def complete(self, piece: Piece, content: dict) -> None:
        """Says that the piece is whole, and what is to be said of it."""
        unfinished = f"{self.path(piece)}/unfinished.{_DONE}"
        with fileio.open(unfinished, "wb") as file:
            file.write(json.dumps(content).encode())
        fileio.rename(unfinished, f"{self.path(piece)}/{_DONE}", overwrite=True)

    def keep_only(self, pieces: Iterable[Piece]) -> None:
        """Removes what no window that moves on needs any more: all pieces but these."""
        kept = {(str(piece.span), piece.name) for piece in pieces}
        # What is here besides, such as notes of a person, stays.
        for span in filter(str.isdigit, self._names(self._folder)):
            names = self._names(f"{self._folder}/{span}")
            gone = [name for name in names if name.startswith(KINDS) and (span, name) not in kept]
            for name in gone:
                fileio.rmtree(f"{self._folder}/{span}/{name}")
            if gone == names:
                fileio.rmtree(f"{self._folder}/{span}")

    @staticmethod
    def _names(folder: str) -> list[str]:
        # An object store ends the names of folders with a slash.
        return [name.rstrip("/") for name in fileio.listdir(folder)]
