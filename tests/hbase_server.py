"""A real HBase of a test's own: scripts/local_hbase.sh on free ports, with its data in a temporary folder."""

from __future__ import annotations

import os
import random
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import psutil

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "local_hbase.sh"
HOST = "127.0.0.1"

# Below the range from which the kernel takes the ports of outgoing connections: a port found free here is
# still free when HBase is started again after a kill.
PORTS = range(20_000, 32_000)


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that nothing listens on now."""
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        if len(found) == count:
            break
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        found.append(port)
    return found


class LocalHBaseError(Exception):
    """A command of local_hbase.sh failed."""


@dataclass
class LocalHBase:
    """One HBase with its Thrift gateway, in a folder and on ports of its own; the jars are shared by all.

    Every method returns when it is done: after ``start`` HBase answers, after ``stop`` and the kills the
    process is gone. A command that fails raises ``LocalHBaseError`` with what the script said.
    """

    folder: Path
    transport: str = "buffered"
    protocol: str = "binary"
    host: str = HOST
    port: int = 0
    environment: dict[str, str] = field(default_factory=dict)
    """Further LOCAL_HBASE_* settings."""

    def __post_init__(self) -> None:
        self.port, zookeeper, master, regionserver = free_ports(4)
        self.environment = {
            "LOCAL_HBASE_DIR": str(self.folder),
            "LOCAL_HBASE_THRIFT_PORT": str(self.port),
            "LOCAL_HBASE_ZK_PORT": str(zookeeper),
            "LOCAL_HBASE_MASTER_PORT": str(master),
            "LOCAL_HBASE_REGIONSERVER_PORT": str(regionserver),
            "LOCAL_HBASE_UI_PORT": "-1",
            "LOCAL_HBASE_HEAP": "2g",
            "LOCAL_HBASE_GATEWAY_HEAP": "512m",
            # Started and killed all the time, it would spend most of the processors on optimising code for later.
            "JDK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1",
        } | self.environment

    @property
    def env(self) -> dict[str, str]:
        """The environment in which local_hbase.sh means this HBase, and the loader finds it."""
        settings = {
            "LOCAL_HBASE_THRIFT_TRANSPORT": self.transport,
            "LOCAL_HBASE_THRIFT_PROTOCOL": self.protocol,
            "F1HBASE_HBASE_HOST": self.host,
            "F1HBASE_HBASE_PORT": str(self.port),
        }
        return os.environ | self.environment | settings

    def run(
        self, *arguments: str, check: bool = True, stdin: str = "", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of local_hbase.sh, with ``env`` on top of its environment."""
        result = subprocess.run(
            [str(SCRIPT), *arguments],
            env=self.env | (env or {}),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and result.returncode:
            raise LocalHBaseError(f"local_hbase.sh {' '.join(arguments)}: exit {result.returncode}\n{result.stderr}")
        return result

    def start(self) -> None:
        self.run("start")

    def stop(self) -> None:
        self.run("stop")

    def start_gateway(self, *, transport: str | None = None, protocol: str | None = None) -> None:
        """Start the Thrift gateway again, with another dialect if one is named."""
        self.transport = transport or self.transport
        self.protocol = protocol or self.protocol
        self.run("start", "gateway")

    def stop_gateway(self) -> None:
        self.run("stop", "gateway")

    def kill_master(self) -> None:
        """Kill ZooKeeper, master and region server, which are one process, as ``kill -9`` does."""
        self._kill("master")

    def kill_gateway(self) -> None:
        self._kill("gateway")

    def shell(self, script: str) -> str:
        """Run a script in the genuine hbase shell and return what it prints (7 seconds)."""
        return self.run("shell", stdin=script).stdout

    def pids(self) -> dict[str, int]:
        """Return the process ids of what runs, by part: ``master`` and ``gateway``."""
        lines = self.run("pids").stdout.splitlines()
        return {part: int(pid) for part, pid in (line.split() for line in lines)}

    def _kill(self, part: str) -> None:
        process = psutil.Process(self.pids()[part])
        process.kill()
        process.wait()
