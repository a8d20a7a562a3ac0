"""A real HDFS and YARN of one node, of Hadoop's own test cluster, in a folder and on ports of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep

from hbase_server import HOST, SCRIPT, free_ports

_START_SECONDS = 120.0
_STOP_SECONDS = 20.0

# What Hadoop reaches into of Java 17.
_OPENED = ("lang", "lang.reflect", "net", "nio", "io", "util", "util.concurrent")


def yarn_jars() -> str:
    """Fetch the jars of the cluster if need be, and return what Java's class path is then."""
    fetched = subprocess.run([str(SCRIPT), "fetch", "yarn"], capture_output=True, text=True, check=True)
    return f"{(fetched.stdout + fetched.stderr).strip().rpartition(' are in ')[2]}/*"


@dataclass
class YarnCluster:
    """One name node, data node, resource manager and node manager, which are one process; runs in a `with` block.

    Attributes:
        folder: Its data.
        cores: How many cores YARN gives away.
        megabytes: How much memory YARN gives away.
        conf: The folder for HADOOP_CONF_DIR, once it runs.
    """

    folder: Path
    cores: int = 4
    megabytes: int = 6_144
    conf: Path = field(init=False)

    def __post_init__(self) -> None:
        self.conf = self.folder / "conf"
        self._process: subprocess.Popen[bytes] | None = None
        self._name_node, *self._ports = free_ports(6)

    @property
    def root(self) -> str:
        """Its file system."""
        return f"hdfs://localhost:{self._name_node}"

    def __enter__(self) -> YarnCluster:
        jars = yarn_jars()
        self.conf.mkdir(parents=True)
        written = self.conf / "core-site.xml"
        opened = [word for name in _OPENED for word in ("--add-opens", f"java.base/java.{name}=ALL-UNNAMED")]
        command = [
            "java", *opened, "-Xmx768m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
            f"-Dtest.build.data={self.folder / 'data'}", f"-Dhadoop.log.dir={self.folder / 'logs'}", "-cp", jars,
            "org.apache.hadoop.mapreduce.MiniHadoopClusterManager", "-format", "-nnport", str(self._name_node),
            "-rmport", str(self._ports[0]), "-writeConfig", str(written),
        ]  # fmt: skip
        for name, value in self._settings().items():
            command += ["-D", f"{name}={value}"]
        with (self.folder / "cluster.log").open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        until = monotonic() + _START_SECONDS
        # It is written when all of it runs.
        while not (written.is_file() and written.read_bytes().rstrip().endswith(b"</configuration>")):
            if self._process.poll() is not None or monotonic() > until:
                self.__exit__()
                text = (self.folder / "cluster.log").read_text(errors="replace")
                raise RuntimeError(f"HDFS and YARN do not start: {text[-2000:]}")
            sleep(0.2)
        # Each of Hadoop's parts looks for a file of its own.
        for name in ("hdfs-site.xml", "yarn-site.xml"):
            shutil.copy(written, self.conf / name)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which Spark finds it."""
        return {"HADOOP_CONF_DIR": str(self.conf), "HADOOP_USER_NAME": os.environ.get("USER", "root")}

    def _settings(self) -> dict[str, str]:
        _, scheduler, tracker, admin, page = self._ports
        return {
            "yarn.minicluster.fixed.ports": "true",
            "yarn.resourcemanager.hostname": "localhost",
            "yarn.resourcemanager.scheduler.address": f"localhost:{scheduler}",
            "yarn.resourcemanager.resource-tracker.address": f"localhost:{tracker}",
            "yarn.resourcemanager.admin.address": f"localhost:{admin}",
            "yarn.resourcemanager.webapp.address": f"{HOST}:{page}",
            "yarn.nodemanager.resource.memory-mb": str(self.megabytes),
            "yarn.nodemanager.resource.cpu-vcores": str(self.cores),
            "yarn.scheduler.minimum-allocation-mb": "256",
            # Java reserves far more addresses than it takes memory.
            "yarn.nodemanager.vmem-check-enabled": "false",
            "yarn.nodemanager.disk-health-checker.max-disk-utilization-per-disk-percentage": "99.0",
        }
