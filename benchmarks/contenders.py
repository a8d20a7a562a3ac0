"""The contenders: HBase's own limits, this project's put path and whole load, and the naive way."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

import happybase
from happybase.connection import THRIFT_PROTOCOLS
from Hbase_thrift import BatchMutation, Hbase, Mutation
from thriftpy2.thrift import TClient
from thriftpy2.transport.memory import cymemory

from benchmarks.clients import Clients, Job, Work
from benchmarks.errors import BenchmarkError
from benchmarks.loads import endpoints_but, run_load
from benchmarks.measuring import CpuClock, Measurement, children_cpu
from benchmarks.naive import NaiveJob
from benchmarks.records import CELLS, Meeting, Records, bodies
from benchmarks.servers import ReplayServer
from benchmarks.stage import Stage
from benchmarks.zones import fill
from f1hbase.destinations.hbase import HBaseWriter, connections_for
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.samples import Samples
from f1hbase.stores.hbase import frames
from f1hbase.stores.hbase.codec import Block, encode, encode_samples
from f1hbase.stores.hbase.connector import Gateway, HBaseConnector
from f1hbase.stores.hbase.frames import FRAME_BYTES, RowMutation
from f1hbase.stores.hbase.schema import Tables

LIMIT, TOOL, ROWS, RECORDS, LOAD, NAIVE = "limit", "tool", "rows", "records", "load", "naive"
"""Kinds of contenders."""

LIMIT_NAME = "the gateway's limit"

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_CAR_DATA = ENDPOINTS["car_data"]
PE_TABLE = "bench_performance_evaluation"
_VALUE_BYTES = 2
"""The mean size of a car_data cell's value, rounded."""


class Contender(Protocol):
    """Something that puts all the records, or says how many of them.

    Attributes:
        kind: What sort of contender it is.
        name: What a table calls it.
        processes: How many client processes (or threads of a Java tool) it has.
    """

    kind: str
    name: str
    processes: int

    def prepare(self) -> None:
        """Empty the table."""

    def run(self) -> Measurement:
        """Make ready what is not to be measured, then put everything once."""

    def check(self) -> None:
        """Compare the table with what should be in it after a run."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What all contenders of the contest share.

    Attributes:
        stage: HBase.
        api: The replay server, which serves the records.
        records: What is loaded.
        tables: Where to, by the project's schema.
    """

    stage: Stage
    api: ReplayServer
    records: Records
    tables: Tables

    def clock(self) -> CpuClock:
        """Begin to measure the servers' processor time."""
        return CpuClock(self.stage.pids | {"API": self.api.pid})


class ClientContender:
    """A contender whose clients are processes of this benchmark.

    Args:
        scene: Where it takes place.
        kind: What sort of contender it is.
        name: What a table calls it.
        jobs: What each client does.
        rows: How many rows they put together.
    """

    def __init__(self, scene: Scene, kind: str, name: str, jobs: Sequence[Job], rows: int) -> None:
        self.kind = kind
        self.name = name
        self.processes = len(jobs)
        self._scene = scene
        self._jobs = jobs
        self._rows = rows

    def prepare(self) -> None:
        """Empty the table."""
        self._scene.stage.empty(self._scene.tables.data)

    def run(self) -> Measurement:
        """Start the clients, and when all have their records ready, let them put."""
        with Clients(self._jobs) as clients:
            clock = self._scene.clock()
            done = clients.go()
            servers = clock.spent()
        rows = sum(one.rows for one in done)
        if rows != self._rows:
            raise BenchmarkError(f"{self.name} put {rows} rows, not {self._rows}")
        return Measurement(
            rows=rows,
            seconds=max(one.ended for one in done) - min(one.begun for one in done),
            cpu={"clients": sum(one.cpu for one in done)} | servers,
            peak={"client": max(one.peak for one in done)},
        )

    def check(self) -> None:
        """Count the rows and cells."""
        self._scene.stage.check(self._scene.tables.data, rows=self._rows, cells=self._rows * CELLS)


# --- (a) what the gateway can take ---


