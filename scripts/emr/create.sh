#!/usr/bin/env bash
# Makes an EMR cluster with HBase and f1hbase on it. docs/emr.md says why each setting is what it is.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/emr/common.sh
source "$here/common.sh"

usage() {
  cat <<'TEXT'
Usage: scripts/emr/create.sh --bucket BUCKET [OPTION...]
Makes an EMR cluster with HBase, and with Python 3.11 and f1hbase on its master. Prints the cluster's id.
  --bucket BUCKET           S3 bucket in the cluster's region, for the package, the logs and, if on S3, the tables
  --storage hdfs|s3         where HBase keeps its tables: on the cluster, and gone with it, or on S3    (hdfs)
  --hbase-root S3_URI       with --storage s3: the folder of the tables    (s3://BUCKET/f1hbase/hbase/)
  --name NAME               of the cluster                                 (f1hbase)
  --release LABEL           EMR 7.0.0 or newer                             (emr-7.12.0)
  --master-type TYPE        instance type of the master                    (m6g.xlarge)
  --core-type TYPE          instance type of the core nodes                (m6g.xlarge)
  --core-count N            how many core nodes                            (2)
  --volume-gb N             gp3 storage of each node                       (64)
  --key-name NAME           EC2 key pair, for ssh
  --subnet ID               where the cluster runs                         (EMR's choice)
  --security-group ID       one more for the master, such as one that lets you in by ssh
  --security-configuration NAME   an EMR security configuration (encryption)
  --service-role ROLE       \ give both                                    (EMR_DefaultRole and
  --instance-profile NAME   / or neither                                    EMR_EC2_DefaultRole)
  --log-uri S3_URI          EMR's logs                                     (s3://BUCKET/f1hbase/logs/)
  --tag KEY=VALUE           repeatable                                     (application=f1hbase)
  --with-spark              Spark, too, and f1hbase's Python on every node, for load --engine spark
  --wheel FILE              a wheel of f1hbase                             (built from this checkout)
  --build-dir DIR           where the files to upload are gathered         (dist/emr)
  --region R, --profile P   as for the aws command
  --dry-run                 print the aws commands, ready to be pasted, and call AWS not at all
Exit: 0 done, 1 AWS refused, 2 wrong use.
TEXT
}

bucket='' storage=hdfs hbase_root='' name=f1hbase release=emr-7.12.0
master_type=m6g.xlarge core_type=m6g.xlarge core_count=2 volume_gb=64
key_name='' subnet='' security_group='' security_configuration='' service_role='' instance_profile=''
log_uri='' tags=(application=f1hbase) wheel='' build_dir=$here/../../dist/emr dry_run='' with_spark=''

while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --dry-run) dry_run=yes; shift; continue ;;
    --with-spark) with_spark=yes; shift; continue ;;
  esac
  case $1 in
    --bucket) bucket=${2-} ;;
    --storage) storage=${2-} ;;
    --hbase-root) hbase_root=${2-} ;;
    --name) name=${2-} ;;
    --release) release=${2-} ;;
    --master-type) master_type=${2-} ;;
    --core-type) core_type=${2-} ;;
    --core-count) core_count=${2-} ;;
    --volume-gb) volume_gb=${2-} ;;
    --key-name) key_name=${2-} ;;
    --subnet) subnet=${2-} ;;
    --security-group) security_group=${2-} ;;
    --security-configuration) security_configuration=${2-} ;;
    --service-role) service_role=${2-} ;;
    --instance-profile) instance_profile=${2-} ;;
    --log-uri) log_uri=${2-} ;;
    --tag) tags+=("${2-}") ;;
    --wheel) wheel=${2-} ;;
    --build-dir) build_dir=${2-} ;;
    --region) region=${2-} ;;
    --profile) profile=${2-} ;;
    *) wrong_use "unknown argument '$1'" ;;
  esac
  need_value "$1" $#
  shift 2
done

