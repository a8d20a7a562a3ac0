"""What runs have asked for, as their rows say it: what should be stored; knows no store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from f1hbase.model.catalog import ALL_ENDPOINTS, DATASETS, TIMING, Dataset
from f1hbase.model.outcomes import RunState
from f1hbase.model.units import SEPARATOR, parse_scope


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


def requested_scopes(runs: Iterable[RunState]) -> Mapping[str, list[RequestedScope]]:
    """Return what runs asked for, by scope prefix, of sessions and of their meetings as such.

    A meeting as such is asked for only where `meetings` is among a run's endpoints, a session only where one of its own
    endpoints is; seasons and races of the history likewise.
    """
    requested: dict[str, list[RequestedScope]] = defaultdict(list)
    for run in runs:
        whole = requested_of(run)
        sessions = [prefix for prefix in run.meta.get("sessions", "").split(",") if prefix]
        of_sessions = {one: _part(whole, one, of_meeting=False) for one in DATASETS}
        of_meetings = {one: _part(whole, one, of_meeting=True) for one in DATASETS}
        for parts, prefixes in ((of_sessions, sessions), (of_meetings, sorted(set(map(meeting_prefix, sessions))))):
            for prefix in prefixes:
                scope = parse_scope(prefix)
                part = parts[TIMING if scope is None else scope.dataset]
                if part is not None:
                    requested[prefix].append(part)
    return dict(requested)


def requested_of(run: RunState) -> RequestedScope:
    """Return what the settings in a run's row ask for of each of its sessions, and of their meetings."""
    named = [name for name in run.meta.get("endpoint", "").split(",") if name]
    drivers = [text for text in run.meta.get("driver", "").split(",") if text.isdecimal()]
    endpoints = [name for name in ALL_ENDPOINTS if not named or name in named]
    return RequestedScope(run.run_id, tuple(endpoints), tuple(sorted(set(map(int, drivers)))), run.meta.get("from", ""))


def meeting_prefix(session_prefix: str) -> str:
    """Return the scope prefix of the meeting that a session belongs to."""
    return SEPARATOR.join([*session_prefix.split(SEPARATOR)[:2], "-"])


def _part(requested: RequestedScope, dataset: Dataset, *, of_meeting: bool) -> RequestedScope | None:
    """Return what a run asked for of meetings as such, or of sessions; None if it was nothing."""
    endpoints = tuple(
        name
        for name in requested.endpoints
        if ALL_ENDPOINTS[name].dataset is dataset and ALL_ENDPOINTS[name].of_meeting is of_meeting
    )
    return replace(requested, endpoints=endpoints) if endpoints else None
