"""What should be stored: what the runs asked for, and what was begun. Knows no store."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from f1hbase.model.catalog import ENDPOINTS, Endpoint
from f1hbase.model.coverage import Coverage, subtract
from f1hbase.model.outcomes import Status, UnitState
from f1hbase.model.units import ALL_TIME, SEPARATOR, Scope, Window


@dataclass(frozen=True, slots=True)
class RequestedScope:
    """What a run asked for of a session, or of a meeting as such.

    Attributes:
        run: The run.
        endpoints: The endpoints, each one that a session (or a meeting) has.
        drivers: The drivers; none means all.
        source: The source that was asked; empty where the run's row does not say it.
    """

    run: str
    endpoints: Collection[str]
    drivers: tuple[int, ...] = ()
    source: str = ""


def requested_scopes(runs: Iterable[tuple[str, Mapping[str, str]]]) -> dict[str, list[RequestedScope]]:
    """Return what runs asked for, by scope prefix, of sessions and of their meetings as such.

    A meeting as such is asked for only where `meetings` is among a run's endpoints, a session only where one of its own
    endpoints is.

    Args:
        runs: Each with its identifier and the `meta` cells of its row.
    """
    requested: dict[str, list[RequestedScope]] = {}
    for run, meta in runs:
        whole = requested_scope_of(run, meta)
        sessions = sessions_of(meta)
        of_sessions, of_meetings = _part(whole, of_meeting=False), _part(whole, of_meeting=True)
        if of_sessions is not None:
            for prefix in sessions:
                requested.setdefault(prefix, []).append(of_sessions)
        if of_meetings is not None:
            for prefix in sorted({meeting_prefix(session) for session in sessions}):
                requested.setdefault(prefix, []).append(of_meetings)
    return requested


def requested_scope_of(run: str, meta: Mapping[str, str]) -> RequestedScope:
    """Return what the settings in a run's row ask for of each of its sessions, and of their meetings."""
    named = [name for name in meta.get("endpoint", "").split(",") if name]
    drivers = [text for text in meta.get("driver", "").split(",") if text.isdecimal()]
    endpoints = [name for name in ENDPOINTS if not named or name in named]
    return RequestedScope(run, tuple(endpoints), tuple(sorted(set(map(int, drivers)))), meta.get("from", ""))


def _part(requested: RequestedScope, *, of_meeting: bool) -> RequestedScope | None:
    """Return what a run asked for of meetings as such, or of sessions; None if it was nothing."""
    endpoints = tuple(name for name in requested.endpoints if ENDPOINTS[name].of_meeting is of_meeting)
    return replace(requested, endpoints=endpoints) if endpoints else None


def sessions_of(meta: Mapping[str, str]) -> list[str]:
    """Return the scope prefixes of the sessions that a run's row names."""
    return [prefix for prefix in meta.get("sessions", "").split(",") if prefix]


def meeting_prefix(session_prefix: str) -> str:
    """Return the scope prefix of the meeting that a session belongs to."""
    return SEPARATOR.join([*session_prefix.split(SEPARATOR)[:2], "-"])


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
