"""The study of what showing metrics costs: the same load without and with exporters, in turns."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.request import urlopen

from benchmarks import records
from benchmarks.options import MEETINGS, Options, Tell
from benchmarks.results import Spread, markdown_table, number, spread
from benchmarks.servers import HOST, ReplayServer
from benchmarks.stage import Stage
from benchmarks.zones import fill

_ROUNDS = 5
_SCRAPE_SECONDS = 1.0
"""Fifteen times as often as Prometheus asks by default."""


def run(stage: Stage, options: Options, tell: Tell) -> str:
    """Load the same records into a folder, by turns without exporters and with both of Prometheus's."""
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
    shutil.rmtree(zone)
    more = Spread(tuple(100 * (with_them / without - 1) for without, with_them in zip(off, on, strict=True)))
    rows = [
        ["without exporters", number(Spread(tuple(off)).median), spread(Spread(tuple(off)))],
        ["with --metrics and --metrics-file", number(Spread(tuple(on)).median), spread(Spread(tuple(on)))],
    ]
    return (
        f"Processor seconds of parent and workers of a load of {made.car_data:,} car_data records of {MEETINGS} "
        f"meetings into a folder, scraped every second; {len(off)} pairs of rounds, which of the two comes first "
        f"changing. The median of the differences of the pairs is {more.median:+.1f} % (from {more.low:+.1f} to "
        f"{more.high:+.1f}).\n\n"
        f"{markdown_table(['', 'processor seconds', 'least to most'], rows)}"
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
