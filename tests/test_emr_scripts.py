"""scripts/emr against moto, a stand-in for AWS on 127.0.0.1, through the real aws command."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.core.responses import ActionResult, EmptyResult
from moto.ec2.models import ec2_backends
from moto.emr.models import Cluster, ElasticMapReduceBackend, Step, emr_backends
from moto.emr.responses import ElasticMapReduceResponse
from moto.s3.models import S3Backend, s3_backends
from moto.server import ThreadedMotoServer

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "scripts" / "emr"
REGION = "us-east-1"  # the one moto takes for EMR, whatever is asked for, when it has no host name
BUCKET = "f1-season"
HBASE_ROOT = f"s3://{BUCKET}/f1hbase/hbase/"
NOWHERE = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
ENDED = {"COMPLETED", "FAILED", "CANCELLED"}
NETWORK = (
    "ec2_subnet_id",
    "emr_managed_master_security_group",
    "emr_managed_slave_security_group",
    "service_access_security_group",
)


def executable(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@dataclass
class Cloud:
    """A moto server and how to use the scripts with it.

    Attributes:
        environment: All that the scripts see of this machine.
        outcome: The state in which a step ends when it is asked after; None leaves it as it is.
    """

    environment: dict[str, str]
    outcome: str | None = "COMPLETED"

    @property
    def emr(self) -> ElasticMapReduceBackend:
        return emr_backends[DEFAULT_ACCOUNT_ID][REGION]

    @property
    def s3(self) -> S3Backend:
        return s3_backends[DEFAULT_ACCOUNT_ID]["aws"]

    def run(self, script: str, *arguments: str, exit_code: int = 0, environment: dict[str, str] | None = None) -> str:
        """Run a script without a terminal and return what it prints, with standard error."""
        result = subprocess.run(
            [str(SCRIPTS / script), *arguments], env=self.environment | (environment or {}), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        assert result.returncode == exit_code, result.stdout
        return result.stdout

    def aws(self, *arguments: str) -> Any:
        """Return what the aws command answers."""
        command = ["aws", *arguments, "--output", "json"]
        return json.loads(subprocess.run(command, env=self.environment, stdout=subprocess.PIPE, check=True).stdout)

    def cluster(self, *, on_s3: bool, load: str | None = None) -> Cluster:
        """Return a new cluster, with a load in that state if one is given."""
        configurations = [
            {"classification": "hbase", "properties": {"hbase.emr.storageMode": "s3"}},
            {"classification": "hbase-site", "properties": {"hbase.rootdir": HBASE_ROOT}},
        ]
        cluster = self.emr.run_job_flow(
            name="f1hbase", log_uri=f"s3n://{BUCKET}/logs/", job_flow_role="r", service_role="s", steps=[],
            instance_attrs={"keep_job_flow_alive_when_no_steps": True} | dict.fromkeys(NETWORK),
            configurations=configurations if on_s3 else [],
        )  # fmt: skip
        if load:
            [step] = cluster.add_steps([{"name": "f1hbase load", "hadoop_jar_step": {}}])
            step.state = load
        return cluster


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """A moto server that also knows what moto leaves out of EMR: steps that end or are cancelled, clusters that end."""
    # The aws command's emr part looks at no AWS_ENDPOINT_URL, only at the option.
    commands = tmp_path_factory.mktemp("commands")
    aws = Path(sys.executable).parent / "aws"
    executable(commands / "aws", f'exec {aws} --endpoint-url "$AWS_ENDPOINT_URL" "$@"')
    variables = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
        # Whatever is not for this machine goes nowhere.
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "NO_PROXY": "127.0.0.1",
        "PATH": f"{commands}:{os.environ['PATH']}",
        "F1HBASE_EMR_POLL_SECONDS": "0",
    }
    cloud = Cloud(variables)

    def describe_step(backend: ElasticMapReduceBackend, cluster_id: str, step_id: str) -> Step:
        [step] = backend.list_steps(cluster_id, step_ids=[step_id])
        if step.state not in ENDED and cloud.outcome:
            step.state = cloud.outcome
        return step

    def cancel_steps(response: ElasticMapReduceResponse) -> ActionResult:
        steps = response.backend.list_steps(response._get_param("ClusterId"), step_ids=response._get_param("StepIds"))
        for step in steps:
            step.state = "CANCELLED"
        return ActionResult({"CancelStepsInfoList": []})

    def set_keep_job_flow_alive_when_no_steps(response: ElasticMapReduceResponse) -> ActionResult:
        for cluster_id in response._get_param("JobFlowIds"):
            keep = response._get_param("KeepJobFlowAliveWhenNoSteps")
            response.backend.clusters[cluster_id].keep_job_flow_alive_when_no_steps = keep
        return EmptyResult()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ElasticMapReduceBackend, "describe_step", describe_step)
        for action in (cancel_steps, set_keep_job_flow_alive_when_no_steps):
            patch.setattr(ElasticMapReduceResponse, action.__name__, action, raising=False)
        moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        moto.start()
        host, port = moto.get_host_and_port()
        variables["AWS_ENDPOINT_URL"] = f"http://{host}:{port}"
        try:
            yield cloud
        finally:
            moto.stop()


@pytest.fixture
def cloud(server: Cloud) -> Iterator[Cloud]:
    """The server with an empty bucket and no cluster."""
    server.s3.create_bucket(BUCKET, REGION)
    server.outcome = "COMPLETED"
    yield server
    server.emr.reset()
    server.s3.reset()


@pytest.fixture(scope="module")
def wheel(server: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that create.sh builds."""
    folder = tmp_path_factory.mktemp("build")
    server.run("create.sh", "--bucket", BUCKET, "--dry-run", "--build-dir", str(folder))
    [built] = folder.glob("*/f1hbase-*.whl")
    return built


