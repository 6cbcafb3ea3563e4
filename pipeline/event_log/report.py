"""What `check_log` found out about an event log, as data and as tables for a person.

In: the figures. Out: a JSON-able `LogReport`, and its print on a rich console.
"""

import dataclasses
import datetime as dt

import rich.box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

_MOST_NAMES = 20


@dataclasses.dataclass(frozen=True)
class BrokenRule:
    """A rule that rows break: how many, and the first of them as rows of `BAD_SCHEMA`."""

    reason: str
    column: str
    count: int
    examples: tuple[dict, ...]


@dataclasses.dataclass(frozen=True)
class LogReport:
    """Figures of an event log. Everything but `rows`, `bad_rows` and `broken` is about the good rows alone.

    Attributes:
      log, files: what was read.
      rows, bad_rows: all data rows, and those that break a rule.
      users, items, categories: distinct values; items and categories of all events, the empty one not counted.
      scenes, behaviors: name -> rows, most frequent first.
      impressions, clicked: labelled impressions, and those with label 1. `click_rate` is their ratio, None without.
      requests: sets of impressions shown together. `largest_request`: impressions in the largest.
      oversized_requests: requests above `data.max_candidates`, which are cut into several.
      first_time, last_time: ISO 8601 in UTC, None without rows.
      distinct_times: different timestamps among impressions.
      impression_times: unix seconds that 5 %, half and 95 % of the impressions are not later than; None without.
      duplicates: rows that repeat an earlier row in every column read.
      events: rows that can enter a moveline: all but impressions, and clicked impressions where they count as clicks.
      impression_behavior: the behavior that impressions were looked for by.
      impressions_as_clicks: whether they do, as `data.impressions_as_clicks` resolves for this log.
      median_events_per_user: over all users, also those without events.
      users_with_one_event: share of users with at most one such event, 0..1.
      impressions_with_history: share of impressions whose user has an event strictly before, 0..1; None without.
      broken: every rule that rows break, most frequent first. A row counts for the first rule it breaks.
      warnings: what is likely to go wrong, in words, each with the next step.
    """

    log: str
    files: int
    rows: int = 0
    bad_rows: int = 0
    users: int = 0
    items: int = 0
    categories: int = 0
    scenes: dict[str, int] = dataclasses.field(default_factory=dict)
    behaviors: dict[str, int] = dataclasses.field(default_factory=dict)
    impressions: int = 0
    clicked: int = 0
    click_rate: float | None = None
    requests: int = 0
    largest_request: int = 0
    oversized_requests: int = 0
    first_time: str | None = None
    last_time: str | None = None
    distinct_times: int = 0
    impression_times: tuple[int, int, int] | None = None
    duplicates: int = 0
    events: int = 0
    impression_behavior: str = "impression"
    impressions_as_clicks: bool = False
    median_events_per_user: float = 0.0
    users_with_one_event: float = 0.0
    impressions_with_history: float | None = None
    broken: tuple[BrokenRule, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict:
        """Plain types only, for JSON."""
        return dataclasses.asdict(self)


def iso_time(seconds: int) -> str:
    """Unix seconds as ISO 8601 in UTC, for instance 2018-11-07T00:00:00Z."""
    return dt.datetime.fromtimestamp(seconds, dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def print_report(report: LogReport, console: Console) -> None:
    """Prints the figures, the scenes and behaviours, every broken rule with examples, and the warnings."""
    figures = Table(
        title=f"Event log {escape(report.log)}", box=rich.box.SIMPLE, show_header=False, title_justify="left"
    )
    figures.add_column(style="bold")
    figures.add_column(justify="right")
    figures.add_column(style="dim")
    for name, value, note in _figures(report):
        figures.add_row(name, value, note)
    console.print(figures)
    for title, counts in (("scene", report.scenes), ("behavior", report.behaviors)):
        if counts:
            console.print(_counts(title, counts, report.rows - report.bad_rows))
    if report.broken:
        console.print(_broken(report))
    for warning in report.warnings:
        console.print(f"[yellow]Warning:[/] {escape(warning)}")
    if not report.broken and not report.warnings:
        console.print("[green]No rule is broken.[/]")


def _figures(report: LogReport) -> list[tuple[str, str, str]]:
    def share(value: float | None) -> str:
        return "-" if value is None else f"{value:.2%}"

    return [
        ("rows", f"{report.rows:,}", f"in {report.files:,} file{'s' if report.files != 1 else ''}"),
        ("bad rows", f"{report.bad_rows:,}", "break a rule" if report.bad_rows else ""),
        ("exact duplicates", f"{report.duplicates:,}", ""),
        ("users", f"{report.users:,}", ""),
        ("items", f"{report.items:,}", f"in {report.categories:,} categories"),
        ("requests", f"{report.requests:,}", f"largest shows {report.largest_request:,} items"),
        ("impressions", f"{report.impressions:,}", ""),
        ("clicked", f"{report.clicked:,}", ""),
        ("click rate", share(report.click_rate), ""),
        ("moveline events", f"{report.events:,}", "clicked impressions count" if report.impressions_as_clicks else ""),
        ("median events per user", f"{report.median_events_per_user:g}", ""),
        ("users with at most one event", share(report.users_with_one_event), ""),
        ("impressions with history", share(report.impressions_with_history), "the user did something before"),
        ("first time", report.first_time or "-", ""),
        ("last time", report.last_time or "-", ""),
    ]


def _counts(title: str, counts: dict[str, int], rows: int) -> Table:
    table = Table(box=rich.box.SIMPLE)
    table.add_column(title)
    table.add_column("rows", justify="right")
    table.add_column("share", justify="right")
    for name, count in list(counts.items())[:_MOST_NAMES]:
        table.add_row(escape(name), f"{count:,}", f"{count / rows:.2%}")
    left = list(counts.values())[_MOST_NAMES:]
    if left:
        table.add_row(f"and {len(left):,} more", f"{sum(left):,}", f"{sum(left) / rows:.2%}", style="dim")
    return table


def _broken(report: LogReport) -> Table:
    table = Table(title="Broken rules", title_style="bold red", box=rich.box.SIMPLE, title_justify="left")
    table.add_column("rule")
    table.add_column("column")
    table.add_column("rows", justify="right")
    table.add_column("first examples", overflow="fold")
    for rule in report.broken:
        examples = "\n".join(
            f"{e['file']}, row {e['row']}: {e['raw'] if len(e['raw']) <= 160 else e['raw'][:157] + '...'}"
            for e in rule.examples
        )
        table.add_row(escape(rule.reason), escape(rule.column), f"{rule.count:,}", escape(examples))
    return table
