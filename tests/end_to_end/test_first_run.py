"""What `amen run` leaves and shows, and that one model answers alike on every way to it."""

import collections
import json
import re

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from amen_tf.config import CtrSettings, Settings
from amen_tf.initialization import load_weights, named_weights
from amen_tf.input import densify
from amen_tf.models.ctr import CtrModel
from amen_tf.signatures import TransformGraph, raw_feature_spec
from amen_tf.spec import ModelSpec
from pipeline.datasets.auc import exact_auc
from pipeline.runners.console import TITLES
from serving.client import RankClient, load_request
from serving.local_server import running_server
from tests.end_to_end.raw import read_split, to_columns, values
from tests.end_to_end.runs import RESOLVERS, STAGES

# Sums of float32 in another order; the requirement is 1e-5.
CLOSE = {"rtol": 0, "atol": 1e-5}
EXTRA = "assets.extra"


# What the person sees


def test_one_line_for_every_stage_in_order(finished):
    lines = re.findall(r"^  ✓ +\d+\.\d s  (.*?)(?:  .*)?$", finished.out, re.MULTILINE)
    shown = [title for title in lines if title in TITLES.values()]
    assert lines == shown
    assert collections.Counter(lines) == collections.Counter(TITLES.values())
    # Side by side with them run those that nothing on the longest way waits for.
    longest = ("log", "example_gen", "transform", "base", "generator", "ctr", "evaluator", "pusher")
    order = [lines.index(TITLES[stage]) for stage in longest]
    assert order == sorted(order)
    assert lines.index(TITLES["validation"]) < lines.index(TITLES["base"])


def test_no_noise_on_the_console_and_all_of_it_in_the_log_file(finished):
    assert finished.err == ""
    assert not re.search(r"WARNING|INFO|Traceback|tensorflow/core|\bE0000|absl|beam", finished.out)
    log = re.search(r"TensorFlow's own messages: (\S+)", finished.out)[1]
    with open(log, encoding="utf-8") as file:
        assert "tensorflow" in file.read().lower()


def test_the_end_says_what_came_of_it(finished):
    figures = finished.report
    for words in (
        "none yet: all models start afresh",
        f"Test split: {int(figures['test_impressions']):,} impressions",
        f"{figures['auc']['base']:.4f}",
        f"{figures['auc']['amen']:.4f}",
        f"{figures['auc']['oracle']:.4f}",
        "Gate: blessed (no blessed model before this one",
        f"Pushed: {finished.version}",
        "amen serve ",
        "amen rank ",
        "tensorboard --logdir ",
    ):
        assert words in finished.out, words


def test_the_report(finished):
    figures = finished.report
    assert figures["name"] == "amen-smoke" and figures["cached"] == []
    assert set(figures["seconds"]) == {*STAGES, *RESOLVERS}
    assert set(figures["warm_start"].values()) == {None}
    assert all(0 <= figures["auc"][name] <= 1 for name in ("base", "amen"))
    # Nothing can beat the true probabilities but by luck, and the few steps here are none.
    assert figures["auc"]["oracle"] > 0.7
    assert figures["blessed"] and figures["reasons"] == [] and figures["auc_change_to_last_blessed"] is None


# What a run shows of its generator, at the end and by epoch (flow length 3).
SHOWN = {
    *(f"{figure}@10_step_{step}" for figure in ("hr", "ndcg") for step in range(3)),
    *(f"cosine_{what}" for what in ("flows", "heads", "items")),
    "similarity_auc_seen",
    "similarity_auc_unseen",
}


def test_the_report_has_the_generators_figures_and_what_was_copied(finished):
    generator, copied = finished.report["generator"], finished.report["initialization"]
    assert set(generator) == SHOWN
    assert all(0 <= value <= 1 for name, value in generator.items() if not name.startswith("cosine"))
    assert all(-1 <= value <= 1 for value in generator.values())
    assert copied["generator"]["copied"] > 0 and copied["ctr"]["copied"] > 0 and copied["ctr"]["extended"] > 0


# What lies in the folder


