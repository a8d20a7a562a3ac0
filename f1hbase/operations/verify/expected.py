"""What should be stored of an endpoint and session: what the runs asked for, and what was begun. Knows no store."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from f1hbase.model.catalog import Endpoint
from f1hbase.model.coverage import Coverage, subtract
from f1hbase.model.history import as_listed
from f1hbase.model.outcomes import Status, UnitState
from f1hbase.model.times import lenient_time
from f1hbase.model.units import ALL_TIME, Scope, Window
from f1hbase.operations.requested import RequestedScope
from f1hbase.pipeline.plan import session_scope


def described(scope: Scope, record: Mapping[str, Any]) -> Scope:
    """Return a scope with the name and dates that its own record says, and whether it was cancelled."""
    record = as_listed(dict(record))
    parts = [record.get("meeting_name") or record.get("location"), record.get("session_name")]
    name = ", ".join(str(part) for part in parts if part)
    if scope.session_key is not None:
        return replace(session_scope(scope.year, dict(record)), name=name)
    start, end = (lenient_time(record.get(field)) for field in ("date_start", "date_end"))
    return replace(scope, name=name, date_start=start, date_end=end, cancelled=record.get("is_cancelled") is True)


def expected_drivers(
    endpoint: Endpoint, scope: Scope, states: Sequence[UnitState], requested: Iterable[RequestedScope]
) -> set[int | None]:
    """Return for which drivers an endpoint of a session should be stored (None: for all at once).

    That is what the runs asked for, and what has begun to be loaded: a load always means the whole session.
    """
    mine = [state for state in states if state.endpoint == endpoint.name]
    expected: set[int | None] = {state.driver for state in mine if state.status is not Status.FAILED}
    for one in requested:
        if endpoint.name in one.endpoints:
            expected |= set(one.drivers) if one.drivers and endpoint.by_driver else {None}
    if endpoint.sampled and scope.cancelled and not mine:
        # Earlier versions did not ask for samples of a session that was called off.
        expected.discard(None)
    return expected


def never_loaded(
    endpoint: Endpoint, scope: Scope, states: Sequence[UnitState], expected: Collection[int | None]
) -> list[tuple[int | None, Window]]:
    """Return what is expected and no unit speaks of, however it ended: drivers (None: all at once) and windows.

    Args:
        endpoint: The endpoint.
        scope: The session, or the meeting.
        states: The units known of the scope, those of other endpoints included.
        expected: As `expected_drivers` returns it.
    """
    windows: dict[int | None, list[Window]] = {None: []}
    for state in states:
        if state.endpoint == endpoint.name:
            windows.setdefault(state.driver, []).append(state.window)
    drivers = set(expected)
    if None in drivers and len(windows) > 1 and subtract(ALL_TIME, windows[None]):
        # Units by driver, which earlier versions wrote: those of all drivers that are known are a whole.
        known = known_drivers(scope, states)
        drivers = (drivers - {None}) | known if known else drivers
    return [
        (driver, window)
        for driver in sorted(drivers, key=lambda driver: -1 if driver is None else driver)
        for window in subtract(ALL_TIME, windows[None] + (windows.get(driver, []) if driver is not None else []))
    ]


def known_drivers(scope: Scope, states: Sequence[UnitState]) -> frozenset[int]:
    """Return the drivers of a session; none where nobody can tell whether those that were seen are all."""
    known = coverage(scope, states)
    return known.drivers if known.knows_drivers else frozenset()


def coverage(scope: Scope, states: Iterable[UnitState]) -> Coverage:
    """Return what is done of a session, what is to be asked for once more included."""
    # Without its dates nothing of a session is due again.
    return Coverage(Scope(scope.year, scope.meeting_key, scope.session_key), states, datetime.now(UTC))
