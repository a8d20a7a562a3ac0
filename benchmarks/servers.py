"""What a benchmark needs running: an HBase with its shell, and a replay server, each a process of its own."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.request import urlopen

from benchmarks.errors import BenchmarkError
from f1hbase.stores.hbase.connector import Gateway, find_gateways

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"

_SCRIPT = ROOT / "scripts" / "local_hbase.sh"
_HBASE = ROOT / "scripts" / "bin" / "hbase"

# Below the range from which the kernel takes the ports of outgoing connections.
_PORTS = range(20_000, 32_000)

_STOP_SECONDS = 10.0

# The shell takes about ten seconds to start, so one stays open for all that Thrift cannot do. Each line of its input is
# a script in hexadecimal digits, which need no quoting; each ends with a line that says how it went.
_DONE, _FAILED = "benchmark: done", "benchmark: failed: "
_SHELL_LOOP = f"""while (line = $stdin.gets)
  begin
    eval([line.strip].pack('H*').force_encoding('UTF-8'))
    puts "\\n{_DONE}"
  rescue Exception => error
    puts "\\n{_FAILED}" + error.message.to_s.lines.first.to_s
  end
  $stdout.flush
end
"""


class LocalHBase:
    """HBase and its Thrift gateway from `scripts/local_hbase.sh`, on free ports and with the usual JVM settings.

    It runs during a `with` block; its data go at the end.

    Args:
        folder: Its data; is made.

    Attributes:
        settings: The variables by which `scripts/local_hbase.sh` means this one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port, self.zookeeper_port, master, region_server = _free_ports(4)
        settings = {
            "LOCAL_HBASE_DIR": str(folder),
            "LOCAL_HBASE_THRIFT_PORT": str(self._port),
            "LOCAL_HBASE_ZK_PORT": str(self.zookeeper_port),
            "LOCAL_HBASE_MASTER_PORT": str(master),
            "LOCAL_HBASE_REGIONSERVER_PORT": str(region_server),
        }
        # Whatever somebody has set for tests would be measured as well.
        usual = {name: value for name, value in os.environ.items() if not name.startswith(("LOCAL_HBASE_", "JDK_JAVA"))}
        jars = {name: os.environ[name] for name in ("LOCAL_HBASE_JARS",) if name in os.environ}
        self.settings: Mapping[str, str] = jars | settings
        self._environment = usual | self.settings
        self.gateway: Gateway
        self.pids: Mapping[str, int] = {}

    def __enter__(self) -> Self:
        try:
            self._run("start")
            self.pids = {part: int(pid) for part, pid in map(str.split, self._run("pids").splitlines())}
            (self.gateway,) = find_gateways([(HOST, self._port)])
        except BaseException:
            self._run("stop")
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run("stop")
        self._run("wipe", "--yes")

    @property
    def version(self) -> str:
        """What it calls itself, such as `HBase 2.5.8`."""
        return _finish(_start([str(_HBASE), "version"], self._environment)).strip()

    def open_shell(self) -> HBaseShell:
        """Return the genuine hbase shell, to be used in a `with` block."""
        script = self._folder / "shell-loop.rb"
        script.write_text(_SHELL_LOOP, encoding="utf-8")
        return HBaseShell(_start([str(_SCRIPT), "shell", "-n", str(script)], self._environment, pipe_in=True))

    def performance_evaluation(self, *arguments: str) -> str:
        """Run HBase's own load tool and return what it prints; its JVM has the usual settings, too."""
        # local_hbase.sh saves the second compiler for short commands; this variable alone comes after its options.
        environment = self._environment | {"_JAVA_OPTIONS": "-XX:TieredStopAtLevel=4"}
        return _finish(_start([str(_HBASE), "pe", *arguments], environment))

    def start_class(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a class of HBase, such as a MapReduce job, with the usual settings of a JVM."""
        return _start([str(_HBASE), *arguments], self._environment | {"_JAVA_OPTIONS": "-XX:TieredStopAtLevel=4"})

    def mapreduce_jars(self) -> list[str]:
        """Return the jars with which Spark writes HBase's files."""
        return _finish(_start([str(_HBASE), "mapredcp"], self._environment)).strip().rpartition("\n")[2].split(":")

    def table_folder(self, table: str) -> Path:
        """Where the regions of a table are."""
        return self._folder / "data" / "data" / "default" / table

    def _run(self, *arguments: str) -> str:
        return _finish(_start([str(_SCRIPT), *arguments], self._environment))


class HBaseShell:
    """An open hbase shell."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _end(self._process)

    def run(self, script: str) -> str:
        """Run a script and return what it prints.

        Raises:
            BenchmarkError: If it fails.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(script.encode().hex() + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise BenchmarkError("the hbase shell has ended") from None
        lines: list[str] = []
        for line in self._process.stdout:
            if line.startswith(_DONE):
                return "".join(lines)
            if line.startswith(_FAILED):
                raise BenchmarkError(f"hbase shell: {line.removeprefix(_FAILED).strip()} in: {script[:200]}")
            lines.append(line)
        raise BenchmarkError(f"the hbase shell has ended: {''.join(lines)[-500:]}")


class ReplayServer:
    """`python -m simulator serve` over a folder of records, during a `with` block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "simulator", "serve", str(self._folder), "--port", "0"]
        self._process = _start(command, dict(os.environ))
        assert self._process.stdout is not None
        try:
            line = self._process.stdout.readline()
            while line.startswith("reading: "):  # how far it is with many records
                line = self._process.stdout.readline()
            if not line.startswith("serving "):
                self._process.terminate()
                raise BenchmarkError(f"the replay server did not start: {line}{self._process.stdout.read()}")
        except BaseException:
            _end(self._process)
            raise
        self.url = line.removeprefix("serving ").strip()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            _end(self._process)

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def requests_since(self, moment: float) -> list[dict[str, Any]]:
        """Return the requests that arrived at a moment of the monotonic clock or later, the earliest first."""
        with urlopen(f"{self.url.removesuffix('/v1')}/_log") as answer:  # noqa: S310 - an address of our own
            log: list[dict[str, Any]] = json.load(answer)
        return sorted((one for one in log if one["at"] >= moment), key=lambda one: one["at"])


def _free_ports(count: int) -> list[int]:
    found: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        if len(found) == count:
            break
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        found.append(port)
    return found


def _start(command: Sequence[str], environment: Mapping[str, str], *, pipe_in: bool = False) -> subprocess.Popen[str]:
    # A process group of its own: Ctrl-C is for the benchmark, which stops the others in their order.
    return subprocess.Popen(
        command, env=environment, cwd=ROOT, text=True, process_group=0,
        stdin=subprocess.PIPE if pipe_in else subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def _finish(process: subprocess.Popen[str]) -> str:
    """Wait for a command and return what it printed."""
    try:
        printed, _ = process.communicate()
    except BaseException:
        _end(process)
        raise
    if process.returncode:
        command = " ".join(map(str, process.args)) if isinstance(process.args, list) else str(process.args)
        raise BenchmarkError(f"{command.removeprefix(str(ROOT))[:100]}: exit {process.returncode}\n{printed[-1500:]}")
    return printed


def _end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.communicate(timeout=_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
