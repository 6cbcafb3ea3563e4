"""`amen check`: reads a whole event log and says what it holds, which rules it breaks and what is likely to go wrong.

In: a log and the run's `DataSettings`. Out: a `LogReport`. Batches are reduced to hashes and counts as they come:
about 40 bytes of memory a row, whatever the texts are.
"""

import collections
import dataclasses
import difflib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from amen_tf import features
from amen_tf.config import DataSettings
from pipeline.event_log.errors import EventLogError, bad_rows_advice
from pipeline.event_log.hashing import combine, hash_column
from pipeline.event_log.reader import Batch, describe, read_batches
from pipeline.event_log.report import BrokenRule, LogReport, iso_time, print_report
from pipeline.event_log.spans import log_files

__all__ = ["BrokenRule", "LogReport", "check_files", "check_log", "print_report", "require_trainable", "require_whole"]

_EXAMPLES = 3
# Above this share a log has hardly any movelines, and AMEN nothing to learn a flow from.
_MOSTLY = 0.5


def check_log(log: str, data: DataSettings) -> LogReport:
    """Reads the log and reports on it. Bad rows are counted, whatever `data.bad_rows` says.

    Raises:
      EventLogError: no such log, a file that cannot be read or lacks a column, or times in the wrong unit.
    """
    return check_files(log, log_files(log, data), data)


def check_files(log: str, files: Sequence[str], data: DataSettings) -> LogReport:
    """`check_log` of some files of a log, for whoever has found them already."""
    tally = _Tally(data)
    for path in files:
        for batch in read_batches(path, data):
            tally.add(batch)
    return tally.report(log, len(files))


def require_trainable(report: LogReport) -> None:
    """Raises where no model can be learned from a log: nothing in it, no labels, or labels of one class."""
    if not report.rows:
        raise EventLogError(f"{report.log}: the event log is empty: files with headers, but no rows. Check data.log.")
    if report.rows == report.bad_rows:
        first = f" First: {describe(report.broken[0].examples[0])}." if report.broken else ""
        raise EventLogError(
            f"{report.log}: all {report.rows:,} rows break a rule, so nothing is left to learn from.{first} "
            "`amen check` lists every broken rule; a wrong data.columns is the usual cause."
        )
    if not report.impressions:
        raise EventLogError(f"{report.log}: {_no_impressions(report)}")
    if report.clicked in (0, report.impressions):
        label = 0 if report.clicked == 0 else 1
        raise EventLogError(
            f"{report.log}: all {report.impressions:,} impressions have label {label}, so there is nothing to tell "
            "apart. Expected shown items that were clicked (1) and not clicked (0): log the other class as well."
        )


def require_whole(report: LogReport, data: DataSettings) -> None:
    """Raises where more rows break a rule than `data` allows: first of all, or they would look like something else.

    A log with a label of 2 for every click has "only unclicked impressions" once those rows are left out.
    """
    if not data.stops_at(report.bad_rows, report.rows):
        return
    lines = []
    for rule in report.broken:
        what = describe(rule.examples[0]) if rule.examples else rule.reason
        lines.append(f"  {rule.count:,} {'row' if rule.count == 1 else 'rows'}: {what}")
    raise EventLogError(
        f"{report.log}: {report.bad_rows:,} of {report.rows:,} rows break the rules of an event log. The first of each "
        "rule:\n" + "\n".join(lines) + f"\n{bad_rows_advice(report.bad_rows, report.rows, data)}"
    )


def _no_impressions(report: LogReport) -> str:
    near = difflib.get_close_matches(report.impression_behavior, report.behaviors, n=1, cutoff=0.6)
    guess = f" (`{near[0]}`?)" if near else ""
    return (
        f"no impressions, so there are no labels to learn from. Expected rows with behavior "
        f"`{report.impression_behavior}` and a label of 0 or 1; the log's behaviors are {', '.join(report.behaviors)}. "
        f"Set data.impression_behavior{guess} or log what was shown."
    )


