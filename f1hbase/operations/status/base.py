"""The seam through which `status` and `plan` read what a destination remembers, and the implementation for any of them.

A store that can read a season faster than session by session has a `StateView` of its own, named in the composition
root.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Protocol, cast

from f1hbase.destinations.base import DestinationRecipe
from f1hbase.model.outcomes import STORED, RunState, UnitState
from f1hbase.model.plans import SessionPlan
from f1hbase.model.samples import Record
from f1hbase.model.units import Scope, parse_scope
from f1hbase.pipeline.plan import meeting_scope, session_scope
from f1hbase.sources.base import Reader, listed_meetings, listed_sessions
from f1hbase.state.base import Runs, State, StateIndex

_PATIENCE_SECONDS = 10.0


class StateView(Protocol):
    """What one destination remembers; used by one thread at a time.

    Attributes:
        name: For messages, such as `HBase` or `./folder`.
        home: Where it is, for messages: `the table 'f1_reports'`.
    """

    name: str
    home: str

    def absent(self) -> str | None:
        """Return why there is nothing to read, for people; None if something was loaded."""

    def runs(self) -> list[RunState]:
        """Return all runs, the latest first."""

    def scopes(self) -> Mapping[str, Scope]:
        """Return the sessions and meetings whose own records are stored, by scope prefix, with names and dates."""

    def units(self, known: Collection[str]) -> Iterable[UnitState]:
        """Return all units, with their status, rows and last error.

        Neighbouring windows that are done may be one, with how many they are as `stats["units"]`.

        Args:
            known: The scope prefixes that are likely to have units.
        """

    def unit_states(self, scope: Scope) -> list[UnitState]:
        """Return the units of one session (or of a meeting as such) with all that is known of them."""

    def quarantine_counts(self) -> Mapping[tuple[str, str], int]:
        """Return how many records are in quarantine, by scope prefix and endpoint."""

    def holders(self) -> Iterator[tuple[Scope, str]]:
        """Yield the meetings that are being loaded now, and by whom, for people."""

    def fetched_since(self, moment: datetime) -> Iterable[UnitState]:
        """Yield the units whose records were asked for at a moment or later."""

    def measured(self, most: int) -> Iterable[UnitState]:
        """Yield units that are stored, at most so many, with their rows, bytes, attempts and run."""

    def close(self) -> None:
        """Close it."""


class IndexedState(State, StateIndex, Runs, Protocol):
    """The whole state of a destination."""


class AnyStateView:
    """The view of any destination; see `StateView`. Reads session by session.

    Args:
        name: The destination, for messages.
        state: What it remembers.
        reader: Reads the records of its sessions and meetings; without one they have no names and dates.
    """

    def __init__(self, name: str, state: IndexedState, reader: Reader | None = None) -> None:
        self.name = name
        self.home = f"'{name}'"
        self._state = state
        self._reader = reader

    def absent(self) -> str | None:
        """Return why there is nothing to read; None if there is a run or a unit."""
        if next(iter(self._state.unit_scopes()), None) is not None or self._state.runs():
            return None
        return f"there is nothing in {self.home}: nothing has been loaded yet, or into another place (--to)."

    def runs(self) -> list[RunState]:
        """Return all runs, the latest first."""
        return self._state.runs()

    def scopes(self) -> dict[str, Scope]:
        """Return the sessions and meetings whose own records are stored, by scope prefix."""
        return {} if self._reader is None else _described(self._reader)

    def units(self, known: Collection[str]) -> Iterator[UnitState]:
        """Yield all units."""
        for prefix in self._state.unit_scopes():
            scope = parse_scope(prefix)
            if scope is not None:
                yield from self._state.unit_states(scope)

    def unit_states(self, scope: Scope) -> list[UnitState]:
        """Return the units of one session (or of a meeting as such)."""
        return self._state.unit_states(scope)

    def quarantine_counts(self) -> dict[tuple[str, str], int]:
        """Return how many records are in quarantine, by scope prefix and endpoint."""
        return self._state.quarantine_counts()

    def holders(self) -> Iterator[tuple[Scope, str]]:
        """Yield the meetings that are being loaded now, and by whom."""
        yield from self._state.holders()

    def fetched_since(self, moment: datetime) -> Iterator[UnitState]:
        """Yield the units whose records were asked for at a moment or later."""
        return (unit for unit in self.units(()) if unit.fetched is not None and unit.fetched >= moment)

    def measured(self, most: int) -> Iterator[UnitState]:
        """Yield units that are stored, those of the latest seasons first."""
        prefixes = sorted(self._state.unit_scopes(), reverse=True)
        for scope in filter(None, map(parse_scope, prefixes)):
            for unit in self._state.unit_states(scope):
                if most <= 0:
                    return
                if unit.status in STORED:
                    most -= 1
                    yield unit

    def close(self) -> None:
        """Nothing is kept open."""


def view_of(recipe: DestinationRecipe, reader: Reader | None = None) -> StateView:
    """Return the view of any destination by its recipe.

    Raises:
        F1HBaseError: If it cannot be opened.
    """
    # What a destination remembers of its units, it can list as well, and its runs.
    state = cast(IndexedState, recipe.open_state(_PATIENCE_SECONDS, threading.Event()))
    return AnyStateView(recipe.name, state, reader)


def _described(reader: Reader) -> dict[str, Scope]:
    """Return the sessions and meetings that a reader has, by scope prefix."""
    meetings = {record.get("meeting_key"): record for record in listed_meetings(reader)}
    found: dict[str, Scope] = {}
    by_meeting: dict[tuple[int, int], list[SessionPlan]] = {}
    for record in listed_sessions(reader):
        meeting = meetings.get(record.get("meeting_key"))
        year = _year(meeting, record)
        if year is None or type(record.get("session_key")) is not int:
            continue
        session = SessionPlan(session_scope(year, record, meeting), record)
        found[session.scope.prefix] = session.scope
        by_meeting.setdefault((year, record["meeting_key"]), []).append(session)
    for (year, key), sessions in by_meeting.items():
        scope = meeting_scope(year, key, meetings.get(key), sessions)
        found[scope.prefix] = scope
    return found


def _year(meeting: Record | None, session: Record) -> int | None:
    for record in (meeting, session):
        year = None if record is None else record.get("year")
        if type(year) is int:
            return year
    return None
