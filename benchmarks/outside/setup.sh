#!/usr/bin/env bash
# Makes the environment of fuxictr_din.py. It is apart from the project's own: PyTorch and TensorFlow need not agree.
#
# usage:  benchmarks/outside/setup.sh [FOLDER]     FOLDER is benchmarks/outside/.venv unless named; it is made anew
# in:     OUTSIDE_PYTHON  path of a CPython 3.10 or 3.11; without it pyenv, PATH and uv's own download, in this order
# out:    about 1.9 GB; several GB more on a machine where no CPU build of PyTorch can be had
# status: 0 done; 1 an installation failed; 2 no fitting Python, or FOLDER is something else
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
venv=${1:-$here/.venv}
torch=$(grep '^torch==' "$here/requirements.txt")

say() { echo "set-up: $*" >&2; }

# Runs a candidate, because being there proves nothing: pyenv leaves shims on PATH that exit with 127.
# The base executable is what counts: the python of an active virtual environment would not outlive this one.
try_python() {
  python=$("$1" -E -s -c 'import sys
fits = sys.version_info[:2] in ((3, 10), (3, 11)) and sys.implementation.name == "cpython"
print(getattr(sys, "_base_executable", None) or sys.executable) if fits else sys.exit(1)' 2>/dev/null </dev/null)
}

find_python() {
  local minor prefix
  if [ -n "${OUTSIDE_PYTHON:-}" ]; then
    try_python "$OUTSIDE_PYTHON" && return
    say "OUTSIDE_PYTHON=$OUTSIDE_PYTHON is no CPython 3.10 or 3.11"
    exit 2
  fi
  for minor in 3.11 3.10; do
    if prefix=$(pyenv prefix "$minor" 2>/dev/null); then try_python "$prefix/bin/python" && return; fi
  done
  for minor in 3.11 3.10; do try_python "python$minor" && return; done
  try_python python3 && return
  if [ $have_uv = yes ]; then
    uv python install 3.11 >&2 && try_python "$(uv python find --python-preference only-managed 3.11)" && return
  fi
  say "no CPython 3.10 or 3.11 found by pyenv, on PATH or by uv; name one: OUTSIDE_PYTHON=/path/to/python3.11 $0"
  exit 2
}

pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }

# The CPU build is not on PyPI. It comes from what pip is set up for (an index or a folder of wheels), or from PyTorch's
# own index, which uv knows. PyPI's build runs on a CPU too, but not without its CUDA libraries.
install_torch() {
  if pip install --quiet --dry-run --no-deps --ignore-installed --report - "$torch" 2>/dev/null | grep -q '+cpu'; then
    pip install --quiet --no-deps "$torch"
  elif [ $have_uv = yes ] && uv pip install --quiet --python "$venv/bin/python" --no-deps --torch-backend cpu "$torch"; then
    return
  else
    say "no CPU build of $torch within reach, taking PyPI's with CUDA: several GB"
    pip install --quiet "$torch"
  fi
}

have_uv=no
if uv --version >/dev/null 2>&1; then have_uv=yes; fi
find_python
if [ -e "$venv" ] && [ ! -e "$venv/pyvenv.cfg" ]; then
  say "$venv is there and is no virtual environment; name another folder"
  exit 2
fi
say "making $venv with $python"
rm -rf "$venv"
if [ $have_uv = yes ]; then
  uv venv --quiet --seed --python "$python" "$venv"
  # Without --no-deps uv and pip would bring torch's own dependencies, and the list is complete.
  grep -v '^torch==' "$here/requirements.txt" | uv pip install --quiet --python "$venv/bin/python" --no-deps -r -
else
  "$python" -m venv "$venv"
  grep -v '^torch==' "$here/requirements.txt" | pip install --quiet --no-deps -r /dev/stdin
fi
install_torch
"$venv/bin/python" -c 'import torch, fuxictr.pytorch.models' || { say "the installed packages do not import"; exit 1; }
say "done in $SECONDS s"
