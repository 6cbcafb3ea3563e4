"""The same command again, unchanged and with other bounds: what is re-run and what is not."""

import json

from tests.end_to_end.runs import STAGES, run, start


def test_an_unchanged_run_is_cached_throughout_and_pushes_nothing(finished, root):
    again = run(root)
    assert again.status == 0 and again.err == ""
    assert again.rerun == set()
    assert again.out.count("  cached  ") == len(STAGES)
    assert again.pushed == finished.pushed
    same = ("auc", "calibration", "test_impressions", "blessed", "version", "auc_change_to_last_blessed")
    assert {name: again.report[name] for name in same} == {name: finished.report[name] for name in same}
    # Most of it is the start of Python and TensorFlow.
    assert again.seconds < 60 and again.seconds < finished.seconds / 2


def test_a_bound_that_is_missed_is_no_failure_and_pushes_nothing(finished, root):
    refused = run(root, "gate.min_auc=0.999")
    assert refused.status == 0
    # The gate is asked again, and with its new answer the Pusher; nothing before them.
    assert refused.rerun == {"evaluator", "pusher"}
    auc = f"{refused.report['auc']['amen']:.4f}"
    assert refused.report["auc"] == finished.report["auc"]
    assert not refused.report["blessed"] and refused.report["version"] is None
    assert refused.report["reasons"] == [f"auc: {auc}, expected at least 0.999"]
    assert "Gate: not blessed, nothing was pushed" in refused.out
    assert f"  auc: {auc}, expected at least 0.999" in refused.out.splitlines()
    assert "amen serve" not in refused.out
    assert refused.pushed == finished.pushed


def table2(root, output, *arguments):
    """`amen table2` on the log of the finished run."""
    process = start(root, command=("table2", "--output", str(output), *arguments))
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def test_table2_reads_the_runs_own_data_and_goes_on_where_it_ended(finished, root, tmp_path):
    prepared = [finished.folder / "artifacts" / stage for stage in ("example_gen", "transform")]
    before = [sorted(folder.glob("[!.]*/*")) for folder in prepared]
    status, out, err = table2(root, tmp_path, "--rows", "base,no_nif", "--seeds", "1")
    assert status == 0 and err == "", out + err
    assert "MEDN (base)" in out and "w/o Next Interest Flow" in out and out.count(" s  seed 1  ") == 2
    assert [sorted(folder.glob("[!.]*/*")) for folder in prepared] == before
    # Nothing that is no JSON, though one seed has no deviation.
    content = json.loads((tmp_path / "table2.json").read_text(), parse_constant=lambda name: 1 / 0)
    assert [line["row"] for line in content["lines"]] == ["base", "no_nif"]
    assert content["test_impressions"] == finished.report["test_impressions"]
    assert content["lines"][0]["deviation"]["auc"] is None and 0 < content["lines"][0]["mean"]["auc"] < 1
    assert (tmp_path / "table2.png").read_bytes().startswith(b"\x89PNG")
    again = table2(root, tmp_path, "--rows", "base,no_nif", "--seeds", "1")
    assert again[0] == 0 and again[1].count("   kept  seed 1  ") == 2


def test_table2_names_rows_that_there_are(finished, root, tmp_path):
    status, out, err = table2(root, tmp_path, "--rows", "base,no_flow")
    assert status == 2 and "got no_flow" in err and "no_nif" in err and "Traceback" not in out + err