def test_the_cluster_that_comes_out_is_the_one_asked_for(cloud: Cloud, wheel: Path, tmp_path: Path) -> None:
    subnet = ec2_backends[DEFAULT_ACCOUNT_ID][REGION].describe_subnets()[0].id

    answer = cloud.run(
        "create.sh", "--bucket", BUCKET, "--storage", "s3", "--name", "season 2024", "--release", "emr-7.10.0",
        "--master-type", "m7g.xlarge", "--core-type", "r6g.2xlarge", "--core-count", "3", "--volume-gb", "100",
        "--key-name", "my key", "--subnet", subnet, "--tag", "team=data platform", "--tag", "cost=a/b",
        "--security-configuration", "encrypted", "--wheel", str(wheel), "--build-dir", str(tmp_path),
    )  # fmt: skip

    cluster = cloud.aws("emr", "describe-cluster", "--cluster-id", answer.splitlines()[-1])["Cluster"]
    assert (cluster["Name"], cluster["ReleaseLabel"]) == ("season 2024", "emr-7.10.0")
    assert [application["Name"] for application in cluster["Applications"]] == ["HBase"]
    assert cluster["AutoTerminate"] is False
    assert cluster["SecurityConfiguration"] == "encrypted"
    assert cluster["LogUri"] == f"s3://{BUCKET}/f1hbase/logs/"
    assert cluster["ServiceRole"] == "EMR_DefaultRole"
    assert cluster["Ec2InstanceAttributes"]["IamInstanceProfile"] == "EMR_EC2_DefaultRole"
    assert cluster["Ec2InstanceAttributes"]["Ec2KeyName"] == "my key"
    assert cluster["Ec2InstanceAttributes"]["Ec2SubnetId"] == subnet
    assert {tag["Key"]: tag["Value"] for tag in cluster["Tags"]} == {
        "application": "f1hbase", "team": "data platform", "cost": "a/b"
    }  # fmt: skip

    groups = {group["InstanceGroupType"]: group for group in cluster["InstanceGroups"]}
    assert (groups["MASTER"]["InstanceType"], groups["MASTER"]["RequestedInstanceCount"]) == ("m7g.xlarge", 1)
    assert (groups["CORE"]["InstanceType"], groups["CORE"]["RequestedInstanceCount"]) == ("r6g.2xlarge", 3)
    for group in groups.values():
        [volume] = group["EbsBlockDevices"]
        assert (volume["VolumeSpecification"]["VolumeType"], volume["VolumeSpecification"]["SizeInGB"]) == ("gp3", 100)

    settings = {item["Classification"]: item["Properties"] for item in cluster["Configurations"]}
    assert settings["hbase"] == {"hbase.emr.storageMode": "s3"}
    assert settings["hbase-site"]["hbase.rootdir"] == HBASE_ROOT
    assert settings["hbase-site"]["hbase.hregion.memstore.flush.size"] == str(256 * 1024 * 1024)
    assert settings["hbase-site"]["hbase.regionserver.flush.policy"].endswith(".FlushAllLargeStoresPolicy")
    assert settings["hbase-site"]["hbase.thrift.minWorkerThreads"] == "64"
    assert settings["hdfs-site"] == {"dfs.replication": "3"}

    [action] = cluster["BootstrapActions"]
    [folder] = action["Args"]
    assert action["ScriptPath"] == f"{folder}bootstrap.sh"
    prefix = folder.removeprefix(f"s3://{BUCKET}/")
    uploaded = {file.name: file.read_bytes() for file in wheel.parent.iterdir()}
    assert {key: value.value for key, value in cloud.s3.buckets[BUCKET].keys.items()} == {
        prefix + name: content for name, content in uploaded.items()
    }
    assert uploaded.keys() == {"bootstrap.sh", wheel.name, "on_master.sh", "requirements.lock"}


