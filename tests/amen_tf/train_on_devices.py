"""Trains all three models on so many logical devices, or as one worker of TF_CONFIG, and prints what came of it.

usage: train_on_devices.py DEVICES FOLDER
"""

import json
import pathlib
import sys

import numpy as np
import tensorflow as tf

from amen_tf.config import CtrSettings, GeneratorSettings, TrainerSettings
from amen_tf.distribution import choose_strategy, is_chief, output_folder
from amen_tf.fitting.ctr import fit_ctr
from amen_tf.fitting.generator import fit_generator
from amen_tf.fitting.ranker import fit_ranker
from amen_tf.flows import FlowStore
from amen_tf.initialization import named_weights
from amen_tf.models.frozen_generator import export_generator
from amen_tf.signatures import ServingModel
from amen_tf.training import Session, make_deterministic
from amen_tf.windows import RequestTable, Windows
from tests.amen_tf import batches
from tests.amen_tf.fake_transform import FakeTransform

devices, folder = int(sys.argv[1]), pathlib.Path(sys.argv[2])
if devices > 1:
    # Cards, as far as the choice of a strategy goes.
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
    strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(devices)])
else:
    strategy = choose_strategy()
# Graphs run a few times here; optimising each would take most of the time.
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
make_deterministic(5)
spec = batches.spec(dropout=0.0)
windows = Windows(
    *(RequestTable.read([batches.batch(spec, rows=rows, seed=seed)]) for rows, seed in ((26, 1), (10, 2)))
)
own = output_folder(folder / "own", strategy)
session = Session(own / "logs", lambda progress: None, strategy=strategy)
options = {"epochs": 1, "batch_size": 8, "learning_rate": 0.01, "patience": 9}

base = fit_ranker("base", spec, TrainerSettings(**options), windows, session)
weights = {name: weight.numpy() for name, weight in named_weights(base.model).items()}
settings = GeneratorSettings(**options, sampled_negatives=5, next_item_weight=0.5, item_dropout=0.0, collapse_limit=1.0)
counts = batches.item_counts(spec, windows.train)
generator = fit_generator(spec, settings, windows, session, weights, counts)
export_generator(generator.model, own / "generator")
ctr = fit_ctr(spec, CtrSettings(**options), windows, session, weights, own / "generator", FlowStore(own / "flows"))
output = output_folder(folder / "model", strategy)
ServingModel(ctr.model, spec.contract, FakeTransform(spec), 4).export(output)

fitted = {"base": base, "generator": generator, "ctr": ctr}
kept = {"loss", "cross_entropy", "tsp", "info_nce", "diversity", "velocity", "next_item", "val_loss", "val_auc"}
print(
    json.dumps(
        {
            "replicas": strategy.num_replicas_in_sync,
            "chief": is_chief(strategy),
            "output": str(output),
            "trained": {name: {k: v for k, v in f.history.items() if k in kept} for name, f in fitted.items()},
            "weights": {
                name: float(sum(np.abs(w.numpy()).sum() for w in named_weights(f.model).values()))
                for name, f in fitted.items()
            },
        }
    )
)
