#!/usr/bin/env bash
# Writes requirements.lock and requirements-dev.lock anew from pyproject.toml: versions and hashes for every
# platform, and no host name, so that whichever index a machine is set up with serves them.
# Usage: scripts/lock.sh [--upgrade]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet uv

compile() {
  "$work/venv/bin/uv" pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
    --no-strip-extras --no-emit-index-url --no-header --quiet "$@"
}
compile --group build --output-file requirements.lock "$@"
compile --group dev --output-file requirements-dev.lock "$@"
