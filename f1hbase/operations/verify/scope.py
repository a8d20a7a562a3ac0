"""What should be in the table: what the runs asked for, and what they began."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from f1hbase.model.catalog import ENDPOINTS, Endpoint, Slicing
from f1hbase.model.coverage import Coverage, Status, UnitState
from f1hbase.model.units import Scope
from f1hbase.stores.hbase.codec import SEPARATOR


@dataclass(frozen=True, slots=True)
class RequestedScope:
    """What a run asked for of a session: endpoints, and drivers; none means all."""

    run: str
    endpoints: Collection[str]
    drivers: tuple[int, ...] = ()


def requested_scopes(runs: Iterable[tuple[str, Mapping[str, str]]]) -> dict[str, list[RequestedScope]]:
    """Return what runs asked for, by scope prefix, of sessions and (for their meetings) meetings.

    Args:
        runs: Each with its identifier and the `meta` cells of its row.
    """
    asked: dict[str, list[RequestedScope]] = {}
    for run, meta in runs:
        wish = requested_scope_of(run, meta)
        sessions = [prefix for prefix in meta.get("sessions", "").split(",") if prefix]
        meetings = {meeting_prefix(prefix) for prefix in sessions}
        for prefix in (*sessions, *sorted(meetings)):
            asked.setdefault(prefix, []).append(wish)
    return asked


def requested_scope_of(run: str, meta: Mapping[str, str]) -> RequestedScope:
    """Return what the settings in a run's row ask for of each of its sessions."""
    named = [name for name in meta.get("endpoint", "").split(",") if name]
    drivers = [text for text in meta.get("driver", "").split(",") if text.isdecimal()]
    endpoints = [name for name in ENDPOINTS if not named or name in named]
    return RequestedScope(run, tuple(endpoints), tuple(sorted(set(map(int, drivers)))))


def meeting_prefix(session_prefix: str) -> str:
    """Return the scope prefix of the meeting that a session belongs to."""
    return SEPARATOR.join([*session_prefix.split(SEPARATOR)[:2], "-"])


def expected_drivers(
    endpoint: Endpoint, scope: Scope, states: Sequence[UnitState], asked: Iterable[RequestedScope]
) -> set[int | None]:
    """Return for which drivers an endpoint of a session should be there (None: for all at once), by what is known.

    That is what the runs asked for, and what has begun to be loaded: a load always means the whole session.
    """
    mine = [state for state in states if state.endpoint == endpoint.name and state.status is not Status.FAILED]
    expected: set[int | None] = {state.driver for state in mine}
    wanted = [wish for wish in asked if endpoint.name in wish.endpoints]
    if endpoint.slicing is not Slicing.WINDOWS:
        for wish in wanted:
            expected |= set(wish.drivers) if wish.drivers and endpoint.by_driver else {None}
        return expected
    known = known_drivers(scope, states)
    # What was asked for when nobody was known to drive counts for each one who is known by now.
    expected.discard(None)
    everybody = any(not wish.drivers for wish in wanted) or any(state.driver is None for state in mine)
    expected |= {driver for wish in wanted for driver in wish.drivers}
    if everybody:
        expected |= known
        if not known and not scope.cancelled:
            expected.add(None)
    return expected


def known_drivers(scope: Scope, states: Sequence[UnitState]) -> frozenset[int]:
    """Return everybody of whom the reports know that they drove in a session."""
    return coverage(scope, states).drivers


def coverage(scope: Scope, states: Iterable[UnitState]) -> Coverage:
    """Return what is done of a session, what is provisional included, however long it has been so."""
    # Without its dates nothing of a session is settled.
    return Coverage(Scope(scope.year, scope.meeting_key, scope.session_key), states, datetime.now(UTC))
