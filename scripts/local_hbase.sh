#!/usr/bin/env bash
# A real HBase on this machine, without containers: ZooKeeper, master and region server in one process, the Thrift
# gateway in a second, and the genuine hbase shell. It listens on 127.0.0.1 alone, unless it is told otherwise; the data
# survive stop and kill -9. docker/hbase/Dockerfile makes an image of it.
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: scripts/local_hbase.sh COMMAND
  start [gateway]       start HBase and its Thrift gateway (or the gateway alone); ready when this returns
  stop [gateway]        stop both (or the gateway alone); the data stay
  serve                 start both and stay in the foreground, for a container or a service manager: SIGTERM or Ctrl-C
                        stops both, exit 0; when a part ends by itself, the other is stopped, exit 1
  status                what runs and where; exit 0 when HBase answers, 3 when a part is stopped, 1 when it hangs
  shell [-n FILE]       the hbase shell; also:  echo "count 'f1_data'" | scripts/local_hbase.sh shell
  run CLASS [ARG...]    a Java class of HBase, its jobs within the same process; scripts/bin/hbase does this and the shell
                        as the hbase command of a cluster does. A relative path in ARG means one in the folder job-files
                        of LOCAL_HBASE_DIR, as on a cluster it means one in HDFS
  wipe [--yes]          delete the data, after a question
  mapredcp              the jars that a Spark or MapReduce job needs to write HBase's own files, with colons between them
  fetch [SET]           download what the others need, now rather than at their first use: server, shell, for run
                        mapreduce, for mapredcp spark, or for tests/spark_yarn.py yarn; without SET the first two
  pids                  the process ids of the parts that run: "master PID" and "gateway PID"
Needs Java 11 to 22, Python 3, and Maven for the first fetch.
Environment:
  LOCAL_HBASE_DIR                data, logs and pids      (~/.local/share/f1hbase/hbase)
  LOCAL_HBASE_JARS               the downloaded jars      (~/.cache/f1hbase/hbase-jars)
  LOCAL_HBASE_VERSION            2.5.8 or 2.6.1           (2.5.8)
  LOCAL_HBASE_THRIFT_PORT        9090     LOCAL_HBASE_ZK_PORT            2181
  LOCAL_HBASE_MASTER_PORT        16000    LOCAL_HBASE_REGIONSERVER_PORT  16020
  LOCAL_HBASE_UI_PORT            the master's web pages   (-1: none; HBase itself uses 16010)
  LOCAL_HBASE_THRIFT_ADDRESS     of the gateway           (127.0.0.1; 0.0.0.0 lets everyone in: there is no password)
  LOCAL_HBASE_UI_ADDRESS         of the web pages         (127.0.0.1, or 0.0.0.0)
  LOCAL_HBASE_THRIFT_TRANSPORT   buffered or framed       (buffered)
  LOCAL_HBASE_THRIFT_PROTOCOL    binary or compact        (binary)
  LOCAL_HBASE_HEAP               of HBase                 (2g)
  LOCAL_HBASE_GATEWAY_HEAP       of the gateway           (1g)
  LOCAL_HBASE_START_TIMEOUT      seconds                  (180)
  JAVA_HOME                      the Java to use          (java on the PATH)
TEXT
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly hbase=$here/hbase
# What the EXIT trap has to put away: locks taken, parts launched by this call that are not to outlive it, a running
# Maven, a folder being filled.
locks=() launched=() maven='' scratch=''
# A signal ends the script at once, with the status kept in leaving, unless deferring is set.
leaving='' deferring=''

