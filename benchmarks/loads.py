"""The real command line, run as a user runs it, and the moments of a load."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from time import monotonic, time

from benchmarks.errors import BenchmarkError
from benchmarks.measuring import Course, MemoryWatch, children_cpu
from benchmarks.servers import HOST, ROOT, ReplayServer
from benchmarks.stage import Stage
from f1hbase.stores.hbase.schema import Tables

_PLANNING = frozenset({"/v1/sessions", "/v1/meetings"})
"""What the parent asks for; the workers ask for all else."""


@dataclass(frozen=True, slots=True)
class Load:
    """One load. Times are in seconds since the process was started.

    Attributes:
        first_request: When the API had the first request; of a load from a zone when it began to look into that.
        first_data_request: When it had the first one of a worker; if there was none, the last one of all.
        data_requests: How many requests the workers sent.
        last_row: When HBase took the line of the last unit, which is put once that unit's rows are acknowledged.
        ended: When the process had ended.
        rows: How many rows it put into `f1_data`, by its units' lines.
        told_seconds: What its run's row says that it took.
        cpu: Processor seconds of parent and workers.
        peaks: The most memory that one process had, in bytes, by kind.
        courses: The memory of each process over time.
    """

    first_request: float
    first_data_request: float
    data_requests: int
    last_row: float
    ended: float
    rows: int
    told_seconds: float
    cpu: float
    peaks: dict[str, int]
    courses: tuple[Course, ...]

    @property
    def seconds(self) -> float:
        """From the first request to the last acknowledged row."""
        return self.last_row - self.first_request


def run_load(stage: Stage, api: ReplayServer, tables: Tables, *arguments: str, look_every: float = 0.1) -> Load:
    """Load without limits on requests, and say when what happened.

    Raises:
        BenchmarkError: If not all is loaded.
    """
    options = ["--api-url", api.url, "--rate", "none", "--log-file", str(stage.scratch / "populate.log"), *arguments]
    cpu, begun = children_cpu(), monotonic()
    process = start_command(stage, tables, "load", *options)
    try:
        with MemoryWatch(process.pid, look_every) as watch:
            printed, _ = process.communicate()
        ended = monotonic()
    except BaseException:
        end_command(process)
        raise
    if process.returncode:
        raise BenchmarkError(f"load: exit {process.returncode}\n{printed[-1500:]}")
    cpu = children_cpu() - cpu
    requests = api.requests_since(begun)
    if not requests:  # from a zone
        requests = [{"at": _load_began(stage, tables) - (time() - monotonic()), "path": ""}]
    data = [one for one in requests if one["path"] not in _PLANNING]
    rows, last_row = _units(stage, tables)
    return Load(
        first_request=requests[0]["at"] - begun,
        first_data_request=(data[0] if data else requests[-1])["at"] - begun,
        data_requests=len(data),
        last_row=last_row - (time() - monotonic()) - begun,
        ended=ended - begun,
        rows=rows,
        told_seconds=_told_seconds(stage, tables),
        cpu=cpu,
        peaks=watch.peaks(),
        courses=tuple(watch.courses.values()),
    )


def start_command(stage: Stage, tables: Tables, command: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a command of the project with the tables of the stage, in a process group of its own."""
    where = ["--hbase-host", HOST, "--hbase-port", str(stage.gateway.port), "--table-prefix", tables.prefix]
    return subprocess.Popen(
        [sys.executable, str(ROOT / "hbase_populate_openF1.py"), command, *where, *arguments],
        # Neither the user's settings nor their memory of the API's limits.
        env={name: value for name, value in os.environ.items() if not name.startswith("F1HBASE_")}
        | {"XDG_STATE_HOME": str(stage.scratch / "state")},
        cwd=stage.scratch, process_group=0, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def run_command(stage: Stage, tables: Tables, command: str, *arguments: str) -> tuple[float, str]:
    """Run a command of the project to its end, and return how many seconds it took and what it printed.

    Raises:
        BenchmarkError: If it fails.
    """
    begun = monotonic()
    process = start_command(stage, tables, command, *arguments)
    try:
        printed, _ = process.communicate()
    except BaseException:
        end_command(process)
        raise
    seconds = monotonic() - begun
    if process.returncode:
        raise BenchmarkError(f"{command}: exit {process.returncode}\n{printed[-1500:]}")
    return seconds, printed


def end_command(process: subprocess.Popen[str]) -> None:
    """End a command with its workers, which are in its process group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def endpoints_but(*left_out: str, of: Sequence[str]) -> list[str]:
    """Return the options that load all endpoints but some."""
    return [word for name in of if name not in left_out for word in ("--endpoint", name)]


def _units(stage: Stage, tables: Tables) -> tuple[int, float]:
    """Return how many rows the units' lines tell of, and when the last line was put, in seconds since 1970."""
    rows, last = 0, 0
    connection = stage.happybase()
    try:
        scan = connection.table(tables.reports).scan(
            row_prefix=b"unit#", columns=[b"stats:rows"], include_timestamp=True, batch_size=5000
        )
        for _, cells in scan:
            value, put_at = cells[b"stats:rows"]
            rows, last = rows + int(value), max(last, put_at)
    finally:
        connection.close()
    return rows, last / 1000


def _load_began(stage: Stage, tables: Tables) -> float:
    """Return when the last run began, in seconds since 1970: before it asked what there is."""
    connection = stage.happybase()
    try:
        *_, (_, cells) = connection.table(tables.reports).scan(row_prefix=b"run#")
    finally:
        connection.close()
    return datetime.fromisoformat(cells[b"meta:end"].decode()).timestamp() - float(cells[b"stats:seconds"])


def _told_seconds(stage: Stage, tables: Tables) -> float:
    connection = stage.happybase()
    try:
        runs = list(connection.table(tables.reports).scan(row_prefix=b"run#", columns=[b"stats:seconds"]))
    finally:
        connection.close()
    return float(runs[-1][1][b"stats:seconds"])


def rows_told(who: str, process: subprocess.Popen[str], printed: str, told: re.Pattern[str]) -> int:
    """Return how many rows a command that has ended says that it has worked on.

    Args:
        who: Who ran it, for messages.
        process: The command.
        printed: All that it printed.
        told: What says how many; its first group is the number.

    Raises:
        BenchmarkError: If it has failed, or does not say.
    """
    found = told.search(printed)
    if process.returncode or found is None:
        raise BenchmarkError(f"{who}: exit {process.returncode}\n{printed[-1500:]}")
    return int(found[1].replace(",", ""))
