"""What is done already, and what of a wish is still missing.

What is done for an endpoint, session and driver is the union of the windows stored for that driver and of those stored
for all drivers at once, so another window size or list of drivers asks only for what is missing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from f1hbase.model.units import Scope, Unit, Window


class Status(StrEnum):
    """How a unit stands.

    A provisional unit was fetched so soon after its session that late samples may still come; it is asked for once
    more when they have. A partial one was fetched while what it speaks of was still going on, and counts as not done.
    """

    DONE = "done"
    PROVISIONAL = "provisional"
    PARTIAL = "partial"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class UnitState:
    """One unit as the reports remember it.

    Attributes:
        scope_prefix: `{year}#{meeting_key}#{session_key or -}`.
        drivers: The driver numbers seen in its records.
        stats: Counts by name, such as records, rows and bytes.
        error: Why it failed the last time, if it did.
        run: The run that wrote it.
        fetched: When its records were asked for.
        checksum: The sum of its rows' checksums modulo 2**64; None for one that was never stored.
        entrants: Everybody who drove in the session, where they were asked for without being stored.
    """

    scope_prefix: str
    endpoint: str
    driver: int | None
    window: Window
    status: Status
    drivers: frozenset[int] = frozenset()
    stats: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    run: str = ""
    fetched: datetime | None = None
    checksum: int | None = None
    entrants: frozenset[int] | None = None


def status_of(unit: Unit, fetched: datetime) -> Status:
    """Return how a unit stands whose records were asked for at `fetched` and are stored."""
    scope = unit.scope
    if scope.over_at is None or scope.settled_at is None:
        # Without any date nothing can be awaited; asking at every run would never come to rest.
        return Status.DONE
    if fetched >= scope.settled_at:
        return Status.DONE
    over = fetched >= scope.over_at or (unit.window.end is not None and unit.window.end <= fetched)
    return Status.PROVISIONAL if over else Status.PARTIAL


class Coverage:
    """The union of what is done in one session (or meeting), by endpoint and driver."""

    def __init__(self, scope: Scope, states: Iterable[UnitState], now: datetime) -> None:
        self._windows: dict[tuple[str, int | None], list[Window]] = defaultdict(list)
        self._drivers: set[int] = set()
        self._knows_entrants = False
        self._stored: set[str] = set()
        self._done: UnitState | None = None
        settled = scope.settled_at is not None and now >= scope.settled_at
        prefix = scope.prefix
        for state in states:
            if state.scope_prefix != prefix:
                continue
            self._drivers |= state.drivers
            if state.status is not Status.FAILED or state.checksum is not None:
                self._stored.add(state.endpoint)
            if state.status is Status.DONE or (state.status is Status.PROVISIONAL and not settled):
                self._windows[state.endpoint, state.driver].append(state.window)
                self._done = state
                if state.entrants is not None:
                    self._drivers |= state.entrants
                    self._knows_entrants = True

    @property
    def knows_all_drivers(self) -> bool:
        """Whether the session's drivers were asked for, and not only whoever some other endpoint has records of."""
        return self._knows_entrants or ("drivers", None) in self._windows

    @property
    def drivers(self) -> frozenset[int]:
        """Every driver number that any stored record of the session named."""
        return frozenset(self._drivers)

    @property
    def any_done(self) -> UnitState | None:
        """Any unit that counts as done, if there is one."""
        return self._done

    def has_stored(self, endpoint: str) -> bool:
        """Return whether records of an endpoint were ever reported as stored, however they stand now."""
        return endpoint in self._stored

    def missing(self, unit: Unit) -> list[Unit]:
        """Return the parts of a unit that are not done: none, the unit itself, or pieces of its window."""
        done = list(self._windows.get((unit.endpoint, None), ()))
        if unit.driver is not None:
            done += self._windows.get((unit.endpoint, unit.driver), ())
        if not done:
            return [unit]
        return [Unit(unit.endpoint, unit.scope, unit.driver, window) for window in subtract(unit.window, done)]


def subtract(window: Window, done: Iterable[Window]) -> list[Window]:
    """Return what is left of a window when all that is done is taken away, in order of time."""
    left = [window]
    for taken in done:
        left = [piece for whole in left for piece in _without(whole, taken)]
    return left


def _without(window: Window, taken: Window) -> list[Window]:
    pieces = []
    if taken.start is not None and (window.start is None or window.start < taken.start):
        pieces.append(Window(window.start, _earlier(window.end, taken.start)))
    if taken.end is not None and (window.end is None or taken.end < window.end):
        pieces.append(Window(_later(window.start, taken.end), window.end))
    return pieces


def _earlier(end: datetime | None, other: datetime) -> datetime:
    return other if end is None else min(end, other)


def _later(start: datetime | None, other: datetime) -> datetime:
    return other if start is None else max(start, other)
