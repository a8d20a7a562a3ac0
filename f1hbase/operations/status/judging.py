"""How each session and meeting stands, by its units and by what runs asked for; reads and prints nothing."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from f1hbase.model.catalog import ALL_ENDPOINTS, Endpoint
from f1hbase.model.coverage import EMPTY_IS_ASKED_AGAIN_AFTER, Coverage, is_due
from f1hbase.model.outcomes import STORED, RunState, Status, UnitState
from f1hbase.model.times import LONG_AGO
from f1hbase.model.units import SEPARATOR, Scope, Unit, Window, endpoints_of, parse_scope
from f1hbase.operations.requested import RequestedScope, requested_scopes

_WINDOW_SECONDS = 900.0
"""How much of a session of all cars one answer carries, about: 14 minutes make 4 MB (docs/architecture.md, Units)."""

_USUAL_SESSION_SECONDS = 3600.0
"""How long a session is of which nothing is known: practice and qualifying are scheduled for an hour."""

_SHARED = 0.2
"""The weight of an endpoint without windows: one answer carries the five sessions of a meeting."""

_MOST_DIGITS = 20
_USUAL_DRIVERS = 20
_LEAST_WEIGHT = 0.01
"""However short a window is that is missing, it is missing."""


@dataclass(slots=True)
class ScopeStatus:
    """How a session (or a meeting as such, with session key None) stands; without any key, what belongs to none.

    Attributes:
        name: What people call it, as far as its own record says it.
        date_start: When it begins, as far as that record says it.
        units: How many units there are of each status; failures that a later run made good are not counted.
        rows: The rows stored, by endpoint.
        quarantined: How many records are in quarantine, by endpoint.
        failures: Each unit that failed, with the reason.
        asked: What was asked for, in answers of the usual size.
        left: What of that is not stored.
        missing: The units that are left.
        due: How many stored units are to be asked for once more now, as their records may have changed.
        empty: The endpoints without any record though there should be some, which are asked for again later.
        known_drivers_only: Whether samples were loaded by driver (by an earlier version), and no other cars.
    """

    year: int | None
    meeting_key: int | None
    session_key: int | None
    name: str = ""
    date_start: datetime | None = None
    units: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    quarantined: Mapping[str, int] = field(default_factory=dict)
    failures: list[tuple[str, str]] = field(default_factory=list)
    asked: float = 0.0
    left: float = 0.0
    missing: list[Unit] = field(default_factory=list)
    due: int = 0
    empty: list[str] = field(default_factory=list)
    known_drivers_only: bool = False

    @property
    def place(self) -> tuple[str, ...]:
        """Year, meeting and session as text, with `-` for what is not known."""
        return tuple("-" if key is None else str(key) for key in (self.year, self.meeting_key, self.session_key))

    def as_json(self) -> dict[str, Any]:
        """Return it in JSON's types."""
        return {
            "year": self.year,
            "meeting_key": self.meeting_key,
            "session_key": self.session_key,
            "name": self.name,
            "date_start": None if self.date_start is None else self.date_start.isoformat(),
            "percent_done": percent(self.asked, self.left),
            "units": dict(self.units),
            "units_due_again": self.due,
            "endpoints_without_records": self.empty,
            "unknown_cars_asked_for": not self.known_drivers_only,
            "rows": dict(self.rows),
            "quarantined": dict(self.quarantined),
            "failures": [{"unit": unit, "reason": reason} for unit, reason in self.failures],
        }


def percent(asked: float, left: float) -> float | None:
    """Return how much is done, rounded down, so that 100 means all; None if nothing was asked for."""
    if asked <= 0:
        return None
    return 100.0 if left <= 0 else max(0.0, min(99.9, math.floor(1000 * (1 - left / asked)) / 10))


