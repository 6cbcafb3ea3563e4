"""Logs in spans, one folder or file a day: which spans there are, and the window of them that a run reads.

In: a pattern with {SPAN}, or {YYYY}, {MM} and {DD}, as TFX has them, and the run's `SplitSettings`. Out: the files of
some spans, and the spans of every split. A span's number counts days since 1970-01-01 where the pattern has dates.
"""

import datetime as dt
import re
from collections.abc import Collection

from amen_tf.config import DataSettings, SpanSettings, SplitSettings, in_spans
from pipeline.event_log import storage
from pipeline.event_log.errors import EventLogError
from pipeline.event_log.files import format_of, has_suffix, list_files

_DATE = ("YYYY", "MM", "DD")
_DIGITS = {"SPAN": r"\d+", "YYYY": r"\d{4}", "MM": r"\d{2}", "DD": r"\d{2}"}
_SHOWN = 5
_EPOCH = dt.date(1970, 1, 1)
DAY = 86_400


def as_glob(log: str) -> str:
    """The pattern as a glob that finds the files of all spans, and maybe others.

    Raises:
      EventLogError: the pattern has other fields, or half a date.
    """
    fields = re.findall(r"\{([^{}]*)\}", log)
    if sorted(set(fields)) not in (["SPAN"], sorted(_DATE)) or len(fields) != len(set(fields)):
        raise EventLogError(
            f"{log}: expected {{SPAN}} once, or each of {{YYYY}}, {{MM}} and {{DD}} once, in the path of a log in "
            f"spans; got {', '.join(f'{{{field}}}' for field in fields) or 'a brace alone'}."
        )
    return re.sub(r"\{[^{}]*\}", "*", log)


def spans_of(log: str, format: str = "auto") -> dict[int, list[str]]:
    """Span -> its files, sorted by span and path; where the pattern names folders, the files in them and below.

    Files whose place is no number or date are in none, nor are hidden files and those whose name starts with _, or that
    lie in such a folder; of a folder's files those that are of a log by their suffix.

    Raises:
      EventLogError: no file is in a span, or there are files of several formats.
    """
    place = as_glob(log)
    files = [path for path in storage.matching(f"{place.rstrip('/')}/**") if has_suffix(path, format)]
    if files:
        log = f"{log.rstrip('/')}/**"
    named = re.compile(_regex(log))
    found: dict[int, list[str]] = {}
    # Names that the pattern leaves open, whatever it begins with.
    fixed = len(re.split(r"[*?{]", log)[0].rpartition("/")[0])
    for path in files or storage.matching(place):
        set_aside = any(name.startswith((".", "_")) for name in path[fixed:].split("/"))
        if not set_aside and (match := named.fullmatch(path)) and (span := _number(match)) is not None:
            found.setdefault(span, []).append(path)
    if not found:
        raise EventLogError(f"No file of a span matches {log}. Check data.log.")
    formats = {format_of(path, format) for files in found.values() for path in files}
    if len(formats) > 1:
        raise EventLogError(f"{log}: files of several formats ({', '.join(sorted(formats))}). Set data.format to one.")
    return dict(sorted(found.items()))


def log_files(log: str, data: DataSettings) -> list[str]:
    """The files that a run reads: all of a log, or those of the spans from `data.first_span` to `data.last_span`.

    Raises:
      EventLogError: there are none.
    """
    if not in_spans(log):
        return list_files(log, data.format)
    spans = spans_of(log, data.format)
    first, last = (span_number(log, limit) for limit in (data.first_span, data.last_span))
    first, last = min(spans) if first is None else first, max(spans) if last is None else last
    files = [path for span, of in spans.items() if first <= span <= last for path in of]
    if not files:
        raise EventLogError(
            f"{log}: no files from span {name_of(log, first)} to {name_of(log, last)}. There are "
            f"{name_of(log, min(spans))} to {name_of(log, max(spans))}: check data.first_span and data.last_span."
        )
    return files


