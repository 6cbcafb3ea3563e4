"""The harness of the layers for every model: eager = graph, saved weights give the same, nothing to read is finite."""

import pytest

from amen_tf.config import CtrSettings, GeneratorSettings
from amen_tf.models.ctr import CtrModel
from amen_tf.models.generator import Generator
from amen_tf.models.registry import RANKERS, make_ranker
from tests.amen_tf import batches
from tests.amen_tf.layers import harness


@pytest.fixture(scope="module", params=[*RANKERS, "ctr", "ctr_with_similarity", "generator", "generator_in_parallel"])
def case(request, spec, features, generator_folder):
    # A new model each time from the same seed; item dropout must not be felt outside of training.
    made = {name: lambda name=name: make_ranker(name, batches.spec(item_dropout=0.5)) for name in RANKERS}
    made["ctr"] = lambda: CtrModel(spec, CtrSettings(), generator_folder)
    similar = CtrSettings(flow_similarity=True, moveline_similarity=True)
    made["ctr_with_similarity"] = lambda: CtrModel(spec, similar, generator_folder)
    hiding = GeneratorSettings(item_dropout=0.5)
    made["generator"] = lambda: Generator(spec, hiding)
    made["generator_in_parallel"] = lambda: Generator(spec, hiding.model_copy(update={"decoder": "parallel"}))
    return harness.Case(made[request.param], (features,), (batches.without_history(features),))


def test_graph_equals_eager(case):
    harness.check_graph(case)


def test_saved_weights_give_the_same_results(case, tmp_path):
    harness.check_save(case, str(tmp_path / "weights.npz"))


def test_empty_movelines_are_finite(case):
    harness.check_masked(case)
