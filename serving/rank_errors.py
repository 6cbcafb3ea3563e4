"""Errors of the ranking client. Each message says what was expected, what came, where, and what to do next."""

from collections.abc import Sequence


class RankError(Exception):
    """A ranking could not be made; the parent of all errors here."""


class InvalidRequestError(RankError):
    """The request itself is wrong; nothing was sent.

    Args:
        source: what is being read, e.g. "Request file 'r.json'".
        problems: one text per problem, each starting with its path, e.g. `candidates[2].item_id: ...`.
    """

    def __init__(self, source: str, problems: Sequence[str]):
        shown = list(problems[:8])
        if len(problems) > len(shown):
            shown.append(f"and {len(problems) - len(shown)} more")
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = "\n  ".join(shown)
        super().__init__(
            f"{source} cannot be ranked, {count}:\n  {lines}\n"
            "Correct it and try again; serving/README.md shows a whole request."
        )
        self.problems = tuple(problems)


class EmptyCandidatesError(RankError):
    """The request has no candidate; such a request is never sent, for it can end a server that batches."""

    def __init__(self, source: str):
        super().__init__(
            f"{source} has no candidates: expected at least one in 'candidates', got an empty list. Nothing was sent. "
            "Add items to rank or skip the call."
        )


class MovelineLengthError(RankError):
    """Moveline columns differ in length.

    Args:
        source: what is being read.
        lengths: column name -> length.
        where: "moveline" or "candidates".
    """

    def __init__(self, source: str, lengths: dict[str, int], where: str = "moveline"):
        listed = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        super().__init__(
            f"{source}: the columns of '{where}' must have one length, got {listed}. Give every column one value per "
            'event, "" or 0 where there is none.'
        )
        self.lengths = lengths


class UnknownColumnError(RankError):
    """The request holds a feature that the model has no input for.

    Args:
        where: path of the value, e.g. `candidates[0].prise`.
        name: the feature's name.
        valid: names that the model takes there.
        nearest: the valid name most like it, if any is.
    """

    def __init__(self, where: str, name: str, valid: Sequence[str], nearest: str | None):
        guess = f" Did you mean '{nearest}'?" if nearest else ""
        known = ", ".join(valid) if valid else "none"
        super().__init__(
            f"{where}: the model has no feature '{name}' there.{guess} It takes: {known}. Rename or remove it, or "
            "train a model whose settings declare it."
        )
        self.name = name
        self.nearest = nearest


class ServerUnreachableError(RankError):
    """No answer came from the address."""


class ServerTimeoutError(ServerUnreachableError):
    """The server took the request but did not answer in time."""


class ModelNotFoundError(RankError):
    """The server does not serve the model, version or label."""


class SignatureNotFoundError(RankError):
    """The model has no signature of the wanted name and form."""


class ServerError(RankError):
    """The server answered with an error.

    Attributes:
        status: HTTP status, over gRPC too.
        text: the server's own words.

    Args:
        status, text: see above.
        call: what was asked, of which address.
        hint: what to do.
        code: what the server answered with, where that was no HTTP status.
    """

    def __init__(self, status: int, text: str, call: str, hint: str, code: str | None = None):
        super().__init__(f"{call} was answered with {code or f'HTTP {status}'}: {text}\n{hint}")
        self.status = status
        self.text = text


class ReplyError(RankError):
    """What came back is not what TensorFlow Serving answers."""
