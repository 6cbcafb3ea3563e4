"""Logs in spans: which files are whose, the window of the newest, and what is said when a span is not there."""

import datetime as dt
import pathlib

import pytest

from amen_tf.config import DataSettings, SplitSettings
from pipeline.event_log import spans
from pipeline.event_log.errors import EventLogError

DAY = 86_400
FIRST = dt.date(2026, 2, 26)
HEADER = "user_id,timestamp,scene,behavior,item_id,label\n"


def number(date):
    return (date - dt.date(1970, 1, 1)).days


@pytest.fixture
def daily(tmp_path):
    """`daily(days, name)`: the pattern of a log with a file a day from 26 February 2026 on, and other things."""

    def _daily(days=10, name="{day}/part-0.csv", skip=()):
        for place in range(days):
            day = FIRST + dt.timedelta(days=place)
            path = tmp_path / "log" / name.format(day=day, number=place + 1)
            path.parent.mkdir(parents=True, exist_ok=True)
            if place not in skip:
                time = number(day) * DAY
                rows = [
                    f"u,{time + 3},feed,visit,i,",
                    f"u,{time + 60},feed,impression,i,1",
                    f"u,{time + 61},a,visit,i,",
                ]
                path.write_text(HEADER + "\n".join(rows) + "\n")
        (tmp_path / "log" / "latest").mkdir()
        (tmp_path / "log" / "latest" / "part-0.csv").write_text(HEADER)
        return str(tmp_path / "log")

    return _daily


def test_files_by_date(daily):
    log = daily() + "/{YYYY}-{MM}-{DD}/*.csv"
    found = spans.spans_of(log)
    assert list(found) == list(range(number(FIRST), number(FIRST) + 10))
    # February has 28 days; what is in no span is left alone.
    assert found[number(dt.date(2026, 3, 1))] == [log.split("/{")[0] + "/2026-03-01/part-0.csv"]
    assert sum(map(len, found.values())) == 10
    assert spans.name_of(log, number(FIRST)) == "2026-02-26"


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("span-{number}/part-0.csv", "span-{SPAN}/*"),
        ("span-{number}.csv", "span-{SPAN}.csv"),
        ("deep/er/{number}/part-0.csv", "**/{SPAN}/part-?.csv"),
    ],
)
def test_files_by_number(name, pattern, daily):
    log = f"{daily(name=name)}/{pattern}"
    assert list(spans.spans_of(log)) == list(range(1, 11)) and spans.name_of(log, 7) == "7"


@pytest.mark.parametrize(
    "pattern",
    ["{YYYY}-{MM}/*", "{SPAN}/{YYYY}-{MM}-{DD}", "{SPAN}/{SPAN}", "{YYYY}-{MM}-{dd}/x", "{YYYY}/{YYYY}-{MM}-{DD}"],
)
def test_patterns_that_are_none(pattern):
    with pytest.raises(EventLogError, match="expected {SPAN} once, or each of {YYYY}, {MM} and {DD} once"):
        spans.as_glob(f"log/{pattern}")


def test_days_that_no_calendar_has_are_in_no_span(daily):
    log = daily(1) + "/{YYYY}-{MM}-{DD}/*.csv"
    odd = pathlib.Path(log.split("/{")[0], "2026-02-30")
    odd.mkdir()
    (odd / "a.csv").write_text(HEADER)
    assert list(spans.spans_of(log)) == [number(FIRST)]


def read(log, **data):
    return [path.split("/")[-2] for path in spans.log_files(log, DataSettings(log=log, **data))]


def test_some_spans_are_read(daily):
    log = daily() + "/{YYYY}-{MM}-{DD}/*.csv"
    assert len(read(log)) == 10
    assert read(log, first_span=dt.date(2026, 3, 1), last_span=dt.date(2026, 3, 2)) == ["2026-03-01", "2026-03-02"]
    assert read(log, first_span=dt.date(2026, 3, 7)) == ["2026-03-07"]
    with pytest.raises(EventLogError, match="expected a date, such as 2026-11-20, got 20260307"):
        read(log, first_span=20260307)
    with pytest.raises(EventLogError, match="no files from span 2027-01-01 to 2026-03-07. There are 2026-02-26 to"):
        read(log, first_span=dt.date(2027, 1, 1))
    plain = log.split("/{")[0]
    assert len(spans.log_files(plain, DataSettings(log=plain))) == 11


def window(log, **counts):
    """What is read, and split -> (first, last) span."""
    data, split = spans.window(log, DataSettings(log=log), SplitSettings(spans=counts))
    found = spans.spans_of_splits(log, spans.spans_of(log), split.spans)
    return data, split, {name: (of[0], of[-1]) for name, of in found.items()}


