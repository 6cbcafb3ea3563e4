#!/usr/bin/env bash
# Makes .venv from the hashed lock of one stack, or leaves it alone when it is up to date.
#
# usage:  scripts/setup.sh               make or update .venv
#         scripts/setup.sh --find-only   print the path of the interpreter that would be used, leave .venv alone
#         scripts/setup.sh --uv          print the path of the pinned uv, fetching it into .tools/ when it is not there
# in:     STACK        py310 (default) or py311, see requirements/README.md
#         AMEN_PYTHON  path of the interpreter to use; without it pyenv, PATH and uv's own download, in this order
# out:    .venv/ and .tools/ (uv, setup.log)
# status: 0 done; 1 an installation failed; 2 this machine lacks something, and the message says what to do
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$root"

stack=${STACK:-py310}
lock=requirements/$stack.txt
stamp=.venv/.set-up-finished
log=.tools/setup.log
looked_for=()

say() { echo "set-up: $*" >&2; }

die() {
  local status=$1
  say "$2"
  shift 2
  if [ $# -gt 0 ]; then printf '  %s\n' "$@" >&2; fi
  exit "$status"
}

note() { looked_for+=("$(printf '%-22s %s' "$1" "$2")"); }

# Runs a command with its output in the log, so that a person sees a handful of lines and can still read all of it.
logged() {
  local what=$1
  shift
  printf '\n+ %s\n' "$*" >>"$log"
  "$@" >>"$log" 2>&1 </dev/null && return
  tail -n 12 "$log" | sed 's/^/  | /' >&2
  die 1 "$what failed; the lines above are the end of $root/$log" \
    "Packages come from the index that uv is set up for (UV_DEFAULT_INDEX or uv.toml; pip's settings are not read)." \
    "Check the network and the free disk space, then give the same command again: it starts from a clean state."
}

# ---- what this machine must be -------------------------------------------------------------------------------------

case $stack in
  py310) minor=3.10 min_glibc=2.28 systems="Debian 12, Ubuntu 22.04 or later" ;;
  # The wheels of tensorflow-data-validation and ml-metadata are tagged manylinux_2_39.
  py311) minor=3.11 min_glibc=2.39 systems="Debian 13, Ubuntu 24.04 or later; on an older one use STACK=py310" ;;
  *) die 2 "STACK=$stack is not known; expected py310 or py311 (requirements/README.md says what they are)" ;;
esac

at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

check_platform() {
  local platform libc
  platform="$(uname -s) $(uname -m)"
  [ "$platform" = "Linux x86_64" ] || die 2 "the locks in requirements/ are for Linux x86_64, and this is $platform;" \
    "run it in a Linux x86_64 container or virtual machine"
  libc=$(getconf GNU_LIBC_VERSION 2>/dev/null) || libc="a C library other than glibc"
  { [[ $libc == "glibc "* ]] && at_least "${libc#glibc }" "$min_glibc"; } ||
    die 2 "stack $stack needs glibc $min_glibc or later, and this machine has $libc; it runs on $systems"
}

# ---- which Python --------------------------------------------------------------------------------------------------

# Runs a candidate, because being there proves nothing: pyenv leaves a shim `python3.10` on PATH that exits with 127.
# The base executable is what counts: a shim or the python of an active virtual environment would not outlive .venv.
probe='import sys
print("%d.%d" % sys.version_info[:2])
print(sys.version.split()[0])
print(getattr(getattr(sys, "implementation", None), "name", "cpython"))
print(getattr(sys, "_base_executable", None) or sys.executable)'

try_python() {
  local what=$1 candidate=$2 answer status=0
  found_minor='' found_full='' found_kind=''
  if ! command -v "$candidate" >/dev/null; then
    note "$what" "no program at $candidate"
    return 1
  fi
  answer=$("$candidate" -E -s -c "$probe" 2>/dev/null </dev/null) || status=$?
  if [ "$status" -ne 0 ]; then
    note "$what" "$candidate does not run (exit status $status)"
    return 1
  fi
  { read -r found_minor && read -r found_full && read -r found_kind && read -r found_path; } <<<"$answer" || true
  if [ "$found_minor" != "$minor" ] || [ "$found_kind" != cpython ]; then
    note "$what" "$candidate is Python ${found_full:-of unknown version} (${found_kind:-unknown})"
    return 1
  fi
  python=$found_path
}

