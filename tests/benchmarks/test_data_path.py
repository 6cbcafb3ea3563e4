"""The benchmark of the data path: its logs are what their names say, it measures, and it judges as it says."""

import json

import pytest
from click.testing import CliRunner

from amen_tf.config import Settings
from benchmarks import data_path, event_logs
from benchmarks.data_path import Measured
from pipeline.event_log.check import check_log

GIB = 2**30
RUN = Measured(seconds=10.0, before=GIB, peak=2 * GIB, worker=0, shards=16)


@pytest.mark.parametrize("kind", event_logs.CSV_LOGS)
def test_logs_are_of_their_kind(kind, tmp_path):
    event_logs.write_csv_log(tmp_path, kind, 4000)
    settings = Settings.load(tmp_path / "settings.yaml")
    report = check_log(settings.data.log, settings.data)
    candidates, share = event_logs.CSV_LOGS[kind]
    assert (report.rows, report.bad_rows, report.files) == (4000, 0, 8)
    assert report.impressions == round(4000 * share) == report.requests * candidates
    assert report.largest_request == candidates
    assert report.median_events_per_user > 50


def test_a_log_that_is_there_is_left_alone(tmp_path):
    event_logs.write_csv_log(tmp_path, "one candidate", 1000)
    (tmp_path / "events" / "part-000.csv").unlink()
    event_logs.write_csv_log(tmp_path, "one candidate", 1000)
    assert not (tmp_path / "events" / "part-000.csv").exists()


def test_a_stage_is_measured_in_a_process_of_its_own(tmp_path):
    event_logs.write_csv_log(tmp_path, "ten candidates", 4000)
    measured = data_path.measure(data_path.OURS, tmp_path, 1)
    assert measured.shards == 16 and measured.worker == 0
    assert 0 < measured.seconds < 60 and measured.before <= measured.peak < 4 * GIB
    assert sorted(p.name for p in tmp_path.iterdir()) == ["events", "settings-with-times.yaml", "settings.yaml"]


def test_a_stage_that_fails_is_an_error_with_its_words(tmp_path):
    (tmp_path / "events").mkdir()
    (tmp_path / "settings.yaml").write_text(json.dumps({"data": {"log": str(tmp_path / "events")}}))
    (tmp_path / "settings-with-times.yaml").write_text((tmp_path / "settings.yaml").read_text())
    with pytest.raises(data_path.click.ClickException, match=r"(?s)ended with status 1.*fractions"):
        data_path.measure(data_path.OURS, tmp_path, 1)


def test_ratios_are_medians_of_rounds_and_decide_the_status(tmp_path, monkeypatch):
    # One odd round of three changes nothing; the third kind of log falls short of 10.
    seconds = {
        "one-candidate": {"moveline": [1, 1, 1], "csv": [4, 3.5, 0.1]},
        "ten-candidates": {"moveline": [1, 9, 1], "csv": [12, 12, 12]},
        "no-impressions": {"moveline": [2, 2, 2], "csv": [30, 18, 18]},
    }
    left = {kind: {stage: iter(values) for stage, values in of.items()} for kind, of in seconds.items()}

    def measure(stage, log, workers):
        return RUN._replace(seconds=next(left[log.name.rsplit("-", 1)[0]][stage]))

    monkeypatch.setattr(data_path, "measure", measure)
    done = CliRunner().invoke(
        data_path.main, ["throughput", "--rows", "1000", "--output", str(tmp_path)], standalone_mode=False
    )
    assert done.return_value == 1
    assert json.loads((tmp_path / "throughput.json").read_text())["ratios"] == {
        "one candidate": 3.5,
        "ten candidates": 12,
        "no impressions": 9,
    }


def test_growth_is_judged_by_the_longest_log():
    def of(rows, **changed):
        return {1_000_000: RUN, rows: RUN._replace(seconds=rows / 1e5, **changed)}

    assert data_path._faults(of(20_000_000)) == []
    assert data_path._faults(of(20_000_000, peak=int(2.3 * GIB))) == []
    assert data_path._faults(of(20_000_000, peak=3 * GIB)) == [
        "memory of the process: 1.50 times as much for 20,000,000 rows as for 1,000,000"
    ]
    slow = {1_000_000: RUN, 20_000_000: RUN._replace(seconds=300.0)}
    assert data_path._faults(slow) == ["a row of 20,000,000 takes more than 1.2 times as long as one of 1,000,000"]
    large = {rows: RUN._replace(peak=7 * GIB, seconds=rows / 1e5) for rows in (1_000_000, 20_000_000)}
    assert [fault.split(" take ")[0] for fault in data_path._faults(large)] == ["1,000,000 rows", "20,000,000 rows"]
    workers = {rows: RUN._replace(worker=w * GIB, seconds=rows / 1e5) for rows, w in ((10**6, 1), (10**7, 2))}
    assert data_path._faults(workers) == [
        "memory of the worker: 2.00 times as much for 10,000,000 rows as for 1,000,000"
    ]


def test_logs_are_simulated_to_size(tmp_path, monkeypatch):
    monkeypatch.setattr(data_path, "measure", lambda stage, log, workers: RUN)
    done = CliRunner().invoke(
        data_path.main, ["growth", "--events", "0.02,0.04", "--output", str(tmp_path)], standalone_mode=False
    )
    runs = json.loads((tmp_path / "growth.json").read_text())["runs"]
    few, many = map(int, runs)
    assert 15_000 < few < 25_000 and 30_000 < many < 50_000
    assert done.return_value == 0
