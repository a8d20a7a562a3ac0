"""A source over what is stored already: the adapter from a `Reader` to the `Source` that `load --from` needs.

It asks no API. Each stored unit is an answer of its own, with the time it was fetched and the source it came from, so
that what was provisional where it was stored is provisional where it goes.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar, runtime_checkable

from f1hbase.errors import F1HBaseError
from f1hbase.model.answers import Answer, Listing, RawAnswer, Records, RequestStats
from f1hbase.model.catalog import ALL_ENDPOINTS
from f1hbase.model.coverage import subtract
from f1hbase.model.outcomes import STORED, UnitState
from f1hbase.model.plans import Selection
from f1hbase.model.samples import Record, Samples
from f1hbase.model.times import lenient_time
from f1hbase.model.units import Scope, Unit, Window
from f1hbase.sources.base import Deliver, Reader, listed_meetings, listed_sessions

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")

AHEAD_BYTES = 16_000_000
"""How many bytes of answers are in memory at the same time: those being stored, and those read ahead."""

_ANSWERS_AT_ONCE = 8
"""How many answers are in the hands of the loader or being read ahead: it has up to 4 writers."""

_READERS = 4
"""How many answers are read and unpacked at the same time; both leave the interpreter lock."""


class UnreadableError(F1HBaseError):
    """Stored records that cannot be read; the message says where they are and what is wrong."""


@dataclass(frozen=True, slots=True)
class Named:
    """What a load asks for by name, so that it is a failure if it is not there.

    Attributes:
        endpoints: The endpoints.
        sessions: The keys of the sessions.
    """

    endpoints: frozenset[str] = frozenset()
    sessions: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class StoredPart:
    """One stored answer, or what there is instead.

    Attributes:
        records: Its records, decoded as they are iterated; what that raises is an `UnreadableError`.
        raw: The answer as it came, where the store keeps it.
        select: Which of the answer's records are the unit's.
    """

    records: Records
    raw: RawAnswer | None = None
    select: Mapping[str, int] = field(default_factory=dict)


@runtime_checkable
class KeepsAnswers(Protocol):
    """A reader whose store keeps answers as they came."""

    def size(self, state: UnitState) -> int:
        """Return how many bytes the answers of a stored unit take in memory."""

    def parts(self, unit: Unit, state: UnitState) -> Sequence[StoredPart]:
        """Return the answers of a stored unit.

        Raises:
            UnreadableError: If one is not there or damaged.
        """

    def listing_answers(self) -> Mapping[str, RawAnswer]:
        """Return, by endpoint, the answer that holds all of the listed records, where one does."""


@runtime_checkable
class KnowsListingTime(Protocol):
    """A reader that knows when its sessions and meetings were asked for."""

    def listed_at(self) -> datetime | None:
        """Return when the latest of the listed records was asked for; None if there is none."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What of a stored unit counts, as no later one has it, too.

    Attributes:
        state: The stored unit.
        window: Its window, or a part of that.
        later: The drivers of whom later units have some of that window, where this one is of all drivers.
    """

    state: UnitState
    window: Window
    later: Mapping[int, Sequence[Window]] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether all records of the stored unit count."""
        return self.window == self.state.window and not self.later

    def of(self, records: Records, unit: Unit) -> Records:
        """Return those of the stored unit's records that count; `unit` names their endpoint."""
        if self.window != self.state.window:
            records = within(records, replace(unit, window=self.window))
        return without(records, unit.endpoint, self.later)


@dataclass(frozen=True, slots=True)
class StoredJob:
    """Something to answer with: a stored unit, or why there is none.

    Attributes:
        unit: What it answers.
        state: The stored unit; None where there is none.
        error: Why there is none.
        piece: What of the stored unit counts.
        size: How many bytes its answers take in memory.
    """

    unit: Unit
    state: UnitState | None = None
    error: str | None = None
    piece: Piece | None = None
    size: int = 0


