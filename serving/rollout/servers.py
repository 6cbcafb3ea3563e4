"""What the running servers of a model say: which versions are loaded, which version a label names."""

import dataclasses
import time
from collections.abc import Callable, Sequence

import requests

from serving.rollout.errors import NoAnswerError, RolloutError

_POLL_SECONDS = 0.5
_ANSWER_SECONDS = 10.0
AVAILABLE, END = "AVAILABLE", "END"


@dataclasses.dataclass(frozen=True)
class State:
    """A version on one server; `state` is "" where the server does not know it."""

    address: str
    state: str = ""
    error: str = ""

    def __str__(self) -> str:
        told = self.state or "not known"
        return f"{self.address}: {told}{f' ({self.error})' if self.error else ''}"


class Servers:
    """Every server that reads the models.config: a label moves only where all of them are ready.

    Args:
        addresses: `http://host:port` of each; "http://" may be left out.
        model: its name in URLs.
        timeout: how long to wait for a version to load or a label to move, in seconds.
    """

    def __init__(self, addresses: Sequence[str], model: str, timeout: float):
        self.addresses = [(a if "://" in a else f"http://{a}").rstrip("/") for a in addresses]
        self.model, self.timeout = model, timeout
        self._session = requests.Session()
        # A server inside the cluster is not asked through the way out of it.
        self._session.trust_env = False

    def states(self, version: int) -> list[State]:
        """The version's state on every server.

        Raises:
            RolloutError: one does not answer as TensorFlow Serving does.
        """
        return [self._state(address, version) for address in self.addresses]

    def refuse_unless_available(self, version: int, advice: str) -> None:
        """Refuses a version that a label must not move to.

        Raises:
            RolloutError: the version is not AVAILABLE on every server, or one does not answer.
        """
        missing = [str(state) for state in self.states(version) if state.state != AVAILABLE]
        if missing:
            raise RolloutError(
                f"Version {version} of '{self.model}' is not AVAILABLE: {'; '.join(missing)}. No label was moved. "
                f"{advice}"
            )

    def wait_until_unloaded(self, version: int, waiting: Callable[[], None]) -> None:
        """Waits until no server has the version loaded.

        Args:
            version: its number, of one that the policy does not list.
            waiting: called once if there is something to wait for.

        Raises:
            RolloutError: the time is up.
        """
        told = []

        def unloaded() -> str | None:
            left = [str(state) for state in self.states(version) if state.state not in ("", END)]
            if left and not told:
                told.append(waiting())
            return "; ".join(left) or None

        self._wait(unloaded, f"Version {version} of '{self.model}' is loaded, though the policy does not list it,")

    def wait_until_available(self, version: int, before: Sequence[State]) -> None:
        """Waits until every server has loaded the version.

        Args:
            version: its number.
            before: its states when the policy did not list it yet; a failure from then says nothing of now. A
                failure that is not among them is final: no server tries again what stays listed.

        Raises:
            RolloutError: it failed to load, or the time is up.
        """
        stale = set(before)

        def loaded() -> str | None:
            states = self.states(version)
            stale.intersection_update(states)
            for state in states:
                if state.state == END and state.error and state not in stale:
                    raise RolloutError(f"Version {version} of '{self.model}' does not load on {state}.")
            missing = [str(state) for state in states if state.state != AVAILABLE]
            return "; ".join(missing) or None

        self._wait(loaded, f"Version {version} of '{self.model}' is not AVAILABLE")

    def wait_until_labelled(self, label: str, version: int) -> None:
        """Waits until the label names the version on every server.

        Raises:
            RolloutError: the time is up.
        """

        def moved() -> str | None:
            found = {address: self._labelled(address, label) for address in self.addresses}
            missing = [f"{address}: {at or 'no answer by it'}" for address, at in found.items() if at != version]
            return "; ".join(missing) or None

        self._wait(moved, f"Label '{label}' of '{self.model}' does not name version {version}")

    def _wait(self, missing: Callable[[], str | None], problem: str) -> None:
        end = time.monotonic() + self.timeout
        while True:
            try:
                found = missing()
            except NoAnswerError as error:
                # A forwarded port or a busy server drops a connection now and then: that undoes no promotion.
                if time.monotonic() > end:
                    raise
                found = str(error)
            if found is None:
                return
            if time.monotonic() > end:
                raise RolloutError(
                    f"{problem} after {self.timeout:g} s ({found}). Does the server read this models.config "
                    "(--model_config_file_poll_wait_seconds; its log says), and is it the file that was applied? A "
                    "server that refuses an edit which others took reads it when it starts again: delete its pod."
                )
            time.sleep(_POLL_SECONDS)

    def _state(self, address: str, version: int) -> State:
        status, body = self._get(address, f"/versions/{version}")
        if status == 404 and isinstance(body, dict):
            return State(address)
        try:
            [found] = body["model_version_status"]
            health = found["status"]
            error = "" if health["error_code"] == "OK" else f"{health['error_code']}: {health['error_message'][:300]}"
            return State(address, found["state"], error)
        except (KeyError, TypeError, ValueError) as problem:
            raise self._strange(address, status, body) from problem

    def _labelled(self, address: str, label: str) -> int | None:
        """The version that answers by the label: of a label, only metadata and inference look it up."""
        status, body = self._get(address, f"/labels/{label}/metadata")
        if status in (400, 404):
            return None
        try:
            return int(body["model_spec"]["version"])
        except (KeyError, TypeError, ValueError) as problem:
            raise self._strange(address, status, body) from problem

    def _get(self, address: str, rest: str) -> tuple[int, object]:
        url = f"{address}/v1/models/{self.model}{rest}"
        try:
            reply = self._session.get(url, timeout=_ANSWER_SECONDS)
        except requests.RequestException as error:
            raise NoAnswerError(
                f"No answer from {url}: {type(error).__name__}. Expected TensorFlow Serving's REST address, as in "
                "http://127.0.0.1:8501; start it, correct --server, or leave out a pod that is not ready, as it "
                "answers nobody. Then give the same command again."
            ) from error
        try:
            return reply.status_code, reply.json()
        except requests.JSONDecodeError:
            return reply.status_code, reply.text

    def _strange(self, address: str, status: int, body: object) -> RolloutError:
        return RolloutError(
            f"{address} answers with {status} {str(body)[:200]}; expected what TensorFlow Serving says of model "
            f"'{self.model}'. Correct --server."
        )
