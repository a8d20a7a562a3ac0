#!/usr/bin/env bash
# What the other EMR commands start on the master, by step or by ssh.
# Usage: on_master.sh load [LOAD_OPTION...]   enable the tables where a shutdown left them disabled, then load
#        on_master.sh status                  f1hbase status and the end of populate.log
#        on_master.sh shutdown [--hold]       bring every table to S3 and close it; with --hold, try until that is done
set -euo pipefail

# The places are variables for the tests alone; EMR sets none of them.
readonly work=${F1HBASE_WORK:-/mnt/f1hbase} f1hbase=${F1HBASE_BIN:-/usr/local/bin}/f1hbase
readonly python=${F1HBASE_HOME:-/opt/f1hbase}/venv/bin/python spark=${F1HBASE_SPARK_HOME:-/usr/lib/spark}
readonly disable_all=${F1HBASE_DISABLE_ALL:-/usr/lib/hbase/bin/disable_all_tables.sh}
readonly own_tables='(.*_)?f1_(data|reports)'

# The cluster's own Spark with f1hbase's Python, which bootstrap.sh has put on every node; options of the load go before.
use_spark() {
  local bridge
  [ -d "$spark" ] || { echo "f1hbase: the cluster has no Spark: make one with create.sh --with-spark" >&2; exit 2; }
  bridge=("$spark"/python/lib/py4j-*.zip)
  export SPARK_HOME=$spark PYSPARK_PYTHON=$python PYTHONPATH=$spark/python:${bridge[0]}
  export F1HBASE_SPARK_MASTER=${F1HBASE_SPARK_MASTER:-yarn} F1HBASE_SPARK_STAGING=${F1HBASE_SPARK_STAGING:-hdfs:///tmp/f1hbase}
}

load() {
  cd "$work"
  case " $* " in *" --engine spark "* | *" --engine=spark "*) use_spark ;; esac
  hbase shell -n <<RUBY
list('$own_tables').each { |name| enable(name) unless is_enabled(name) }
RUBY
  # In this process's place, so that a cancelled step's SIGTERM reaches the load, which ends in good order.
  exec "$f1hbase" load "$@"
}

status() {
  cd "$work"
  "$f1hbase" status || true
  [ ! -f populate.log ] || { echo; tail -n 20 populate.log; }
}

# Disabling a table writes what it has in memory to S3. The reports go first: a line there says that rows are stored, so
# none may be added once the rows' table is closed. AWS's script then disables the rest, and hbase:meta is flushed last,
# as AWS documents.
shutdown() {
  hbase shell -n <<RUBY || return
own = list('$own_tables')
own.sort_by { |name| name.end_with?('f1_reports') ? 0 : 1 }.each { |name| disable(name) if is_enabled(name) }
RUBY
  bash "$disable_all" || return
  hbase shell -n <<'RUBY' || return
flush('hbase:meta')
enabled = list.select { |name| is_enabled(name) }
raise "still enabled: #{enabled.join(', ')}" unless enabled.empty?
RUBY
  echo "f1hbase: every table is disabled and on S3; the cluster can be terminated"
}

case ${1:-} in
  load) shift; load "$@" ;;
  status) status ;;
  shutdown)
    until shutdown; do
      echo "f1hbase: the tables are not all on S3: the cluster must not end yet" >&2
      [ "${2:-}" = --hold ] || exit 1
      echo "f1hbase: next try in five minutes" >&2
      sleep 300
    done
    ;;
  *) sed -n '3,5s/^# //p' "$0" >&2; exit 2 ;;
esac
