"""The one error of this package."""


class RolloutError(Exception):
    """A step is refused or did not come about; the message says how things stand and what to do."""


class NoAnswerError(RolloutError):
    """A server did not answer, which it may do a moment later."""
