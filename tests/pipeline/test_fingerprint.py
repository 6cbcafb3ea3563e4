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

from pipeline.fingerprint import PACKAGES, fingerprint

ROOT = pathlib.Path(__file__).parents[2]
BASE, GENERATOR, CTR = (f"pipeline.trainers.{name}" for name in ("base", "generator", "ctr"))
PREPROCESSING, EXAMPLES, PUSHER = "pipeline.preprocessing", "pipeline.example_gen.executor", "pipeline.pusher"
ENTRIES = (EXAMPLES, PREPROCESSING, BASE, GENERATOR, CTR, PUSHER)

# Appends a text to a file, asks, and takes it back again, for every pair on standard input.
ASK = """
import json, pathlib, sys
from pipeline.fingerprint import fingerprint
answers = []
for path, addition in json.load(sys.stdin):
    text = pathlib.Path(path).read_text(encoding="utf-8")
    pathlib.Path(path).write_text(text + addition, encoding="utf-8")
    answers.append({name: fingerprint(name) for name in sys.argv[1:]})
    pathlib.Path(path).write_text(text, encoding="utf-8")
print(json.dumps(answers))
"""
NOTHING = ("pipeline/__init__.py", "")
# File -> the entries that import it, directly or not.
DEPENDENTS = {
    "amen_tf/features.py": {EXAMPLES, PREPROCESSING, BASE, GENERATOR, CTR},
    "amen_tf/layers/attention.py": {BASE, GENERATOR, CTR},
    "amen_tf/layers/target_attention.py": {BASE, CTR},
    "amen_tf/layers/calibration.py": {CTR},
    "amen_tf/models/generator.py": {GENERATOR, CTR},
    "amen_tf/signatures.py": {BASE, GENERATOR, CTR},
    "amen_tf/__init__.py": set(ENTRIES),
    "pipeline/event_log/rules.py": {EXAMPLES},
    "pipeline/preprocessing.py": {PREPROCESSING},
    "pipeline/vocabularies.py": {PREPROCESSING, BASE, GENERATOR, CTR},
    "pipeline/trainers/common.py": {BASE, GENERATOR, CTR},
    "pipeline/pusher.py": {PUSHER},
    "pipeline/pruning.py": {PUSHER},
    # Which versions a models.config needs is for the stage that removes the others.
    "serving/double/config.py": {PUSHER},
    "serving/double/versions.py": set(),
    # What runs stages, evaluates or serves decides nothing inside a stage that trains.
    "pipeline/pipeline.py": set(),
    "pipeline/runners/run.py": set(),
    "serving/client.py": set(),
}


def copy_packages(source, folder):
    for package in PACKAGES:
        shutil.copytree(source / package, folder / package, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    return folder


def fingerprints(folder, additions=(NOTHING,)):
    """For every (file, text to append): entry module -> fingerprint, as a process sees it that runs from `folder`."""
    command = [sys.executable, "-c", ASK, *ENTRIES]
    asked = subprocess.run(command, cwd=folder, input=json.dumps(additions), capture_output=True, text=True)
    assert asked.returncode == 0, asked.stderr
    return json.loads(asked.stdout)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A copy that stays as it is: the working tree may be edited while tests run."""
    return copy_packages(ROOT, tmp_path_factory.mktemp("original"))


@pytest.fixture(scope="module")
def unedited(original):
    return fingerprints(original)[0]


@pytest.fixture(scope="module")
def changed_entries(original, unedited, tmp_path_factory):
    """File -> the entries whose fingerprint changes when a line is appended to it; all files in one process."""
    folder = copy_packages(original, tmp_path_factory.mktemp("appended") / "code")
    answers = fingerprints(folder, [(path, "EDITED = 1\n") for path in DEPENDENTS])
    return {path: differing(unedited, answer) for path, answer in zip(DEPENDENTS, answers, strict=True)}


@pytest.fixture
def copied(original, tmp_path):
    return copy_packages(original, tmp_path / "code")


@pytest.fixture
def changed_by(copied, unedited):
    """`changed_by(edit)`: the entries whose fingerprint changes when `edit(folder)` has been made."""

    def _changed(edit):
        edit(copied)
        return differing(unedited, fingerprints(copied)[0])

    return _changed


def differing(before, now):
    return {name for name in ENTRIES if now[name] != before[name]}


def adding(path, text="EDITED = 1\n"):
    def edit(folder):
        with open(folder / path, "a", encoding="utf-8") as file:
            file.write(text)

    return edit


def test_form_and_independence_of_the_folder(copied, unedited):
    assert all(re.fullmatch("[0-9a-f]{16}", value) for value in unedited.values())
    assert len(set(unedited.values())) == len(ENTRIES)
    assert fingerprints(copied) == [unedited]


def test_comments_and_layout_change_nothing(changed_by):
    def edit(folder):
        for path in folder.rglob("*.py"):
            lines = path.read_text(encoding="utf-8")
            # Unparsing throws every comment and the whole layout away; what runs is the same.
            path.write_text(f"# A new comment\n\n{ast.unparse(ast.parse(lines))}\n", encoding="utf-8")

    assert changed_by(edit) == set()


@pytest.mark.parametrize("path", DEPENDENTS)
def test_an_edit_changes_what_imports_it_and_nothing_else(path, changed_entries):
    assert changed_entries[path] == DEPENDENTS[path]


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
    [before] = fingerprints(copied)
    adding("pipeline/datasets/auc.py")(copied)
    assert differing(before, fingerprints(copied)[0]) == {PUSHER}


def test_no_module_of_ours_imports_relatively():
    # The fingerprint follows absolute imports only; a relative one would be an edge that it does not see.
    for package in PACKAGES:
        # Hidden folders hold what a set-up installed.
        paths = [p for p in (ROOT / package).rglob("*.py") if "/." not in str(p.relative_to(ROOT))]
        for path in paths:
            for node in ast.walk(ast.parse(path.read_bytes())):
                assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: line {node.lineno}"


def test_asking_imports_nothing_heavy(copied):
    # It is asked once for every stage of every run, before anything is known to need TensorFlow.
    adding("pipeline/preprocessing.py", "raise RuntimeError('imported')\n")(copied)
    assert fingerprints(copied)


def test_a_name_that_is_no_module_is_an_error():
    with pytest.raises(ValueError, match=r"pipeline\.trainers\.bass"):
        fingerprint("pipeline.trainers.bass")