def pieces_of(unit: Unit, states: Iterable[UnitState]) -> list[Piece]:
    """Return what is stored of a unit: of each moment and driver the latest answer, the earliest pieces first.

    A piece may reach beyond the unit's window.
    """
    usable = [
        state
        for state in states
        if state.endpoint == unit.endpoint
        and state.status in STORED
        and state.fetched is not None
        and (state.driver is None or unit.driver in (None, state.driver))
        and state.window.overlaps(unit.window)
    ]
    usable.sort(key=lambda state: (state.fetched, state.run), reverse=True)
    pieces: list[Piece] = []
    taken: list[UnitState] = []
    for state in usable:
        covered = [later.window for later in taken if later.driver is None or later.driver == state.driver]
        by_driver: dict[int, list[Window]] = defaultdict(list)
        for later in taken if state.driver is None else ():
            if later.driver is not None and later.window.overlaps(state.window):
                by_driver[later.driver].append(later.window)
        windows = subtract(state.window, covered)
        pieces += [Piece(state, window, by_driver) for window in windows if window.overlaps(unit.window)]
        taken.append(state)
    return pieces[::-1]


def read_parts(reader: KeepsAnswers, unit: Unit, states: Iterable[UnitState]) -> Iterator[Samples | Sequence[Any]]:
    """Yield the records of a unit from the answers that are kept, some at a time.

    Args:
        reader: Reads the answers.
        unit: The endpoint, session, driver and window.
        states: The units that are stored of the session.

    Raises:
        UnreadableError: If an answer is not there or damaged.
    """
    driver = {} if unit.driver is None else {"driver_number": unit.driver}
    for piece in pieces_of(unit, states):
        for part in reader.parts(unit, piece.state):
            yield from within(piece.of(selected(part.records, driver), unit), unit)


