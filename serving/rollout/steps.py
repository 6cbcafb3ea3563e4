"""Promotion and rollback: the order of steps in which no request by a label ever meets a version that is not loaded.

(1) the policy lists the version; (2) every server has it AVAILABLE; (3) the label moves; (4) every server answers by
it, and only then versions without a label leave the policy. A server refuses a whole models.config in which a label
moves to a version that is not loaded, with the version that it would have to load: steps 1 and 3 cannot be one.

`previous` is the version that `stable` had before. It is a label like any other, so that its version stays loaded, a
rollback is one move of a label, and every tool that reads models.config can see it.
"""

from collections.abc import Callable
from pathlib import Path

from serving.rollout.config_file import ConfigFile
from serving.rollout.errors import RolloutError
from serving.rollout.folders import faults, refuse_unless_whole
from serving.rollout.servers import AVAILABLE, Servers

STABLE, CANARY, PREVIOUS = "stable", "canary", "previous"


class Rollout:
    """Steps on one model of one models.config.

    Args:
        file: the models.config.
        folder: of the version folders, as this machine sees it.
        servers: all that read the file; None asks nobody, which only the first use of a label and a dry run can do.
        say: is told every step in a line, and its diff.
        apply: brings the written file to the servers (a ConfigMap is applied, say); by default they read it themselves.
    """

    def __init__(
        self,
        file: ConfigFile,
        folder: Path,
        servers: Servers | None,
        say: Callable[[str], None],
        apply: Callable[[], None] = lambda: None,
    ):
        self.file, self.folder, self.say, self.apply = file, folder, say, apply
        self.servers = None if file.dry_run else servers

    def promote(self, version: int, label: str) -> None:
        """Moves `label` to `version`, which is loaded first. Given again, goes on where it was interrupted.

        Raises:
            RolloutError: the version is not whole or does not load, a label in use would move unseen, or the file was
                changed meanwhile. No label has moved then; a version that did not load is out of the policy again.
            ModelConfigError: the file cannot be read.
        """
        refuse_unless_whole(self.folder, version)
        if self.servers is None and not self.file.dry_run:
            self._label_unseen(version, label)
            return
        self._load(version)
        self._move({label: version, **self._previous(version, label)}, label)
        self._retire()

    def rollback(self) -> None:
        """Moves `stable` to where `previous` is. Given twice it does it once: `previous` stays.

        Raises:
            RolloutError: there is no `previous`, its folder is gone or its version is not AVAILABLE on every server, or
                the file was changed meanwhile.
            ModelConfigError: the file cannot be read.
        """
        version, now = self.file.labels.get(PREVIOUS), self.file.labels.get(STABLE)
        if self.servers is None and not self.file.dry_run:
            raise RolloutError("A rollback moves a label in use: expected the servers to ask, got none. Give --server.")
        if version is None:
            raise RolloutError(
                f"models.config '{self.file.path}' has no label '{PREVIOUS}' for '{self.file.model}': `amen promote` "
                f"has not moved '{STABLE}' yet. Give the version to go back to: amen promote VERSION --label {STABLE}."
            )
        refuse_unless_whole(self.folder, version)
        advice = f"Load it first: amen promote {version} --label {STABLE}."
        if version not in self.file.versions:
            raise RolloutError(f"Version {version} is not in the policy, so no server has it loaded. {advice}")
        if self.servers is not None:
            self.servers.refuse_unless_available(version, advice)
        if version == now:
            self.say(f"'{STABLE}' is back at version {version} already; before it there is none that is known.")
        self._move({STABLE: version}, STABLE)
        self._retire()

    def _label_unseen(self, version: int, label: str) -> None:
        """Only for a label that answers nobody yet: it is new, or the version that it names has no folder."""
        now = self.file.labels.get(label)
        if now not in (None, version) and not faults(self.folder, now):
            raise RolloutError(
                f"'{label}' names version {now}, which is whole and may be answering: to move it without asking a "
                "server puts every request by it at risk. Nothing was changed. Give --server instead of --no-wait."
            )
        self._write(f"version {version} into the policy, '{label}' to it", add=version, labels={label: version})
        self.say("No server was asked. Look at /v1/models/NAME/labels/LABEL/metadata before traffic uses the label.")

    def _load(self, version: int) -> None:
        listed, before = version in self.file.versions, []
        if self.servers is not None and not listed:
            # An earlier edit dropped it, and a server may not have read that yet: it would be AVAILABLE, and then go.
            told = f"  waiting until version {version}, which is not in the policy, is unloaded ..."
            self.servers.wait_until_unloaded(version, lambda: self.say(told))
            before = self.servers.states(version)
        self._write(f"version {version} into the policy", add=version)
        if self.servers is None:
            return
        self.say(f"  waiting until version {version} is AVAILABLE ...")
        try:
            # One that was listed before and has failed is not tried again by its server.
            self.servers.wait_until_available(version, before)
        except KeyboardInterrupt:
            self.say(
                f"Interrupted: version {version} stays in the policy. If it does not load, a server that starts now "
                "ends: give the same command again, or take it out."
            )
            raise
        except RolloutError as error:
            if version not in self.file.unlabelled:
                raise
            # A server that starts while the policy lists a version that does not load ends.
            self._write(f"version {version} out of the policy again", drop=[version])
            raise RolloutError(f"{error} No label was moved.") from error

    def _previous(self, version: int, label: str) -> dict[str, int]:
        """The label `previous`, where `stable` leaves a version that can be gone back to."""
        now = self.file.labels.get(STABLE)
        if label != STABLE or now in (None, version):
            return {}
        gone = faults(self.folder, now)
        states = [] if self.servers is None else self.servers.states(now)
        if not gone and now in self.file.versions and all(state.state == AVAILABLE for state in states):
            return {PREVIOUS: now}
        found = "; ".join(gone or map(str, states)) or "the policy does not list it"
        self.say(f"  '{PREVIOUS}' is not set to version {now}, which cannot be gone back to: {found}")
        return {}

    def _move(self, labels: dict[str, int], watched: str) -> None:
        if self.servers is not None:
            for version in sorted(set(labels.values())):
                self.servers.refuse_unless_available(version, "Give the same command again when it is.")
        told = ", ".join(f"'{label}' to version {version}" for label, version in labels.items())
        self._write(told, labels=labels)
        if self.servers is not None:
            self.servers.wait_until_labelled(watched, labels[watched])
            self.say(f"  every server answers by '{watched}' with version {labels[watched]}")

    def _retire(self) -> None:
        """In an edit of its own: whoever still finds the old version by its label is answered."""
        if self.file.unlabelled:
            told = ", ".join(map(str, self.file.unlabelled))
            self._write(f"out of the policy, as no label names it: version {told}", drop=self.file.unlabelled)

    def _write(self, told: str, **change) -> None:
        diff = self.file.put(**change)
        self.say(f"{told}{'' if diff else ' (already so)'}")
        if diff:
            self.say(diff.rstrip("\n"))
        if not self.file.dry_run:
            # Also where nothing changed: an earlier call may have ended between writing and applying.
            self.apply()
