"""As for the models: graphs run a few times here, and optimising each would take most of the time."""

import pytest
import tensorflow as tf

from amen_tf.config import Settings
from amen_tf.windows import RequestTable
from benchmarks.prepared import Prepared
from tests.amen_tf import batches

QUICK = {"epochs": 1, "batch_size": 8}
CONTENT = {
    "data": {"log": "log.csv"},
    "model": {"moveline_length": 7, "flow_length": 3, "heads": 2, "dim": 8, "hidden_units": [16, 8], "dropout": 0.0},
    "base": QUICK,
    "generator": {**QUICK, "sampled_negatives": 5, "collapse_limit": 1.0},
    "ctr": QUICK,
}


@pytest.fixture(scope="package", autouse=True)
def unoptimised_graphs():
    """Turns TensorFlow's graph optimizer off."""
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    yield
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})


@pytest.fixture(scope="package")
def prepared():
    """A log of 62 requests in memory."""
    settings, spec = Settings.parse(CONTENT, "test"), batches.spec()
    stage1, stage2, stopping, test = (
        RequestTable.read([batches.batch(spec, rows=count, seed=seed)])
        for seed, count in enumerate((24, 16, 10, 12), 1)
    )
    train = RequestTable.concatenated([stage1, stage2])
    return Prepared(settings, spec, stage1, stage2, train, stopping, test, batches.item_counts(spec, stage1))
