"""What is kept of some spans of the log so that later spans can be taken without reading them again.

In: canonical events with their spans. Out: those that movelines and diff samples of later requests can be made of, at
most L + 4 rows a user where spans follow one another in time.
"""

import numpy as np
import pyarrow as pa

from pipeline.example_gen.requests import Parts, Requests
from pipeline.example_gen.rules import MovelineRules
from pipeline.example_gen.sorted_log import SortedLog


def kept_history(events: pa.Table, rules: MovelineRules, clicks_are_logged: bool) -> pa.Table:
    """The rows of some spans that examples of later spans can depend on: a bounded number for each user.

    Of every user the last L events, the last clicked and the last unclicked impression, and the first row of the
    requests of these two, whose time says how long their movelines are. A row counts as one of the last if fewer than L
    (or one) come after it in its own and in later spans, so that the earliest spans may be dropped afterwards: what is
    left is what would have been kept of the others by themselves, even where spans overlap in time. Where they do, a
    request that is earlier than what its history ends with may have a shorter moveline than it would have had.

    Args:
      events: as in `make_plan`, of spans that are all history for what comes.
      rules: L, and what the behaviours mean.
      clicks_are_logged: see `build_examples`.

    Returns:
      Some of the rows, without duplicates.
    """
    log = SortedLog.of(events, rules, clicks_are_logged)
    span, user = log.span, log.clock.user
    keep = np.zeros(len(log.rows), bool)
    for mask, count in (
        (log.in_moveline, rules.contract.moveline_length),
        (log.clicked, 1),
        (log.impression & ~log.clicked, 1),
    ):
        at = np.flatnonzero(mask)
        keep[at[_among_last(user[at], span[at], count)]] = True
    parts = Parts.by_span(log, int(span.max(initial=0)) + 1)
    requests = Requests.of(log.columns, log.clock, np.flatnonzero(log.impression), parts, rules)
    kept = keep[requests.candidates]
    keep[np.repeat(requests.head, requests.count)[kept]] = True
    return events.take(pa.array(log.rows[keep]))


def _among_last(user: np.ndarray, span: np.ndarray, count: int) -> np.ndarray:
    """Which rows are followed by fewer than `count` rows of their user in their own and in later spans: bool `[n]`.

    Args:
      user: `[n]` ascending.
      span: `[n]`; in the order of time, which need not be that of the spans.
      count: at least 1.
    """

    def last(rows: np.ndarray) -> np.ndarray:
        """Which of these rows are among the last of their user's, spans aside."""
        ends = np.searchsorted(user[rows], user[rows], side="right")
        return ends - np.arange(len(rows)) <= count

    found = last(np.arange(len(user)))
    back = (user[1:] == user[:-1]) & (span[1:] < span[:-1])
    mixed = np.flatnonzero(np.isin(user, user[1:][back]))
    for first in np.unique(span[mixed]):
        rows = mixed[span[mixed] >= first]
        found[rows[span[rows] == first]] = last(rows)[span[rows] == first]
    return found
