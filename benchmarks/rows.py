"""The rows of Table 2, and how each is trained on a prepared log: what rows have in common is trained once a seed."""

import contextlib
import hashlib
import json
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import tf_keras as keras

from amen_tf import metrics
from amen_tf.ablations import ABLATIONS, ablated
from amen_tf.config import Settings
from amen_tf.features import CANDIDATE_MASK, LABEL, USER_KEY
from amen_tf.fitting.ctr import fit_ctr
from amen_tf.fitting.generator import fit_generator
from amen_tf.fitting.ranker import fit_ranker
from amen_tf.fitting.result import Fitted
from amen_tf.flows import FlowStore
from amen_tf.initialization import load_weights, save_weights
from amen_tf.models.frozen_generator import export_generator
from amen_tf.models.registry import RANKERS
from amen_tf.precision import precision
from amen_tf.progress import Progress
from amen_tf.training import Session, make_deterministic
from amen_tf.windows import JoinedWindow, RequestTable, Window, Windows
from benchmarks.prepared import Prepared
from pipeline.fingerprint import fingerprint

BASELINE, FULL = "base", "amen"
BASELINES = tuple(RANKERS)
ROWS = (*BASELINES, FULL, *ABLATIONS)
TITLES = {
    **{name: ranker.title for name, ranker in RANKERS.items()},
    FULL: "AMEN",
    "no_nif": "w/o Next Interest Flow",
    "no_tsp": "w/o TSP",
    "no_alignment": "w/o Semantic Alignment",
    "no_weight_init": "w/o Weight Init.",
    "no_diversity": "w/o Diversity Loss",
    "no_velocity": "w/o Velocity Loss",
    "no_similarity": "w/o Moveline Similarity",
}


def is_row(name: str) -> bool:
    """Whether there is a row of that name: one of `ROWS`, or ablations joined by `+`."""
    return name in ROWS or all(part in ABLATIONS for part in name.split("+"))


def row_title(row: str) -> str:
    """What the table calls a row."""
    if row in TITLES:
        return TITLES[row]
    return "w/o " + ", ".join(TITLES[part].removeprefix("w/o ") for part in row.split("+"))


class RowResult(NamedTuple):
    """One row of one seed.

    Attributes:
      row, seed: which.
      figures: of the test split, by the names of `amen_tf.metrics.summary`.
      eval_auc: the best epoch's.
      epochs: how many were trained.
      parameters: trainable numbers.
      frozen_parameters: numbers of the frozen generator.
      impressions_per_second: of training steps, the median over epochs; NaN where an epoch has too few steps.
      generator: ranks, cosines and leak of the row's generator; empty without one.
      scores: `[impressions]` float32, probabilities of the test split.
    """

    row: str
    seed: int
    figures: dict[str, float]
    eval_auc: float
    epochs: int
    parameters: int
    frozen_parameters: int
    impressions_per_second: float
    generator: dict[str, float]
    scores: np.ndarray


