"""Files on Beam's file systems: found, told apart and read as local ones are; and what is said when that fails."""

import gzip
import io
import os
import pathlib
import sys

import pytest

from amen_tf.config import DataSettings
from pipeline.event_log import beam_files, spans, storage
from pipeline.event_log.errors import EventLogError
from pipeline.event_log.files import list_files
from tests.pipeline.event_log.remote import Shelf, Tree

NAMES = ("a.csv.gz", "b.csv", "deep/c.CSV", "deep/er/d.csv", "_SUCCESS", ".hidden.csv", "_tmp/d.csv", "deep/.x/e.csv")


@pytest.fixture(params=[Shelf, Tree])
def remote(request, tmp_path, monkeypatch):
    """(local folder, its remote address)."""
    monkeypatch.setattr(request.param, "root", tmp_path, raising=False)
    (tmp_path / "log").mkdir()
    return tmp_path / "log", f"{request.param.scheme()}://log"


def fill(folder, names=NAMES):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def below(paths, place):
    return [path.removeprefix(f"{place}/") for path in paths]


def test_a_folder_gives_the_same_files_as_locally(remote):
    folder, place = remote
    fill(folder)
    (folder / "empty.csv").touch()
    expected = below(storage.files_below(str(folder)), folder)
    assert expected == ["a.csv.gz", "b.csv", "deep/c.CSV", "deep/er/d.csv", "empty.csv"]
    assert below(storage.files_below(place), place) == expected
    assert below(storage.files_below(f"{place}/"), place) == expected
    assert storage.files_below(f"{place}/absent") is None and storage.files_below(f"{place}/b.csv") is None
    assert storage.files_below(f"{place}/empty.csv") is None
    assert below(list_files(place), place) == expected
    assert list_files(f"{place}/b.csv") == [f"{place}/b.csv"]


@pytest.mark.parametrize(
    "pattern",
    ["*.csv", "*", "**", "**/*.csv", "*/*.csv", "deep/**/*.csv", "?.csv", "[ab].csv*", ".*", "d*/c*", "deep/er/d.csv"],
)
def test_a_glob_finds_the_same_files_as_locally(pattern, remote):
    folder, place = remote
    fill(folder)
    found = below(storage.matching(f"{place}/{pattern}"), place)
    assert found == below(storage.matching(f"{folder}/{pattern}"), folder) and found


def test_spans_are_those_of_the_local_log(remote):
    folder, place = remote
    fill(folder, [f"2026-03-{day:02d}/{part}.csv" for day in (1, 2, 31) for part in ("a", "_b", "deep/c")])
    fill(folder, ["2026-02-30/a.csv", "other/a.csv"])
    for pattern in ("{YYYY}-{MM}-{DD}", "{YYYY}-{MM}-{DD}/*.csv", "**/{YYYY}-{MM}-{DD}/**"):
        there, here = spans.spans_of(f"{place}/{pattern}"), spans.spans_of(f"{folder}/{pattern}")
        assert {span: below(files, place) for span, files in there.items()} == {
            span: below(files, folder) for span, files in here.items()
        }
        assert len(there) == 3
    log = f"{place}/{{YYYY}}-{{MM}}-{{DD}}/*.csv"
    assert below(spans.log_files(log, DataSettings(log=log, last_span="2026-03-01")), place) == ["2026-03-01/a.csv"]


def test_content_is_what_is_stored_and_can_be_read_at_any_place(remote):
    folder, place = remote
    content = bytes(range(256)) * 1000
    (folder / "a.gz").write_bytes(gzip.compress(content))
    with storage.open_file(f"{place}/a.gz") as file:
        assert gzip.decompress(file.read()) == content
        assert file.seek(-4, io.SEEK_END) == file.tell() == (folder / "a.gz").stat().st_size - 4
        assert file.read() == len(content).to_bytes(4, "little")
    assert storage.size(f"{place}/a.gz") == (folder / "a.gz").stat().st_size
    with storage.local_copy(f"{place}/a.gz") as copy:
        assert pathlib.Path(copy).read_bytes() == (folder / "a.gz").read_bytes()
    assert not os.path.exists(copy)
    with storage.local_copy(str(folder / "a.gz")) as same:
        assert same == str(folder / "a.gz")


