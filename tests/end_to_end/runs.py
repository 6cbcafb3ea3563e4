"""Runs of `amen run` as processes of their own, started and read as a person would.

They use the smoke preset: what the stages do is real, the figures mean nothing.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[2]
SETTINGS = (
    # A declared feature, and requests cut into parts of 3 and 2 candidates, so that N is not the same throughout.
    "data.features=[{name: position, owner: candidate, kind: categorical}]",
    "data.max_candidates=3",
    # At least ten steps for each trainer: so far apart lie the points of the curves.
    *(f"{trainer}.batch_size=32" for trainer in ("base", "generator", "ctr")),
    # Whatever the few steps come to is good enough to be pushed.
    "gate.min_auc=0.0",
    "gate.max_auc_drop=1.0",
    # Of the first run's window there is no earlier one: it starts afresh.
    "warm_start.enabled=true",
)
# All but the Resolvers, which look at the metadata anew each time and compute nothing.
STAGES = (
    "example_gen",
    "schema",
    "statistics",
    "validation",
    "transform",
    "base",
    "baseline",
    "generator",
    "ctr",
    "evaluator_baseline",
    "evaluator",
    "pusher",
)
RESOLVERS = ("warm_start", "last_blessed")
AMEN = "from pipeline.cli import main; main()"


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that ended: what the person saw and what lay in its folder.

    Attributes:
      status: exit status.
      out, err: standard output and error.
      folder: of the run.
      seconds: wall time of the process.
      report: content of report.json.
      pushed: the names of everything in the push folder, whole versions or not.
    """

    status: int
    out: str
    err: str
    folder: pathlib.Path
    seconds: float
    report: dict
    pushed: tuple[str, ...]

    @property
    def rerun(self) -> set[str]:
        """Stages that computed something."""
        return set(STAGES) - set(self.report["cached"])

    @property
    def version(self) -> pathlib.Path:
        """Folder of the version that this run pushed."""
        return push_folder(self.folder.parent) / self.report["version"]

    def artifact(self, stage: str, output: str) -> pathlib.Path:
        """Folder of the stage's newest artifact."""
        return max((self.folder / "artifacts" / stage / output).iterdir(), key=lambda path: int(path.name))


def push_folder(root) -> pathlib.Path:
    return pathlib.Path(root) / "amen-smoke" / "serving" / "amen"


def pushed_names(root) -> tuple[str, ...]:
    folder = push_folder(root)
    return tuple(sorted(path.name for path in folder.iterdir())) if folder.exists() else ()


def start(root, *overrides, code=AMEN, command=("run",)) -> subprocess.Popen:
    """Starts `amen run`, or another command that takes settings, in a process group of its own.

    So a signal reaches whatever it has started itself.
    """
    # The environment of a person's shell: without what the tests themselves set to keep TensorFlow quiet.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    given = (*SETTINGS, f"run.root={root}", *overrides)
    arguments = [*command, "--preset", "smoke", *(part for override in given for part in ("--set", override))]
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={**kept, "COLUMNS": "120"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(root, *overrides) -> Run:
    """`amen run` to its end."""
    begin = time.monotonic()
    process = start(root, *overrides)
    out, err = process.communicate(timeout=900)
    folder = pathlib.Path(root) / "amen-smoke"
    report = folder / "report.json"
    content = json.loads(report.read_text()) if report.exists() else {}
    seconds = time.monotonic() - begin
    return Run(process.returncode, out, err, folder, seconds, content, pushed_names(root))