@dataclass(frozen=True, slots=True)
class FramesJob:
    """Sends frames that were encoded beforehand over one connection."""

    gateway: Gateway
    files: Sequence[Path]

    def prepare(self) -> Work:
        """Read the frames, and connect."""
        calls = [frame for path in self.files for frame in read_frames(path)]
        connection = happybase.Connection(self.gateway.host, self.gateway.port)
        connection.tables()
        return lambda: _send_frames(connection, calls)


def _send_frames(connection: Any, calls: Sequence[tuple[int, bytes]]) -> int:
    # One frame ahead of the answers, so that the gateway always has the next one and no client can be faster.
    transport, client = connection.transport, connection.client
    for number, (_, frame) in enumerate(calls):
        transport.write(frame)
        transport.flush()
        if number:
            client._recv("mutateRows")
    client._recv("mutateRows")
    return sum(rows for rows, _ in calls)


def write_frames(path: Path, table: str, meetings: Sequence[Meeting], frame_rows: int) -> None:
    """Encode meetings as calls of `mutateRows` of so many rows each, the way happybase's own client does."""
    with path.open("wb") as file:
        batch: list[RowMutation] = []
        for mutation in _mutations(meetings):
            batch.append(mutation)
            if len(batch) == frame_rows:
                _write_frame(file, table, batch)
                batch = []
        if batch:
            _write_frame(file, table, batch)


def _write_frame(file: Any, table: str, batch: Sequence[RowMutation]) -> None:
    memory: Any = cymemory.TCyMemoryBuffer()
    rows = [
        BatchMutation(
            row=mutation.key,
            mutations=[
                Mutation(isDelete=False, column=column, value=value, writeToWAL=True)
                for column, value in mutation.cells.items()
            ],
        )
        for mutation in batch
    ]
    client = TClient(Hbase, THRIFT_PROTOCOLS["binary"](memory))
    client._send("mutateRows", tableName=table.encode(), rowBatches=rows, attributes={})
    frame = memory.getvalue()
    file.write(b"%d %d\n" % (len(batch), len(frame)) + frame)


