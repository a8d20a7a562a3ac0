"""ParallelF1DataCollector: a process for each meeting, some at a time, and what becomes of them."""

from __future__ import annotations

import logging
import multiprocessing
import re
import signal
import sys
import threading
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from time import monotonic
from types import FrameType, ModuleType

from f1hbase.cli.options import Settings
from f1hbase.credentials import Credentials
from f1hbase.errors import F1HBaseError
from f1hbase.levels import SUCCESS
from f1hbase.model.text import count
from f1hbase.model.units import MeetingPlan, Outcome
from f1hbase.pipeline import worker
from f1hbase.pipeline.display import Display
from f1hbase.pipeline.plan import Remaining
from f1hbase.pipeline.tally import Tally
from f1hbase.state.hbase.leases import Lease, Leases
from f1hbase.state.hbase.reports import HBaseReports
from f1hbase.stores.hbase.connector import Gateway
from f1hbase.stores.hbase.schema import Tables

_log = logging.getLogger(__name__)
_processes = multiprocessing.get_context("spawn")  # no copies of the parent's threads, sockets and memory

_TICK_SECONDS = 0.5
_KILL_AFTER_SECONDS = worker.GRACE_SECONDS + 1
_ASK_AGAIN_SECONDS = 5.0
"""How often to look whether another run has ended with a meeting."""

_RESTARTS = 3
"""How often a meeting whose worker died is gone on with in a new process."""

_RESTART_SECONDS = 1.0
"""How long to wait before the first of them; it doubles with each."""

EXIT_DONE, EXIT_FAILED, EXIT_UNREACHABLE, EXIT_INTERRUPTED = 0, 1, 3, 130


@dataclass
class _Running:
    """A worker process as the parent sees it."""

    meeting: MeetingPlan
    process: SpawnProcess
    connection: Connection
    tally: Tally = field(default_factory=Tally)
    finished: worker.Finished | None = None
    lost_lease: bool = False


@dataclass(frozen=True)
class _PutOff:
    """A meeting that is put off until a time."""

    meeting: MeetingPlan
    until: float