# Everything that goes into the aws command is of a known shape, so that nothing in it can end a word or a list early.
readonly s3_uri='^s3://[a-z0-9][a-z0-9.-]+[a-z0-9](/[A-Za-z0-9_.=/-]*)?$'
readonly plain_name='^[A-Za-z0-9][A-Za-z0-9 _.-]*$' role='^[A-Za-z0-9+=.@_/:-]+$'
readonly instance_type='^[a-z][a-z0-9-]*\.[a-z0-9-]+$'
[ -n "$bucket" ] || wrong_use "--bucket is missing: the package reaches the cluster through it"
must_match --bucket "$bucket" '^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$' "the name of an S3 bucket, without s3://"
must_match --storage "$storage" '^(hdfs|s3)$' "hdfs or s3"
must_match --name "$name" "$plain_name" "letters, digits, blanks and _ . -"
must_match --release "$release" '^emr-7\.[0-9]+\.[0-9]+$' "EMR 7.0.0 or newer, such as emr-7.12.0"
must_match --master-type "$master_type" "$instance_type" "an instance type such as m6g.xlarge"
must_match --core-type "$core_type" "$instance_type" "an instance type such as m6g.xlarge"
must_match --core-count "$core_count" '^[1-9][0-9]{0,2}$' "a number from 1 (the region servers run there)"
must_match --volume-gb "$volume_gb" '^[1-9][0-9]{1,4}$' "gigabytes from 10"
[ -z "$key_name" ] || must_match --key-name "$key_name" "$plain_name" "the name of an EC2 key pair"
[ -z "$subnet" ] || must_match --subnet "$subnet" '^subnet-[0-9a-f]+$' "an id such as subnet-0abc"
[ -z "$security_group" ] || must_match --security-group "$security_group" '^sg-[0-9a-f]+$' "an id such as sg-0abc"
[ -z "$security_configuration" ] ||
  must_match --security-configuration "$security_configuration" "$plain_name" "the name of one that EMR has"
[ -z "$service_role" ] || must_match --service-role "$service_role" "$role" "the name or ARN of a role"
[ -z "$instance_profile" ] ||
  must_match --instance-profile "$instance_profile" "$role" "the name of an instance profile"
[ "${service_role:+x}" = "${instance_profile:+x}" ] || wrong_use "--service-role and --instance-profile go together"
for tag in "${tags[@]}"; do
  must_match --tag "$tag" '^[A-Za-z0-9_.:/+@-]+=[A-Za-z0-9 _.:/=+@-]*$' "KEY=VALUE"
