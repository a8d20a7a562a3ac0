#!/usr/bin/env bash
# Runs a command of f1hbase on a schedule: one of a name at a time, and somebody is told when it fails.
# Usage: scripts/schedule/run.sh [--on-failure PROGRAM|URL] NAME COMMAND [ARGUMENT...]
#   If a run of that name is going on, says so and ends with 0. A kill leaves no lock: the system drops it.
#   PROGRAM is called with NAME and the exit code; a URL gets {"name": NAME, "exit_code": N} by POST.
#   For example  scripts/schedule/run.sh --on-failure https://hooks.example/f1 nightly f1hbase load --mode latest --quiet
set -euo pipefail

usage() {
  sed -n '3s/^# //p' "$0" >&2
  exit 2
}

on_failure=""
if [[ "${1:-}" == "--on-failure" ]]; then
  [[ $# -ge 2 && -n "$2" ]] || usage
  on_failure=$2
  shift 2
fi
[[ $# -ge 2 ]] || usage
name=$1
shift
[[ "$name" =~ ^[A-Za-z0-9_-]+$ ]] || { echo "run.sh: '$name' is no name: letters, digits, - and _ alone" >&2; exit 2; }

folder="${XDG_STATE_HOME:-$HOME/.local/state}/f1hbase"
mkdir -p "$folder"
exec {lock}>>"$folder/schedule-$name.lock"
if ! flock --nonblock "$lock"; then
  echo "run.sh: another run of '$name' is going on; this one ends"
  exit 0
fi

code=0
# The command inherits the lock: should this shell be killed and the command go on, a run is still going on.
"$@" || code=$?
# 130: somebody has interrupted it, and knows.
if [[ $code -ne 0 && $code -ne 130 && -n "$on_failure" ]]; then
  told=0
  case "$on_failure" in
    http://* | https://*)
      curl --fail --silent --show-error --max-time 20 --output /dev/null --header 'Content-Type: application/json' \
        --data-binary "{\"name\": \"$name\", \"exit_code\": $code}" -- "$on_failure" || told=$?
      ;;
    *) timeout 60 "$on_failure" "$name" "$code" || told=$? ;;
  esac
  [[ $told -eq 0 ]] || echo "run.sh: '$name' failed ($code), and telling so failed as well ($told)" >&2
fi
exit "$code"
