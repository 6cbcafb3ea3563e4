"""The events of some users in their total order, with what their behaviours mean and a clock to search them by.

In: a table of canonical events. Out: coded columns of its distinct rows, and masks `[rows]`.
"""

import dataclasses

import numpy as np
import pyarrow as pa

from amen_tf import features
from pipeline.example_gen.coded import CodedColumn, total_order
from pipeline.example_gen.rules import MovelineRules

_ORDER_FIRST = (features.USER_ID, features.TIMESTAMP, features.BEHAVIOR, features.ITEM_ID, features.CATEGORY_ID)


class Clock:
    """Moments of users on one ascending axis, so that one binary search answers "before t, same user".

    A moment is user * distinct times + number of distinct times before it: dense, so it cannot overflow. The moment
    after a user's last is the next user's first, which "strictly before" takes for either.
    """

    def __init__(self, user: CodedColumn, time: CodedColumn):
        self.user = user.codes.astype(np.int64)
        self.time_code = time.codes
        self.times = time.values.to_numpy()
        self.of_row = self.moment(self.user, self.time_code)

    def moment(self, user: np.ndarray, time_code: np.ndarray | int) -> np.ndarray:
        return user * len(self.times) + time_code

    def before(self, rows: np.ndarray, moment: np.ndarray) -> np.ndarray:
        """How many of these rows (ascending) lie strictly before each moment, earlier users included."""
        return np.searchsorted(self.of_row[rows], moment, side="left")

    def code_before(self, time: np.ndarray | int) -> np.ndarray:
        """Time code of the first distinct time >= `time`."""
        return np.searchsorted(self.times, time, side="left")


@dataclasses.dataclass(frozen=True)
class SortedLog:
    """Distinct rows in their total order.

    Attributes:
      rows: int64 `[rows]`, where each of them stood.
      columns: canonical name -> coded column.
      clock: moments.
      impression, clicked: bool `[rows]`, and which of the former were clicked.
      in_moveline: bool `[rows]`, all that may be in a moveline: no impressions, or clicked ones that enter as clicks.
      moveline_behavior: the behaviour that it has there.
    """

    rows: np.ndarray
    columns: dict[str, CodedColumn]
    clock: Clock
    impression: np.ndarray
    clicked: np.ndarray
    in_moveline: np.ndarray
    moveline_behavior: CodedColumn

    @classmethod
    def of(cls, events: pa.Table, rules: MovelineRules, clicks_are_logged: bool) -> "SortedLog":
        columns = {name: CodedColumn.of(events.column(name)) for name in events.column_names}
        middle = [name for name in columns if name not in (*_ORDER_FIRST, features.LABEL)]
        rows = total_order(columns[name] for name in (*_ORDER_FIRST, *middle, features.LABEL))
        columns = {name: column.rows(rows) for name, column in columns.items()}
        impression = columns[features.BEHAVIOR].is_in([rules.data.impression_behavior])
        labels = columns[features.LABEL]
        clicked = np.equal(labels.values.to_numpy(), 1)[labels.codes] & impression
        enters = clicked & rules.impressions_enter(clicks_are_logged)
        return cls(
            rows=rows,
            columns=columns,
            clock=Clock(columns[features.USER_ID], columns[features.TIMESTAMP]),
            impression=impression,
            clicked=clicked,
            in_moveline=~impression | enters,
            moveline_behavior=columns[features.BEHAVIOR].replaced(enters, rules.data.click_behavior),
        )

    @property
    def span(self) -> np.ndarray:
        """int64 `[rows]`."""
        return self.columns[features.SPAN].values.to_numpy()[self.columns[features.SPAN].codes]
