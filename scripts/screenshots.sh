#!/usr/bin/env bash
# Makes the pictures in screenshots/ anew, from real runs: an HBase of its own on free ports, a replay server that spoils
# some of its answers, and f1hbase in terminals whose screens are drawn. It takes some four minutes, and touches
# neither the tables of any other HBase nor the log in this folder.
# Usage: scripts/screenshots.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case "${1:-}" in
  '') ;;
  *) sed -n '2,5{s/^# //;p;}' scripts/screenshots.sh; exit 2 ;;
esac

project=$PWD
# Paths show in pictures: this one says nothing about the machine.
work=/tmp/f1hbase-screenshots
server='' hbase=''
clean_up() {
  local status=$?
  trap '' INT TERM
  if [ -n "$server" ]; then
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  if [ -n "$hbase" ]; then
    "$project/scripts/local_hbase.sh" stop || true
  fi
  rm -rf "$work"
  exit "$status"
}

scripts/setup.sh
scripts/local_hbase.sh fetch
mkdir -m 700 "$work" || { echo "screenshots.sh: remove $work first, if nobody else is making pictures" >&2; exit 1; }
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

free_ports() { # NUMBER
  .venv/bin/python - "$1" <<'PYTHON'
import socket, sys
sockets = [socket.socket() for _ in range(int(sys.argv[1]))]
for one in sockets:
    one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in sockets))
PYTHON
}
read -r thrift zookeeper master region <<< "$(free_ports 4)"
export LOCAL_HBASE_DIR=$work/hbase LOCAL_HBASE_THRIFT_PORT=$thrift LOCAL_HBASE_ZK_PORT=$zookeeper
export LOCAL_HBASE_MASTER_PORT=$master LOCAL_HBASE_REGIONSERVER_PORT=$region
hbase=started
scripts/local_hbase.sh start

replay() { .venv/bin/python -m simulator "$@"; }
replay make "$work/2024" --year 2024 --meetings 3 --minutes 2
replay make "$work/2025" --year 2025 --meetings 1 --minutes 3 --sessions practice,qualifying,race
.venv/bin/python -m simulator serve "$work/2024" "$work/2025" --port 0 --port-file "$work/port" \
  --faults 0.03 --fault-kinds 502,502,429 > "$work/server.log" 2>&1 &
server=$!
until [ -s "$work/port" ]; do
  kill -0 "$server" 2>/dev/null || { cat "$work/server.log" >&2; exit 1; }
  sleep 0.1
done

# The folder that the commands run in looks like this one, but its log is its own.
mkdir "$work/f1hbase"
ln -s "$project/scripts" "$project/hbase_populate_openF1.py" "$work/f1hbase"
cd "$work/f1hbase"
for name in $(env | sed -n 's/^\(F1HBASE_[A-Z_]*\)=.*/\1/p'); do unset "$name"; done
unset NO_COLOR COLUMNS LINES
export PATH="scripts/bin:$project/.venv/bin:$PATH" XDG_STATE_HOME=$work/state TERM=xterm-256color PYTHONUTF8=1 TZ=UTC
export F1HBASE_HBASE_HOST=127.0.0.1 F1HBASE_HBASE_PORT=$thrift F1HBASE_RETRY_DELAY=1
F1HBASE_API_URL="http://127.0.0.1:$(cat "$work/port")/v1"
export F1HBASE_API_URL
python scripts/screenshots.py
python "$project/scripts/plots.py"
python "$project/scripts/pages.py"
