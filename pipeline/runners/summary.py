"""The end of a run: figures of the test split, the gate's verdict, where the model went and what to type next."""

import datetime
import json
import pathlib
from collections.abc import Callable, Mapping

import tensorflow as tf
from rich.console import Console
from rich.table import Table

from amen_tf.config import Settings
from amen_tf.features import BEHAVIOR, CANDIDATE, MOVELINE, SCENE, TIMESTAMP, USER_ID, FeatureContract
from amen_tf.strict_json import to_json
from amen_tf.training import watched_figures
from pipeline.evaluation import AUC, CALIBRATION, IMPRESSIONS, Verdict, metrics, verdict
from pipeline.example_gen.report import FATES
from pipeline.pusher import REPORT as PUSH_REPORT
from pipeline.runners.layout import Layout
from pipeline.runners.local import StageResult
from pipeline.runners.prepare import simulation_folder
from pipeline.trainers.extra import COPIED, EXTRA, GENERATOR_FIGURES, HISTORY, STARTED_FROM

OF_MODEL = pathlib.Path("Format-Serving") / EXTRA
TRAINERS = ("base", "baseline", "generator", "ctr")


def stage_detail(result: StageResult) -> str:
    """The one figure worth a place on a stage's line, as text; empty for most."""
    if result.stage == "example_gen":
        counts = _counts(result)
        rows, splits = counts["rows"], counts["splits"]
        aside = ", ".join(f"{rows[fate]:,} {fate.replace('_', ' ')}" for fate in FATES[:-1] if rows[fate])
        aside = f" ({aside})" if aside else ""
        sizes = ", ".join(f"{name} {split['examples']:,}" for name, split in splits.items())
        return f"{rows['read']:,} rows{aside}; requests: {sizes}"
    if result.stage == "validation":
        drift = pathlib.Path(result.outputs["anomalies"]) / "drift.json"
        found = json.loads(drift.read_text()) if drift.exists() else {}
        told = "; ".join(f"{split}: {', '.join(features)}" for split, features in found.items())
        return f"drifted since the first split: {told}" if told else ""
    if result.stage == "pusher":
        return "" if result.cached else _pushed(pathlib.Path(result.outputs["pushed_model"]) / PUSH_REPORT)
    if result.stage == "warm_start":
        return "" if "model" in result.outputs else "none yet: all models start afresh"
    history = pathlib.Path(result.outputs["model"]) / OF_MODEL / HISTORY if "model_run" in result.outputs else None
    if history is None or not history.exists():
        return ""
    return _figures_of(history) + _start_of(history.parent)


def _pushed(file: pathlib.Path) -> str:
    """What became of the model and of older versions; empty where it is one more version and all stay."""
    report = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    told = [f"the same as version {report['version']}, which stays the newest"] if report.get("was_there") else []
    if report.get("removed"):
        told.append(f"removed {', '.join(report['removed'])}")
    if report.get("removed") or report.get("problem"):
        told.append(f"versions kept: {report['kept']}")
    if report.get("problem"):
        told.append(report["problem"])
    return "; ".join(told)


def _start_of(extra: pathlib.Path) -> str:
    """Which run a warm model started from, by where its eval window ended, and what that lacked; empty for others."""
    initialization = extra / COPIED
    found = json.loads(initialization.read_text()) if initialization.exists() else {}
    if STARTED_FROM not in found:
        return ""
    end = datetime.datetime.fromtimestamp(found[STARTED_FROM]["eval_end"], datetime.timezone.utc)
    start = f", warm from the run to {end:%Y-%m-%d %H:%M}".removesuffix(" 00:00")
    left = len(found["absent"]) + len(found["other_shape"])
    return f"{start}, {left} weights afresh" if left else start


def _figures_of(history: pathlib.Path) -> str:
    figures = json.loads(history.read_text())
    if "val_auc" in figures:
        auc, start = _kept(figures, "auc", max)
        return f"eval AUC {auc:.4f}{start}"
    info_nce, start = _kept(figures, "info_nce", min)
    told = f"eval InfoNCE {info_nce:.3f}{start}"
    of_kept = json.loads((history.parent / GENERATOR_FIGURES).read_text())
    # Null where no request of eval is followed by an item that can be ranked.
    if of_kept["hr@10_step_0"] is None:
        return told
    ranks = f"HR@10 {of_kept['hr@10_step_0']:.3f}, NDCG@10 {of_kept['ndcg@10_step_0']:.3f} of the whole catalogue"
    return f"{told}, {ranks}"


