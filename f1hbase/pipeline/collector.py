"""ParallelF1DataCollector: a process for each meeting, some at a time, and what becomes of them."""

from __future__ import annotations

import logging
import re
import signal
import subprocess
import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.connection import Connection, wait
from time import monotonic
from types import FrameType

from f1hbase.errors import F1HBaseError
from f1hbase.levels import SUCCESS
from f1hbase.metrics import names
from f1hbase.metrics.meter import METER, Meter, resident_bytes
from f1hbase.model.answers import RawAnswer, RequestStats
from f1hbase.model.outcomes import Outcome
from f1hbase.model.plans import MeetingPlan, Selection
from f1hbase.model.text import count
from f1hbase.model.units import Unit
from f1hbase.pipeline import messages
from f1hbase.pipeline.display import Display
from f1hbase.pipeline.engine import Bulk, Engine
from f1hbase.pipeline.parts import LoadOptions, Parts, Recipe
from f1hbase.pipeline.remaining import Remaining
from f1hbase.pipeline.tally import Tally
from f1hbase.pipeline.worker import start_worker

_log = logging.getLogger(__name__)

_TICK_SECONDS = 0.5
_KILL_AFTER_SECONDS = messages.GRACE_SECONDS + 1
_ASK_AGAIN_SECONDS = 5.0
"""How often to look whether another run has ended with a meeting."""

_MEASURE_SECONDS = 1.0

_RESTARTS = 3
"""How often a meeting whose worker died is gone on with in a new process."""

_RESTART_SECONDS = 1.0
"""How long to wait before the first of them; it doubles with each."""

EXIT_DONE, EXIT_FAILED, EXIT_UNREACHABLE, EXIT_INTERRUPTED = 0, 1, 3, 130


