"""`f1hbase serve` over HBase, a landing zone and a folder: the same 30 questions of 1 and of 16 clients.

It simulates a race, loads it into an HBase and a zone of its own, and starts a server over each:

    python -m benchmarks.serve --minutes 120
"""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from gzip import open as open_gzip
from pathlib import Path
from statistics import median, quantiles
from time import monotonic, perf_counter
from typing import Any

import aiohttp
import click
import psutil

import f1hbase
from benchmarks.options import Tell
from benchmarks.records import YEAR
from benchmarks.results import markdown_table, number
from benchmarks.servers import HOST, ROOT
from benchmarks.stage import Stage, open_stage
from f1hbase.model.units import Scope
from f1hbase.stores.hbase.schema import Layout, Tables, creation_script
from simulator import Plan, simulate

CLIENTS = (1, 16)
SLOW = 1_000
_LAPS_ASKED = 40
_ROUNDS = 3
_PREFIX = "bench_serve"


@dataclass(frozen=True, slots=True)
class Race:
    """What is asked about.

    Attributes:
        folder: The files of the race.
        scope: The session.
        drivers: The numbers of the cars.
    """

    folder: Path
    scope: Scope
    drivers: Sequence[int]

    def at(self, part: float) -> datetime:
        """Return a moment of the race: 0 its beginning, 1 its end."""
        start, end = self.scope.date_start, self.scope.date_end
        assert start is not None
        assert end is not None
        return start + (end - start) * part


def questions(race: Race) -> list[tuple[str, str]]:
    """Return 30 questions, each with what it asks for."""
    here = f"session_key={race.scope.session_key}"

    def span(part: float, **length: float) -> str:
        start = race.at(part)
        return f"date>={start:%Y-%m-%dT%H:%M:%S}&date<{start + timedelta(**length):%Y-%m-%dT%H:%M:%S}"

    asked = [
        (f"car_data?{here}&driver_number={driver}&{span(part, minutes=15)}", "15 minutes of a driver")
        for driver, part in zip(race.drivers[:5], (0.0, 0.2, 0.4, 0.6, 0.8), strict=True)
    ]
    asked += [
        (f"location?{here}&driver_number={driver}&{span(0.3, minutes=15)}", "15 minutes of a driver")
        for driver in race.drivers[5:8]
    ]
    asked += [(f"car_data?{here}&{span(part, minutes=1)}", "a minute of all drivers") for part in (0.1, 0.5, 0.7, 0.9)]
    asked += [(f"location?{here}&{span(part, minutes=1)}", "a minute of all drivers") for part in (0.1, 0.5)]
    asked += [
        (f"laps?{here}", "laps of the race"),
        (f"laps?{here}&csv=true", "laps of the race"),
        *((f"laps?{here}&driver_number={driver}", "laps of a driver") for driver in race.drivers[:3]),
        (f"laps?{here}&is_pit_out_lap=true", "laps of the race"),
        (f"position?{here}&driver_number={race.drivers[0]}", "positions of a driver"),
        (f"intervals?{here}&{span(0.5, minutes=1)}", "a minute of all drivers"),
        (f"weather?session_key=latest&{span(0.9, minutes=5)}", "latest weather"),
        ("weather?session_key=latest", "latest weather"),
        (f"race_control?{here}", "a small endpoint"),
        (f"pit?{here}", "a small endpoint"),
        (f"stints?{here}&driver_number={race.drivers[0]}", "a small endpoint"),
        (f"drivers?{here}", "a small endpoint"),
        (f"session_result?{here}&position<=3", "a small endpoint"),
        ("sessions?session_key=latest", "a small endpoint"),
    ]
    assert len(asked) == 30
    return asked


@dataclass(frozen=True, slots=True)
class Measured:
    """One store under some clients: the seconds of each kind of question, answers a second, and the peak memory."""

    seconds: dict[str, list[float]]
    rate: float
    peak: int

    @property
    def all(self) -> list[float]:
        """The seconds of all questions."""
        return [one for some in self.seconds.values() for one in some]


async def _ask(port: int, clients: int, rounds: int, asked: Sequence[tuple[str, str]]) -> tuple[dict[str, Any], float]:
    found: dict[str, list[float]] = {title: [] for _, title in asked}
    async with aiohttp.ClientSession(f"http://{HOST}:{port}") as session:

        async def client(first: int) -> None:
            # Each begins with another question.
            for turn in range(rounds * len(asked)):
                query, title = asked[(first + turn) % len(asked)]
                begun = perf_counter()
                async with session.get(f"/v1/{query}") as answer:
                    assert answer.status == 200, f"{query}: {answer.status}"
                    assert len(await answer.read()) > 2, query
                found[title].append(perf_counter() - begun)

        begun = monotonic()
        await asyncio.gather(*(client(number * 7) for number in range(clients)))
        return found, monotonic() - begun


def measure(port: int, pid: int, clients: int, rounds: int, asked: Sequence[tuple[str, str]]) -> Measured:
    """Ask a server everything, and say how long it took."""
    found, seconds = asyncio.run(_ask(port, clients, rounds, asked))
    return Measured(found, clients * rounds * len(asked) / seconds, psutil.Process(pid).memory_info().rss)


async def _read_all(port: int, query: str) -> tuple[int, float]:
    begun, size = perf_counter(), 0
    async with aiohttp.ClientSession(f"http://{HOST}:{port}") as session, session.get(f"/v1/{query}") as answer:
        assert answer.status == 200
        async for part in answer.content.iter_any():
            size += len(part)
    return size, perf_counter() - begun


