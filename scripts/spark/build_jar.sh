#!/usr/bin/env bash
# Compiles f1hbase/cluster/*.java into cells.jar beside them, for Java 8 and later; the same sources give the same jar.
# Needs a JDK 17 or later, and PySpark in the Python that PYTHON names (.venv/bin/python).
# Usage: scripts/spark/build_jar.sh [FILE]     FILE is written instead of f1hbase/cluster/cells.jar
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

case "${1:-}" in
  -h | --help) sed -n '2,4s/^# //p' "$0"; exit 0 ;;
esac
jar_file=${1:-f1hbase/cluster/cells.jar}
spark=$("${PYTHON:-.venv/bin/python}" -c 'import pathlib, pyspark; print(pathlib.Path(pyspark.__file__).parent)')
classes=$(mktemp -d)
trap 'rm -rf "$classes"' EXIT

# -Xlint:-options: that Java 8 is an old target is known.
javac --release 8 -Xlint:-options -proc:none -d "$classes" -cp "$spark/jars/*:$(scripts/local_hbase.sh mapredcp)" \
  f1hbase/cluster/*.java
jar_file=$(realpath "$jar_file")
cd "$classes"
jar --create --file "$jar_file" --date 2020-01-01T00:00:00Z --no-manifest f1hbase/*.class