def judge(
    states: Iterable[UnitState],
    quarantined: Mapping[tuple[str, str], int],
    runs: Sequence[RunState] = (),
    known: Mapping[str, Scope] | None = None,
    now: datetime | None = None,
) -> list[ScopeStatus]:
    """Return how each session and meeting stands, in the order of the keys.

    Args:
        states: Every unit.
        quarantined: How many records are in quarantine, by scope prefix and endpoint.
        runs: What was asked for.
        known: Names and dates, by scope prefix.
        now: The present.
    """
    now = now or datetime.now(UTC)
    by_scope: dict[str, list[UnitState]] = defaultdict(list)
    for state in states:
        by_scope[state.scope_prefix].append(state)
    aside: dict[str, dict[str, int]] = defaultdict(dict)
    for (prefix, endpoint), number in quarantined.items():
        aside[prefix][endpoint] = number
    requested = requested_scopes(runs)
    prefixes = sorted({*by_scope, *aside, *requested}, key=_order)
    found = []
    for prefix in prefixes:
        scope = (known or {}).get(prefix) or parse_scope(prefix)
        if scope is None:
            found.append(ScopeStatus(None, None, None, quarantined=aside[prefix]))
            continue
        found.append(_judge_scope(scope, by_scope[prefix], requested.get(prefix, ()), aside[prefix], now))
    return found


def _order(prefix: str) -> list[int]:
    """Return the numbers of a scope prefix; those of rows that nobody wrote may be as long as they like."""
    return [int(part) if part.isdecimal() and len(part) <= _MOST_DIGITS else 0 for part in prefix.split(SEPARATOR)]


def weight(unit: Unit) -> float:
    """Return how much of the work a unit is, in answers of the usual size.

    >>> race = Scope(2024, 1240, 9558, datetime(2024, 7, 7, 14), datetime(2024, 7, 7, 16))
    >>> weight(Unit("car_data", race)), weight(Unit("laps", race))
    (8.0, 0.2)
    """
    if not ALL_ENDPOINTS[unit.endpoint].sampled:
        return _SHARED
    whole = max(1.0, session_seconds(unit.scope) / _WINDOW_SECONDS)
    share = window_seconds(unit.window, unit.scope) / session_seconds(unit.scope)
    drivers = 1.0 if unit.driver is None else 1 / _USUAL_DRIVERS
    return max(whole * min(1.0, share) * drivers, _LEAST_WEIGHT)


def session_seconds(scope: Scope) -> float:
    """Return how long a session is, as it is scheduled."""
    if scope.date_start is None or scope.date_end is None or scope.date_end <= scope.date_start:
        return _USUAL_SESSION_SECONDS
    return (scope.date_end - scope.date_start).total_seconds()


def window_seconds(window: Window, scope: Scope) -> float:
    """Return how much of a session, as it is scheduled, is in a window."""
    if scope.date_start is None or scope.date_end is None or scope.date_end <= scope.date_start:
        if window.start is None or window.end is None:
            return _WINDOW_SECONDS if window.start or window.end else _USUAL_SESSION_SECONDS
        return (window.end - window.start).total_seconds()
    start = scope.date_start if window.start is None else max(window.start, scope.date_start)
    end = scope.date_end if window.end is None else min(window.end, scope.date_end)
    return max(0.0, (end - start).total_seconds())


