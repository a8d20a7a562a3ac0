"""ParallelF1DataCollector: a process for each meeting, some at a time, and what becomes of them."""

from __future__ import annotations

import logging
import multiprocessing
import re
import signal
import threading
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from time import monotonic
from types import FrameType

from f1hbase import worker
from f1hbase.credentials import Credentials
from f1hbase.errors import UnreachableError
from f1hbase.hbase.connector import Gateway
from f1hbase.hbase.reports import HBaseReports
from f1hbase.hbase.schema import Tables
from f1hbase.logs import SUCCESS
from f1hbase.plan import Remaining
from f1hbase.progress import Display, Tally, count
from f1hbase.settings import Settings
from f1hbase.units import MeetingPlan, Outcome

_log = logging.getLogger(__name__)
_processes = multiprocessing.get_context("spawn")  # no copies of the parent's threads, sockets and memory

_TICK_SECONDS = 0.5
_KILL_AFTER_SECONDS = worker.GRACE_SECONDS + 1

EXIT_DONE, EXIT_FAILED, EXIT_UNREACHABLE, EXIT_INTERRUPTED = 0, 1, 3, 130


@dataclass
class _Running:
    """A worker process as the parent sees it."""

    meeting: MeetingPlan
    process: SpawnProcess
    connection: Connection
    tally: Tally = field(default_factory=Tally)
    finished: worker.Finished | None = None


@dataclass
class Result:
    """How a run ended.

    Attributes:
        overall: The counts of all units.
        complete: How many meetings had nothing left to load.
        crashed: What became of workers that did not end by themselves.
        exit_code: As the command line returns it.
    """

    overall: Tally = field(default_factory=Tally)
    complete: int = 0
    crashed: list[str] = field(default_factory=list)
    exit_code: int = EXIT_DONE

    def quarantined(self, records: int) -> None:
        """Count records that were put aside before any unit was loaded."""
        self.overall.quarantined += records
        if records and self.exit_code == EXIT_DONE:
            self.exit_code = EXIT_FAILED

    @property
    def errors(self) -> Counter[str]:
        """How many failures there were of each kind."""
        kinds = Counter(re.split("[:(]", reason)[0].strip() for reason in self.overall.failures.values())
        kinds.update("worker crashed" for _ in self.crashed)
        return kinds


