"""The rules of the event log, cut with NumPy offsets: events of some users in, their examples out.

In: a table of canonical events (`pipeline.event_log.schema`) that holds all rows of every user in it. Out: Arrow
record batches with the columns of `FeatureContract.raw_columns`, one row a request. No Beam, no loop over events.

Readings taken where the rules leave room:
- Rows equal in every column are one event: the first is kept, the others are counted as duplicates.
- Events of one second are ordered by behaviour, item, category, scene, request, features, label, never by their place
  in the file. The label comes last, so that the order of candidates does not carry it.
- A request that straddles a border of the splits is cut there: its later impressions are a request of the later split.
  Otherwise an impression after the border would put its label into the split before it.
- The pieces of a request above the candidate limit share its time, moveline, scene and request features.
- A positive impression that enters as a click is a future item if `click_behavior` is a positive behaviour.
- Diff samples may lie before a border: they are history, and their labels were known at t.
- The start of the first split is a border too. Before it there are requests, which say how long the movelines of diff
  samples are, but no examples.
"""

import dataclasses

import numpy as np
import pyarrow as pa

from amen_tf import features
from pipeline.example_gen.assemble import Positions, to_record_batch
from pipeline.example_gen.coded import CodedColumn, ragged, total_order
from pipeline.example_gen.rules import MovelineRules

_ORDER_FIRST = (features.USER_ID, features.TIMESTAMP, features.BEHAVIOR, features.ITEM_ID, features.CATEGORY_ID)


def build_examples(events: pa.Table, rules: MovelineRules, clicks_are_logged: bool) -> dict[str, pa.RecordBatch]:
    """All examples of some users.

    Args:
      events: canonical events, all rows of each user, in any order.
      rules: see `MovelineRules`.
      clicks_are_logged: whether the whole log (not only these users) has rows with the click behaviour.

    Returns:
      Split name -> record batch `[requests of the split]`, in the mixed order of `Plan.requests_of`.
    """
    plan = make_plan(events, rules, clicks_are_logged)
    return {split: plan.batch(plan.requests_of(split)) for split in rules.split_names}


@dataclasses.dataclass(frozen=True)
class Plan:
    """Where every example's values lie; `batch` turns any of them into Arrow, so that memory stays bounded.

    Attributes:
      rules: the rules it was made by.
      positions: the sorted events and each request's offsets into them.
      split: int64 `[requests]`, index into `rules.split_names`; -1 before the start.
      counts: rows and requests by fate, see `make_plan`.
      other_events: int64 `[splits]`, events that are not impressions and not before the start, by their own time.
    """

    rules: MovelineRules
    positions: Positions
    split: np.ndarray
    counts: dict[str, int]
    other_events: np.ndarray

    def requests_of(self, split: str) -> np.ndarray:
        """Numbers of a split's requests, int64, mixed over users and time.

        Trainers read files in order with a small shuffle buffer, so the mixing happens here, once and seeded.
        """
        index = self.rules.split_names.index(split)
        return np.random.default_rng([self.rules.seed, index]).permutation(np.flatnonzero(self.split == index))

    def batch(self, requests: np.ndarray) -> pa.RecordBatch:
        """The examples of these requests, in this order."""
        return to_record_batch(self.positions, requests, self.rules.contract)

    def split_counts(self, split: str) -> dict[str, int]:
        """Examples, candidates, clicked candidates, examples with an empty moveline, and other events of one split."""
        index = self.rules.split_names.index(split)
        of_split = self.split == index
        p = self.positions
        shown, _ = ragged(p.candidate_start[of_split], p.candidate_count[of_split])
        return {
            "examples": int(of_split.sum()),
            "candidates": len(shown),
            "clicked": int(p.clicked[p.candidates[shown]].sum()),
            "without_history": int((of_split & (p.moveline_length == 0)).sum()),
            "other_events": int(self.other_events[index]),
        }


