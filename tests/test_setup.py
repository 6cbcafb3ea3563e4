"""scripts/setup.sh: which interpreter it takes, what it says when it finds none, and when it installs again.

The script runs in a folder of its own with made-up PATH and HOME, so nothing of this machine decides the outcome and
nothing is installed.
"""

import pathlib
import re
import shutil
import stat
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Programs the script calls; PATH holds these and nothing else of the machine, above all no Python.
TOOLS = ("awk", "bash", "cat", "chmod", "cut", "dirname", "env", "flock", "grep", "head", "mkdir", "mv", "paste", "rm")
TOOLS += ("sed", "sha256sum", "sort", "tail", "uname")

pytestmark = pytest.mark.skipif(shutil.which("flock") is None, reason="the script's tools are those of a Linux system")


def program(path, body):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def fake_python(path, version, kind="cpython"):
    """An interpreter that answers the script's question about itself and can do nothing else."""
    minor = ".".join(version.split(".")[:2])
    return program(path, f'[ "$3" = -c ] || exit 1\nprintf "%s\\n" {minor} {version} {kind} "$0"')


class Clone:
    """A folder with the files that set-up reads, an empty HOME and a PATH without any Python or uv."""

    def __init__(self, folder):
        self.root = folder / "clone"
        self.home = folder / "home"
        self.bin = folder / "bin"
        for name in ("scripts/setup.sh", "requirements", "setup.py"):
            source, target = ROOT / name, self.root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
        self.home.mkdir()
        self.bin.mkdir()
        for name in TOOLS:
            (self.bin / name).symlink_to(shutil.which(name))
        self.glibc("2.36")
        program(self.bin / "g++", "exit 0")

    def glibc(self, version):
        program(self.bin / "getconf", f"echo glibc {version}")

    def pyenv(self, version):
        return fake_python(self.home / ".pyenv/versions" / version / "bin/python", version)

    def setup(self, *arguments, **variables):
        environment = {"PATH": str(self.bin), "HOME": str(self.home), **variables}
        return subprocess.run(
            [str(self.root / "scripts/setup.sh"), *arguments],
            env={name: str(value) for name, value in environment.items()},
            capture_output=True,
            text=True,
            timeout=60,
        )

    def found(self, **variables):
        result = self.setup("--find-only", **variables)
        assert result.returncode == 0, result.stderr
        return pathlib.Path(result.stdout.strip())


@pytest.fixture
def clone(tmp_path):
    return Clone(tmp_path)


def test_amen_python_comes_first(clone):
    clone.pyenv("3.10.13")
    mine = fake_python(clone.home / "mine/python", "3.10.4")
    assert clone.found(AMEN_PYTHON=mine) == mine


def test_amen_python_of_another_version_stops_and_says_so(clone):
    clone.pyenv("3.10.13")
    mine = fake_python(clone.home / "mine/python", "3.12.1")
    result = clone.setup("--find-only", AMEN_PYTHON=mine)
    assert result.returncode == 2
    assert "stack py310 needs CPython 3.10, and AMEN_PYTHON names something else" in result.stderr
    assert f"{mine} is Python 3.12.1 (cpython)" in result.stderr


def test_newest_patch_of_pyenv_is_taken(clone):
    clone.pyenv("3.10.9")
    newest = clone.pyenv("3.10.13")
    clone.pyenv("3.11.7")
    assert clone.found() == newest


def test_pyenv_elsewhere_is_asked_for_its_root(clone, tmp_path):
    elsewhere = fake_python(tmp_path / "opt/pyenv/versions/3.10.2/bin/python", "3.10.2")
    program(clone.bin / "pyenv", f'[ "$1" = root ] && echo {tmp_path / "opt/pyenv"}')
    assert clone.found() == elsewhere


def test_a_shim_that_does_not_run_is_passed_over(clone):
    program(clone.bin / "python3.10", "exit 127")
    fake_python(clone.bin / "python3", "3.11.2")
    python = fake_python(clone.bin / "python", "3.10.6")
    assert clone.found() == python


def test_a_later_entry_of_path_is_reached(clone, tmp_path):
    program(clone.bin / "python3.10", "exit 127")
    later = fake_python(tmp_path / "later/python3.10", "3.10.12")
    assert clone.found(PATH=f"{clone.bin}:{tmp_path / 'later'}") == later


def test_pypy_is_not_taken(clone):
    fake_python(clone.bin / "python3.10", "3.10.6", kind="pypy")
    result = clone.setup("--find-only")
    assert result.returncode == 2
    assert "is Python 3.10.6 (pypy)" in result.stderr


def test_the_other_stack_wants_its_own_python(clone):
    clone.glibc("2.39")
    clone.pyenv("3.10.13")
    python = clone.pyenv("3.11.7")
    assert clone.found(STACK="py311") == python


def pinned_uv():
    return re.search(r"^uv==(\S+)", (ROOT / "requirements/tools.in").read_text(encoding="utf-8"), flags=re.MULTILINE)[1]


def test_uv_downloads_when_nothing_else_is_there(clone):
    remote, python = fake_python(clone.home / "remote", "3.10.18"), clone.home / "uv/python3.10"
    python.parent.mkdir()
    program(
        clone.bin / "uv",
        f"""case "$1 $2" in
  "--version ") echo "uv {pinned_uv()} (x86_64)" ;;
  "python find") [ -e {python} ] && echo {python} ;;
  "python install") mv {remote} {python} ;;
esac""",
    )
    assert clone.found() == python
    assert clone.found() == python, "the second time it is there, a download would fail"


