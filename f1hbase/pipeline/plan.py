"""Which sessions a load means: what a source lists, held against the requested scope."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from f1hbase.errors import NothingToLoadError
from f1hbase.model.answers import Listing
from f1hbase.model.history import as_listed, as_stored
from f1hbase.model.plans import MeetingPlan, Plan, Selection, SessionPlan
from f1hbase.model.records import canonical_json, winner
from f1hbase.model.samples import Record
from f1hbase.model.text import count
from f1hbase.model.times import LONG_AGO, lenient_time, minute
from f1hbase.model.units import Scope, is_key, is_year
from f1hbase.sources.base import SaysKeys, Source

_log = logging.getLogger(__name__)

_LONGEST_BELIEVED = timedelta(hours=24)
"""A session whose end is further from its beginning than this has a wrong end; the longest known took 9 hours."""


async def make_plan(source: Source, selection: Selection, now: datetime) -> Plan:
    """Find the sessions that a selection means.

    Args:
        source: Lists what there is.
        selection: What was asked for.
        now: The present; sessions that begin later are left out, and named if they were asked for.

    Returns:
        The meetings in order of time, each with those of its sessions that were asked for and, in the modes `all`,
        `latest` and `year`, with the others of the seasons loaded, of which only what is due again is loaded.

    Raises:
        NothingToLoadError: If the source has nothing of what was asked for; names it and what to try.
    """
    listing = await source.listing(selection)
    found, unusable = _usable(listing.sessions)
    wanted = [record for record in found if _matches(record, selection)]
    _refuse_unknown(source, selection, wanted, unusable)
    begun = [record for record in wanted if _start(record) <= now]
    if not begun:
        raise NothingToLoadError(_nothing(source, wanted))
    _tell_of_waiting([record for record in wanted if _start(record) > now], selection)
    if selection.mode == "latest":
        begun = _latest(begun, selection)
    keys = {record["session_key"] for record in begun}
    seasons = {record["year"] for record in begun} if selection.mode in {"all", "latest", "year"} else set()
    others = [r for r in found if r["year"] in seasons and r["session_key"] not in keys and _start(r) <= now]
    plans = _by_meeting(begun, others, listing)
    for session in (one for plan in plans for one in plan.sessions if one.scope.session_key in keys):
        name, end = session_name(session.record), session.scope.date_end
        if session.scope.cancelled:
            _log.info("%s was cancelled; what there is of it is loaded all the same", name)
        elif session.scope.goes_on(now):
            until = "" if end is None else f" until {minute(end)}"
            _log.warning(
                "%s is going on%s: what there is of it by now is loaded, the rest by the next load", name, until
            )
    return Plan(plans, unusable, listing)


def session_name(record: Record) -> str:
    """Return what to call a session in a message: by its key, and in words."""
    record = as_listed(record)
    return f"session {record['session_key']} ({record.get('location')}, {record.get('session_name')})"


def selected(plan: Plan) -> list[SessionPlan]:
    """Return the sessions that were asked for, without those of which only what is due again is loaded."""
    return [
        session
        for meeting in plan.meetings
        for session in meeting.sessions
        if session.scope.session_key not in meeting.sessions_to_settle
    ]


def _usable(listed: Iterable[Any]) -> tuple[list[Record], list[tuple[object, str]]]:
    """Return the sessions that can be loaded, each once, and the records that cannot be, with the reason."""
    found: dict[int, Record] = {}
    unusable: list[tuple[object, str]] = []
    for record in listed:
        reason = _fault(record)
        if reason is None:
            key = record["session_key"]
            other = found.setdefault(key, record)
            if canonical_json(record) == canonical_json(other):
                continue
            found[key] = winner([other, record])
            record = other if found[key] is record else record
            reason = f"session {key} is listed twice, with other values"
        unusable.append((record, reason))
        _log.error("the source lists a session that cannot be loaded, as %s: %.300s", reason, record)
    return list(found.values()), unusable


def _fault(record: Any) -> str | None:
    if not isinstance(record, dict):
        return "it is not an object"
    wrong = [name for name in ("year", "meeting_key", "session_key") if type(record.get(name)) is not int]
    if wrong:
        return f"its {' and '.join(wrong)} {'is' if len(wrong) == 1 else 'are'} missing or no whole number"
    beyond = [name for name in ("meeting_key", "session_key") if not is_key(record[name])]
    beyond += [] if is_year(record["year"]) else ["year"]
    return (
        f"its {' and '.join(beyond)} {'is' if len(beyond) == 1 else 'are'} none that there can be" if beyond else None
    )


def _matches(record: Record, selection: Selection) -> bool:
    start = _start(record)
    return (
        (not selection.session_key or record["session_key"] in selection.session_key)
        and (not selection.meeting_key or record["meeting_key"] in selection.meeting_key)
        and (not selection.year or record["year"] in selection.year)
        and (not selection.date or start.date() in selection.date)
    )


def _refuse_unknown(
    source: Source,
    selection: Selection,
    sessions: Sequence[Record],
    unusable: Sequence[tuple[object, str]],
) -> None:
    """Name the keys, years and dates that no session has."""
    asked: dict[str, Iterable[object]] = {
        "--session-key": set(selection.session_key) - {record["session_key"] for record in sessions},
        "--meeting-key": set(selection.meeting_key) - {record["meeting_key"] for record in sessions},
        "--year": set(selection.year) - {record["year"] for record in sessions},
        "--date": set(selection.date) - {_start(record).date() for record in sessions},
    }
    unknown = [f"{option} {value}" for option, values in asked.items() for value in sorted(values, key=str)]
    if unknown:
        together = " (all options together; leave one out)" if sum(map(bool, asked.values())) > 1 else ""
        broken = f" {count(len(unusable), 'listed session')} cannot be loaded (see above)." if unusable else ""
        raise NothingToLoadError(
            f"{source.home} has no session for {', '.join(unknown)}{together}.{broken} "
            f"It has the seasons since {source.first_year}; {_keys_of(source)}."
        )


def _keys_of(source: Source) -> str:
    """Say where to look for keys."""
    return source.keys if isinstance(source, SaysKeys) else f"{source.home}/sessions lists all with their keys"


def _tell_of_waiting(waiting: Sequence[Record], selection: Selection) -> None:
    """Say which of the sessions asked for have not begun: each one that was named, and those of a year together."""
    if selection.session_key or selection.meeting_key or selection.date:
        for record in waiting:
            _log.warning("%s and is left out; a load after that asks for it", _not_begun(record))
    elif waiting and selection.year and selection.mode != "latest":
        first = min(waiting, key=_start)
        _log.info(
            "%s of %s to come %s left out; the first, %s, begins %s",
            count(len(waiting), "session"), " and ".join(map(str, sorted({record["year"] for record in waiting}))),
            "is" if len(waiting) == 1 else "are", session_name(first), minute(_start(first)),
        )  # fmt: skip


def _not_begun(record: Record) -> str:
    cancelled = " (which is cancelled)" if record.get("is_cancelled") else ""
    return f"{session_name(record)} has not begun (it starts {minute(_start(record))}){cancelled}"


def _latest(begun: Sequence[Record], selection: Selection) -> list[Record]:
    """Return the latest sessions but for cancelled ones, and say which of those are passed over."""
    held = sorted((record for record in begun if not record.get("is_cancelled")), key=_start)
    if not held:
        raise NothingToLoadError(
            "all that should have begun of what was asked for was cancelled, and cancelled sessions are none of the "
            "latest. Leave out --mode latest to load what there is of them."
        )
    latest = held[-selection.latest_sessions :]
    _log.info("the latest %d of %s that have begun", len(latest), count(len(held), "session"))
    for record in begun:
        if record.get("is_cancelled") and _start(record) > _start(latest[0]):
            _log.info("%s was cancelled and is none of the latest", session_name(record))
    return latest


def _nothing(source: Source, sessions: Sequence[Record]) -> str:
    if not sessions:
        return f"{source.home} lists no sessions at all."
    first = min(sessions, key=_start)
    if len(sessions) == 1:
        return f"{_not_begun(first)}. Load it after that."
    return (
        f"none of the {len(sessions)} sessions asked for has begun; the first, {session_name(first)}, starts "
        f"{minute(_start(first))}. Load them after that."
    )


def _by_meeting(begun: Sequence[Record], others: Sequence[Record], listing: Listing) -> list[MeetingPlan]:
    records = _meetings(listing.meetings)
    to_settle = frozenset(record["session_key"] for record in others)
    groups: dict[tuple[int, int], list[SessionPlan]] = defaultdict(list)
    for record in sorted([*begun, *others], key=_start):
        meeting = records.get(record["meeting_key"])
        # The year of every row key is the meeting's.
        year = _year(meeting, record)
        groups[year, record["meeting_key"]].append(SessionPlan(session_scope(year, record, meeting), as_stored(record)))
    plans = []
    for (year, meeting_key), group in groups.items():
        meeting = records.get(meeting_key)
        if meeting is None:
            _log.warning("the source has sessions of meeting %d, but not the meeting itself", meeting_key)
        mine = to_settle & {session.scope.session_key for session in group if session.scope.session_key is not None}
        scope = meeting_scope(year, meeting_key, meeting, group)
        own = None if meeting is None else as_stored(meeting)
        plans.append(MeetingPlan(scope, own, tuple(group), listing.asked_at, mine))
    return plans


def _meetings(listed: Iterable[Any]) -> dict[int, Record]:
    """Return the records of meetings by their keys; of several with one key the one that stands in any order."""
    found: dict[int, Record] = {}
    for record in listed:
        key = record.get("meeting_key") if isinstance(record, dict) else None
        if not is_key(key):
            continue
        other = found.setdefault(key, record)
        if canonical_json(record) != canonical_json(other):
            _log.error("the source lists meeting %d twice, with other values; one of them is not stored", key)
            found[key] = winner([other, record])
    return found


def _year(meeting: Record | None, session: Record) -> int:
    year = None if meeting is None else meeting.get("year")
    return year if is_year(year) else int(session["year"])


def session_scope(year: int, record: Record, meeting: Mapping[str, Any] | None = None) -> Scope:
    """Return a session by its record; `meeting` is its meeting's record, for the name."""
    record = as_listed(record)
    kind = record.get("session_type")
    scope = Scope(
        year=year,
        meeting_key=record["meeting_key"],
        session_key=record["session_key"],
        date_start=lenient_time(record.get("date_start")),
        date_end=lenient_time(record.get("date_end")),
        name=f"{(meeting or {}).get('meeting_name') or session_name(record)}, {record.get('session_name')}",
        cancelled=bool(record.get("is_cancelled")),
        kind=kind if isinstance(kind, str) else "",
        place=_text(record.get("location")),
        title=_text(record.get("session_name")),
    )
    start, end = scope.date_start, scope.date_end
    if start is not None and end is not None and not timedelta(0) <= end - start <= _LONGEST_BELIEVED:
        _log.warning(
            "%s is said to end %s, which cannot be: it is taken to last 12 hours at the most",
            session_name(record), minute(end),
        )  # fmt: skip
        return replace(scope, date_end=None)
    return scope


def meeting_scope(
    year: int, meeting_key: int, record: Mapping[str, Any] | None, sessions: Sequence[SessionPlan]
) -> Scope:
    """Return a meeting as such by its record; its sessions say when it ends where the record does not."""
    record = record or {}
    return Scope(
        year=year,
        meeting_key=meeting_key,
        session_key=None,
        date_start=lenient_time(record.get("date_start")),
        date_end=lenient_time(record.get("date_end"))
        or max((s.scope.date_end for s in sessions if s.scope.date_end), default=None),
        name=f"{year} {record.get('meeting_name') or f'meeting {meeting_key}'}",
        cancelled=bool(record.get("is_cancelled")),
        place=_text(record.get("location")),
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _start(record: Record) -> datetime:
    """When a session begins; one without a time counts as begun long ago, so that it is not overlooked."""
    return lenient_time(record.get("date_start")) or LONG_AGO