@dataclass
class Result:
    """How a run ended.

    Attributes:
        overall: The counts of all units.
        complete: How many meetings had nothing left to load.
        crashed: Why meetings are not loaded to their end.
        restarts: How many workers died and were replaced.
        stopped_at_once: Whether the user would not wait for the workers.
        exit_code: As the command line returns it.
    """

    overall: Tally = field(default_factory=Tally)
    complete: int = 0
    crashed: list[str] = field(default_factory=list)
    restarts: int = 0
    stopped_at_once: bool = False
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
        leases: Those of this run.
        run_id: The run that this is.
        display: Shows how it goes.
        stop: Set when the run is to end early, for whatever of this process waits for HBase.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        credentials: Credentials | None,
        gateways: Sequence[Gateway],
        tables: Tables,
        reports: HBaseReports,
        leases: Leases,
        run_id: str,
        display: Display,
        stop: threading.Event,
    ) -> None:
        self._settings = settings
        self._credentials = credentials
        self._gateways = gateways
        self._started = 0
        self._connections = 1
        self._which_try = ""
        self._tables = tables
        self._reports = reports
        self._leases = leases
        self._run_id = run_id
        self._display = display
        self._running: list[_Running] = []
        self._put_off: list[_PutOff] = []
        self._told_of_lease: set[int] = set()
        self._deaths: Counter[int] = Counter()
        self._failed: list[MeetingPlan] = []
        self._result = Result()
        self._stop = stop
        self._unknown_fields: set[tuple[str, str]] = set()
        self._interrupts = 0
        self._closing = False
        self._leases_in_vain = False
        self._stop_sent = False
        self._kill_at: float | None = None

    def run(self, meetings: Sequence[MeetingPlan]) -> Result:
        """Load the meetings and return how it went; Ctrl-C and SIGTERM end it early, with exit code 130.

        What failed is tried once more when all else is done.
        """
        # In another thread of somebody's program there are no signals to hear.
        heard = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        before = {number: signal.signal(number, self._on_signal) for number in heard}
        try:
            at_once = max(1, min(self._settings.processes, len(meetings)))
            self._connections = worker.connections_for(at_once, len(set(self._gateways)))
            self._load(meetings)
            again, self._failed = self._failed, []
            if again and not self._stop_sent:
                _log.info("%s failed; trying once more", count(self._result.overall.failed, "unit"))
                scopes = {scope for meeting in again for scope in meeting.scopes}
                failed = sum(1 for unit in self._result.overall.failures if unit.scope in scopes)
                self._result.overall.planned -= failed  # they are planned anew
                self._which_try = "second try: "
                self._load(again)
        except _StopAtOnce:
            self._result.stopped_at_once = True
            _log.warning("stopped at once")
        finally:
            self._closing = True
            self._kill_all()
            for number, handler in before.items():
                signal.signal(number, handler)
        self._result.exit_code = self._exit_code()
        return self._result

    def _load(self, meetings: Sequence[MeetingPlan]) -> None:
        pending = deque(meetings)
        while pending or self._put_off or self._running:
            while pending and not self._interrupts and len(self._running) < self._settings.processes:
                if self._stop_sent:
                    break
                self._try(pending.popleft())
            if self._stop_sent:
                pending.clear()
                self._put_off.clear()
            self._listen()
            self._obey_interrupts()
            self._obey_leases()
            due = [one for one in self._put_off if one.until <= monotonic()]
            self._put_off = [one for one in self._put_off if one not in due]
            pending.extend(one.meeting for one in due)
            self._display.tick(self._result.overall)

    def _try(self, meeting: MeetingPlan) -> None:
        """Begin with a meeting, unless nothing of it is left to load, or another run has it."""
        name = _name(meeting)
        try:
            if self._nothing_left(meeting):
                _log.info("%s: all loaded already", name)
                self._result.complete += 1
                self._forget_failures(meeting)  # another run has made them good
                self._display.skip(meeting)
                return
            other = self._leases.take(meeting.scope)
            if other is not None:
                self._wait_for(other, meeting)
                return
        except F1HBaseError as error:
            if not self._interrupts:
                self._give_up(str(error))
            return
        self._start(meeting)

    def _nothing_left(self, meeting: MeetingPlan) -> bool:
        states = [state for scope in meeting.scopes for state in self._reports.unit_states(scope)]
        return Remaining(meeting, states, self._settings, datetime.now(UTC), self._run_id).nothing()

    def _forget_failures(self, meeting: MeetingPlan) -> None:
        failures = self._result.overall.failures
        for unit in [unit for unit in failures if unit.scope in meeting.scopes]:
            del failures[unit]

    def _wait_for(self, other: Lease, meeting: MeetingPlan) -> None:
        if meeting.scope.meeting_key not in self._told_of_lease:
            self._told_of_lease.add(meeting.scope.meeting_key)
            _log.warning("%s is being loaded by %s; it is left until that has ended", _name(meeting), other)
        self._put_off.append(_PutOff(meeting, monotonic() + _ASK_AGAIN_SECONDS))

    def _start(self, meeting: MeetingPlan) -> None:
        ours, theirs = _processes.Pipe()
        task = worker.Task(
            meeting,
            self._settings,
            self._credentials,
            self._gateways,
            self._started,
            self._connections,
            self._tables,
            self._run_id,
        )
        self._started += 1
        process = _processes.Process(
            target=worker.main, args=(task, theirs), name=f"f1hbase-{meeting.scope.meeting_key}", daemon=True
        )
        # Ctrl-C reaches every process of the terminal; only the parent is to hear it, from the first moment on.
        resource_tracker.ensure_running()  # or else it is begun in start(), and lifts the mask
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with _without_main_module():
                process.start()
        except OSError as error:
            ours.close()
            self._give_back(meeting)
            self._go_on(_Running(meeting, process, ours), f"no process can be started ({error.strerror})")
            return
        finally:
            theirs.close()  # so that the end of the worker is the end of the pipe
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self._running.append(_Running(meeting, process, ours))
        if process.pid is not None:
            with suppress(F1HBaseError):  # the lease then ends with this process instead of with the worker
                self._leases.name_worker(meeting.scope, process.pid)
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
        self._give_back(running.meeting)
        self._display.end(running.meeting)
        meeting = _name(running.meeting)
        finished = running.finished
        if self._stop_sent:
            return  # it was told to end, and how it did so says nothing new
        if running.lost_lease:
            self._result.overall.planned -= running.tally.planned - running.tally.stored
            self._put_off.append(_PutOff(running.meeting, monotonic() + _ASK_AGAIN_SECONDS))
        elif finished is None:
            self._go_on(running, f"its process ended {_how(running.process.exitcode)}")
        elif finished.error is not None and finished.exit_code == EXIT_UNREACHABLE:
            # What one worker waited for in vain, the others will not get either.
            self._give_up(f"{meeting}: {finished.error}")
        elif finished.error is not None:
            self._go_on(running, finished.error)
        else:
            tally = running.tally
            if tally.failed:
                self._failed.append(running.meeting)
            _log.log(
                SUCCESS if not tally.failed and not tally.quarantined else logging.WARNING,
                "%s: %s%s, %s%s%s",
                meeting,
                self._which_try,
                count(tally.stored, "unit"),
                count(tally.all_rows, "row"),
                f", {count(tally.failed, 'unit')} failed" if tally.failed else "",
                f", {count(tally.quarantined, 'record')} in quarantine" if tally.quarantined else "",
            )

    def _go_on(self, dead: _Running, reason: str) -> None:
        """Load the rest of a meeting in a new process, unless that has been tried often enough."""
        meeting, name = dead.meeting, _name(dead.meeting)
        self._deaths[meeting.scope.meeting_key] += 1
        deaths = self._deaths[meeting.scope.meeting_key]
        if deaths > _RESTARTS:
            _log.error("%s: %s; given up after %d tries. What it stored is kept", name, reason, deaths)
            self._result.crashed.append(f"{name}: {reason}")
            return
        self._result.restarts += 1
        wait = _RESTART_SECONDS * 2 ** (deaths - 1)
        _log.warning("%s: %s; a new one goes on in %.0f s (%d of %d)", name, reason, wait, deaths, _RESTARTS)
        # What it did not store is planned anew.
        self._result.overall.planned -= dead.tally.planned - dead.tally.stored
        self._put_off.append(_PutOff(meeting, monotonic() + wait))

    def _give_back(self, meeting: MeetingPlan) -> None:
        """Give a lease back; one that cannot be given back ends with this process, or runs out."""
        if self._stop_sent and self._leases_in_vain:
            return  # the user is waiting
        try:
            self._leases.give_back(meeting.scope)
        except F1HBaseError as error:
            self._leases_in_vain = True
            _log.debug("the lease of %s is not given back: %s", _name(meeting), error)

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
        if self._interrupts > 1 and not self._closing:
            raise _StopAtOnce

    def _obey_interrupts(self) -> None:
        if self._interrupts and not self._stop_sent:
            _log.warning(
                "interrupted: storing what has been fetched, at most %.0f s (again to stop at once)",
                worker.GRACE_SECONDS,
            )
            self._stop_workers()
        overdue = self._kill_at is not None and monotonic() > self._kill_at
        if overdue:
            for running in self._running:
                running.process.kill()

    def _obey_leases(self) -> None:
        """End the workers of meetings that somebody else has by now: loading them, or rolling them back."""
        for running in self._running:
            if not running.lost_lease and self._leases.lost(running.meeting.scope):
                running.lost_lease = True
                running.process.kill()

    def _stop_workers(self) -> None:
        self._stop_sent = True
        self._stop.set()
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
        for running in self._running:
            running.process.join()

    def _exit_code(self) -> int:
        if self._interrupts:
            return EXIT_INTERRUPTED
        if self._result.exit_code != EXIT_DONE:
            return self._result.exit_code
        overall = self._result.overall
        failed = overall.failed or overall.quarantined or self._result.crashed
        return EXIT_FAILED if failed else EXIT_DONE


class _StopAtOnce(BaseException):
    """The second interrupt, wherever it finds the parent, be it in a call to an HBase that does not answer."""


@contextmanager
def _without_main_module() -> Iterator[None]:
    """Keep a process that is started from importing what the user has started.

    A worker needs nothing of it; and a script that loads without `if __name__ == "__main__":` would begin a load in
    each worker, which waits for the lease that its parent has.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _name(meeting: MeetingPlan) -> str:
    return f"{meeting.scope.name} (meeting {meeting.scope.meeting_key})"


def _how(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        hint = " (out of memory?)" if -exit_code == signal.SIGKILL else ""
        return f"by signal {signal.Signals(-exit_code).name}{hint}"
    return f"with exit code {exit_code}"
