"""The records of a unit from any store, each identity once, made into something part by part."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol, TypeVar, runtime_checkable

from f1hbase.model.answers import Answer, Records
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.coverage import Coverage, subtract
from f1hbase.model.outcomes import STORED, Status, UnitState
from f1hbase.model.samples import Record, Samples
from f1hbase.model.times import LONG_AGO, lenient_time
from f1hbase.model.units import Unit, Window
from f1hbase.pipeline.normalise import Account, AnswerNormaliser, Restart
from f1hbase.sources.base import Reader
from f1hbase.sources.stored import KeepsAnswers, selected, within

_Made = TypeVar("_Made")

Part = Samples | Sequence[Record]


@runtime_checkable
class ReadsAtOnce(Protocol):
    """A reader whose store has each record once, and that reads several ranges of them at the same time."""

    def read_made(self, unit: Unit, make: Callable[[Part], _Made]) -> Iterator[_Made]:
        """Yield what is made of the records of a unit, some at a time."""


def read_made(
    reader: Reader, unit: Unit, states: Sequence[UnitState], make: Callable[[Part], _Made]
) -> Iterator[_Made]:
    """Yield what is made of the records of a unit, some at a time.

    Args:
        reader: The store.
        unit: What to read.
        states: The units that are stored of its session.
        make: Makes something of some records, perhaps in another thread.

    Raises:
        UnreadableError: If something stored is damaged.
    """
    if isinstance(reader, ReadsAtOnce):
        yield from reader.read_made(unit, make)
        return
    for stored, records in stored_pieces(reader, unit, states):
        yield from piece_made(stored, records, make)


def piece_made(stored: Unit, records: Records, make: Callable[[Part], _Made]) -> list[_Made]:
    """Return what is made of the records of a stored piece; see `stored_pieces`.

    What a landing zone keeps is as it came: a record may be there twice, or be none.

    Raises:
        UnreadableError: If something stored is damaged.
    """
    made: list[_Made] = []
    answer = Answer(stored, datetime.now(UTC), records=records)
    for batch in AnswerNormaliser(answer, Account(stored), frozenset()).batches():
        if isinstance(batch, Restart):
            made.clear()
        else:
            made.append(make(batch.records))
    return made


def stored_pieces(reader: Reader, unit: Unit, states: Sequence[UnitState]) -> Iterator[tuple[Unit, Records]]:
    """Yield the pieces that make up a unit, in order of time: of each stored unit what no later one holds.

    Their records are read when they are iterated.
    """
    usable = [
        state
        for state in states
        if state.endpoint == unit.endpoint
        and state.status is not Status.FAILED
        and (state.driver is None or unit.driver in (None, state.driver))
        and state.window.overlaps(unit.window)
    ]
    usable.sort(key=lambda state: (state.fetched or LONG_AGO, state.run), reverse=True)
    taken: list[tuple[int | None, Window]] = []
    pieces: list[tuple[Unit, Records]] = []
    for state in usable:
        covered = [window for driver, window in taken if driver is None or driver == state.driver]
        of_drivers: dict[int, list[Window]] = defaultdict(list)
        for driver, window in taken:
            if driver is not None and state.driver is None:
                of_drivers[driver].append(window)
        for whole in subtract(state.window, covered):
            for window in _common(whole, unit.window):
                stored = replace(unit, driver=unit.driver if state.driver is None else state.driver, window=window)
                records = _records(reader, stored, state)
                pieces.append((stored, _without(records, unit.endpoint, of_drivers) if of_drivers else records))
        taken.append((state.driver, state.window))
    yield from sorted(pieces, key=lambda piece: piece[0].window.start or LONG_AGO)


def _common(one: Window, other: Window) -> list[Window]:
    return subtract(one, subtract(Window(), [other]))


def _records(reader: Reader, stored: Unit, state: UnitState) -> Records:
    if not isinstance(reader, KeepsAnswers):
        return _Again(lambda: reader.read(stored))

    def read() -> Iterator[Samples | Sequence[Record]]:
        select = {} if stored.driver is None else {"driver_number": stored.driver}
        for part in reader.parts(stored, state):
            records = selected(part.records, select)
            yield from records if stored.window == state.window else within(records, stored)

    return _Again(read)


def _without(records: Records, endpoint_name: str, of_drivers: dict[int, list[Window]]) -> Records:
    """Return records but for those of drivers and windows of which there are later ones."""
    name = ENDPOINTS[endpoint_name].time_field

    def is_later(record: Record) -> bool:
        moment = None if name is None else lenient_time(record.get(name))
        return any(moment is None or moment in window for window in of_drivers.get(record.get("driver_number", -1), ()))

    return _Again(lambda: ([record for record in some if not is_later(record)] for some in records))


class _Again:
    """Records that are read anew each time they are iterated."""

    def __init__(self, read: Callable[[], Iterator[Samples | Sequence[Record]]]) -> None:
        self._read = read

    def __iter__(self) -> Iterator[Samples | Sequence[Record]]:
        return self._read()


class Completeness:
    """How much of a unit is stored.

    Args:
        unit: The unit.
        states: The units that are stored of its session.

    Attributes:
        state: `complete`; `provisional`, as it was fetched so soon that it may have been corrected since; `partial`;
            or `absent`.
        missing: What is missing and why, for people, a text for each piece.
    """

    def __init__(self, unit: Unit, states: Sequence[UnitState]) -> None:
        mine = [
            state
            for state in states
            if state.endpoint == unit.endpoint
            and (state.driver is None or unit.driver in (None, state.driver))
            and state.window.overlaps(unit.window)
        ]
        # In the distant past nothing is due again.
        missing = Coverage(unit.scope, states, LONG_AGO).missing(unit)
        self.missing = [_told(piece.window, mine) for piece in missing]
        if not any(state.was_stored for state in mine):
            self.state = "absent"
        elif missing:
            self.state = "partial"
        elif any(state.status is Status.PROVISIONAL for state in mine):
            self.state = "provisional"
        else:
            self.state = "complete"


def _told(window: Window, states: Sequence[UnitState]) -> str:
    why = next((state.error for state in states if state.error and state.window.overlaps(window)), None)
    if why is None and any(state.status is Status.PARTIAL and state.window.overlaps(window) for state in states):
        why = "it was going on when it was loaded"
    return f"{window}: {why or 'not loaded'}"


def stored_fingerprint(unit: Unit, states: Sequence[UnitState]) -> list[list[str]]:
    """Return what changes when something else is stored of a unit's endpoint: a line for each of its stored units."""
    return sorted(
        [
            str(state.driver),
            str(state.window),
            state.status.value,
            str(state.fetched),
            state.run,
        ]
        for state in states
        if state.endpoint == unit.endpoint and (state.status in STORED or state.was_stored)
    )
