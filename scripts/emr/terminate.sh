#!/usr/bin/env bash
# Ends a cluster, after its tables are safe where they can be.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/emr/common.sh
source "$here/common.sh"

usage() {
  cat <<'TEXT'
Usage: scripts/emr/terminate.sh CLUSTER_ID [OPTION...]
Ends a cluster, after a question. Where its tables are on S3, all that HBase still has in memory is written there first,
the tables are disabled, and the cluster is ended only when that has succeeded. Tables on HDFS are deleted with it.
  --stop-load               end a load that is under way (what it has done stays done)
  --without-shutdown        end it at once, even if rows in memory are lost (when HBase cannot be shut down)
  --timeout MINUTES         how long the shutdown may take    (60)
  --yes                     do not ask
  --region R, --profile P   as for the aws command
Exit: 0 done, 1 AWS or HBase refused and the cluster still runs, 2 wrong use.
TEXT
}

cluster='' stop_load='' without_shutdown='' minutes=60 yes=''
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --stop-load) stop_load=yes; shift ;;
    --without-shutdown) without_shutdown=yes; shift ;;
    --timeout) need_value "$1" $#; minutes=$2; shift 2 ;;
    --yes) yes=yes; shift ;;
    --region) need_value "$1" $#; region=$2; shift 2 ;;
    --profile) need_value "$1" $#; profile=$2; shift 2 ;;
    -*) wrong_use "unknown option '$1'" ;;
    *) [ -z "$cluster" ] || wrong_use "unknown argument '$1'"; cluster=$1; shift ;;
  esac
done
check_cluster_id "$cluster"
must_match --timeout "$minutes" '^[0-9]{1,4}$' "a number of minutes"
use_aws
describe "$cluster"
if is_over; then
  say "cluster $cluster is $cluster_state already"
  exit 0
fi

loads=$(active_steps "$cluster" "$load_step")
[ -z "$loads" ] || [ -n "$stop_load" ] ||
  die 1 "a load is under way ($loads): wait for it, or end it with --stop-load"
case $cluster_storage in
  s3) fate="its tables stay in $cluster_root" ;;
  *) fate="its tables are on HDFS and are DELETED with it" ;;
esac
[ "$cluster_storage$without_shutdown" != s3yes ] || fate="$fate, but rows that HBase has in memory are LOST"
[ -n "$yes" ] || ask "End cluster $cluster ($cluster_name)${loads:+ and its load}? $fate."

# A step that is cancelled keeps its place, as AWS documents; the shutdown needs one of its own.
[ -z "$loads" ] || call_aws emr modify-cluster --cluster-id "$cluster" --step-concurrency-level 2 >/dev/null
for step in $loads; do
  say "ending the load $step"
  call_aws emr cancel-steps --cluster-id "$cluster" --step-ids "$step" \
    --step-cancellation-option SEND_INTERRUPT >/dev/null
done
for step in $loads; do
  outcome=$(await_step "$cluster" "$step" $((minutes * 60)))
  [ "$outcome" != late ] ||
    die 1 "the load $step has not ended in $minutes minutes; the cluster runs on"
done

if [ "$cluster_storage" = s3 ] && [ -z "$without_shutdown" ]; then
  json=$(steps_json "$shutdown_step" CONTINUE 2 "$on_master" shutdown)
  step=$(call_aws emr add-steps --cluster-id "$cluster" --steps "$json" --output text --query 'StepIds[0]')
  say "bringing the tables to S3 (step $step)"
  outcome=$(await_step "$cluster" "$step" $((minutes * 60)))
  [ "$outcome" = COMPLETED ] ||
    die 1 "the tables are not safe on S3, so the cluster runs on; $outcome: ${cluster_logs%/}/$cluster/steps/$step/"
fi
call_aws emr terminate-clusters --cluster-ids "$cluster"
say "cluster $cluster ends; $fate"
