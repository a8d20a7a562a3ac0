"""Races and seasons of the history as sessions and meetings, by which loads are planned; knows no source and no store.

A plan goes by the fields that OpenF1's sessions and meetings have (`session_key`, `date_start` and so on). The records
of the history have others. `as_listed` adds what a plan needs, `as_stored` takes it away again.

>>> race = {"season": 1950, "round": 1, "race_name": "British Grand Prix", "date": "1950-05-13"}
>>> as_listed(race)["session_key"], as_listed(race)["date_end"]
(195001, '1950-05-14T00:00:00+00:00')
"""

from __future__ import annotations

from datetime import timedelta

from f1hbase.model.catalog import RACE
from f1hbase.model.samples import Record
from f1hbase.model.times import lenient_time
from f1hbase.model.units import race_scope, season_scope

_LONGEST_RACE = timedelta(hours=3)
"""A race ends two hours after its start at the latest, or three where it was interrupted (Sporting Regulations)."""

_LISTED = (
    "year", "meeting_key", "session_key", "date_start", "date_end", "session_name", "session_type", "meeting_name",
    "location",
)  # fmt: skip
"""What `as_listed` adds; no record of the history has fields of these names."""

_SEASON_NAME = "Formula 1 season"


def is_of_history(record: Record) -> bool:
    """Return whether a record is one of a race or a season of the history."""
    return type(record.get("season")) is int


def as_listed(record: Record) -> Record:
    """Return the record of a race or season with the fields by which sessions and meetings are listed.

    A race without a time of day lasts from midnight to midnight, and a season from New Year to New Year. Any other
    record is returned as it is.
    """
    if not is_of_history(record):
        return record
    season, number = record["season"], record.get("round")
    if type(number) is not int:
        scope = season_scope(season)
        keys = {"year": season, "meeting_key": scope.meeting_key}
        first, last = f"{season:04}-01-01T00:00:00+00:00", f"{season + 1:04}-01-01T00:00:00+00:00"
        return {**record, **keys, "meeting_name": _SEASON_NAME, "date_start": first, "date_end": last}
    scope = race_scope(season, number)
    return {
        **record,
        "year": season,
        "meeting_key": scope.meeting_key,
        "session_key": scope.session_key,
        **_times(record),
        "session_name": record.get("race_name"),
        "session_type": RACE,
        "location": record.get("circuit_location_locality"),
    }


def as_stored(record: Record) -> Record:
    """Return a record without what `as_listed` has added."""
    if not is_of_history(record):
        return record
    return {name: value for name, value in record.items() if name not in _LISTED}


def _times(record: Record) -> dict[str, str | None]:
    day, time = record.get("date"), record.get("time")
    start = lenient_time(f"{day}T{time}") if isinstance(time, str) else None
    lasts = _LONGEST_RACE
    if start is None:
        start, lasts = lenient_time(day), timedelta(days=1)
    if start is None:
        return {"date_start": None, "date_end": None}
    return {"date_start": start.isoformat(), "date_end": (start + lasts).isoformat()}
