"""Parts appear all at once, foreign files are left alone, settings are kept."""

import io

import pyarrow as pa
import pytest
from rich.console import Console

from pipeline.datasets.writer import EventWriter, write_settings
from pipeline.event_log.errors import EventLogError

ROWS = pa.table(
    {"user_id": ["u", "u", "v"], "request_id": ["r", "r", None], "label": pa.array([1, 0, None], pa.int8())}
)


def test_nothing_is_seen_of_an_unfinished_log(tmp_path):
    with pytest.raises(RuntimeError), EventWriter(tmp_path) as events:
        events.write(ROWS)
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_log_is_replaced_whole(tmp_path):
    for parts in (3, 1):
        with EventWriter(tmp_path) as events:
            for _ in range(parts):
                events.write(ROWS)
            events.write(ROWS.slice(0, 0))
        assert sorted(p.name for p in (tmp_path / "events").iterdir()) == [
            f"part-{i:05d}.parquet" for i in range(parts)
        ]
    summary = events.summary("Test", tmp_path / "settings.yaml", ("odd",))
    assert (summary.rows, summary.users, summary.requests, summary.impressions, summary.clicked) == (3, 2, 1, 2, 1)
    console = Console(file=io.StringIO(), width=200)
    console.print(summary)
    for text in (str(summary), console.file.getvalue()):
        assert "Test" in text and "2, 50.00% clicked" in text and "odd" in text


def test_foreign_files_are_not_touched(tmp_path):
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "mine.csv").write_text("x")
    with pytest.raises(EventLogError, match=r"not ours, for instance mine\.csv"), EventWriter(tmp_path):
        pass
    assert (tmp_path / "events" / "mine.csv").exists()


def test_changed_settings_are_kept_aside(tmp_path):
    path = write_settings(tmp_path, "x", {}, "A test.")
    write_settings(tmp_path, "x", {}, "A test.")
    assert not (tmp_path / "settings.yaml.bak").exists()
    path.write_text(path.read_text() + "seed: 5\n")
    write_settings(tmp_path, "x", {}, "A test.")
    assert "seed: 5" in (tmp_path / "settings.yaml.bak").read_text()
