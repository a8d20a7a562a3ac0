"""Which sessions to load, and which units they are made of."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from f1hbase.cli.options import Settings
from f1hbase.errors import NothingToLoadError
from f1hbase.model.catalog import ENDPOINTS, FIRST_YEAR, Slicing
from f1hbase.model.coverage import Coverage, UnitState
from f1hbase.model.samples import Record
from f1hbase.model.units import MeetingPlan, Query, Scope, SessionPlan, Unit, parse_time, slice_time

_log = logging.getLogger(__name__)

_NEVER = 9000
"""A year that stands for no date at all; what is reckoned from it would leave the calendar."""

Ask = Callable[[Query], Awaitable[list[Any]]]


async def make_plan(ask: Ask, settings: Settings, now: datetime) -> tuple[list[MeetingPlan], list[object]]:
    """Find the sessions that the settings ask for; takes two requests, however many sessions there are.

    Args:
        ask: Sends a query to the API.
        settings: What was asked for.
        now: The present; sessions that begin later are left out, and named if they were asked for.

    Returns:
        The meetings in order of time, each with those of its sessions that were asked for; and the records of
        sessions that cannot be loaded because they lack a key, whether they were asked for or not.

    Raises:
        NothingToLoadError: If the API has nothing of what was asked for; names it and what to try.
    """
    listed = await ask(_sessions_query(settings))
    found = [record for record in listed if _is_session(record)]
    unusable = [record for record in listed if not _is_session(record)]
    for record in unusable:
        _log.error("the API lists a session without a key, which cannot be loaded: %.300s", record)
    wanted = [record for record in found if _matches(record, settings)]
    _refuse_unknown(settings, wanted)
    begun = [record for record in wanted if _start(record) <= now]
    if not begun:
        raise NothingToLoadError(_nothing(settings, wanted))
    _tell_of_waiting([record for record in wanted if _start(record) > now], settings)
    if settings.mode == "latest":
        begun = _latest(begun, settings)
    meetings = await ask(_meetings_query(begun))
    plans = _by_meeting(begun, meetings, now)
    for session in (session for plan in plans for session in plan.sessions):
        name, end = session_name(session.record), session.scope.date_end
        if session.scope.cancelled:
            _log.info("%s was cancelled; what there is of it is loaded all the same", name)
        elif goes_on(session.scope, now):
            until = "" if end is None else f" until {_spelt(end)}"
            _log.warning(
                "%s is going on%s: what there is of it by now is loaded, the rest by the next load", name, until
            )
    return plans, unusable


def session_name(record: Record) -> str:
    """Return what to call a session in a message: by its key, and in words."""
    return f"session {record['session_key']} ({record.get('location')}, {record.get('session_name')})"


def goes_on(scope: Scope, now: datetime) -> bool:
    """Return whether a session has begun and may not be over, so that its records still grow."""
    begun = scope.date_start is None or scope.date_start <= now
    return begun and scope.over_at is not None and now < scope.over_at and not scope.cancelled


def first_units(meeting: MeetingPlan, settings: Settings) -> Iterator[Unit]:
    """Yield the units that need no knowledge of the drivers: all endpoints but those cut into windows."""
    for name in settings.endpoints:
        endpoint = ENDPOINTS[name]
        if endpoint.slicing is Slicing.MEETING:
            yield Unit(name, meeting.scope)
        elif endpoint.slicing is Slicing.SESSION:
            for session in meeting.sessions:
                drivers = settings.drivers if endpoint.by_driver else ()
                yield from (Unit(name, session.scope, driver) for driver in drivers or (None,))


def window_units(scope: Scope, drivers: Collection[int], settings: Settings) -> Iterator[Unit]:
    """Yield the units of the endpoints cut into windows, for each driver; without any driver, for all at once.

    A session that was cancelled before anybody drove has none.
    """
    if scope.cancelled and not drivers:
        return
    windows = slice_time(scope.date_start, scope.date_end, settings.unit_window)
    for name in settings.endpoints:
        if ENDPOINTS[name].slicing is Slicing.WINDOWS:
            for driver in settings.drivers or sorted(drivers) or (None,):
                yield from (Unit(name, scope, driver, window) for window in windows)


USUAL_DRIVERS = 20
"""How many drivers a session has of which nothing is known yet."""


class Remaining:
    """What of a meeting is still to be loaded.

    Args:
        meeting: What was asked for.
        states: The units known of its sessions.
        settings: With `refresh`, everything remains that the run itself has not stored.
        now: The present.
        run_id: The run.
    """

    def __init__(
        self, meeting: MeetingPlan, states: Iterable[UnitState], settings: Settings, now: datetime, run_id: str = ""
    ) -> None:
        self._meeting = meeting
        self._settings = settings
        self._now = now
        states = list(states)
        self._coverage = {scope: Coverage(scope, states, now) for scope in meeting.scopes}
        done = [state for state in states if run_id and state.run == run_id] if settings.refresh else states
        self._done = {scope: Coverage(scope, done, now) for scope in meeting.scopes}

    def first(self) -> list[Unit]:
        """Return what is missing of `first_units`."""
        return self._missing(first_units(self._meeting, self._settings))

    def windows(self, scope: Scope, drivers: Iterable[int] = ()) -> list[Unit]:
        """Return what is missing of `window_units`, for the drivers known from earlier and those given.

        Windows that have not begun are left to a later run: while a session goes on, the window of now remains.
        """
        missing = self._missing(window_units(scope, self.drivers(scope) | set(drivers), self._settings))
        return [unit for unit in missing if unit.window.start is None or unit.window.start <= self._now]

    def expected_windows(self) -> int:
        """Return how many units `windows` will have, about, before it is known who drove."""
        expected = 0
        for scope in (session.scope for session in self._meeting.sessions):
            nobody = not self.drivers(scope) and not scope.cancelled
            expected += len(self.windows(scope, range(USUAL_DRIVERS) if nobody else ()))
        return expected

    def without_drivers(self) -> list[Scope]:
        """Return the sessions with windows to load of which nothing tells who drove.

        The settings may name the drivers, or they are stored, or are to be loaded themselves; that other endpoints
        have records of somebody does not mean that nobody else drove.
        """
        if self._settings.drivers or "drivers" in self._settings.endpoints:
            return []
        if not any(ENDPOINTS[name].slicing is Slicing.WINDOWS for name in self._settings.endpoints):
            return []
        scopes = (session.scope for session in self._meeting.sessions)
        return [scope for scope in scopes if not self._done[scope].knows_all_drivers]

    def drivers(self, scope: Scope) -> frozenset[int]:
        """Return the drivers that what is stored of a session has named."""
        return self._coverage[scope].drivers

    def knows_all_drivers(self, scope: Scope) -> bool:
        """Return whether those are all who drove, and not only whoever some endpoint has records of."""
        return self._coverage[scope].knows_all_drivers

    def remembering(self, scope: Scope) -> Unit:
        """Return a unit of a session with nothing left to load, on whose line it can be remembered who drove.

        Where nothing is done because nobody drove, that is one without records.
        """
        done = self._coverage[scope].any_done
        if done is not None:
            return Unit(done.endpoint, scope, done.driver, done.window)
        wanted = (name for name in self._settings.endpoints if ENDPOINTS[name].slicing is Slicing.WINDOWS)
        return Unit(next(wanted), scope)

    def may_be_stored(self, unit: Unit) -> bool:
        """Return whether records of a unit that is asked for may be in the table from an earlier time."""
        return self._settings.refresh or self._coverage[unit.scope].has_stored(unit.endpoint)

    def nothing(self) -> bool:
        """Return whether all of the meeting is loaded."""
        if self.first() or self.without_drivers():
            return False
        return not any(self.windows(session.scope) for session in self._meeting.sessions)

    def _missing(self, units: Iterable[Unit]) -> list[Unit]:
        return [part for unit in units for part in self._done[unit.scope].missing(unit)]


def _sessions_query(settings: Settings) -> Query:
    """One query that covers what is asked for; `_matches` takes away what it brings too much."""
    if settings.session_key:
        filters = [f"session_key={key}" for key in settings.session_key]
    elif settings.meeting_key:
        filters = [f"meeting_key={key}" for key in settings.meeting_key]
    elif settings.date:
        after = max(settings.date) + timedelta(days=1)
        filters = [f"date_start>={min(settings.date)}T00:00:00", f"date_start<{after}T00:00:00"]
    elif settings.year:
        filters = [f"year={year}" for year in settings.year]
    else:
        filters = [f"year>={FIRST_YEAR}"]
    return Query("sessions", tuple(filters))


def _meetings_query(sessions: Sequence[Record]) -> Query:
    # By key, not by year: the years of a meeting and of its sessions need not be the same.
    return Query("meetings", tuple(f"meeting_key={key}" for key in sorted({r["meeting_key"] for r in sessions})))


def _is_session(record: Any) -> bool:
    keys = ("year", "meeting_key", "session_key")
    return isinstance(record, dict) and all(type(record.get(key)) is int for key in keys)


def _matches(record: Record, settings: Settings) -> bool:
    start = _start(record)
    return (
        (not settings.session_key or record["session_key"] in settings.session_key)
        and (not settings.meeting_key or record["meeting_key"] in settings.meeting_key)
        and (not settings.year or record["year"] in settings.year)
        and (not settings.date or start.date() in settings.date)
    )


def _refuse_unknown(settings: Settings, sessions: Sequence[Record]) -> None:
    """Name the keys, years and dates that no session has."""
    asked: dict[str, Iterable[object]] = {
        "--session-key": set(settings.session_key) - {record["session_key"] for record in sessions},
        "--meeting-key": set(settings.meeting_key) - {record["meeting_key"] for record in sessions},
        "--year": set(settings.year) - {record["year"] for record in sessions},
        "--date": set(settings.date) - {_start(record).date() for record in sessions},
    }
    unknown = [f"{option} {value}" for option, values in asked.items() for value in sorted(values, key=str)]
    if unknown:
        raise NothingToLoadError(
            f"the API at {settings.api_url} has no session for {', '.join(unknown)}"
            f"{' (all options together; leave one out)' if sum(map(bool, asked.values())) > 1 else ''}. "
            f"OpenF1 has the seasons since {FIRST_YEAR}; {settings.api_url}/sessions lists all with their keys."
        )


def _tell_of_waiting(waiting: Sequence[Record], settings: Settings) -> None:
    """Say which of the sessions asked for have not begun: each one that was named, and those of a year together."""
    if settings.session_key or settings.meeting_key or settings.date:
        for record in waiting:
            _log.warning("%s and is left out; a load after that asks for it", _not_begun(record))
    elif waiting and settings.year and settings.mode != "latest":
        first = min(waiting, key=_start)
        _log.info(
            "%s of %s to come %s left out; the first, %s, begins %s",
            _sessions(len(waiting)), " and ".join(map(str, sorted({record["year"] for record in waiting}))),
            "is" if len(waiting) == 1 else "are", session_name(first), _spelt(_start(first)),
        )  # fmt: skip


def _not_begun(record: Record) -> str:
    cancelled = " (which is cancelled)" if record.get("is_cancelled") else ""
    return f"{session_name(record)} has not begun (it starts {_spelt(_start(record))}){cancelled}"


def _latest(begun: Sequence[Record], settings: Settings) -> list[Record]:
    """Return the latest sessions but for cancelled ones, and say which of those are passed over."""
    held = sorted((record for record in begun if not record.get("is_cancelled")), key=_start)
    if not held:
        raise NothingToLoadError(
            "all that should have begun of what was asked for was cancelled, and cancelled sessions are none of the "
            "latest. Leave out --mode latest to load what there is of them."
        )
    latest = held[-settings.latest_sessions :]
    _log.info("the latest %d of %s that have begun", len(latest), _sessions(len(held)))
    for record in begun:
        if record.get("is_cancelled") and _start(record) > _start(latest[0]):
            _log.info("%s was cancelled and is none of the latest", session_name(record))
    return latest


def _sessions(number: int) -> str:
    return f"{number:,} session{'' if number == 1 else 's'}"


def _nothing(settings: Settings, sessions: Sequence[Record]) -> str:
    if not sessions:
        return f"the API at {settings.api_url} lists no sessions at all."
    first = min(sessions, key=_start)
    if len(sessions) == 1:
        return f"{_not_begun(first)}. Load it after that."
    return (
        f"none of the {len(sessions)} sessions asked for has begun; the first, {session_name(first)}, starts "
        f"{_spelt(_start(first))}. Load them after that."
    )


def _by_meeting(sessions: Sequence[Record], meetings: Sequence[Any], asked_at: datetime) -> list[MeetingPlan]:
    records = {record.get("meeting_key"): record for record in meetings if isinstance(record, dict)}
    groups: dict[tuple[int, int], list[SessionPlan]] = defaultdict(list)
    for record in sorted(sessions, key=_start):
        meeting = records.get(record["meeting_key"])
        # The year of every row key is the meeting's.
        year = _year(meeting, record)
        groups[year, record["meeting_key"]].append(SessionPlan(_session_scope(year, record, meeting), record))
    plans = []
    for (year, meeting_key), group in groups.items():
        meeting = records.get(meeting_key)
        if meeting is None:
            _log.warning("the API has sessions of meeting %d, but not the meeting itself", meeting_key)
        plans.append(MeetingPlan(_meeting_scope(year, meeting_key, meeting, group), meeting, tuple(group), asked_at))
    return plans


def _year(meeting: Record | None, session: Record) -> int:
    year = None if meeting is None else meeting.get("year")
    return year if type(year) is int else int(session["year"])


def _session_scope(year: int, record: Record, meeting: Record | None) -> Scope:
    return Scope(
        year=year,
        meeting_key=record["meeting_key"],
        session_key=record["session_key"],
        date_start=_time(record, "date_start"),
        date_end=_time(record, "date_end"),
        name=f"{(meeting or {}).get('meeting_name') or session_name(record)}, {record.get('session_name')}",
        cancelled=bool(record.get("is_cancelled")),
    )


def _meeting_scope(year: int, meeting_key: int, record: Record | None, sessions: Sequence[SessionPlan]) -> Scope:
    record = record or {}
    return Scope(
        year=year,
        meeting_key=meeting_key,
        session_key=None,
        date_start=_time(record, "date_start"),
        date_end=_time(record, "date_end")
        or max((s.scope.date_end for s in sessions if s.scope.date_end), default=None),
        name=f"{year} {record.get('meeting_name') or f'meeting {meeting_key}'}",
        cancelled=bool(record.get("is_cancelled")),
    )


def _start(record: Record) -> datetime:
    """When a session begins; one without a time counts as begun long ago, so that it is not overlooked."""
    return _time(record, "date_start") or datetime.min.replace(tzinfo=UTC)


def _spelt(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _time(record: Record, field: str) -> datetime | None:
    value = record.get(field)
    try:
        moment = parse_time(value) if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None
    return moment if moment is None or moment.year < _NEVER else None
