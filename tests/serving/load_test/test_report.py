"""Figures, text and picture of a load test, from outcomes that are written out here."""

import math

import numpy as np

from serving.load_test.report import draw_latency, histogram_text, summarize
from serving.load_test.runner import Load, Outcome


def outcome(milliseconds, errors=None, elapsed=2.0, busy=0.1):
    latency = np.array(milliseconds, np.float64) / 1000
    errors = errors or [""] * len(latency)
    return Outcome(Load(rate=50, seconds=2), np.arange(len(latency)) / 50, latency, errors, elapsed, busy)


def test_figures():
    # 1 ... 101 ms: the k-th percentile is k + 1.
    summary = summarize(outcome(range(1, 102), elapsed=4.0))
    np.testing.assert_allclose([summary.p50, summary.p95, summary.p99, summary.longest], [51, 96, 100, 101])
    assert (summary.asked, summary.achieved, summary.answered, summary.errors) == (50, 101 / 4, 101, {})
    assert summarize(outcome([1.0] * 10, elapsed=1.9)).achieved == 5, "not above what was asked"


def test_failures_are_counted_by_kind():
    summary = summarize(outcome([5, math.nan, math.nan, math.nan], ["", "HTTP 503", "ReadTimeout", "HTTP 503"]))
    assert summary.errors == {"HTTP 503": 2, "ReadTimeout": 1} and summary.longest == math.inf
    text = summary.text()
    assert "4 sent or due, 1 answered, 3 failed" in text
    assert "50.0/s asked, 0.5/s achieved" in text
    assert "2 x HTTP 503" in text and "p50 failed" in text and "p99 failed" in text


def test_failures_are_the_slowest_of_all():
    # One of 50 fails: it is beyond the 95th percentile, and it is the 99th.
    summary = summarize(outcome([*range(1, 50), math.nan], [""] * 49 + ["ReadTimeout"]))
    assert (summary.p50, summary.p95) == (26, 48) and summary.p99 == summary.longest == math.inf
    assert "p95 48.0 ms, p99 failed, max failed" in summary.text()


def test_a_load_test_that_has_no_time_left_says_so():
    assert "careful" not in summarize(outcome([1.0, 2.0])).text()
    assert "the load test itself worked 97% of the time" in summarize(outcome([1.0, 2.0], busy=0.97)).text()


def test_histogram():
    # Three intervals between 1 and 1000 ms, each ten times as wide.
    lines = histogram_text(outcome([1, 2, 3, 20, 1000]), rows=3).splitlines()
    assert [line.split() for line in lines] == [
        ["1.0", "-", "10.0", "ms", "3", "#" * 40],
        ["10.0", "-", "100.0", "ms", "1", "#" * 14],
        ["100.0", "-", "1000.0", "ms", "1", "#" * 14],
    ]
    assert sum(int(line.split()[4]) for line in histogram_text(outcome([7, 7])).splitlines()) == 2


def test_without_an_answer(tmp_path):
    nothing = outcome([math.nan] * 3, ["ConnectError"] * 3)
    assert summarize(nothing).p50 == math.inf and "no request was answered" in histogram_text(nothing)
    draw_latency(nothing, tmp_path / "none.png")
    assert (tmp_path / "none.png").read_bytes().startswith(b"\x89PNG")


def test_picture(tmp_path):
    draw_latency(outcome([*range(1, 100), math.nan], [""] * 99 + ["HTTP 500"]), tmp_path / "latency.png")
    assert (tmp_path / "latency.png").read_bytes().startswith(b"\x89PNG")