class _Tally:
    """Running counts over batches; `report` closes them."""

    def __init__(self, data: DataSettings):
        self._data = data
        self._good = 0
        self._counts = {features.SCENE: collections.Counter(), features.BEHAVIOR: collections.Counter()}
        self._distinct: dict[str, list[np.ndarray]] = {features.ITEM_ID: [], features.CATEGORY_ID: []}
        self._rows: list[np.ndarray] = []
        self._users: list[np.ndarray] = []
        self._times: list[np.ndarray] = []
        self._labels: list[np.ndarray] = []
        self._requests: list[np.ndarray] = []
        self._broken: dict[tuple[str, str], list] = {}

    def add(self, batch: Batch) -> None:
        table = batch.table
        self._add_bad(batch.bad)
        if not table.num_rows:
            return
        self._good += table.num_rows
        columns = {name: table.column(i) for i, name in enumerate(table.schema.names)}
        hashes = {name: hash_column(values) for name, values in columns.items()}
        for name, counter in self._counts.items():
            for entry in pc.value_counts(columns[name]).to_pylist():
                counter[entry["values"]] += entry["counts"]
        for name, seen in self._distinct.items():
            seen.append(np.unique(hashes[name][pc.not_equal(columns[name], "").to_numpy(zero_copy_only=False)]))
        user, time = hashes[features.USER_ID], columns[features.TIMESTAMP].to_numpy()
        label = columns[features.LABEL].to_numpy()
        shown = label >= 0
        named = pc.not_equal(columns[features.REQUEST_ID], "").to_numpy(zero_copy_only=False)
        by_name = combine(user, hashes[features.REQUEST_ID])
        by_place = combine(user, hashes[features.SCENE], time)
        self._rows.append(combine(*hashes.values()))
        self._users.append(user)
        self._times.append(time)
        self._labels.append(label)
        self._requests.append(np.where(named, by_name, by_place)[shown])

    def _add_bad(self, bad: pa.Table) -> None:
        for row in bad.to_pylist():
            # Only the number of fields found differs between rows of the wrong length; it belongs to the example.
            reason = row["reason"].partition(":")[0]
            kept = self._broken.setdefault((reason, row["column"]), [0, []])
            kept[0] += 1
            if len(kept[1]) < _EXAMPLES:
                kept[1].append(row)

    def report(self, log: str, files: int) -> LogReport:
        data = self._data
        broken = tuple(
            BrokenRule(reason, column, count, tuple(examples))
            for (reason, column), (count, examples) in sorted(self._broken.items(), key=lambda item: -item[1][0])
        )
        bad = sum(rule.count for rule in broken)
        if not self._good:
            return LogReport(log, files, bad, bad, broken=broken, impression_behavior=data.impression_behavior)
        user, time, label = (np.concatenate(parts) for parts in (self._users, self._times, self._labels))
        behaviors = dict(self._counts[features.BEHAVIOR].most_common())
        as_clicks = data.impressions_as_clicks == "always" or (
            data.impressions_as_clicks == "auto" and data.click_behavior not in behaviors
        )
        shown = label >= 0
        event = ~shown | ((label == 1) & as_clicks)
        users, who = np.unique(user, return_inverse=True)
        events_of = np.bincount(who[event], minlength=len(users))
        first_event = np.full(len(users), np.iinfo(np.int64).max)
        np.minimum.at(first_event, who[event], time[event])
        sizes = np.unique(np.concatenate(self._requests), return_counts=True)[1]
        impressions, clicked = int(shown.sum()), int((label == 1).sum())
        report = LogReport(
            log=log,
            files=files,
            rows=self._good + bad,
            bad_rows=bad,
            users=len(users),
            items=_distinct(self._distinct[features.ITEM_ID]),
            categories=_distinct(self._distinct[features.CATEGORY_ID]),
            scenes=dict(self._counts[features.SCENE].most_common()),
            behaviors=behaviors,
            impressions=impressions,
            clicked=clicked,
            click_rate=clicked / impressions if impressions else None,
            requests=len(sizes),
            largest_request=int(sizes.max(initial=0)),
            oversized_requests=int((sizes > data.max_candidates).sum()),
            first_time=iso_time(int(time.min())),
            last_time=iso_time(int(time.max())),
            distinct_times=len(np.unique(time[shown])),
            impression_times=_spread(time[shown]),
            duplicates=self._good - _distinct(self._rows),
            events=int(event.sum()),
            impression_behavior=data.impression_behavior,
            impressions_as_clicks=as_clicks,
            median_events_per_user=float(np.median(events_of)),
            users_with_one_event=float((events_of <= 1).mean()),
            impressions_with_history=float((time[shown] > first_event[who[shown]]).mean()) if impressions else None,
            broken=broken,
        )
        return _with_warnings(report, data)


