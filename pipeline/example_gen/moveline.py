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
- Where the log is taken span by span, spans take the place of borders in time: a row is of the span that it lies in.
- The start of the first split is a border too. Before it there are requests, which say how long the movelines of diff
  samples are, but no examples.
"""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from amen_tf import features
from pipeline.example_gen.assemble import Positions, to_record_batch
from pipeline.example_gen.coded import ragged
from pipeline.example_gen.requests import Parts, Requests, nearest_before
from pipeline.example_gen.rules import MovelineRules
from pipeline.example_gen.sorted_log import SortedLog


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


def make_plan(events: pa.Table, rules: MovelineRules, clicks_are_logged: bool, span: int | None = None) -> Plan:
    """Sorts the events and finds, for each request, what its example consists of. Arguments as `build_examples`.

    Args:
      events: with a column `features.SPAN` where `span` is given.
      rules: with a single split where `span` is given.
      clicks_are_logged: see `build_examples`.
      span: the requests of this span make the examples; rows of earlier spans are history, those of later ones may
        only be future items. None: the rules' borders in time decide.

    Returns:
      The plan. Its counts: `rows` = `duplicates` + `impressions` + `other_events`, of which `history_impressions` and
      `history_events` lie before the start; `requests` (before the cut at the candidate limit), `requests_above_limit`,
      `requests_cut_at_border`, from the start on. All are of the span alone, if one is given.
    """
    log = SortedLog.of(events, rules, clicks_are_logged)
    columns, clock, impression, clicked = log.columns, log.clock, log.impression, log.clicked
    parts = Parts.by_time(clock, rules) if span is None else Parts.by_span(log, span)

    requests = Requests.of(columns, clock, np.flatnonzero(impression), parts, rules)
    events_at = np.flatnonzero(log.in_moveline & parts.known)
    stop = clock.before(events_at, requests.now)
    start = np.maximum(clock.before(events_at, requests.user_begin), stop - rules.contract.moveline_length)

    positive = log.moveline_behavior.is_in(rules.data.positive_behaviors)
    future_at = np.flatnonzero(log.in_moveline & positive & columns[features.ITEM_ID].present() & parts.ahead)
    future_start = clock.before(future_at, requests.now)
    future_stop = clock.before(future_at, requests.split_end)

    stop_of_row = np.zeros(len(log.rows), np.int64)
    stop_of_row[requests.candidates] = np.repeat(stop, requests.count)
    diff = {}
    for name, of_label in ((features.DIFF_CLICKED, clicked), (features.DIFF_UNCLICKED, impression & ~clicked)):
        row = nearest_before(clock, np.flatnonzero(of_label & parts.known), requests, rules.diff_window)
        diff[name] = (row, np.clip(stop_of_row[row] - start, 0, stop - start))

    positions = Positions(
        columns=columns,
        moveline_behavior=log.moveline_behavior,
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
    in_splits = parts.split >= 0
    history = parts.counted & ~in_splits
    given = events.num_rows if span is None else pc.sum(pc.equal(events.column(features.SPAN), span)).as_py() or 0
    counts = {
        "rows": given,
        "duplicates": given - int(parts.counted.sum()),
        "impressions": int((impression & parts.counted).sum()),
        "other_events": int((~impression & parts.counted).sum()),
        "history_impressions": int((impression & history).sum()),
        "history_events": int((~impression & history).sum()),
        **requests.counts,
    }
    other_events = np.bincount(parts.split[~impression & in_splits], minlength=len(rules.split_names))
    return Plan(rules, positions, requests.split, counts, other_events)
