"""What is known of each span of a log: read once, summed up, and asked whether spans follow one another in time."""

import pathlib

import pytest

from amen_tf.config import DataSettings
from pipeline.event_log import spans_report
from pipeline.event_log.check import check_files, check_log
from pipeline.event_log.errors import EventLogError
from pipeline.event_log.spans_report import SpansReport

DAY = 86_400
HEADER = "user_id,timestamp,scene,behavior,item_id,label\n"


def rows_of(span, begin=None):
    begin = span * DAY if begin is None else begin
    shown = [f"u{n},{begin + 60 * n},feed,impression,i{n},{n % 2}" for n in range(1, 11)]
    return [f"u,{begin + 3},feed,visit,i,", *shown]


def write(folder, span, rows):
    (folder / f"{span}.csv").write_text(HEADER + "\n".join(rows) + "\n")


@pytest.fixture
def log(tmp_path):
    for span in range(20_000, 20_004):
        write(tmp_path, span, rows_of(span))
    return str(tmp_path / "{SPAN}.csv")


def settings(log, first=20_000, last=20_003, **data):
    return DataSettings(log=log, first_span=first, last_span=last, **data)


def test_a_span_is_read_once(log, tmp_path, monkeypatch):
    read = []

    def counted(log, files, data):
        read.extend(int(pathlib.Path(path).stem) for path in files)
        return check_files(log, files, data)

    monkeypatch.setattr(spans_report, "check_files", counted)
    first = SpansReport.of(log, settings(log), {})
    assert read == [20_000, 20_001, 20_002, 20_003] and list(first.known) == [str(span) for span in read]
    assert SpansReport.of(log, settings(log), first.known).known == first.known and len(read) == 4
    # The window moves on by a span, and one file changes.
    write(tmp_path, 20_004, rows_of(20_004))
    write(tmp_path, 20_002, rows_of(20_002)[:-1])
    moved = SpansReport.of(log, settings(log, 20_001, 20_004), first.known)
    assert read[4:] == [20_002, 20_004] and list(moved.known) == ["20001", "20002", "20003", "20004"]
    # Other names of columns are another log.
    SpansReport.of(log, settings(log, time_unit="seconds", max_candidates=2), first.known)
    assert len(read) == 10


def test_the_spans_together_are_the_log(log, tmp_path):
    write(tmp_path, 20_002, [*rows_of(20_002), ",1,feed,visit,i,", ",1,feed,visit,i,"])
    data = settings(log)
    found, whole = SpansReport.of(log, data, {}).whole(data), check_log(log, data)
    for figure in ("files", "rows", "bad_rows", "impressions", "clicked", "behaviors", "broken"):
        assert getattr(found, figure) == getattr(whole, figure)
    assert found.bad_rows == 2 and found.broken[0].count == 2


def test_whether_impressions_enter_as_clicks_is_settled_for_all(log, tmp_path):
    found = SpansReport.of(log, settings(log), {})
    assert found.impressions_as_clicks(settings(log)) == "always"
    assert found.impressions_as_clicks(settings(log, impressions_as_clicks="never")) == "never"
    write(tmp_path, 20_001, [*rows_of(20_001), f"u,{20_001 * DAY + 9},feed,click,i,"])
    assert SpansReport.of(log, settings(log), {}).impressions_as_clicks(settings(log)) == "never"


def test_numbered_spans_begin_with_their_first_impression_and_dates_at_midnight(log, tmp_path):
    assert SpansReport.of(log, settings(log), {}).begin(20_001) == 20_001 * DAY + 60
    write(tmp_path, 20_001, rows_of(20_001)[:1])
    with pytest.raises(EventLogError, match="span 20001, with which a split begins, has no labelled impressions"):
        SpansReport.of(log, settings(log), {}).begin(20_001)
    dated = tmp_path / "2026-11-20"
    dated.mkdir()
    (dated / "a.csv").write_text(HEADER + "\n".join(rows_of(0, 20_777 * DAY)) + "\n")
    log = f"{tmp_path}/{{YYYY}}-{{MM}}-{{DD}}"
    assert SpansReport.of(log, DataSettings(log=log, first_span="2026-11-20", last_span="2026-11-20"), {}).begin(
        20_777
    ) == (20_777 * DAY)


def test_impressions_that_come_late_move_no_border(log, tmp_path):
    late = rows_of(20_000)[1:2] * 3
    many = [f"w{n},{20_001 * DAY + 700 + n},feed,impression,i,0" for n in range(60)]
    write(tmp_path, 20_001, [*rows_of(20_001), *many, *late])
    # Earlier than all of the span before: these are few, and the begin lies behind that span all the same.
    write(tmp_path, 20_002, [*rows_of(20_002), *late])
    found = SpansReport.of(log, settings(log), {})
    found.require_ascending()
    begins = [found.begin(span) for span in range(20_000, 20_004)]
    assert begins == sorted(set(begins)) and begins[1] == 20_001 * DAY + 60
    assert 20_001 * DAY + 700 < begins[2] <= 20_002 * DAY + 600


def test_spans_must_follow_one_another_in_time(log, tmp_path):
    SpansReport.of(log, settings(log), {}).require_ascending()
    # A late row or two are let pass, and a span without impressions.
    write(tmp_path, 20_002, [*rows_of(20_002), *rows_of(20_001)[:3]])
    write(tmp_path, 20_003, rows_of(20_003)[:1])
    SpansReport.of(log, settings(log), {}).require_ascending()
    write(tmp_path, 20_002, rows_of(20_001))
    with pytest.raises(EventLogError, match="spans 20001 and 20002 overlap in time.*follow one another"):
        SpansReport.of(log, settings(log), {}).require_ascending()
