"""A landing zone into a table by the local engine, by Spark and by HBase's ImportTsv, each as a user runs it, in turns.

The zone has several meetings that are copies of one under other keys. HBase's PerformanceEvaluation beside them says
how many rows HBase itself takes as puts. Memory is the proportional share (PSS) of a whole tree of processes: PySpark's
workers are children of Spark's Java, of which nothing else tells.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from time import monotonic

from benchmarks import records
from benchmarks.contenders import TOOL, Contender, PerformanceEvaluation
from benchmarks.contest import compete
from benchmarks.errors import BenchmarkError
from benchmarks.loads import end_command, rows_told, start_command
from benchmarks.measuring import CpuClock, Measurement, TreeWatch
from benchmarks.options import Options, Tell
from benchmarks.records import Meeting, Records
from benchmarks.results import markdown_table, megabytes, number, ratio, spread, summarize
from benchmarks.servers import ReplayServer
from benchmarks.stage import Stage
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.samples import SAMPLE_KEYS, Samples
from f1hbase.model.units import Scope, Unit, scope_prefix
from f1hbase.pipeline.plan import session_scope
from f1hbase.sources.files import open_reader
from f1hbase.stores.files.urls import parse_location
from f1hbase.stores.hbase.codec import encode_samples
from f1hbase.stores.hbase.connector import KEYS_ONLY, Gateway, HBaseConnector
from f1hbase.stores.hbase.schema import Layout, Tables, creation_script, split_points

_ROUNDS = 3
_PATIENCE_SECONDS = 10.0
_SAMPLES = ("car_data", "location")
_SIMULATED_ROWS = 60_000
"""Of car_data, of one meeting, where there are no real records."""

_BETWEEN_COPIES = 100_000
"""How far the keys of a copy and the next are apart."""

_KEYS = re.compile(rb'"(meeting_key|session_key)":\s*(\d+)')

_BEGAN = re.compile(r"Spark: started|(?<!Spark: )loading ")
"""What a load says once it has what it works with."""

_SPARK_ROUND = re.compile(r"Spark: round \d+ took")
_ROWS = re.compile(r"rows: ([\d,]+) ")

ENGINES: Mapping[str, tuple[int, Sequence[str]]] = {
    "local engine": (4, ("--processes", "4")),
    "Spark, local[1]": (1, ("--engine", "spark", "--spark-master", "local[1]")),
    "Spark, local[2]": (2, ("--engine", "spark", "--spark-master", "local[2]")),
}


@dataclass(frozen=True, slots=True)
class CopiedZone:
    """A landing zone of copies of one meeting.

    Attributes:
        path: Where it is.
        meetings: The copies, with how many car_data records each has.
        records: How many records all have.
    """

    path: Path
    meetings: tuple[Meeting, ...]
    records: int

    @property
    def options(self) -> list[str]:
        """What has a load take these meetings from it."""
        keys = [word for one in self.meetings for word in ("--meeting-key", str(one.session.meeting_key))]
        return ["--from", str(self.path), *keys]


def run(stage: Stage, options: Options, tell: Tell) -> str:
    """Load the same meetings by each engine in turns, and return the table."""
    zone = copied_zone(stage, options, tell)
    everybody = [
        one for one in _contenders(stage, zone)
        if not options.only or any(word in f"{one.name} ({one.processes})" for word in options.only)
    ]  # fmt: skip
    if not everybody:
        raise BenchmarkError(f"--only {' '.join(options.only)}: no contender is called so")
    rounds = options.rounds or _ROUNDS
    runs = compete(everybody, rounds=rounds, warm_up=False, tell=tell)
    verdict = _compared(stage, everybody, zone, tell) if options.compare else ""
    return f"{_report(zone, everybody, runs, rounds)}{verdict}"


def growth(stage: Stage, options: Options, tell: Tell) -> str:
    """Load one meeting, two, four by Spark, and return what that takes."""
    zone = copied_zone(stage, options, tell)
    counts = [count for count in (1, 2, 4, 8, 16) if count <= len(zone.meetings)]
    name = "Spark, local[2]"
    lines = []
    first: Measurement | None = None
    for count in counts:
        some = CopiedZone(zone.path, zone.meetings[:count], 0)
        contender = EngineLoad(stage, some, name)
        contender.prepare()
        found = contender.run()
        tell(f"{count} meetings: {found.rows:,} rows in {found.seconds:.1f} s")
        first = first or found
        working = found.notes["working"]
        lines.append(
            [
                f"{found.rows:,}", str(count), number(found.seconds), number(found.rows / found.seconds),
                number(working), number(found.rows / working), number(working / found.rows * 1e6),
                number(sum(found.cpu.values()) / found.rows * 1e5), megabytes(found.peak["tree"]),
            ]
        )  # fmt: skip
        contender.drop()
    header = [
        "rows", "meetings", "s", "rows/s", "s without start", "rows/s without", "s a million rows",
        "CPU s for 100,000", "MB, whole tree",
    ]  # fmt: skip
    return f"{name}, one run each.\n\n{markdown_table(header, lines, texts=0)}"


# --- what is loaded ---


def copied_zone(stage: Stage, options: Options, tell: Tell) -> CopiedZone:
    """Return the zone that is there, or fill one."""
    path = (options.zone or stage.scratch / "spark-zone").resolve()
    if not (path / "_f1hbase.json").exists():
        _fill(stage, options, path, tell)
    reader = open_reader(parse_location(str(path)), _PATIENCE_SECONDS)
    years = {one["meeting_key"]: one["year"] for one in reader.meetings()}
    scopes = [session_scope(years[one["meeting_key"]], one) for one in reader.sessions()]
    meetings, total = [], 0
    for scope in sorted(scopes, key=lambda one: one.meeting_key)[: options.copies]:
        counts = [(state.endpoint, int(state.stats.get("records") or 0)) for state in reader.units(scope)]
        meetings.append(Meeting(path, scope, sum(count for name, count in counts if name == "car_data")))
        total += sum(count for _, count in counts)
    if len(meetings) < options.copies:
        raise BenchmarkError(f"the zone has {len(meetings)} meetings, not {options.copies}: name another with --zone")
    return CopiedZone(path, tuple(meetings), total)


def _fill(stage: Stage, options: Options, path: Path, tell: Tell) -> None:
    source = options.data
    if source is None:
        tell("simulating a session")
        source = stage.scratch / "spark-model"
        records.simulated(source, rows=min(options.rows, _SIMULATED_ROWS), meetings=1)
    season = stage.scratch / "spark-season"
    for copy in range(options.copies):
        tell(f"writing copy {copy + 1} of {options.copies}")
        copy_of(source, season / str(copy), copy)
    tell("filling the zone")
    with ReplayServer(season) as api:
        process = start_command(
            stage, Tables(""), "load", "--to", str(path), "--api-url", api.url, "--rate", "none", "--mode", "all",
            "--log-file", str(stage.scratch / "populate.log"),
        )  # fmt: skip
        printed, _ = process.communicate()
    if process.returncode:
        raise BenchmarkError(f"load: exit {process.returncode}\n{printed[-1500:]}")
    shutil.rmtree(season)


def copy_of(source: Path, target: Path, number: int) -> None:
    """Write the records of a session under other keys: of another meeting, and of another session."""
    target.mkdir(parents=True)
    for path in sorted(source.rglob("*.jsonl.gz")):
        with gzip.open(path) as lines, gzip.open(target / path.name, "ab", 1) as copy:
            copy.writelines(
                _KEYS.sub(lambda key: b'"%b": %d' % (key[1], int(key[2]) + number * _BETWEEN_COPIES), line)
                for line in lines
            )


# --- who loads it ---


def _contenders(stage: Stage, zone: CopiedZone) -> list[Contender]:
    made = Records(zone.path, zone.meetings, "")
    everybody: list[Contender] = [EngineLoad(stage, zone, name) for name in ENGINES]
    everybody.append(ImportTsv(stage, zone))
    everybody += [PerformanceEvaluation(stage, made, count) for count in (1, 4)]
    return everybody


class EngineLoad:
    """`load --from ZONE --to hbase` by one engine.

    Args:
        stage: HBase.
        zone: What is loaded.
        name: Which of the engines.
    """

    kind = "load"

    def __init__(self, stage: Stage, zone: CopiedZone, name: str) -> None:
        self.name = name
        self.processes, engine = ENGINES[name]
        self.tables = Tables(f"spark{list(ENGINES).index(name)}")
        self._stage = stage
        self._zone = zone
        self._options = [*zone.options, *engine, "--verbose", "--log-file", str(stage.scratch / "populate.log")]
        self._is_spark = "spark" in engine

    def prepare(self) -> None:
        """Make the tables anew."""
        self.drop()
        layout = Layout(splits=split_points(one.session for one in self._zone.meetings))
        self._stage.shell.run(creation_script(self.tables, layout))

    def run(self) -> Measurement:
        """Load; `working` is from when workers or Spark are there to the end.

        Raises:
            BenchmarkError: If not all is loaded, or not by that engine.
        """
        options = self._options
        if self._is_spark:
            options = [*options, *spark_options(self._stage), "--spark-staging", str(self._stage.scratch / "staging")]
        clock, begun = CpuClock(self._stage.pids), monotonic()
        process = start_command(self._stage, self.tables, "load", *options)
        lines: list[str] = []
        began = begun
        try:
            with TreeWatch(process.pid) as tree:
                assert process.stdout is not None
                for line in process.stdout:
                    if began == begun and _BEGAN.search(line):
                        began = monotonic()
                    lines.append(line)
                process.wait()
        except BaseException:
            end_command(process)
            raise
        ended, printed = monotonic(), "".join(lines)
        rows = rows_told(self.name, process, printed, _ROWS)
        if self._is_spark and not _SPARK_ROUND.search(printed):
            raise BenchmarkError(f"{self.name}: Spark did nothing\n{printed[-1500:]}")
        return Measurement(
            rows=rows,
            seconds=ended - begun,
            cpu={"clients": tree.cpu} | clock.spent(),
            peak={"tree": tree.peak},
            notes={"working": ended - began},
        )

    def check(self) -> None:
        """Its rows are counted by the load; `--compare` compares tables cell by cell."""

    def drop(self) -> None:
        """Drop its tables."""
        self._stage.drop(self.tables.data, self.tables.reports)


def spark_options(stage: Stage) -> list[str]:
    """Return what has Spark find the HBase of a stage, and its jars."""
    settings = {
        "spark.hadoop.hbase.zookeeper.property.clientPort": str(stage.hbase.zookeeper_port),
        "spark.local.dir": str(stage.scratch),
        "spark.jars": ",".join(stage.hbase.mapreduce_jars()),
    }
    return [word for name, value in settings.items() for word in ("--spark-conf", f"{name}={value}")]


class ImportTsv:
    """HBase's own bulk load: ImportTsv in one local MapReduce job, and the hand-over of its files.

    It is given car_data and location (98 of 100 rows) as text beforehand, row keys and cells as they are to be stored,
    so that decoding, validation, checksums and reports are not in its time.
    """

    kind = TOOL
    name = "ImportTsv, files handed over"
    processes = 1

    def __init__(self, stage: Stage, zone: CopiedZone) -> None:
        self.tables = Tables("tsv")
        self._stage = stage
        self._zone = zone
        self._folder = stage.scratch / "tsv"
        self._columns: list[str] = []
        self._rows = 0
        self._keys = 0

    def prepare(self) -> None:
        """Write the text, once, and make the table anew."""
        self._stage.drop(self.tables.data, self.tables.reports)
        layout = Layout(splits=split_points(one.session for one in self._zone.meetings))
        self._stage.shell.run(creation_script(self.tables, layout))
        shutil.rmtree(self._folder / "files", ignore_errors=True)
        if not self._rows:
            self._write()

    def run(self) -> Measurement:
        """Run both commands."""
        clock, begun = CpuClock(self._stage.pids), monotonic()
        files = str(self._folder / "files")
        cpu, peak = self._job(
            "org.apache.hadoop.hbase.mapreduce.ImportTsv", f"-Dimporttsv.columns={','.join(self._columns)}",
            f"-Dimporttsv.bulk.output=file://{files}", "-Dimporttsv.skip.empty.columns=true",
            "-Dmapreduce.local.map.tasks.maximum=2", "-Dmapreduce.local.reduce.tasks.maximum=2",
            self.tables.data, f"file://{self._folder / 'text'}",
        )  # fmt: skip
        more, _ = self._job("org.apache.hadoop.hbase.tool.BulkLoadHFilesTool", f"file://{files}", self.tables.data)
        seconds = monotonic() - begun
        return Measurement(
            rows=self._rows,
            seconds=seconds,
            cpu={"clients": cpu + more} | clock.spent(),
            peak={"tree": peak},
            notes={"working": seconds},
        )

    def check(self) -> None:
        """Count the rows of the table: car_data and location of one instant are in one."""
        rows = sum(1 for _ in self._stage.connector().stream(self.tables.data, row_filter=KEYS_ONLY))
        if rows != self._keys:
            raise BenchmarkError(f"ImportTsv stored {rows} rows, not {self._keys}")

    def _job(self, *arguments: str) -> tuple[float, int]:
        """Run a class of HBase, and return its processor seconds and its most memory."""
        process = self._stage.hbase.start_class(*arguments)
        try:
            with TreeWatch(process.pid) as tree:
                printed, _ = process.communicate()
        except BaseException:
            end_command(process)
            raise
        if process.returncode:
            raise BenchmarkError(f"{arguments[0]}: exit {process.returncode}\n{printed[-1500:]}")
        return tree.cpu, tree.peak

    def _write(self) -> None:
        """Write the samples of all meetings as lines: the key, then a value or nothing for each column."""
        reader = open_reader(parse_location(str(self._zone.path)), _PATIENCE_SECONDS)
        (self._folder / "text").mkdir(parents=True)
        columns = {
            name: [f"{ENDPOINTS[name].family}:{field}" for field in ENDPOINTS[name].fields if field not in SAMPLE_KEYS]
            for name in _SAMPLES
        }
        for meeting in self._zone.meetings:
            keys: set[bytes] = set()
            with (self._folder / "text" / f"{meeting.session.meeting_key}.tsv").open("wb") as file:
                for name in _SAMPLES:
                    for some in reader.read(Unit(name, meeting.session)):
                        block = encode_samples(meeting.session.year, some) if isinstance(some, Samples) else None
                        if block is None:
                            raise BenchmarkError(f"{name} has records that are no samples")
                        before = b"\t" * (1 + (len(columns[_SAMPLES[0]]) if name != _SAMPLES[0] else 0))
                        file.writelines(
                            b"%b%b%b\n" % (key, before, b"\t".join(values))
                            for key, *values in zip(block.keys, *block.values, strict=True)
                        )
                        self._rows += len(block.keys)
                        keys.update(block.keys)
            self._keys += len(keys)
        self._columns = ["HBASE_ROW_KEY", *(column for name in _SAMPLES for column in columns[name])]


# --- what came of it ---


def _report(
    zone: CopiedZone, everybody: Sequence[Contender], runs: Sequence[Sequence[Measurement]], rounds: int
) -> str:
    summaries = [summarize(measured) for measured in runs]
    local = next(
        (one.rate for who, one in zip(everybody, summaries, strict=True) if who.name == next(iter(ENGINES))), None
    )
    lines = []
    for who, summary in zip(everybody, summaries, strict=True):
        servers = sum(summary.cpu[name] for name in ("gateway", "HBase"))
        working = summary.notes.get("working")
        lines.append(
            [
                who.name, str(who.processes), f"{summary.rows:,}", number(summary.rows / summary.rate.median),
                number(summary.rate.median), spread(summary.rate),
                number(summary.rows / working if working else None), ratio(summary.rate, local),
                number(summary.cpu["clients"]), number(servers), megabytes(summary.peak.get("tree")),
            ]
        )  # fmt: skip
    header = [
        "from the zone to the table", "processes", "rows", "s", "rows/s", "least to most", "rows/s without start",
        "of the local engine", "CPU s for 100,000: client", "HBase and gateway", "MB, whole tree",
    ]  # fmt: skip
    return (
        f"{zone.records:,} records of {len(zone.meetings)} meetings; medians of {rounds} rounds in turns.\n\n"
        f"{markdown_table(header, lines)}"
    )


def _compared(stage: Stage, everybody: Sequence[Contender], zone: CopiedZone, tell: Tell) -> str:
    """Say whether the tables of the engines are the same, cell by cell.

    Raises:
        BenchmarkError: If they are not.
    """
    loads = [one for one in everybody if isinstance(one, EngineLoad)]
    found = {}
    for one in loads:
        found[one.name] = digest(stage.gateway, one.tables.data, [meeting.session for meeting in zone.meetings])
        tell(f"{one.name}: {found[one.name][0]:,} rows and {found[one.name][1]:,} cells")
    if len(set(found.values())) > 1:
        raise BenchmarkError(f"the tables differ: {found}")
    rows, cells, _ = next(iter(found.values()))
    return f"\n\nThe tables of {' and '.join(found)} are the same, cell by cell: {rows:,} rows, {cells:,} cells."


def digest(gateway: Gateway, table: str, sessions: Sequence[Scope]) -> tuple[int, int, str]:
    """Return how many rows and cells a table has, and a digest of every cell's row, column and value.

    Two processes read at a time, a part of the table each.
    """
    starts = [scope_prefix(one.year, one.meeting_key, one.session_key).encode() for one in sessions]
    bounds: list[bytes | None] = [None, *sorted(starts)[1:], None]
    with ProcessPoolExecutor(2) as pool:
        parts = list(pool.map(_digest, *zip(*((gateway, table, *span) for span in pairwise(bounds)), strict=True)))
    total = hashlib.sha256(b"".join(one for _, _, one in parts)).hexdigest()
    return sum(rows for rows, _, _ in parts), sum(cells for _, cells, _ in parts), total


def _digest(gateway: Gateway, table: str, start: bytes | None, stop: bytes | None) -> tuple[int, int, bytes]:
    rows = cells = 0
    total = hashlib.sha256()
    for key, columns in HBaseConnector([gateway], patience=60.0).stream(table, start=start):
        if stop is not None and key >= stop:
            break
        rows, cells = rows + 1, cells + len(columns)
        total.update(repr((key, sorted(columns.items()))).encode())
    return rows, cells, total.digest()
