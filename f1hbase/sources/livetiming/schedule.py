"""Sessions and meetings, from the index of a season or from `SessionInfo`; the keys are OpenF1's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from f1hbase.model.samples import Record
from f1hbase.sources.livetiming.lines import BadLineError, parse
from f1hbase.sources.livetiming.messages import SessionContext
from f1hbase.sources.livetiming.spelling import gmt_offset, utc, whole

FIRST_YEAR = 2018
"""The first season in the archive."""

_CIRCUIT_URL = "https://api.multiviewer.app/api/v1/circuits"
"""Where OpenF1 says that the map of a circuit is, by F1's key of it and the year."""

_NEW_NAMES_SINCE = 2024
_NEW_NAMES = {"Sprint Shootout": "Sprint Qualifying"}
"""OpenF1 calls the sessions of earlier seasons by the names of today."""

SESSION_FIELDS = frozenset(
    {
        "meeting_key", "session_key", "circuit_key", "circuit_short_name", "country_code", "country_key",
        "country_name", "date_end", "date_start", "gmt_offset", "location", "session_name", "session_type", "year",
    }
)  # fmt: skip
MEETING_FIELDS = (SESSION_FIELDS - {"session_key", "session_name", "session_type"}) | {
    "circuit_info_url", "meeting_name", "meeting_official_name",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ListedSession:
    """A session of a season's index that has a key and files."""

    record: Record
    context: SessionContext


@dataclass(frozen=True, slots=True)
class Season:
    """What the index of a season says.

    Attributes:
        meetings: Their records.
        sessions: The sessions that can be loaded.
        left_out: The others, for people: what, when, and why.
    """

    meetings: Sequence[Record]
    sessions: Sequence[ListedSession]
    left_out: Sequence[str]


def read_season(body: bytes, year: int) -> Season:
    """Return what an index says.

    Raises:
        BadLineError: If it is no index.
    """
    content = parse(body)
    listed = content.get("Meetings") if isinstance(content, dict) else None
    if not isinstance(listed, list):
        raise BadLineError("it is no index of a season: it has no list of meetings")
    meetings: list[Record] = []
    sessions: list[ListedSession] = []
    left_out: list[str] = []
    for meeting in listed:
        if not isinstance(meeting, dict) or whole(meeting.get("Key")) is None:
            left_out.append(f"a meeting without a key: {meeting!r:.100}")
            continue
        held = meeting.get("Sessions")
        mine = [session for session in held if isinstance(session, dict)] if isinstance(held, list) else []
        for session in mine:
            reason = _fault(session)
            if reason is not None:
                left_out.append(f"{_name(meeting, session)}: {reason}")
                continue
            info = {**session, "Meeting": meeting}
            sessions.append(ListedSession(session_record(info, year), context_of(info)))
        record = meeting_record(meeting, mine, year)
        if record is not None:
            meetings.append(record)
    return Season(meetings, sessions, left_out)


def context_of(info: dict[str, Any]) -> SessionContext:
    """Return what a `SessionInfo` (or a session of an index, with its `Meeting`) says of a session.

    Raises:
        ValueError: If it has no keys.
    """
    meeting, key = whole(_of(info, "Meeting").get("Key")), whole(info.get("Key"))
    if meeting is None or key is None or key < 0:
        raise ValueError("the session has no key")
    path = str(info.get("Path") or "")
    return SessionContext(meeting, key, str(info.get("Type") or ""), f"{path.strip('/')}/" if path else "")


def session_record(info: dict[str, Any], year: int | None = None) -> Record:
    """Return the record of a session; `year` is that of its season if it is known."""
    meeting = _of(info, "Meeting")
    start, end = (_moment(info, name) for name in ("StartDate", "EndDate"))
    year = year if year is not None else (start.year if start else None)
    name = info.get("Name")
    if year is not None and year < _NEW_NAMES_SINCE and isinstance(name, str):
        name = _NEW_NAMES.get(name, name)
    return {
        "meeting_key": whole(meeting.get("Key")),
        "session_key": whole(info.get("Key")),
        **_place(meeting),
        "date_start": _spelled(start),
        "date_end": _spelled(end),
        "gmt_offset": info.get("GmtOffset"),
        "session_name": name,
        "session_type": info.get("Type"),
        "year": year,
    }


def meeting_record(
    meeting: dict[str, Any], sessions: Iterable[dict[str, Any]], year: int | None = None
) -> Record | None:
    """Return the record of a meeting, which lasts from its first session to its last; None without any date or year."""
    several = list(sessions)
    starts = sorted(moment for session in several if (moment := _moment(session, "StartDate")) is not None)
    ends = sorted(moment for session in several if (moment := _moment(session, "EndDate")) is not None)
    year = year if year is not None else (starts[0].year if starts else None)
    if year is None:
        return None
    circuit = whole(_of(meeting, "Circuit").get("Key"))
    return {
        "meeting_key": whole(meeting.get("Key")),
        **_place(meeting),
        "date_start": _spelled(starts[0] if starts else None),
        "date_end": _spelled(ends[-1] if ends else None),
        "gmt_offset": next((session.get("GmtOffset") for session in several if session.get("GmtOffset")), None),
        "meeting_name": meeting.get("Name"),
        "meeting_official_name": meeting.get("OfficialName"),
        "circuit_info_url": None if circuit is None else f"{_CIRCUIT_URL}/{circuit}/{year}",
        "year": year,
    }


def _place(meeting: dict[str, Any]) -> Record:
    country, circuit = _of(meeting, "Country"), _of(meeting, "Circuit")
    return {
        "circuit_key": whole(circuit.get("Key")),
        "circuit_short_name": circuit.get("ShortName"),
        "country_code": country.get("Code"),
        "country_key": whole(country.get("Key")),
        "country_name": country.get("Name"),
        "location": meeting.get("Location"),
    }


def _fault(session: dict[str, Any]) -> str | None:
    key = whole(session.get("Key"))
    if key is None or key < 0:
        return "without a key"
    return None if session.get("Path") else "without files"


def _name(meeting: dict[str, Any], session: dict[str, Any]) -> str:
    name = session.get("Name") or session.get("Type")
    return f"{meeting.get('Name')}, {name} of {session.get('StartDate')}"


def _moment(info: dict[str, Any], name: str) -> datetime | None:
    """Return a local time of the index in UTC; None where it or its offset cannot be read."""
    try:
        return (utc(info[name]) - gmt_offset(info["GmtOffset"])).astimezone(UTC)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _spelled(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _of(info: dict[str, Any], name: str) -> dict[str, Any]:
    part = info.get(name)
    return part if isinstance(part, dict) else {}
