"""The one error of this room: an event log that cannot be used, with what, where and the next step."""


class EventLogError(ValueError):
    """An event log that cannot be used. The message says what was expected, what came, where, and what to do."""
