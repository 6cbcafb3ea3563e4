"""The end of a run: its report, its table, and the request that it leaves for `amen rank`."""

import io
import json

import pytest
import tensorflow as tf
from rich.console import Console

from amen_tf.config import Settings
from amen_tf.features import Feature, FeatureContract
from pipeline.datasets.simulator import oracle_auc
from pipeline.evaluation import Verdict
from pipeline.runners import summary as module
from pipeline.runners.layout import Layout
from pipeline.runners.local import StageResult
from pipeline.runners.prepare import prepare, simulation_folder
from pipeline.runners.summary import Summary, stage_detail, write_example_request
from serving.rank_request import load_request

NOW = 1_700_000_000
BASE = {"auc": 0.6, "calibration": 1.1, "weighted_example_count": 500.0}
AMEN = {"auc": 0.625, "calibration": 0.95, "weighted_example_count": 500.0}
COUNTS = {
    "rows": {"read": 12345, "quarantined": 2, "above_user_limit": 0, "duplicates": 1000},
    "splits": {"train": {"examples": 1000}},
}
BLESSED, REFUSED = Verdict(True, ()), Verdict(False, ("auc: 0.6250, expected at least 0.7",))


@pytest.fixture
def summary(tmp_path, monkeypatch):
    """`summary(verdict, amen, pushed)`: of a run over a log, whose Evaluators gave these figures."""

    def _summary(verdict, amen=AMEN, pushed=None):
        monkeypatch.setattr(module, "metrics", {"base": BASE, "amen": amen}.get)
        monkeypatch.setattr(module, "verdict", lambda folder: verdict)
        content = {"data": {"log": "log.csv"}, "run": {"root": str(tmp_path)}, "gate": {"min_auc": 0.7}}
        settings = Settings.parse(content, source="test")
        layout = Layout(settings)
        layout.folder.mkdir(exist_ok=True)
        (tmp_path / "report.json").write_text(json.dumps(COUNTS))
        results = {
            "example_gen": StageResult("example_gen", True, 0.0, {"examples": str(tmp_path)}),
            "transform": StageResult("transform", True, 0.04, {}),
            "evaluator_baseline": StageResult("evaluator_baseline", False, 2.0, {"evaluation": "base"}),
            "evaluator": StageResult("evaluator", False, 3.21, {"evaluation": "amen"}),
            "pusher": StageResult("pusher", True, 0.0, {}, pushed),
        }
        return Summary(settings, layout, results, 5.0)

    return _summary


def printed(summary):
    file = io.StringIO()
    summary.print(Console(file=file, width=200, soft_wrap=True, highlight=False))
    return file.getvalue()


def test_the_report_of_a_blessed_run(summary):
    made = summary(BLESSED, {**AMEN, "auc_diff": 0.0125}, "1234")
    made.write()
    assert json.loads(made.layout.report.read_text()) == {
        "name": "amen",
        "auc": {"base": 0.6, "amen": 0.625, "oracle": None},
        "calibration": {"base": 1.1, "amen": 0.95},
        "test_impressions": 500.0,
        "data": COUNTS,
        "generator": None,
        "initialization": {"generator": None, "ctr": None},
        "warm_start": {"base": None, "baseline": None, "generator": None, "ctr": None},
        "auc_change_to_last_blessed": 0.0125,
        "blessed": True,
        "reasons": [],
        "version": "1234",
        "seconds": {"example_gen": 0.0, "transform": 0.0, "evaluator_baseline": 2.0, "evaluator": 3.2, "pusher": 0.0},
        "cached": ["example_gen", "transform", "pusher"],
    }


def test_the_version_is_that_of_this_run_not_the_newest_in_the_folder(summary):
    made = summary(BLESSED, pushed="1234")
    (made.layout.push / "9999").mkdir(parents=True)
    assert made.to_dict()["version"] == "1234"
    assert f"{made.layout.push}/1234" in printed(made)


def test_the_table_and_the_next_commands(summary):
    text = printed(summary(BLESSED, {**AMEN, "auc_diff": -0.0125}, "1234"))
    assert "Test split: 500 impressions" in text
    for words in ("base (MEDN)", "0.6000", "0.6250", "+2.50 pt", "0.950", "-1.25 pt to the last blessed"):
        assert words in text, words
    assert "Gate: blessed" in text and "oracle" not in text
    for command in ("amen serve ", "amen rank ", "tensorboard --logdir "):
        assert command in text, command


def test_a_refused_model_is_not_served(summary):
    text = printed(summary(REFUSED))
    assert "not blessed, nothing was pushed" in text and "no blessed model before this one" in text
    assert "  auc: 0.6250, expected at least 0.7" in text
    assert "amen serve" not in text and "tensorboard --logdir" in text


