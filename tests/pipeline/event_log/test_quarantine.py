"""Bad rows put aside as CSV."""

import csv

from pipeline.event_log.quarantine import write_bad_rows
from pipeline.event_log.reader import read_batches
from pipeline.event_log.schema import BAD_SCHEMA


def test_what_was_put_aside_reads_back(tmp_path, write, settings):
    path = write("a.csv", ',1500000000,"a ""quoted"", scene",visit,i,,,', "short", "u,1500000000,s,visit,i,,,")
    batches = list(read_batches(path, settings(), batch_rows=1))
    target = tmp_path / "deep" / "bad.csv"
    assert write_bad_rows(str(target), (b.bad for b in batches)) == 2
    with open(target, newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "row", "column", "reason", "raw"]
    assert [(r["file"], r["row"], r["column"]) for r in rows] == [(path, "1", "user_id"), (path, "2", "")]
    assert 'a \\"quoted\\", scene' in rows[0]["raw"] and rows[1]["raw"] == "short"


def test_a_single_table_and_none_at_all(tmp_path):
    target = tmp_path / "bad.csv"
    assert write_bad_rows(str(target), BAD_SCHEMA.empty_table()) == 0
    assert target.read_text().strip() == "file,row,column,reason,raw"
    assert [p.name for p in tmp_path.iterdir()] == ["bad.csv"]
