#!/usr/bin/env bash
# From a fresh clone to a count in the genuine hbase shell, with one command and nothing but simulated data:
# sets up everything, starts the local HBase, serves a simulated race weekend as OpenF1 would, loads it, and looks.
# Usage: scripts/demo.sh                    the simulated weekend
#        scripts/demo.sh LOAD_OPTION...     loads from OpenF1 itself, for example --mode latest --num-sessions 1
# Environment: that of scripts/local_hbase.sh (LOCAL_HBASE_THRIFT_PORT and others); F1HBASE_* as for the loader.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case "${1:-}" in
  -h | --help) sed -n '2,6s/^# //p' "scripts/$(basename "$0")"; exit 0 ;;
esac

say() { printf '\n==> %s\n' "$*"; }

server=''
work=$(mktemp -d)
clean_up() {
  if [ -n "$server" ]; then
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  rm -rf "$work"
}
trap clean_up EXIT

say "Setting up Python and HBase (the first time: a minute or two of downloads)"
scripts/local_hbase.sh fetch &
fetch=$!
scripts/setup.sh
wait "$fetch"
scripts/local_hbase.sh start
# As on a cluster, load finds the hbase command, and so the shell that can set encodings and split points.
export PATH="$PWD/scripts/bin:$PATH"
export F1HBASE_HBASE_HOST=127.0.0.1 F1HBASE_HBASE_PORT="${LOCAL_HBASE_THRIFT_PORT:-9090}"

python=.venv/bin/python
status=0
loader='python hbase_populate_openF1.py'
if [ $# -gt 0 ]; then
  say "Loading from OpenF1: load $*"
  table="${F1HBASE_TABLE_PREFIX:+${F1HBASE_TABLE_PREFIX}_}f1_data"
  $python hbase_populate_openF1.py load "$@" || status=$?
else
  # Tables of its own, so that a weekend that never was does not mix with real ones.
  export F1HBASE_TABLE_PREFIX="${F1HBASE_TABLE_PREFIX:-demo}"
  table="${F1HBASE_TABLE_PREFIX}_f1_data"
  say "Simulating a race weekend (5 sessions of 3 minutes, 20 drivers) and serving it as OpenF1 does"
  $python -m simulator make "$work/weekend" --minutes 3
  $python -m simulator serve "$work/weekend" --port 0 --port-file "$work/port" > "$work/server.log" 2>&1 &
  server=$!
  until [ -s "$work/port" ]; do
    kill -0 "$server" 2>/dev/null || { cat "$work/server.log" >&2; exit 1; }
    sleep 0.1
  done
  export F1HBASE_API_URL="http://127.0.0.1:$(cat "$work/port")/v1"
  options="--table-prefix $F1HBASE_TABLE_PREFIX"
  [ "$F1HBASE_HBASE_PORT" = 9090 ] || options="$options --hbase-port $F1HBASE_HBASE_PORT"
  say "Loading it: $loader $options --api-url $F1HBASE_API_URL"
  $python hbase_populate_openF1.py || status=$?
fi

say "What the loader's reports say: $loader status${options:+ $options}"
$python hbase_populate_openF1.py status || true

say "What HBase says: the genuine hbase shell"
scripts/local_hbase.sh shell <<SHELL
count '$table', INTERVAL => 50000, CACHE => 5000
scan '$table', {LIMIT => 3}
SHELL

say "Is everything there, cell by cell? $loader verify --deep${options:+ $options}"
verified=0
$python hbase_populate_openF1.py verify --deep || verified=$?
[ "$status" -ne 0 ] || status=$verified

cat <<TEXT

The loader counts the rows of each column family; records of one instant or lap share a row, which HBase counts once.

==> To look further
  scripts/local_hbase.sh shell                        the hbase shell; try:
      scan '$table', {COLUMNS => ['laps:lap_duration'], LIMIT => 5}
      scan '$table', {ROWPREFIXFILTER => '2025#', COLUMNS => ['racecontrol:message'], LIMIT => 5}
  $loader --help              every command of the loader (with .venv/bin/python)
  $loader status${options:+ $options}
  $loader serve --from hbase${options:+ $options}      web pages of it, at http://127.0.0.1:8000
  scripts/demo.sh --mode latest --num-sessions 1      the latest real session, from OpenF1 itself
  scripts/local_hbase.sh stop                         end HBase; the data stay (wipe deletes them)
TEXT
exit "$status"
