"""Which versions are loaded: watches the push folders, loads what is new, retires what is old, never leaves a gap.

A version's life is START, LOADING, AVAILABLE, UNLOADING, END. Its successor is loaded beside it, and it goes only when
one that should be served is AVAILABLE. One that does not load is END with the error; the old one goes on answering.
"""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from serving.double.config import ModelConfig
from serving.double.errors import ApiError, ModelConfigError, ModelLoadError
from serving.double.folders import model_file, no_model, version_folders
from serving.double.loading import load_version
from serving.double.metrics import Metrics
from serving.double.model import LoadedModel
from serving.double.options import ServerOptions


@dataclasses.dataclass
class VersionRecord:
    """State of one version of one model, as the status endpoint shows it."""

    version: int
    folder: Path
    state: str = "START"
    error_code: str = "OK"
    error_message: str = ""
    model: LoadedModel | None = None
    unloading: LoadedModel | None = None  # the model that goes when its last request ends
    tries: int = 0
    next_try: float = 0.0  # time.monotonic()


class ModelManager:
    """All served models and their versions.

    Args:
        configs: the models.
        options: how often folders are looked at and loads are tried, and the time limit of a run.
        metrics: told of every try to load.
        on_event: called with one line of text when a version comes, goes or fails after the start.
    """

    def __init__(
        self,
        configs: Sequence[ModelConfig],
        options: ServerOptions,
        metrics: Metrics,
        on_event: Callable[[str], None] = lambda text: None,
    ):
        self._configs = {config.name: config for config in configs}
        self._labels = {config.name: config.labels for config in configs}
        self._records: dict[str, dict[int, VersionRecord]] = {config.name: {} for config in configs}
        self._options = options
        self._metrics = metrics
        self._on_event = on_event
        self._problems: dict[str, str] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._watcher: threading.Thread | None = None

    def load_all(self) -> None:
        """Loads every configured model before the server opens its port.

        Raises:
            NoModelError: a base path is missing or holds no version.
            ModelLoadError: a version that should be served does not load (the real server ends here, too).
            ModelConfigError: a label names a version that is not served.
        """
        for config in self._configs.values():
            if not config.base_path.is_dir():
                raise no_model(config)
            self._refresh(config, at_start=True)
            records = self._records[config.name].values()
            failed = [record for record in records if record.error_code != "OK"]
            if failed:
                reason = f"{failed[0].error_code}: {failed[0].error_message}".rstrip(".")
                raise ModelLoadError(
                    f"Version {failed[0].version} of model '{config.name}' does not load from '{failed[0].folder}': "
                    f"{reason}. Remove that folder to serve an earlier version, or push again with `amen run`."
                )
            serving = self._available(config.name)
            if not serving:
                raise no_model(config)
            for label, version in config.labels.items():
                if version not in serving:
                    raise ModelConfigError(
                        f"Label '{label}' of model '{config.name}' names version {version}, which is not served "
                        f"(served: {', '.join(map(str, sorted(serving)))}). Correct version_labels or the policy."
                    )

    def start(self, read_configs: Callable[[], Sequence[ModelConfig]] | None = None) -> None:
        """Watches the folders in a thread.

        Args:
            read_configs: reads models.config anew; called every `config_poll_seconds`, where that is not 0.
        """
        interval = self._options.config_poll_seconds

        def watch() -> None:
            next_reading = time.monotonic() + interval
            while not self._stop.wait(self._options.poll_seconds):
                if read_configs is not None and interval and time.monotonic() >= next_reading:
                    next_reading = time.monotonic() + interval
                    self._guarded("models.config", lambda: self.reconfigure(read_configs()))
                self.poll()

        self._watcher = threading.Thread(target=watch, name="amen-version-watcher", daemon=True)
        self._watcher.start()

    def stop(self) -> None:
        """Ends the watch and frees every model."""
        self._stop.set()
        if self._watcher is not None:
            self._watcher.join()
        for records in self._records.values():
            for record in records.values():
                self._unload(record)

    def poll(self) -> None:
        """Looks at every folder once; a folder that cannot be read changes nothing."""
        for config in self._configs.values():
            self._guarded(f"model '{config.name}'", lambda config=config: self._refresh(config))
        for name in set(self._records) - set(self._configs):
            for record in self._records[name].values():
                self._forget_tries(record)
            for version in sorted(self._available(name)):
                self._retire(name, version)

    def reconfigure(self, configs: Sequence[ModelConfig]) -> None:
        """Takes a new models.config; the next `poll` loads and unloads what it says.

        Raises:
            ModelConfigError: it moves a label to a version that is not AVAILABLE. As on the server nothing of the
                file is then taken: the version is added first, and the label moved when it is loaded.
        """
        for config in configs:
            for label, version in config.labels.items():
                before = self._labels.get(config.name, {}).get(label, version)
                if before != version and version not in self._available(config.name):
                    raise ModelConfigError(
                        f"label '{label}' of model '{config.name}' cannot move from version {before} to {version}, "
                        "which is not AVAILABLE. Add the version first, and move the label once it is loaded."
                    )
        with self._lock:
            self._configs = {config.name: config for config in configs}
            self._labels = {config.name: config.labels for config in configs}
            for config in configs:
                self._records.setdefault(config.name, {})

    @contextlib.contextmanager
    def borrow(self, name: str, version: int | None = None, label: str | None = None) -> Iterator[tuple]:
        """The model that answers a request, kept alive meanwhile.

        Yields:
            (LoadedModel, version number).

        Raises:
            ApiError: NOT_FOUND for an unknown model or version, INVALID_ARGUMENT for an unknown label.
        """
        with self._lock, contextlib.ExitStack() as stack:
            if label is not None:
                labels = self._labels.get(name, {})
                if label not in labels:
                    raise ApiError("INVALID_ARGUMENT", f"Unrecognized servable version label: {label}")
                version = labels[label]
            available = {
                number: record.model
                for number, record in self._records.get(name, {}).items()
                if record.state == "AVAILABLE"
            }
            number = max(available, default=None) if version is None else version
            if number not in available:
                asked = f"Latest({name})" if version is None else f"Specific({name}, {version})"
                raise ApiError("NOT_FOUND", f"Servable not found for request: {asked}")
            # Borrowed under the manager's lock: the watcher cannot free the session in between.
            model = stack.enter_context(available[number].borrowed())
            held = stack.pop_all()
        with held:
            yield model, number

    def status(self, name: str, version: int | None = None) -> list[VersionRecord]:
        """Copies of the records of a model, newest first, or of one version.

        Raises:
            ApiError: NOT_FOUND.
        """
        with self._lock:
            records = [dataclasses.replace(record) for record in self._records.get(name, {}).values()]
        if version is not None:
            records = [record for record in records if record.version == version]
            if not records:
                raise ApiError("NOT_FOUND", f"Could not find version {version} of model {name}")
        if not records:
            raise ApiError("NOT_FOUND", f"Could not find any versions of model {name}")
        return sorted(records, key=lambda record: -record.version)

    def _guarded(self, what: str, action: Callable[[], None]) -> None:
        """Runs one step of the watch, which must outlive whatever a folder or a file holds; says each problem once."""
        try:
            action()
            self._problems.pop(what, None)
        except Exception as error:
            problem = f"{what}: {type(error).__name__}: {error}; looking again every poll"
            if self._problems.get(what) != problem:
                self._problems[what] = problem
                self._on_event(problem)

    def _available(self, name: str) -> set[int]:
        return {number for number, record in self._records.get(name, {}).items() if record.state == "AVAILABLE"}

    def _refresh(self, config: ModelConfig, at_start: bool = False) -> None:
        if not config.base_path.is_dir():
            return  # as the server: a base path that cannot be listed unloads nothing
        present = version_folders(config.base_path)
        wanted = config.policy.select(sorted(present))
        for version, record in self._records[config.name].items():
            if version not in wanted:
                self._forget_tries(record)
        for version in wanted:
            self._load(config.name, version, present[version], at_start)
        available = self._available(config.name)
        if available & set(wanted) or not wanted:
            for version in sorted(available - set(wanted)):
                self._retire(config.name, version)

    def _forget_tries(self, record: VersionRecord) -> None:
        """A version that is no longer wanted is not tried again, and has all its tries when it comes back."""
        record.tries, record.next_try = 0, 0.0
        if record.state == "LOADING":
            came_not = f"No saved_model.pb came to {record.folder} while this version was wanted"
            self._set(record, "END", ApiError("NOT_FOUND", came_not))

    def _load(self, name: str, version: int, folder: Path, at_start: bool) -> None:
        with self._lock:
            record = self._records[name].setdefault(version, VersionRecord(version, folder))
        given_up = record.tries > self._options.max_load_retries
        if record.state == "AVAILABLE" or given_up or time.monotonic() < record.next_try:
            return
        record.folder = folder
        self._set(record, "LOADING")
        try:
            model = load_version(folder, self._options.timeout_seconds, self._metrics)
        except ApiError as error:
            self._failed(name, record, error, at_start)
            return
        record.tries = 0
        self._set(record, "AVAILABLE", model=model)
        if not at_start:
            self._on_event(f"version {version} of '{name}' loaded")

    def _failed(self, name: str, record: VersionRecord, error: ApiError, at_start: bool) -> None:
        """Ends a version that does not load, or leaves it LOADING where its graph file may still be on the way."""
        record.tries += 1
        retries = self._options.max_load_retries
        if not at_start and record.tries <= retries and model_file(record.folder) is None:
            seconds = self._options.load_retry_seconds
            record.next_try = time.monotonic() + seconds
            self._on_event(
                f"version {record.version} of '{name}' has no saved_model.pb yet; next try in {seconds:g} s "
                f"({record.tries} of {retries})"
            )
            return
        record.tries = retries + 1
        self._set(record, "END", error)
        if not at_start:
            self._on_event(
                f"version {record.version} of '{name}' does not load and is skipped: {error.status_text[:300]}"
            )

    def _set(self, record: VersionRecord, state: str, error: ApiError | None = None, model=None) -> None:
        with self._lock:
            record.state, record.model = state, model
            record.error_code = error.code if error else "OK"
            record.error_message = error.message if error else ""

    def _retire(self, name: str, version: int) -> None:
        self._unload(self._records[name][version])
        self._on_event(f"version {version} of '{name}' retired")

    def _unload(self, record: VersionRecord) -> None:
        model = record.model
        if model is None:
            return
        record.unloading = model
        self._set(record, "UNLOADING")

        def ended() -> None:
            with self._lock:
                # It may have been wanted again, and loaded anew, while a request held the old model.
                if record.state == "UNLOADING" and record.unloading is model:
                    record.state, record.unloading = "END", None

        model.retire(ended)
