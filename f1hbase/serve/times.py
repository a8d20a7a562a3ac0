"""Instants as whole microseconds since 1970, which compare fast and lose nothing of an ISO date."""

import re
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
DAY = 86_400_000_000
"""In microseconds."""

MILLISECOND = 1_000
"""In microseconds."""

# The `+` of a zone, when it was not encoded, arrives as a space, so a space stands for it too.
_FILTER_TIME = re.compile(
    r"(?P<day>\d{4}-\d{2}-\d{2})"
    r"(?:[T ](?P<time>\d{2}(?::\d{2}(?::\d{2}(?:\.\d{1,9})?)?)?)\s?(?P<zone>Z|UTC|[+\- ]\d{2}:?\d{2})?)?",
    re.ASCII,
)


def instant(text: str) -> int:
    """Return the microseconds since 1970 of an ISO date; one without a zone is UTC.

    Raises ``ValueError`` when ``text`` is not an ISO date.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // _MICROSECOND


def isoformat(microseconds: int) -> str:
    """Return the API's spelling of an instant: UTC, and no fraction when it is zero."""
    return (_EPOCH + microseconds * _MICROSECOND).isoformat()


def filter_span(text: str) -> tuple[int, int] | None:
    """Return the instants that a date in a filter stands for, as a half-open range in microseconds.

    A whole day for ``2023-09-15``; for a date with a time its millisecond, to which the API's database cuts dates.
    None when ``text`` does not look like an ISO date; ``ValueError`` when it does and is none (``2023-13-01``).
    """
    match = _FILTER_TIME.fullmatch(text.strip())
    if match is None:
        return None
    if match["time"] is None:
        begin = instant(match["day"])
        return begin, begin + DAY
    zone = (match["zone"] or "Z").replace(" ", "+").replace("UTC", "Z")
    begin = instant(f"{match['day']}T{match['time']}{zone}") // MILLISECOND * MILLISECOND
    return begin, begin + MILLISECOND
