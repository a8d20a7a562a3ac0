"""Loads from the API into a landing zone, end to end, and the study of how fast they are."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from benchmarks import records
from benchmarks.errors import BenchmarkError
from benchmarks.loads import end_command, endpoints_but, start_command
from benchmarks.measuring import MemoryWatch, children_cpu
from benchmarks.options import MEETINGS, Options, Tell
from benchmarks.results import Spread, markdown_table, megabytes, number, spread
from benchmarks.servers import ReplayServer
from benchmarks.stage import Stage
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.stores.hbase.schema import Tables

_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Fill:
    """One load into a zone.

    Attributes:
        records: How many records it stored, by its run's row.
        seconds: How long that says it took, from the question of what there is to the last manifest.
        cpu: Processor seconds of parent and workers.
        peak: The most memory that one worker had, in bytes.
    """

    records: int
    seconds: float
    cpu: float
    peak: int


def fill(stage: Stage, api: ReplayServer, zone: Path, *arguments: str) -> Fill:
    """Load all but `location` into an empty zone, without limits on requests.

    Raises:
        BenchmarkError: If not all is loaded.
    """
    shutil.rmtree(zone, ignore_errors=True)
    cpu = children_cpu()
    process = start_command(
        stage, Tables(""), "load", "--to", str(zone), "--api-url", api.url, "--rate", "none", "--mode", "all",
        "--log-file", str(stage.scratch / "populate.log"), *endpoints_but("location", of=list(ENDPOINTS)), *arguments,
    )  # fmt: skip
    try:
        with MemoryWatch(process.pid, 0.05) as watch:
            printed, _ = process.communicate()
    except BaseException:
        end_command(process)
        raise
    if process.returncode:
        raise BenchmarkError(f"load: exit {process.returncode}\n{printed[-1500:]}")
    (run,) = (json.loads(path.read_text()) for path in zone.glob("_state/runs/*.json"))
    return Fill(
        records=int(run["stats"]["rows"]),
        seconds=float(run["stats"]["seconds"]),
        cpu=children_cpu() - cpu,
        peak=max((size for kind, size in watch.peaks().items() if kind == "worker"), default=0),
    )


def run(stage: Stage, options: Options, tell: Tell) -> str:
    """Load the same records into a folder with several numbers of processes, in turns."""
    tell("making the records")
    made = records.simulated(stage.scratch / "zones", rows=options.growth_rows[1], meetings=MEETINGS)
    zone = stage.scratch / "zone"
    fills: dict[int, list[Fill]] = {count: [] for count in options.processes}
    rounds = options.rounds or _ROUNDS
    with ReplayServer(made.folder) as api:
        fill(stage, api, zone)  # the server has made its answers once
        for turn in range(rounds):
            for count, done in fills.items():
                done.append(fill(stage, api, zone, "--processes", str(count)))
                tell(f"round {turn + 1}: {count} processes: {done[-1].records / done[-1].seconds:,.0f} records/s")
        files = [path.stat().st_size for path in zone.rglob("*") if path.is_file()]
    shutil.rmtree(zone)
    lines = []
    for count, done in fills.items():
        rate = Spread(tuple(one.records / one.seconds for one in done))
        seconds = Spread(tuple(one.seconds for one in done))
        cpu = Spread(tuple(one.cpu / one.records * 100_000 for one in done))
        numbers = [number(rate.median), spread(rate), number(seconds.median), number(cpu.median)]
        lines.append([str(count), *numbers, megabytes(max(one.peak for one in done))])
    header = ["processes", "records/s", "least to most", "seconds", "CPU s for 100,000", "peak MB of a worker"]
    return (
        f"`load --to ./folder` from the API, without limits: {made.car_data:,} car_data records of {MEETINGS} "
        f"meetings, from the question of what there is to the last manifest; medians of {rounds} rounds. The zone has "
        f"{len(files)} objects of {sum(files) / 1e6:.1f} MB. The server of the API runs on the same machine.\n\n"
        f"{markdown_table(header, lines, texts=0)}"
    )
