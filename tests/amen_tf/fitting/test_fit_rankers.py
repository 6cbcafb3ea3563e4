"""fit_ranker and fit_ctr: of a warm start the weights that it began with take part."""

import numpy as np
import pytest

from amen_tf.config import CtrSettings, TrainerSettings
from amen_tf.fitting.ctr import fit_ctr
from amen_tf.fitting.ranker import fit_ranker
from amen_tf.flows import FlowStore
from amen_tf.initialization import named_weights
from amen_tf.training import Session, make_deterministic
from amen_tf.warm_start import Ids, WarmStart
from amen_tf.windows import RequestTable, Windows
from tests.amen_tf import batches

OPTIONS = {"batch_size": 8, "epochs": 4, "learning_rate": 0.01, "weight_decay": 0.0, "patience": 9}


@pytest.fixture(params=["base", "ctr"])
def fit(request, spec, tmp_path):
    """`fit(warm, **settings)`: a ranker, or a CTR model without flow, on the same windows."""
    # Evaluated on what it has learned, an earlier model is good.
    window = RequestTable.read([batches.batch(spec, rows=26, seed=26)])
    windows = Windows(window, window)
    session = Session(tmp_path, lambda progress: None)

    def _fit(warm=None, **settings):
        make_deterministic(5)
        options = {**OPTIONS, **settings}
        if request.param == "base":
            return fit_ranker("base", spec, TrainerSettings(**options), windows, session, warm=warm)
        settings = CtrSettings(use_flow=False, window="train", **options)
        return fit_ctr(spec, settings, windows, session, {}, None, FlowStore(tmp_path / "flows"), warm=warm)

    return _fit


def test_a_warm_start_that_no_epoch_improves_is_kept(fit, spec):
    first = fit()
    assert not any(name.startswith("start_") for name in first.history)
    words = {meaning: [b"%d" % i for i in range(spec.sizes[meaning] - 1)] for meaning in spec.in_vocabularies}
    weights = {name: weight.numpy() for name, weight in named_weights(first.model).items()}
    warm = WarmStart(weights, *[Ids(spec, words)] * 2)
    # Steps too small to change a float32: the first of equal ones is kept.
    second = fit(warm, learning_rate=1e-30)
    assert second.history["start_auc"] == pytest.approx([max(first.history["val_auc"])])
    assert set(second.history["val_auc"]) == set(second.history["start_auc"])
    assert second.history["start_auc"][0] > 0.6
    # Where training spoils the weights, those of the start are there again.
    spoiled = fit(warm, learning_rate=10.0)
    assert max(spoiled.history["val_auc"]) < spoiled.history["start_auc"][0]
    for name, weight in named_weights(spoiled.model).items():
        np.testing.assert_array_equal(weight, weights[name])
