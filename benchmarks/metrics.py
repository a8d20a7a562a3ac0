"""The study of what showing metrics costs, and of how long HBase takes for a put while a load is at full speed."""

from __future__ import annotations

import math
import shutil
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from urllib.request import urlopen

from benchmarks import records
from benchmarks.loads import endpoints_but, run_load
from benchmarks.options import MEETINGS, Options, Tell
from benchmarks.results import Spread, markdown_table, number, spread
from benchmarks.servers import HOST, ReplayServer
from benchmarks.stage import Stage
from benchmarks.zones import fill
from f1hbase.model.catalog import ENDPOINTS

_ROUNDS = 5
_PUT_ROUNDS = 3
_PROCESSES = 2
_SCRAPE_SECONDS = 1.0
"""Fifteen times as often as Prometheus asks by default."""


def run(stage: Stage, options: Options, tell: Tell) -> str:
    """Load the same records into a folder, by turns without exporters and with Prometheus's, then into HBase."""
    tell("making the records")
    made = records.simulated(stage.scratch / "metrics", rows=options.rows, meetings=MEETINGS)
    zone, port = stage.scratch / "zone", _free_port()
    shown = ("--metrics", str(port), "--metrics-file", str(stage.scratch / "f1hbase.prom"))
    off: list[float] = []
    on: list[float] = []
    with ReplayServer(made.folder) as api:
        fill(stage, api, zone)  # the server has made its answers once
        for turn in range(options.rounds or _ROUNDS):
            # Whichever comes second finds a warmer machine, so they take turns at that, too.
            for exporting in (False, True) if turn % 2 else (True, False):
                if exporting:
                    with _scraped(port):
                        on.append(fill(stage, api, zone, *shown).cpu)
                else:
                    off.append(fill(stage, api, zone).cpu)
            tell(f"round {turn + 1}: {off[-1]:.2f} s without, {on[-1]:.2f} s with")
        puts = _puts(stage, api, made, min(_PUT_ROUNDS, options.rounds or _PUT_ROUNDS))
    shutil.rmtree(zone)
    more = Spread(tuple(100 * (with_them / without - 1) for without, with_them in zip(off, on, strict=True)))
    rows = [
        ["without exporters", number(Spread(tuple(off)).median), spread(Spread(tuple(off)))],
        ["with --metrics and --metrics-file", number(Spread(tuple(on)).median), spread(Spread(tuple(on)))],
    ]
    low, high = _middle(more.values)
    return (
        f"Processor seconds of parent and workers of a load of {made.car_data:,} car_data records of {MEETINGS} "
        f"meetings into a folder, scraped every second; {len(off)} pairs of rounds, which of the two comes first "
        f"changing. The median of the differences of the pairs is {more.median:+.1f} %, and with 95 % confidence "
        f"from {low:+.1f} to {high:+.1f} (single pairs: {more.low:+.1f} to {more.high:+.1f}).\n\n"
        f"{markdown_table(['', 'processor seconds', 'least to most'], rows)}\n\n{puts}"
    )


def _middle(values: Sequence[float]) -> tuple[float, float]:
    """Return between which values the median is with 95 % confidence: those so many ranks from the middle.

    By the sign test's normal approximation; of few values the least and the greatest.
    """
    ordered = sorted(values)
    rank = max(0, math.floor((len(ordered) - 1.96 * math.sqrt(len(ordered))) / 2) - 1)
    return ordered[rank], ordered[-1 - rank]


def _puts(stage: Stage, api: ReplayServer, made: records.Records, rounds: int) -> str:
    """Load the records into HBase without limits, and say what its runs' rows tell of their puts."""
    tables = stage.create("metrics", made.meetings)
    told: dict[str, list[float]] = {name: [] for name in ("count", "mean", "p50", "p95", "max")}
    rates: list[float] = []
    for _ in range(rounds):
        stage.empty(tables.data, tables.reports)
        chosen = endpoints_but("location", of=list(ENDPOINTS))
        load = run_load(stage, api, tables, "--processes", str(_PROCESSES), *chosen)
        rates.append(load.rows / load.seconds)
        connection = stage.happybase()
        try:
            ((_, cells),) = connection.table(tables.reports).scan(row_prefix=b"run#")
        finally:
            connection.close()
        for name, values in told.items():
            values.append(float(cells[f"stats:put_{name}".encode()]))
    stage.drop(tables.data, tables.reports)
    headings = ["", "puts", "mean, ms", "p50, ms", "p95, ms", "longest, ms"]
    row = ["one call that puts rows into HBase", number(Spread(tuple(told["count"])).median)]
    row += [f"{Spread(tuple(told[name])).median * 1000:.0f}" for name in ("mean", "p50", "p95", "max")]
    return (
        f"At full speed ({Spread(tuple(rates)).median:,.0f} rows/s with {_PROCESSES} processes; medians of {rounds} "
        f"loads into HBase) a put takes, retries included:\n\n{markdown_table(headings, [row])}"
    )


@contextmanager
def _scraped(port: int) -> Iterator[None]:
    """Ask for metrics every second while the block runs."""
    ended = threading.Event()

    def scrape() -> None:
        while not ended.wait(_SCRAPE_SECONDS):
            with suppress(OSError), urlopen(f"http://{HOST}:{port}/metrics", timeout=5) as answer:
                answer.read()

    thread = threading.Thread(target=scrape, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind((HOST, 0))
        port: int = one.getsockname()[1]
        return port
