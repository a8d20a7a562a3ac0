#!/usr/bin/env bash
# Runs a command of f1hbase on a schedule: one of a name at a time, and somebody is told when it fails.
# Usage: scripts/schedule/run.sh [--on-failure PROGRAM|URL] NAME COMMAND [ARGUMENT...]
#   If a run of that name is going on, says so and ends with 0. A kill leaves no lock: the system drops it.
#   f1hbase itself tells of its failures (F1HBASE_ON_FAILURE, docs/guide.md); this script of what keeps it from that: a
#   command that is not there, or was killed. PROGRAM is called with NAME and the exit code and gets a JSON summary at
#   its standard input; a URL gets the summary by POST.
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

if [[ -n "$on_failure" ]]; then
  case "$on_failure" in
    http://* | https://*) F1HBASE_ON_FAILURE=$on_failure ;;
    *) printf -v F1HBASE_ON_FAILURE %q "$on_failure" ;;
  esac
  export F1HBASE_ON_FAILURE
fi

code=0
# The command inherits the lock: should this shell be killed and the command go on, a run is still going on.
"$@" || code=$?
# Of 1 to 3 f1hbase has told itself; 130: somebody has interrupted it, and knows.
if [[ $code -gt 3 && $code -ne 130 && -n "$on_failure" ]]; then
  told=0
  summary="{\"command\": \"$name\", \"exit_code\": $code, \"reason\": \"it could not be run, or was killed\"}"
  unset F1HBASE_ON_FAILURE
  case "$on_failure" in
    http://* | https://*)
      # By its standard input, as everybody sees the arguments of a command.
      curl --fail --silent --show-error --max-time 20 --output /dev/null --header 'Content-Type: application/json' \
        --data-binary "$summary" --config - <<< "url = \"$on_failure\"" || told=$?
      ;;
    *) timeout 60 "$on_failure" "$name" "$code" <<< "$summary" || told=$? ;;
  esac
  [[ $told -eq 0 ]] || echo "run.sh: '$name' failed ($code), and telling so failed as well ($told)" >&2
fi
exit "$code"
