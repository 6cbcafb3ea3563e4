"""The benchmark of serving, on the version that the first run pushed."""

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import serving


def test_every_request_is_timed_and_ratios_are_those_of_one_time(finished):
    found = serving.measure(finished.version, 2)
    rows = found["requests"]
    assert {serving.ONE, serving.WIDE, serving.REPEATED, "rank_with_flow, N = 500"} <= set(rows)
    over_rest = {name: row for name, row in rows.items() if serving.OVER_REST in name}
    assert [row["candidates"] for row in over_rest.values()] == [1, 500]
    assert all(row["json_request"] > 100 and row["json_reply"] > 20 for row in over_rest.values())
    assert rows[serving.ONE]["to_one"] == 1.0 and all(row["ms"] > 0 for row in rows.values())
    # The moveline is encoded once for the 500, and 500 times for the others; no bound of time holds on any machine.
    assert rows[serving.REPEATED]["ms"] > 3 * rows[serving.WIDE]["ms"]
    assert [len(scores) for scores in found["scores"].values()] == [1, 100, 500, 1000]
    assert np.ptp(found["scores"][serving.WIDE]) > 0
    serving.show("CPU", found)


def test_what_is_asked_and_missed_is_said():
    def verdict(wide, repeated):
        rows = {serving.ONE: 1.0, serving.WIDE: wide, serving.REPEATED: repeated}
        return serving.faults({"requests": {name: {"to_one": ratio} for name, ratio in rows.items()}})

    assert verdict(1.5, 30.0) == []
    assert verdict(1.6, 40.0) == ["rank, N = 500 takes 1.60 times as long as rank, N = 1, asked at most 1.5"]
    assert len(verdict(1.4, 20.0)) == 1 and "14.3 times as fast" in verdict(1.4, 20.0)[0]


@pytest.mark.parametrize(
    ("change", "gpus", "status", "said"),
    [
        (0.0, 1, 0, "GPU with XLA, rank, N = 1000: scores differ from the CPU's by 0.0e+00 at most"),
        (0.002, 1, 1, "Missed: GPU: rank, N = 1000: scores differ by 2.0e-03, asked at most 0.001"),
        (float("nan"), 1, 1, "Missed: GPU with XLA: rank, N = 1000: scores differ by nan"),
        (0.0, 0, 1, "TensorFlow sees no GPU here"),
    ],
)
def test_scores_of_a_gpu_are_held_against_the_cpus(finished, monkeypatch, change, gpus, status, said):
    """Without a GPU: what its process would have found is made up."""

    def measured(model, rounds, gpu=False, xla=False):
        ratios = {serving.ONE: 1.0, serving.WIDE: 1.2, serving.REPEATED: 50.0}
        row = {"ms": 1.0, "candidates": 1, "json_request": 0, "json_reply": 0}
        scores = {f"rank, N = {count}": [0.5] * count for count in (1, 100, 500, 1000)}
        scores["rank, N = 1000"][7] += change if gpu else 0.0
        return {
            "gpus": gpus if gpu else 0,
            "scores": scores,
            "requests": {name: {**row, "to_one": ratio} for name, ratio in ratios.items()},
        }

    monkeypatch.setattr(serving, "measure", measured)
    run = CliRunner().invoke(serving.main, [str(finished.version), "--gpu"], standalone_mode=False)
    assert said in " ".join(run.output.split()) or said in str(run.exception)
    assert (run.exception is not None or run.return_value != 0) == (status != 0)


def test_a_folder_that_is_no_pushed_version_is_refused(finished, tmp_path):
    run = CliRunner().invoke(serving.main, [str(tmp_path)])
    assert run.exit_code == 1 and "Give a version that `amen run` pushed" in run.output
    other = tmp_path / "newest"
    other.symlink_to(finished.version)
    run = CliRunner().invoke(serving.main, [str(other)])
    assert run.exit_code == 1 and "a folder with a number for a name" in run.output
