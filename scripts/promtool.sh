#!/usr/bin/env bash
# Fetches promtool, with which a test runs the unit tests of serving/production/prometheus, from Debian's packages.
#
# in:     promtool on PATH, or apt-get, whose package `prometheus` holds it (unpacked, not installed: no service starts)
# out:    .tools/promtool, unless there is one on PATH
# status: 0, also where it cannot be had: that test is skipped then, and says so
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if command -v promtool >/dev/null || [ -x .tools/promtool ]; then exit 0; fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fetch() { (cd "$work" && apt-get download prometheus >/dev/null 2>&1); }

if command -v apt-get >/dev/null && { fetch || { apt-get update >/dev/null 2>&1 && fetch; }; }; then
  dpkg -x "$work"/prometheus_*.deb "$work/unpacked"
  mkdir -p .tools
  mv "$work/unpacked/usr/bin/promtool" .tools/promtool
else
  echo "promtool: not on PATH and not to be had from Debian's packages; the unit tests of the rules are skipped" >&2
fi
