"""Trains FuxiCTR's DIN on the rows that our models see, prints its test AUC, and trains further laps against the clock.

usage:  .venv/bin/python fuxictr_din.py DATA_FOLDER [--seed 1 --threads 2 ...]       (setup.sh makes .venv)
in:     DATA_FOLDER/{train,eval,test}.npz and columns.json, the transformed columns of R requests:
        `moveline_<field>` `[R, L]`, left-padded with 0; `candidate_<field>` `[R, N]`, right-padded; `candidate_mask`
        `[R, N]` bool; `label` `[R, N]`; one `[R]` column for each request field. columns.json names the fields and
        gives the number of ids of each meaning. Other columns are not read.
        Then, on stdin, one line for each lap: for how many seconds to train, one pass over the rows at most.
out:    one line of JSON on stdout for the training, and one for each lap as soon as it is over. AUCs are over all
        impressions of a split, speed is impressions a second of training steps.

The package has no DIN of its own for these inputs (its model zoo is a folder of scripts), so `DIN` below puts one
together as the zoo does, from FuxiCTR's parts: FeatureMap, FeatureEmbeddingDict, DIN_Attention, MLP_Block and the
training loop of BaseModel. Only the reading of batches is ours: FuxiCTR's loaders collate row by row or start a Ray
cluster, and both are slower than slicing arrays that lie in memory.

FuxiCTR ranks rows, not requests: every candidate is a row and its request's moveline is read again for each of them.

DIN_Attention compares field with field, so a field of the moveline needs one of the target beside it. Item, category
and scene have theirs (the scene is the request's). Behaviour and age have none: with `--events attended` the target
gets one constant id in each, which stands for "now" and is learned; with `--events pooled` scene, behaviour and age
stay out of the attention and the mean of each over the moveline goes to the MLP.
"""

import argparse
import ctypes
import json
import sys
import tempfile
import time
from pathlib import Path

import fuxictr
import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import DIN_Attention, FeatureEmbeddingDict, MLP_Block
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.torch_utils import seed_everything

SPLITS = ("train", "eval", "test")
LABEL, NAME = "label", "outside"
# Ages of events are cut into 64 buckets, 0 = padding; columns.json leaves this table out because it is always so.
AGE_COLUMN, AGE_IDS = "moveline_age", 65
# The id of all values that training never saw, after 0 for padding.
UNSEEN = 1
ATTENTION_UNITS, MLP_UNITS = [32], [128, 64]
# Of glibc's malloc.h: no block gets a mapping of its own, and freed memory stays with the process.
M_MMAP_MAX, M_TRIM_THRESHOLD = -4, -1


class Columns:
    """Which columns exist, which table each reads, and which column of the target faces which of the moveline.

    Args:
      content: columns.json.
      events: `attended` or `pooled`, see the top of this file.

    `given` are the model's inputs that are in the files, `all` also has the constants.
    """

    def __init__(self, content: dict, events: str):
        items = content["item_fields"]
        context = [f for f in content["moveline_fields"] if f not in items]
        self.request = list(content["request_fields"])
        self.candidate = [f"candidate_{f}" for f in content["candidate_fields"]]
        self.moveline = [f"moveline_{f}" for f in (*items, *context)]
        self.target, self.attended = [f"candidate_{f}" for f in items], [f"moveline_{f}" for f in items]
        self.constant = []
        if events == "attended":
            self.constant = [f"now_{f}" for f in context if f not in self.request or f"moveline_{f}" == AGE_COLUMN]
            self.target += [f"now_{f}" if f"now_{f}" in self.constant else f for f in context]
            self.attended += [f"moveline_{f}" for f in context]
        self.given = [*self.request, *self.candidate, *self.moveline]
        self.all = [*self.given, *self.constant]
        self.ids = {**content["sizes"], AGE_COLUMN: AGE_IDS}

    def table(self, column: str) -> str:
        """Columns of one meaning share a table; the age of an event is not the age of a user."""
        if column in (AGE_COLUMN, "now_age"):
            return AGE_COLUMN
        return column.removeprefix("candidate_").removeprefix("moveline_").removeprefix("now_")


def read(folder: Path, columns: Columns) -> dict[str, dict[str, np.ndarray]]:
    """split -> column -> ids; `[R]`, `[R, N]` and `[R, L]` int64, with `label` and `candidate_mask` `[R, N]`."""
    data = {}
    for split in SPLITS:
        with np.load(folder / f"{split}.npz") as file:
            data[split] = {c: file[c].astype(np.int64) for c in columns.given}
            data[split] |= {c: file[c] for c in (LABEL, "candidate_mask")}
    return data


