"""The model that a Trainer starts warm from, read from the folder that another Trainer left."""

import dataclasses
import re

import numpy as np
import pytest
import yaml

from amen_tf.config import BaseSettings, CtrSettings, GeneratorSettings
from amen_tf.initialization import InitializationError
from pipeline.trainers.earlier_model import EarlierModel
from tests.amen_tf import batches

BASE = {"base": {"architecture": "din"}}


@pytest.fixture
def spec():
    """Two ids for unseen words in every vocabulary; brands are hashed."""
    return dataclasses.replace(batches.spec(), unseen=2, hashed=("brand",))


@pytest.fixture
def folder(tmp_path, spec):
    """As a CTR model's: vocabularies with as many words as there are ids for them."""
    extra, assets = tmp_path / "assets.extra", tmp_path / "assets"
    extra.mkdir(), assets.mkdir()
    spec.save(extra / "model_spec.json")
    (extra / "settings.yaml").write_text(yaml.safe_dump({"split": {"eval_end": 300}, **BASE, "ctr": {}}))
    np.savez(extra / "weights.npz", **{"part/kernel": np.ones(3)})
    for meaning in spec.in_vocabularies:
        words = [f"{meaning} {rank}\n" for rank in range(spec.sizes[meaning] - 3)]
        # Words are bytes, not always of UTF-8, and may end in what other tools take for the end of a line.
        (assets / meaning).write_bytes("".join(words).encode().replace(b" 0\n", b"\xff\x85\n"))
    return tmp_path


def test_words_spec_settings_and_weights_are_read(folder, spec):
    earlier = EarlierModel(folder)
    assert earlier.ids.spec == spec and earlier.settings["split"]["eval_end"] == 300
    assert set(earlier.ids.words) == {
        "item_id",
        "category_id",
        "scene",
        "behavior",
        "position",
        "device",
        "tags",
        "likes",
    }
    assert earlier.ids.words["scene"] == [b"scene\xff\x85", b"scene 1"]
    assert earlier.weights("weights.npz")["part/kernel"].tolist() == [1, 1, 1]


def test_of_a_ctr_model_the_ranker_is_its_base(folder):
    assert EarlierModel(folder).ranker_file == "base_weights.npz"
    (folder / "assets.extra" / "settings.yaml").write_text(yaml.safe_dump(BASE))
    assert EarlierModel(folder).ranker_file == "weights.npz"


@pytest.mark.parametrize(
    ("section", "settings", "change"),
    [
        ("base", BaseSettings(architecture="din"), {"architecture": "base"}),
        ("generator", GeneratorSettings(), {"decoder": "parallel"}),
        ("generator", GeneratorSettings(), {"readout": "event_heads"}),
        ("ctr", CtrSettings(), {"use_flow": False}),
        ("ctr", CtrSettings(), {"use_alignment": False}),
        ("ctr", CtrSettings(), {"flow_similarity": True}),
        ("ctr", CtrSettings(), {"moveline_similarity": False}),
    ],
)
def test_settings_that_give_weights_another_meaning_are_refused_with_what_to_do(section, settings, change, folder):
    # Settings that were not there yet had their defaults.
    (folder / "assets.extra" / "settings.yaml").write_text(yaml.safe_dump({**BASE, "generator": {}, "ctr": {}}))
    earlier, [(name, value)] = EarlierModel(folder), change.items()
    earlier.expect_unchanged(section, settings.model_copy(update={"learning_rate": 0.5, "epochs": 9}))
    told = re.escape(f"{section}.{name} {getattr(settings, name)}, got {value}.")
    with pytest.raises(InitializationError, match=f"{told}.*warm_start.enabled=false until a run is blessed"):
        earlier.expect_unchanged(section, settings.model_copy(update=change))


def test_a_ranker_gives_nothing_to_a_generator(folder):
    (folder / "assets.extra" / "settings.yaml").write_text(yaml.safe_dump(BASE))
    with pytest.raises(InitializationError, match="expected a model with settings of generator, got base"):
        EarlierModel(folder).expect_unchanged("generator", GeneratorSettings())


def test_a_folder_that_is_no_model_of_ours_is_refused(tmp_path):
    with pytest.raises(InitializationError, match=r"expected assets\.extra/model_spec\.json, got no such file.*false"):
        EarlierModel(tmp_path).ids  # noqa: B018


def test_a_model_without_its_base_is_refused(folder):
    with pytest.raises(InitializationError, match=r"assets\.extra/base_weights\.npz"):
        EarlierModel(folder).weights("base_weights.npz")


def test_a_vocabulary_that_is_not_the_models_is_refused(folder):
    (folder / "assets" / "scene").write_text("feed\n")
    with pytest.raises(InitializationError, match="expected 2 words in assets/scene, got 1"):
        EarlierModel(folder).ids  # noqa: B018
