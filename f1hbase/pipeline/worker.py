"""The life of one meeting: a process that fetches its units, stores them, reports them, and tells its parent."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from multiprocessing.connection import Connection
from time import monotonic
from typing import Any, TypeVar

from f1hbase.cli.options import Settings
from f1hbase.credentials import Credentials
from f1hbase.destinations.hbase import HBaseSink, Quarantine
from f1hbase.errors import F1HBaseError
from f1hbase.model.units import Answer, MeetingPlan, Outcome, Scope, Unit
from f1hbase.pipeline.plan import Remaining
from f1hbase.sources.base import Reports, Sink, Source
from f1hbase.sources.openf1.source import open_source
from f1hbase.state.hbase.reports import HBaseReports
from f1hbase.stores.hbase.connector import OTHER_CONNECTIONS, USUAL_THREADS, Gateway, HBaseConnector
from f1hbase.stores.hbase.schema import Tables

_log = logging.getLogger("f1hbase.pipeline.worker")

_REPORT_UNITS = 100
_REPORT_SECONDS = 1.0
"""Unit rows are written in one call for so many units, or so often: what a kill makes a run fetch again."""

_ANSWERS_WAITING = 1
"""Decoded answers that wait while others are being stored; more would only take memory (see RequestQueue)."""

ROW_CONNECTIONS = 4
"""Over how many connections all workers together put rows, at least one each: while HBase is at one answer, the next is
encoded and sent, so that one meeting by itself keeps the gateway busy, too (measured: docs/performance.md)."""


def connections_for(processes: int, gateways: int) -> int:
    """Return how many connections each of some workers opens: one for the reports, and the others for rows.

    Together they are no more than gateways usually serve; if that leaves one, rows and reports take turns.

    >>> connections_for(1, 1), connections_for(4, 1), connections_for(10, 1), connections_for(10, 2)
    (5, 2, 1, 2)
    """
    room = (USUAL_THREADS * gateways - OTHER_CONNECTIONS) // processes
    return max(1, min(max(1, ROW_CONNECTIONS // processes) + 1, room))


GRACE_SECONDS = 10.0
"""How long a worker that was told to stop may take to store what it has in hand."""


@dataclass(frozen=True, slots=True)
class Task:
    """All that a worker needs to know."""

    meeting: MeetingPlan
    settings: Settings
    credentials: Credentials | None
    gateways: Sequence[Gateway]
    preferred_gateway: int
    connections: int
    tables: Tables
    run_id: str


@dataclass(frozen=True, slots=True)
class Planned:
    """Told to the parent: so many units more are to be loaded, or fewer than it was told."""

    units: int


@dataclass(frozen=True, slots=True)
class Reported:
    """Told to the parent: these units are stored (or failed), and their lines in the reports are written."""

    outcomes: Sequence[Outcome]


@dataclass(frozen=True, slots=True)
class LogLine:
    """Told to the parent, which alone writes the log."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """Told to the parent at the end; `error` says why not everything was tried."""

    error: str | None = None
    exit_code: int = 0


Message = Planned | Reported | LogLine | Finished
_Result = TypeVar("_Result")
Tell = Callable[[Message], None]

STOP = "stop"
"""What the parent sends to a worker that is to finish what it has in hand."""


class MeetingLoader:
    """Loads what remains of one meeting.

    Args:
        meeting: The meeting and its sessions.
        remaining: What of it is not stored yet.
        source: Where the records come from.
        sinks: Where they go: as many answers are stored at once.
        reports: Who remembers.
        run_id: The run that this is part of.
        tell: Receives what the parent should know.
        stopping: Set when nothing more is to be fetched; `run` then returns when what has been fetched is stored.
    """

    def __init__(
        self,
        meeting: MeetingPlan,
        remaining: Remaining,
        *,
        source: Source,
        sinks: Sequence[Sink],
        reports: Reports,
        run_id: str,
        tell: Tell,
        stopping: asyncio.Event,
    ) -> None:
        self._meeting = meeting
        self._remaining = remaining
        self._source = source
        self._sinks = sinks
        self._reports = reports
        self._run_id = run_id
        self._tell = tell
        self._stopping = stopping
        self._drivers: dict[str, set[int]] = {}
        self._entrants: dict[Scope, frozenset[int]] = {}
        self._entrants_asked: dict[Scope, datetime] = {}
        self._unreported: list[Outcome] = []
        self._reported = monotonic()
        self._parts: dict[Unit, Outcome] = {}  # what is stored of units that came in parts and are not complete
        # The parts of a unit are stored one after another: its last one says that all are.
        self._storing: defaultdict[Unit, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._writers = ThreadPoolExecutor(len(sinks), "hbase-writer")
        self._reporter = ThreadPoolExecutor(1, "hbase-reporter")

    async def run(self) -> bool:
        """Load all units, and return whether all were tried.

        When it is to stop, the answers that have been decoded are still stored and reported, and no more is fetched.

        Raises:
            UnreachableError: If HBase is away for longer than patience lasts.
        """
        try:
            # Told before the first unit is stored, so that what the parent shows does not fall back.
            expected = self._remaining.expected_windows()
            self._tell(Planned(expected))
            await self._load(self._remaining.first())
            await self._find_drivers()
            windows = [
                unit
                for session in self._meeting.sessions
                for unit in self._remaining.windows(session.scope, self._drivers.get(session.scope.prefix, ()))
            ]
            await self._load(windows, planned=expected)
            for scope in self._entrants.keys() - {unit.scope for unit in windows}:
                await self._remember_entrants(scope)
        finally:
            # In a thread: the loop must hear meanwhile that it is to stop, or that its parent is gone.
            await asyncio.to_thread(self._writers.shutdown)
            await asyncio.to_thread(self._reporter.shutdown)
        return not self._stopping.is_set()

    async def _find_drivers(self) -> None:
        """Ask who drove in the sessions of which nothing tells, without storing it."""

        async def note(answer: Answer) -> None:
            numbers = {record.get("driver_number") for record in answer.records if isinstance(record, dict)}
            drivers = self._drivers.setdefault(answer.unit.scope.prefix, set())
            drivers |= {number for number in numbers if type(number) is int}
            if answer.error is None:
                self._entrants[answer.unit.scope] = frozenset(drivers)
                self._entrants_asked[answer.unit.scope] = answer.asked_at
            # A failure counts: those whom other endpoints name are loaded, but nobody can say that they are all.
            # It gets no line, as the drivers are not to be stored; whoever asks next asks anew.
            self._tell(Reported([_not_stored(answer)]))

        unknown = self._remaining.without_drivers()
        if not self._stopping.is_set():
            units = [Unit("drivers", scope) for scope in unknown]
            self._tell(Planned(len(units)))
            await self._until_stopped(self._source.fetch(units, note))

    async def _remember_entrants(self, scope: Scope) -> None:
        unit, asked_at = self._remaining.remembering(scope), self._entrants_asked[scope]
        await _run(self._reporter, self._reports.write_entrants, self._run_id, unit, asked_at, self._entrants[scope])

    async def _load(self, units: Sequence[Unit], *, planned: int = 0) -> None:
        """Load units, of which so many have been told to the parent already."""
        self._tell(Planned(len(units) - planned))
        if not units or self._stopping.is_set():
            return
        answers: asyncio.Queue[Answer | None] = asyncio.Queue(_ANSWERS_WAITING)
        async with asyncio.TaskGroup() as group:
            for sink in self._sinks:
                group.create_task(self._store_all(answers, sink))
            await self._fetch(units, answers)
            await answers.put(None)
        await self._report()

    async def _fetch(self, units: Sequence[Unit], answers: asyncio.Queue[Answer | None]) -> None:
        """Put an answer for each unit into the queue; returns early when told to stop."""
        unknown = []
        for unit in units:
            known = self._known_answer(unit)
            if known is None:
                unknown.append(unit)
            else:
                await answers.put(known)
        await self._until_stopped(self._source.fetch(unknown, answers.put))

    async def _until_stopped(self, work: Coroutine[Any, Any, None]) -> None:
        fetching = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({fetching, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # A request under way is abandoned: its unit has no line in the reports and is asked for again.
            stopping.cancel()
            fetching.cancel()
            # Not awaited itself: a cancellation of ours must not be taken for one of its own.
            await asyncio.wait({fetching})
        if not fetching.cancelled():
            fetching.result()

    def _known_answer(self, unit: Unit) -> Answer | None:
        """The records of meetings and sessions came with the plan."""
        known = None
        if unit.endpoint == "meetings":
            records = [] if self._meeting.record is None else [self._meeting.record]
            return Answer(unit, self._meeting.asked_at, records)
        if unit.endpoint == "sessions":
            known = next((s.record for s in self._meeting.sessions if s.scope == unit.scope), None)
        return None if known is None else Answer(unit, self._meeting.asked_at, [known])

    async def _store_all(self, answers: asyncio.Queue[Answer | None], sink: Sink) -> None:
        """Store answers until there are no more, and report them now and then."""
        while True:
            answer = None
            # Not wait_for, which in Python 3.11 may swallow a cancellation and leave this waiting for ever.
            with suppress(TimeoutError):
                async with asyncio.timeout(_REPORT_SECONDS):
                    answer = await answers.get()
                    if answer is None:
                        await answers.put(None)  # for the other sinks
                        return
            if answer is not None:
                async with self._storing[answer.unit]:
                    await self._store(answer, sink)
                if answer.complete:
                    self._storing.pop(answer.unit, None)
            if len(self._unreported) >= _REPORT_UNITS or monotonic() - self._reported >= _REPORT_SECONDS:
                await self._report()

    async def _store(self, answer: Answer, sink: Sink) -> None:
        again = self._remaining.may_be_stored(answer.unit)
        outcome = await _run(self._writers, partial(sink.store, answer, again=again))
        outcome = replace(outcome, entrants=self._entrants.get(outcome.unit.scope))
        self._drivers.setdefault(outcome.unit.scope.prefix, set()).update(outcome.drivers)
        if answer.unit in self._parts:
            outcome = self._parts.pop(answer.unit).with_part(outcome)
        if answer.complete:
            self._unreported.append(outcome)
        else:
            self._parts[answer.unit] = outcome

    async def _report(self) -> None:
        self._reported = monotonic()
        outcomes, self._unreported = self._unreported, []
        if outcomes:
            await _run(self._reporter, self._reports.write_units, self._run_id, outcomes)
            self._tell(Reported(outcomes))


async def _run(executor: Executor, call: Callable[..., _Result], *arguments: Any) -> _Result:
    return await asyncio.get_running_loop().run_in_executor(executor, call, *arguments)


def _not_stored(answer: Answer) -> Outcome:
    return Outcome(
        answer.unit,
        answer.asked_at,
        bytes=answer.bytes,
        requests=answer.requests,
        retries=answer.retries,
        error=answer.error,
    )


class Link:
    """A worker's end of the pipe to its parent; may be used from several threads."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def tell(self, message: Message) -> None:
        """Send a message; without a parent there is nobody to tell."""
        with self._lock, suppress(OSError):
            self._connection.send(message)

    def listen(self, loop: asyncio.AbstractEventLoop, on_stop: Callable[[], None]) -> None:
        """Call `on_stop` when the parent says so, or is no more."""

        def read() -> None:
            try:
                self._connection.recv()
            except (EOFError, OSError):
                loop.remove_reader(self._connection.fileno())
            on_stop()

        loop.add_reader(self._connection.fileno(), read)