def test_the_oracle_is_of_this_runs_simulation(tmp_path, summary):
    # An earlier run of the same name simulated another log, which lies beside this one.
    tiny = {"users": 30, "items": 40, "categories": 3, "days": 5, "requests_per_user": 5, "candidates": 4}
    runs = []
    for seed in (1, 2, 3):
        content = {"data": {"simulate": {**tiny, "seed": seed}}, "run": {"root": str(tmp_path)}}
        settings = Settings.parse(content, source="test")
        runs.append(prepare(settings, Layout(settings)).settings)
    made, found = summary(BLESSED), []
    for settings in runs:
        made.settings, made.layout = settings, Layout(settings)
        found.append(made.to_dict()["auc"]["oracle"])
        assert found[-1] == oracle_auc(simulation_folder(settings, made.layout), settings.split.eval_end)
    assert len(set(found)) == 3


def test_report_has_the_generators_figures_and_how_many_weights_were_copied(summary, tmp_path):
    made = summary(BLESSED)
    for stage in ("generator", "ctr"):
        extra = tmp_path / stage / "Format-Serving/assets.extra"
        extra.mkdir(parents=True)
        (extra / "initialization.json").write_text(json.dumps({"copied": ["a", "b"], "absent": ["c"]}))
        (extra / "generator.json").write_text(json.dumps({"hr@10_step_0": 0.25}))
        made.results[stage] = StageResult(stage, False, 1.0, {"model": str(tmp_path / stage)})
    report = made.to_dict()
    assert report["generator"] == {"hr@10_step_0": 0.25}
    assert report["initialization"] == {stage: {"copied": 2, "absent": 1} for stage in ("generator", "ctr")}


def test_details_of_stages(tmp_path):
    (tmp_path / "report.json").write_text(json.dumps(COUNTS))
    result = StageResult("example_gen", False, 1.0, {"examples": str(tmp_path)})
    assert stage_detail(result) == "12,345 rows (2 quarantined, 1,000 duplicates); requests: train 1,000"

    def trainer(history):
        path = tmp_path / "Format-Serving/assets.extra/history.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(history))
        return stage_detail(StageResult("t", False, 1.0, {"model": str(tmp_path), "model_run": "x"}))

    assert trainer({"val_auc": [0.5, 0.7, 0.6]}) == "eval AUC 0.7000"
    figures = {"hr@10_step_0": 0.125, "ndcg@10_step_0": 0.0625}
    (tmp_path / "Format-Serving/assets.extra/generator.json").write_text(json.dumps(figures))
    said = trainer({"val_info_nce": [4.0, 3.0], "val_accuracy": [0.1, 0.25]})
    ranks = ", HR@10 0.125, NDCG@10 0.062 of the whole catalogue"
    assert said == f"eval InfoNCE 3.000{ranks}"
    # What a warm start began with takes part; of equal ones the first is kept.
    assert trainer({"val_auc": [0.5, 0.7], "start_auc": [0.8]}) == "eval AUC 0.8000, start kept"
    assert trainer({"val_auc": [0.5, 0.7], "start_auc": [0.7]}) == "eval AUC 0.7000, start kept"
    assert trainer({"val_auc": [0.5, 0.7], "start_auc": [0.6]}) == "eval AUC 0.7000"
    assert trainer({"val_info_nce": [4.0, 3.0], "start_info_nce": [2.0]}) == f"eval InfoNCE 2.000, start kept{ranks}"
    assert trainer({"val_info_nce": [4.0, 3.0], "start_info_nce": [3.5]}) == f"eval InfoNCE 3.000{ranks}"
    assert stage_detail(StageResult("pusher", False, 1.0, {"pushed_model": "x"})) == ""
    assert stage_detail(StageResult("pusher", True, 1.0, {"pushed_model": "x"})) == ""


@pytest.mark.parametrize(
    ("report", "said"),
    [
        ({"version": "9", "was_there": False}, ""),
        ({"version": "9", "was_there": False, "removed": [], "kept": 2, "problem": ""}, ""),
        ({"was_there": False, "removed": ["1", "2"], "kept": 5, "problem": ""}, "removed 1, 2; versions kept: 5"),
        ({"was_there": False, "removed": [], "kept": 7, "problem": "no file"}, "versions kept: 7; no file"),
        ({"version": "9", "was_there": True}, "the same as version 9, which stays the newest"),
    ],
)
def test_the_pusher_says_what_it_removed(report, said, tmp_path):
    (tmp_path / "push.json").write_text(json.dumps(report))
    outputs = {"pushed_model": str(tmp_path)}
    assert stage_detail(StageResult("pusher", False, 1.0, outputs)) == said
    assert stage_detail(StageResult("pusher", True, 1.0, outputs)) == "", "an earlier run did that"