def read_frames(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield what `write_frames` has written: how many rows a call has, and the call."""
    with path.open("rb") as file:
        while head := file.readline():
            rows, size = map(int, head.split())
            yield rows, file.read(size)


def limit(scene: Scene, connections: int, frame_rows: int) -> ClientContender:
    """The gateway's limit: frames of so many rows, over so many connections."""
    jobs = [
        FramesJob(scene.stage.gateway, [_frames_of(scene, meeting, frame_rows) for meeting in share])
        for share in scene.records.shares(connections)
    ]
    name = f"{LIMIT_NAME}, frames of {frame_rows:,} rows"
    return ClientContender(scene, LIMIT, name, jobs, scene.records.car_data)


def _frames_of(scene: Scene, meeting: Meeting, frame_rows: int) -> Path:
    path = scene.stage.scratch / f"frames-{frame_rows}-{meeting.session.meeting_key}"
    if not path.exists():
        write_frames(path, scene.tables.data, [meeting], frame_rows)
    return path


class PerformanceEvaluation:
    """HBase's own load tool: no gateway, and a table of its own with as many regions and the same options."""

    kind = TOOL
    name = "HBase's PerformanceEvaluation, no gateway"

    def __init__(self, stage: Stage, records: Records, clients: int) -> None:
        self.processes = clients
        self._stage = stage
        self._regions = len(records.meetings)
        self._rows = records.car_data // clients * clients

    def prepare(self) -> None:
        """Drop its table; it makes a new one."""
        self._stage.drop(PE_TABLE)

    def run(self) -> Measurement:
        """Let it write; what its clients say they took is the time, the start of its JVM is not in it."""
        cpu, clock = children_cpu(), CpuClock(self._stage.pids)
        printed = self._stage.hbase.performance_evaluation(
            "--nomapred", f"--rows={self._rows // self.processes}", f"--table={PE_TABLE}",
            f"--columns={CELLS}", f"--valueSize={_VALUE_BYTES}", "--writeToWAL=true", "--autoFlush=false",
            f"--presplit={self._regions}", "--blockEncoding=FAST_DIFF", "--compress=GZ",
            "--bloomFilter=ROW", "sequentialWrite", str(self.processes),
        )  # fmt: skip
        found = re.findall(r"Finished .* in (\d+)ms .* for (\d+) rows", printed)
        rows = sum(int(rows) for _, rows in found)
        if len(found) != self.processes or rows != self._rows:
            raise BenchmarkError(f"PerformanceEvaluation did not write {self._rows} rows:\n{printed[-1500:]}")
        return Measurement(
            rows=rows,
            seconds=max(int(milliseconds) for milliseconds, _ in found) / 1000,
            cpu={"clients": children_cpu() - cpu} | clock.spent(),
        )

    def check(self) -> None:
        """Count the rows and cells."""
        self._stage.check(PE_TABLE, rows=self._rows, cells=self._rows * CELLS)


# --- (b) the put path alone ---


@dataclass(frozen=True, slots=True)
class RowsJob:
    """Puts rows that were encoded beforehand."""

    gateway: Gateway
    table: str
    meetings: Sequence[Meeting]
    connections: int

    def prepare(self) -> Work:
        """Encode the rows, answer by answer, and connect."""
        blocks = list(_blocks(self.meetings))
        puts = [partial(connector.put, self.table) for connector in _connectors(self.gateway, self.connections)]

        def work() -> int:
            _share(puts, blocks)
            return sum(len(block.keys) for block in blocks)

        return work


@dataclass(frozen=True, slots=True)
class RecordsJob:
    """Writes batches that were decoded beforehand: encoding, checksums and puts."""

    gateway: Gateway
    tables: Tables
    meetings: Sequence[Meeting]
    connections: int
    frame_bytes: int

    def prepare(self) -> Work:
        """Decode the answers, and connect."""
        frames.FRAME_BYTES = self.frame_bytes
        batches = [batch for body in bodies(self.meetings) for batch in body.batches()]
        connectors = _connectors(self.gateway, self.connections)
        writes = [HBaseWriter(connector, self.tables.data).write for connector in connectors]

        def work() -> int:
            receipts = _share(writes, batches)
            errors = [receipt.error for receipt in receipts if receipt.error is not None]
            if errors:
                raise BenchmarkError(errors[0])
            return sum(receipt.rows for receipt in receipts)

        return work


def row_connections(processes: int) -> int:
    """Return how many connections a worker of the project has for its rows, if there are so many workers."""
    return max(1, connections_for(processes, 1) - 1)


def _connectors(gateway: Gateway, count: int) -> list[HBaseConnector]:
    connectors = [HBaseConnector([gateway]) for _ in range(count)]
    for connector in connectors:
        connector.tables()
    return connectors


def _share(calls: Sequence[Callable[[_Item], _Result]], items: Iterable[_Item]) -> list[_Result]:
    """Call something for each item, as many at a time as there are ways to call it, as a worker does."""
    free: SimpleQueue[Callable[[_Item], _Result]] = SimpleQueue()
    for call in calls:
        free.put(call)

    def use(item: _Item) -> _Result:
        call = free.get()
        try:
            return call(item)
        finally:
            free.put(call)

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(use, items))


def _mutations(meetings: Sequence[Meeting]) -> Iterator[RowMutation]:
    for body in bodies(meetings):
        for batch in body.batches():
            yield from (RowMutation(*encode(_CAR_DATA, body.session.year, record)) for record in batch.records)


def _blocks(meetings: Sequence[Meeting]) -> Iterator[Block]:
    for body in bodies(meetings):
        for batch in body.batches():
            assert isinstance(batch.records, Samples)
            block = encode_samples(body.session.year, batch.records)
            if block is None:
                raise BenchmarkError("car_data with nulls are put another way, so this would not measure what loads do")
            yield block


def put_rows(scene: Scene, processes: int) -> ClientContender:
    """The connector alone."""
    jobs = [
        RowsJob(scene.stage.gateway, scene.tables.data, share, row_connections(processes))
        for share in scene.records.shares(processes)
    ]
    return ClientContender(scene, ROWS, "f1hbase, put path: rows", jobs, scene.records.car_data)


