"""Reading the car data of a session back: the plain way with happybase, and f1hbase's, each in a process of its own.

As a study it simulates and loads a race of 20 drivers. Over an HBase that has a session already:

    python -m benchmarks.read --hbase-port 9090 --session-key 9558 --rounds 3
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import TYPE_CHECKING

import click
import happybase

import f1hbase
from benchmarks.options import Options, Tell
from benchmarks.results import markdown_table, number
from f1hbase.frames.store import Store
from f1hbase.model.units import Scope, Unit
from f1hbase.stores.hbase.schema import Layout, Tables, creation_script

if TYPE_CHECKING:
    from benchmarks.stage import Stage

_ROOT = Path(__file__).resolve().parent.parent
_ROUNDS = 3
_HAPPYBASE_BATCH = 1000  # happybase's default


@dataclass(frozen=True, slots=True)
class Target:
    """What is read.

    Attributes:
        host, port: The gateway, which speaks buffered and binary.
        prefix: The prefix of the tables.
        session_key: The session.
    """

    host: str
    port: int
    prefix: str
    session_key: int

    def scope(self) -> Scope:
        """Find the session in the table."""
        with self.store() as store:
            return store.session(self.session_key).scope

    def store(self) -> Store:
        """Open the tables."""
        return f1hbase.connect(hbase_host=self.host, hbase_port=self.port, table_prefix=self.prefix)


def _scan(target: Target, scope: Scope) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
    table = happybase.Connection(target.host, target.port).table(Tables(target.prefix).data)
    lead = f"{scope.prefix}#".encode()
    yield from table.scan(row_prefix=lead, columns=[b"car"], batch_size=_HAPPYBASE_BATCH)


def happybase_kept(target: Target, scope: Scope) -> int:
    """Read rows into dicts, and keep them."""
    return len(list(_scan(target, scope)))


def happybase_streamed(target: Target, scope: Scope) -> int:
    """Read rows into dicts, one after the other."""
    return sum(1 for _ in _scan(target, scope))


def records_streamed(target: Target, scope: Scope) -> int:
    """Read decoded records, some at a time."""
    from f1hbase.composition import open_reader
    from f1hbase.config import resolve

    settings = {"hbase_host": target.host, "hbase_port": target.port, "table_prefix": target.prefix}
    reader = open_reader(resolve(settings), "hbase")
    return sum(len(part) for part in reader.read(Unit("car_data", scope)))


def batches(target: Target, _: Scope) -> int:
    """Read Arrow batches with typed columns, one after the other."""
    frame = target.store().session(target.session_key).car_data()
    return sum(batch.num_rows for batch in frame.batches())


def table(target: Target, _: Scope) -> int:
    """Read a whole Arrow table, in order."""
    return int(target.store().session(target.session_key).car_data().num_rows)


CONTENDERS: dict[str, tuple[str, Callable[[Target, Scope], int]]] = {
    "happybase": ("happybase `scan`, dicts of bytes kept", happybase_kept),
    "happybase-streamed": ("happybase `scan`, one row at a time", happybase_streamed),
    "records": ("`HBaseReader.read`, decoded", records_streamed),
    "batches": ("`car_data().batches()`, Arrow", batches),
    "table": ("`car_data().to_arrow()`", table),
}


@dataclass(frozen=True, slots=True)
class Measured:
    """One contender's run: rows, seconds of the clock and of the processor, and the peak of its memory in bytes."""

    rows: int
    seconds: float
    processor: float
    peak: int


def measure(name: str, target: Target) -> Measured:
    """Run a contender in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.read", "--one", name, "--hbase-host", target.host]
    words += ["--hbase-port", str(target.port), "--session-key", str(target.session_key)]
    words += ["--table-prefix", target.prefix]
    done = subprocess.run(words, cwd=_ROOT, capture_output=True, text=True, check=True)
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def compare(target: Target, rounds: int, tell: Tell) -> str:
    """Run all contenders in turns, and return a table of their medians."""
    found: dict[str, list[Measured]] = {name: [] for name in CONTENDERS}
    for number_of_round in range(rounds):
        for name in CONTENDERS:
            measured = measure(name, target)
            found[name].append(measured)
            tell(
                f"round {number_of_round + 1}, {name}: {measured.rows:,} rows in {measured.seconds:.1f} s "
                f"({measured.processor:.1f} s of processor), {measured.peak / 1e6:.0f} MB"
            )
    plain = median(one.seconds for one in found["happybase"])
    lines = []
    for name, (title, _) in CONTENDERS.items():
        seconds = median(one.seconds for one in found[name])
        processor = median(one.processor for one in found[name])
        rows = found[name][0].rows
        lines.append([
            title, number(rows), f"{seconds:.1f}", number(rows / seconds), f"{plain / seconds:.1f}",
            f"{processor / rows * 1e6:.1f}", number(median(one.peak for one in found[name]) / 1e6),
        ])  # fmt: skip
    return markdown_table(
        # Of 10^6 bytes, as everywhere.
        ["way", "rows", "seconds", "rows/s", "times the first", "processor, µs a row", "peak, MB"],
        lines,
        texts=1,
    )


def run(stage: Stage, options: Options, tell: Tell) -> str:
    """Load a race of twenty drivers, and read its car data in every way."""
    folder = stage.scratch / "read"
    from benchmarks.loads import run_load
    from benchmarks.records import YEAR
    from benchmarks.servers import ReplayServer
    from simulator import Plan, simulate

    tell("making the records")
    session_key = 0
    for written in simulate(folder, Plan(year=YEAR, sessions=("race",), minutes=options.minutes)):
        session_key = written.session_key
    tables = Tables("bench_read")
    stage.shell.run(creation_script(tables, Layout()))
    with ReplayServer(folder) as api:
        load = run_load(stage, api, tables, "--processes", "1")
    tell(f"{load.rows:,} rows loaded")
    target = Target(stage.gateway.host, stage.gateway.port, tables.prefix, session_key)
    result = compare(target, options.rounds or _ROUNDS, tell)
    stage.drop(tables.data, tables.reports)
    return f"The car data of a race of 20 drivers, in order, medians of {options.rounds or _ROUNDS} rounds.\n\n{result}"


@click.command()
@click.option("--hbase-host", default="localhost", show_default=True)
@click.option("--hbase-port", default=9090, show_default=True)
@click.option("--table-prefix", default="")
@click.option("--session-key", type=int, required=True)
@click.option("--rounds", default=_ROUNDS, show_default=True)
@click.option("--one", hidden=True, type=click.Choice(list(CONTENDERS)))
def main(hbase_host: str, hbase_port: int, table_prefix: str, session_key: int, rounds: int, one: str | None) -> None:
    """Measure over an HBase that has a session already."""
    target = Target(hbase_host, hbase_port, table_prefix, session_key)
    if one is None:
        click.echo(compare(target, rounds, lambda line: click.echo(line, err=True)))
        return
    scope = target.scope()
    begun, used = perf_counter(), process_time()
    rows = CONTENDERS[one][1](target, scope)
    seconds, processor = perf_counter() - begun, process_time() - used
    # Linux counts in KiB.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    click.echo(json.dumps(asdict(Measured(rows, seconds, processor, peak))))


if __name__ == "__main__":
    main()