def test_one_whole_version_is_pushed(finished):
    assert finished.pushed == (finished.report["version"],)
    version = finished.version
    for name in ("saved_model.pb", "variables/variables.index"):
        assert (version / name).is_file(), name
    extra = {path.name for path in (version / EXTRA).iterdir()}
    assert {"model_spec.json", "settings.yaml", "weights.npz", "history.json"} <= extra
    history = json.loads((version / EXTRA / "history.json").read_text())
    assert {"loss", "cross_entropy", "tsp", "auc", "val_auc"} <= set(history)
    # Only the root may hold one: TFX's Pusher and TensorFlow Serving know no model inside a model.
    assert len(list(version.rglob("saved_model.pb"))) == 1


def test_the_settings_of_the_run_are_saved(finished):
    settings = Settings.load(finished.folder / "settings.yaml")
    assert settings.split.resolved and settings.data.max_candidates == 3 and settings.preset == "smoke"


def test_the_baseline_is_measured_and_never_blessed(finished):
    # A blessing of the baseline would make it the predecessor that AMEN has to beat.
    blessings = [path.name for path in finished.artifact("evaluator_baseline", "blessing").iterdir()]
    assert "BLESSED" not in blessings
    assert "BLESSED" in [path.name for path in finished.artifact("evaluator", "blessing").iterdir()]


TERMS = {
    "base": {"loss", "auc"},
    "baseline": {"loss", "auc"},
    "generator": {"loss", "info_nce", "diversity", "velocity", "accuracy"},
    "ctr": {"loss", "cross_entropy", "tsp", "auc"},
}


@pytest.mark.parametrize("trainer", TERMS)
def test_tensorboard_has_every_term_by_step_and_by_epoch(trainer, finished):
    curves = {}
    for part in ("train", "validation"):
        events = EventAccumulator(str(finished.folder / "tensorboard" / trainer / part))
        events.Reload()
        curves[part] = set(events.Tags()["tensors"])
    assert curves["train"] >= {f"epoch_{term}" for term in TERMS[trainer]}
    assert curves["train"] >= {f"batch_{term}" for term in TERMS[trainer]}
    assert curves["validation"] >= {f"epoch_{term}" for term in TERMS[trainer]}
    if trainer == "generator":
        assert curves["validation"] >= {f"epoch_{figure}" for figure in SHOWN}


def test_figures_2_and_3_are_images_in_tensorboard_and_files(finished):
    folder, names = finished.folder / "tensorboard" / "ctr", {"figure_2_alignment", "figure_3_calibration"}
    assert {path.stem for path in folder.rglob("*.png")} == names
    events = EventAccumulator(str(folder / "validation"), {"tensors": 0})
    events.Reload()
    # Images are kept as tensors: width, height and the PNG itself.
    for name in names:
        (event,) = events.Tensors(name)
        assert tf.io.decode_png(event.tensor_proto.string_val[2]).shape[0] > 100


def test_vocabularies_hold_what_the_training_splits_hold_and_no_more(finished, contract):
    # Fixed by counting: a word of eval or test alone, or a count from there, would change the order.
    transform = tft.TFTransformOutput(str(finished.artifact("transform", "transform_graph")))
    examples = finished.artifact("example_gen", "examples")

    def counts(*splits):
        found = collections.Counter()
        for split in splits:
            for serialized in read_split(examples, split):
                columns = values(serialized, contract)
                for name in ("moveline_item_id", "candidate_item_id", "future_item_id"):
                    found.update(word for word in columns[name] if word)
        return found

    words = transform.vocabulary_by_name("item_id")
    training, everything = counts("stage1", "stage2"), counts("stage1", "stage2", "eval", "test")
    assert set(words) == set(training)
    assert [training[word] for word in words] == sorted(training.values(), reverse=True)
    # That the test can fail: with all splits counted the order is another one.
    assert [everything[word] for word in words] != sorted(everything.values(), reverse=True)


# The exported model


@pytest.fixture(scope="module")
def served(finished):
    """The pushed version, loaded."""
    return tf.saved_model.load(str(finished.version))


@pytest.fixture(scope="module")
def spec(finished):
    return ModelSpec.load(finished.version / EXTRA / "model_spec.json")


@pytest.fixture(scope="module")
def contract(spec):
    return spec.contract


@pytest.fixture(scope="module")
def serialized(finished):
    """The test split's raw requests."""
    return read_split(finished.artifact("example_gen", "examples"), "test")


