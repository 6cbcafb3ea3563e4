"""The one error of this room: an event log that cannot be used, with what, where and the next step."""

from amen_tf.config import DataSettings


class EventLogError(ValueError):
    """An event log that cannot be used. The message says what was expected, what came, where, and what to do."""


def short(error: Exception) -> str:
    """The first line of what a library has to say, for a sentence of ours."""
    return str(error).strip().split("\n")[0][:200] or type(error).__name__


def bad_rows_advice(bad_rows: int, rows: int, data: DataSettings) -> str:
    """What to do about so many rows that break a rule, whoever finds them."""
    lists = "`amen check` lists every broken rule."
    if data.bad_rows == "stop":
        return f"{lists} Mend the rows, or set data.bad_rows to quarantine to put them aside."
    return (
        f"They are {bad_rows / rows:.2%} of all rows, and data.max_bad_share lets {data.max_bad_share:.2%} be put "
        f"aside: so many tend to have one cause (data.columns, data.time_unit). {lists} Mend the rows, or raise "
        "data.max_bad_share."
    )
