"""What runs have asked for, as their rows say it: what should be stored; knows no store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.outcomes import RunState
from f1hbase.model.units import SEPARATOR


@dataclass(frozen=True, slots=True)
class RequestedScope:
    """What a run asked for of a session: endpoints, and drivers; no driver means all."""

    run: str
    endpoints: Collection[str]
    drivers: tuple[int, ...] = ()


def requested_scopes(runs: Iterable[RunState]) -> Mapping[str, list[RequestedScope]]:
    """Return what runs asked for, by scope prefix, of sessions and (for their meetings) meetings."""
    requested: dict[str, list[RequestedScope]] = defaultdict(list)
    for run in runs:
        scope = _requested(run)
        sessions = [prefix for prefix in run.meta.get("sessions", "").split(",") if prefix]
        meetings = {meeting_prefix(prefix) for prefix in sessions}
        for prefix in (*sessions, *sorted(meetings)):
            requested[prefix].append(scope)
    return requested


def meeting_prefix(session_prefix: str) -> str:
    """Return the scope prefix of the meeting that a session belongs to."""
    return SEPARATOR.join([*session_prefix.split(SEPARATOR)[:2], "-"])


def _requested(run: RunState) -> RequestedScope:
    named = [name for name in run.meta.get("endpoint", "").split(",") if name]
    drivers = [text for text in run.meta.get("driver", "").split(",") if text.isdecimal()]
    endpoints = [name for name in ENDPOINTS if not named or name in named]
    return RequestedScope(run.run_id, tuple(endpoints), tuple(sorted(set(map(int, drivers)))))