class StoredSource:
    """What a reader reads, as a source; see `f1hbase.sources.base.Source`.

    Args:
        reader: Reads what is stored; used by several threads.
        first_year: The first season that there may be.
        named: What was asked for by name.
    """

    def __init__(self, reader: Reader, first_year: int = 1950, named: Named | None = None) -> None:
        self._reader = reader
        self.name = reader.home
        self.home = reader.home
        self.first_year = first_year
        self._named = named or Named()
        self._lacking: dict[Unit, None] = {}
        self._states: dict[str, Sequence[UnitState]] = {}

    async def listing(self, selection: Selection) -> Listing:
        """Return all sessions and meetings that are stored."""
        return await asyncio.to_thread(self._listing)

    def knows(self, endpoint: str) -> frozenset[str]:
        """Return every field of the catalogue: what is stored came from a source that has them."""
        return frozenset(ALL_ENDPOINTS[endpoint].fields)

    def expected(self, units: Iterable[Unit]) -> int:
        """Return how many stored units there are for some."""
        return sum(1 for unit in units for _ in self._jobs(unit))

    def lacking(self) -> Sequence[Unit]:
        """Return the units that were asked for, but not by name, and of which nothing at all is stored."""
        return list(self._lacking)

    def unaccounted(self) -> RequestStats:
        """Return nothing: no API is asked."""
        return RequestStats()

    async def fetch(self, units: Iterable[Unit], deliver: Deliver) -> None:
        """Answer with the stored units that overlap what is asked for; the next ones are read meanwhile."""
        budget = _Budget(AHEAD_BYTES)
        jobs = self.jobs(list(units))
        with ThreadPoolExecutor(_READERS, "reader") as threads:

            async def run(call: Callable[..., _Result], *arguments: Any) -> _Result:
                return await asyncio.get_running_loop().run_in_executor(threads, call, *arguments)

            async def answer() -> None:
                while True:
                    async with taking:
                        job = await run(next, jobs, None)
                        if job is None:
                            return
                        await budget.take(job.size)
                    try:
                        await self._answer(job, deliver, run)
                    finally:
                        await budget.give(job.size)

            taking = asyncio.Lock()
            # What is read while it is delivered holds connections meanwhile: of several at once, one may wait for what
            # another one holds, which waits for its turn.
            at_once = _ANSWERS_AT_ONCE if isinstance(self._reader, KeepsAnswers) else 1
            async with asyncio.TaskGroup() as group:
                for _ in range(at_once):
                    group.create_task(answer())

    async def _answer(self, job: StoredJob, deliver: Deliver, run: Callable[..., Any]) -> None:
        """Deliver the answers of a stored unit; those of its parts one after another, the last one completes it."""
        failure = job.error
        if failure is None:
            try:
                parts = await run(self._parts, job)
                for number, part in enumerate(parts, 1):
                    await deliver(answer_of(job, part, self.name, complete=number == len(parts)))
            except UnreadableError as error:
                failure = str(error)
        if failure is not None:
            _log.error("%s: %s", job.unit, failure)
            asked_at = (job.state and job.state.fetched) or datetime.now(UTC)
            await deliver(Answer(job.unit, asked_at, self.name, error=failure))

    def _parts(self, job: StoredJob) -> Sequence[StoredPart]:
        assert job.state is not None
        if isinstance(self._reader, KeepsAnswers):
            return self._reader.parts(job.unit, job.state) or [StoredPart(())]
        stored = replace(job.unit, driver=job.state.driver, window=job.state.window)
        return [StoredPart(Again(lambda: self._reader.read(stored)))]

    def jobs(self, units: Sequence[Unit]) -> Iterator[StoredJob]:
        """Yield with what some units are answered, each stored unit once."""
        # A stored unit may answer for two pieces of a window.
        seen: set[Unit] = set()
        for unit in units:
            for job in self._jobs(unit):
                if job.unit not in seen:
                    seen.add(job.unit)
                    yield job

    def _jobs(self, unit: Unit) -> Iterator[StoredJob]:
        states = [state for state in self._states_of(unit.scope) if state.endpoint == unit.endpoint]
        pieces = pieces_of(unit, states)
        for piece in pieces:
            driver = unit.driver if piece.state.driver is None else piece.state.driver
            mine = Unit(unit.endpoint, unit.scope, driver, piece.window)
            yield StoredJob(mine, piece.state, piece=piece, size=self._size(piece.state))
        if not states and not self._must_have(unit):
            # Not answered: it stays as not done, and is loaded when the store has it.
            self._lacking[unit] = None
            return
        everybody = [piece.window for piece in pieces if piece.state.driver in (None, unit.driver)]
        for missing in subtract(unit.window, everybody):
            lacking = replace(unit, window=missing)
            yield StoredJob(lacking, error=self._why_missing(lacking, states))

    def _must_have(self, unit: Unit) -> bool:
        """Return whether a unit of which nothing is stored is a failure, as it was asked for by name."""
        if self._named.endpoints:
            return unit.endpoint in self._named.endpoints
        of_session = {state.endpoint for state in self._states_of(unit.scope)} - {unit.scope.dataset.sessions}
        return unit.scope.session_key in self._named.sessions and not of_session

    def _why_missing(self, unit: Unit, states: Sequence[UnitState]) -> str:
        failed = next((s for s in states if s.error is not None and s.window.overlaps(unit.window)), None)
        if failed is not None:
            reason = failed.error if failed.fetched is None else f"it failed when it was fetched ({failed.error})"
            return f"'{self.home}' has it not: {reason}. Load it there again."
        if any(state.driver is not None for state in states) and unit.driver is None:
            return f"'{self.home}' has it of single drivers only, so that other cars may be missing. Load it there."
        return f"'{self.home}' has it not. Load it there first, or leave it out with --endpoint."

    def _size(self, state: UnitState) -> int:
        return self._reader.size(state) if isinstance(self._reader, KeepsAnswers) else 0

    def _states_of(self, scope: Scope) -> Sequence[UnitState]:
        if scope.prefix not in self._states:
            self._states[scope.prefix] = self._reader.units(scope)
        return self._states[scope.prefix]

    def _listing(self) -> Listing:
        sessions, meetings = listed_sessions(self._reader), listed_meetings(self._reader)
        answers = self._reader.listing_answers() if isinstance(self._reader, KeepsAnswers) else {}
        listed_at = self._reader.listed_at() if isinstance(self._reader, KnowsListingTime) else None
        return Listing(self.name, sessions, meetings, listed_at or datetime.now(UTC), answers)


