"""The import-time check: which combinations pass, which warn, which stop and with what advice."""

import os
import pathlib
import re
import subprocess
import sys
import types

import pytest

from amen_tf import environment

ROOT = pathlib.Path(__file__).resolve().parents[2]
PY310 = {"tensorflow": "2.16.2", "tf-keras": "2.16.0", "tensorflow-transform": "1.16.0"}
PY311 = {"tensorflow": "2.21.0", "tf-keras": "2.21.0", "tensorflow-transform": "1.21.0"}


@pytest.fixture
def installed(monkeypatch):
    """Returns a function that pretends exactly these distributions are installed and TensorFlow is not loaded."""
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    monkeypatch.setenv(environment.LEGACY_KERAS, "1")

    def pretend(versions):
        def version(name):
            if name not in versions:
                raise environment.importlib.metadata.PackageNotFoundError(name)
            return versions[name]

        monkeypatch.setattr(environment.importlib.metadata, "version", version)

    return pretend


@pytest.mark.parametrize("versions", [PY310, PY311], ids=["py310", "py311"])
def test_tested_stacks_pass(installed, recwarn, versions):
    installed(versions)
    environment.check()
    assert not recwarn.list


def test_vendor_build_of_tensorflow_counts(installed):
    installed({"tensorflow-cpu": "2.16.2", "tf-keras": "2.16.0", "tensorflow-transform": "1.16.0"})
    environment.check()


@pytest.mark.parametrize("tensorflow", ["2.16.2", "2.21.0"])
def test_serving_host_without_tfx_passes(installed, recwarn, tensorflow):
    installed({"tensorflow": tensorflow, "tf-keras": tensorflow})
    environment.check()
    assert not recwarn.list


@pytest.mark.parametrize(
    "versions",
    [
        PY310 | {"tensorflow": "2.18.1", "tf-keras": "2.18.0", "tensorflow-transform": "1.17.0"},
        {"tensorflow": "2.19.0", "tf-keras": "2.19.0"},
    ],
    ids=["with-transform", "without-transform"],
)
def test_versions_in_between_warn(installed, versions):
    installed(versions)
    with pytest.warns(RuntimeWarning, match=rf"found tensorflow {versions['tensorflow']}.*make setup"):
        environment.check()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tensorflow": None}, r"needs TensorFlow, and none is installed in .*make setup"),
        ({"tf-keras": None}, r'tensorflow 2\.16\.2; none is installed in .*pip install "tf-keras==2\.16\.\*"'),
        ({"tf-keras": "2.21.0"}, r'found tf-keras 2\.21\.0 in .*pip install "tf-keras==2\.16\.\*"'),
        (
            {"tensorflow-transform": "1.21.0"},
            r"found tensorflow 2\.16\.2 with tensorflow-transform 1\.21\.0.*make setup",
        ),
        (
            {"tensorflow": "2.21.0", "tf-keras": "2.21.0"},
            r"found tensorflow 2\.21\.0 with tensorflow-transform 1\.16\.0",
        ),
        (
            {"tensorflow": "2.18.0", "tf-keras": "2.18.0"},
            r"found tensorflow 2\.18\.0 with tensorflow-transform 1\.16\.0",
        ),
        ({"tensorflow": "2.15.1", "tensorflow-transform": "1.15.0"}, r"found tensorflow 2\.15\.1"),
        ({"tensorflow": "2.22.0", "tensorflow-transform": "1.22.0"}, r"found tensorflow 2\.22\.0"),
        ({"tensorflow": "2.22.0", "tensorflow-transform": None}, r"found tensorflow 2\.22\.0\. To fix it"),
        ({"tensorflow": "unknown"}, r"expected a version such as 2\.16\.2, got 'unknown'"),
    ],
)
def test_wrong_combinations_stop(installed, change, message):
    installed({name: version for name, version in (PY310 | change).items() if version is not None})
    with pytest.raises(ImportError, match=message):
        environment.check()


@pytest.mark.parametrize("python", [(3, 9), (3, 12)])
def test_python_outside_the_range_stops(installed, monkeypatch, python):
    installed(PY310)
    monkeypatch.setattr(environment.sys, "version_info", (*python, 0, "final", 0))
    with pytest.raises(
        ImportError, match=rf"runs on Python 3\.10 to 3\.11; this is Python {python[0]}\.{python[1]} at"
    ):
        environment.check()


@pytest.mark.parametrize("value", ["0", "false", "yes", ""])
def test_keras_3_asked_for_stops(installed, monkeypatch, value):
    installed(PY310)
    monkeypatch.setenv(environment.LEGACY_KERAS, value)
    environment.use_keras_2()
    with pytest.raises(
        ImportError, match=f"is '{value}', which TensorFlow reads as Keras 3.*unset {environment.LEGACY_KERAS}"
    ):
        environment.check()


def _loaded_tensorflow(keras_version):
    keras = types.SimpleNamespace() if keras_version is None else types.SimpleNamespace(version=lambda: keras_version)
    return types.SimpleNamespace(keras=keras)


def test_keras_3_active_in_a_loaded_tensorflow_stops(installed, monkeypatch):
    installed(PY310)
    monkeypatch.setitem(sys.modules, "tensorflow", _loaded_tensorflow("3.12.4"))
    with pytest.raises(ImportError, match=r"imported before it with Keras 3\.12\.4 active\. Import amen_tf before"):
        environment.check()


def test_keras_2_active_in_a_loaded_tensorflow_passes(installed, monkeypatch):
    installed(PY310)
    monkeypatch.setitem(sys.modules, "tensorflow", _loaded_tensorflow(None))
    environment.check()


def test_the_variable_is_set_only_before_tensorflow(monkeypatch):
    monkeypatch.delenv(environment.LEGACY_KERAS, raising=False)
    monkeypatch.setitem(sys.modules, "tensorflow", _loaded_tensorflow(None))
    environment.use_keras_2()
    assert environment.LEGACY_KERAS not in os.environ
    monkeypatch.delitem(sys.modules, "tensorflow")
    environment.use_keras_2()
    assert os.environ[environment.LEGACY_KERAS] == "1"


def test_import_changes_one_variable_and_loads_no_tensorflow():
    code = (
        "import os, sys; before = dict(os.environ); import amen_tf; "
        "print({k for k in os.environ if os.environ[k] != before.get(k)}, 'tensorflow' in sys.modules)"
    )
    clean = {name: value for name, value in os.environ.items() if name != environment.LEGACY_KERAS}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=clean, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "{'TF_USE_LEGACY_KERAS'} False"


@pytest.mark.parametrize("name", sorted(environment.STACKS))
def test_the_table_agrees_with_the_lock(name):
    lock = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    pinned = dict(re.findall(r"^([a-z0-9-]+)==(\d+\.\d+)", lock, flags=re.MULTILINE))
    stack = environment.STACKS[name]
    assert pinned["tensorflow"] == pinned["tf-keras"] == "{}.{}".format(*stack.tensorflow)
    assert pinned["tensorflow-transform"] == "{}.{}".format(*stack.transform)
    assert name == "py{}{}".format(*stack.python)
