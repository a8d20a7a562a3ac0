"""How long it takes from the start of the process to the first request, and what of that is HBase's."""

from __future__ import annotations

import subprocess
import sys
from time import monotonic

from benchmarks.loads import Load, run_load
from benchmarks.options import Options, Tell
from benchmarks.records import YEAR
from benchmarks.results import Spread, markdown_table, number, spread
from benchmarks.servers import ReplayServer
from benchmarks.stage import Stage
from f1hbase.stores.hbase.connector import HBaseConnector, find_gateways
from f1hbase.stores.hbase.schema import Layout, Tables, creation_script
from simulator import Plan, simulate

_ROUNDS = 5


def run(stage: Stage, options: Options, tell: Tell) -> str:
    """Load a session of a minute into tables that are there, several times."""
    folder = stage.scratch / "startup"
    for _ in simulate(folder, Plan(year=YEAR, sessions=("race",), minutes=1, drivers=3)):
        pass
    tables = Tables("bench_startup")
    stage.shell.run(creation_script(tables, Layout()))
    loads: list[Load] = []
    imports: list[float] = []
    hbase: list[float] = []
    with ReplayServer(folder) as api:
        for _ in range(options.rounds or _ROUNDS):
            stage.empty(tables.data, tables.reports)
            loads.append(run_load(stage, api, tables))
            imports.append(_seconds_to_import())
            hbase.append(_seconds_at_hbase(stage))
            tell(f"first request after {loads[-1].first_request:.2f} s")
    stage.drop(tables.data, tables.reports)
    parts = {
        "from the start of the process to the first request": [load.first_request for load in loads],
        "- of that, Python and the imports (measured apart)": imports,
        "- of that, HBase: finding the gateway's dialect, listing tables (measured apart)": hbase,
        "to the first request of a worker": [load.first_data_request for load in loads],
    }
    rows = [[name, number(Spread(tuple(each)).median), spread(Spread(tuple(each)))] for name, each in parts.items()]
    return (
        f"A load into tables that exist; medians of {len(loads)} runs. Before a worker's first request, the parent "
        f"asks the API and HBase what there is to do and starts a process.\n\n"
        f"{markdown_table(['', 'seconds', 'least to most'], rows)}"
    )


def _seconds_to_import() -> float:
    begun = monotonic()
    subprocess.run([sys.executable, "-c", "import f1hbase.cli.commands, f1hbase.pipeline.load"], check=True)
    return monotonic() - begun


def _seconds_at_hbase(stage: Stage) -> float:
    begun = monotonic()
    connector = HBaseConnector(find_gateways([(stage.gateway.host, stage.gateway.port)]))
    connector.tables()
    seconds = monotonic() - begun
    connector.close()
    return seconds
