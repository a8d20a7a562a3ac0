"""ParallelF1DataCollector: a process for each meeting, some at a time, and what becomes of them."""

from __future__ import annotations

import logging
import multiprocessing
import signal
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from time import monotonic
from types import FrameType

from f1hbase import worker
from f1hbase.hbase.connector import Gateway
from f1hbase.hbase.reports import HBaseReports
from f1hbase.hbase.schema import Tables
from f1hbase.logs import SUCCESS
from f1hbase.plan import Remaining
from f1hbase.progress import Display, Tally
from f1hbase.settings import Settings
from f1hbase.units import MeetingPlan

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

    @property
    def errors(self) -> Counter[str]:
        """How many failures there were of each kind."""
        kinds = Counter(failure.partition(": ")[2].partition(":")[0] for failure in self.overall.failures)
        kinds.update("worker crashed" for _ in self.crashed)
        return kinds


class ParallelF1DataCollector:
    """Loads meetings, one process each, `settings.processes` at a time.

    A process pool hands tasks to workers that live on; here each meeting gets a process of its own with a pipe of its
    own, so a worker that is killed can neither corrupt nor block what the others say.

    Args:
        settings: The settings of the run.
        gateway: Where HBase is.
        tables: Where to load.
        reports: What is done already, read when a meeting's turn comes.
        run_id: The run that this is.
        limiter_file: What the workers share the API's limits through.
        display: Shows how it goes.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        gateway: Gateway,
        tables: Tables,
        reports: HBaseReports,
        run_id: str,
        limiter_file: Path,
        display: Display,
    ) -> None:
        self._settings = settings
        self._gateway = gateway
        self._tables = tables
        self._reports = reports
        self._run_id = run_id
        self._limiter_file = limiter_file
        self._display = display
        self._running: list[_Running] = []
        self._result = Result()
        self._interrupts = 0
        self._stop_sent = False
        self._kill_at: float | None = None

    def run(self, meetings: Sequence[MeetingPlan]) -> Result:
        """Load the meetings and return how it went; Ctrl-C and SIGTERM end it early, with exit code 130."""
        pending = deque(meetings)
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            while pending or self._running:
                while pending and not self._stop_sent and len(self._running) < self._settings.processes:
                    self._start(pending.popleft())
                if self._stop_sent:
                    pending.clear()
                self._listen()
                self._obey_interrupts()
                self._display.tick(self._result.overall)
        finally:
            self._kill_all()
            for number, handler in before.items():
                signal.signal(number, handler)
        self._result.exit_code = self._exit_code()
        return self._result

    def _start(self, meeting: MeetingPlan) -> None:
        states = [state for scope in meeting.scopes for state in self._reports.unit_states(scope)]
        if Remaining(meeting, states, self._settings, datetime.now(UTC)).nothing():
            _log.info("%s (meeting %d): all loaded already", meeting.scope.name, meeting.scope.meeting_key)
            self._result.complete += 1
            self._display.skip(meeting)
            return
        ours, theirs = _processes.Pipe()
        task = worker.Task(
            meeting, states, self._settings, self._gateway, self._tables, self._run_id, self._limiter_file
        )
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
                # All that is there, so that a chatty worker is not behind the others.
                while running.connection.poll():
                    self._receive(running, running.connection.recv())
            except (EOFError, OSError):
                self._end(running)

    def _receive(self, running: _Running, message: worker.Message) -> None:
        match message:
            case worker.Planned(units):
                running.tally.planned += units
                self._result.overall.planned += units
            case worker.Reported(outcomes):
                for outcome in outcomes:
                    running.tally.add(outcome)
                    self._result.overall.add(outcome)
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
        if finished is None:
            if not self._interrupts:
                reason = f"{meeting}: its process ended {_how(running.process.exitcode)}"
                _log.error("%s; what it stored is kept, run again to load the rest", reason)
                self._result.crashed.append(reason)
        elif finished.error is not None:
            _log.error("%s: %s", meeting, finished.error)
            self._result.crashed.append(f"{meeting}: {finished.error}")
            if finished.exit_code == EXIT_UNREACHABLE and not self._stop_sent:
                # What one worker waited for in vain, the others will not get either.
                self._result.exit_code = EXIT_UNREACHABLE
                self._stop_workers()
        elif not self._interrupts:
            tally = running.tally
            _log.log(
                SUCCESS if not tally.failed else logging.WARNING,
                "%s: %s units, %s rows%s", meeting, f"{tally.stored:,}", f"{tally.all_rows:,}",
                f", {tally.failed:,} units failed" if tally.failed else "",
            )  # fmt: skip

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # Only counted here: a handler may interrupt the display in the middle of a line.
        self._interrupts += 1

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
