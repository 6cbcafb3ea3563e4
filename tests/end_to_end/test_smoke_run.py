"""One pipeline run through the console command, looked at from all sides; then a killed one that goes on."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from amen_tf.config import Settings
from amen_tf.features import CANDIDATE, MOVELINE, FeatureContract
from amen_tf.signatures import TransformGraph, raw_feature_spec
from serving.client import RankClient, load_request
from serving.local_server import running_server

STAGES = 13
COMMAND = [sys.executable, "-m", "pipeline.cli", "run", "--preset", "smoke"]
TRAINERS = {"base": "auc", "baseline": "auc", "generator": "info_nce", "ctr": "tsp"}


def amen_run(root: pathlib.Path, *overrides: str) -> str:
    sets = [part for override in (f"run.root={root}", *overrides) for part in ("--set", override)]
    done = subprocess.run([*COMMAND, *sets], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="session")
def output(root):
    return amen_run(root)


@pytest.fixture(scope="session")
def run(root, output):
    return root / "amen-smoke"


@pytest.fixture(scope="session")
def report(run):
    return json.loads((run / "report.json").read_text())


@pytest.fixture(scope="session")
def version(run):
    [folder] = (run / "serving" / "amen").iterdir()
    return folder


@pytest.fixture(scope="session")
def contract(run):
    return FeatureContract.from_settings(Settings.load(run / "settings.yaml"))


@pytest.fixture(scope="session")
def examples(run):
    [folder] = (run / "artifacts" / "example_gen" / "examples").iterdir()
    files = sorted(str(path) for path in (folder / "Split-test").glob("*.gz"))
    found = list(tf.data.TFRecordDataset(files, compression_type="GZIP").as_numpy_iterator())
    assert len(found) >= 50
    return found[:50]


@pytest.fixture(scope="session")
def model(version):
    return tf.saved_model.load(str(version))


def columns_of(examples, contract) -> dict[str, tf.Tensor]:
    """What a client would send for these requests: dense columns, padded behind."""
    parsed = tf.io.parse_example(tf.constant(examples), raw_feature_spec(contract))
    fill = {"string": "", "int": 0, "float": float("nan")}
    sent = {}
    for column in (*contract.request_columns, *contract.moveline_columns, *contract.candidate_columns):
        dense = tf.sparse.to_dense(parsed[column.name], default_value=fill[column.kind])
        sent[column.name] = dense[:, 0] if column.scalar else dense
    return sent


def test_the_console_has_a_line_per_stage_and_no_noise(output, run):
    assert output.count("✓") == STAGES + 1, output  # and one for the log
    assert "Traceback" not in output and "WARNING" not in output and "tensorflow/core" not in output
    for expected in (
        "base (MEDN)",
        "AMEN",
        "oracle",
        "Gate: blessed",
        "amen serve",
        "amen rank",
        "tensorboard --logdir",
    ):
        assert expected in output
    [log] = (run / "logs").iterdir()
    assert str(log) in output.replace("\n", "") and log.stat().st_size > 1000


def test_the_report_has_the_figures_of_the_table(report, output):
    assert report["blessed"] and report["version"]
    for auc in report["auc"].values():
        assert 0 < auc < 1 and f"{auc:.4f}" in output
    assert report["test_impressions"] > 500


def test_one_whole_version_was_pushed(version, report):
    assert version.name == report["version"] and version.name.isdigit()
    assert (version / "saved_model.pb").is_file()
    extra = {path.name for path in (version / "assets.extra").iterdir()}
    assert {"settings.yaml", "model_spec.json", "weights.npz", "history.json"} <= extra


def test_every_trainer_writes_its_terms_for_tensorboard(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for trainer, term in TRAINERS.items():
        tags = {}
        for part in ("train", "validation"):
            events = EventAccumulator(str(run / "tensorboard" / trainer / part), size_guidance={"tensors": 0})
            tags[part] = set(events.Reload().Tags()["tensors"])
        assert {f"epoch_{term}", "epoch_loss"} <= tags["train"] & tags["validation"]
        assert {f"batch_{term}", "batch_loss"} <= tags["train"]


def test_all_signatures_are_exported(model):
    assert {"serving_default", "rank", "interest_flow", "transform_features"} <= set(model.signatures)


def test_parity_of_rank_and_serving_default(model, examples, contract):
    by_example = model.signatures["serving_default"](examples=tf.constant(examples))["probability"].numpy()
    columns = columns_of(examples, contract)
    by_column = model.signatures["rank"](**columns)["probability"].numpy()
    count = by_column.shape[1]
    np.testing.assert_allclose(by_column, by_example[:, :count], atol=1e-5)
    padding = columns[CANDIDATE + "item_id"].numpy() == b""
    assert (by_column[padding] == 0).all() and (by_column[~padding] > 0).all()
    assert (by_example[:, count:] == 0).all()


def test_parity_with_transform_and_the_trainers_model(run, version, model, examples):
    from amen_tf.config import CtrSettings
    from amen_tf.initialization import load_weights, named_weights
    from amen_tf.input import densify
    from amen_tf.models.ctr import CtrModel
    from amen_tf.spec import ModelSpec

    spec = ModelSpec.load(version / "assets.extra" / "model_spec.json")
    settings = Settings.load(run / "settings.yaml")
    [graph] = (run / "artifacts" / "transform" / "transform_graph").iterdir()
    [generator] = (run / "artifacts" / "generator" / "model").iterdir()
    raw = tf.io.parse_example(tf.constant(examples), raw_feature_spec(spec.contract))
    features = densify(TransformGraph(graph / "transform_fn")(raw))
    rebuilt = CtrModel(spec, CtrSettings(**settings.ctr.model_dump()), generator / "Format-Serving")
    rebuilt(features)
    weights = load_weights(version / "assets.extra" / "weights.npz")
    for name, weight in named_weights(rebuilt).items():
        weight.assign(weights[name])
    expected = tf.sigmoid(rebuilt(features)).numpy()
    served = model.signatures["serving_default"](examples=tf.constant(examples))["probability"].numpy()
    real = features["candidate_mask"].numpy()
    np.testing.assert_allclose(served[:, : expected.shape[1]][real], expected[real], atol=1e-5)


def test_n_candidates_are_n_single_calls(model, examples, contract):
    columns = columns_of(examples[:1], contract)
    names = [column.name for column in contract.candidate_columns]
    together = model.signatures["rank"](**columns)["probability"].numpy()[0]
    for i, probability in enumerate(together):
        single = {**columns, **{name: columns[name][:, i : i + 1] for name in names}}
        np.testing.assert_allclose(
            model.signatures["rank"](**single)["probability"].numpy(), [[probability]], atol=1e-5
        )


def test_strangers_and_new_items_get_finite_probabilities(model, examples, contract):
    columns = columns_of(examples[:1], contract)
    columns[CANDIDATE + "item_id"] = tf.constant([[f"never-seen-{i}" for i in range(5)]])
    columns[CANDIDATE + "category_id"] = tf.constant([["new"] * 5])
    for column in contract.moveline_columns:
        columns[column.name] = columns[column.name][:, :0]
    probability = model.signatures["rank"](**columns)["probability"].numpy()
    assert probability.shape == (1, 5) and np.isfinite(probability).all() and (probability > 0).all()


def test_the_flow_signature(model, examples, contract, run):
    columns = columns_of(examples, contract)
    shape = Settings.load(run / "settings.yaml").model
    sent = {name: c for name, c in columns.items() if name.startswith(MOVELINE) or name == "timestamp"}
    flow = model.signatures["interest_flow"](**sent)
    assert flow["flow"].shape == (len(examples), shape.flow_length, shape.dim)
    np.testing.assert_allclose(np.linalg.norm(flow["flow"], axis=-1), 1, atol=1e-4)
    assert (flow["diversity"].numpy() >= 0).all() and (flow["diversity"].numpy() <= 1).all()


def test_served_over_rest_and_ranked_by_the_client(run, model):
    request = load_request(run / "example_request.json")
    with running_server(run / "serving" / "amen") as server, RankClient(server.address) as client:
        probabilities = client.rank(request)
    assert len(probabilities) == len(request.candidates)
    assert ((probabilities > 0) & (probabilities < 1)).all()


def test_an_unchanged_second_run_is_cached_and_a_change_reruns_what_depends_on_it(root, run, version, report):
    again = amen_run(root)
    assert again.count("  cached  ") == STAGES - 1, again  # all but the Resolver, which only looks things up
    assert json.loads((run / "report.json").read_text())["auc"] == report["auc"]
    assert [path.name for path in (run / "serving" / "amen").iterdir()] == [version.name]

    refused = amen_run(root, "gate.min_auc=0.999")
    assert "not blessed" in refused and "auc" in refused
    assert refused.count("  cached  ") == STAGES - 3, refused  # Evaluator and Pusher run again, and nothing before them
    assert [path.name for path in (run / "serving" / "amen").iterdir()] == [version.name]


def test_a_killed_run_goes_on_to_the_same_result(tmp_path, report):
    """SIGKILL while the CTR model trains, as the machine's own shortage of memory would do it."""
    process = subprocess.Popen(
        [*COMMAND, "--set", f"run.root={tmp_path}"], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    for line in process.stdout:
        if "generator of the Next Interest Flow" in line:
            time.sleep(3)
            os.killpg(process.pid, signal.SIGKILL)
            break
    assert process.wait(timeout=60) == -signal.SIGKILL
    push = tmp_path / "amen-smoke" / "serving"
    assert not push.exists()
    output = amen_run(tmp_path)
    assert output.count("  cached  ") == 8, output
    resumed = json.loads((tmp_path / "amen-smoke" / "report.json").read_text())
    assert resumed["auc"] == report["auc"] and resumed["calibration"] == report["calibration"]
    assert [path.name for path in (push / "amen").iterdir()] == [resumed["version"]]
