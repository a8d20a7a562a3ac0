#!/usr/bin/env bash
# Starts a load on a cluster, as an EMR step.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/emr/common.sh
source "$here/common.sh"

usage() {
  cat <<'TEXT'
Usage: scripts/emr/run.sh CLUSTER_ID [OPTION...] [-- LOAD_OPTION...]
Starts "f1hbase load LOAD_OPTION..." on the master, as an EMR step: it needs no ssh and goes on without you.
  --then-terminate          when the load is over, bring the tables to S3 and end the cluster (storage on S3 only)
  --region R, --profile P   as for the aws command
Example: scripts/emr/run.sh j-2AXXXXXXGAPLF -- --year 2024 --window auto
Prints the step's id. Loads run one after another. Exit: 0 done, 1 AWS refused, 2 wrong use.
TEXT
}

cluster='' then_terminate=''
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --then-terminate) then_terminate=yes; shift ;;
    --region) need_value "$1" $#; region=$2; shift 2 ;;
    --profile) need_value "$1" $#; profile=$2; shift 2 ;;
    --) shift; break ;;
    -*) wrong_use "unknown option '$1'; what is meant for the load goes behind --" ;;
    *) [ -z "$cluster" ] || wrong_use "unknown argument '$1'"; cluster=$1; shift ;;
  esac
done
check_cluster_id "$cluster"
use_aws
describe "$cluster"
! is_over || die 1 "cluster $cluster is $cluster_state${cluster_reason:+: $cluster_reason}"
[ -z "$then_terminate" ] || [ "$cluster_storage" = s3 ] ||
  die 2 "--then-terminate would delete what was loaded: the tables of $cluster are on HDFS"

waiting=$(active_steps "$cluster" "$load_step")
[ -z "$waiting" ] || say "a load is under way ($waiting); this one begins when it has ended"

# A load that ends with failed units is a failed step, but no reason to end the cluster.
steps=("$load_step" CONTINUE $(($# + 2)) "$on_master" load "$@")
[ -z "$then_terminate" ] || steps+=("$shutdown_step" CONTINUE 3 "$on_master" shutdown --hold)
json=$(steps_json "${steps[@]}")
ids=$(call_aws emr add-steps --cluster-id "$cluster" --steps "$json" --output text --query StepIds)
if [ -n "$then_terminate" ]; then
  call_aws emr modify-cluster-attributes --cluster-id "$cluster" --auto-terminate
  say "the cluster ends when its last step has; this undoes that:" \
    "aws emr modify-cluster-attributes --cluster-id $cluster --region $region --no-auto-terminate"
fi
say "the load is on its way; watch it with scripts/emr/status.sh $cluster --region $region"
echo "${ids%%[[:space:]]*}"
