"""The one error of this room: an event log that cannot be used, with what, where and the next step."""


class EventLogError(ValueError):
    """An event log that cannot be used. The message says what was expected, what came, where, and what to do."""


# What to do about rows that break a rule, whoever finds them.
BAD_ROWS_ADVICE = (
    "`amen check` lists every broken rule. Mend the rows, or set data.bad_rows to quarantine to put them aside."
)