def compact(data: dict[str, dict[str, np.ndarray]], columns: Columns) -> None:
    """Renumbers ids in place as FuxiCTR's own tokenizer would: 0, one id for all unseen values, then those of train.

    Our transform keeps thousands of buckets for values that may come later. Their rows never learn anything, and
    FuxiCTR's Adam, which updates whole tables in every step, would spend most of its time on them.
    """
    for table in dict.fromkeys(map(columns.table, columns.given)):
        members = [c for c in columns.given if columns.table(c) == table]
        seen = np.unique(np.concatenate([data["train"][c].ravel() for c in members]))
        seen = seen[seen > 0]
        new = np.full(columns.ids[table], UNSEEN, np.int64)
        new[0], new[seen] = 0, UNSEEN + 1 + np.arange(len(seen))
        columns.ids[table] = UNSEEN + 1 + len(seen)
        for split in SPLITS:
            data[split] |= {c: new[data[split][c]] for c in members}


def add_constants(data: dict[str, dict[str, np.ndarray]], columns: Columns) -> None:
    """Gives the target its "now" in fields that only events have, as one more id of their table; in place."""
    for column in columns.constant:
        now = columns.ids[columns.table(column)]
        columns.ids[columns.table(column)] += 1
        for split in SPLITS:
            data[split][column] = np.full(len(data[split][LABEL]), now)