done
[ "$storage" = s3 ] || [ -z "$hbase_root" ] || wrong_use "--hbase-root goes with --storage s3"
log_uri=${log_uri:-s3://$bucket/f1hbase/logs/}
hbase_root=${hbase_root:-s3://$bucket/f1hbase/hbase/}
hbase_root=${hbase_root%/}/ # AWS asks for the slash at the end
must_match --log-uri "$log_uri" "$s3_uri" "a folder such as s3://bucket/logs/"
must_match --hbase-root "$hbase_root" "$s3_uri" "a folder such as s3://bucket/hbase/"

# A dry run needs no aws command.
if [ -n "$dry_run" ]; then choose_region; else use_aws; fi

# ---- what is uploaded --------------------------------------------------------------------------------------------

make_wheel() { # FOLDER
  local python=$here/../../.venv/bin/python output
  if [ -n "$wheel" ]; then
    [[ -f $wheel && ${wheel##*/} == f1hbase-*.whl ]] || wrong_use "--wheel must be a file f1hbase-*.whl, not '$wheel'"
    cp "$wheel" "$1/"
    return
  fi
  if ! "$python" -c 'import hatchling' 2>/dev/null; then
    die 2 "to build the package, run scripts/setup.sh first, or give --wheel FILE"
  fi
  output=$(cd "$here/../.." && .venv/bin/python -m hatchling build --target wheel --directory "$1" 2>&1) ||
    die 1 "the package could not be built: $output"
}

# Two copies of a block are the least that outlives a core node. EMR itself would keep one with fewer than four of them.
replicas() {
  if [ "$core_count" -ge 3 ]; then echo 3; else echo "$core_count"; fi
}

configurations() {
  echo '['
  [ "$storage" = hdfs ] || echo '  {"Classification": "hbase", "Properties": {"hbase.emr.storageMode": "s3"}},'
  cat <<'JSON'
  {
    "Classification": "hbase-site",
    "Properties": {
JSON
  [ "$storage" = hdfs ] || printf '      "hbase.rootdir": "%s",\n' "$hbase_root"
  cat <<JSON
      "hbase.regionserver.flush.policy": "org.apache.hadoop.hbase.regionserver.FlushAllLargeStoresPolicy",
      "hbase.hregion.memstore.flush.size": "268435456",
      "hbase.hstore.blockingStoreFiles": "30",
      "hbase.regionserver.thrift.framed": "false",
      "hbase.regionserver.thrift.compact": "false",
      "hbase.thrift.minWorkerThreads": "64",
      "hbase.thrift.server.socket.read.timeout": "600000"
    }
  },
  {"Classification": "hdfs-site", "Properties": {"dfs.replication": "$(replicas)"}}
]
JSON
}

# One folder for each content, here and on S3, so that a cluster that grows finds the bootstrap action it began with.
mkdir -p "$build_dir"
build_dir=$(cd "$build_dir" && pwd)
gathering=$(mktemp -d "$build_dir/new.XXXXXX")
trap 'rm -rf "$gathering"' EXIT
make_wheel "$gathering"
cp "$here/bootstrap.sh" "$here/on_master.sh" "$here/../../requirements.lock" "$gathering/"
if [ -n "$with_spark" ]; then
  # What Spark's Python workers need besides, with the hashes of the lock that this checkout is tested with.
  awk '/^[a-z]/ { wanted = /^(numpy|pandas|pyarrow|python-dateutil|pytz|six|tzdata)==/ } wanted' \
    "$here/../../requirements-dev.lock" > "$gathering/spark.lock"
fi
content=$(cat "$gathering"/* | cksum | cut -d ' ' -f 1)
package=$build_dir/$content
rm -rf "$package"
mv "$gathering" "$package"
chmod 755 "$package"
# Beside the package, not in it: it is read here, and differs where the package does not.
settings=$build_dir/settings-$(configurations | cksum | cut -d ' ' -f 1).json
configurations > "$settings"
readonly uploaded=s3://$bucket/f1hbase/package/$content/

# ---- the commands ------------------------------------------------------------------------------------------------

group() { # MASTER|CORE COUNT TYPE
  printf 'InstanceGroupType=%s,InstanceCount=%s,InstanceType=%s,' "$@"
  printf 'EbsConfiguration={EbsBlockDeviceConfigs=[{%s,VolumeSpecification={VolumeType=gp3,SizeInGB=%s}}]}' \
    VolumesPerInstance=1 "$volume_gb"
}

applications=(Name=HBase) bootstrap_arguments=$uploaded
if [ -n "$with_spark" ]; then
  applications+=(Name=Spark)
  bootstrap_arguments+=,spark
fi

upload=(s3 cp --recursive --only-show-errors "$package" "$uploaded")
create=(emr create-cluster
  --name "$name"
  --release-label "$release"
  --applications "${applications[@]}"
  --instance-groups "$(group MASTER 1 "$master_type")" "$(group CORE "$core_count" "$core_type")"
  --configurations "file://$settings"
  --bootstrap-actions "Name=f1hbase,Path=${uploaded}bootstrap.sh,Args=[$bootstrap_arguments]"
  --log-uri "$log_uri"
  --no-auto-terminate
  --tags "${tags[@]}")
attributes=()
[ -z "$key_name" ] || attributes+=("KeyName=$key_name")
[ -z "$subnet" ] || attributes+=("SubnetId=$subnet")
[ -z "$security_group" ] || attributes+=("AdditionalMasterSecurityGroups=[$security_group]")
if [ -n "$service_role" ]; then
  create+=(--service-role "$service_role")
  attributes+=("InstanceProfile=$instance_profile")
else
  create+=(--use-default-roles)
fi
if [ ${#attributes[@]} -gt 0 ]; then
  create+=(--ec2-attributes "$(IFS=,; echo "${attributes[*]}")")
fi
[ -z "$security_configuration" ] || create+=(--security-configuration "$security_configuration")
create+=(--query ClusterId --output text)

print_command() { # WORD...: a line for each option
  local word separator=''
  for word in "$@"; do
    case $word in --*) separator=$' \\\n  ' ;; esac
    case $word in
      *\'*) word=$(printf '%q' "$word") ;;
      *[!A-Za-z0-9_./:=,@%+-]*) word="'$word'" ;;
    esac
    printf '%s%s' "$separator" "$word"
    separator=' '
  done
  printf '\n'
}

refuse_shared_root() { # two clusters with one root would ruin each other's tables
  local ids id
  ids=$(call_aws emr list-clusters --active --output text --query 'Clusters[].Id')
  for id in $ids; do
    describe "$id"
    [ "${cluster_root%/}" != "${hbase_root%/}" ] ||
      die 1 "cluster $id uses $hbase_root, and only one may: terminate it first, or give another --hbase-root"
  done
}

if [ -n "$dry_run" ]; then
  echo "# The package, gathered in $package:"
  print_command aws "${upload[@]}" "${aws_command[@]:1}"
  echo "# The cluster:"
  print_command aws "${create[@]}" "${aws_command[@]:1}"
  echo "# Its settings:"
  sed 's/^/# /' "$settings"
  exit 0
fi

[ "$storage" = hdfs ] || refuse_shared_root
call_aws "${upload[@]}"
id=$(call_aws "${create[@]}")
say "cluster $id begins; it takes some ten minutes. Next:"
say "  scripts/emr/status.sh $id --region $region"
say "  scripts/emr/run.sh $id --region $region -- --year 2024"
say "  scripts/emr/terminate.sh $id --region $region   (it costs money until then)"
echo "$id"
