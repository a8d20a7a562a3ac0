"""Times as records and keys spell them; knows no endpoint.

All times inside f1hbase are aware datetimes in UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime

_NEVER = 9000
"""A year from which on a time stands for no date at all; arithmetic with it would leave the calendar."""

LONG_AGO = datetime.min.replace(tzinfo=UTC)
"""Before every session: sorts what has no time first."""


def parse_time(text: str) -> datetime:
    """Read an ISO 8601 time; without a zone it is UTC.

    Raises:
        ValueError: If it is not one, or none of the calendar in UTC.
    """
    moment = datetime.fromisoformat(text)
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"'{text}' is before or after all time") from None


def lenient_time(value: object) -> datetime | None:
    """Return the time that a value spells; None for anything else: no text, no time, a time no session can have."""
    if not isinstance(value, str):
        return None
    try:
        moment = parse_time(value)
    except (ValueError, OverflowError):
        return None
    return moment if moment.year < _NEVER else None


def moment_of(seconds: float) -> datetime:
    """Return the time so many seconds after 1970; `LONG_AGO` where the calendar has none: files can be of any year."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return LONG_AGO


def minute(moment: datetime) -> str:
    """Return a time for people, such as `2024-07-07 14:00 UTC`."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
