"""What each span of a log holds, worked out once for as long as its files stay as they are.

In: the pattern of a log, the spans to read, what is known of them from before. Out: figures of all of them together.
"""

import dataclasses
from typing import Any

from amen_tf.config import DataSettings
from pipeline.event_log import storage
from pipeline.event_log.check import BrokenRule, LogReport, check_files
from pipeline.event_log.errors import EventLogError
from pipeline.event_log.spans import begin_of_date, name_of, span_number, spans_of

_SUMS = ("files", "rows", "bad_rows", "impressions", "clicked")


@dataclasses.dataclass(frozen=True)
class SpansReport:
    """Figures of every span that a run reads.

    Attributes:
      log: the pattern.
      there: span -> its files, of all spans that there are.
      known: name of a span -> its figures, JSON-able, of the spans that are read: `key` of the files and of how they
        are read, and what `LogReport` calls `files`, `rows`, `bad_rows`, `impressions`, `clicked`, `behaviors`,
        `impression_times` and `broken`.
    """

    log: str
    there: dict[int, list[str]]
    known: dict[str, dict[str, Any]]

    @classmethod
    def of(cls, log: str, data: DataSettings, before: dict[str, dict[str, Any]]) -> "SpansReport":
        """Checks the spans from `data.first_span` to `data.last_span` that are not in `before` as they are now.

        Raises:
          EventLogError: a file that cannot be read or lacks a column, or times in the wrong unit.
        """
        there, known = spans_of(log, data.format), {}
        first, last = span_number(log, data.first_span), span_number(log, data.last_span)
        # Settings that were saved after a run say what this run will settle.
        how = data.model_dump_json(exclude={"first_span", "last_span", "impressions_as_clicks"})
        for span, files in there.items():
            if first <= span <= last:
                name, key = name_of(log, span), storage.fingerprint(files, how)
                if before.get(name, {}).get("key") == key:
                    known[name] = before[name]
                    continue
                found = check_files(log, files, data).to_dict()
                kept = (*_SUMS, "behaviors", "impression_times", "broken")
                known[name] = {"key": key, **{figure: found[figure] for figure in kept}}
        return cls(log, there, known)

    def whole(self, data: DataSettings) -> LogReport:
        """All spans as one log, as far as that can be said without reading them again."""
        behaviors: dict[str, int] = {}
        broken: dict[tuple[str, str], BrokenRule] = {}
        for figures in self.known.values():
            for name, count in figures["behaviors"].items():
                behaviors[name] = behaviors.get(name, 0) + count
            for rule in figures["broken"]:
                place = rule["reason"], rule["column"]
                more = broken.get(place, BrokenRule(*place, 0, ()))
                examples = more.examples or tuple(rule["examples"])
                broken[place] = BrokenRule(*place, more.count + rule["count"], examples)
        return LogReport(
            self.log,
            **{name: sum(figures[name] for figures in self.known.values()) for name in _SUMS},
            behaviors=behaviors,
            impression_behavior=data.impression_behavior,
            broken=tuple(sorted(broken.values(), key=lambda rule: -rule.count)),
        )

    def impressions_as_clicks(self, data: DataSettings) -> str:
        """`data.impressions_as_clicks` with `auto` settled for all spans."""
        if data.impressions_as_clicks != "auto":
            return data.impressions_as_clicks
        return "never" if data.click_behavior in self.whole(data).behaviors else "always"

    def begin(self, span: int) -> int:
        """Unix seconds at which a span begins: midnight UTC of its date, or else when its first impressions come.

        A few that come late decide nothing: the begin lies after 95 % of the span before, and not after half of this
        one, so that begins ascend wherever `require_ascending` finds nothing.

        Raises:
          EventLogError: a numbered span without impressions.
        """
        date = begin_of_date(self.log, span)
        if date is not None:
            return date
        name, after = name_of(self.log, span), 0
        for other, figures in self.known.items():
            times = figures["impression_times"]
            if other == name:
                break
            after = after if times is None else times[2] + 1
        if times is None:
            raise EventLogError(
                f"{self.log}: span {span}, with which a split begins, has no labelled impressions, so that it is "
                "unclear when that is. Expected some: let the split begin with another span (split.spans)."
            )
        return min(max(times[0], after), times[1])

    def require_ascending(self) -> None:
        """Raises where spans do not follow one another in time, so that a split by spans would be none by time.

        A few late rows are let pass: half of a span's impressions must come after 95 % of those of the span before.
        """
        earlier = None
        for name, figures in self.known.items():
            if figures["impression_times"] is None:
                continue
            _, middle, most = figures["impression_times"]
            if earlier is not None and middle <= earlier[1]:
                raise EventLogError(
                    f"{self.log}: spans {earlier[0]} and {name} overlap in time: half of the impressions of {name} are "
                    f"not later than 95 % of those of {earlier[0]}. Expected spans that follow one another, as days "
                    "do: otherwise a split by spans would let models learn from what comes later."
                )
            earlier = name, most
