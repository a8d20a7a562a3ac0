#!/usr/bin/env bash
# Says how a cluster and its loads stand.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/emr/common.sh
source "$here/common.sh"

usage() {
  cat <<'TEXT'
Usage: scripts/emr/status.sh [CLUSTER_ID] [OPTION...]
Says how a cluster stands: its state, its steps, and how the load gets on. Without an id: the clusters that run.
  --key-file FILE           the private key of the cluster's key pair: asks f1hbase on the master itself, by ssh.
                            Without it: the end of the load's output as EMR copies it to S3, some minutes late
  --region R, --profile P   as for the aws command
Exit: 0 done, 1 AWS refused or the master cannot be reached, 2 wrong use.
TEXT
}

cluster='' key_file=''
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --key-file) need_value "$1" $#; key_file=$2; shift 2 ;;
    --region) need_value "$1" $#; region=$2; shift 2 ;;
    --profile) need_value "$1" $#; profile=$2; shift 2 ;;
    -*) wrong_use "unknown option '$1'" ;;
    *) [ -z "$cluster" ] || wrong_use "unknown argument '$1'"; cluster=$1; shift ;;
  esac
done
[ -z "$key_file" ] || [ -r "$key_file" ] || wrong_use "--key-file: '$key_file' cannot be read"

if [ -z "$cluster" ]; then
  use_aws
  clusters=$(call_aws emr list-clusters --active --output text --query 'Clusters[].[Id,Status.State,Name]')
  echo "${clusters:-no cluster runs in $region}"
  exit 0
fi
check_cluster_id "$cluster"
use_aws
describe "$cluster"
echo "cluster  $cluster $cluster_name: $cluster_state${cluster_reason:+ ($cluster_reason)}"
echo "tables   on ${cluster_root:-HDFS}"
echo "master   $cluster_master"

steps=$(call_aws emr list-steps --cluster-id "$cluster" --output text \
  --query 'Steps[:5].[Id,Status.State,Status.Timeline.StartDateTime,Name]')
if [ -z "$steps" ]; then
  echo "steps    none; begin with scripts/emr/run.sh $cluster -- --mode latest"
else
  while IFS=$'\t' read -r id state since name; do
    echo "step     $id $name: $state, begun ${since/None/not yet}"
  done <<<"$steps"
fi

if [ -n "$key_file" ]; then
  ! is_over || exit 0
  echo
  # The addresses of masters are used again and again: a new key is taken, a changed one is not.
  ssh -i "$key_file" -o BatchMode=yes -o ConnectTimeout=10 -o StrictHostKeyChecking=accept-new \
    "hadoop@$cluster_master" bash "$on_master" status ||
    die 1 "the master $cluster_master does not answer ssh: is port 22 open to you, and the key right?"
  exit 0
fi

last=$(awk -F '\t' -v name="$load_step" '$4 == name && $2 != "PENDING" { print $1; exit }' <<<"$steps")
[ -n "$last" ] && [ -n "$cluster_logs" ] || exit 0
output=${cluster_logs%/}/$cluster/steps/$last/stdout.gz
echo
lines=$("${aws_command[@]}" s3 cp --only-show-errors "$output" - 2>/dev/null | gunzip 2>/dev/null | tail -n 20) || true
if [ -n "$lines" ]; then
  echo "The end of $output, copied every five minutes:"
  echo "$lines"
else
  echo "No output of $last on S3 yet; EMR copies it every five minutes. --key-file FILE asks the master itself."
fi
