"""A table to files by the local engine, by Spark from the table and by Spark from a snapshot, in turns."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from time import monotonic

from benchmarks.contest import compete
from benchmarks.errors import BenchmarkError
from benchmarks.loads import end_command, rows_told, start_command
from benchmarks.measuring import CpuClock, Measurement, TreeWatch
from benchmarks.options import Options, Tell
from benchmarks.results import markdown_table, megabytes, number, ratio, spread, summarize
from benchmarks.spark import EngineLoad, copied_zone, spark_options
from benchmarks.stage import Stage
from f1hbase.stores.hbase.schema import Tables

_ROUNDS = 3
_SPARK = ("--engine", "spark", "--spark-master", "local[2]")

ENGINES: Mapping[str, Sequence[str]] = {
    "local engine": (),
    "Spark, local[2], table": _SPARK,
    "Spark, local[2], snapshot": (*_SPARK, "--snapshot"),
}

_ROWS = re.compile(r" written to .*: ([\d,]+) rows, ")


def run(stage: Stage, options: Options, tell: Tell) -> str:
    """Load meetings by Spark, export them by each engine in turns, and return the table.

    Raises:
        BenchmarkError: If an export fails, or the files of two engines differ.
    """
    zone = copied_zone(stage, options, tell)
    load = EngineLoad(stage, zone, "Spark, local[2]")
    load.prepare()
    tell("loading")
    load.run()
    everybody = [
        Export(stage, load.tables, name) for name in ENGINES
        if not options.only or any(word in name for word in options.only)
    ]  # fmt: skip
    if not everybody:
        raise BenchmarkError(f"--only {' '.join(options.only)}: no contender is called so")
    rounds = options.rounds or _ROUNDS
    runs = compete(everybody, rounds=rounds, warm_up=False, tell=tell)
    digests = {one.digest() for one in everybody}
    load.drop()
    if len(digests) > 1:
        raise BenchmarkError("the files of the engines differ")
    return _report(everybody, runs, rounds, len(zone.meetings))


class Export:
    """`export --to FOLDER` by one engine, as Parquet.

    Args:
        stage: HBase.
        tables: What is exported.
        name: Which of the engines.
    """

    kind = "export"

    def __init__(self, stage: Stage, tables: Tables, name: str) -> None:
        self.name = name
        self.processes = 1 if not ENGINES[name] else 2
        self._stage = stage
        self._tables = tables
        self._folder = stage.scratch / "exports" / name.replace(" ", "-")

    def prepare(self) -> None:
        """Delete what the last run has written."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(self) -> Measurement:
        """Export.

        Raises:
            BenchmarkError: If it fails.
        """
        given = ["--to", str(self._folder), *ENGINES[self.name]]
        if ENGINES[self.name]:
            root = f"file://{self._stage.scratch / 'hbase' / 'data'}"
            given += [*spark_options(self._stage), "--spark-conf", f"spark.hadoop.hbase.rootdir={root}"]
        clock, begun = CpuClock(self._stage.pids), monotonic()
        process = start_command(self._stage, self._tables, "export", *given)
        try:
            with TreeWatch(process.pid) as tree:
                printed, _ = process.communicate()
        except BaseException:
            end_command(process)
            raise
        seconds = monotonic() - begun
        return Measurement(
            rows=rows_told(self.name, process, printed, _ROWS),
            seconds=seconds,
            cpu={"clients": tree.cpu} | clock.spent(),
            peak={"tree": tree.peak},
            notes={"load": os.getloadavg()[0]},
        )

    def check(self) -> None:
        """Its files are compared at the end."""

    def digest(self) -> str:
        """Return a digest of all files but the manifests, which have the time in them."""
        total = hashlib.sha256()
        for path in sorted(self._folder.rglob("*.parquet")):
            total.update(str(path.relative_to(self._folder)).encode() + path.read_bytes())
        return total.hexdigest()


def _report(everybody: Sequence[Export], runs: Sequence[Sequence[Measurement]], rounds: int, meetings: int) -> str:
    summaries = [summarize(measured) for measured in runs]
    local = summaries[0].rate if everybody[0].name == next(iter(ENGINES)) else None
    lines = [
        [
            who.name, number(summary.rows / summary.rate.median), number(summary.rate.median), spread(summary.rate),
            ratio(summary.rate, local), *(number(summary.cpu[name]) for name in ("clients", "gateway", "HBase")),
            megabytes(summary.peak.get("tree")), number(summary.notes["load"]),
        ]
        for who, summary in zip(everybody, summaries, strict=True)
    ]  # fmt: skip
    header = [
        "from the table to Parquet", "s", "rows/s", "least to most", "of the local engine", "CPU s for 100,000: export",
        "gateway", "HBase", "MB, whole tree", "load average",
    ]  # fmt: skip
    return (
        f"{summaries[0].rows:,} rows of {meetings} meetings, start included; medians of {rounds} rounds in turns. The "
        f"files of all are the same.\n\n{markdown_table(header, lines)}"
    )
