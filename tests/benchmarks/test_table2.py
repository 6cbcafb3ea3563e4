"""The table: means, paired differences and intervals by hand; what is printed and drawn."""

import io

import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from amen_tf import metrics
from benchmarks.rows import RowResult
from benchmarks.table2 import print_table, summarise, write_picture

rng = np.random.default_rng(0)
USER = np.repeat(np.arange(60), 5)
LABEL = (rng.random(300) < 0.4).astype(int)


def result(row, seed, noise, rate=1000.0):
    scores = 1 / (1 + np.exp(-(LABEL + noise * np.random.default_rng([seed, len(row)]).normal(size=300))))
    return RowResult(
        row, seed, metrics.summary(LABEL, scores, USER), 0.7, 2, 5000, 300 if row == "amen" else 0, rate, {}, scores
    )


@pytest.fixture(scope="module")
def lines():
    results = {(row, s): result(row, s, noise) for row, noise in (("base", 2.0), ("amen", 1.0)) for s in (1, 2)}
    results["din", 1] = result("din", 1, 3.0)
    return results, summarise(results, ("din", "base", "amen", "no_tsp"), (1, 2), LABEL, USER, 200)


def test_means_deviations_and_differences_are_paired_by_seed(lines):
    results, (din, base, amen) = lines
    aucs = {key: r.figures["auc"] for key, r in results.items()}
    assert base.seeds == (1, 2) and base.difference is None and base.interval is None
    assert base.mean["auc"] == pytest.approx((aucs["base", 1] + aucs["base", 2]) / 2)
    assert base.deviation["auc"] == pytest.approx(abs(aucs["base", 1] - aucs["base", 2]) / 2**0.5)
    differences = [aucs["amen", s] - aucs["base", s] for s in (1, 2)]
    assert amen.difference == pytest.approx(np.mean(differences))
    assert amen.interval.low < amen.difference < amen.interval.high and amen.interval.low > 0
    # One seed of DIN pairs with the same seed of the base.
    assert din.seeds == (1,) and np.isnan(din.deviation["auc"])
    assert din.difference == pytest.approx(aucs["din", 1] - aucs["base", 1])


def test_rows_that_were_not_trained_are_left_out(lines):
    assert [line.row for line in lines[1]] == ["din", "base", "amen"]


def test_the_printed_table_has_every_figure_uncut(lines):
    file = io.StringIO()
    print_table(lines[1], "a log", Console(file=file, width=60))
    text = file.getvalue()
    amen = lines[1][2]
    (line,) = [line for line in text.splitlines() if "AMEN" in line]
    assert f"{100 * amen.difference:+.2f}" in line and f"{100 * amen.interval.low:+.2f} to" in line
    for name in ("auc", "gauc_impression_weighted", "gauc_user_mean", "log_loss"):
        assert f"{amen.mean[name]:.4f} ± {amen.deviation[name]:.4f}" in line
    assert f"{amen.mean['calibration']:.3f} ± {amen.deviation['calibration']:.3f}" in line
    # There is one seed of DIN.
    assert not [line for line in text.splitlines() if "DIN" in line and "±" in line]
    assert "5,000 + 300 frozen" in line and "1,000" in line and "ours" in line
    assert "…" not in text


def test_the_picture_is_drawn(lines, tmp_path):
    write_picture(lines[1], "a log", tmp_path / "table2.png")
    drawn = tf.io.decode_png((tmp_path / "table2.png").read_bytes()).numpy()
    assert min(drawn.shape[:2]) > 100 and len(np.unique(drawn.reshape(-1, drawn.shape[-1]), axis=0)) > 10
