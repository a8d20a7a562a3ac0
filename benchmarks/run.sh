#!/usr/bin/env bash
# Measures f1hbase: sets up .venv, starts an HBase and a replay server of its own on free ports and in a scratch folder,
# lets all contenders load the same records in turns, prints the tables and writes them to docs/performance.md.
# Everything is stopped and deleted at the end, also after Ctrl-C.
#   benchmarks/run.sh                   the contest: the gateway's limit, f1hbase, the naive way (about half an hour)
#   benchmarks/run.sh --quick           a smoke run of the same in about a minute, which writes nothing
#   benchmarks/run.sh all               the contest and every study: storage, growth, memory, startup, requests, status,
#                                       zones, spark
#   benchmarks/run.sh --help            all options
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh
exec .venv/bin/python -m benchmarks "$@"