class Workshop:
    """Trains rows and keeps everything that was trained, so that a killed run goes on and rows share what they can.

    Args:
      prepared: the log.
      folder: of all that is kept; results are keyed by settings, code and data.
      report: told how far a training is.
    """

    def __init__(self, prepared: Prepared, folder: pathlib.Path, report: Callable[[Progress], None]):
        self.prepared, self.folder, self.report = prepared, folder, report
        self.code = fingerprint("benchmarks.rows")
        self.data = "".join(table.key for table in (prepared.train, prepared.eval, prepared.test))
        self.flows = FlowStore(folder / "flows")

    def settings(self, row: str) -> Settings:
        """The row's settings."""
        return self.prepared.settings if row in (*BASELINES, FULL) else ablated(self.prepared.settings, row)

    def key(self, row: str, seed: int) -> str:
        """16 hexadecimal digits of everything that a row's result depends on."""
        sections = (
            ("model", "compute", "base") if row in BASELINES else ("model", "compute", "base", "generator", "ctr")
        )
        settings = self.settings(row)
        return self._hash(f"{row} {settings.ctr.window}", seed, sections, settings)

    def _hash(self, what: str, seed: int, sections: tuple[str, ...], settings: Settings) -> str:
        content = settings.model_dump(mode="json", include=set(sections))
        text = json.dumps([what, seed, content, self.code, self.data], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def result(self, row: str, seed: int) -> RowResult | None:
        """The row's kept result; None where it was not trained yet."""
        path = self._path("results", row, seed, self.key(row, seed))
        if not path.exists():
            return None
        content = json.loads((path / "result.json").read_text(encoding="utf-8"))
        return RowResult(**content, scores=np.load(path / "scores.npy"))

    def train(self, row: str, seed: int) -> RowResult:
        """Trains a row, measures it on the test split and keeps the result."""
        return self.measure(row, seed, *self.fit(row, seed))

    def measure(self, row: str, seed: int, fitted: Fitted, generator: pathlib.Path | None, frozen: int) -> RowResult:
        """Measures what `fit` gave on the test split and keeps the result."""
        prepared, settings = self.prepared, self.settings(row)
        kept = {}
        if generator is not None:
            shape = (prepared.spec.shape.flow_length, prepared.spec.shape.dim)
            kept["flows"] = self.flows.of(generator, fitted.model.generator, prepared.test, *shape)
        scores = predict(fitted.model, prepared.test, **kept)
        label, user = flat_labels(prepared.test), flat_users(prepared.test)
        window = prepared.stage2 if self._goes_on(settings) else prepared.train
        batch = (settings.base if row in BASELINES else settings.ctr).batch_size
        steps = fitted.history.get("steps_per_second")
        rate = float(np.median(steps)) if steps else float("nan")
        result = RowResult(
            row=row,
            seed=seed,
            figures=metrics.summary(label, scores, user),
            eval_auc=max(fitted.history["val_auc"]),
            epochs=len(fitted.history["val_auc"]),
            parameters=count_parameters(fitted.model),
            frozen_parameters=frozen,
            impressions_per_second=rate * batch * window.impressions / window.size,
            generator={} if generator is None else json.loads((generator / "figures.json").read_text()),
            scores=scores,
        )
        with self._kept("results", row, seed, self.key(row, seed)) as folder:
            content = {name: value for name, value in result._asdict().items() if name != "scores"}
            (folder / "result.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
            np.save(folder / "scores.npy", scores)
        return result

    def fit(self, row: str, seed: int) -> tuple[Fitted, pathlib.Path | None, int]:
        """The trained model of a row, the folder of its generator if it reads one, and that one's parameters."""
        prepared, settings, spec = self.prepared, self.settings(row), self.prepared.seeded(seed)
        session = self._session(row, seed)
        if row in BASELINES:
            goes_on = self._goes_on(settings)
            windows = Windows(prepared.stage2 if goes_on else self._both(), prepared.eval)
            earlier = load_weights(self.stage1(row, seed) / "weights.npz") if goes_on else None
            with precision(settings.compute.precision):
                make_deterministic(seed)
                return fit_ranker(row, spec, settings.base, windows, session, earlier), None, 0
        weights = load_weights(self.stage1(settings.base.architecture, seed) / "weights.npz")
        generator = self.generator(row, seed) if settings.ctr.use_flow else None
        with precision(settings.compute.precision):
            make_deterministic(seed)
            windows = Windows(prepared.stage2, prepared.eval)
            earlier = None if prepared.stage1 is prepared.stage2 else prepared.stage1
            fitted = fit_ctr(spec, settings.ctr, windows, session, weights, generator, self.flows, earlier)
        frozen = json.loads((generator / "parameters.json").read_text()) if generator is not None else 0
        return fitted, generator, frozen

    def _goes_on(self, settings: Settings) -> bool:
        """Whether models learn from stage 1 first and go on with stage 2, instead of from both at a time.

        Where there is one window for both, they go on with the same.
        """
        return settings.ctr.window == "stage2"

    def _both(self) -> Window:
        """The whole train window, in batches such as the CTR model has of it."""
        stage1, stage2 = self.prepared.stage1, self.prepared.stage2
        return stage2 if stage1 is stage2 else JoinedWindow([stage1, stage2])

    def stage1(self, name: str, seed: int) -> pathlib.Path:
        """Folder of the ranker called `name` as it is after the stage-1 window: Θ_base, once a seed, and others."""
        settings = self.prepared.settings
        key = self._hash(name, seed, ("model", "compute", "base"), settings)
        path = self._path("parts", f"stage1_{name}", seed, key)
        if not path.exists():
            windows = Windows(self.prepared.stage1, self.prepared.eval)
            with precision(settings.compute.precision):
                make_deterministic(seed)
                session = self._session(f"stage1_{name}", seed)
                fitted = fit_ranker(name, self.prepared.seeded(seed), settings.base, windows, session)
            with self._kept("parts", f"stage1_{name}", seed, key) as folder:
                save_weights(fitted.model, folder / "weights.npz")
        return path

    def generator(self, row: str, seed: int) -> pathlib.Path:
        """Folder of the row's exported generator; rows with the same stage-1 settings share one."""
        settings = self.settings(row)
        key = self._hash("generator", seed, ("model", "compute", "base", "generator"), settings)
        path = self._path("parts", "generator", seed, key)
        if not path.exists():
            weights = load_weights(self.stage1(settings.base.architecture, seed) / "weights.npz")
            windows = Windows(self.prepared.stage1, self.prepared.eval)
            with precision(settings.compute.precision):
                make_deterministic(seed)
                session, spec = self._session(f"{row}_generator", seed), self.prepared.seeded(seed)
                fitted = fit_generator(spec, settings.generator, windows, session, weights, self.prepared.item_counts)
                with self._kept("parts", "generator", seed, key) as folder:
                    export_generator(fitted.model, folder)
                    (folder / "figures.json").write_text(json.dumps(fitted.figures), encoding="utf-8")
                    (folder / "parameters.json").write_text(json.dumps(count_parameters(fitted.model)))
        return path

    def _session(self, name: str, seed: int) -> Session:
        log_dir = self.folder / "tensorboard" / f"{name}-{seed}"
        shutil.rmtree(log_dir, ignore_errors=True)
        return Session(log_dir, self.report, self.prepared.settings.compute)

    def _path(self, kind: str, name: str, seed: int, key: str) -> pathlib.Path:
        return self.folder / kind / f"{name}-{seed}-{key}"

    @contextlib.contextmanager
    def _kept(self, kind: str, name: str, seed: int, key: str) -> Iterator[pathlib.Path]:
        """A folder that comes under its name only when all of it has been written.

        Where another process has been faster, its folder is kept: the same key says the same content.
        """
        path = self._path(kind, name, seed, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as passing:
            partial = pathlib.Path(passing) / path.name
            partial.mkdir()
            yield partial
            try:
                partial.rename(path)
            except OSError:
                if not path.exists():
                    raise


def predict(model: keras.Model, table: RequestTable, flows=None) -> np.ndarray:
    """Probabilities `[impressions]` float32 of a window, in its order."""
    parts = []
    for features in table.batches(512, flows=flows):
        probability = model.predict_step(features).numpy()
        parts.append(probability[features[CANDIDATE_MASK].numpy()])
    return np.concatenate(parts)


def flat_labels(table: RequestTable) -> np.ndarray:
    """Labels `[impressions]`, in the order of `predict`."""
    return table.columns[LABEL][table.columns[CANDIDATE_MASK]]


def flat_users(table: RequestTable) -> np.ndarray:
    """User keys `[impressions]`, in the order of `predict`."""
    mask = table.columns[CANDIDATE_MASK]
    return np.broadcast_to(table.columns[USER_KEY][:, np.newaxis], mask.shape)[mask]


def count_parameters(model: keras.Model) -> int:
    """Numbers in all trainable weights."""
    return int(sum(np.prod(weight.shape) for weight in model.trainable_variables))