def span_number(log: str, span: dt.date | int | None) -> int | None:
    """A span as the settings name it -> its number.

    Raises:
      EventLogError: a number where the pattern has dates, or the other way round.
    """
    if span is None:
        return None
    if isinstance(span, dt.date) == ("{SPAN}" in log):
        expected = "the number of a span" if "{SPAN}" in log else "a date, such as 2026-11-20"
        raise EventLogError(
            f"{log}: expected {expected}, got {span} (data.first_span, data.last_span, split.spans.newest)."
        )
    return (span - _EPOCH).days if isinstance(span, dt.date) else span


def named(log: str, span: int) -> dt.date | int:
    """Inverse of `span_number`."""
    return span if "{SPAN}" in log else _EPOCH + dt.timedelta(days=span)


def name_of(log: str, span: int) -> str:
    """A span as the pattern writes it."""
    return str(named(log, span))


def window(log: str, data: DataSettings, split: SplitSettings) -> tuple[DataSettings, SplitSettings]:
    """The settings with the newest span and those to read by name, as `split.spans` counts them.

    Raises:
      EventLogError: a span of the window is not there.
    """
    there = spans_of(log, data.format)
    newest = max(there) if split.spans.newest is None else span_number(log, split.spans.newest)
    counts = split.spans.model_copy(update={"newest": named(log, newest)})
    first = min(of[0] for of in spans_of_splits(log, there, counts).values()) - counts.history
    read = {"first_span": named(log, first), "last_span": counts.newest}
    return data.model_copy(update=read), split.model_copy(update={"spans": counts})


def spans_of_splits(log: str, there: Collection[int], counts: SpanSettings) -> dict[str, range]:
    """Split -> its spans, in the order of time.

    Args:
      log: the pattern.
      there: spans that have files.
      counts: with the newest span named.

    Raises:
      EventLogError: a span of the window is not there.
    """
    found = _ranges(log, counts)
    window = range(min(spans[0] for spans in found.values()), found["test"][-1] + 1)
    missing = [span for span in window if span not in there]
    if missing:
        shown = ", ".join(name_of(log, span) for span in missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        raise EventLogError(
            f"{log}: of the {len(window)} spans from {name_of(log, window[0])} to {name_of(log, window[-1])} that "
            f"split.spans asks for, {len(missing)} are not there: {shown}. There are {len(there)}, from "
            f"{name_of(log, min(there))} to {name_of(log, max(there))}. Ask for fewer, or write a file with a header "
            "alone for one without events."
        )
    return found


def stage1_spans(log: str, split: SplitSettings) -> range | None:
    """The spans that stage 1 learns from, of resolved settings; None where the log is not taken by spans."""
    return None if split.spans is None else _ranges(log, split.spans)[split.stage1_splits[0]]


def _ranges(log: str, counts: SpanSettings) -> dict[str, range]:
    """Split -> its spans, in the order of time, whether they are there or not."""
    begin = span_number(log, counts.newest) + 1 - sum(counts.sizes.values())
    found = {}
    for split, size in counts.sizes.items():
        found[split] = range(begin, begin + size)
        begin += size
    return found


def begin_of_date(log: str, span: int) -> int | None:
    """Midnight UTC of a span's date in unix seconds; None where spans are numbers."""
    return None if "{SPAN}" in log else span * DAY


def _regex(log: str) -> str:
    """The pattern as a regular expression: fields as digits, * within a name, ** through folders, ? one sign."""
    parts = []
    for token in re.findall(r"\{[^{}]*\}|\*\*/|\*\*|\*|\?|[^{*?]+", log):
        if token[0] == "{":
            parts.append(f"(?P<{token[1:-1]}>{_DIGITS[token[1:-1]]})")
        else:
            parts.append({"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(token) or re.escape(token))
    return "".join(parts)


def _number(match: re.Match) -> int | None:
    found = match.groupdict()
    if "SPAN" in found:
        return int(found["SPAN"])
    try:
        return (dt.date(*(int(found[name]) for name in _DATE)) - _EPOCH).days
    except ValueError:
        return None