@pytest.fixture(scope="module")
def rank(served, contract):
    """`rank(*requests)`: probabilities `[B, N]` of the signature `rank` for requests as `values` gives them."""

    def _rank(*requests):
        return served.signatures["rank"](**to_columns(list(requests), contract))["probability"].numpy()

    return _rank


@pytest.fixture(scope="module")
def requests(serialized, contract):
    """The test split's requests as columns of values."""
    return [values(example, contract) for example in serialized]


def test_the_signatures(served):
    expected = {"serving_default", "rank", "rank_with_flow", "interest_flow", "transform_features"}
    assert set(served.signatures) == expected
    _, inputs = served.signatures["rank"].structured_input_signature
    # All inputs share dimension 0, which is what lets TensorFlow Serving batch them.
    assert {tuple(spec.shape) for spec in inputs.values()} == {(None,), (None, None)}
    assert {"timestamp", "scene", "moveline_item_id", "candidate_item_id", "candidate_position"} <= set(inputs)
    assert "user_id" not in inputs and "label" not in inputs


def test_the_same_requests_by_every_way(served, spec, contract, serialized, requests, rank, finished):
    sizes = [len(request["candidate_item_id"]) for request in requests]
    width = max(sizes)
    assert set(sizes) >= {2, 3} and 0 in {len(r["moveline_item_id"]) for r in requests}

    by_rank = rank(*requests)
    by_examples = served.signatures["serving_default"](examples=tf.constant(serialized))["probability"].numpy()

    # What the trainer had: Transform's own output folder, the generator's, and the model built from its parts.
    transform = tft.TFTransformOutput(str(finished.artifact("transform", "transform_graph")))
    graph = TransformGraph(transform.transform_savedmodel_dir)
    features = densify(graph(tf.io.parse_example(serialized, raw_feature_spec(contract))), width)
    settings = CtrSettings(**Settings.load(finished.folder / "settings.yaml").ctr.model_dump())
    model = CtrModel(spec, settings, finished.artifact("generator", "model") / "Format-Serving")
    model(features)
    weights, variables = load_weights(finished.version / EXTRA / "weights.npz"), named_weights(model)
    assert set(weights) == set(variables)
    for name, variable in variables.items():
        variable.assign(weights[name])
    by_hand = tf.sigmoid(model(features, training=False)).numpy()

    for row, size in enumerate(sizes):
        np.testing.assert_allclose(by_rank[row, :size], by_hand[row, :size], **CLOSE)
        np.testing.assert_allclose(by_examples[row, :size], by_hand[row, :size], **CLOSE)
        # Padding is no candidate: its probability is 0 on both ways.
        assert not by_rank[row, size:].any() and not by_examples[row, size:].any()
    # All alike would be equal too.
    assert np.std(by_rank[by_rank > 0]) > 1e-3


def test_the_gate_measured_this_model_on_the_test_split(rank, requests, finished):
    probability = rank(*requests)
    label = [(row, n, value) for row, r in enumerate(requests) for n, value in enumerate(r["label"])]
    scores = np.array([probability[row, n] for row, n, _ in label])
    labels = np.array([value for *_, value in label])
    assert len(labels) == finished.report["test_impressions"]
    # 10,000 thresholds make ties of scores within 1e-4.
    assert exact_auc(labels, scores) == pytest.approx(finished.report["auc"]["amen"], abs=5e-3)
    assert scores.sum() / labels.sum() == pytest.approx(finished.report["calibration"]["amen"], rel=1e-4)


def test_the_graph_optimizer_changes_nothing(finished, requests, contract):
    # A server optimises its graphs, Beam's Transform does not: an answer that depends on it is skew.
    # (A logarithm divided by a constant once moved ages of 2^k seconds to the bucket below.)
    before = tf.config.optimizer.get_experimental_options()["disable_meta_optimizer"]
    answers = []
    try:
        for disabled in (False, True):
            tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": disabled})
            signature = tf.saved_model.load(str(finished.version)).signatures["rank"]
            answers.append(signature(**to_columns(requests, contract))["probability"])
    finally:
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": before})
    np.testing.assert_allclose(*answers, **CLOSE)


def longest(requests):
    return max(requests, key=lambda request: len(request["moveline_item_id"]))