def test_the_fingerprint_changes_with_name_size_and_time(remote):
    folder, place = remote
    fill(folder, ["a.csv", "b.csv"])
    files = [f"{place}/a.csv", f"{place}/b.csv"]
    before = storage.fingerprint(files)
    assert storage.fingerprint(files) == before != storage.fingerprint(files[:1])
    os.utime(folder / "b.csv", (1, 1))
    changed = storage.fingerprint(files)
    assert changed != before
    (folder / "b.csv").write_text("longer than before")
    os.utime(folder / "b.csv", (1, 1))
    assert storage.fingerprint(files) != changed


def test_the_fingerprint_sees_a_local_edit_of_the_same_size_in_the_same_second(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("a")
    os.utime(path, ns=(10**18, 10**18))
    before = storage.fingerprint([str(path)])
    path.write_text("b")
    os.utime(path, ns=(10**18 + 1, 10**18 + 1))
    assert storage.fingerprint([str(path)]) != before
    os.utime(path, ns=(10**18, 10**18))
    assert storage.fingerprint([str(path)]) == before


def test_nothing_there(remote):
    _, place = remote
    with pytest.raises(EventLogError, match=r"No such event log: \w+://log/a\.csv\. Expected a file ending in"):
        list_files(f"{place}/a.csv")
    with pytest.raises(EventLogError, match=r"No file matches \w+://log/\*\.csv\. Check data\.log"):
        list_files(f"{place}/*.csv")
    with pytest.raises(EventLogError, match=r"log/a\.csv: its storage cannot be read .*not found"):
        storage.fingerprint([f"{place}/a.csv"])


def test_a_storage_that_refuses(remote, monkeypatch):
    folder, place = remote
    fill(folder)

    def refuse(*args, **kwargs):
        raise RuntimeError("403 Forbidden")

    for system in (Shelf, Tree):
        monkeypatch.setattr(system, "_list", refuse)
    for log in (place, f"{place}/*.csv"):
        with pytest.raises(EventLogError, match=r"its storage cannot be read .*403 Forbidden.*credentials"):
            list_files(log)
    for system in (Shelf, Tree):
        monkeypatch.setattr(system, "open", refuse)
    with pytest.raises(OSError, match="403 Forbidden"):
        storage.open_file(f"{place}/b.csv")


@pytest.mark.parametrize(("scheme", "extra", "client"), [("s3", "aws", "boto3"), ("hdfs", "hadoop", "hdfs")])
def test_a_scheme_whose_client_is_not_installed(scheme, extra, client, monkeypatch):
    monkeypatch.setitem(sys.modules, client, None)
    with pytest.raises(EventLogError, match=rf"{scheme}://b/a\.csv: .*Install apache-beam\[{extra}\], on every"):
        list_files(f"{scheme}://b/a.csv")


def test_hdfs_needs_its_options(monkeypatch):
    pytest.importorskip("hdfs")
    storage.configure([], "hdfs://log")
    with pytest.raises(EventLogError, match=r"hdfs_host is not set\)\. Its options go into run\.beam_options"):
        list_files("hdfs://log/a.csv")
    storage.configure(["--hdfs_host=h", "--hdfs_port=1", "--hdfs_user=u"], "hdfs://log")
    assert beam_files.system_of("hdfs://log").scheme() == "hdfs"
    storage.configure([], "hdfs://log")


def test_a_scheme_that_nobody_knows():
    with pytest.raises(EventLogError, match=r"no file system for file:// .*local path without a scheme, or one of gs"):
        list_files("file:///data/a.csv")