@dataclass
class _Running:
    """A worker process as the parent sees it."""

    meeting: MeetingPlan
    process: subprocess.Popen[bytes]
    connection: Connection
    tally: Tally = field(default_factory=Tally)
    finished: messages.Finished | None = None
    lost_lease: bool = False
    memory: int = 0


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
        lacking: What the source has not, and nobody asked for by name.
        restarts: How many workers died and were replaced.
        stopped_at_once: Whether the user would not wait for the workers.
        exit_code: As the command line returns it.
    """

    overall: Tally = field(default_factory=Tally)
    complete: int = 0
    crashed: list[str] = field(default_factory=list)
    lacking: set[Unit] = field(default_factory=set)
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
    """Loads meetings, one process each, `options.processes` at a time.

    A process pool hands tasks to workers that live on; here each meeting gets a process of its own with a connection of
    its own, so a worker that is killed can neither corrupt nor block what the others say.

    Args:
        recipe: How workers open source and destinations.
        parts: What this process has itself.
        selection: The endpoints and drivers asked for.
        options: How to load.
        run_id: The run that this is.
        display: Shows how it goes.
        stop: Set when the run is to end early, for whatever of this process waits for a store.
        listing: The answers that the plan was made from, for workers whose destinations keep answers.
        engine: What loads in bulk before the workers load the rest; None where they load it all.
        meter: Gets what the run measures.
    """

    def __init__(
        self,
        recipe: Recipe,
        parts: Parts,
        selection: Selection,
        options: LoadOptions,
        *,
        run_id: str,
        display: Display,
        stop: threading.Event,
        listing: Mapping[str, RawAnswer] | None = None,
        engine: Engine | None = None,
        meter: Meter | None = None,
    ) -> None:
        self._recipe = recipe
        self._parts = parts
        self._leases = parts.leases
        self._selection = selection
        self._options = options
        self._listing = listing or {}
        self._started = 0
        self._workers = 1
        self._which_try = ""
        self._run_id = run_id
        self._display = display
        self._running: list[_Running] = []
        self._put_off: list[_PutOff] = []
        self._told_of_lease: set[int] = set()
        self._deaths: Counter[int] = Counter()
        self._failed: list[MeetingPlan] = []
        self._meter = meter or Meter()
        self._result = Result(Tally(meter=self._meter))
        self._largest_worker = 0
        self._measure_at = 0.0
        self._stop = stop
        self._engine = engine
        self._in_bulk: set[int] = set()
        self._unknown_fields: set[tuple[str, str]] = set()
        self._interrupts = 0
        self._closing = False
        self._leases_in_vain = False
        self._stop_sent = False
        self._kill_at: float | None = None

    @property
    def result(self) -> Result:
        """How the run stands."""
        return self._result

    def spent(self, stats: RequestStats) -> None:
        """Count what planning has taken."""
        overall = self._result.overall
        overall.requests += stats.requests
        overall.retries += stats.retries
        overall.bytes += stats.bytes

    def run(self, meetings: Sequence[MeetingPlan]) -> Result:
        """Load the meetings and return how it went; Ctrl-C and SIGTERM end it early, with exit code 130.

        What failed is tried once more when all else is done.
        """
        # In another thread of somebody's program there are no signals to hear.
        heard = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        before = {number: signal.signal(number, self._on_signal) for number in heard}
        try:
            self._workers = max(1, min(self._options.processes, len(meetings)))
            if self._engine is None or self._load_in_bulk(self._engine, meetings):
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
        self._measure_at = 0.0
        self._measure()
        self._result.exit_code = self._exit_code()
        return self._result

    def _load_in_bulk(self, engine: Engine, meetings: Sequence[MeetingPlan]) -> bool:
        """Let an engine load what it can; return whether the workers are to go on with what it has left."""
        bulk = Bulk(self._run_id, meetings, self._recipe, self._parts, self._remaining, self._report, self._stop)
        try:
            engine.load(bulk)
        except F1HBaseError as error:
            if not self._interrupts:
                _log.error("%s", error)
                self._result.crashed.append(str(error))
                if error.exit_code != EXIT_FAILED:
                    self._result.exit_code = error.exit_code
            return False
        return not self._interrupts

    def _report(self, meeting: MeetingPlan, outcomes: Sequence[Outcome]) -> None:
        """Count what an engine has loaded of a meeting; the lines of its units are written."""
        tally = Tally(planned=len(outcomes))
        self._in_bulk.add(meeting.scope.meeting_key)
        self._result.overall.planned += len(outcomes)
        for outcome in outcomes:
            tally.add(outcome)
            self._result.overall.add(outcome)
            self._name_unknown_fields(outcome)
        self._display.show(meeting, tally, self._result.overall)
        self._display.end(meeting)
        self._log_loaded(meeting, tally)

    def _load(self, meetings: Sequence[MeetingPlan]) -> None:
        pending = deque(meetings)
        while pending or self._put_off or self._running:
            while pending and not self._interrupts and len(self._running) < self._options.processes:
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
            self._measure()
            self._display.tick(self._result.overall)

    def _try(self, meeting: MeetingPlan) -> None:
        """Begin with a meeting, unless nothing of it is left to load, or another run has it."""
        name = _name(meeting)
        try:
            if not self._remaining(meeting).units():
                if meeting.scope.meeting_key not in self._in_bulk:
                    if len(meeting.sessions_to_settle) < len(meeting.sessions):
                        _log.info("%s: all loaded already", name)
                    self._result.complete += 1
                    self._display.skip(meeting)
                self._forget_failures(meeting)  # another run has made them good
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

    def _remaining(self, meeting: MeetingPlan) -> Remaining:
        states = [[s for scope in meeting.scopes for s in state.unit_states(scope)] for state in self._parts.states]
        refresh = self._run_id if self._options.refresh else ""
        return Remaining(
            meeting,
            states,
            self._selection,
            datetime.now(UTC),
            refresh,
            [d.keeps_answers for d in self._recipe.destinations],
        )

    def _forget_failures(self, meeting: MeetingPlan) -> None:
        failures = self._result.overall.failures
        for unit in [unit for unit in failures if unit.scope in meeting.scopes]:
            del failures[unit]

    def _wait_for(self, other: str, meeting: MeetingPlan) -> None:
        if meeting.scope.meeting_key not in self._told_of_lease:
            self._told_of_lease.add(meeting.scope.meeting_key)
            _log.warning("%s is being loaded by %s; it is left until that has ended", _name(meeting), other)
        self._put_off.append(_PutOff(meeting, monotonic() + _ASK_AGAIN_SECONDS))

    def _start(self, meeting: MeetingPlan) -> None:
        task = messages.Task(
            meeting,
            self._selection,
            self._options,
            self._recipe,
            self._run_id,
            self._leases.epochs(meeting.scope),
            self._workers,
            self._started,
            self._listing,
        )
        self._started += 1
        try:
            process, connection = start_worker(task)
        except OSError as error:
            self._give_back(meeting)
            self._go_on(meeting, Tally(), f"no process can be started ({error.strerror})")
            return
        self._running.append(_Running(meeting, process, connection))
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

    def _receive(self, running: _Running, message: messages.Message) -> None:
        match message:
            case messages.Planned(units):
                running.tally.planned += units
                self._result.overall.planned += units
            case messages.Reported(outcomes):
                for outcome in outcomes:
                    running.tally.add(outcome)
                    self._result.overall.add(outcome)
                    self._name_unknown_fields(outcome)
            case messages.Measured(measured, memory):
                self._meter.add(measured)
                running.memory = memory
                self._largest_worker = max(self._largest_worker, memory)
                return
            case messages.LogLine(level, text):
                _log.log(level, "%s", text)
                return
            case messages.Finished():
                running.finished = message
                self.spent(message.stats)
                self._result.lacking.update(message.lacking)
        self._display.show(running.meeting, running.tally, self._result.overall)

    def _measure(self) -> None:
        """Note how this process and its workers stand, and what this process has measured itself; once a second."""
        now = monotonic()
        if now < self._measure_at:
            return
        self._measure_at = now + _MEASURE_SECONDS
        self._meter.add(METER.take())
        self._meter.set(names.WORKERS, len(self._running))
        self._meter.set(names.MEMORY, resident_bytes(), "parent")
        self._meter.set(names.MEMORY, sum(running.memory for running in self._running), "workers")
        self._meter.set(names.LARGEST_WORKER, self._largest_worker)

    def _end(self, running: _Running) -> None:
        running.process.wait()
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
            self._go_on(running.meeting, running.tally, f"its process ended {_how(running.process.returncode)}")
        elif finished.error is not None and finished.exit_code == EXIT_UNREACHABLE:
            # What one worker waited for in vain, the others will not get either.
            self._give_up(f"{meeting}: {finished.error}")
        elif finished.error is not None:
            self._go_on(running.meeting, running.tally, finished.error)
        else:
            if running.tally.failed:
                self._failed.append(running.meeting)
            self._log_loaded(running.meeting, running.tally)

    def _log_loaded(self, meeting: MeetingPlan, tally: Tally) -> None:
        _log.log(
            SUCCESS if not tally.failed and not tally.quarantined else logging.WARNING,
            "%s: %s%s, %s%s%s",
            _name(meeting),
            self._which_try,
            count(tally.stored, "unit"),
            count(tally.all_rows, "row"),
            f", {count(tally.failed, 'unit')} failed" if tally.failed else "",
            f", {count(tally.quarantined, 'record')} in quarantine" if tally.quarantined else "",
        )

    def _go_on(self, meeting: MeetingPlan, tally: Tally, reason: str) -> None:
        """Load the rest of a meeting in a new process, unless that has been tried often enough."""
        name = _name(meeting)
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
        self._result.overall.planned -= tally.planned - tally.stored
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
                messages.GRACE_SECONDS,
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
                running.connection.send(messages.STOP)
            except OSError:
                _log.debug("the worker of %s is gone already", _name(running.meeting))

    def _kill_all(self) -> None:
        """Leave no process behind, whatever happened here."""
        for running in self._running:
            running.process.kill()
        for running in self._running:
            running.process.wait()

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


def _name(meeting: MeetingPlan) -> str:
    return f"{meeting.scope.name} (meeting {meeting.scope.meeting_key})"


def _how(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        hint = " (out of memory?)" if -exit_code == signal.SIGKILL else ""
        return f"by signal {signal.Signals(-exit_code).name}{hint}"
    return f"with exit code {exit_code}"