def test_a_dry_run_calls_aws_not_at_all_and_what_it_prints_can_be_pasted(
    cloud: Cloud, wheel: Path, tmp_path: Path
) -> None:
    options = ["--bucket", BUCKET, "--name", "f1 hbase", "--wheel", str(wheel), "--build-dir", str(tmp_path)]

    printed = cloud.run("create.sh", "--dry-run", *options, environment=NOWHERE)

    assert not cloud.emr.clusters
    subprocess.run(["bash", "-euc", printed], env=cloud.environment, check=True)
    [cluster] = cloud.emr.clusters.values()
    assert cluster.name == "f1 hbase"
    # The tables are on HDFS unless S3 is asked for.
    assert {item["classification"] for item in cluster.configurations} == {"hbase-site", "hdfs-site"}
    assert "hbase.rootdir" not in printed


def test_with_spark_every_node_gets_what_its_python_workers_need(cloud: Cloud, wheel: Path, tmp_path: Path) -> None:
    options = ["--bucket", BUCKET, "--with-spark", "--wheel", str(wheel), "--build-dir", str(tmp_path)]

    printed = cloud.run("create.sh", "--dry-run", *options, environment=NOWHERE)

    subprocess.run(["bash", "-euc", printed], env=cloud.environment, check=True)
    [cluster] = cloud.aws("emr", "list-clusters")["Clusters"]
    described = cloud.aws("emr", "describe-cluster", "--cluster-id", cluster["Id"])["Cluster"]
    assert {one["Name"] for one in described["Applications"]} == {"HBase", "Spark"}
    assert ",spark]" in printed
    [lock] = tmp_path.glob("*/spark.lock")
    pinned = re.findall(r"^([a-z-]+)==\S+ ", lock.read_text(), re.MULTILINE)
    assert {"numpy", "pandas", "pyarrow"} <= set(pinned) <= {
        "numpy", "pandas", "pyarrow", "python-dateutil", "pytz", "six", "tzdata"
    }  # fmt: skip
    assert lock.read_text().count("--hash=sha256:") > len(pinned)


def test_a_load_by_spark_finds_the_spark_of_the_cluster(tmp_path: Path) -> None:
    bridge = tmp_path / "spark" / "python" / "lib" / "py4j-0.10.9-src.zip"
    bridge.parent.mkdir(parents=True)
    bridge.touch()
    executable(tmp_path / "hbase", "cat > /dev/null")
    executable(tmp_path / "f1hbase", 'echo "$SPARK_HOME $PYSPARK_PYTHON $PYTHONPATH $F1HBASE_SPARK_MASTER: $*"')
    places = {
        "F1HBASE_WORK": str(tmp_path), "F1HBASE_BIN": str(tmp_path), "F1HBASE_HOME": "/opt/f1hbase",
        "F1HBASE_SPARK_HOME": str(tmp_path / "spark"), "PATH": f"{tmp_path}:/usr/bin:/bin",
    }  # fmt: skip
    command = [str(SCRIPTS / "on_master.sh"), "load", "--from", "s3://bucket/f1", "--engine", "spark"]

    def run(**more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=places | more, capture_output=True, text=True, check=False)

    spark = tmp_path / "spark"
    assert run().stdout == (
        f"{spark} /opt/f1hbase/venv/bin/python {spark}/python:{bridge} yarn: "
        "load --from s3://bucket/f1 --engine spark\n"
    )
    without = run(F1HBASE_SPARK_HOME=str(tmp_path / "nowhere"))
    assert (without.returncode, "create.sh --with-spark" in without.stderr) == (2, True)