def _kept(history: Mapping[str, list[float]], name: str, best: Callable[[list[float]], float]) -> tuple[float, str]:
    """The eval figure of the weights that are kept, and a word where they are those that a warm start began with."""
    found = watched_figures(history, name)
    of_start = found.index(best(found)) < len(found) - len(history[f"val_{name}"])
    return best(found), ", start kept" if of_start else ""


def _counts(example_gen: StageResult) -> dict:
    """What became of every row of the log."""
    return json.loads((pathlib.Path(example_gen.outputs["examples"]) / "report.json").read_text(encoding="utf-8"))


class Summary:
    """What a run came to.

    Args:
      settings: of the run.
      layout: of the run.
      results: of all stages, by id.
      seconds: wall time of the whole.
    """

    def __init__(self, settings: Settings, layout: Layout, results: dict[str, StageResult], seconds: float):
        self.settings, self.layout, self.results, self.seconds = settings, layout, results, seconds
        self.base = metrics(results["evaluator_baseline"].outputs["evaluation"])
        self.amen = metrics(results["evaluator"].outputs["evaluation"])
        self.verdict: Verdict = verdict(results["evaluator"].outputs["evaluation"])
        # Not the newest version in the folder: after a return to earlier settings that is another run's model.
        self.pushed = results["pusher"].pushed

    def oracle_auc(self) -> float | None:
        """AUC of the simulator's true click probabilities on the test split; None for a log that is not simulated."""
        if self.settings.data.simulate is None:
            return None
        from pipeline.datasets.simulator import oracle_auc

        folder = simulation_folder(self.settings, self.layout)
        return oracle_auc(folder, from_time=self.settings.split.eval_end)

    def to_dict(self) -> dict:
        """The figures, for `report.json`."""
        return {
            "name": self.settings.name,
            "auc": {"base": self.base[AUC], "amen": self.amen[AUC], "oracle": self.oracle_auc()},
            "calibration": {"base": self.base[CALIBRATION], "amen": self.amen[CALIBRATION]},
            "test_impressions": self.amen[IMPRESSIONS],
            "data": _counts(self.results["example_gen"]),
            "generator": self._extra("generator", GENERATOR_FIGURES),
            "initialization": {stage: self._copied(stage) for stage in ("generator", "ctr")},
            "warm_start": {stage: self._warm_start(stage) for stage in TRAINERS},
            "auc_change_to_last_blessed": self.amen.get(f"{AUC}_diff"),
            "blessed": self.verdict.blessed,
            "reasons": list(self.verdict.reasons),
            "version": self.pushed,
            "seconds": {stage: round(result.seconds, 1) for stage, result in self.results.items()},
            "cached": [stage for stage, result in self.results.items() if result.cached],
        }

    def _extra(self, stage: str, file: str) -> dict | None:
        outputs = self.results[stage].outputs if stage in self.results else {}
        if "model" not in outputs:
            return None
        path = pathlib.Path(outputs["model"]) / OF_MODEL / file
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def _copied(self, stage: str) -> dict[str, int] | None:
        """How many weights came from another model and how many did not; None where none were asked for."""
        report = self._extra(stage, COPIED)
        return None if report is None else {what: len(names) for what, names in report.items() if what != STARTED_FROM}

    def _warm_start(self, stage: str) -> dict | None:
        """The earlier model that a stage started from, and what became of its words; None where it did not."""
        return (self._extra(stage, COPIED) or {}).get(STARTED_FROM)

    def write(self) -> None:
        """Writes `report.json` into the run's folder."""
        self.layout.report.write_text(to_json(self.to_dict()), encoding="utf-8")

    def print(self, console: Console) -> None:
        """The final table and the next commands."""
        figures = self.to_dict()
        table = Table(title=f"Test split: {int(figures['test_impressions']):,} impressions, later than all training")
        for column in ("model", "AUC", "to base", "calibration"):
            table.add_column(column, justify="left" if column == "model" else "right")
        base, amen, oracle = (figures["auc"][name] for name in ("base", "amen", "oracle"))
        table.add_row("base (MEDN)", f"{base:.4f}", "", f"{figures['calibration']['base']:.3f}")
        table.add_row("AMEN", f"{amen:.4f}", f"{100 * (amen - base):+.2f} pt", f"{figures['calibration']['amen']:.3f}")
        if oracle is not None:
            table.add_row("oracle (true probabilities)", f"{oracle:.4f}", f"{100 * (oracle - base):+.2f} pt", "")
        console.print(table)
        self._print_verdict(console, figures)
        self._print_next(console)

    def _print_verdict(self, console: Console, figures: dict) -> None:
        gate = self.settings.gate
        change = figures["auc_change_to_last_blessed"]
        against = (
            "no blessed model before this one" if change is None else f"{100 * change:+.2f} pt to the last blessed"
        )
        asked = f"asked: AUC at least {gate.min_auc}, drop at most {100 * gate.max_auc_drop:.1f} pt, "
        asked += f"calibration {gate.min_calibration} to {gate.max_calibration}"
        if self.verdict.blessed:
            console.print(f"Gate: [green]blessed[/] ({against}; {asked})")
            console.print(f"Pushed: {self.layout.push / (self.pushed or '')}", markup=False)
            return
        console.print(f"Gate: [red]not blessed[/], nothing was pushed ({against}; {asked})")
        for reason in self.verdict.reasons:
            console.print(f"  {reason}", markup=False)

    def _print_next(self, console: Console) -> None:
        console.print(f"Report: {self.layout.report}", markup=False)
        console.print("Next:")
        if self.pushed:
            console.print(f"  amen serve {_short(self.layout.push)}", markup=False)
            console.print(f"  amen rank {_short(self.layout.example_request)}", markup=False)
        tensorboard = f"  tensorboard --logdir {_short(self.layout.tensorboard)}    (then http://localhost:6006)"
        console.print(tensorboard, markup=False)