def test_the_message_names_everything_that_was_looked_for(clone):
    program(clone.bin / "python3.10", "exit 127")
    fake_python(clone.bin / "python3", "3.11.2")
    program(
        clone.bin / "uv", f'[ "$1" = --version ] && echo "uv {pinned_uv()}" || {{ echo "  no route" >&2; exit 2; }}'
    )
    result = clone.setup()
    assert result.returncode == 2
    for expected in (
        "stack py310 needs CPython 3.10, and none was found. Looked for:",
        "AMEN_PYTHON            not set",
        f"pyenv                  no 3.10 under {clone.home}/.pyenv/versions",
        f"python3.10 on PATH     {clone.bin}/python3.10 does not run (exit status 127)",
        f"python3 on PATH        {clone.bin}/python3 is Python 3.11.2 (cpython)",
        "python on PATH         not found",
        "download by uv         failed: no route",
        "pyenv install 3.10",
        "AMEN_PYTHON=/path/to/python3.10 make setup",
    ):
        assert expected in result.stderr
    assert not (clone.root / ".venv").exists()


def test_no_python_at_all_says_how_to_get_uv(clone):
    result = clone.setup()
    assert result.returncode == 2
    assert "download by uv         not tried: no uv" in result.stderr
    assert "apt-get install python3-venv" in result.stderr


def test_py311_on_an_old_glibc_stops_at_once(clone):
    clone.pyenv("3.11.7")
    result = clone.setup(STACK="py311")
    assert result.returncode == 2
    assert "stack py311 needs glibc 2.39 or later, and this machine has glibc 2.36" in result.stderr
    assert "STACK=py310" in result.stderr


def test_no_compiler_stops_before_anything_is_removed(clone):
    clone.pyenv("3.10.13")
    (clone.bin / "g++").unlink()
    handmade = clone.root / ".venv/handmade"
    handmade.parent.mkdir()
    handmade.touch()
    result = clone.setup()
    assert result.returncode == 2
    assert "needs g++; found none" in result.stderr
    assert "apt-get install g++" in result.stderr
    assert handmade.exists()


def test_no_python_headers_names_the_package(clone):
    python = clone.pyenv("3.10.13")
    answer = python.read_text(encoding="utf-8")
    program(python, f'case "$4" in *Python.h*) exit 1 ;; esac\n{answer}')
    result = clone.setup()
    assert result.returncode == 2
    assert "apt-get install python3.10-dev" in result.stderr


def test_another_platform_stops_at_once(clone):
    (clone.bin / "uname").unlink()
    program(clone.bin / "uname", 'case "$1" in -s) echo Darwin ;; -m) echo arm64 ;; esac')
    result = clone.setup()
    assert result.returncode == 2
    assert "are for Linux x86_64, and this is Darwin arm64" in result.stderr


def test_unknown_stack_and_argument(clone):
    assert "STACK=py39 is not known; expected py310 or py311" in clone.setup(STACK="py39").stderr
    assert "unknown argument --fast; expected none, --find-only or --uv" in clone.setup("--fast").stderr


@pytest.fixture
def diary(clone):
    """A clone in which uv "installs"; returns (clone, function giving the calls since the last time it was asked)."""
    clone.pyenv("3.10.13")
    calls = clone.home / "calls"
    program(
        clone.bin / "uv",
        f"""[ "$1" != --version ] || {{ echo "uv {pinned_uv()}"; exit; }}
echo "$1 $2" >>{calls}
case "$1" in venv) mkdir -p .venv/bin; printf '#!/bin/sh\\n' >.venv/bin/python; chmod +x .venv/bin/python ;; esac
[ ! -e {clone.home}/broken ] || {{ echo "hash of tensorflow does not match"; exit 1; }}""",
    )

    def since():
        text = calls.read_text(encoding="utf-8").split("\n")[:-1] if calls.exists() else []
        calls.unlink(missing_ok=True)
        return [" ".join(line.split()[: 1 if line.startswith("venv") else 2]) for line in text]

    return clone, since


def test_second_call_does_nothing(diary):
    clone, calls = diary
    assert clone.setup().returncode == 0
    assert calls() == ["venv", "pip sync", "pip install"]
    second = clone.setup()
    assert (second.returncode, second.stdout, second.stderr, calls()) == (0, "", "", [])


def test_changed_lock_updates_in_place(diary):
    clone, calls = diary
    clone.setup()
    calls()
    with open(clone.root / "requirements/py310.txt", "a", encoding="utf-8") as lock:
        lock.write("# changed\n")
    assert clone.setup().returncode == 0
    assert calls() == ["pip sync", "pip install"]


def test_unfinished_set_up_starts_over(diary):
    clone, calls = diary
    clone.setup()
    calls()
    (clone.root / ".venv/.set-up-finished").unlink()
    leftover = clone.root / ".venv/half-written"
    leftover.touch()
    assert clone.setup().returncode == 0
    assert calls() == ["venv", "pip sync", "pip install"]
    assert not leftover.exists()


def test_other_stack_and_moved_folder_make_it_anew(diary):
    clone, calls = diary
    clone.setup()
    clone.glibc("2.41")
    clone.pyenv("3.11.7")
    calls()
    assert clone.setup(STACK="py311").returncode == 0
    assert calls() == ["venv", "pip sync", "pip install"]
    clone.root = clone.root.rename(clone.root.with_name("moved"))
    assert clone.setup(STACK="py311").returncode == 0
    assert calls() == ["venv", "pip sync", "pip install"]


def test_failed_installation_shows_cause_log_and_next_step(diary):
    clone, calls = diary
    (clone.home / "broken").touch()
    result = clone.setup()
    assert result.returncode == 1
    assert "hash of tensorflow does not match" in result.stderr
    assert f"{clone.root}/.tools/setup.log" in result.stderr
    (clone.home / "broken").unlink()
    calls()
    assert clone.setup().returncode == 0
    assert calls() == ["venv", "pip sync", "pip install"]