def test_two_clusters_never_share_their_tables(cloud: Cloud, wheel: Path, tmp_path: Path) -> None:
    first = cloud.cluster(on_s3=True)

    answer = cloud.run(
        "create.sh", "--bucket", BUCKET, "--storage", "s3", "--wheel", str(wheel), "--build-dir", str(tmp_path),
        exit_code=1,
    )  # fmt: skip

    assert f"cluster {first.id} uses {HBASE_ROOT}" in answer
    assert list(cloud.emr.clusters) == [first.id]


def test_a_load_is_a_step_with_the_options_as_they_were_given(cloud: Cloud) -> None:
    cluster = cloud.cluster(on_s3=False, load="RUNNING")
    options = ["--date", "2024-12-08", "--log-file", """it's "a", [b].log"""]

    answer = cloud.run("run.sh", cluster.id, "--", *options)

    [_, step] = cluster.steps
    assert (step.name, step.action_on_failure, step.jar) == ("f1hbase load", "CONTINUE", "command-runner.jar")
    assert step.args == ["bash", "/opt/f1hbase/package/on_master.sh", "load", *options]
    assert answer.endswith(f"\n{step.id}\n")
    assert "this one begins when it has ended" in answer


def test_a_cluster_can_end_by_itself_after_the_load_if_its_tables_are_safe_by_then(cloud: Cloud) -> None:
    on_s3, on_hdfs = cloud.cluster(on_s3=True), cloud.cluster(on_s3=False)

    cloud.run("run.sh", on_s3.id, "--then-terminate", "--", "--year", "2024")
    refusal = cloud.run("run.sh", on_hdfs.id, "--then-terminate", exit_code=2)

    assert [step.name for step in on_s3.steps] == ["f1hbase load", "f1hbase shutdown"]
    assert on_s3.steps[1].args[-2:] == ["shutdown", "--hold"]
    assert on_s3.auto_terminate
    assert "on HDFS" in refusal
    assert not on_hdfs.steps
    assert not on_hdfs.auto_terminate


def test_terminate_ends_a_cluster_only_when_its_tables_are_safe(cloud: Cloud) -> None:
    cluster = cloud.cluster(on_s3=True, load="RUNNING")

    assert "a load is under way" in cloud.run("terminate.sh", cluster.id, "--yes", exit_code=1)
    assert [step.state for step in cluster.steps] == ["RUNNING"]

    cloud.outcome = "FAILED"
    answer = cloud.run("terminate.sh", cluster.id, "--yes", "--stop-load", exit_code=1)
    assert "the tables are not safe on S3" in answer
    # A cancelled step keeps its place on EMR.
    assert cluster.step_concurrency_level == 2
    assert [(step.name, step.state) for step in cluster.steps] == [
        ("f1hbase load", "CANCELLED"), ("f1hbase shutdown", "FAILED")
    ]  # fmt: skip
    assert cluster.state == "RUNNING"

    cloud.outcome = "COMPLETED"
    answer = cloud.run("terminate.sh", cluster.id, "--yes")
    assert f"its tables stay in {HBASE_ROOT}" in answer
    assert cluster.steps[2].args == ["bash", "/opt/f1hbase/package/on_master.sh", "shutdown"]
    assert (
        cloud.aws("emr", "describe-cluster", "--cluster-id", cluster.id)["Cluster"]["Status"]["State"] == "TERMINATED"
    )


def test_terminate_asks_and_takes_no_answer_for_no(cloud: Cloud) -> None:
    cluster = cloud.cluster(on_s3=False)

    assert "add --yes" in cloud.run("terminate.sh", cluster.id, exit_code=2)
    assert cluster.state != "TERMINATED"
    assert "DELETED" in cloud.run("terminate.sh", cluster.id, "--yes")
    assert cluster.state == "TERMINATED"
    assert not cluster.steps


