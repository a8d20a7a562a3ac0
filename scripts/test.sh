#!/usr/bin/env bash
# Sets up everything, then lints, checks types and runs every test, those against a real HBase included.
# The tests start an HBase of their own, on free ports and in a temporary folder, and stop it again.
# Usage: scripts/test.sh [--all] [PYTEST_OPTION...]     for example  scripts/test.sh -k codec
# --all runs besides: Spark over exports, OpenTSDB itself, 2,000 hostile cases (tests/hostile/), 30 kills of loads by
# Spark, and a load on a real YARN, which takes about an hour and a half.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case "${1:-}" in
  -h | --help) sed -n '2,6{s/^# //;p}' scripts/test.sh; exit 0 ;;
esac
all=''
if [ "${1:-}" = --all ]; then
  all=yes
  export TEST_ALL=yes
  shift
fi

# The jars are fetched here and with progress lines, not inside the first test that needs them.
{ scripts/local_hbase.sh fetch && scripts/local_hbase.sh fetch mapreduce && scripts/local_hbase.sh fetch spark; } &
fetch=$!
scripts/setup.sh
# So are the browser, where apt may, and the servers that stand in for Google's and Azure's stores, where Go and npm are;
# else the tests that need them are skipped.
.venv/bin/python tests/browser.py &
browser=$!
.venv/bin/python tests/store_servers.py &
stores=$!
wait "$fetch"
.venv/bin/ruff check
.venv/bin/ruff format --check
.venv/bin/mypy
.venv/bin/lint-imports
wait "$stores"
wait "$browser"
# Each of the two processes has an HBase of its own; much of the time goes by in waiting for one.
.venv/bin/python -m pytest --numprocesses 2 --dist loadfile "$@"
if [ -n "$all" ]; then
  .venv/bin/python -m tests.hostile --found
  .venv/bin/python -m tests.hostile --cases 2000 --first-seed 3000
  .venv/bin/python tests/spark_yarn.py
  .venv/bin/python tests/faults/kill_spark.py --runs 30
  .venv/bin/python tests/faults/refused_by_spark.py
fi
