"""The same command again, unchanged and with other bounds: what is re-run and what is not."""

from tests.end_to_end.runs import STAGES, run


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
