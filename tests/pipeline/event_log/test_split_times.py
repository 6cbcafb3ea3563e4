"""Fractions of the impressions -> times."""

import numpy as np
import pytest

from pipeline.event_log.errors import EventLogError
from pipeline.event_log.split_times import borders, impression_time_quantiles

T = 1_500_000_000


def test_share_before_each_border(write, settings):
    # Ten impressions a second apart, out of order and in two files; events do not count.
    rows = [f"u,{T + t},feed,impression,i,c,{t % 2}," for t in (7, 2, 9, 0, 4, 1, 8, 3, 6, 5)]
    write("log/a.csv", *rows[:5], *[f"u,{T + 2},feed,visit,i,c,,"] * 50)
    log = write("log/b.csv", *rows[5:]).rpartition("/")[0]
    assert impression_time_quantiles(log, settings(), [0.5, 0.8, 0.9]) == [T + 5, T + 8, T + 9]


def test_ties_take_the_nearest_share():
    # Shares before 2, 3 and 4: .1, .7 and .9.
    times = np.array([1] + [2] * 6 + [3] * 2 + [4])
    assert borders(times, [0.5, 0.85], "log") == [3, 4]
    assert borders(times, [0.3, 0.75], "log") == [2, 3]


def test_random_times_come_near():
    times = np.random.default_rng(0).integers(0, 10**6, 10_000)
    fractions = [0.5, 0.8, 0.9]
    found = borders(times, fractions, "log")
    assert found == sorted(set(found))
    np.testing.assert_allclose([(times < b).mean() for b in found], fractions, atol=1e-3)


@pytest.mark.parametrize("times", [[5], [5, 5, 5], [5, 6], [5, 6, 7], [1] * 99 + [2, 3, 4, 5]])
def test_too_few_distinct_times(times):
    with pytest.raises(EventLogError, match=r"too few distinct times.*split\.train_end"):
        borders(np.array(times), [0.5, 0.8, 0.9], "log")


def test_no_impressions(write, settings):
    with pytest.raises(EventLogError, match="no labelled impressions"):
        impression_time_quantiles(write("a.csv", f"u,{T},feed,visit,i,c,,"), settings(), [0.5])


def test_bad_rows_stop_or_are_left_out(write, settings):
    rows = [f"u,{T + t},feed,impression,i,c,0," for t in range(10)]
    log = write("a.csv", *rows, f"u,{T},feed,impression,i,c,7,")
    with pytest.raises(EventLogError, match="row 11, column `label`"):
        impression_time_quantiles(log, settings(), [0.5])
    assert impression_time_quantiles(log, settings(bad_rows="quarantine"), [0.5]) == [T + 5]
