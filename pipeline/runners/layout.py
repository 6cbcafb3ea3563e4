"""Where a local run keeps its things: one folder per run name."""

import contextlib
import datetime
import fcntl
import pathlib
from collections.abc import Iterator

from amen_tf.config import Settings


class RunBusyError(RuntimeError):
    """Another process works in the same run folder."""


class Layout:
    """The folders and files of one run, below `<run.root>/<name>/`.

    Attributes:
      folder: of the run.
      artifacts: TFX's artifacts, one folder per stage.
      metadata: TFX's SQLite database.
      data: the simulated log, if the run simulates.
      logs: one file per call of `amen run`, with all that TensorFlow, Beam and TFX have to say.
      flows: the frozen generators' outputs, kept over runs; may be deleted at any time.
      spans: what was made of each span of a log in spans, kept for later windows; may be deleted at any time.
      tensorboard: one link per trainer, the folder for `tensorboard --logdir`.
      push: the server's base path: one folder per pushed version.
      models_config: the servers' models.config; None where the settings name none.
    """

    def __init__(self, settings: Settings):
        self.folder = (pathlib.Path(settings.run.root) / settings.name).resolve()
        self.artifacts = self.folder / "artifacts"
        self.metadata = self.folder / "metadata.sqlite"
        self.data = self.folder / "data"
        self.schema = self.folder / "schema"
        self.logs = self.folder / "logs"
        self.tensorboard = self.folder / "tensorboard"
        self.flows = self.folder / "flows"
        self.spans = self.folder / "spans"
        self.settings = self.folder / "settings.yaml"
        self.prepared = self.folder / "prepared.json"
        self.report = self.folder / "report.json"
        self.example_request = self.folder / "example_request.json"
        pushed = pathlib.Path(settings.push.folder).resolve() if settings.push.folder else self.folder / "serving"
        self.push = pushed / settings.push.model_name
        named = settings.push.models_config
        self.models_config = pathlib.Path(named).resolve() if named else None

    def log_file(self, command: str = "") -> pathlib.Path:
        """A file below `logs` for what a call of `command` (`amen run` without) has to say, named after the time."""
        now = f"{datetime.datetime.now():%Y%m%d-%H%M%S}.log"
        return self.logs / (f"{command}-{now}" if command else now)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the run folder; the lock goes with the process, however it ends.

        Raises:
          RunBusyError: another process holds it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / ".lock", "w", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunBusyError(
                    f"Another run is working in {self.folder}. Wait for it to end, or give this one a name of its own "
                    "(settings: name, or --set name=...)."
                ) from None
            yield
