"""What is packaged, locked and written down: wheel contents, locks, a reason for every direct dependency."""

import ast
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGES = ("amen_tf", "pipeline", "schemas", "serving")


def direct_dependencies():
    """Names in INSTALL_REQUIRES and EXTRAS_REQUIRE of setup.py, read without running it."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    values = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id in ("INSTALL_REQUIRES", "EXTRAS_REQUIRE")
    }
    lines = values["INSTALL_REQUIRES"] + [line for extra in values["EXTRAS_REQUIRE"].values() for line in extra]
    return sorted({re.match(r"[A-Za-z0-9-]+", line)[0].lower() for line in lines})


@pytest.mark.parametrize("name", direct_dependencies())
def test_every_direct_dependency_is_locked_and_explained(name):
    for stack in ("py310", "py311"):
        lock = (ROOT / f"requirements/{stack}.txt").read_text(encoding="utf-8")
        assert re.search(rf"^{name}==", lock, flags=re.MULTILINE), f"{name} is not in {stack}.txt; run: make lock"
    reasons = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8")
    assert f"`{name}`" in reasons, f"docs/dependencies.md does not say why {name} is needed"


@pytest.mark.parametrize("name", ["py310", "py311", "tools"])
def test_locks_carry_hashes_and_nothing_of_the_machine_that_made_them(name):
    lock = (ROOT / f"requirements/{name}.txt").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=[a-z0-9])", lock)[1:]
    assert entries and all("--hash=sha256:" in entry for entry in entries)
    assert not re.search(r"https?:|file:|--index|--find-links|^[^#]*(?<![\w-])/\w", lock, flags=re.MULTILINE)


def test_wheel_holds_the_packages_and_their_data(tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    ignored = shutil.ignore_patterns("__pycache__")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    build = "import setuptools.build_meta as back_end; back_end.build_wheel('wheel')"
    result = subprocess.run([sys.executable, "-c", build], cwd=copy, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (wheel,) = (copy / "wheel").glob("amen_tf-*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    # Everything in the four packages is either code or data that the running program reads.
    expected = {
        path.relative_to(copy).as_posix()
        for name in PACKAGES
        for path in (copy / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert expected - packed == set()
    assert any(name.endswith((".dist-info/licenses/LICENSE", ".dist-info/LICENSE")) for name in packed)
    entry_points = next(name for name in packed if name.endswith("entry_points.txt"))
    assert "amen = pipeline.cli:main" in zipfile.ZipFile(wheel).read(entry_points).decode()
