"""The web pages of `f1hbase serve` over HBase, a landing zone and a folder: how long what they draw takes.

It simulates a race, loads it into an HBase and a zone of its own, and asks a server over each for what a page asks:

    python -m benchmarks.pages --minutes 120
"""

from __future__ import annotations

import tempfile
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from time import perf_counter

import click
import psutil

import f1hbase
from benchmarks.options import Tell
from benchmarks.records import YEAR
from benchmarks.results import markdown_table, number
from benchmarks.serve import serving
from benchmarks.servers import HOST
from benchmarks.stage import Stage, open_stage
from f1hbase.model.units import Scope
from f1hbase.serve.pages.answers import CHARTS
from f1hbase.stores.hbase.schema import Layout, Tables, creation_script
from simulator import Plan, simulate

_PREFIX = "bench_pages"
_PIECE_SECONDS = 300


def ask(port: int, path: str) -> tuple[float, int]:
    """Ask for something of the pages; return the seconds it took, and the bytes on the way."""
    request = urllib.request.Request(f"http://{HOST}:{port}/pages/{path}", headers={"Accept-Encoding": "deflate"})
    begun = perf_counter()
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        size = len(answer.read())
    return perf_counter() - begun, size


def measure(port: int, pid: int, scope: Scope) -> list[str]:
    """Return what each page takes when nobody has asked before, and again, in ms."""
    key = scope.session_key
    session = [f"data/session/{key}", *(f"data/session/{key}/{name}" for name in CHARTS if name != "track")]
    laps = "&".join(f"lap={driver}" for driver in (1, 44))
    telemetry = [f"data/session/{key}/laps", f"data/session/{key}/track", f"data/session/{key}/telemetry?{laps}"]
    assert scope.date_start is not None
    assert scope.date_end is not None
    start, end = (int(moment.timestamp()) for moment in (scope.date_start, scope.date_end))
    pieces = [f"data/session/{key}/places?start={at}&seconds={_PIECE_SECONDS}" for at in range(start, end, 300)]
    loaded, _ = ask(port, "data/loaded")
    first, size = (sum(some) for some in zip(*(ask(port, path) for path in session), strict=True))
    lap = sum(ask(port, path)[0] for path in telemetry)
    places = [ask(port, path)[0] for path in pieces]
    again = sum(ask(port, path)[0] for path in session)
    memory = psutil.Process(pid).memory_info().rss
    times = (loaded, first, again, lap, median(places), max(places))
    return [*(f"{seconds * 1000:.0f}" for seconds in times), number(size / 1e3), number(memory / 1e6)]


def run(stage: Stage, scratch: Path, minutes: float | None, tell: Tell) -> str:
    """Load a race into each store, and ask each server; returns a table."""
    tell("making the records")
    folder, zone = scratch / "folder", scratch / "zone"
    for _ in simulate(folder, Plan(year=YEAR, sessions=("race",), minutes=minutes)):
        pass
    tell("loading them")
    tables = Tables(_PREFIX)
    stage.shell.run(creation_script(tables, Layout()))
    where = {"hbase_host": HOST, "hbase_port": stage.gateway.port, "table_prefix": _PREFIX}
    # From an API, so that the zone has windows as a real one has them.
    with serving(folder) as (port, _):
        for target in ({"to": "hbase", **where}, {"to": zone}):
            result = f1hbase.load(api_url=f"http://{HOST}:{port}/v1", year=YEAR, processes=1, **target)
            assert result.exit_code == 0
    stage.shell.run(f"flush '{tables.data}'")
    with f1hbase.open(zone) as store:
        (session,) = store.sessions().to_pylist()
        scope = store.session(session["session_key"]).scope
    words = [word for name, value in where.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    places: dict[str, tuple[Path | str, list[str]]] = {
        "HBase": ("hbase", words),
        "landing zone": (zone, []),
        "folder": (folder, []),
    }
    lines = []
    for title, (place, arguments) in places.items():
        tell(f"{title}: asking")
        with serving(place, *arguments) as (port, pid):
            lines.append([title, *measure(port, pid, scope)])
    stage.drop(tables.data, tables.reports)
    heads = [
        "store", "what is loaded", "a session", "again", "telemetry of two laps", "5 minutes of places", "slowest",
        "a session, KB", "memory, MB",
    ]  # fmt: skip
    return markdown_table(heads, lines, texts=1)


@click.command()
@click.option("--minutes", type=float, help="How long the race is.  [default: as long as a race]")
def main(minutes: float | None) -> None:
    """Measure the web pages over the three stores, in ms."""

    def tell(line: str) -> None:
        click.echo(line, err=True)

    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="f1hbase-benchmark-")))
        tell("starting HBase")
        stage = stack.enter_context(open_stage(scratch))
        click.echo(run(stage, scratch, minutes, tell))


if __name__ == "__main__":
    main()
