"""Impressions -> requests, divided by time or by span, and what lies nearest before each of them.

In: a `SortedLog`. Out: offsets of the candidates of every request, and the moments that bound what it may see.
"""

import dataclasses

import numpy as np

from amen_tf import features
from pipeline.example_gen.coded import CodedColumn
from pipeline.example_gen.rules import MovelineRules
from pipeline.example_gen.sorted_log import Clock, SortedLog


@dataclasses.dataclass(frozen=True)
class Parts:
    """How rows are divided, by time or by span.

    Attributes:
      split: int64 `[rows]`, index of the split; -1 in none.
      cut: int64 `[rows]`: rows of one request that differ in it are requests of their own.
      known: bool `[rows]`, what movelines and diff samples may be of.
      ahead: bool `[rows]`, what future items may be of.
      counted: bool `[rows]`, what the counts are of.
      end_code: int64, by split: time code at which its window ends; the last entry is for -1, which has no use for it.
    """

    split: np.ndarray
    cut: np.ndarray
    known: np.ndarray
    ahead: np.ndarray
    counted: np.ndarray
    end_code: np.ndarray

    @classmethod
    def by_time(cls, clock: Clock, rules: MovelineRules) -> "Parts":
        # -1 before the start.
        first = 0 if rules.start is None else -1
        split_of_time = first + np.searchsorted(np.array(rules.borders, np.int64), clock.times, side="right")
        split = split_of_time[clock.time_code]
        every = np.ones(len(split), bool)
        end_code = np.append(clock.code_before(np.array(rules.split_ends[:-1], np.int64)), [len(clock.times)] * 2)
        return cls(split, split, every, every, every, end_code)

    @classmethod
    def by_span(cls, log: SortedLog, now: int) -> "Parts":
        span = log.span
        of_span = span == now
        end_code = np.array([len(log.clock.times)] * 2)
        return cls(np.where(of_span, 0, -1), span, span <= now, span >= now, of_span, end_code)


@dataclasses.dataclass(frozen=True)
class Requests:
    """Requests in a stable order. Rows are positions in the sorted events; moments are those of `Clock`.

    Attributes:
      candidates: int64 `[impressions]`, rows of all candidates, request after request.
      start, count: int64 `[requests]`, each request's part of `candidates`.
      head: int64 `[requests]`, row of the first impression: it gives time, scene and request features.
      split: int64 `[requests]`.
      now, user_begin, split_end: int64 `[requests]`, moments of t, of the user's first possible event, of the end of
        the window that the request's split learns in.
    """

    candidates: np.ndarray
    start: np.ndarray
    count: np.ndarray
    head: np.ndarray
    split: np.ndarray
    now: np.ndarray
    user_begin: np.ndarray
    split_end: np.ndarray
    counts: dict[str, int]

    @classmethod
    def of(
        cls,
        columns: dict[str, CodedColumn],
        clock: Clock,
        impressions: np.ndarray,
        parts: Parts,
        rules: MovelineRules,
    ) -> "Requests":
        user = clock.user[impressions]
        named = columns[features.REQUEST_ID].rows(impressions)
        scene = columns[features.SCENE].rows(impressions)
        time_code = clock.time_code[impressions].astype(np.int64)
        # Codes past those of the ids stand for "this scene at this time".
        unnamed = len(named.values) + time_code * len(scene.values) + scene.codes
        name = np.where(named.present(), named.codes.astype(np.int64), unnamed)
        split, cut = parts.split[impressions], parts.cut[impressions]

        # lexsort is stable: inside a request the rows stay in their total order, earliest first.
        order = np.lexsort((cut, name, user))
        candidates, user, name = impressions[order], user[order], name[order]
        split, cut = split[order], cut[order]
        same_name = (user[1:] == user[:-1]) & (name[1:] == name[:-1])
        group_first = np.ones(len(order), bool)
        group_first[1:] = ~(same_name & (cut[1:] == cut[:-1]))
        group_start = np.flatnonzero(group_first)
        group_size = np.diff(np.append(group_start, len(order)))

        group_split = split[group_start]
        group = np.cumsum(group_first) - 1
        place = np.arange(len(order)) - group_start[group]
        start = np.flatnonzero(place % rules.data.max_candidates == 0)
        head = candidates[group_start[group[start]]]
        split = split[start]
        return cls(
            candidates=candidates,
            start=start,
            count=np.diff(np.append(start, len(order))),
            head=head,
            split=split,
            now=clock.of_row[head],
            user_begin=clock.moment(clock.user[head], 0),
            split_end=clock.moment(clock.user[head], parts.end_code[split]),
            counts={
                "requests": int((in_split := group_split >= 0).sum()),
                "requests_above_limit": int((in_split & (group_size > rules.data.max_candidates)).sum()),
                "requests_cut_at_border": int((same_name[group_start[1:] - 1] & in_split[1:]).sum()),
            },
        )


def nearest_before(clock: Clock, rows: np.ndarray, requests: Requests, window: int) -> np.ndarray:
    """Row of the user's last of these rows with t - window <= time < t, -1 where there is none: int64 `[requests]`."""
    if not len(rows):
        return np.full(len(requests.now), -1)
    count = clock.before(rows, requests.now)
    earliest = clock.code_before(clock.times[clock.time_code[requests.head]] - window)
    found = count > clock.before(rows, clock.moment(clock.user[requests.head], earliest))
    return np.where(found, rows[count - 1], -1)
