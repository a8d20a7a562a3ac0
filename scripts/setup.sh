#!/usr/bin/env bash
# Makes .venv with f1hbase and its pinned dependencies. Run it as often as you like: when nothing changed it
# takes well under a second.
# Usage: scripts/setup.sh [--runtime]     --runtime leaves out the test and lint tools (on a cluster)
# Environment: PYTHON, the interpreter to use (3.11 or newer; found by itself otherwise).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

lock=requirements-dev.lock
case "${1:-}" in
  "") ;;
  --runtime) lock=requirements.lock ;;
  *) echo "setup.sh: unknown argument '$1'; usage: scripts/setup.sh [--runtime]" >&2; exit 2 ;;
esac

new_enough() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null && new_enough "$candidate"; then
      command -v "$candidate"
      return
    fi
  done
  cat >&2 <<'MESSAGE'
setup.sh: f1hbase needs Python 3.11 or newer, with the venv module, and found none. Install it with
  Debian, Ubuntu:     sudo apt-get install python3 python3-venv
  Amazon Linux 2023:  sudo dnf install python3.11
  macOS:              brew install python@3.11
or name an interpreter: PYTHON=/path/to/python3.11 scripts/setup.sh
MESSAGE
  exit 1
}

# The stamp names everything the environment was made from; the same stamp means there is nothing to do.
stamp=$( { echo "$lock $PWD"; cat "$lock" pyproject.toml scripts/web_assets.py; } | cksum)
if [ -x .venv/bin/f1hbase ] && [ "$(cat .venv/f1hbase.stamp 2>/dev/null)" = "$stamp" ]; then
  exit 0
fi

python=$(find_python)
echo "setup.sh: making .venv with $("$python" --version) and the packages of $lock"
# A half-made environment, or one whose interpreter is gone, is made again from nothing.
if ! new_enough .venv/bin/python; then
  rm -rf .venv
  "$python" -m venv .venv
fi
rm -f .venv/f1hbase.stamp
pip=(.venv/bin/python -m pip --disable-pip-version-check --quiet)
"${pip[@]}" install --require-hashes --requirement "$lock"
"${pip[@]}" install --no-deps --no-build-isolation --editable .
echo "$stamp" > .venv/f1hbase.stamp
