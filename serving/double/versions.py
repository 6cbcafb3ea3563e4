"""Which versions are loaded: watches the push folders, loads what is new, retires what is old, never leaves a gap.

A version's life is START, LOADING, AVAILABLE, UNLOADING, END. Its successor is loaded beside it, and it goes only when
one that should be served is AVAILABLE. One that does not load is END with the error; the old one goes on answering.
"""

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from serving.double.config import ModelConfig
from serving.double.errors import ApiError, ModelConfigError, ModelLoadError, NoModelError
from serving.double.model import LoadedModel, model_file
from serving.double.reload import refused_label
from serving.double.warmup import replay_warmup


@dataclasses.dataclass
class VersionRecord:
    """State of one version of one model, as the status endpoint shows it."""

    version: int
    folder: Path
    state: str = "START"
    error_code: str = "OK"
    error_message: str = ""
    model: LoadedModel | None = None
    stamp: tuple | None = None  # of the graph file tried last; a failed version is tried again when it changes


class ModelManager:
    """All served models and their versions.

    Args:
        configs: the models.
        on_event: called with one line of text when a version comes, goes or fails after the start.
        reread: the models as they should be now, asked at every poll; None where they never change.
    """

    def __init__(
        self,
        configs: Sequence[ModelConfig],
        on_event: Callable[[str], None] = lambda text: None,
        reread: Callable[[], Sequence[ModelConfig]] | None = None,
    ):
        self._configs = {config.name: config for config in configs}
        self._reread = reread
        self._records: dict[str, dict[int, VersionRecord]] = {config.name: {} for config in configs}
        self._problems: dict[str, str] = {}
        self._on_event = on_event
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
            self._refresh(config, at_start=True)
            records = self._records[config.name].values()
            failed = [record for record in records if record.error_code != "OK"]
            if failed:
                raise ModelLoadError(
                    f"Version {failed[0].version} of model '{config.name}' does not load from '{failed[0].folder}': "
                    f"{failed[0].error_code}: {failed[0].error_message}. Remove that folder to serve an earlier "
                    "version, or push again with `amen run`."
                )
            serving = {record.version for record in records if record.state == "AVAILABLE"}
            if not serving:
                raise _no_model(config)
            for label, version in config.labels.items():
                if version not in serving:
                    raise ModelConfigError(
                        f"Label '{label}' of model '{config.name}' names version {version}, which is not served "
                        f"(served: {', '.join(map(str, sorted(serving)))}). Correct version_labels or the policy."
                    )

    def start(self, poll_seconds: float) -> None:
        """Watches the folders in a thread."""

        def watch() -> None:
            while not self._stop.wait(poll_seconds):
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
        """Looks at models.config and every folder once; what cannot be read changes nothing."""
        self._watched("models.config", self._reconfigure)
        for config in self._configs.values():
            self._watched(f"model '{config.name}'", lambda config=config: self._refresh(config))

    def _watched(self, what: str, look: Callable[[], None]) -> None:
        try:
            look()
            self._problems.pop(what, None)
        except Exception as error:  # the watch must outlive whatever one file or folder holds
            problem = f"{what}: {type(error).__name__}: {error}; looking again every poll"
            if self._problems.get(what) != problem:
                self._problems[what] = problem
                self._on_event(problem)

    def _reconfigure(self) -> None:
        """Takes over a models.config that has changed: labels at once, versions with the look that follows."""
        configs = {config.name: config for config in (self._reread() if self._reread else self._configs.values())}
        if configs == self._configs:
            return
        with self._lock:
            available = {
                name: {number for number, record in records.items() if record.state == "AVAILABLE"}
                for name, records in self._records.items()
            }
        refused = refused_label(self._configs, list(configs.values()), available)
        if refused:
            raise ModelConfigError(refused)
        with self._lock:
            gone = [r for name in set(self._records) - set(configs) for r in self._records.pop(name).values()]
            for name in configs:
                self._records.setdefault(name, {})
            self._configs = configs
        for record in gone:
            self._unload(record)
        self._on_event("models.config has changed and is taken over")

    @contextlib.contextmanager
    def borrow(self, name: str, version: int | None = None, label: str | None = None) -> Iterator[tuple]:
        """The model that answers a request, kept alive meanwhile.

        Yields:
            (LoadedModel, version number).

        Raises:
            ApiError: NOT_FOUND for an unknown model or version, INVALID_ARGUMENT for an unknown label.
        """
        if label is not None:
            config = self._configs.get(name)
            labels = config.labels if config else {}
            if label not in labels:
                raise ApiError("INVALID_ARGUMENT", f"Unrecognized servable version label: {label}")
            version = labels[label]
        with self._lock, contextlib.ExitStack() as stack:
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

    def _refresh(self, config: ModelConfig, at_start: bool = False) -> None:
        if not config.base_path.is_dir():
            if at_start:
                raise _no_model(config)
            return  # as the server: a base path that cannot be listed unloads nothing
        present = version_folders(config.base_path)
        records = self._records[config.name]
        available = {version for version, record in records.items() if record.state == "AVAILABLE"}
        complete = {version for version, folder in present.items() if version in available or model_file(folder)}
        wanted = config.policy.select(sorted(complete))
        waiting = set(config.policy.select(sorted(present))) - complete
        for version in sorted(waiting):
            record = self._record(config.name, version, present[version])
            if record.state in ("START", "END"):
                self._set(record, "LOADING")
                self._on_event(f"version {version} of '{config.name}' has no saved_model.pb yet; waiting for it")
        for version in wanted:
            self._load(config.name, self._record(config.name, version, present[version]), at_start)
        available = {version for version, record in records.items() if record.state == "AVAILABLE"}
        if available & set(wanted) or not present:
            for version in sorted(available - set(wanted)):
                self._unload(records[version])
                self._on_event(f"version {version} of '{config.name}' retired")
        for version in set(records) - set(present):
            if records[version].state == "LOADING":
                self._set(records[version], "END")

    def _record(self, name: str, version: int, folder: Path) -> VersionRecord:
        with self._lock:
            return self._records[name].setdefault(version, VersionRecord(version, folder))

    def _set(self, record: VersionRecord, state: str, error: ApiError | None = None, model=None) -> None:
        with self._lock:
            record.state, record.model = state, model
            record.error_code = error.code if error else "OK"
            record.error_message = error.message if error else ""

    def _load(self, name: str, record: VersionRecord, at_start: bool) -> None:
        if record.state == "AVAILABLE":
            return
        path = model_file(record.folder)
        stat = path.stat() if path else None
        stamp = (stat.st_mtime_ns, stat.st_size) if stat else None
        if record.error_code != "OK" and stamp == record.stamp:
            return
        record.stamp = stamp
        self._set(record, "LOADING")
        try:
            model = LoadedModel(record.folder)
            try:
                replay_warmup(model)
            except ApiError:
                model.retire()
                raise
        except ApiError as error:
            self._set(record, "END", error)
            if not at_start:
                self._on_event(
                    f"version {record.version} of '{name}' does not load and is skipped: {error.status_text[:300]}"
                )
            return
        self._set(record, "AVAILABLE", model=model)
        if not at_start:
            self._on_event(f"version {record.version} of '{name}' loaded")

    def _unload(self, record: VersionRecord) -> None:
        model = record.model
        if model is not None:
            self._set(record, "UNLOADING")
            model.retire()
            self._set(record, "END")


def version_folders(base_path: Path) -> dict[int, Path]:
    """Version number -> folder: the folders whose names are all digits (leading zeros do not count)."""
    folders = (entry for entry in sorted(base_path.iterdir()) if entry.name.isascii() and entry.name.isdigit())
    return {int(folder.name): folder for folder in folders if folder.is_dir()}


def _no_model(config: ModelConfig) -> NoModelError:
    base = config.base_path
    if not base.exists():
        found = "the folder does not exist"
    elif not base.is_dir():
        found = "it is a file"
    else:
        names = sorted(entry.name for entry in base.iterdir())
        found = f"found {', '.join(names[:5]) + (', ...' if len(names) > 5 else '') if names else 'an empty folder'}"
    policy = "" if config.policy.kind != "specific" else f" among versions {list(config.policy.versions)}"
    return NoModelError(
        f"No version of model '{config.name}' to serve in '{base}': expected folders named by digits that hold a "
        f"saved_model.pb, as in '{base}/1718000000/saved_model.pb'{policy}; {found}. "
        "Train and push a model with `amen run`, or give the push folder of an earlier run."
    )
