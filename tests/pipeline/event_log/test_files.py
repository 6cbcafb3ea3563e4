"""Finding files: what is taken, in which order, and what is said when nothing is there."""

import pytest

from pipeline.event_log.errors import EventLogError
from pipeline.event_log.files import list_files


@pytest.fixture
def folder(tmp_path):
    for name in ("b.csv", "a.csv.gz", "deep/c.CSV", "_SUCCESS", ".hidden.csv", "_tmp/d.csv", "notes.txt"):
        (tmp_path / "log" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "log" / name).write_text("x")
    return tmp_path / "log"


def test_folder_is_searched_in_depth_and_sorted(folder):
    assert list_files(str(folder)) == [str(folder / n) for n in ("a.csv.gz", "b.csv", "deep/c.CSV")]


def test_glob_and_single_file(folder):
    assert list_files(str(folder / "*.csv")) == [str(folder / "b.csv")]
    assert list_files(str(folder / "b.csv")) == [str(folder / "b.csv")]
    assert list_files(str(folder / "notes.txt"), "csv") == [str(folder / "notes.txt")]


def test_two_formats_in_one_folder_need_a_decision(folder):
    (folder / "e.parquet").write_text("x")
    with pytest.raises(EventLogError, match=r"several formats \(csv, parquet\).*data\.format"):
        list_files(str(folder))
    assert list_files(str(folder), "parquet") == [str(folder / "e.parquet")]


@pytest.mark.parametrize(
    ("log", "message"),
    [
        ("absent.csv", r"No such event log: absent\.csv .*folder of such files"),
        ("absent/deep.csv", r"folder absent does not exist"),
        ("*.nothing", r"No file matches \*\.nothing"),
    ],
)
def test_nothing_there(log, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EventLogError, match=message):
        list_files(log)


def test_empty_folder_says_what_was_looked_for(tmp_path):
    with pytest.raises(
        EventLogError, match=r"looked there and below for files ending in \.csv, \.csv\.gz, \.parquet, \.tfrecord"
    ):
        list_files(str(tmp_path))


def test_unknown_suffix(folder):
    with pytest.raises(EventLogError, match=r"notes\.txt: cannot tell the format.*data\.format"):
        list_files(str(folder / "notes.txt"))
