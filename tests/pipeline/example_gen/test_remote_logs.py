"""The stage on logs and tables of Beam's file systems: the same files, byte for byte, as from local ones."""

import csv
import gzip
import io
import json

import pytest

from pipeline.cli import amen
from pipeline.event_log.errors import EventLogError
from tests.pipeline.event_log.remote import Shelf, Tree
from tests.pipeline.example_gen.logs import FEATURES, event
from tests.pipeline.example_gen.test_executor import (
    START,
    as_file,
    content,
    do,
    make_log,
    rules_of_files,
    run_pipeline,
    with_tables,
    write_csv,
    write_parquet,
    write_small_log,
)
from tests.pipeline.records import example, write_tfrecord


@pytest.fixture(params=[Shelf, Tree])
def remote(request, tmp_path, monkeypatch):
    """The remote address of the test's folder."""
    monkeypatch.setattr(request.param, "root", tmp_path, raising=False)
    return f"{request.param.scheme()}://"


def write_gzipped_csv(path, events):
    rows = [{k: "" if v != v else v for k, v in e.items()} for e in as_file(events)]
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(gzip.compress(text.getvalue().encode()))


def write_records(path, events):
    there = [{k: v for k, v in e.items() if v == v and v != "" and (k, v) != ("label", -1)} for e in events]
    write_tfrecord(path, [example(**e) for e in there])


WRITERS = {
    "csv": write_csv,
    "csv.gz": write_gzipped_csv,
    "parquet": write_parquet,
    "tfrecord": write_records,
    "tfrecord.gz": write_records,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_folder_of_files_gives_the_local_bytes(kind, tmp_path, remote):
    rules = rules_of_files(features=FEATURES)
    events = make_log(rules)
    (tmp_path / "log" / "deep").mkdir(parents=True)
    for number, start in enumerate(range(0, len(events), 150)):
        folder = "log/deep" if number % 2 else "log"
        WRITERS[kind](tmp_path / folder / f"part-{number}.{kind}", events[start : start + 150])
    (tmp_path / "log" / "_SUCCESS").touch()
    do(tmp_path / "log", rules, tmp_path / "local")
    do(f"{remote}log", rules, tmp_path / "remote")
    assert content(tmp_path / "remote") == content(tmp_path / "local")


def test_tables_bad_rows_and_the_report(tmp_path, remote):
    write_small_log(tmp_path / "log.csv")
    with (tmp_path / "log.csv").open("a") as file:
        file.write(f",{START},feed,cart,a,,,\n")
    rules = with_tables(
        tmp_path, ["item_id,brand,tags", "a,x,r|s"], ["u,30", "v,40"], bad_rows="quarantine", max_bad_share=0.5
    )
    do(tmp_path / "log.csv", rules, tmp_path / "local")
    tables = {"item_table": f"{remote}items.csv", "user_table": f"{remote}users"}
    features = [feature.model_dump() for feature in rules.data.features]
    there = rules_of_files(features=features, bad_rows="quarantine", max_bad_share=0.5, **tables)
    do(f"{remote}lo?.csv", there, tmp_path / "remote")
    expected = content(tmp_path / "local")
    expected["quarantine.csv"] = expected["quarantine.csv"].replace(f"{tmp_path}/".encode(), remote.encode())
    assert content(tmp_path / "remote") == expected


def test_the_driver_notices_a_change(tmp_path, remote):
    rules = rules_of_files()
    (tmp_path / "log").mkdir()
    write_parquet(tmp_path / "log" / "1.parquet", make_log(rules))
    assert [len(run_pipeline(f"{remote}log", rules, tmp_path / "root")) for _ in range(2)] == [1, 1]
    write_parquet(tmp_path / "log" / "2.parquet", [event(START + 2, "cart", "z")])
    assert len(run_pipeline(f"{remote}log", rules, tmp_path / "root")) == 2
    with pytest.raises(EventLogError, match=r"No such event log: \w+://other"):
        run_pipeline(f"{remote}other", rules, tmp_path / "root")


def test_a_damaged_file_is_named(tmp_path, remote):
    (tmp_path / "log.parquet").write_bytes(b"PAR1 and nothing more PAR1")
    with pytest.raises(EventLogError, match=r"\w+://log\.parquet: not a readable Parquet file"):
        do(f"{remote}log.parquet", rules_of_files(), tmp_path / "out")


def test_amen_check_reads_it(tmp_path, remote):
    write_small_log(tmp_path / "log.csv")
    with pytest.raises(SystemExit) as ended:
        amen(["check", f"{remote}log.csv", "--json", str(tmp_path / "report.json")])
    assert ended.value.code == 0
    assert json.loads((tmp_path / "report.json").read_text())["rows"] == 11


def test_amen_init_keeps_the_address(tmp_path):
    with pytest.raises(SystemExit) as ended:
        amen(["init", "gs://bucket/log", "--output", str(tmp_path / "settings.yaml")])
    assert ended.value.code == 0
    assert 'log: "gs://bucket/log"' in (tmp_path / "settings.yaml").read_text()