def answer_of(job: StoredJob, part: StoredPart, name: str, *, complete: bool = True) -> Answer:
    """Return the answer that a part of a stored unit makes.

    Args:
        job: The stored unit, whose `state` is there.
        part: The part.
        name: The name of the source, where the unit does not say where it came from.
        complete: Whether it is the only part, or the last.
    """
    state = job.state
    assert state is not None
    assert state.fetched is not None
    raw, select = part.raw, dict(part.select)
    records = part.records
    if job.unit.driver is not None and state.driver is None:
        select["driver_number"] = job.unit.driver
        records = selected(records, {"driver_number": job.unit.driver})
    if job.piece is not None and not job.piece.is_whole:
        # No filter says which records of the answer these are, so that they go on without it.
        records, raw, select = job.piece.of(records, job.unit), None, {}
    answer = Answer(job.unit, state.fetched, state.source or name, records, raw, select, complete=complete)
    return answer if job.piece is None else replace(answer, without=job.piece.later)


class _Budget:
    """Bytes that may be in memory at the same time; what is larger than all of it goes alone."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._used = 0
        self._changed = asyncio.Condition()

    async def take(self, size: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._used or self._used + size <= self._most)
            self._used += size

    async def give(self, size: int) -> None:
        async with self._changed:
            self._used -= size
            self._changed.notify_all()


class Again:
    """Records that are read anew each time they are iterated."""

    def __init__(self, read: Callable[[], Iterator[Samples | Sequence[Any]]]) -> None:
        self._read = read

    def __iter__(self) -> Iterator[Samples | Sequence[Any]]:
        return self._read()


def selected(records: Records, select: Mapping[str, int]) -> Records:
    """Return the records whose fields have these values."""
    if not select:
        return records
    return Again(lambda: _filtered(records, select))


def _filtered(records: Records, select: Mapping[str, int]) -> Iterator[Samples | Sequence[Any]]:
    for some in records:
        if isinstance(some, Samples):
            wanted = [(some.endpoint.fields.index(name), value) for name, value in select.items()]
            rows = [row for row in some.rows if all(row[place] == value for place, value in wanted)]
            if rows:
                yield Samples(some.endpoint, rows)
            continue
        mine = [one for one in some if isinstance(one, dict) and all(one.get(n) == v for n, v in select.items())]
        if mine:
            yield mine


def without(records: Records, endpoint: str, left_out: Mapping[int, Sequence[Window]]) -> Records:
    """Return records but for those of some drivers and windows; one without a time is in every window."""
    if not left_out:
        return records
    return Again(lambda: _without(records, endpoint, left_out))


def _without(
    records: Records, endpoint: str, left_out: Mapping[int, Sequence[Window]]
) -> Iterator[Samples | Sequence[Any]]:
    name = ALL_ENDPOINTS[endpoint].time_field

    def is_left_out(driver: object, time: object) -> bool:
        windows = left_out.get(driver) if isinstance(driver, int) else None
        if windows is None:
            return False
        moment = lenient_time(time)
        return moment is None or any(moment in window for window in windows)

    for some in records:
        if isinstance(some, Samples):
            yield Samples(some.endpoint, [row for row in some.rows if not is_left_out(row[2], row[3])])
        else:
            yield [
                record for record in some
                if not isinstance(record, dict) or not is_left_out(record.get("driver_number"), record.get(str(name)))
            ]  # fmt: skip


def within(records: Records, unit: Unit) -> Records:
    """Return the records of a unit's window, by their time; those without one are in every window."""
    name = ALL_ENDPOINTS[unit.endpoint].time_field
    window = unit.window
    if name is None or window == Window():
        return records

    def has(record: Record) -> bool:
        moment = lenient_time(record.get(name)) if isinstance(record, dict) else None
        return moment is None or moment in window

    def read() -> Iterator[Samples | Sequence[Any]]:
        for some in records:
            if isinstance(some, Samples):
                place = some.endpoint.fields.index(name)
                rows = [row for row in some.rows if (moment := lenient_time(row[place])) is None or moment in window]
                yield Samples(some.endpoint, rows)
            else:
                yield [record for record in some if has(record)]

    return Again(read)
