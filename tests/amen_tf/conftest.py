"""Models that tests only read, built once; a test that trains builds its own."""

import pytest
import tensorflow as tf

from amen_tf.config import CtrSettings, GeneratorSettings
from amen_tf.models.ctr import CtrModel
from amen_tf.models.frozen_generator import export_generator
from amen_tf.models.generator import Generator
from amen_tf.models.registry import make_ranker
from tests.amen_tf import batches
from tests.amen_tf.layers.harness import randomise


@pytest.fixture(scope="session")
def spec():
    """L=7, T=3, H=2, d=8."""
    return batches.spec()


@pytest.fixture(scope="session")
def features(spec):
    """Six requests with up to four candidates; row 0 has no history, row 2 no future and no diff sample."""
    return batches.batch(spec)


def built(model, features):
    """The model with noise in every weight: zeros as first values would hide what a weight does."""
    model(features)
    randomise(model)
    return model


@pytest.fixture(scope="session")
def base(spec, features):
    return built(make_ranker("base", spec), features)


@pytest.fixture(scope="session")
def din(spec, features):
    return built(make_ranker("din", spec), features)


@pytest.fixture(scope="session")
def wide_and_deep(spec, features):
    return built(make_ranker("wide_and_deep", spec), features)


@pytest.fixture(scope="session")
def generator(spec, features):
    settings = GeneratorSettings(sampled_negatives=5, next_item_weight=0.0, item_dropout=0.0)
    return built(Generator(spec, settings, batches.catalogue(spec)), features)


@pytest.fixture(scope="session")
def generator_folder(generator, tmp_path_factory):
    """The exported generator."""
    folder = tmp_path_factory.mktemp("generator")
    export_generator(generator, folder)
    return folder


@pytest.fixture(scope="session")
def ctr(spec, features, generator_folder):
    return built(CtrModel(spec, CtrSettings(tsp_weight=0.3), generator_folder), features)


@pytest.fixture(scope="session")
def ctr_without_flow(spec, features):
    return built(CtrModel(spec, CtrSettings(use_flow=False), None), features)


@pytest.fixture(scope="session")
def ctr_without_alignment(spec, features, generator_folder):
    return built(CtrModel(spec, CtrSettings(use_alignment=False), generator_folder), features)


@pytest.fixture(scope="session")
def ctr_with_similarity(spec, features, generator_folder):
    settings = CtrSettings(flow_similarity=True, moveline_similarity=True)
    return built(CtrModel(spec, settings, generator_folder), features)


@pytest.fixture(scope="package", autouse=True)
def unoptimised_graphs():
    """Graphs run once or twice here; optimising each took a third of all the time."""
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    yield
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})
