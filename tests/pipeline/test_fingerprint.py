"""Which edits of our code re-run which stage: on a copy of the packages, edited file by file.

Every question is put to a fresh process, as a new `amen run` would put it.
"""

import ast
import json
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from pipeline.fingerprint import PACKAGES

ROOT = pathlib.Path(__file__).parents[2]
BASE, GENERATOR, CTR = (f"pipeline.trainers.{name}" for name in ("base", "generator", "ctr"))
PREPROCESSING, EXAMPLES, PUSHER = "pipeline.preprocessing", "pipeline.example_gen.executor", "pipeline.pusher"
ENTRIES = (EXAMPLES, PREPROCESSING, BASE, GENERATOR, CTR, PUSHER)

ASK = """
import json, sys
from pipeline.fingerprint import fingerprint
print(json.dumps({name: fingerprint(name) for name in sys.argv[1:]}))
"""


def copy_packages(folder):
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def fingerprints(folder):
    """Entry module -> fingerprint, as a process sees it that runs from `folder`."""
    asked = subprocess.run([sys.executable, "-c", ASK, *ENTRIES], cwd=folder, capture_output=True, text=True)
    assert asked.returncode == 0, asked.stderr
    return json.loads(asked.stdout)


@pytest.fixture
def copied(tmp_path):
    return copy_packages(tmp_path / "code")


@pytest.fixture(scope="module")
def unedited(tmp_path_factory):
    return fingerprints(copy_packages(tmp_path_factory.mktemp("unedited")))


@pytest.fixture
def changed_by(copied, unedited):
    """`changed_by(edit)`: the entries whose fingerprint changes when `edit(folder)` has been made."""

    def _changed(edit):
        edit(copied)
        now = fingerprints(copied)
        return {name for name in ENTRIES if now[name] != unedited[name]}

    return _changed


def adding(path, text="EDITED = 1\n"):
    def edit(folder):
        with open(folder / path, "a", encoding="utf-8") as file:
            file.write(text)

    return edit


def test_form_and_independence_of_the_folder(copied, unedited):
    assert all(re.fullmatch("[0-9a-f]{16}", value) for value in unedited.values())
    assert len(set(unedited.values())) == len(ENTRIES)
    assert fingerprints(copied) == unedited


def test_comments_and_layout_change_nothing(changed_by):
    def edit(folder):
        for path in folder.rglob("*.py"):
            lines = path.read_text(encoding="utf-8")
            # Unparsing throws every comment and the whole layout away; what runs is the same.
            path.write_text(f"# A new comment\n\n{ast.unparse(ast.parse(lines))}\n", encoding="utf-8")

    assert changed_by(edit) == set()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("amen_tf/features.py", {EXAMPLES, PREPROCESSING, BASE, GENERATOR, CTR}),
        ("amen_tf/layers/target_attention.py", {BASE, GENERATOR, CTR}),
        ("amen_tf/layers/calibration.py", {CTR}),
        ("amen_tf/layers/interest_flow_decoder.py", {GENERATOR, CTR}),
        ("amen_tf/models/generator.py", {GENERATOR, CTR}),
        ("amen_tf/models/ctr.py", {CTR}),
        ("amen_tf/signatures.py", {BASE, GENERATOR, CTR}),
        ("amen_tf/__init__.py", set(ENTRIES)),
        ("pipeline/event_log/rules.py", {EXAMPLES}),
        ("pipeline/preprocessing.py", {PREPROCESSING, BASE, GENERATOR, CTR}),
        ("pipeline/trainers/common.py", {BASE, GENERATOR, CTR}),
        ("pipeline/trainers/base.py", {BASE}),
        ("pipeline/pusher.py", {PUSHER}),
        # What runs stages, evaluates or serves decides nothing inside a stage that trains.
        ("pipeline/pipeline.py", set()),
        ("pipeline/cli.py", set()),
        ("pipeline/runners/run.py", set()),
        ("pipeline/datasets/simulator.py", set()),
        ("serving/client.py", set()),
    ],
)
def test_an_edit_changes_what_imports_it_and_nothing_else(path, expected, changed_by):
    assert (ROOT / path).is_file()
    assert changed_by(adding(path)) == expected


def test_an_edit_inside_a_function_counts(changed_by):
    def edit(folder):
        path = folder / "amen_tf/losses.py"
        text = path.read_text(encoding="utf-8")
        body = ast.parse(text).body
        last = next(node for node in reversed(body) if isinstance(node, ast.FunctionDef))
        lines = text.splitlines()
        lines.insert(last.body[-1].lineno - 1, "    unused = 0")
        path.write_text("\n".join(lines), encoding="utf-8")

    assert changed_by(edit) == {BASE, GENERATOR, CTR}


def test_an_import_inside_a_function_counts(changed_by):
    def edit(folder):
        adding("pipeline/pusher.py", "\n\ndef late():\n    from pipeline.datasets import auc\n    return auc\n")(folder)

    assert changed_by(edit) == {PUSHER}


def test_a_module_reached_only_by_a_late_import_counts(copied):
    adding("pipeline/pusher.py", "\n\ndef late():\n    from pipeline.datasets import auc\n    return auc\n")(copied)
    before = fingerprints(copied)
    adding("pipeline/datasets/auc.py")(copied)
    after = fingerprints(copied)
    assert {name for name in ENTRIES if before[name] != after[name]} == {PUSHER}


def test_no_module_of_ours_imports_relatively():
    # The fingerprint follows absolute imports only; a relative one would be an edge that it does not see.
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_bytes())):
                assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: line {node.lineno}"


def test_every_library_that_is_named_is_installed(unedited):
    import importlib.metadata

    from pipeline.fingerprint import LIBRARIES

    assert all(importlib.metadata.version(name) for name in LIBRARIES)