def test_trainers_say_what_they_started_from(tmp_path, summary):
    extra = tmp_path / "Format-Serving/assets.extra"
    extra.mkdir(parents=True)
    (extra / "history.json").write_text(json.dumps({"val_auc": [0.5, 0.7]}))
    start = {
        "model": "runs/ctr/model/9",
        "eval_end": 1704931200,
        "words": {"item_id": {"kept": 3, "new": 2, "gone": 1}},
    }
    result = StageResult("ctr", False, 1.0, {"model": str(tmp_path), "model_run": "x"})

    def said(**start):
        report = {"copied": ["a", "b"], "extended": [], "absent": [], "other_shape": []}
        (extra / "initialization.json").write_text(json.dumps({**report, **start}))
        return stage_detail(result)

    assert said() == "eval AUC 0.7000"
    assert said(warm_start=start) == "eval AUC 0.7000, warm from the run to 2024-01-11"
    # Borders need not lie at midnight.
    assert said(warm_start={**start, "eval_end": 1704931200 + 3660}).endswith("warm from the run to 2024-01-11 01:01")
    afresh = said(warm_start=start, absent=["c", "d"], other_shape=["e"])
    assert afresh == "eval AUC 0.7000, warm from the run to 2024-01-11, 3 weights afresh"
    # Of a cold start they are told in the report alone.
    assert said(absent=["c"]) == "eval AUC 0.7000"
    said(warm_start=start)
    made = summary(BLESSED)
    made.results["ctr"] = result
    assert made.to_dict()["initialization"]["ctr"] == {"copied": 2, "extended": 0, "absent": 0, "other_shape": 0}
    assert made.to_dict()["warm_start"]["ctr"]["words"] == start["words"]
    assert made.to_dict()["warm_start"]["base"] is None


def test_the_resolver_says_when_there_is_nothing_to_start_from():
    assert stage_detail(StageResult("warm_start", False, 0.0, {})) == "none yet: all models start afresh"
    assert stage_detail(StageResult("warm_start", False, 0.0, {"model": "x"})) == ""


CONTRACT = FeatureContract(
    5,
    2,
    (
        Feature("brand", "item", "categorical"),
        Feature("price", "candidate", "numeric"),
        Feature("segment", "user", "categorical"),
        Feature("budget", "context", "numeric"),
    ),
)


def example(user, events, candidates, **scalars):
    def text(*values):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[v.encode() for v in values]))

    feature = {
        "user_id": text(user),
        "timestamp": tf.train.Feature(int64_list=tf.train.Int64List(value=[NOW])),
        "scene": text("feed"),
        "moveline_timestamp": tf.train.Feature(int64_list=tf.train.Int64List(value=[NOW - 9] * events)),
        "candidate_price": tf.train.Feature(float_list=tf.train.FloatList(value=[1.5] * candidates)),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[0] * candidates)),
        **{f"moveline_{n}": text(*["é"] * events) for n in ("item_id", "category_id", "brand", "scene", "behavior")},
        **{f"candidate_{n}": text(*["b"] * candidates) for n in ("item_id", "category_id", "brand")},
        **{name: text(value) for name, value in scalars.items()},
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def test_the_example_request_is_one_that_amen_rank_reads(tmp_path):
    folder = tmp_path / "Split-test"
    folder.mkdir()
    with tf.io.TFRecordWriter(str(folder / "data.gz"), "GZIP") as writer:
        writer.write(example("cold", 0, 3))
        # The longest moveline among those with more than one candidate; a single one would rank nothing.
        writer.write(example("single", 9, 1))
        writer.write(example("shown", 2, 3, segment="gold"))
    path = tmp_path / "request.json"
    write_example_request(str(tmp_path), CONTRACT, path)
    content = json.loads(path.read_text(encoding="utf-8"))
    event = {"item_id": "é", "category_id": "é", "brand": "é", "scene": "é", "behavior": "é", "timestamp": NOW - 9}
    assert content == {
        "user_id": "shown",
        "timestamp": NOW,
        "scene": "feed",
        "user": {"segment": "gold"},
        "context": {},
        "moveline": [event] * 2,
        "candidates": [{"item_id": "b", "category_id": "b", "brand": "b", "price": 1.5}] * 3,
    }
    request = load_request(path)
    assert len(request.candidates) == 3 and request.moveline[0].item_id == "é"
