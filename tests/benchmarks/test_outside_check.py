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


SCRIPT = """import json, sys
print("noise", flush=True)
print(json.dumps(sys.argv[1:]), flush=True)
for line in sys.stdin:
    if float(line) < 0:
        sys.exit("no such lap")
    print(100 * float(line), flush=True)
"""


def test_the_other_side_trains_once_and_then_a_lap_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(outside_check, "OUTSIDE", tmp_path)
    (tmp_path / "fuxictr_din.py").write_text(SCRIPT)
    with outside_check.theirs(sys.executable, "folder", 3, ["--epochs=9"]) as answer:
        assert answer() == ["folder", "--seed=3", f"--threads={outside_check.cores()}", "--epochs=9"]
        assert [answer(2.0), answer(0.5)] == [200.0, 50.0]
        with pytest.raises(click.ClickException, match="no such lap"):
            answer(-1.0)


def test_an_error_of_the_other_side_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(outside_check, "OUTSIDE", tmp_path)
    (tmp_path / "fuxictr_din.py").write_text("import sys\nsys.exit('no such column: label')\n")
    said = pytest.raises(click.ClickException, match="no such column: label")
    with said, outside_check.theirs(sys.executable, "folder", 3, []) as answer:
        answer()


def test_all_take_their_turn_in_every_round():
    order = []

    def lap(name):
        order.append(name)
        return len(order)

    speeds = outside_check.by_turns({name: lambda name=name: lap(name) for name in ("theirs", "ours")})
    assert order == ["theirs", "ours"] * outside_check.LAPS
    assert speeds["theirs"] == list(range(1, 2 * outside_check.LAPS, 2)) and speeds["ours"][0] == 2


def test_a_lap_of_ours_trains_on(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(outside_check, "ROWS", ("din",))
    settings = prepared.settings
    whole = settings.model_copy(update={"ctr": settings.ctr.model_copy(update={"window": "train"})})
    ((name, figures, lap),) = outside_check.ours(prepared._replace(settings=whole), tmp_path, 1)
    fitted = lap.args[0]
    before = [w.copy() for w in fitted.model.get_weights()]
    assert name == "amen_tf DIN" and 0 < figures["auc_test"] < 1
    assert lap() > 0
    assert any((old != new).any() for old, new in zip(before, fitted.model.get_weights(), strict=True))


def test_ratios_are_those_of_the_middle_lap_and_differences_to_the_other_side():
    file = io.StringIO()
    theirs = {"auc_test": 0.7, "laps": [1000.0, 500.0, 2000.0], "parameters": 10}
    ours = {"auc_test": 0.704, "laps": [2500.0, 2000.0, 2500.0], "parameters": 20}
    found = {outside_check.THEIRS: theirs, "amen_tf DIN": ours}
    outside_check.print_table(found, "a log", Console(file=file))
    (line,) = [line for line in file.getvalue().splitlines() if "amen_tf DIN" in line]
    assert "+0.40" in line and "2,500" in line and "2.50" in line


def test_what_is_asked_is_judged():
    theirs = {"auc_test": 0.7, "laps": [1000.0]}
    found = {
        outside_check.THEIRS: theirs,
        "amen_tf DIN": {"auc_test": 0.694, "laps": [1990.0]},
        "amen_tf AMEN": {"auc_test": 0.6, "laps": [float("nan")]},
    }
    far, slow, unknown = outside_check.missed(found, outside_check.ONE_CANDIDATE)
    assert "DIN: test AUC -0.60 pt" in far and "DIN: 1.99 times the speed" in slow and "AMEN: nan times" in unknown
    found["amen_tf AMEN"]["laps"] = [5000.0]
    assert not outside_check.missed(found, outside_check.SEVERAL_CANDIDATES)
    found["amen_tf DIN"] = {"auc_test": 0.7049, "laps": [2000.0]}
    assert not outside_check.missed(found, outside_check.ONE_CANDIDATE)