say() { printf 'local_hbase: %s\n' "$*" >&2; }
die() { # STATUS MESSAGE_LINE...
  local status=$1
  shift
  say "$1"
  shift
  [ $# -eq 0 ] || printf '%s\n' "$@" >&2
  exit "$status"
}

# shellcheck source=scripts/hbase/jars.sh
source "$hbase/jars.sh"

# ---- settings ----------------------------------------------------------------------------------------------------

readonly master_settings="LOCAL_HBASE_VERSION LOCAL_HBASE_ZK_PORT LOCAL_HBASE_MASTER_PORT LOCAL_HBASE_REGIONSERVER_PORT LOCAL_HBASE_UI_PORT LOCAL_HBASE_UI_ADDRESS LOCAL_HBASE_HEAP"
readonly gateway_settings="LOCAL_HBASE_THRIFT_PORT LOCAL_HBASE_THRIFT_ADDRESS LOCAL_HBASE_THRIFT_TRANSPORT LOCAL_HBASE_THRIFT_PROTOCOL LOCAL_HBASE_GATEWAY_HEAP"

settings_of() { # PART
  if [ "$1" = master ]; then echo "$master_settings"; else echo "$gateway_settings"; fi
}

read_settings() {
  LOCAL_HBASE_DIR=${LOCAL_HBASE_DIR:-${XDG_DATA_HOME:-$HOME/.local/share}/f1hbase/hbase}
  LOCAL_HBASE_JARS=${LOCAL_HBASE_JARS:-${XDG_CACHE_HOME:-$HOME/.cache}/f1hbase/hbase-jars}
  LOCAL_HBASE_VERSION=${LOCAL_HBASE_VERSION:-2.5.8}
  LOCAL_HBASE_ZK_PORT=${LOCAL_HBASE_ZK_PORT:-2181}
  LOCAL_HBASE_MASTER_PORT=${LOCAL_HBASE_MASTER_PORT:-16000}
  LOCAL_HBASE_REGIONSERVER_PORT=${LOCAL_HBASE_REGIONSERVER_PORT:-16020}
  LOCAL_HBASE_UI_PORT=${LOCAL_HBASE_UI_PORT:--1}
  LOCAL_HBASE_UI_ADDRESS=${LOCAL_HBASE_UI_ADDRESS:-127.0.0.1}
  LOCAL_HBASE_HEAP=${LOCAL_HBASE_HEAP:-2g}
  LOCAL_HBASE_THRIFT_PORT=${LOCAL_HBASE_THRIFT_PORT:-9090}
  LOCAL_HBASE_THRIFT_ADDRESS=${LOCAL_HBASE_THRIFT_ADDRESS:-127.0.0.1}
  LOCAL_HBASE_THRIFT_TRANSPORT=${LOCAL_HBASE_THRIFT_TRANSPORT:-buffered}
  LOCAL_HBASE_THRIFT_PROTOCOL=${LOCAL_HBASE_THRIFT_PROTOCOL:-binary}
  LOCAL_HBASE_GATEWAY_HEAP=${LOCAL_HBASE_GATEWAY_HEAP:-1g}
  LOCAL_HBASE_START_TIMEOUT=${LOCAL_HBASE_START_TIMEOUT:-180}

  local name
  for name in ZK_PORT MASTER_PORT REGIONSERVER_PORT UI_PORT THRIFT_PORT START_TIMEOUT; do
    must_match "LOCAL_HBASE_$name" '^([0-9]{1,5}|-1)$' "a number"
  done
  must_match LOCAL_HBASE_VERSION '^(2\.5\.8|2\.6\.1)$' "2.5.8 or 2.6.1"
  must_match LOCAL_HBASE_HEAP '^[0-9]+[kmgKMG]$' "a size such as 2g or 512m"
  must_match LOCAL_HBASE_GATEWAY_HEAP '^[0-9]+[kmgKMG]$' "a size such as 2g or 512m"
  # No other address: what asks HBase whether it is up asks at 127.0.0.1.
  must_match LOCAL_HBASE_THRIFT_ADDRESS '^(127\.0\.0\.1|0\.0\.0\.0)$' "127.0.0.1 or 0.0.0.0"
  must_match LOCAL_HBASE_UI_ADDRESS '^(127\.0\.0\.1|0\.0\.0\.0)$' "127.0.0.1 or 0.0.0.0"
  must_match LOCAL_HBASE_THRIFT_TRANSPORT '^(buffered|framed)$' "buffered or framed"
  must_match LOCAL_HBASE_THRIFT_PROTOCOL '^(binary|compact)$' "binary or compact"
  # A colon parts the entries of a class path; the others mean something in the address of HBase's root folder.
  must_match LOCAL_HBASE_DIR '^/[^:%?#*]+$' "an absolute path without : % ? # *"
  must_match LOCAL_HBASE_JARS '^/[^:]+$' "an absolute path without a colon"
  LOCAL_HBASE_DIR=${LOCAL_HBASE_DIR%/}
  readonly logs=$LOCAL_HBASE_DIR/logs state=$LOCAL_HBASE_DIR/run marker=$LOCAL_HBASE_DIR/.f1hbase-local-hbase
}

must_match() { # NAME PATTERN DESCRIPTION
  local value=${!1} pattern=$2
  [[ $value =~ $pattern ]] || die 2 "$1 is '$value'; it has to be $3"
}

# ---- processes ---------------------------------------------------------------------------------------------------
# A part (master, gateway) has a file in the folder run: its pid and the settings that it was started with, so that
# the other commands find it whatever their own environment says.

pid_of() { sed -n 's/^pid=//p' "$state/$1" 2>/dev/null || true; } # PART

command_of() { # PID; the command line, or nothing
  if [ -d /proc/self ]; then
    { tr '\0' ' ' < "/proc/$1/cmdline"; } 2>/dev/null || true
  else
    ps -ww -o command= -p "$1" 2>/dev/null || true
  fi
}

# A pid alone proves nothing, it may have been given to another process since: what runs under it must be the
# part of this very folder.
is_running() { # PART
  local pid
  pid=$(pid_of "$1")
  [ -n "$pid" ] || return 1
  case "$(command_of "$pid")" in
    *" -Dlocal.hbase.part=$1 -DLOCAL_HBASE_DIR=$LOCAL_HBASE_DIR "*) return 0 ;;
    *) return 1 ;;
  esac
}

