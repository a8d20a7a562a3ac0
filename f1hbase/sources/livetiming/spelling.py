"""How the service spells times and numbers, and how OpenF1's REST API spells the same; knows no topic."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

_UTC = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?Z?", re.ASCII)
_OFFSET = re.compile(r"(\d+):(\d\d):(\d\d)(?:\.(\d{1,7}))?", re.ASCII)
_LAP_TIME = re.compile(r"(?:(?:(\d+):)?(\d{1,2}):)?(\d{1,3})(?:\.(\d{1,6}))?", re.ASCII)
_ZONE = re.compile(r"(-?)(\d\d):(\d\d):(\d\d)", re.ASCII)
_LARGEST_WHOLE = 2**63
_MILLISECOND = timedelta(milliseconds=1)


def spelled(moment: datetime) -> str:
    """Return a time as OpenF1's REST API has it: cut (not rounded) to milliseconds, six digits or none.

    >>> spelled(datetime(2025, 10, 25, 20, 47, 21, 931999, UTC))
    '2025-10-25T20:47:21.931000+00:00'
    """
    return cut(moment).isoformat()


def cut(moment: datetime) -> datetime:
    """Return a time cut to milliseconds."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def spelled_utc(text: str) -> str:
    """Return a time of the service's own (`2025-10-25T20:47:27.8778921Z`, with or without `Z`) in that spelling.

    >>> spelled_utc("2025-03-16T03:16:04.01Z")
    '2025-03-16T03:16:04.010000+00:00'
    >>> spelled_utc("2025-03-16T03:15:05")
    '2025-03-16T03:15:05+00:00'

    Raises:
        ValueError: If it is none.
    """
    match = _UTC.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is no time")
    seconds, fraction = match.groups()
    if not fraction or (digits := fraction[:3].ljust(3, "0")) == "000":
        return f"{seconds}+00:00"
    return f"{seconds}.{digits}000+00:00"


def utc(text: str) -> datetime:
    """Return a time of the service's own, to the microsecond.

    Raises:
        ValueError: If it is none.
    """
    match = _UTC.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is no time")
    seconds, fraction = match.groups()
    microseconds = int((fraction or "0")[:6].ljust(6, "0"))
    return datetime.fromisoformat(seconds).replace(microsecond=microseconds, tzinfo=UTC)


def offset(text: str) -> timedelta:
    """Return the time since the start of a file's clock that a line begins with, such as `01:11:04.199`.

    Raises:
        ValueError: If it is none.
    """
    match = _OFFSET.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is no time since the start")
    hours, minutes, seconds, fraction = match.groups()
    microseconds = int((fraction or "0").ljust(7, "0")) // 10
    return timedelta(hours=int(hours), minutes=int(minutes), seconds=int(seconds), microseconds=microseconds)


def gmt_offset(text: str) -> timedelta:
    """Return how far local time is ahead of UTC, such as `-06:00:00`.

    Raises:
        ValueError: If it is none.
    """
    match = _ZONE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is no offset from UTC")
    sign, hours, minutes, seconds = match.groups()
    ahead = timedelta(hours=int(hours), minutes=int(minutes), seconds=int(seconds))
    return -ahead if sign else ahead


def seconds_of(text: Any) -> float | None:
    """Return a lap or sector time (`1:23.456`, `23.456`) in seconds; None for anything else, such as an empty text.

    >>> seconds_of("2:01.201")
    121.201
    """
    match = _LAP_TIME.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    hours, minutes, seconds, fraction = match.groups()
    whole = (int(hours or 0) * 60 + int(minutes or 0)) * 60 + int(seconds)
    return float(f"{whole}.{fraction or 0}")


def number(text: Any) -> float | None:
    """Return the number that a text spells; None if it spells none."""
    try:
        return float(text)
    except (TypeError, ValueError, OverflowError):
        return None


def whole(text: Any) -> int | None:
    """Return the whole number that a text spells; None if it spells none, or one that no counter reaches (64 bits)."""
    try:
        found = int(text)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if abs(found) < _LARGEST_WHOLE else None


def is_within_ms(one: datetime, other: datetime) -> bool:
    """Return whether two times are the same millisecond."""
    return abs(cut(one) - cut(other)) < _MILLISECOND
