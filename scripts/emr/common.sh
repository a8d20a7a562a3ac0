# shellcheck shell=bash
# What the EMR commands share: messages, checks of what they are given, the aws command, the state of a cluster.

me=emr/$(basename "$0")
readonly me
# Where bootstrap.sh puts what runs on the master, and what the steps are called that start it.
# shellcheck disable=SC2034  # used by the scripts that source this
readonly on_master=/opt/f1hbase/package/on_master.sh load_step='f1hbase load' shutdown_step='f1hbase shutdown'

say() { printf '%s: %s\n' "$me" "$*" >&2; }
die() { # STATUS MESSAGE
  local status=$1
  shift
  say "$*"
  exit "$status"
}
wrong_use() { die 2 "$1 (scripts/$me --help)"; }

need_value() { # OPTION REMAINING_ARGUMENTS
  [ "$2" -ge 2 ] || wrong_use "$1 needs a value"
}

must_match() { # OPTION VALUE REGEX WHAT
  [[ $2 =~ $3 ]] || wrong_use "$1 must be $4, not '$2'"
}

check_cluster_id() { # VALUE
  [ -n "$1" ] || wrong_use "which cluster? Give its id, such as j-2AXXXXXXGAPLF; scripts/emr/status.sh lists them"
  must_match "the cluster" "$1" '^j-[A-Z0-9]+$' "an id such as j-2AXXXXXXGAPLF"
}

ask() { # QUESTION
  local answer
  [ -t 0 ] || die 2 "that needs a yes, and nobody can be asked here: add --yes"
  printf '%s [y/N] ' "$1" >&2
  read -r answer
  [ "$answer" = y ] || [ "$answer" = yes ] || die 1 "nothing was done"
}

# ---- the aws command ---------------------------------------------------------------------------------------------

region='' profile=''
aws_command=(aws)

use_aws() {
  command -v aws >/dev/null ||
    die 2 "the aws command is missing: pip install awscli, or AWS's own installer, and put it on the PATH"
  choose_region
}

choose_region() { # completes aws_command
  [ -z "$profile" ] || aws_command+=(--profile "$profile")
  region=${region:-${AWS_REGION:-${AWS_DEFAULT_REGION:-}}}
  [ -n "$region" ] || region=$("${aws_command[@]}" configure get region 2>/dev/null || true)
  [ -n "$region" ] || die 2 "no AWS region: give --region eu-west-1, export AWS_REGION, or run 'aws configure'"
  must_match --region "$region" '^[a-z0-9-]+$' "a region such as eu-west-1"
  aws_command+=(--region "$region")
}

explain() { # WHAT_AWS_SAID: one line, with the way out where there is one
  case $1 in
    *"Unable to locate credentials"* | *"Partial credentials"*)
      echo "no AWS credentials: run 'aws configure' or 'aws sso login', or name a --profile" ;;
    *ExpiredToken* | *"token has expired"* | *"Token has expired"* | *"SSO session"*)
      echo "the AWS credentials have expired: run 'aws sso login', or renew them as you got them" ;;
    *InvalidClientTokenId* | *UnrecognizedClient* | *SignatureDoesNotMatch*)
      echo "AWS does not know these credentials: run 'aws configure', or name another --profile" ;;
    *"Could not connect"*)
      echo "AWS cannot be reached: is the region right ($region), and is there a way out to the internet?" ;;
    *) printf '%s\n' "$1" | sed -n '/./h; ${ g; p; }' ;;
  esac
}

call_aws() { # ARGUMENT...: prints what aws prints; a failure is one line and the end
  local said status=0
  { said=$("${aws_command[@]}" "$@" 2>&1 >&3 3>&-) || status=$?; } 3>&1
  [ "$status" -eq 0 ] || die 1 "$(explain "$said")"
  [ -z "$said" ] || printf '%s\n' "$said" >&2
}

# ---- a cluster ---------------------------------------------------------------------------------------------------

cluster_state='' cluster_reason='' cluster_name='' cluster_master='' cluster_logs='' cluster_storage='' cluster_root=''

# shellcheck disable=SC2034  # used by the scripts that source this
describe() { # CLUSTER_ID: sets the variables above; empty is what AWS does not say
  local fields
  fields=$(call_aws emr describe-cluster --cluster-id "$1" --output text --query "Cluster.[
    Status.State, Name, MasterPublicDnsName, LogUri,
    Configurations[?Classification=='hbase'] | [0].Properties.\"hbase.emr.storageMode\",
    Configurations[?Classification=='hbase-site'] | [0].Properties.\"hbase.rootdir\",
    Status.StateChangeReason.Message]")
  IFS=$'\t' read -r cluster_state cluster_name cluster_master cluster_logs cluster_storage cluster_root cluster_reason \
    <<<"$fields"
  [ "$cluster_storage" = s3 ] || cluster_storage=hdfs cluster_root=''
  [ "$cluster_logs" != None ] || cluster_logs=''
  [ "$cluster_reason" != None ] || cluster_reason=''
  # In its answers EMR writes s3n:// for the folder of the logs.
  cluster_logs=${cluster_logs/#s3n:/s3:}
}

is_over() { [[ $cluster_state == TERMINAT* ]]; }

active_steps() { # CLUSTER_ID NAME: the ids of the steps of that name that run or wait
  call_aws emr list-steps --cluster-id "$1" --step-states PENDING RUNNING CANCEL_PENDING --output text \
    --query "Steps[?Name=='$2'].Id"
}

steps_json() { # then for each step: NAME ON_FAILURE COUNT ARGUMENT... (COUNT of them)
  command -v python3 >/dev/null || die 2 "python3 is missing"
  python3 -c '
import json, sys
words, steps = iter(sys.argv[1:]), []
for name in words:
    failure, count = next(words), int(next(words))
    steps.append({"Type": "CUSTOM_JAR", "Name": name, "ActionOnFailure": failure, "Jar": "command-runner.jar",
                  "Args": ["bash", *(next(words) for _ in range(count))]})
print(json.dumps(steps))' "$@"
}

await_step() { # CLUSTER_ID STEP_ID SECONDS: prints the state in which it ended; "late" when it had not by then
  local state begun=$SECONDS
  while :; do
    state=$(call_aws emr describe-step --cluster-id "$1" --step-id "$2" --output text --query Step.Status.State) ||
      return
    case $state in
      PENDING | RUNNING | CANCEL_PENDING) ;;
      *) echo "$state"; return ;;
    esac
    [ $((SECONDS - begun)) -lt "$3" ] || { echo late; return; }
    sleep "${F1HBASE_EMR_POLL_SECONDS:-15}"
  done
}