def make_plan(events: pa.Table, rules: MovelineRules, clicks_are_logged: bool) -> Plan:
    """Sorts the events and finds, for each request, what its example consists of. Arguments as `build_examples`.

    Counts: `rows` = `duplicates` + `impressions` + `other_events`, of which `history_impressions` and `history_events`
    lie before the start; `requests` (before the cut at the candidate limit), `requests_above_limit`,
    `requests_cut_at_border`, from the start on.
    """
    columns = {name: CodedColumn.of(events.column(name)) for name in events.column_names}
    middle = [name for name in columns if name not in (*_ORDER_FIRST, features.LABEL)]
    rows = total_order(columns[name] for name in (*_ORDER_FIRST, *middle, features.LABEL))
    columns = {name: column.rows(rows) for name, column in columns.items()}
    clock = _Clock(columns[features.USER_ID], columns[features.TIMESTAMP])
    # -1 before the start.
    first = 0 if rules.start is None else -1
    split_of_time = first + np.searchsorted(np.array(rules.borders, np.int64), clock.times, side="right")

    impression = columns[features.BEHAVIOR].is_in([rules.data.impression_behavior])
    labels = columns[features.LABEL]
    clicked = np.equal(labels.values.to_numpy(), 1)[labels.codes] & impression
    enters = clicked & rules.impressions_enter(clicks_are_logged)
    moveline_behavior = columns[features.BEHAVIOR].replaced(enters, rules.data.click_behavior)

    requests = _Requests.of(columns, clock, np.flatnonzero(impression), split_of_time, rules)
    events_at = np.flatnonzero(~impression | enters)
    stop = clock.before(events_at, requests.now)
    start = np.maximum(clock.before(events_at, requests.user_begin), stop - rules.contract.moveline_length)

    positive = moveline_behavior.is_in(rules.data.positive_behaviors)
    future_at = np.flatnonzero((~impression | enters) & positive & columns[features.ITEM_ID].present())
    future_start = clock.before(future_at, requests.now)
    future_stop = clock.before(future_at, requests.split_end)

    stop_of_row = np.zeros(len(rows), np.int64)
    stop_of_row[requests.candidates] = np.repeat(stop, requests.count)
    diff = {}
    for name, of_label in ((features.DIFF_CLICKED, clicked), (features.DIFF_UNCLICKED, impression & ~clicked)):
        row = _nearest_before(clock, np.flatnonzero(of_label), requests, rules.diff_window)
        diff[name] = (row, np.clip(stop_of_row[row] - start, 0, stop - start))

    positions = Positions(
        columns=columns,
        moveline_behavior=moveline_behavior,
        clicked=clicked,
        head=requests.head,
        candidates=requests.candidates,
        candidate_start=requests.start,
        candidate_count=requests.count,
        events=events_at,
        moveline_start=start,
        moveline_length=stop - start,
        futures=future_at,
        future_start=future_start,
        future_length=np.minimum(future_stop - future_start, rules.contract.flow_length),
        diff=diff,
    )
    split_of_row = split_of_time[clock.time_code]
    before_start = split_of_row < 0
    counts = {
        "rows": events.num_rows,
        "duplicates": events.num_rows - len(rows),
        "impressions": int(impression.sum()),
        "other_events": int((~impression).sum()),
        "history_impressions": int((impression & before_start).sum()),
        "history_events": int((~impression & before_start).sum()),
        **requests.counts,
    }
    other_events = np.bincount(split_of_row[~impression & ~before_start], minlength=len(rules.split_names))
    return Plan(rules, positions, requests.split, counts, other_events)


class _Clock:
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
class _Requests:
    """Requests in a stable order. Rows are positions in the sorted events; moments are those of `_Clock`.

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
        clock: _Clock,
        impressions: np.ndarray,
        split_of_time: np.ndarray,
        rules: MovelineRules,
    ) -> "_Requests":
        # By split; last that of the requests before the start, which have split -1 and no use for it.
        end_code = np.append(clock.code_before(np.array(rules.split_ends[:-1], np.int64)), [len(clock.times)] * 2)

        user = clock.user[impressions]
        named = columns[features.REQUEST_ID].rows(impressions)
        scene = columns[features.SCENE].rows(impressions)
        time_code = clock.time_code[impressions].astype(np.int64)
        # Codes past those of the ids stand for "this scene at this time".
        unnamed = len(named.values) + time_code * len(scene.values) + scene.codes
        name = np.where(named.present(), named.codes.astype(np.int64), unnamed)
        split = split_of_time[time_code]

        # lexsort is stable: inside a request the rows stay in their total order, earliest first.
        order = np.lexsort((split, name, user))
        candidates, user, name, split = impressions[order], user[order], name[order], split[order]
        same_name = (user[1:] == user[:-1]) & (name[1:] == name[:-1])
        group_first = np.ones(len(order), bool)
        group_first[1:] = ~(same_name & (split[1:] == split[:-1]))
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
            split_end=clock.moment(clock.user[head], end_code[split]),
            counts={
                "requests": int((in_split := group_split >= 0).sum()),
                "requests_above_limit": int((in_split & (group_size > rules.data.max_candidates)).sum()),
                "requests_cut_at_border": int((same_name & group_first[1:]).sum()),
            },
        )


def _nearest_before(clock: _Clock, rows: np.ndarray, requests: _Requests, window: int) -> np.ndarray:
    """Row of the user's last of these rows with t - window <= time < t, -1 where there is none: int64 `[requests]`."""
    if not len(rows):
        return np.full(len(requests.now), -1)
    count = clock.before(rows, requests.now)
    earliest = clock.code_before(clock.times[clock.time_code[requests.head]] - window)
    found = count > clock.before(rows, clock.moment(clock.user[requests.head], earliest))
    return np.where(found, rows[count - 1], -1)