@contextmanager
def slow_readers(port: int, query: str) -> Iterator[None]:
    """Ask over many connections, and read nothing."""
    with ExitStack() as stack:
        for _ in range(SLOW):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect((HOST, port))
            connection.sendall(f"GET /v1/{query} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        yield


@contextmanager
def serving(place: Path | str, *arguments: str) -> Iterator[tuple[int, int]]:
    """Run `f1hbase serve` over a place; gives its port and its process id."""
    words = [sys.executable, str(ROOT / "hbase_populate_openF1.py"), "serve", "--from", str(place), "--port", "0"]
    with subprocess.Popen([*words, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline().split(":")[2].partition("/")[0]), process.pid
        finally:
            process.terminate()


def run(stage: Stage, scratch: Path, minutes: float | None, rounds: int, tell: Tell) -> str:
    """Load a race into each store, and ask each server; returns tables."""
    tell("making the records")
    folder = scratch / "folder"
    for _ in simulate(folder, Plan(year=YEAR, sessions=("race",), minutes=minutes)):
        pass
    tell("loading them")
    tables, zone = Tables(_PREFIX), scratch / "zone"
    stage.shell.run(creation_script(tables, Layout()))
    where = {"hbase_host": HOST, "hbase_port": stage.gateway.port, "table_prefix": _PREFIX}
    # From an API, so that the zone has windows as a real one has them.
    with serving(folder) as (port, _):
        api = f"http://{HOST}:{port}/v1"
        for target in ({"to": "hbase", **where}, {"to": zone}):
            result = f1hbase.load(api_url=api, year=YEAR, processes=1, **target)
            assert result.exit_code == 0
    # Rows are read from files, as they are where a race was loaded long ago, and not from memory.
    stage.shell.run(f"flush '{tables.data}'")
    with f1hbase.open(zone) as store:
        (session,) = store.sessions().to_pylist()
        race = Race(folder, store.session(session["session_key"]).scope, _drivers(folder))
    asked = questions(race)
    words = [word for name, value in where.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    places: dict[str, tuple[Path | str, list[str]]] = {
        "HBase": ("hbase", words),
        "landing zone": (zone, []),
        "folder": (folder, []),
    }
    lines, whole, kinds, slow = [], [], [], []
    for title, (place, arguments) in places.items():
        with serving(place, *arguments) as (port, pid):
            tell(f"{title}: asking")
            first = measure(port, pid, 1, 1, asked)
            for clients in CLIENTS:
                measured = measure(port, pid, clients, rounds, asked)
                lines.append([
                    title, str(clients), *_times(measured.all), f"{measured.rate:.0f}", number(measured.peak / 1e6),
                ])  # fmt: skip
                if clients == 1:
                    kinds.append([
                        title, f"{max(first.seconds['15 minutes of a driver']) * 1000:.0f}",
                        *(f"{median(some) * 1000:.0f}" for some in measured.seconds.values()),
                    ])  # fmt: skip
            size, seconds = asyncio.run(_read_all(port, f"car_data?session_key={race.scope.session_key}"))
            whole.append([
                title, number(size / 1e6), f"{seconds:.1f}", number(psutil.Process(pid).memory_info().rss / 1e6),
            ])  # fmt: skip
        with serving(place, *arguments) as (port, pid):
            tell(f"{title}: {SLOW} slow readers")
            everything, few = f"car_data?session_key={race.scope.session_key}", [asked[14]]
            alone = measure(port, pid, 1, _LAPS_ASKED, few)
            with slow_readers(port, everything):
                beside = measure(port, pid, 1, _LAPS_ASKED, few)
            slow.append([
                title, f"{median(alone.all) * 1000:.0f}", f"{median(beside.all) * 1000:.0f}",
                f"{max(beside.all) * 1000:.0f}", number(beside.peak / 1e6),
            ])  # fmt: skip
    stage.drop(tables.data, tables.reports)
    names = list(dict.fromkeys(title for _, title in asked))
    return "\n\n".join([
        markdown_table(["store", "clients", "p50, ms", "p99, ms", "answers/s", "memory, MB"], lines, texts=1),
        "Medians of one client, in ms, and the slowest 15 minutes of a driver that was asked for the first time:",
        markdown_table(["store", "first time", *names], kinds, texts=1),
        "All car data of the race in one answer:",
        markdown_table(["store", "MB", "seconds", "memory afterwards, MB"], whole, texts=1),
        f"Laps of the race while {SLOW} other clients have asked for all car data and read nothing, in ms:",
        markdown_table(["store", "p50 without them", "p50", "slowest", "memory, MB"], slow, texts=1),
    ])  # fmt: skip


def _times(seconds: Sequence[float]) -> list[str]:
    return [f"{median(seconds) * 1000:.0f}", f"{quantiles(seconds, n=100)[98] * 1000:.0f}"]


def _drivers(folder: Path) -> list[int]:
    (path,) = folder.rglob("drivers.jsonl.gz")
    with open_gzip(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line)["driver_number"] for line in lines]


@click.command()
@click.option("--minutes", type=float, help="How long the race is.  [default: as long as a race]")
@click.option("--rounds", default=_ROUNDS, show_default=True)
def main(minutes: float | None, rounds: int) -> None:
    """Measure the server over its three stores."""

    def tell(line: str) -> None:
        click.echo(line, err=True)

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4 * SLOW)), hard))
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="f1hbase-benchmark-")))
        tell("starting HBase")
        stage = stack.enter_context(open_stage(scratch))
        click.echo(run(stage, scratch, minutes, rounds, tell))


if __name__ == "__main__":
    main()