def test_status_tells_of_the_cluster_its_steps_and_the_end_of_the_output(cloud: Cloud) -> None:
    cluster = cloud.cluster(on_s3=True, load="RUNNING")
    output = "".join(f"line {number}\n" for number in range(100))
    key = f"logs/{cluster.id}/steps/{cluster.steps[0].id}/stdout.gz"

    cloud.s3.put_object(BUCKET, key, gzip.compress(output.encode()))
    answer = cloud.run("status.sh", cluster.id)

    assert f"cluster  {cluster.id} f1hbase: RUNNING\n" in answer
    assert f"tables   on {HBASE_ROOT}\n" in answer
    assert f"step     {cluster.steps[0].id} f1hbase load: RUNNING" in answer
    assert answer.endswith("line 98\nline 99\n")
    assert "line 79\n" not in answer
    assert cluster.id in cloud.run("status.sh")


def test_status_asks_the_master_by_ssh_when_it_has_the_key(cloud: Cloud, tmp_path: Path) -> None:
    cluster = cloud.cluster(on_s3=False)
    key = tmp_path / "key.pem"
    key.touch()
    ssh = executable(tmp_path / "ssh", 'echo "asked: $*"')

    answer = cloud.run(
        "status.sh",
        cluster.id,
        "--key-file",
        str(key),
        environment={"PATH": f"{ssh.parent}:{cloud.environment['PATH']}"},
    )

    assert f"hadoop@{cluster.master_public_dns_name} bash /opt/f1hbase/package/on_master.sh status\n" in answer


CLUSTER = "j-2AXXXXXXGAPLF"
DRY = ["create.sh", "--dry-run", "--bucket", BUCKET]


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        (["create.sh"], "--bucket is missing"),
        (["create.sh", "--bukket", "x"], "unknown argument '--bukket'"),
        (["create.sh", "--bucket"], "--bucket needs a value"),
        ([*DRY, "--bucket", "s3://mine"], "without s3://"),
        ([*DRY, "--release", "emr-6.15.0"], "EMR 7.0.0 or newer"),
        ([*DRY, "--core-count", "0"], "--core-count must be"),
        ([*DRY, "--tag", "owner"], "KEY=VALUE"),
        ([*DRY, "--name", "a,b]"], "--name must be"),
        ([*DRY, "--hbase-root", "s3://mine/"], "goes with --storage s3"),
        ([*DRY, "--service-role", "mine"], "go together"),
        ([*DRY, "--wheel", "missing.whl"], "--wheel must be"),
        (["run.sh"], "which cluster?"),
        (["run.sh", "f1hbase"], "such as j-"),
        (["run.sh", CLUSTER, "--year", "2024"], "goes behind --"),
        (["status.sh", CLUSTER, "--key-file", "missing.pem"], "cannot be read"),
        (["terminate.sh", CLUSTER, "--timeout", "soon"], "a number of minutes"),
    ],
)  # fmt: skip
def test_wrong_use_is_one_line(server: Cloud, tmp_path: Path, command: list[str], complaint: str) -> None:
    if command[0] == "create.sh" and len(command) > 3:
        command = [*command, "--build-dir", str(tmp_path)]

    [line] = server.run(*command, exit_code=2, environment=NOWHERE).splitlines()

    assert complaint in line


@pytest.mark.parametrize(
    ("environment", "exit_code", "complaint"),
    [
        ({"AWS_ACCESS_KEY_ID": ""}, 1, "no AWS credentials: run 'aws configure'"),
        ({"AWS_REGION": "", "AWS_DEFAULT_REGION": ""}, 2, "no AWS region: give --region"),
        (NOWHERE, 1, "AWS cannot be reached"),
        ({"PATH": "/usr/bin:/bin"}, 2, "the aws command is missing"),
        ({}, 1, "is not valid"),
    ],
)
def test_what_keeps_aws_from_answering_is_one_line_with_the_way_out(
    server: Cloud, environment: dict[str, str], exit_code: int, complaint: str
) -> None:
    if "PATH" in environment and shutil.which("aws", path=environment["PATH"]):
        pytest.skip("this machine has an aws command in /usr/bin")

    [line] = server.run("status.sh", CLUSTER, exit_code=exit_code, environment=environment).splitlines()

    assert complaint in line