def test_the_window_is_that_of_the_newest_spans(daily):
    log = daily() + "/{YYYY}-{MM}-{DD}/*.csv"
    data, split, found = window(log, history=3, stage1=2, stage2=2, eval=1, test=1)
    first = number(FIRST)
    assert (data.first_span, data.last_span) == (FIRST + dt.timedelta(days=1), dt.date(2026, 3, 7))
    begins = {"stage1": (4, 5), "stage2": (6, 7), "eval": (8, 8), "test": (9, 9)}
    assert found == {name: (first + one, first + other) for name, (one, other) in begins.items()}
    # A day later it has moved on by a day; the settings say which day it was.
    assert split.spans.newest == dt.date(2026, 3, 7) and tuple(found) == split.names
    data, split, found = window(log, history=3, stage1=2, stage2=2, newest=dt.date(2026, 3, 6))
    assert data.last_span == dt.date(2026, 3, 6) and found["test"] == (first + 8, first + 8)


def test_one_window_for_both_stages_and_one_for_vocabularies(daily):
    log = daily() + "/{YYYY}-{MM}-{DD}/*.csv"
    data, _, found = window(log, stage1=4, stage2=0, vocabulary=2, history=1)
    first = number(FIRST)
    assert found == {
        "vocabulary": (first + 2, first + 3),
        "train": (first + 4, first + 7),
        "eval": (first + 8, first + 8),
        "test": (first + 9, first + 9),
    }
    assert data.first_span == FIRST + dt.timedelta(days=1)


def test_the_splits_of_the_settings_are_those_of_the_window(daily):
    log = daily() + "/{YYYY}-{MM}-{DD}/*.csv"
    for counts in ({}, {"stage2": 0}, {"vocabulary": 1}, {"vocabulary": 1, "stage2": 0}):
        counts = {"stage1": 3, "stage2": 2, **counts}
        # With one window for both stages there is no border between them, as `prepare` has it.
        one = {"stage1_end": None, "train_end": 10, "eval_end": 20, "spans": {**counts, "newest": 1}}
        split = SplitSettings(**(one if not counts["stage2"] else {"spans": counts}))
        assert tuple(window(log, **counts)[2]) == split.names


def test_history_may_reach_back_before_the_first_span(daily):
    data, _, _ = window(daily(6) + "/{YYYY}-{MM}-{DD}/*.csv", history=30, stage1=2, stage2=2)
    assert data.first_span == FIRST - dt.timedelta(days=30)
    assert len(spans.log_files(data.log, data)) == 6


def test_spans_of_the_window_must_be_there(daily):
    log = daily(skip=(4, 5)) + "/{YYYY}-{MM}-{DD}/*.csv"
    with pytest.raises(EventLogError, match=r"2 are not there: 2026-03-02, 2026-03-03\. There are 8, from 2026-02-26"):
        window(log, stage1=3, stage2=2)
    # In the history they are not missed.
    assert window(log, history=5, stage1=1, stage2=0, eval=1, test=1)[2]["train"]


def test_a_log_without_a_span():
    with pytest.raises(EventLogError, match="No file of a span matches"):
        spans.spans_of("/nowhere/{SPAN}/*.csv")


def test_a_folder_a_day(daily):
    log = daily() + "/{YYYY}-{MM}-{DD}"
    pathlib.Path(log.split("/{")[0], "2026-03-01", "_SUCCESS").write_text("")
    found = spans.spans_of(log)
    assert len(found) == 10 and all(len(files) == 1 for files in found.values())


def test_files_of_a_job_that_is_still_writing_are_no_files_of_a_span(daily):
    log = daily(3) + "/{YYYY}-{MM}-{DD}"
    folder = pathlib.Path(log.split("/{")[0], "2026-02-27")
    for name in ("_temporary/0/part-0.csv", ".staging/part-0.csv", "readme.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(HEADER)
    assert spans.spans_of(log)[number(dt.date(2026, 2, 27))] == [str(folder / "part-0.csv")]
    assert all("_temporary" not in path for path in spans.spans_of(f"{log}/**/*.csv")[number(dt.date(2026, 2, 27))])
    # What the pattern itself names is meant.
    (folder.parent / "_mine").mkdir()
    (folder.parent / "_mine" / "7.csv").write_text(HEADER)
    assert list(spans.spans_of(f"{folder.parent}/_mine/{{SPAN}}.csv")) == [7]


def test_other_braces_in_a_path_are_a_path(tmp_path):
    log = tmp_path / "run{1}" / "log.csv"
    log.parent.mkdir()
    log.write_text(HEADER)
    assert spans.log_files(str(log), DataSettings(log=str(log))) == [str(log)]


def test_a_date_is_no_number_of_a_span(daily):
    log = daily(name="{number}/part-0.csv") + "/{SPAN}/*.csv"
    with pytest.raises(EventLogError, match="expected the number of a span, got 2026-03-01"):
        spans.log_files(log, DataSettings(log=log, last_span=dt.date(2026, 3, 1)))