def test_a_candidate_is_scored_alike_among_1_and_among_50(rank, requests, contract):
    names = [column.name for column in contract.candidate_columns]
    rows = [row for r in requests for row in zip(*(r[name] for name in names), strict=True)][:50]
    request = longest(requests)
    many = rank({**request, **{name: [row[i] for row in rows] for i, name in enumerate(names)}})
    assert many.shape == (1, 50) and len(set(many[0])) > 1
    for place in (0, 7, 49):
        one = rank({**request, **{name: [rows[place][i]] for i, name in enumerate(names)}})
        np.testing.assert_allclose(one, many[:, place : place + 1], **CLOSE)


def test_a_request_is_scored_alike_alone_and_in_a_batch(rank, requests):
    some = [longest(requests), *requests[:7]]
    together = rank(*some)
    for row, request in enumerate(some):
        alone = rank(request)
        np.testing.assert_allclose(alone[0], together[row, : alone.shape[1]], **CLOSE)


def test_what_training_never_saw_still_gets_probabilities(rank, requests):
    request = longest(requests)
    size = len(request["candidate_item_id"])
    new = {**request, "candidate_item_id": [b"never"] * size, "candidate_category_id": [b"seen"] * size}
    strange = {**new, "scene": [b"a new scene"], "moveline_behavior": [b"sang"] * len(request["moveline_behavior"])}
    nobody = {**request, **{name: [] for name in request if name.startswith("moveline_")}}
    for case in (new, strange, nobody, {**nobody, "candidate_item_id": [b"never"] * size}):
        probability = rank(case)
        assert np.isfinite(probability).all()
        assert ((probability > 0) & (probability < 1)).all()
    assert not np.allclose(rank(nobody), rank(request), atol=1e-4)


def test_the_moveline_may_be_any_length_and_padded_anywhere(rank, requests, contract):
    # More events than the model reads, and gaps between them, as JSON clients send them.
    request = longest(requests)
    expected = rank(request)
    for column in contract.moveline_columns:
        gap = b"" if column.kind == "string" else 0
        request = {**request, column.name: [v for value in request[column.name] for v in (gap, value)] + [gap] * 9}
    np.testing.assert_allclose(rank(request), expected, **CLOSE)


def test_the_interest_flow(served, spec, contract, requests):
    columns = to_columns(requests[:9], contract)
    _, inputs = served.signatures["interest_flow"].structured_input_signature
    flow = served.signatures["interest_flow"](**{name: columns[name] for name in inputs})
    shape = spec.shape
    assert flow["flow"].shape == flow["velocity"].shape == (9, shape.flow_length, shape.dim)
    assert flow["diversity"].shape == (9, shape.flow_length)
    assert all(np.isfinite(value).all() for value in flow.values())
    np.testing.assert_allclose(np.linalg.norm(flow["flow"], axis=-1), 1, atol=1e-4)
    assert ((flow["diversity"].numpy() >= 0) & (flow["diversity"].numpy() <= 1)).all()


def test_transformed_features(served, serialized, requests):
    features = served.signatures["transform_features"](examples=tf.constant(serialized))
    sizes = [len(request["candidate_item_id"]) for request in requests]
    np.testing.assert_array_equal(features["candidate_weight"].numpy().sum(1), sizes)
    for row, request in enumerate(requests):
        np.testing.assert_array_equal(features["label"][row, : sizes[row]], request["label"])
    assert {len(value.shape) for value in features.values()} == {1, 2}


def test_the_server_answers_what_the_model_says(finished, rank, requests, contract):
    request = load_request(finished.folder / "example_request.json")
    turned = request.model_copy(update={"candidates": request.candidates[::-1]})
    with running_server(finished.version.parent, "amen") as server, RankClient(server.address, "amen") as client:
        answered, answered_turned = client.rank(request), client.rank(turned)
        status = server.status("amen")
    assert [str(record.version) for record in status] == [finished.report["version"]]
    wanted = [candidate.item_id.encode() for candidate in request.candidates]
    [same] = [
        r
        for r in requests
        if r["user_id"] == [request.user_id.encode()]
        and r["timestamp"] == [request.timestamp]
        and r["candidate_item_id"] == wanted
    ]
    np.testing.assert_allclose(answered, rank(same)[0], **CLOSE)
    assert len(set(answered)) == len(answered) > 1
    # In candidate order: turned round, the answer is turned round.
    np.testing.assert_allclose(answered_turned, answered[::-1], **CLOSE)
