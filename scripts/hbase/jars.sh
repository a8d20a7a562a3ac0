# shellcheck shell=bash disable=SC2154  # what it uses of local_hbase.sh
# The jars that HBase runs from: fetched by Maven, checked against the SHA-256 sums kept in this folder, and put
# in place whole or not at all. Read by local_hbase.sh. A set is a folder here with a pom.xml and its sha256 file;
# a further one is one more such folder, a line in jars_folder and one in size_of. A set that depends on
# LOCAL_HBASE_VERSION has a sha256 file for each version, and jars.sha256 is that of 2.5.8.

jars_folder() { # SET
  case "$1" in
    server) echo "$LOCAL_HBASE_JARS/server-$LOCAL_HBASE_VERSION-hadoop3" ;;
    shell) echo "$LOCAL_HBASE_JARS/shell-2.4.17" ;;
    mapreduce) echo "$LOCAL_HBASE_JARS/mapreduce-$LOCAL_HBASE_VERSION-hadoop3" ;;
    spark) echo "$LOCAL_HBASE_JARS/spark-2.5.8-hadoop3" ;;
    yarn) echo "$LOCAL_HBASE_JARS/yarn-3.3.6" ;;
    *) die 2 "unknown set of jars '$1'; there are: server, shell, mapreduce, spark, yarn" ;;
  esac
}

size_of() { # SET
  case "$1" in
    mapreduce) echo "13 MB" ;;
    spark) echo "60 MB" ;;
    yarn) echo "100 MB" ;;
    *) echo "120 MB" ;;
  esac
}

sums_of() { # SET
  local sums="$hbase/$1/jars-$LOCAL_HBASE_VERSION.sha256"
  if [ -f "$sums" ]; then echo "$sums"; else echo "$hbase/$1/jars.sha256"; fi
}

sha256() {
  if command -v sha256sum >/dev/null; then sha256sum "$@"; else shasum -a 256 "$@"; fi
}

# Prints the jars of the folder that are missing or not what they should be; nothing when all is well.
damaged_jars() { # SET FOLDER
  local files=("$2"/*) count sums
  sums=$(sums_of "$1")
  count=$(wc -l < "$sums")
  if (cd "$2" 2>/dev/null && sha256 -c "$sums" >/dev/null 2>&1) && [ "${#files[@]}" -eq "$count" ]; then
    return
  fi
  if ! [ -d "$2" ]; then
    echo "all"
    return
  fi
  { (cd "$2" && sha256 -c "$sums" 2>/dev/null) || true; } | sed -n 's/: FAILED.*//p'
  [ "${#files[@]}" -le "$count" ] || echo "files that do not belong there"
}

# Makes sure that the set is there and sound. Checked at every start, since a jar cut short, by a full disk or a
# killed copy, otherwise shows as an error that nobody would trace to it.
need_jars() { # SET
  local folder damaged
  folder=$(jars_folder "$1")
  [ -n "$(damaged_jars "$1" "$folder")" ] || return 0
  mkdir -p "$LOCAL_HBASE_JARS"
  take_lock "$LOCAL_HBASE_JARS/.$1.lock" "fetches the same jars"
  damaged=$(damaged_jars "$1" "$folder")
  if [ -n "$damaged" ]; then
    [ "$damaged" = all ] || say "damaged in $folder, fetching again:" "$(echo "$damaged" | head -n 3 | tr '\n' ' ')"
    fetch_jars "$1" "$folder"
  fi
  release_lock "$LOCAL_HBASE_JARS/.$1.lock"
}

fetch_jars() { # SET FOLDER
  local log="$LOCAL_HBASE_JARS/fetch-$1.log"
  need_java
  need_maven
  # Left behind by fetches that were killed; we hold the lock, so none of them is at work.
  rm -rf "$LOCAL_HBASE_JARS/.$1".new.*
  scratch="$LOCAL_HBASE_JARS/.$1.new.$$"
  mkdir -p "$scratch"
  say "fetching the jars of the HBase $1 with Maven: $(size_of "$1"), once, in a minute or two; log: $log"
  if ! maven_copies "$1" "$scratch/jars" "$log" || [ -n "$(damaged_jars "$1" "$scratch/jars")" ]; then
    # Maven trusts what is in its local repository for ever, a broken file too. That folder is the user's and may
    # be in use, so it is not repaired: an empty one is filled instead.
    say "that failed, or gave damaged jars; trying once more with an empty Maven repository"
    rm -rf "$scratch/jars"
    maven_copies "$1" "$scratch/jars" "$log" "-Dmaven.repo.local=$scratch/repository" \
      || die 1 "Maven could not fetch the jars; its last words are these, the rest is in $log:" "$(grep ERROR "$log" | head -n 5)"
    [ -z "$(damaged_jars "$1" "$scratch/jars")" ] \
      || die 1 "what Maven fetched is not what $(sums_of "$1") says, for: $(damaged_jars "$1" "$scratch/jars" | head -n 5 | tr '\n' ' ')"
  fi
  if [ -e "$2" ]; then mv "$2" "$scratch/old"; fi
  mv "$scratch/jars" "$2"
  rm -rf "$scratch"
  scratch=
}

# Copies the set's jars into the folder, saying now and then how far it is.
maven_copies() { # SET FOLDER LOG [MAVEN_OPTION...]
  local set=$1 folder=$2 log=$3 begin=$SECONDS told=$SECONDS status=0
  shift 3
  mvn --batch-mode --strict-checksums -Dmaven.artifact.threads=10 "-Dhbase.version=$LOCAL_HBASE_VERSION" "$@" -f "$hbase/$set/pom.xml" \
    dependency:copy-dependencies -DincludeScope=runtime "-DoutputDirectory=$folder" > "$log" 2>&1 < /dev/null &
  maven=$!
  while kill -0 "$maven" 2>/dev/null; do
    if [ $((SECONDS - told)) -ge 5 ]; then
      told=$SECONDS
      say "  $((SECONDS - begin)) s, $(grep -c 'Downloaded from' "$log" || true) files"
    fi
    sleep 0.2
  done
  wait "$maven" || status=$?
  maven=
  return "$status"
}

# For whoever changes a pom.xml: writes the checksums anew from a fetch into an empty Maven repository.
lock_jars() { # SET
  local folder sums="$hbase/$1/jars.sha256"
  case "$1:$LOCAL_HBASE_VERSION" in
    *:2.5.8) ;;
    server:* | mapreduce:*) sums="$hbase/$1/jars-$LOCAL_HBASE_VERSION.sha256" ;;
    *) die 2 "the set $1 is the same for every LOCAL_HBASE_VERSION: leave that out" ;;
  esac
  jars_folder "$1" >/dev/null
  need_java
  need_maven
  scratch=$(mktemp -d)
  maven_copies "$1" "$scratch/jars" "$scratch/log" "-Dmaven.repo.local=$scratch/repository" \
    || die 1 "Maven failed:" "$(grep ERROR "$scratch/log" | head -n 5)"
  folder=$scratch/jars
  (cd "$folder" && sha256 -- *) > "$sums"
  say "$sums: $(wc -l < "$sums" | tr -d ' ') jars"
  rm -rf "$scratch"
  scratch=
}

need_maven() {
  command -v mvn >/dev/null || die 1 "the jars of HBase are fetched with Maven, and there is no mvn. Install it with" "$install_lines"
}
