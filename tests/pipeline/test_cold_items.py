"""Items new since training, through the real Transform graph and an exported model: by what is known of them."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from amen_tf.config import CtrSettings, GeneratorSettings
from amen_tf.models.base import BaseModel
from amen_tf.models.ctr import CtrModel
from amen_tf.models.frozen_generator import export_generator
from amen_tf.models.generator import Generator
from amen_tf.signatures import PROBABILITY, SERVING_DEFAULT, ServingModel, TransformGraph
from tests.amen_tf import batches
from tests.pipeline.test_preprocessing import NOW, OOV, analyse, request, serialized, spec_of

# In training: two brands, two tags. Asked for: items that training has not seen, with and without what it has seen.
TRAINING = [
    request(
        ["a", "b"],
        moveline=[("a", 9), ("b", 5)],
        future=["a"],
        candidate_brand=["x", "y"],
        candidate_tags=["jazz", "rock"],
        candidate_cost=[1.0, 9.0],
        now=NOW - day,
    )
    for day in range(4)
]
COLD = {
    "brand x": {"brand": "x"},
    "brand y": {"brand": "y"},
    "jazz": {"tags": "jazz"},
    "jazz and rock": {"tags": "rock|jazz"},
    "brand x, jazz": {"brand": "x", "tags": "jazz"},
    "dear": {"cost": 9.0},
    "nothing known": {},
    "a new brand": {"brand": "never seen"},
}


@pytest.fixture(scope="module", params=[{}, {"hash_buckets": {"item_id": 40}}], ids=["vocabulary", "hashed"])
def prepared(request, tmp_path_factory):
    """Transform's graph of TRAINING and the spec of its models."""
    analysed = analyse(tmp_path_factory.mktemp("transform"), TRAINING, **request.param)
    spec = spec_of(analysed, **request.param)
    shape = spec.shape.model_copy(update={"dim": 8, "heads": 2, "hidden_units": (16,), "dropout": 0.0, "item_std": 0.1})
    return TransformGraph(analysed.transform_savedmodel_dir), dataclasses.replace(spec, shape=shape)


@pytest.fixture(params=["base", "ctr"])
def model(request, prepared, tmp_path):
    """A ranker with the weights that it starts with."""
    spec = prepared[1]
    if request.param == "base":
        return BaseModel(spec)
    generator = Generator(spec, GeneratorSettings(sampled_negatives=5), batches.catalogue(spec))
    features = batches.batch(spec)
    generator.compute_losses(features, False, tf.constant([0, 0], tf.int64))
    generator(features)
    export_generator(generator, tmp_path / "generator")
    return CtrModel(spec, CtrSettings(), tmp_path / "generator")


def probabilities(model, prepared, asked):
    transform, spec = prepared
    model(batches.batch(spec))
    signature = ServingModel(model, spec.contract, transform, 2).signatures()[SERVING_DEFAULT]
    return signature(tf.constant([serialized(asked)]))[PROBABILITY].numpy()[0]


def cold_request():
    columns = {name: [of.get(name, "") for of in COLD.values()] for name in ("brand", "tags")}
    return request(
        [f"cold{number}" for number in range(len(COLD))],
        moveline=[("a", 9), ("b", 5)],
        candidate_brand=columns["brand"],
        candidate_tags=columns["tags"],
        candidate_cost=[of.get("cost", float("nan")) for of in COLD.values()],
    )


def test_cold_items_have_finite_scores_of_their_own(model, prepared):
    found = dict(zip(COLD, probabilities(model, prepared, cold_request()), strict=True))
    assert all(np.isfinite(p) and 0 < p < 1 for p in found.values())
    known = [found[name] for name in COLD if name not in ("a new brand", "nothing known")]
    assert len(np.unique(np.round(known, 7))) == len(known)
    if not prepared[1].hashed:
        # A brand that is as new as the item says no more than none.
        assert found["a new brand"] == pytest.approx(found["nothing known"], abs=1e-6)


def test_what_decides_is_what_is_known_and_not_the_new_id(model, prepared):
    spec = prepared[1]
    asked = request([f"cold{n}" for n in range(6)], moveline=[("a", 9)], candidate_brand=["x"] * 6)
    found = probabilities(model, prepared, asked)
    same = len(np.unique(np.round(found, 6))) == 1
    # Unseen ids of a vocabulary start at zero; hashed ones share buckets with items that training has seen.
    assert same != bool(spec.hashed)
    assert spec.unseen_ids("item_id") == (0 if spec.hashed else OOV)