# Takes the settings of the parts that run, in place of those in the environment.
recall() {
  local part key value
  for part in master gateway; do
    is_running "$part" || continue
    while IFS='=' read -r key value; do
      case " $(settings_of "$part") " in
        *" $key "*)
          [ "${!key}" = "$value" ] || say "note: the $part runs with $key=$value (here it is ${!key}): stop it first to change that"
          printf -v "$key" %s "$value"
          ;;
      esac
    done < "$state/$part"
  done
}

# The settings as hbase/conf/hbase-site.xml takes them: system properties, in the array "properties".
make_properties() {
  local name
  properties=("-DLOCAL_HBASE_DIR=$LOCAL_HBASE_DIR" "-Dlocal.hbase.framed=$(is "$LOCAL_HBASE_THRIFT_TRANSPORT" framed)"
    "-Dlocal.hbase.compact=$(is "$LOCAL_HBASE_THRIFT_PROTOCOL" compact)")
  for name in $master_settings $gateway_settings; do properties+=("-D$name=${!name}"); done
}

is() { if [ "$1" = "$2" ]; then echo true; else echo false; fi; }

launch() { # PART HEAP CLASS
  local name
  make_properties
  # The log begins anew: what await_answer looks for in it has to be of this start.
  if [ -e "$logs/$1.log" ]; then mv -f "$logs/$1.log" "$logs/$1.previous.log"; fi
  # A signal between the birth of a process and the note of it would leave the process behind.
  deferring=yes
  # A process group of its own keeps a Ctrl-C in this terminal from it.
  set -m
  nohup "$java" "-Dlocal.hbase.part=$1" "${properties[@]}" "-Dlocal.hbase.log=$logs/$1.log" \
    -Dlocal.hbase.logger=INFO,file "-Xmx$2" -XX:+UseG1GC -XX:+ExitOnOutOfMemoryError "@$hbase/jvm.options" \
    -cp "$hbase/conf:$(jars_folder server)/*" "$3" start > "$logs/$1.out" 2>&1 < /dev/null &
  { echo "pid=$!"; for name in $(settings_of "$1"); do echo "$name=${!name}"; done; } > "$state/$1"
  # Or bash would print the whole command line when a part is killed while serve waits for it.
  disown
  set +m
  launched+=("$1")
  # Until the new process has become Java, its command line is still that of this script.
  while ! is_running "$1" && kill -0 "$(pid_of "$1")" 2>/dev/null; do sleep 0.01 || true; done
  deferring=
  [ -z "$leaving" ] || exit "$leaving"
}

