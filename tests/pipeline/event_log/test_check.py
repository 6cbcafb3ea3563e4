"""The report on a log: figures counted by hand, broken rules, warnings and its print."""

import io
import json

import pytest
from rich.console import Console

from pipeline.event_log.check import check_log, print_report

T = 1_500_000_000
# u1: a visit, then a request of three (one clicked) with a click row, then a single impression. u2: an impression
# before anything else. u3: a search. The last row repeats the second.
ROWS = [
    f"u1,{T},live,visit,i9,c9,,",
    f"u1,{T + 10},feed,impression,i1,c1,1,r1",
    f"u1,{T + 10},feed,impression,i2,c1,0,r1",
    f"u1,{T + 10},feed,impression,i3,c2,0,r1",
    f"u1,{T + 11},feed,click,i1,c1,,",
    f"u1,{T + 20},feed,impression,i1,c1,0,",
    f"u2,{T + 5},feed,impression,i1,c1,0,",
    f"u3,{T + 86_400},search,search,,,,",
    f"u1,{T + 10},feed,impression,i1,c1,1,r1",
]


def shown(report):
    console = Console(file=io.StringIO(), width=140)
    print_report(report, console)
    return console.file.getvalue()


def test_figures(write, settings):
    write("log/b.csv", *ROWS[4:])
    report = check_log(write("log/a.csv", *ROWS[:4]).rpartition("/")[0], settings())
    assert report.files == 2 and report.rows == 9 and report.bad_rows == 0
    assert (report.users, report.items, report.categories) == (3, 4, 3)
    assert report.scenes == {"feed": 7, "live": 1, "search": 1}
    assert report.behaviors == {"impression": 6, "visit": 1, "click": 1, "search": 1}
    assert (report.impressions, report.clicked, report.click_rate) == (6, 2, pytest.approx(2 / 6))
    assert (report.requests, report.largest_request, report.oversized_requests) == (3, 4, 0)
    assert (report.first_time, report.last_time) == ("2017-07-14T02:40:00Z", "2017-07-15T02:40:00Z")
    assert report.duplicates == 1
    assert report.distinct_times == 3
    # Click rows exist, so impressions do not count as clicks: u1 has 2 events, u2 none, u3 one.
    assert not report.impressions_as_clicks
    assert (report.events, report.median_events_per_user) == (3, 1.0)
    assert report.users_with_one_event == pytest.approx(2 / 3)
    assert report.impressions_with_history == pytest.approx(5 / 6)
    assert not report.broken


def test_clicked_impressions_are_events_where_clicks_have_no_rows(write, settings):
    rows = [row for row in ROWS if ",click," not in row]
    report = check_log(write("a.csv", *rows), settings())
    assert report.impressions_as_clicks and report.events == 4


def test_impressions_without_ids_are_grouped_by_user_scene_and_time(write, settings):
    rows = [
        f"{u},{T + int(t)},{s},impression,i{i},,0," for i, (u, t, s) in enumerate(["a1f", "a1f", "a2f", "a1g", "b1f"])
    ]
    report = check_log(write("a.csv", *rows), settings())
    assert (report.requests, report.largest_request) == (4, 2)


def test_broken_rules_with_examples(write, settings):
    bad = [f",{T},feed,visit,i,,,"] * 5 + ["short"] * 2 + ["too,short"]
    report = check_log(write("a.csv", *ROWS, *bad), settings(bad_rows="stop"))
    assert (report.rows, report.bad_rows) == (17, 8)
    assert [(r.reason, r.column, r.count) for r in report.broken] == [
        ("no user", "user_id", 5),
        ("wrong number of fields", "", 3),
    ]
    assert [e["row"] for e in report.broken[0].examples] == [10, 11, 12]
    text = shown(report)
    assert "Broken rules" in text and "row 10" in text and "wrong number of fields" in text


def test_report_is_json(write, settings):
    report = check_log(write("a.csv", *ROWS, f",{T},feed,visit,i,,,"), settings())
    again = json.loads(json.dumps(report.to_dict()))
    assert again["rows"] == 10 and again["broken"][0]["examples"][0]["row"] == 10


def test_print_without_rows(write, settings):
    assert "rows" in shown(check_log(write("a.csv"), settings()))


def test_markup_in_the_log_is_printed_as_it_is(write, settings):
    assert "[red]x" in shown(check_log(write("a.csv", f"u,{T},[red]x,visit,i,,,"), settings()))


@pytest.mark.parametrize(
    ("rows", "keys", "warning"),
    [
        ([f"u,{T + i},feed,impression,i,c,1," for i in range(3)], {}, "all impressions have label 1"),
        ([f"u{i},{T},feed,impression,i,c,{i}," for i in range(2)], {}, "all impressions have the same time"),
        ([f"u{i},{T + i},feed,impression,i,c,{i}," for i in range(2)], {}, "no impression has an earlier event"),
        ([f"u,{T + i},feed,impression,i,c,{i}," for i in range(2)], {}, "no events but impressions"),
        ([f"u,{T},feed,visit,i,c,,"], {}, "no impressions, so there are no labels"),
        (ROWS, {"max_candidates": 3}, "1 of 3 requests show more than data.max_candidates = 3 items (largest 4)"),
        (ROWS, {}, "67% of the users have at most one event"),
        (ROWS, {}, "1 rows repeat another row exactly"),
        (ROWS, {"impressions_as_clicks": "always"}, "clicks enter the moveline twice"),
        (ROWS[:4], {"impressions_as_clicks": "never"}, "clicks are missing from the moveline"),
        (ROWS, {"positive_behaviors": ("buy",)}, "none of data.positive_behaviors (buy) is in the log"),
    ],
)
def test_warnings(rows, keys, warning, write, settings):
    report = check_log(write("a.csv", *rows), settings(**keys))
    assert any(warning in w for w in report.warnings), report.warnings
    assert warning in shown(report).replace("\n", " ")


def test_a_sound_log_has_no_warnings(write, settings):
    rows = []
    for user in range(3):
        rows += [f"u{user},{T + t},feed,visit,i{t},c,," for t in range(5)]
        rows += [f"u{user},{T + 10 + t},feed,impression,i{t},c,{t % 2}," for t in range(4)]
    report = check_log(write("a.csv", *rows, f"u0,{T + 50},feed,click,i1,c,,"), settings())
    assert report.warnings == () and "No rule is broken" in shown(report)
