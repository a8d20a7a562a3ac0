"""How stored units stand now, and what of a requested scope is still missing.

What is done for an endpoint, session and driver is the union of the windows stored for that driver and of those stored
for all drivers at once, so another window size or list of drivers asks only for what is missing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from f1hbase.model.catalog import ALL_ENDPOINTS, ENDPOINTS
from f1hbase.model.outcomes import STORED, Status, UnitState
from f1hbase.model.units import ALL_TIME, Scope, Unit, Window

EMPTY_IS_ASKED_AGAIN_AFTER = (timedelta(days=2), timedelta(days=14), timedelta(days=60))
"""How long after a session's end an endpoint without any record, where there are usually some, is asked for again."""


def status_of(unit: Unit, fetched: datetime) -> Status:
    """Return how a unit stands whose records were asked for at `fetched` and are stored."""
    over_at, settled_at = unit.scope.over_at, settles_at(unit.endpoint, unit.scope)
    if over_at is None or settled_at is None or fetched >= settled_at:
        # Without any date nothing can be awaited; asking at every run would never come to rest.
        return Status.DONE
    over = fetched >= over_at or (unit.window.end is not None and unit.window.end <= fetched)
    return Status.PROVISIONAL if over else Status.PARTIAL


def settles_at(endpoint: str, scope: Scope) -> datetime | None:
    """Return from when on the records of an endpoint change no more; None if no date of the session is known."""
    return None if scope.over_at is None else scope.over_at + ALL_ENDPOINTS[endpoint].settles_after


class Coverage:
    """The union of what is done in one session (or meeting), by endpoint and driver.

    Args:
        scope: The session or meeting.
        states: Its units; those of others are passed over.
        now: The present: what was fetched before its records had settled counts until they have.

    Attributes:
        drivers: The driver numbers seen in the records, or named by lines of earlier versions.
        knows_drivers: Whether these are all that the source names, so that units by driver can cover everybody.
    """

    def __init__(self, scope: Scope, states: Iterable[UnitState], now: datetime) -> None:
        self._scope = scope
        self._done: dict[tuple[str, int | None], list[Window]] = defaultdict(list)
        self._by_driver_before: dict[tuple[str, int], list[Window]] = defaultdict(list)
        self._stored: dict[str, list[tuple[int | None, Window]]] = defaultdict(list)
        self._due: dict[str, list[UnitState]] = defaultdict(list)
        drivers: set[int] = set()
        self.knows_drivers = False
        mine = [state for state in states if state.scope_prefix == scope.prefix]
        empty = _empty_endpoints(scope, mine)
        for state in mine:
            drivers |= state.drivers
            if state.was_stored:
                self._stored[state.endpoint].append((state.driver, state.window))
            if state.status not in STORED:
                continue
            if is_due(state, scope, now, empty=state.endpoint in empty):
                self._due[state.endpoint].append(state)
                continue
            self._done[state.endpoint, state.driver].append(state.window)
            if state.driver is not None and not state.source:
                # Of an earlier version, which loaded everything by driver; since then a driver was asked for by name.
                self._by_driver_before[state.endpoint, state.driver].append(state.window)
            if state.session_drivers is not None:
                drivers |= state.session_drivers
                self.knows_drivers = True
        self.drivers = frozenset(drivers)
        self.knows_drivers |= ("drivers", None) in self._done

    def missing(self, unit: Unit) -> list[Unit]:
        """Return the parts of a unit that are not done: none, the unit itself, or pieces of its window."""
        done = list(self._done.get((unit.endpoint, None), ()))
        if unit.driver is not None:
            done += self._done.get((unit.endpoint, unit.driver), ())
        pieces = subtract(unit.window, done) if done else [unit.window]
        if unit.driver is None and self.knows_drivers and self.drivers:
            # Units of earlier versions, by driver: together they cover all drivers that are known.
            pieces = [piece for whole in pieces for piece in self._missing_by_driver(unit.endpoint, whole)]
        return [replace(unit, window=piece) for piece in pieces]

    def overlaps_stored(self, unit: Unit) -> bool:
        """Return whether records of a unit may be stored already, however their units stand now."""
        return any(
            (driver is None or unit.driver is None or driver == unit.driver) and window.overlaps(unit.window)
            for driver, window in self._stored.get(unit.endpoint, ())
        )

    def due(self, endpoint: str) -> Sequence[UnitState]:
        """Return the units of an endpoint that are stored and to be asked for once more."""
        return self._due.get(endpoint, ())

    @property
    def covers_known_drivers_only(self) -> bool:
        """Whether samples were loaded by driver (by an earlier version), so that unknown cars were not asked for."""
        sampled = [name for name, endpoint in ENDPOINTS.items() if endpoint.sampled]
        return any((name, driver) in self._done for name in sampled for driver in self.drivers) and not all(
            not subtract(ALL_TIME, self._done.get((name, None), ())) for name in sampled
        )

    def _missing_by_driver(self, endpoint: str, window: Window) -> list[Window]:
        by_driver = [self._by_driver_before.get((endpoint, driver)) for driver in self.drivers]
        if any(done is None for done in by_driver):
            return [window]
        return union(piece for done in by_driver for piece in subtract(window, done or ()))


def is_due(state: UnitState, scope: Scope, now: datetime, *, empty: bool) -> bool:
    """Return whether a stored unit is to be asked for once more now.

    Args:
        state: The unit; it is judged by when it was fetched, whatever its line says.
        scope: Its session, with its dates.
        now: The present.
        empty: Whether its endpoint has no record at all in the session although there should be some.
    """
    settled_at, over_at = settles_at(state.endpoint, scope), scope.over_at
    if settled_at is None or over_at is None:
        return False
    if state.fetched is None:
        # Lines of which only the status was read.
        return state.status is Status.PROVISIONAL and now >= settled_at
    again_at = [settled_at]
    if empty:
        again_at += [over_at + after for after in EMPTY_IS_ASKED_AGAIN_AFTER]
    return any(state.fetched < moment <= now for moment in again_at)


def _empty_endpoints(scope: Scope, states: Sequence[UnitState]) -> set[str]:
    """Return the endpoints of which a session that was held should have a record, and none is stored."""
    if scope.cancelled or not scope.kind:
        return set()
    records: dict[str, float] = defaultdict(float)
    for state in states:
        if state.status in STORED and state.driver is None:
            records[state.endpoint] += state.stats.get("records", state.stats.get("rows", 1.0))
    return {name for name, number in records.items() if not number and scope.kind in ALL_ENDPOINTS[name].usual_in}


def subtract(window: Window, done: Iterable[Window]) -> list[Window]:
    """Return what is left of a window when all that is done is taken away, in order of time."""
    left = [window]
    for taken in done:
        left = [piece for whole in left for piece in _without(whole, taken)]
    return left


def union(windows: Iterable[Window]) -> list[Window]:
    """Return the same time as windows that neither meet nor overlap, in order of time."""
    left = subtract(ALL_TIME, windows)
    return subtract(ALL_TIME, left)


def _without(window: Window, taken: Window) -> list[Window]:
    if not window.overlaps(taken):
        return [window]
    pieces = []
    if taken.start is not None and (window.start is None or window.start < taken.start):
        pieces.append(Window(window.start, taken.start))
    if taken.end is not None and (window.end is None or taken.end < window.end):
        pieces.append(Window(taken.end, window.end))
    return pieces