class _LinkHandler(logging.Handler):
    """Hands log lines to the parent."""

    def __init__(self, link: Link, prefix: str) -> None:
        super().__init__()
        self._link = link
        self._prefix = prefix

    def emit(self, record: logging.LogRecord) -> None:
        # With the stack of a bug, which belongs in the log file, at the level that only the log file shows.
        self._link.tell(LogLine(record.levelno, f"{self._prefix}: {self.format(record)}"))


def main(task: Task, connection: Connection) -> None:
    """Run a worker process; never raises, so that no stack trace reaches the user."""
    # Ctrl-C reaches every process of the terminal, but the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    link = Link(connection)
    logger = logging.getLogger("f1hbase")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.handlers = [_LinkHandler(link, f"meeting {task.meeting.scope.meeting_key}")]
    try:
        complete = asyncio.run(_load_meeting(task, link))
    except* F1HBaseError as group:
        error = _first(group.exceptions)
        link.tell(Finished(str(error), error.exit_code if isinstance(error, F1HBaseError) else 1))
    except* Exception as group:  # noqa: BLE001 - a bug must be told to the parent, not printed
        _log.debug("the worker failed", exc_info=True)
        error = _first(group.exceptions)
        link.tell(Finished(f"{type(error).__name__}: {error}", 1))
    else:
        link.tell(Finished() if complete else Finished("it was told to stop before all was loaded", 1))