@pytest.mark.parametrize("script", ["create.sh", "run.sh", "status.sh", "terminate.sh"])
def test_help_needs_nothing(script: str) -> None:
    result = subprocess.run(
        [str(SCRIPTS / script), "--help"], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True
    )

    assert result.stdout.startswith(f"Usage: scripts/emr/{script}")
    assert not result.stderr


@dataclass(frozen=True)
class Node:
    """A folder that stands for a node of a cluster: Debian has no dnf, so its calls and sudo's are only noted."""

    folder: Path

    def bootstrap(self, cloud: Cloud, package: str, *, master: bool) -> str:
        (self.folder / "instance.json").write_text(f'{{\n  "isMaster": {str(master).lower()},\n  "x": "true"\n}}\n')
        commands, calls = self.folder / "commands", self.folder / "calls"
        for folder in (commands, self.folder / "bin"):
            folder.mkdir()
        executable(commands / "dnf", f'echo "dnf $*" >> {calls}')
        executable(commands / "sudo", f'echo "sudo $*" >> {calls}; exec "$@"')
        executable(commands / "python3.11", f'exec {sys.executable} "$@"')
        places = {
            "F1HBASE_HOME": str(self.folder / "home"),
            "F1HBASE_WORK": str(self.folder / "work"),
            "F1HBASE_BIN": str(self.folder / "bin"),
            "F1HBASE_INSTANCE": str(self.folder / "instance.json"),
            "PATH": f"{commands}:{cloud.environment['PATH']}",
            # pip reaches its index as it does everywhere on this machine, and leaves the compiling out to be quicker.
            "HTTPS_PROXY": os.environ.get("HTTPS_PROXY", ""),
            "PIP_NO_COMPILE": "1",
            "PYTHONPATH": str(self.folder / "lent"),
        }
        return cloud.run("bootstrap.sh", package, environment={**os.environ, **places})

    @property
    def calls(self) -> list[str]:
        calls = self.folder / "calls"
        return calls.read_text().splitlines() if calls.exists() else []


def test_the_bootstrap_puts_python_and_the_package_on_the_master(cloud: Cloud, wheel: Path, tmp_path: Path) -> None:
    node = Node(tmp_path)
    for file in wheel.parent.iterdir():
        cloud.s3.put_object(BUCKET, f"package/{file.name}", file.read_bytes())
    # To be quick, only one package of the lock is installed; the others are lent, without what pip would know them by.
    [colorama] = re.findall(
        r"^colorama==\S+ (?:\\\n +--hash=\S+ ?)+", (ROOT / "requirements.lock").read_text(), re.MULTILINE
    )
    cloud.s3.put_object(BUCKET, "package/requirements.lock", colorama.encode())
    (tmp_path / "lent").mkdir()
    for library in Path(sysconfig.get_path("platlib")).iterdir():
        if library.suffix not in {".dist-info", ".pth"} and "f1hbase" not in library.name:
            (tmp_path / "lent" / library.name).symlink_to(library)

    said = node.bootstrap(cloud, f"s3://{BUCKET}/package/", master=True)

    assert node.calls[:2] == [
        "sudo dnf install --assumeyes --quiet python3.11 python3.11-pip",
        "dnf install --assumeyes --quiet python3.11 python3.11-pip",
    ]
    assert said.startswith("f1hbase, version")
    assert (tmp_path / "work").is_dir()
    assert (tmp_path / "home/package/on_master.sh").is_file()
    installed = {path.name for path in (tmp_path / "home/venv").glob("lib/*/site-packages/*")}
    assert {"f1hbase", "colorama"} <= installed


def test_the_bootstrap_leaves_other_nodes_alone(cloud: Cloud, tmp_path: Path) -> None:
    node = Node(tmp_path)

    assert "not the master" in node.bootstrap(cloud, "s3://nowhere/", master=False)
    assert not node.calls
    assert not (tmp_path / "home").exists()


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing() -> None:
    scripts = sorted(str(path) for path in SCRIPTS.glob("*.sh"))
    result = subprocess.run(["shellcheck", "-x", *scripts], cwd=ROOT, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stdout