def _short(path: pathlib.Path) -> str:
    """Relative to the working directory where that is shorter."""
    try:
        return str(path.relative_to(pathlib.Path.cwd()))
    except ValueError:
        return str(path)


def write_example_request(examples: str, contract: FeatureContract, path: pathlib.Path) -> None:
    """Writes a request of the test split as JSON for `amen rank`: the one with the longest moveline of the first 200.

    Args:
      examples: folder of ExampleGen's artifact.
      contract: the run's features.
      path: of the JSON file.
    """
    files = sorted(tf.io.gfile.glob(f"{examples}/Split-test/*"))
    best, score = None, (-1, -1)
    for serialized in tf.data.TFRecordDataset(files, compression_type="GZIP").take(200).as_numpy_iterator():
        feature = tf.train.Example.FromString(serialized).features.feature
        size = (min(len(_values(feature, CANDIDATE + "item_id")), 2), len(_values(feature, MOVELINE + BEHAVIOR)))
        if size > score:
            best, score = feature, size
    if best is not None:
        path.write_text(json.dumps(_request(best, contract), indent=1), encoding="utf-8")


def _request(feature, contract: FeatureContract) -> dict:
    def columns(prefix: str, names) -> list[dict]:
        values = {name.removeprefix(prefix): _values(feature, name) for name in names}
        return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]

    def owned(owner) -> dict:
        found = {f.name: _values(feature, f.name) for f in contract.owned_by(owner)}
        return {name: values[0] for name, values in found.items() if values}

    return {
        "user_id": _values(feature, USER_ID)[0],
        "timestamp": _values(feature, TIMESTAMP)[0],
        "scene": _values(feature, SCENE)[0],
        "user": owned("user"),
        "context": owned("context"),
        "moveline": columns(MOVELINE, [c.name for c in contract.moveline_columns]),
        "candidates": columns(CANDIDATE, [c.name for c in contract.candidate_columns]),
    }


def _values(feature, name: str) -> list:
    if name not in feature:
        return []
    kind = feature[name].WhichOneof("kind")
    values = getattr(feature[name], kind).value if kind else []
    return [v.decode("utf-8") if isinstance(v, bytes) else v for v in values]
