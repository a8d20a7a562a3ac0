#!/usr/bin/env bash
# EMR bootstrap action: Python 3.11 and f1hbase on the master. EMR runs it on every node, as the user hadoop, before it
# installs HBase, and ends the cluster when it fails.
# Usage: bootstrap.sh s3://BUCKET/FOLDER/ [spark]    the folder that create.sh filled; with spark every node gets the
#        same Python, as Spark's workers run it
set -euo pipefail

readonly folder=${1:?usage: bootstrap.sh s3://BUCKET/FOLDER/ [spark]} with=${2:-}
# The places are variables for the tests alone; EMR sets none of them.
readonly home=${F1HBASE_HOME:-/opt/f1hbase} work=${F1HBASE_WORK:-/mnt/f1hbase} bin=${F1HBASE_BIN:-/usr/local/bin}
readonly instance=${F1HBASE_INSTANCE:-/mnt/var/lib/info/instance.json}

if [ "$with" != spark ] && ! grep -Eq '"isMaster"[[:space:]]*:[[:space:]]*true' "$instance"; then
  echo "f1hbase: not the master, nothing to do"
  exit 0
fi

# EMR 7's own Python is 3.9 and stays the system's; this one stands beside it.
sudo dnf install --assumeyes --quiet python3.11 python3.11-pip
sudo mkdir -p "$home" "$work"
sudo chown "$(id -un)" "$home" "$work"
aws s3 cp --recursive --only-show-errors "$folder" "$home/package/"

python3.11 -m venv "$home/venv"
pip=("$home/venv/bin/python" -m pip --disable-pip-version-check --quiet install)
# Hashes for every file, and wheels alone: nothing is compiled, so no compiler is needed.
"${pip[@]}" --require-hashes --only-binary=:all: --requirement "$home/package/requirements.lock"
if [ "$with" = spark ]; then
  "${pip[@]}" --require-hashes --only-binary=:all: --requirement "$home/package/spark.lock"
fi
"${pip[@]}" --no-deps --no-index "$home"/package/f1hbase-*.whl
sudo ln -sf "$home/venv/bin/f1hbase" "$bin/f1hbase"
"$bin/f1hbase" --version