class ParallelF1DataCollector:
    """Loads meetings, one process each, `settings.processes` at a time.

    A process pool hands tasks to workers that live on; here each meeting gets a process of its own with a pipe of its
    own, so a worker that is killed can neither corrupt nor block what the others say.

    Args:
        settings: The settings of the run.
        credentials: Those of a subscription, if there is one.
        gateways: Where HBase is; the workers spread over them.
        tables: Where to load.
        reports: What is done already, read when a meeting's turn comes.
        run_id: The run that this is.
        display: Shows how it goes.
        stop: Set at the first interrupt, for whatever of this process waits for HBase.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        credentials: Credentials | None,
        gateways: Sequence[Gateway],
        tables: Tables,
        reports: HBaseReports,
        run_id: str,
        display: Display,
        stop: threading.Event,
    ) -> None:
        self._settings = settings
        self._credentials = credentials
        self._gateways = gateways
        self._started = 0
        self._tables = tables
        self._reports = reports
        self._run_id = run_id
        self._display = display
        self._running: list[_Running] = []
        self._failed: list[MeetingPlan] = []
        self._result = Result()
        self._stop = stop
        self._unknown_fields: set[tuple[str, str]] = set()
        self._interrupts = 0
        self._stop_sent = False
        self._kill_at: float | None = None

    def run(self, meetings: Sequence[MeetingPlan]) -> Result:
        """Load the meetings and return how it went; Ctrl-C and SIGTERM end it early, with exit code 130.

        What failed is tried once more when all else is done.
        """
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self._load(meetings)
            again, self._failed = self._failed, []
            if again and not self._stop_sent:
                _log.info("%s failed; trying once more", count(self._result.overall.failed, "unit"))
                self._load(again)
        finally:
            self._kill_all()
            for number, handler in before.items():
                signal.signal(number, handler)
        self._result.exit_code = self._exit_code()
        return self._result

    def _load(self, meetings: Sequence[MeetingPlan]) -> None:
        pending = deque(meetings)
        while pending or self._running:
            while pending and not self._stop_sent and len(self._running) < self._settings.processes:
                self._start(pending.popleft())
            if self._stop_sent:
                pending.clear()
            self._listen()
            self._obey_interrupts()
            self._display.tick(self._result.overall)

    def _start(self, meeting: MeetingPlan) -> None:
        try:
            states = [state for scope in meeting.scopes for state in self._reports.unit_states(scope)]
        except UnreachableError as error:
            if not self._interrupts:
                self._give_up(str(error))
            return
        if Remaining(meeting, states, self._settings, datetime.now(UTC)).nothing():
            _log.info("%s (meeting %d): all loaded already", meeting.scope.name, meeting.scope.meeting_key)
            self._result.complete += 1
            self._display.skip(meeting)
            return
        ours, theirs = _processes.Pipe()
        task = worker.Task(
            meeting,
            states,
            self._settings,
            self._credentials,
            self._gateways,
            self._started,
            self._tables,
            self._run_id,
        )
        self._started += 1
        process = _processes.Process(
            target=worker.main, args=(task, theirs), name=f"f1hbase-{meeting.scope.meeting_key}", daemon=True
        )
        process.start()
        theirs.close()  # so that the end of the worker is the end of the pipe
        self._running.append(_Running(meeting, process, ours))
        self._display.begin(meeting)

    def _listen(self) -> None:
        """Wait a moment for messages and ends."""
        by_connection = {running.connection: running for running in self._running}
        for ready in wait(list(by_connection), timeout=_TICK_SECONDS):
            assert isinstance(ready, Connection)
            running = by_connection[ready]
            try:
                message = running.connection.recv()
            except (EOFError, OSError):
                self._end(running)
            else:
                self._receive(running, message)

    def _receive(self, running: _Running, message: worker.Message) -> None:
        match message:
            case worker.Planned(units):
                running.tally.planned += units
                self._result.overall.planned += units
            case worker.Reported(outcomes):
                for outcome in outcomes:
                    running.tally.add(outcome)
                    self._result.overall.add(outcome)
                    self._name_unknown_fields(outcome)
            case worker.LogLine(level, text):
                _log.log(level, "%s", text)
                return
            case worker.Finished():
                running.finished = message
        self._display.show(running.meeting, running.tally, self._result.overall)

    def _end(self, running: _Running) -> None:
        running.process.join()
        running.connection.close()
        self._running.remove(running)
        self._display.end(running.meeting)
        meeting = f"{running.meeting.scope.name} (meeting {running.meeting.scope.meeting_key})"
        finished = running.finished
        if self._stop_sent:
            return  # it was told to end, and how it did so says nothing new
        if finished is None:
            reason = f"{meeting}: its process ended {_how(running.process.exitcode)}"
            _log.error("%s; what it stored is kept, run again to load the rest", reason)
            self._result.crashed.append(reason)
        elif finished.error is not None and finished.exit_code == EXIT_UNREACHABLE:
            # What one worker waited for in vain, the others will not get either.
            self._give_up(f"{meeting}: {finished.error}")
        elif finished.error is not None:
            _log.error("%s: %s", meeting, finished.error)
            self._result.crashed.append(f"{meeting}: {finished.error}")
        else:
            tally = running.tally
            if tally.failed:
                self._failed.append(running.meeting)
            _log.log(
                SUCCESS if not tally.failed and not tally.quarantined else logging.WARNING,
                "%s: %s, %s%s%s",
                meeting,
                count(tally.stored, "unit"),
                count(tally.all_rows, "row"),
                f", {count(tally.failed, 'unit')} failed" if tally.failed else "",
                f", {count(tally.quarantined, 'record')} in quarantine" if tally.quarantined else "",
            )

    def _give_up(self, reason: str) -> None:
        _log.error("%s", reason)
        self._result.crashed.append(reason)
        self._result.exit_code = EXIT_UNREACHABLE
        self._stop_workers()

    def _name_unknown_fields(self, outcome: Outcome) -> None:
        new = {(outcome.unit.endpoint, name) for name in outcome.unknown_fields} - self._unknown_fields
        for endpoint, name in sorted(new):
            _log.warning("%s has a field '%s' that f1hbase does not know; it is stored as it is", endpoint, name)
        self._unknown_fields |= new

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # Only counted here: a handler may interrupt the display in the middle of a line.
        self._interrupts += 1
        self._stop.set()

    def _obey_interrupts(self) -> None:
        if self._interrupts and not self._stop_sent:
            _log.warning(
                "interrupted: storing what has been fetched, at most %.0f s (again to stop at once)",
                worker.GRACE_SECONDS,
            )
            self._stop_workers()
        overdue = self._kill_at is not None and monotonic() > self._kill_at
        if self._interrupts > 1 or overdue:
            for running in self._running:
                running.process.kill()

    def _stop_workers(self) -> None:
        self._stop_sent = True
        self._kill_at = monotonic() + _KILL_AFTER_SECONDS
        for running in self._running:
            try:
                running.connection.send(worker.STOP)
            except OSError:
                _log.debug("%s is gone already", running.process.name)

    def _kill_all(self) -> None:
        """Leave no process behind, whatever happened here."""
        for running in self._running:
            running.process.kill()
            running.process.join()

    def _exit_code(self) -> int:
        if self._interrupts:
            return EXIT_INTERRUPTED
        if self._result.exit_code != EXIT_DONE:
            return self._result.exit_code
        overall = self._result.overall
        failed = overall.failed or overall.quarantined or self._result.crashed
        return EXIT_FAILED if failed else EXIT_DONE


def _how(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        hint = " (out of memory?)" if -exit_code == signal.SIGKILL else ""
        return f"by signal {signal.Signals(-exit_code).name}{hint}"
    return f"with exit code {exit_code}"