def _judge_scope(
    scope: Scope,
    states: Sequence[UnitState],
    requested: Sequence[RequestedScope],
    quarantined: Mapping[str, int],
    now: datetime,
) -> ScopeStatus:
    result = ScopeStatus(
        scope.year, scope.meeting_key, scope.session_key, scope.name, scope.date_start, quarantined=quarantined
    )
    by_endpoint: dict[str, list[UnitState]] = defaultdict(list)
    for state in states:
        by_endpoint[state.endpoint].append(state)
    for mine in by_endpoint.values():
        for state in standing(scope, mine, now):
            if state.status is Status.FAILED:
                unit = Unit(state.endpoint, scope, state.driver, state.window)
                result.failures.append((str(unit), state.error or "no reason known"))
            else:
                result.rows[state.endpoint] += int(state.stats.get("rows", 0))
            result.units[state.status.value] += int(state.stats.get("units", 1))
            result.due += state.status in STORED and is_due(state, scope, now, empty=False)
    # Without its dates nothing is due again: what is stored counts as done, and what is due is told beside it.
    coverage = Coverage(Scope(scope.year, scope.meeting_key, scope.session_key), states, now)
    for endpoint in endpoints_of(scope):
        mine = by_endpoint.get(endpoint.name, [])
        drivers = _expected_drivers(endpoint, mine, requested)
        for driver in drivers:
            unit = Unit(endpoint.name, scope, driver)
            missing = coverage.missing(unit)
            result.asked += weight(unit)
            result.left += sum(map(weight, missing))
            result.missing += missing
        if endpoint.sampled and None in drivers and coverage.covers_known_drivers_only:
            result.known_drivers_only = True
        if _is_empty(endpoint, scope, mine, now):
            result.empty.append(endpoint.name)
    return result


def _expected_drivers(
    endpoint: Endpoint, mine: Sequence[UnitState], requested: Iterable[RequestedScope]
) -> list[int | None]:
    """Return for which drivers an endpoint of a session should be there; all at once are None, and hold each one."""
    drivers: set[int | None] = {state.driver for state in mine}
    for scope in requested:
        if endpoint.name in scope.endpoints:
            drivers |= set(scope.drivers) if scope.drivers and endpoint.by_driver else {None}
    alone = sorted(driver for driver in drivers if driver is not None)
    return [None] if None in drivers else [*alone]


def _is_empty(endpoint: Endpoint, scope: Scope, mine: Sequence[UnitState], now: datetime) -> bool:
    """Return whether there is no record where there should be some, and it is still to be asked for again."""
    stored = [state for state in mine if state.status in STORED]
    if scope.cancelled or not stored or scope.over_at is None or scope.kind not in endpoint.usual_in:
        return False
    rows = sum(state.stats.get("rows", 0) for state in stored)
    return not rows and now < scope.over_at + EMPTY_IS_ASKED_AGAIN_AFTER[-1]


def standing(scope: Scope, states: Sequence[UnitState], now: datetime) -> Iterator[UnitState]:
    """Yield the units of an endpoint but for those whose records others hold as well, and failures made good.

    Where no two speak of the same, which is nearly always, all stand.
    """
    by_driver: dict[int | None, list[UnitState]] = defaultdict(list)
    for state in states:
        by_driver[state.driver].append(state)
    groups: Iterable[Sequence[UnitState]] = by_driver.values()
    if None in by_driver and len(by_driver) > 1:
        groups = [states]
    for group in groups:
        yield from group if _are_apart(group) else _standing_among(scope, group, now)


def _are_apart(states: Sequence[UnitState]) -> bool:
    """Return whether no two units, of one driver or of all at once, overlap."""
    if len({state.driver for state in states}) > 1:
        return False
    windows = sorted((state.window for state in states), key=lambda window: window.start or LONG_AGO)
    return all(
        one.end is not None and other.start is not None and one.end <= other.start for one, other in pairwise(windows)
    )


def _standing_among(scope: Scope, states: Sequence[UnitState], now: datetime) -> Iterator[UnitState]:
    bare = Scope(scope.year, scope.meeting_key, scope.session_key)
    coverage = Coverage(bare, states, now)
    standing_now: list[UnitState] = []
    for state in sorted(states, key=_breadth, reverse=True):
        unit = Unit(state.endpoint, bare, state.driver, state.window)
        if state.status not in STORED:
            if coverage.missing(unit):
                yield state
        elif Coverage(bare, standing_now, now).missing(unit):
            yield state
            standing_now.append(state)


def _breadth(state: UnitState) -> tuple[bool, bool, float]:
    """What sorts units so that a unit comes after those that may hold all of its records."""
    start, end = state.window.start, state.window.end
    seconds = (end - start).total_seconds() if start is not None and end is not None else math.inf
    return state.status is Status.DONE, state.driver is None, seconds