class Batches:
    """A split as FuxiCTR's training loop reads it: dicts of tensors, one row for each real candidate.

    Args:
      split: column -> array of requests, see `read`.
      columns: what to read of it.
      size: rows of a batch.
      seed: of the order of the rows, another one in every epoch; None keeps the order of the file.
    """

    def __init__(self, split: dict[str, np.ndarray], columns: Columns, size: int, seed: int | None = None):
        request, place = map(torch.from_numpy, np.nonzero(split["candidate_mask"]))
        self.request, self.size = request, size
        # Columns of a candidate are flat already, the others are picked by request when a batch is made.
        by_row = (*columns.candidate, LABEL)
        self.flat = {c: torch.from_numpy(split[c])[request, place] for c in by_row}
        self.shared = {c: torch.from_numpy(split[c]) for c in columns.all if c not in by_row}
        self.order = None if seed is None else torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return -(-len(self.request) // self.size)

    def __iter__(self):
        rows = len(self.request)
        order = torch.arange(rows) if self.order is None else torch.randperm(rows, generator=self.order)
        for picked in order.split(self.size):
            requests = self.request[picked]
            batch = {c: values[picked] for c, values in self.flat.items()}
            yield batch | {c: values[requests] for c, values in self.shared.items()}


def feature_map(columns: Columns, dim: int) -> FeatureMap:
    """The columns in FuxiCTR's terms: the first column of a table owns it, the others share its embedding."""
    features, owners = FeatureMap(NAME, data_dir=""), {}
    features.default_emb_dim = dim
    for column in columns.all:
        spec = {"source": "", "vocab_size": columns.ids[columns.table(column)], "padding_idx": 0}
        spec["type"] = "sequence" if column in columns.moveline else "categorical"
        if column in columns.moveline and column not in columns.attended:
            # Evaluated by FuxiCTR; it takes events whose vector is zero for padding.
            spec["feature_encoder"] = "layers.MaskedAveragePooling()"
        owner = owners.setdefault(columns.table(column), column)
        if owner != column:
            spec["share_embedding"] = owner
        features.features[column] = spec
    features.labels, features.num_fields = [LABEL], len(features.features)
    return features


class DIN(BaseModel):
    """Deep Interest Network of FuxiCTR's layers; also keeps the eval AUC of every epoch.

    Args:
      columns: see `Columns`.
      options: the command line's.
      folder: where BaseModel keeps the best epoch's weights.
    """

    def __init__(self, columns: Columns, options: argparse.Namespace, folder: Path):
        features = feature_map(columns, options.embedding_dim)
        super().__init__(
            features,
            early_stop_patience=1,
            embedding_regularizer=options.embedding_regularizer,
            model_root=str(folder),
            metrics=["AUC"],
            verbose=0,
        )
        Path(self.model_dir).mkdir(parents=True)
        self.columns, self.dim = columns, options.embedding_dim
        initializer = f"partial(nn.init.normal_, std={options.embedding_std})"
        self.embedding_layer = FeatureEmbeddingDict(features, self.dim, initializer)
        self.attention = DIN_Attention(
            self.dim * len(columns.attended), ATTENTION_UNITS, hidden_activations=options.attention_activation
        )
        self.dnn = MLP_Block(
            features.sum_emb_out_dim(),
            MLP_UNITS,
            output_dim=1,
            output_activation=self.output_activation,
            dropout_rates=options.net_dropout,
        )
        self.compile("adam", "binary_crossentropy", options.learning_rate)
        self.reset_parameters()
        self.eval_aucs = []

    def forward(self, inputs):
        """Batch of B rows -> `y_pred` `[B, 1]`, the probability of a click."""
        ids = self.get_inputs(inputs)
        vectors = self.embedding_layer(ids)
        target, events = (
            torch.cat([vectors[c] for c in fields], -1) for fields in (self.columns.target, self.columns.attended)
        )
        # Every real event has a behaviour, though not every event has an item.
        interest = self.attention(target, events, ids["moveline_behavior"] != 0)
        vectors.update(zip(self.columns.attended, interest.split(self.dim, -1), strict=True))
        return {"y_pred": self.dnn(self.embedding_layer.dict2tensor(vectors, flatten_emb=True))}

    def lap(self, batches: Batches, seconds: float) -> float:
        """Trains for so long, one pass at most -> impressions a second."""
        self.train()
        done, start = 0, time.perf_counter()
        for batch in batches:
            self.train_step(batch)
            done += len(batch[LABEL])
            if time.perf_counter() - start >= seconds:
                break
        return done / (time.perf_counter() - start)

    def checkpoint_and_earlystop(self, logs, **kwargs):
        self.eval_aucs.append(logs["AUC"])
        super().checkpoint_and_earlystop(logs, **kwargs)


def keep_memory() -> None:
    """Has glibc reuse the large buffers of a step instead of mapping and zeroing them anew in the next.

    With DIN_Attention's inputs of 65 MB a batch this gave FuxiCTR 1.2 to 1.6 times its speed.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def main(options: argparse.Namespace) -> None:
    """Trains until the eval AUC falls, measures the best epoch on test, then trains the laps that stdin asks for."""
    keep_memory()
    torch.set_num_threads(options.threads)
    seed_everything(options.seed)
    columns = Columns(json.loads((options.data / "columns.json").read_text(encoding="utf-8")), options.events)
    data = read(options.data, columns)
    if options.ids == "compact":
        compact(data, columns)
    add_constants(data, columns)
    train = Batches(data["train"], columns, options.batch_size, options.seed)
    check, test = (Batches(data[split], columns, options.batch_size) for split in ("eval", "test"))
    with tempfile.TemporaryDirectory() as folder:
        model = DIN(columns, options, Path(folder))
        model.fit(train, epochs=options.epochs, validation_data=check)
        auc = model.evaluate(test)["AUC"]
    trained = {
        "auc_test": round(auc, 5),
        "auc_eval": [round(a, 5) for a in model.eval_aucs],
        "epochs": len(model.eval_aucs),
        "parameters": sum(p.numel() for p in model.parameters()),
        "impressions": {"train": len(train.request), "eval": len(check.request), "test": len(test.request)},
        "settings": {k: v for k, v in vars(options).items() if k != "data"},
        "versions": {"fuxictr": fuxictr.__version__, "torch": torch.__version__},
    }
    print(json.dumps(trained), flush=True)
    for line in sys.stdin:
        print(json.dumps(round(model.lap(train, float(line)))), flush=True)


def arguments() -> argparse.Namespace:
    """The command line; the defaults are the best of a small search by MovieLens' eval AUC.

    On trivago half of the candidates are new. `--ids given --embedding-std 0.05 --epochs 9` did better there.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, metavar="DATA_FOLDER")
    parser.add_argument("--epochs", type=int, default=5, help="at most; stops when eval AUC falls")
    parser.add_argument("--batch-size", type=int, default=1024, help="impressions")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--embedding-dim", type=int, default=16)
    parser.add_argument("--embedding-std", type=float, default=1e-4, help="of the initial vectors")
    parser.add_argument("--embedding-regularizer", type=float, default=0.0, help="weight of L2, as in FuxiCTR")
    parser.add_argument("--net-dropout", type=float, default=0.0)
    parser.add_argument("--attention-activation", choices=("Dice", "ReLU"), default="ReLU")
    parser.add_argument("--events", choices=("attended", "pooled"), default="attended")
    parser.add_argument("--ids", choices=("compact", "given"), default="compact", help="given: tables of all our ids")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main(arguments())