# Asks the part to end, and ends it when it does not.
halt() { # PART SECONDS
  local pid deadline=$((SECONDS + $2))
  if is_running "$1"; then
    pid=$(pid_of "$1")
    kill -TERM "$pid" 2>/dev/null || true
    while is_running "$1" && [ "$SECONDS" -lt "$deadline" ]; do sleep 0.1; done
    if is_running "$1"; then
      say "the $1 (pid $pid) has not ended in $2 s: killing it"
      kill -KILL "$pid" 2>/dev/null || true
      while is_running "$1"; do sleep 0.1; done
    fi
  fi
  rm -f "$state/$1"
}

# A lock is a symbolic link to its owner's pid: made in one step with its content, on every system.
take_lock() { # FILE WHAT_ITS_OWNER_DOES
  local owner told=
  until ln -s "$$" "$1" 2>/dev/null; do
    [ -L "$1" ] || [ -w "$(dirname "$1")" ] || die 1 "cannot write to $(dirname "$1")"
    owner=$(readlink "$1") || continue
    case "$owner $(command_of "$owner")" in
      # Not taken by this process, but by one that had the same pid in a container that was killed.
      "$$ "*) break_lock "$1" "$owner" ;;
      *local_hbase.sh*)
        [ -n "$told" ] || say "waiting for process $owner, which $2"
        told=yes
        sleep 0.2
        ;;
      *) break_lock "$1" "$owner" ;;
    esac
  done
  locks+=("$1")
}

# Its owner is gone. Moved away rather than removed, to see whether it is still the lock that was looked at.
break_lock() { # FILE OWNER
  mv "$1" "$1.stale.$$" 2>/dev/null || return 0
  if [ "$(readlink "$1.stale.$$")" = "$2" ]; then rm -f "$1.stale.$$"; else mv "$1.stale.$$" "$1"; fi
}

release_lock() { # FILE
  if [ "$(readlink "$1")" = "$$" ]; then rm -f "$1"; fi
}

# On SIGINT and SIGTERM.
leave() { # STATUS
  leaving=$1
  [ -n "$deferring" ] || exit "$leaving"
}

# Runs whenever the script ends, so that nothing half done stays: neither processes nor locks nor folders.
clean_up() {
  local part lock
  trap '' INT TERM
  if [ -n "$maven" ]; then
    kill "$maven" 2>/dev/null || true
    wait "$maven" || true
  fi
  for part in ${launched[@]+"${launched[@]}"}; do halt "$part" 5; done
  for lock in ${locks[@]+"${locks[@]}"}; do release_lock "$lock"; done
  if [ -n "$scratch" ]; then rm -rf "$scratch"; fi
}

# ---- what has to be installed ------------------------------------------------------------------------------------

# shellcheck disable=SC2016  # these lines are for the reader to run
readonly install_lines='  Debian, Ubuntu:     sudo apt-get install default-jre-headless maven
  Amazon Linux 2023:  sudo dnf install java-17-amazon-corretto-headless maven
  macOS:              brew install openjdk@17 maven && export JAVA_HOME="$(brew --prefix openjdk@17)"'

