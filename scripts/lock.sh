#!/usr/bin/env bash
# Resolves setup.py into the hashed locks of both stacks, also of the one that does not install on this machine.
#
# usage: scripts/lock.sh [--upgrade]     without --upgrade, locked versions stay unless setup.py or *.in forbid them
# in:    setup.py, requirements/py310.in, py311.in, tools.in
# out:   requirements/py310.txt, py311.txt, tools.txt
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Fetching uv is checked against the hashes in tools.txt, so a new version in tools.in needs that uv on PATH once.
uv=$(scripts/setup.sh --uv)
python=$(scripts/setup.sh --find-only)

# A fixed header and no index address: locks made by different people on different machines are the same bytes.
compile() {
  local output=requirements/$1
  shift
  echo "resolving $output"
  "$uv" pip compile --quiet --generate-hashes --custom-compile-command "make lock" --no-emit-index-url \
    --no-emit-find-links --python "$python" -o "$output" "$@"
}

compile tools.txt requirements/tools.in --universal --python-version 3.8 --no-strip-extras "$@"
compile py310.txt setup.py --all-extras -c requirements/py310.in \
  --python-version 3.10 --python-platform x86_64-manylinux_2_28 "$@"
compile py311.txt setup.py --all-extras -c requirements/py311.in \
  --python-version 3.11 --python-platform x86_64-manylinux_2_39 "$@"