async def _load_meeting(task: Task, link: Link) -> bool:
    settings = task.settings
    stop_waiting = threading.Event()
    connectors = [
        HBaseConnector(
            task.gateways,
            settings.patience.total_seconds(),
            stop_waiting,
            put_timeout=settings.put_timeout.total_seconds(),
            preferred=task.preferred_gateway,
        )
        for _ in range(task.connections)
    ]
    quarantine = Quarantine()
    sinks = [HBaseSink(connector, task.tables, task.run_id, quarantine) for connector in connectors[:-1] or connectors]
    reports = HBaseReports(connectors[-1], task.tables.reports)
    async with open_source(settings, task.credentials, settings.patience.total_seconds()) as source:
        stopping = asyncio.Event()

        def stop() -> None:
            stopping.set()
            stop_waiting.set()
            # What hangs in a call to HBase cannot be interrupted; what it speaks of is simply not done.
            deadline = threading.Timer(GRACE_SECONDS, os._exit, (1,))
            deadline.daemon = True
            deadline.start()

        loop = asyncio.get_running_loop()
        link.listen(loop, stop)
        loop.add_signal_handler(signal.SIGTERM, stop)
        try:
            # Here and not in the parent: a large message to a process that dies at birth would never end.
            states = await asyncio.to_thread(
                lambda: [s for one in task.meeting.scopes for s in reports.unit_states(one)]
            )
            loader = MeetingLoader(
                task.meeting,
                Remaining(task.meeting, states, settings, datetime.now(UTC), task.run_id),
                source=source,
                sinks=sinks,
                reports=reports,
                run_id=task.run_id,
                tell=link.tell,
                stopping=stopping,
            )
            return await loader.run()
        finally:
            for connector in connectors:
                connector.close()


def _first(exceptions: Iterable[BaseException]) -> BaseException:
    """The first error inside nested groups."""
    error = next(iter(exceptions))
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
