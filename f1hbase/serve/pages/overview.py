"""What is loaded, for the first page: seasons, meetings, sessions, how each stands, and what failed; knows no HTTP."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from typing import Any

from f1hbase.errors import StoreError
from f1hbase.frames.store import Store
from f1hbase.model.plans import Selection
from f1hbase.model.times import lenient_time
from f1hbase.operations.status import Overview, ScopeStatus, StatusReader
from f1hbase.operations.status.base import StateView
from f1hbase.operations.status.judging import percent

_MOST_REASONS = 20
_MOST_RUNS = 5


def overview(home: str, view: StateView | None, listed: Callable[[], Store]) -> dict[str, Any]:
    """Return how everything stands; of a place without reports, what sessions there are.

    Args:
        home: Where it is, for people.
        view: What it remembers; is closed. None where it remembers nothing.
        listed: Gives what is stored there.

    Raises:
        F1HBaseError: If it does not answer.
    """
    if view is None:
        return of_listing(home, listed())
    with closing(view):
        absent = view.absent()
        if absent is None:
            return of_status(home, StatusReader(view, Selection()).read())
    try:
        found = of_listing(home, listed())
    except StoreError:
        # There is no table, so that nothing can be listed.
        found = _of_nothing(home)
    return found if found["sessions"] else {**found, "note": absent}


def of_status(home: str, found: Overview) -> dict[str, Any]:
    """Return what `status` tells in the shape of the page."""
    sessions = [scope for scope in found.scopes if scope.session_key is not None]
    left = found.seconds_left
    return {
        "home": home,
        "has_reports": True,
        "seasons": _seasons(found.scopes),
        "rows": sum(scope.rows.total() for scope in found.scopes),
        "sessions": len(sessions),
        "percent_done": percent(sum(scope.asked for scope in found.scopes), found.left),
        "seconds_left": None if left is None else round(left),
        "failures": _failures(found.scopes),
        "loading": [{"by": who, "meeting_keys": keys} for who, keys in found.loading.items()],
        "requests_per_minute": None if found.pace is None else round(found.pace.requests_per_minute, 1),
        "runs": [
            {
                "run_id": run.run_id, "start": run.meta.get("start"), "end": run.meta.get("end"),
                "exit": run.meta.get("exit"), "rows": _whole(run.stats.get("rows")),
            }
            for run in found.runs[:_MOST_RUNS]
        ],
    }  # fmt: skip


def of_listing(home: str, store: Store) -> dict[str, Any]:
    """Return the sessions of a place that has no reports (a folder of records)."""
    meetings = {row["meeting_key"]: row for row in store.meetings().to_pylist()}
    scopes = []
    for row in store.sessions().to_pylist():
        meeting = meetings.get(row["meeting_key"], {})
        name = f"{meeting.get('meeting_name') or row.get('location') or ''}, {row.get('session_name') or ''}"
        scopes.append(ScopeStatus(row["year"], row["meeting_key"], row["session_key"], name, row["date_start"]))
    named = [
        ScopeStatus(row["year"], key, None, row.get("meeting_name") or "", row["date_start"])
        for key, row in meetings.items()
    ]
    return {**_of_nothing(home), "seasons": _seasons([*named, *scopes]), "sessions": len(scopes)}


def _of_nothing(home: str) -> dict[str, Any]:
    return {
        "home": home, "has_reports": False, "seasons": [], "rows": None, "sessions": 0, "percent_done": None,
        "seconds_left": None, "failures": [], "loading": [], "requests_per_minute": None, "runs": [],
    }  # fmt: skip


def _seasons(scopes: Iterable[ScopeStatus]) -> list[dict[str, Any]]:
    """Return seasons, the latest first, of meetings, of sessions in the order in which they began."""
    by_year: dict[int, dict[int, list[ScopeStatus]]] = defaultdict(lambda: defaultdict(list))
    for scope in scopes:
        if scope.year is not None and scope.meeting_key is not None:
            by_year[scope.year][scope.meeting_key].append(scope)
    return [
        {"year": year, "meetings": sorted((_meeting(key, of) for key, of in meetings.items()), key=_newest_first)}
        for year, meetings in sorted(by_year.items(), reverse=True)
    ]


def _newest_first(meeting: Mapping[str, Any]) -> tuple[float, int]:
    begun = lenient_time(meeting["date_start"])
    return (-begun.timestamp() if begun else 0.0, -meeting["meeting_key"])


def _meeting(key: int, scopes: list[ScopeStatus]) -> dict[str, Any]:
    own = next((scope for scope in scopes if scope.session_key is None), None)
    sessions = sorted(
        (scope for scope in scopes if scope.session_key is not None),
        key=lambda scope: (scope.date_start is None, scope.date_start, scope.session_key),
    )
    begun = [scope.date_start for scope in scopes if scope.date_start is not None]
    name = own.name if own is not None and own.name else next((one.name.rpartition(", ")[0] for one in sessions), "")
    return {
        "meeting_key": key,
        "name": name or f"meeting {key}",
        "date_start": min(begun).isoformat() if begun else None,
        "sessions": [_session(scope) for scope in sessions],
    }


def _session(scope: ScopeStatus) -> dict[str, Any]:
    return {
        "session_key": scope.session_key,
        "name": scope.name.rpartition(", ")[2] or f"session {scope.session_key}",
        "date_start": None if scope.date_start is None else scope.date_start.isoformat(),
        "percent_done": percent(scope.asked, scope.left),
        "rows": scope.rows.total() if scope.units else None,
        "by_endpoint": dict(scope.rows),
        "units": dict(scope.units),
        "failed": len(scope.failures),
        "quarantined": sum(scope.quarantined.values()),
        "missing": [str(unit) for unit in scope.missing[:_MOST_REASONS]],
        "due": scope.due,
        "without_records": scope.empty,
    }


def _failures(scopes: Iterable[ScopeStatus]) -> list[dict[str, Any]]:
    """Return why units failed, what has the same reason together, the commonest reason first."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for scope in scopes:
        for unit, reason in scope.failures:
            reasons[reason].append(unit)
    found = sorted(reasons.items(), key=lambda item: -len(item[1]))
    return [{"reason": why, "units": len(units), "first": units[0]} for why, units in found[:_MOST_REASONS]]


def _whole(text: object) -> int | None:
    try:
        return int(float(str(text)))
    except ValueError:
        return None
