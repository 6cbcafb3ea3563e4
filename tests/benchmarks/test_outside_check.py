"""The outside check: what is handed over is what our models read, and the other's answer is taken as it is."""

import io
import json
import sys

import click
import numpy as np
import pytest
from rich.console import Console

from benchmarks import outside_check


def test_the_dump_is_the_same_rows_and_names_every_column(prepared, tmp_path):
    outside_check.dump(prepared, tmp_path)
    columns = json.loads((tmp_path / "columns.json").read_text())
    for split in ("train", "eval", "test"):
        table = getattr(prepared, split)
        with np.load(tmp_path / f"{split}.npz") as file:
            for name in file.files:
                np.testing.assert_array_equal(file[name], table.columns[name])
            named = {f"moveline_{f}" for f in columns["moveline_fields"]} | set(columns["request_fields"])
            named |= {f"candidate_{f}" for f in columns["candidate_fields"]} | {"label", "candidate_mask"}
            assert named <= set(file.files)
    assert columns["sizes"] == prepared.spec.sizes and set(columns["item_fields"]) <= set(columns["candidate_fields"])


def test_what_the_other_side_prints_last_is_its_answer(tmp_path, monkeypatch):
    script = tmp_path / "fuxictr_din.py"
    monkeypatch.setattr(outside_check, "OUTSIDE", tmp_path)
    script.write_text("import sys, json\nprint('noise')\nprint(json.dumps(sys.argv[1:]))\n")
    assert outside_check.run_theirs(sys.executable, "folder", 3, ["--epochs=9"]) == [
        *("folder", "--seed=3", f"--threads={outside_check.cores()}", "--epochs=9")
    ]
    script.write_text("import sys\nsys.exit('no such column: label')\n")
    with pytest.raises(click.ClickException, match="no such column: label"):
        outside_check.run_theirs(sys.executable, "folder", 3, [])


def test_ratios_and_differences_are_to_the_other_side():
    file = io.StringIO()
    theirs = {"auc_test": 0.7, "impressions_per_second": 1000.0, "parameters": 10}
    ours = {"auc_test": 0.704, "impressions_per_second": 2500.0, "parameters": 20}
    found = {outside_check.THEIRS: theirs, "amen_tf DIN": ours}
    outside_check.print_table(found, {"amen_tf DIN": outside_check.Asked(0.5, 2.0)}, "a log", Console(file=file))
    (line,) = [line for line in file.getvalue().splitlines() if "amen_tf DIN" in line]
    assert "+0.40" in line and "2,500" in line and "2.5" in line
    assert "All that is asked came out." in file.getvalue()


def test_what_is_asked_is_judged():
    theirs = {"auc_test": 0.7, "impressions_per_second": 1000.0}
    found = {
        outside_check.THEIRS: theirs,
        "amen_tf DIN": {"auc_test": 0.694, "impressions_per_second": 1990.0},
        "amen_tf AMEN": {"auc_test": 0.6, "impressions_per_second": None},
    }
    far, slow, unknown = outside_check.missed(found, outside_check.ONE_CANDIDATE)
    assert "DIN: test AUC -0.60 pt" in far and "DIN: 1.99 times the speed" in slow and "AMEN: nan times" in unknown
    found["amen_tf AMEN"]["impressions_per_second"] = 5000.0
    assert not outside_check.missed(found, outside_check.SEVERAL_CANDIDATES)
    found["amen_tf DIN"] = {"auc_test": 0.7049, "impressions_per_second": 2000.0}
    assert not outside_check.missed(found, outside_check.ONE_CANDIDATE)
