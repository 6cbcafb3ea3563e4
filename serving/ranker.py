"""What a ranking client does on any transport: columns of a request, parts of many candidates, another try when busy.

In: a `UserRequest` (or the dict it is read from). Out: one probability per candidate, in candidate order. The client
asks the model once what its `rank` signature takes, so declared features need no setting here.
"""

import abc
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tenacity

from serving.columns import CANDIDATE, InputSpec, build_columns, check_rank_inputs
from serving.rank_errors import (
    EmptyCandidatesError,
    InvalidRequestError,
    ModelNotFoundError,
    ReplyError,
    ServerError,
    ServerTimeoutError,
    ServerUnreachableError,
    SignatureNotFoundError,
)
from serving.rank_request import UserRequest, parse_request

OUTPUT = "probability"
# Ranking changes nothing on the server, so that a request may be sent again: it was too busy, or slower than its limit.
_BUSY = (503, 504)
_FIRST_WAIT = 0.1
# What REST and gRPC say of a request whose inputs are not those of the version that answers now.
_OTHER_INPUTS = ("Missing named input", "input size does not match signature")


class Ranker(abc.ABC):
    """Ranks candidates with a model on TensorFlow Serving. Not for sharing between threads.

    Args:
        address: see the client.
        model_name: as the server knows it.
        version: version number; by default the server's highest.
        label: version label, e.g. "stable"; not together with `version`.
        timeout: seconds to wait for each answer; over REST for a connection, and without a byte of the answer.
        signature_name: signature to call.
        retries: how often a request is sent again that the server was too busy for (503, 504) or that found no server;
            each time after a random wait of up to 0.1 s, 0.2 s, 0.4 s, ..., so that not all clients come back at once.
        most_candidates: candidates of one call; more are sent in several, all to one version.
        newest_events: events of the moveline that are sent, the newest; None sends all. The model reads its newest L
            (`model.moveline_length`), so that not fewer than these should be sent.

    Raises:
        InvalidRequestError: the address is none, or both version and label are given.
    """

    def __init__(
        self,
        address: str,
        model_name: str = "amen",
        version: int | None = None,
        label: str | None = None,
        timeout: float = 10.0,
        *,
        signature_name: str = "rank",
        retries: int = 2,
        most_candidates: int = 1000,
        newest_events: int | None = None,
    ):
        if version is not None and label is not None:
            raise InvalidRequestError("The client", [f"expected a version or a label, got {version} and '{label}'"])
        self.model_name = model_name
        self.version, self.label = version, label
        self.signature_name = signature_name
        self.timeout = timeout
        self.most_candidates = most_candidates
        self.newest_events = newest_events
        self._retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_is_busy),
            stop=tenacity.stop_after_attempt(1 + retries),
            wait=tenacity.wait_random_exponential(multiplier=_FIRST_WAIT),
            reraise=True,
        )
        self._specs: dict[str, InputSpec] | None = None
        self.address = self._open(address)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @abc.abstractmethod
    def _open(self, address: str) -> str:
        """Makes ready to ask the server; the address in full, or InvalidRequestError."""

    @abc.abstractmethod
    def close(self) -> None:
        """Closes the connections."""

    @property
    def inputs(self) -> dict[str, InputSpec]:
        """Inputs of the signature, read from the server at the first use.

        Raises:
            RankError: server, model or signature cannot be had.
        """
        if self._specs is None:
            specs = self._again(self._read_inputs)
            check_rank_inputs(specs, f"Signature '{self.signature_name}' of model '{self.model_name}'")
            self._specs = specs
        return self._specs

    def rank(self, request: UserRequest | Mapping) -> np.ndarray:
        """Scores the candidates of a request.

        Args:
            request: a `UserRequest`, or a dict of that form.

        Returns:
            [N] float32, one probability per candidate, in the order of `request.candidates`.

        Raises:
            EmptyCandidatesError: no candidates; nothing is sent.
            InvalidRequestError, MovelineLengthError, UnknownColumnError: the request does not fit; nothing is sent.
            ServerUnreachableError, ModelNotFoundError, SignatureNotFoundError, ServerError, ReplyError: as named.
        """
        if not isinstance(request, UserRequest):
            request = parse_request(request)
        if not request.candidates:
            raise EmptyCandidatesError("The request")
        try:
            return self._rank(request)
        except ServerError as error:
            # A new version may take other features than the one whose metadata was read.
            if error.status != 400 or not any(text in error.text for text in _OTHER_INPUTS):
                raise
        self._specs = None
        return self._rank(request)

    def _rank(self, request: UserRequest) -> np.ndarray:
        columns = build_columns(request, self.inputs, newest_events=self.newest_events)
        count, size = len(request.candidates), self.most_candidates
        if count <= size:
            return self._again(self._scores, columns, count, self.version)
        try:
            return self._in_parts(columns, count)
        except ModelNotFoundError:
            if self.version is not None:
                raise
        # The version that answered the first parts has made room for a newer one, which is asked for all of them.
        return self._in_parts(columns, count)

    def _in_parts(self, columns: Mapping[str, list], count: int) -> np.ndarray:
        # A version that comes in between would give some of the candidates its own scores.
        version, size = self._again(self._served_version), self.most_candidates
        scores = []
        for start in range(0, count, size):
            part = {
                name: [values[0][start : start + size]] if name.startswith(CANDIDATE) else values
                for name, values in columns.items()
            }
            scores.append(self._again(self._scores, part, min(size, count - start), version))
        return np.concatenate(scores)

    def _again(self, ask: Callable, *arguments) -> Any:
        """What `ask` returns, asked again while the server is busy or absent."""
        return self._retrying(ask, *arguments)

    @abc.abstractmethod
    def _read_inputs(self) -> dict[str, InputSpec]:
        """The inputs of the signature, by name."""

    @abc.abstractmethod
    def _served_version(self) -> int:
        """The version that answers now."""

    @abc.abstractmethod
    def _scores(self, columns: Mapping[str, list], count: int, version: int | None) -> np.ndarray:
        """Probabilities `[count]` float32 of one call; without a version, of the label or the highest version."""

    def _no_signature(self, names: list[str]) -> SignatureNotFoundError:
        found = ", ".join(sorted(name for name in names if not name.startswith("__"))) or "none"
        return SignatureNotFoundError(
            f"Model '{self.model_name}' on {self.address} has no signature '{self.signature_name}'; it has: "
            f"{found}. Serve a model pushed by `amen run`, or name one of these signatures."
        )

    def _not_served(self, code: str, message: str, known: str) -> ModelNotFoundError:
        wanted = f"model '{self.model_name}'"
        wanted += f", version {self.version}" if self.version is not None else ""
        wanted += f", label {self.label}" if self.label is not None else ""
        return ModelNotFoundError(
            f"{self.address} does not serve {wanted} ({code}: {message}). {known} Check the model name, version and "
            "label, and that the push folder it serves holds a version."
        )

    def _too_slow(self, call: str) -> ServerTimeoutError:
        return ServerTimeoutError(
            f"{call} had no answer within {self.timeout:g} s. Allow more time, send fewer candidates, or look at the "
            "server's load."
        )

    def _checked(self, call: str, scores: np.ndarray | None, count: int, answer: str) -> np.ndarray:
        """`[1, count]` -> `[count]`; raises ReplyError where they are no such scores."""
        if scores is None or scores.shape != (1, count):
            found = "no such tensor" if scores is None else f"shape {list(scores.shape)}"
            raise ReplyError(
                f"{call}: expected output '{OUTPUT}' of shape [1, {count}], got {found}: {answer}\n"
                f"Check that signature '{self.signature_name}' is the ranking signature."
            )
        return scores[0]


def _is_busy(error: BaseException) -> bool:
    # Whoever has waited `timeout` for an answer is not made to wait as long again.
    absent = isinstance(error, ServerUnreachableError) and not isinstance(error, ServerTimeoutError)
    return absent or (isinstance(error, ServerError) and error.status in _BUSY)