def _spread(times: np.ndarray) -> tuple[int, int, int] | None:
    """Quantiles of 5 %, 50 % and 95 %, of the times that there are: the lower where two are as near."""
    if not len(times):
        return None
    few, half, most = np.quantile(times, (0.05, 0.5, 0.95), method="lower")
    return int(few), int(half), int(most)


def _distinct(parts: list[np.ndarray]) -> int:
    return len(np.unique(np.concatenate(parts)))


def _with_warnings(report: LogReport, data: DataSettings) -> LogReport:
    return dataclasses.replace(report, warnings=tuple(_warnings(report, data)))


def _warnings(report: LogReport, data: DataSettings):
    if not report.impressions:
        yield _no_impressions(report)
        return
    if report.clicked in (0, report.impressions):
        yield f"all impressions have label {int(report.clicked > 0)}: nothing can be learned from one class."
    if report.distinct_times == 1:
        yield "all impressions have the same time, so they cannot be split by time. Check the time column."
    if not report.behaviors.keys() - {data.impression_behavior}:
        as_clicks = (
            "movelines hold clicked impressions alone" if report.impressions_as_clicks else "movelines are empty"
        )
        yield f"no events but impressions: {as_clicks}. Log what users do in other scenes as well."
    if not report.impressions_with_history:
        yield "no impression has an earlier event of its user: every moveline is empty. Are the user ids stable?"
    if report.oversized_requests:
        yield (
            f"{report.oversized_requests:,} of {report.requests:,} requests show more than data.max_candidates = "
            f"{data.max_candidates} items (largest {report.largest_request:,}) and are cut into several."
        )
    if report.users_with_one_event > _MOSTLY:
        yield (
            f"{report.users_with_one_event:.0%} of the users have at most one event: there is little history to "
            "learn from. A longer period or more scenes would help."
        )
    if report.duplicates:
        yield (
            f"{report.duplicates:,} rows repeat another row exactly and count as one event. If they are events of "
            "their own, give each a request_id."
        )
    if data.impressions_as_clicks == "always" and data.click_behavior in report.behaviors:
        yield (
            f"data.impressions_as_clicks is always, but the log has {data.click_behavior} rows of its own: clicks "
            "enter the moveline twice. Set it to auto."
        )
    if data.impressions_as_clicks == "never" and data.click_behavior not in report.behaviors:
        yield (
            f"no {data.click_behavior} rows, and data.impressions_as_clicks is never: clicks are missing from the "
            "moveline. Set it to auto, or data.click_behavior to the name that clicks go by."
        )
    if not set(data.positive_behaviors) & report.behaviors.keys() and not report.impressions_as_clicks:
        yield (
            f"none of data.positive_behaviors ({', '.join(data.positive_behaviors)}) is in the log, so stage 1 has no "
            f"future items to learn from. The behaviors are {', '.join(report.behaviors)}."
        )
