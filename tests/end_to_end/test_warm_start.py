"""The window moves on and all models start from the last blessed ones: trained no further, they answer alike."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from amen_tf.initialization import load_weights
from amen_tf.spec import ModelSpec
from pipeline.trainers.earlier_model import EarlierModel
from tests.end_to_end.raw import read_split, to_columns, values
from tests.end_to_end.runs import STAGES, run

TRAINERS = ("base", "baseline", "generator", "ctr")
MOVED_ON = ("split.stage1_end=0.55", "split.train_end=0.85", "split.eval_end=0.95")
# Steps too small to change a float32.
STANDING = [f"{t}.{s}" for t in TRAINERS if t != "baseline" for s in ("epochs=1", "learning_rate=1e-30")]
STANDING += [f"{t}.weight_decay=0" for t in TRAINERS if t != "baseline"]


@pytest.fixture(scope="module")
def moved_root(finished, tmp_path_factory):
    """A root whose metadata know of the finished run: what is run here, the other tests of this folder do not see."""
    root = tmp_path_factory.mktemp("moved")
    (root / finished.folder.name).mkdir()
    shutil.copy(finished.folder / "metadata.sqlite", root / finished.folder.name)
    return root


@pytest.fixture(scope="module")
def moved(moved_root):
    """The run of the next window."""
    made = run(moved_root, *MOVED_ON, *STANDING)
    assert made.status == 0, made.out + made.err
    return made


@pytest.fixture(scope="module")
def earlier(moved, finished):
    """What the CTR model started from: of the finished run, or of one that another test has made of its window."""
    model = EarlierModel(moved.report["warm_start"]["ctr"]["model"])
    assert model.folder.parents[1] == finished.folder / "artifacts" / "ctr" / "model"
    return model


def test_every_trainer_says_that_it_started_warm(moved, earlier, finished):
    assert moved.out.count(", warm from the run to 20") == len(TRAINERS) and "afresh" not in moved.out
    told = moved.report["warm_start"]
    assert {told[name]["eval_end"] for name in TRAINERS} == {earlier.settings["split"]["eval_end"]}
    assert {told[name]["model"] for name in ("base", "generator")} == {str(earlier.folder)}
    assert told["baseline"]["model"] == str(finished.artifact("baseline", "model") / "Format-Serving")
    words = told["ctr"]["words"]["item_id"]
    # Else rows would only move by the order of words.
    assert words["kept"] > 100 and words["new"] > 0
    for name in TRAINERS:
        extra = moved.artifact(name, "model") / "Format-Serving" / "assets.extra"
        copied = json.loads((extra / "initialization.json").read_text())
        assert copied["copied"] and not copied["absent"] and not copied["other_shape"], name


def test_vocabularies_are_those_of_the_models(moved, earlier):
    # Words are read from the exported model; as many as there are ids for them.
    assert len(earlier.ids.words["item_id"]) > 100
    assert set(EarlierModel(moved.version).ids.words) == set(earlier.ids.words)


def test_the_same_requests_get_the_same_flows_and_probabilities(moved, earlier):
    """Requests of the new test split, of what both generators have vectors for."""
    spec = ModelSpec.load(moved.version / "assets.extra" / "model_spec.json")
    trained = moved.artifact("ctr", "model") / "Format-Serving"
    contract, models = spec.contract, [EarlierModel(trained), earlier]
    known = set.intersection(*(learned(model) for model in models))
    requests = [values(e, contract) for e in read_split(moved.artifact("example_gen", "examples"), "test")]
    requests = [
        request
        for request in requests
        if {*request["moveline_item_id"], *request["candidate_item_id"]} <= known | {b""}
    ]
    assert len(requests) > 20 and max(len(request["moveline_item_id"]) for request in requests) > 5
    ids = [
        [model.ids.words["item_id"].index(request["candidate_item_id"][0]) for request in requests] for model in models
    ]
    assert ids[0] != ids[1]
    loaded = [tf.saved_model.load(str(model.folder)) for model in models]
    columns = to_columns(requests, contract)
    new, old = (model.signatures["rank"](**columns)["probability"].numpy() for model in loaded)
    np.testing.assert_allclose(new, old, rtol=0, atol=1e-5)
    assert np.std(new[new > 0]) > 1e-3
    moveline = {n: c for n, c in columns.items() if n.startswith("moveline_") or n == "timestamp"}
    new, old = (model.signatures["interest_flow"](**moveline) for model in loaded)
    for name in old:
        np.testing.assert_allclose(new[name], old[name], rtol=0, atol=1e-5)


def learned(model: EarlierModel) -> set[bytes]:
    """Items that the generator of a model has a vector for."""
    table = load_weights(model.folder / "assets.extra" / "generator_weights.npz")["encoder/items/tables/item_id/table"]
    spec, words = model.ids
    return {word for word, row in zip(words["item_id"], table[1 + spec.unseen :], strict=True) if row.any()}


def test_the_same_run_again_finds_the_same_start_and_is_cached(moved, moved_root):
    again = run(moved_root, *MOVED_ON, *STANDING)
    assert again.status == 0 and again.rerun == set() and again.out.count("  cached  ") == len(STAGES)
    assert again.report["warm_start"] == moved.report["warm_start"] and again.pushed == moved.pushed