find_in_pyenv() {
  local roots=() dir candidate seen=no
  [ -z "${PYENV_ROOT:-}" ] || roots+=("$PYENV_ROOT")
  if command -v pyenv >/dev/null; then roots+=("$(pyenv root 2>/dev/null || true)"); fi
  roots+=("${HOME:-/}/.pyenv")
  for dir in "${roots[@]}"; do
    while read -r candidate; do
      seen=yes
      try_python "pyenv" "$candidate" && return
    done < <(compgen -G "$dir/versions/$minor*/bin/python" | sort -rV)
  done
  [ $seen = yes ] || note "pyenv" "no $minor under $(printf '%s\n' "${roots[@]/%//versions}" | sort -u | paste -sd ' ')"
  return 1
}

find_on_path() {
  local name candidate seen
  for name in "python$minor" python3 python; do
    seen=no
    while read -r candidate; do
      seen=yes
      try_python "$name on PATH" "$candidate" && return
    done < <(type -aP "$name" | awk '!again[$0]++')
    [ $seen = yes ] || note "$name on PATH" "not found"
  done
  return 1
}

find_by_uv() {
  local candidate why
  if ! find_uv; then
    note "download by uv" "not tried: $uv_why"
    return 1
  fi
  candidate=$("$uv" python find --python-preference only-managed --no-python-downloads "$minor" 2>/dev/null) || {
    say "no Python $minor on this machine, asking uv to download one"
    if ! why=$("$uv" python install "$minor" 2>&1 </dev/null); then
      printf '\n+ %s python install %s\n%s\n' "$uv" "$minor" "$why" >>"$log"
      note "download by uv" "failed: $(tail -n 1 <<<"$why" | sed -E 's/^[^[:alnum:]]*((cause|error): )?//') (more in $root/$log)"
      return 1
    fi
    candidate=$("$uv" python find --python-preference only-managed --no-python-downloads "$minor" 2>/dev/null) || {
      note "download by uv" "uv installed it and cannot find it again"
      return 1
    }
  }
  try_python "download by uv" "$candidate"
}

find_python() {
  if [ -n "${AMEN_PYTHON:-}" ]; then
    # Named by hand: taking another one in silence would be a surprise.
    try_python AMEN_PYTHON "$AMEN_PYTHON" && return
    die 2 "stack $stack needs CPython $minor, and AMEN_PYTHON names something else:" "${looked_for[@]}" \
      "Set AMEN_PYTHON to the path of a CPython $minor, or leave it out to have pyenv, PATH and uv's download tried"
  fi
  note AMEN_PYTHON "not set"
  find_in_pyenv || find_on_path || find_by_uv || no_python
}

no_python() {
  local other="STACK=py311 make setup, which needs Python 3.11 and glibc 2.39 (requirements/README.md)"
  [ "$stack" = py310 ] || other="STACK=py310 make setup, which needs Python 3.10 (requirements/README.md)"
  die 2 "stack $stack needs CPython $minor, and none was found. Looked for:" "${looked_for[@]}" \
    "What to do, any one of these, then the same command again:" \
    "- let uv download it, which takes pip or venv and a network that allows it: apt-get install python3-venv" \
    "- install it with pyenv: pyenv install $minor" \
    "- name one that is elsewhere: AMEN_PYTHON=/path/to/python$minor make setup" \
    "- use the other stack: $other"
}

# ---- uv ------------------------------------------------------------------------------------------------------------

uv_version=$(sed -n 's/^uv==\([0-9.]*\).*/\1/p' requirements/tools.in)

# Sets `uv`. The pinned version first, so that everyone gets the same locks and environments; whatever uv is on PATH is
# the last resort on machines whose Python has neither pip nor venv.
find_uv() {
  local dir=.tools/uv-$uv_version candidate
  if [ -x "$dir/bin/uv" ]; then uv=$root/$dir/bin/uv; return; fi
  if [ "$(uv --version 2>/dev/null | cut -d ' ' -f 2)" = "$uv_version" ]; then uv=$(type -P uv); return; fi
  # A name of its own until it is whole: an interrupted fetch must not look like a finished one.
  rm -rf "$dir" "$dir.part"
  for candidate in ${python:+"$python"} python3 python; do
    if "$candidate" -m pip --version >/dev/null 2>&1; then
      printf '\n+ %s -m pip install uv\n' "$candidate" >>"$log"
      "$candidate" -m pip install --quiet --target "$dir.part" --only-binary :all: --require-hashes \
        -r requirements/tools.txt >>"$log" 2>&1 </dev/null && break
    elif "$candidate" -m venv "$dir.part" >/dev/null 2>&1; then
      printf '\n+ %s -m venv, then pip install uv\n' "$candidate" >>"$log"
      "$dir.part/bin/python" -m pip install --quiet --only-binary :all: --require-hashes \
        -r requirements/tools.txt >>"$log" 2>&1 </dev/null && break
    fi
    rm -rf "$dir.part"
  done
  if [ -x "$dir.part/bin/uv" ]; then
    mv "$dir.part" "$dir"
    uv=$root/$dir/bin/uv
    return
  fi
  if uv --version >/dev/null 2>&1; then uv=$(type -P uv); return; fi
  uv_why="no uv $uv_version on PATH, and none of ${python:+$python, }python3, python could install it with pip or venv"
  return 1
}

# ---- a compiler --------------------------------------------------------------------------------------------------

# pyfarmhash, which TFX's data validation depends on, is published as C++ source only. Without this check a machine that
# has no compiler finds out a minute later, in the middle of a build log.
check_compiler() {
  local packages=()
  if ! command -v g++ >/dev/null && ! command -v c++ >/dev/null && [ -z "${CXX:-}" ]; then packages=(g++); fi
  "$python" -E -s -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' ||
    packages+=("python$minor-dev")
  [ ${#packages[@]} -eq 0 ] ||
    die 2 "one package of the lock (pyfarmhash, for TFX) is compiled here, which needs ${packages[*]}; found none" \
      "Install it, then give the same command again: apt-get install ${packages[*]}"
}

# ---- the work ------------------------------------------------------------------------------------------------------

main() {
  local prefix want fresh=no
  case ${1:-} in
    "" | --find-only | --uv) ;;
    *) die 2 "unknown argument $1; expected none, --find-only or --uv" ;;
  esac
  if [ -z "${1:-}" ]; then
    [ -f "$lock" ] || die 2 "no $root/$lock; expected the hashed lock of stack $stack there; make it with: make lock"
    # The folder is in the stamp because scripts in .venv/bin carry its absolute path: a moved clone needs new ones.
    prefix="$stack $root"
    want="$prefix $(cat "$lock" setup.py | sha256sum | cut -d ' ' -f 1)"
    if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ]; then return; fi
  fi

  check_platform
  mkdir -p .tools
  # `make run` and `make test` started side by side would otherwise install over each other.
  exec 9>.tools/lock
  if command -v flock >/dev/null && ! flock -n 9; then
    say "waiting for another set-up in this folder"
    flock 9
  fi
  : >"$log"

  if [ "${1:-}" = --uv ]; then
    find_uv || die 2 "no uv: $uv_why" "install it or pip: apt-get install python3-pip"
    echo "$uv"
    return
  fi
  if [ "${1:-}" = --find-only ]; then
    find_python
    echo "$python"
    return
  fi

  # Without the stamp a set-up was cut short, and half-written packages are not seen by any installer: start over.
  if [ -x .venv/bin/python ] && [[ "$(cat "$stamp" 2>/dev/null)" == "$prefix "* ]]; then
    if [ "$(cat "$stamp")" = "$want" ]; then return; fi # another set-up finished while this one waited for its turn
    python=$root/.venv/bin/python
  else
    find_python
    fresh=yes
  fi
  check_compiler
  find_uv || die 2 "no uv: $uv_why" "install it or pip: apt-get install python3-pip"
  if [ $fresh = yes ]; then
    if [ -e .venv ]; then say ".venv is no finished set-up of stack $stack in this folder, making it anew"; fi
    say "installing $(grep -c '^[A-Za-z0-9]' "$lock") packages of $lock into .venv, with $python;"
    say "one to two minutes, depending on what has been downloaded before"
    rm -rf .venv
    logged "making .venv with $python" "$uv" venv --python "$python" .venv
  else
    say "bringing .venv up to date with $lock"
    rm -f "$stamp"
  fi
  # Bytecode now, once: where Python may not write it (PYTHONDONTWRITEBYTECODE, a read-only install) every process would
  # compile TensorFlow and TFX again, which was measured at 42 s instead of 13 s for their import.
  # The lock is also what source packages are built with, so that a new setuptools cannot break an old package.
  logged "installing $lock" "$uv" pip sync --python .venv/bin/python --require-hashes --build-constraints "$lock" \
    --compile-bytecode "$lock"
  # setuptools comes from the lock, so nothing unhashed is fetched to build the package itself.
  logged "installing amen_tf" "$uv" pip install --python .venv/bin/python --no-deps --no-build-isolation -e .
  echo "$want" >"$stamp.part" && mv "$stamp.part" "$stamp"
  say "done in $SECONDS s"
}

main "$@"