need_java() {
  local version
  if [ -n "${JAVA_HOME:-}" ]; then
    java=$JAVA_HOME/bin/java
    [ -x "$java" ] || die 1 "JAVA_HOME is $JAVA_HOME, and there is no bin/java in it. Set it right, or install Java with" "$install_lines"
  else
    java=$(command -v java) || die 1 "HBase needs Java 11 to 22, and there is no java. Install it with" "$install_lines"
  fi
  version=$("$java" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
  # Hadoop 3.2 asks for the security manager's Subject, which is gone from Java 23 on.
  if [ "${version:-0}" -lt 11 ] || [ "$version" -gt 22 ]; then
    die 1 "HBase needs Java 11 to 22; $java is ${version:-none}. Name another with JAVA_HOME, or install one with" "$install_lines"
  fi
}

need_python() {
  command -v python3 >/dev/null || die 1 "python3 is needed to ask HBase whether it is up, and is not there"
}

# ---- commands ----------------------------------------------------------------------------------------------------

ask_tables() {
  python3 "$hbase/probe.py" tables "$LOCAL_HBASE_THRIFT_PORT" "$LOCAL_HBASE_THRIFT_TRANSPORT" "$LOCAL_HBASE_THRIFT_PROTOCOL"
}

need_free_ports() { # SETTING...
  local name taken
  for name in "$@"; do
    [ "${!name}" != -1 ] || continue
    taken=$(python3 "$hbase/probe.py" taken "${!name}")
    [ -z "$taken" ] || die 1 "port $taken is taken by another program: end that one, or choose another port with $name=…"
  done
}

launch_master() {
  ! is_running master || return 0
  need_free_ports LOCAL_HBASE_ZK_PORT LOCAL_HBASE_MASTER_PORT LOCAL_HBASE_REGIONSERVER_PORT LOCAL_HBASE_UI_PORT
  launch master "$LOCAL_HBASE_HEAP" org.apache.hadoop.hbase.master.HMaster
}

launch_gateway() {
  ! is_running gateway || return 0
  launch gateway "$LOCAL_HBASE_GATEWAY_HEAP" org.apache.hadoop.hbase.thrift.ThriftServer
}

# The part that serves no more and what became of it; nothing while both do.
lost_part() {
  local part
  for part in master gateway; do
    is_running "$part" || { echo "$part has ended"; return; }
  done
  # A master that gives up leaves its process behind, with ZooKeeper in it.
  ! grep -q -F '***** ABORTING' "$logs/master.log" 2>/dev/null || echo "master has given up"
}

await_answer() {
  local deadline=$((SECONDS + LOCAL_HBASE_START_TIMEOUT)) lost problem
  until problem=$(ask_tables 2>&1 >/dev/null); do
    lost=$(lost_part)
    [ -z "$lost" ] || die_with_log "HBase did not start: the $lost" "${lost%% *}"
    [ "$SECONDS" -lt "$deadline" ] || die_with_log "HBase did not start: no answer after $LOCAL_HBASE_START_TIMEOUT s: $problem" master
    sleep 0.1
  done
}

die_with_log() { # MESSAGE PART
  die 1 "$1. The first errors in $logs/$2.log:" \
    "$(grep -E ' (ERROR|FATAL) ' "$logs/$2.log" 2>/dev/null | head -n 3 | cut -c 1-300)" \
    "its last lines:" "$(tail -n 15 "$logs/$2.log" 2>/dev/null | cut -c 1-300)" \
    "and those of $logs/$2.out:" "$(tail -n 5 "$logs/$2.out" | cut -c 1-300)"
}

start() { # [gateway]
  need_python
  mkdir -p "$logs" "$state"
  touch "$marker"
  take_lock "$state/lock" "starts or stops the same HBase"
  recall
  if is_running master && is_running gateway; then
    await_answer
    say "HBase is running already"
  else
    if [ "${1:-}" = gateway ]; then
      is_running master || die 1 "HBase itself is not running: scripts/local_hbase.sh start"
    fi
    need_java
    need_jars server
    # Before anything is launched, so that no half of it has to be taken back.
    is_running gateway || need_free_ports LOCAL_HBASE_THRIFT_PORT
    launch_master
    launch_gateway
    await_answer
    say "HBase is up after $SECONDS s"
  fi
  describe
}

describe() {
  cat <<TEXT
Thrift gateway   $LOCAL_HBASE_THRIFT_ADDRESS:$LOCAL_HBASE_THRIFT_PORT, $LOCAL_HBASE_THRIFT_TRANSPORT transport, $LOCAL_HBASE_THRIFT_PROTOCOL protocol
HBase            127.0.0.1, ports: ZooKeeper $LOCAL_HBASE_ZK_PORT, master $LOCAL_HBASE_MASTER_PORT, region server $LOCAL_HBASE_REGIONSERVER_PORT
Web pages        $(if [ "$LOCAL_HBASE_UI_PORT" = -1 ]; then echo "off (LOCAL_HBASE_UI_PORT)"; else echo "http://$LOCAL_HBASE_UI_ADDRESS:$LOCAL_HBASE_UI_PORT"; fi)
Data             $LOCAL_HBASE_DIR/data
Logs             $logs
Shell            scripts/local_hbase.sh shell
TEXT
}

stop() { # [gateway]
  mkdir -p "$state"
  take_lock "$state/lock" "starts or stops the same HBase"
  local name=HBase news="was not running"
  [ $# -eq 0 ] || name="the gateway"
  if is_running gateway || { [ $# -eq 0 ] && is_running master; }; then news="is stopped"; fi
  halt gateway 10
  # Time to close its regions: with a full memory and a slow disk that is more than a moment.
  [ $# -gt 0 ] || halt master 90
  say "$name $news"
}

serve() {
  local lost=''
  if is_running master || is_running gateway; then die 1 "HBase is running already: scripts/local_hbase.sh stop"; fi
  trap 'leave 0' INT TERM
  start
  deferring=yes
  # From here on the other commands may have their turn.
  release_lock "$state/lock"
  while [ -z "$leaving" ] && [ -z "$lost" ]; do
    # A Ctrl-C in the terminal ends these, too.
    sleep 1 || true
    lost=$(lost_part) || true
  done
  trap '' INT TERM
  [ -n "$leaving" ] || say "the $lost; stopping what is left"
  stop
  [ -n "$leaving" ] || die_with_log "HBase has failed: the $lost" "${lost%% *}"
}

status() {
  local part missing='' tables
  for part in master gateway; do
    if is_running "$part"; then echo "$part: running, pid $(pid_of "$part")"; else echo "$part: stopped"; missing="$missing $part"; fi
  done
  if [ -n "$missing" ]; then exit 3; fi
  recall
  need_python
  tables=$(ask_tables) || exit 1
  echo "tables: $(printf '%s' "${tables:+$tables
}" | wc -l | tr -d ' ')"
  describe
}

pids() {
  local part
  for part in master gateway; do
    ! is_running "$part" || echo "$part $(pid_of "$part")"
  done
}

shell() {
  is_running master || die 1 "HBase is not running: scripts/local_hbase.sh start"
  recall
  need_java
  need_jars shell
  # What is piped in is a script: without -n the shell would echo it and go on after an error.
  if [ $# -eq 0 ] && ! [ -t 0 ]; then set -- -n; fi
  # With -n FILE the shell goes on to read its input to the end: a terminal has none.
  case " $* " in *" -n "* | *" --noninteractive "*) [ ! -t 0 ] || exec < /dev/null ;; esac
  make_properties
  exec "$java" "${properties[@]}" -Dlocal.hbase.logger=ERROR,err -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto \
    "@$hbase/jvm.options" -cp "$hbase/conf:$(jars_folder shell)/*" \
    org.jruby.Main uri:classloader:/jar-bootstrap.rb "$@"
}

run() { # CLASS [ARGUMENT...]
  local folder
  is_running master || die 1 "HBase is not running: scripts/local_hbase.sh start"
  recall
  need_java
  need_jars server
  need_jars mapreduce
  # A run's folder of scratch files bears its pid. Java takes the place of this script, so that signals and the exit
  # code are its own; what it leaves behind goes at the next run.
  for folder in "$LOCAL_HBASE_DIR"/tmp/run.*; do
    [ -n "$(command_of "${folder##*.}")" ] || rm -rf "$folder"
  done
  folder=$LOCAL_HBASE_DIR/tmp/run.$$
  mkdir -p "$folder" "$LOCAL_HBASE_DIR/job-files"
  cd "$LOCAL_HBASE_DIR/job-files"
  make_properties
  exec "$java" "${properties[@]}" "-Dlocal.hbase.run=$folder" "-Djava.io.tmpdir=$folder" -Xmx1g -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
    "@$hbase/jvm.options" -cp "$hbase/mapreduce/conf:$hbase/conf:$(jars_folder server)/*:$(jars_folder mapreduce)/*" "$@"
}

wipe() { # [--yes]
  local answer=''
  if is_running master || is_running gateway; then die 1 "HBase is running: scripts/local_hbase.sh stop"; fi
  # Only a folder that start has made is deleted, and of it only what HBase has written.
  if ! [ -e "$marker" ]; then
    say "nothing to delete: $LOCAL_HBASE_DIR has no data of this HBase"
    return
  fi
  if [ "${1:-}" != --yes ]; then
    printf 'Delete all data of the local HBase in %s? [y/N] ' "$LOCAL_HBASE_DIR" >&2
    read -r answer || true
    case "$answer" in y | Y | yes) ;; *) die 1 "nothing is deleted" ;; esac
  fi
  take_lock "$state/lock" "starts or stops the same HBase"
  rm -rf "$LOCAL_HBASE_DIR/data" "$LOCAL_HBASE_DIR/job-files" "$LOCAL_HBASE_DIR/tmp" "$LOCAL_HBASE_DIR/zookeeper" \
    "$logs" "$state" "$marker"
  rmdir "$LOCAL_HBASE_DIR" 2>/dev/null || true
  say "the data in $LOCAL_HBASE_DIR are deleted"
}

fetch() { # [SET]
  local set
  for set in ${1:-server shell}; do
    need_jars "$set"
    say "the jars of the $set are in $(jars_folder "$set")"
  done
}

mapredcp() {
  local jars
  need_jars spark
  jars=("$(jars_folder spark)"/*.jar)
  (IFS=:; echo "${jars[*]}")
}

wrong_usage() { usage >&2; exit 2; }

main() {
  local command=${1:-}
  [ $# -eq 0 ] || shift
  trap clean_up EXIT
  trap 'leave 130' INT
  trap 'leave 143' TERM
  read_settings
  case "$command:$*" in
    start: | start:gateway) start "$@"; launched=() ;;
    stop: | stop:gateway) stop "$@" ;;
    serve: | status: | pids: | wipe: | wipe:--yes) "$command" "$@" ;;
    fetch: | fetch:server | fetch:shell | fetch:mapreduce | fetch:spark | fetch:yarn) fetch "$@" ;;
    mapredcp:) mapredcp ;;
    shell:*) shell "$@" ;;
    run:[a-zA-Z]*) run "$@" ;;
    lock:server | lock:shell | lock:mapreduce | lock:spark | lock:yarn) lock_jars "$1" ;;
    help: | -h: | --help:) usage ;;
    *) wrong_usage ;;
  esac
}

main "$@"
