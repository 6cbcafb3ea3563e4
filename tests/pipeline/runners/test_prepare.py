"""Before the pipeline: the log is simulated and read once, and borders as fractions become times."""

import json
import pathlib

import pytest

from amen_tf.config import Settings
from pipeline.event_log import spans_report
from pipeline.event_log.errors import EventLogError
from pipeline.runners import prepare as module
from pipeline.runners.data_stages import of_last_run
from pipeline.runners.layout import Layout
from pipeline.runners.prepare import prepare

T = 1_700_000_000
TINY = {"users": 20, "items": 40, "categories": 3, "days": 3, "requests_per_user": 3, "candidates": 3}
HEADER = "user_id,timestamp,scene,behavior,item_id,category_id,label,request_id"
# Ten impressions a second apart: half of them lie before T + 5, eight tenths before T + 8.
ROWS = [f"u,{T + n},feed,impression,i{n},c,{n % 2}," for n in range(10)]


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("\n".join([HEADER, *ROWS]) + "\n")
    return path


@pytest.fixture
def reads(monkeypatch):
    """The calls that read the whole log, in order."""
    calls = []
    for name in ("check_log", "impression_time_quantiles"):
        real = getattr(module, name)

        def counted(*arguments, real=real, name=name):
            calls.append(name)
            return real(*arguments)

        monkeypatch.setattr(module, name, counted)
    return calls


def settings_for(tmp_path, log, **sections):
    content = {"data": {"log": str(log)}, "run": {"root": str(tmp_path / "runs")}}
    return Settings.parse({**content, **sections}, source="test")


def prepared(settings):
    return prepare(settings, Layout(settings))


def borders(settings):
    split = prepared(settings).settings.split
    return split.stage1_end, split.train_end, split.eval_end


def test_fractions_become_times(tmp_path, log):
    assert borders(settings_for(tmp_path, log)) == (T + 5, T + 8, T + 9)


def test_one_window_has_no_first_border(tmp_path, log):
    split = {"stage1_end": None, "train_end": 0.6, "eval_end": 0.8}
    assert borders(settings_for(tmp_path, log, split=split)) == (None, T + 6, T + 8)


def test_times_stay_and_the_log_is_only_checked(tmp_path, log, reads):
    split = {"stage1_end": T + 1, "train_end": T + 2, "eval_end": T + 3}
    assert borders(settings_for(tmp_path, log, split=split)) == (T + 1, T + 2, T + 3)
    assert reads == ["check_log"]


def test_an_unchanged_log_is_not_read_again(tmp_path, log, reads):
    settings = settings_for(tmp_path, log)
    first = prepared(settings)
    assert len(reads) == 2
    assert prepared(settings) == first
    assert len(reads) == 2


def test_what_does_not_concern_the_log_does_not_read_it_again(tmp_path, log, reads):
    prepared(settings_for(tmp_path, log))
    again = prepared(settings_for(tmp_path, log, base={"epochs": 9}))
    assert len(reads) == 2
    assert again.settings.base.epochs == 9 and again.settings.split.train_end == T + 8


def test_a_changed_log_is_read_again(tmp_path, log, reads):
    settings = settings_for(tmp_path, log)
    prepared(settings)
    with open(log, "a") as file:
        file.write("".join(f"u,{T + n},feed,impression,i{n},c,{n % 2},\n" for n in range(10, 20)))
    assert borders(settings) == (T + 10, T + 16, T + 18)
    assert len(reads) == 4


def test_a_new_file_in_the_folder_is_a_changed_log(tmp_path, log, reads):
    settings = settings_for(tmp_path, tmp_path / "*.csv")
    prepared(settings)
    (tmp_path / "more.csv").write_text(f"{HEADER}\nu,{T + 30},feed,impression,x,c,1,\n")
    prepared(settings)
    assert len(reads) == 4


@pytest.mark.parametrize("sections", [{"split": {"train_end": 0.7}}, {"data": {"positive_behaviors": ["cart"]}}])
def test_changed_settings_of_the_log_read_it_again(tmp_path, log, reads, sections):
    prepared(settings_for(tmp_path, log))
    if "data" in sections:
        sections = {"data": {**sections["data"], "log": str(log)}}
    prepared(settings_for(tmp_path, log, **sections))
    assert len(reads) == 4


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "the event log is empty"),
        ([row.replace(",1,", ",0,") for row in ROWS], "all 10 impressions have label 0"),
        ([row.replace(",feed,", ",,") for row in ROWS], "all 10 rows break a rule"),
        ([*ROWS, f",{T},feed,impression,i,c,1,"], "row 11, column `user_id`: no user"),
    ],
)
def test_a_bad_log_stops_here_and_leaves_nothing_behind(tmp_path, log, rows, message):
    log.write_text("\n".join([HEADER, *rows]) + "\n")
    settings = settings_for(tmp_path, log)
    for _ in range(2):
        # Twice: the first failure must not be taken for a finished preparation.
        with pytest.raises(EventLogError, match=message):
            prepared(settings)
    assert not Layout(settings).prepared.exists() and not Layout(settings).settings.exists()


