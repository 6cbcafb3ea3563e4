"""A models.config on disk that is edited step by step: atomically, and never over somebody else's edit."""

import contextlib
import dataclasses
import difflib
import fcntl
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from serving.double.config import ModelConfig, read_models_config
from serving.rollout import config_text
from serving.rollout.errors import RolloutError


class ConfigFile:
    """The entry of one model in a models.config.

    Args:
        path: of the file; a link is followed, so that what it points at is replaced and the link stays.
        model: name of the entry.
        dry_run: `put` shows what it would write and writes nothing.

    Raises:
        ModelConfigError: the file cannot be read or names a model twice.
        RolloutError: it has no such model, or one whose versions are not listed one by one.

    Attributes:
        entry: the model's policy and labels as they are now; of a dry run, as they would be.
    """

    def __init__(self, path: str | Path, model: str, *, dry_run: bool = False):
        self.path, self.model, self.dry_run = Path(path).resolve(), model, dry_run
        models = {entry.name: entry for entry in read_models_config(self.path)}
        if model not in models:
            raise RolloutError(
                f"models.config '{self.path}' has no model '{model}'; it has {', '.join(models)}. Name one: --model."
            )
        self.entry: ModelConfig = models[model]
        self._others = {name: entry for name, entry in models.items() if name != model}
        self._text = self._on_disk = self.path.read_text(encoding="utf-8")
        if self.entry.policy.kind != "specific":
            raise RolloutError(
                f"models.config '{self.path}': model '{model}' has the version policy '{self.entry.policy.kind}', by "
                "which the server loads and drops versions on its own. Labels move only where versions are listed: "
                f"model_version_policy {{ specific {{ versions: ... }} }}."
            )

    @property
    def versions(self) -> tuple[int, ...]:
        """What the policy lists."""
        return self.entry.policy.versions

    @property
    def labels(self) -> Mapping[str, int]:
        """Label -> version."""
        return self.entry.labels

    @property
    def unlabelled(self) -> tuple[int, ...]:
        """Versions of the policy that no label names."""
        return tuple(version for version in self.versions if version not in self.labels.values())

    def put(self, *, add: int | None = None, labels: Mapping[str, int] | None = None, drop: Iterable[int] = ()) -> str:
        """Writes one step, whole or not at all.

        Args:
            add: a version that the policy shall list.
            labels: labels to move or to make.
            drop: versions that the policy shall no longer list.

        Returns:
            The change as a unified diff; empty where the file said so already, and then nothing is written.

        Raises:
            RolloutError: a version to drop has a label, the file was changed by somebody else, or its layout is one
                that cannot be edited.
        """
        drop = tuple(drop)
        wanted_labels = {**self.labels, **(labels or {})}
        named = [f"{label}: {version}" for label, version in wanted_labels.items() if version in drop]
        if named:
            raise RolloutError(f"A version with a label is never dropped ({', '.join(named)}). Move the label first.")
        text = self._text
        for label, version in wanted_labels.items():
            if self.labels.get(label) != version:
                text = config_text.set_label(text, self.model, label, version)
        versions = [version for version in self.versions if version not in drop]
        if add is not None and add not in versions:
            text = config_text.add_version(text, self.model, add)
            versions.append(add)
        text = config_text.drop_versions(text, self.model, drop)
        if text == self._text:
            return ""
        policy = dataclasses.replace(self.entry.policy, versions=tuple(versions))
        wanted = dataclasses.replace(self.entry, policy=policy, labels=wanted_labels)
        diff = difflib.unified_diff(
            self._text.splitlines(keepends=True),
            text.splitlines(keepends=True),
            f"{self.path.name} (now)",
            f"{self.path.name} (then)",
            n=1,
        )
        self._replace(text, wanted)
        self._text, self.entry = text, wanted
        return "".join(diff)

    def _replace(self, text: str, wanted: ModelConfig) -> None:
        with self._staged(text) as staged:
            read = {entry.name: entry for entry in read_models_config(staged)}
            if not _same(read.pop(self.model, None), wanted) or read != self._others:
                raise RolloutError(
                    f"models.config '{self.path}' is written in a way that cannot be edited here; nothing was changed. "
                    'Expected every version as `versions: N` and every label as `version_labels { key: "stable" '
                    "value: N }`."
                )
            if self.dry_run:
                return
            with self._locked():
                if self.path.read_text(encoding="utf-8") != self._on_disk:
                    raise RolloutError(
                        f"models.config '{self.path}' was changed by somebody else since it was read; this step was "
                        "not written. Look at it and give the same command again."
                    )
                os.replace(staged, self.path)
        self._on_disk = text

    @contextlib.contextmanager
    def _staged(self, text: str) -> Iterator[Path]:
        """A file beside the real one (or, of a dry run, anywhere) with the text on its disk; gone at the end."""
        folder = None if self.dry_run else self.path.parent
        descriptor, name = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=folder)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            # mkstemp's mode is the owner's alone; the server may be another user.
            os.chmod(name, self.path.stat().st_mode & 0o777)
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Two commands at a time compare and replace one after the other; the lock goes with the process."""
        descriptor = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _same(one: ModelConfig | None, other: ModelConfig) -> bool:
    """Equal but for the order of versions, which means nothing."""
    if one is None:
        return False
    ordered = [
        dataclasses.replace(
            entry, policy=dataclasses.replace(entry.policy, versions=tuple(sorted(entry.policy.versions)))
        )
        for entry in (one, other)
    ]
    return ordered[0] == ordered[1]