def put_records(
    scene: Scene, processes: int, *, connections: int | None = None, frame_bytes: int = FRAME_BYTES, name: str = ""
) -> ClientContender:
    """The destination with its connections."""
    jobs = [
        RecordsJob(scene.stage.gateway, scene.tables, share, connections or row_connections(processes), frame_bytes)
        for share in scene.records.shares(processes)
    ]
    return ClientContender(scene, RECORDS, name or "f1hbase, put path: records", jobs, scene.records.car_data)


# --- (c) the whole load ---


class WholeLoad:
    """The command line, from the API to the table; `seconds` is from the first request to the last acknowledged row.

    Args:
        scene: Where it takes place.
        processes: How many meetings at a time.
        window: What `--window` says.
    """

    kind = LOAD

    def __init__(self, scene: Scene, processes: int, window: str) -> None:
        self.name = f"f1hbase, API to table: --window {window}"
        self.processes = processes
        self._scene = scene
        self._options = ["--mode", "all", "--processes", str(processes)]
        self._options += endpoints_but("location", of=list(ENDPOINTS))
        self._options += ["--window", window]

    def prepare(self) -> None:
        """Empty both tables."""
        self._scene.stage.empty(self._scene.tables.data, self._scene.tables.reports)

    def run(self) -> Measurement:
        """Load."""
        clock = self._scene.clock()
        load = run_load(self._scene.stage, self._scene.api, self._scene.tables, *self._options)
        return Measurement(
            rows=load.rows,
            seconds=load.seconds,
            cpu={"clients": load.cpu} | clock.spent(),
            peak=load.peaks,
            notes={
                "first request": load.first_request,
                "first data request": load.first_data_request,
                "last row": load.last_row,
                "whole": load.ended,
                "told": load.told_seconds,
            },
        )

    def check(self) -> None:
        """Count the car_data rows; the load's own count includes the few of other endpoints."""
        found = sum(1 for key, _ in self._scene.stage.connector().stream(self._scene.tables.data, columns=[b"car:rpm"]))
        if found != self._scene.records.car_data:
            raise BenchmarkError(f"{self.name} loaded {found} rows of car_data, not {self._scene.records.car_data}")


class ZoneLoad(WholeLoad):
    """The command line, from a landing zone to the table; `seconds` is from the first look into the zone.

    Args:
        scene: Where it takes place.
        processes: How many meetings at a time.
    """

    def __init__(self, scene: Scene, processes: int) -> None:
        super().__init__(scene, processes, "auto")
        self.name = "f1hbase, zone to table: --from ./zone"
        self._zone = scene.stage.scratch / "contest-zone"
        self._options += ["--from", str(self._zone)]

    def prepare(self) -> None:
        """Fill the zone, once, and empty both tables."""
        if not self._zone.exists():
            fill(self._scene.stage, self._scene.api, self._zone)
        super().prepare()


# --- (d) the naive way ---


def naive(scene: Scene, most: int) -> ClientContender:
    """A put for each record, of the first so many records."""
    rows = min(most, scene.records.car_data)
    return ClientContender(scene, NAIVE, "naive: requests, happybase, a put a record", [_job(scene, rows, None)], rows)


def naive_batches(scene: Scene, most: int) -> ClientContender:
    """A happybase batch as people write it, of the first so many records."""
    rows = min(most, scene.records.car_data)
    name = "naive: requests, happybase, batch_size=1000"
    return ClientContender(scene, f"{NAIVE} batches", name, [_job(scene, rows, 1000)], rows)


def _job(scene: Scene, most: int, batch_size: int | None) -> NaiveJob:
    sessions = [meeting.session for meeting in scene.records.meetings]
    return NaiveJob(
        api=scene.api.url,
        port=scene.stage.gateway.port,
        table=scene.tables.data,
        year=sessions[0].year,
        sessions=[session.session_key for session in sessions if session.session_key is not None],
        most=most,
        batch_size=batch_size,
    )