def test_the_settings_that_are_saved_are_those_of_the_run(tmp_path, log):
    settings = settings_for(tmp_path, log)
    made = prepared(settings)
    saved = Settings.load(Layout(settings).settings)
    assert saved == made.settings and saved.split.resolved


def test_a_simulated_log_is_made_once(tmp_path):
    settings = Settings.parse({"data": {"simulate": TINY}, "run": {"root": str(tmp_path)}}, source="test")
    layout = Layout(settings)
    # What a process leaves that was killed while it simulated.
    partial = layout.data / "tmp.0123"
    (partial / "events").mkdir(parents=True)
    first = prepare(settings, layout)
    files = {p: p.stat().st_mtime_ns for p in layout.data.rglob("*.parquet")}
    assert prepare(settings, layout) == first
    assert {p: p.stat().st_mtime_ns for p in layout.data.rglob("*.parquet")} == files
    assert first.log.startswith(str(layout.data)) and "tmp." not in first.log

    other = Settings.parse({"data": {"simulate": {**TINY, "seed": 5}}, "run": {"root": str(tmp_path)}}, source="test")
    second = prepare(other, layout)
    assert second.log != first.log and second.settings.split != first.settings.split


def test_a_simulation_that_was_killed_is_made_anew(tmp_path):
    settings = Settings.parse({"data": {"simulate": TINY}, "run": {"root": str(tmp_path)}}, source="test")
    layout = Layout(settings)
    whole = prepare(settings, layout)
    folder = next(p for p in layout.data.iterdir())
    # As it looks when the process dies half way: under its temporary name, with files that are cut off.
    partial = folder.rename(layout.data / f"tmp.{folder.name}")
    for path in partial.rglob("*.parquet"):
        path.write_bytes(path.read_bytes()[:100])
    layout.prepared.unlink()
    again = prepare(settings, layout)
    assert again == whole
    assert [p.name for p in layout.data.iterdir()] == [folder.name]


def test_what_is_known_is_written_in_one_step(tmp_path, log):
    settings = settings_for(tmp_path, log)
    prepared(settings)
    layout = Layout(settings)
    assert set(json.loads(layout.prepared.read_text())) == {"key", "borders"}
    assert not list(layout.folder.glob("*.tmp"))


def test_the_window_of_a_log_in_spans_moves_on(tmp_path, monkeypatch):
    day, reads = 86_400, []
    real = spans_report.check_files

    def counted(log, files, data):
        reads.extend(pathlib.Path(path).stem for path in files)
        return real(log, files, data)

    monkeypatch.setattr(spans_report, "check_files", counted)
    (tmp_path / "log").mkdir()

    def write(span):
        rows = [f"u,{span * day + n},feed,impression,i{n},c,{n % 2}," for n in range(10)]
        (tmp_path / "log" / f"{span}.csv").write_text("\n".join([HEADER, *rows]) + "\n")

    for span in range(20_000, 20_006):
        write(span)
    split = {"spans": {"history": 1, "stage1": 1, "stage2": 1, "eval": 1, "test": 1}}
    settings = settings_for(tmp_path, tmp_path / "log" / "{SPAN}.csv", split=split)
    first = prepared(settings).settings
    assert (first.data.first_span, first.data.last_span) == (20_001, 20_005)
    assert first.split.start == 20_002 * day and first.split.eval_end == 20_005 * day
    assert prepared(settings).settings == first and reads == ["20001", "20002", "20003", "20004", "20005"]
    assert first.data.impressions_as_clicks == "always"
    # What was written of the run names the spans, and means the same when they are no longer the newest.
    write(20_006)
    again = Settings.load(Layout(settings).settings)
    assert prepared(again).settings.split == first.split
    # Nor has the last run been trained on what came in since.
    assert prepared(of_last_run(settings)).settings.split == first.split
    assert prepared(settings).settings.data.last_span == 20_006
    # Of all these runs each span is read once.
    assert reads == ["20001", "20002", "20003", "20004", "20005", "20006"]
    assert of_last_run(settings).split.spans.newest == 20_006
    assert of_last_run(settings_for(tmp_path, tmp_path / "log" / "20006.csv")).split.spans is None
