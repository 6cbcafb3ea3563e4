"""The harness of the layers for every model: eager = graph, saved weights give the same, nothing to read is finite."""

import pytest

from amen_tf.config import CtrSettings, GeneratorSettings
from amen_tf.layers.interest_flow_decoder import READOUTS
from amen_tf.models.ctr import CtrModel
from amen_tf.models.generator import Generator
from amen_tf.models.registry import RANKERS, make_ranker
from tests.amen_tf import batches
from tests.amen_tf.layers import harness

CTR_MODELS = {
    "ctr": CtrSettings(),
    "ctr_with_similarity": CtrSettings(flow_similarity=True, moveline_similarity=True),
    "ctr_without_flow": CtrSettings(use_flow=False),
    "ctr_without_alignment": CtrSettings(use_alignment=False),
}
GENERATORS = {
    "generator": GeneratorSettings(item_dropout=0.5),
    "generator_in_parallel": GeneratorSettings(item_dropout=0.5, decoder="parallel"),
    **{f"generator_{readout}": GeneratorSettings(readout=readout) for readout in READOUTS if readout != "heads"},
}


@pytest.fixture(scope="module", params=[*RANKERS, *CTR_MODELS, *GENERATORS])
def case(request, spec, features, generator_folder):
    # A new model each time from the same seed; item dropout must not be felt outside of training.
    made = {name: lambda name=name: make_ranker(name, batches.spec(item_dropout=0.5)) for name in RANKERS}
    made |= {name: lambda s=s: CtrModel(spec, s, generator_folder) for name, s in CTR_MODELS.items()}
    made |= {name: lambda s=s: Generator(spec, s) for name, s in GENERATORS.items()}
    return harness.Case(made[request.param], (features,), (batches.without_history(features),))


def test_graph_equals_eager(case):
    harness.check_graph(case)


def test_saved_weights_give_the_same_results(case, tmp_path):
    harness.check_save(case, str(tmp_path / "weights.npz"))


def test_empty_movelines_are_finite(case):
    harness.check_masked(case)
