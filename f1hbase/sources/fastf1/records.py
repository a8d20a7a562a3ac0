"""FastF1's frames to records of the catalogue's endpoints, with the keys and units that OpenF1 has.

What FastF1 knows of a lap beside that (tyre, tyre life, track status, whether it is accurate) is in further fields,
under FastF1's own names spelt with underscores. Knows frames by their columns, and imports no library.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.columns import SampleColumns
from f1hbase.model.samples import Record, Samples

FIELDS: Mapping[str, frozenset[str]] = {
    "drivers": frozenset(
        {
            "driver_number", "broadcast_name", "country_code", "first_name", "full_name", "headshot_url", "last_name",
            "name_acronym", "team_colour", "team_name",
        }
    ),
    "session_result": frozenset({"driver_number", "position", "number_of_laps"}),
    "laps": frozenset(
        {
            "driver_number", "lap_number", "date_start", "duration_sector_1", "duration_sector_2", "duration_sector_3",
            "i1_speed", "i2_speed", "is_pit_out_lap", "lap_duration", "st_speed",
        }
    ),
    "stints": frozenset({"driver_number", "stint_number", "compound", "lap_end", "lap_start", "tyre_age_at_start"}),
    "weather": frozenset(
        {
            "date", "air_temperature", "humidity", "pressure", "rainfall", "track_temperature", "wind_direction",
            "wind_speed",
        }
    ),
    "car_data": frozenset({"driver_number", "date", "brake", "drs", "n_gear", "rpm", "speed", "throttle"}),
    "location": frozenset({"driver_number", "date", "x", "y", "z"}),
}  # fmt: skip
"""What FastF1 has of each endpoint, beside the keys of meeting and session."""

TELEMETRY = {"car_data": "car_data", "location": "pos_data"}
"""What FastF1 calls the telemetry of an endpoint: a dict of frames by driver number."""

_CHANNELS: Mapping[str, Mapping[str, str]] = {
    "car_data": {
        "brake": "Brake", "drs": "DRS", "n_gear": "nGear", "rpm": "RPM", "speed": "Speed", "throttle": "Throttle",
    },
    "location": {"x": "X", "y": "Y", "z": "Z"},
}  # fmt: skip
"""What FastF1 calls the channels."""

_FURTHER_OF_LAP = {
    "Stint": "stint", "Compound": "compound", "TyreLife": "tyre_life", "FreshTyre": "fresh_tyre", "Team": "team",
    "TrackStatus": "track_status", "Position": "position", "IsPersonalBest": "is_personal_best",
    "IsAccurate": "is_accurate", "Deleted": "deleted", "DeletedReason": "deleted_reason",
    "FastF1Generated": "fastf1_generated", "PitInTime": "pit_in_time", "PitOutTime": "pit_out_time",
    "SpeedFL": "speed_fl",
}  # fmt: skip

Keys = Mapping[str, int]
"""`meeting_key` and `session_key`."""


def driver_records(session: Any, keys: Keys) -> Iterator[Record]:
    """Yield who drives, from `session.results`."""
    for row in _rows(session.results):
        number = _whole(row.get("DriverNumber"))
        names = {
            "broadcast_name": "BroadcastName", "country_code": "CountryCode", "first_name": "FirstName",
            "full_name": "FullName", "headshot_url": "HeadshotUrl", "last_name": "LastName",
            "name_acronym": "Abbreviation", "team_colour": "TeamColor", "team_name": "TeamName",
        }  # fmt: skip
        yield {**keys, "driver_number": number, **{name: _text(row.get(column)) for name, column in names.items()}}


def result_records(session: Any, keys: Keys) -> Iterator[Record]:
    """Yield the classification, of whoever has a position; with grid, points and status where FastF1 has them."""
    for row in _rows(session.results):
        position = _whole(row.get("Position"))
        if position is None:
            continue
        record = {**keys, "driver_number": _whole(row.get("DriverNumber")), "position": position}
        further = {
            "number_of_laps": _whole(row.get("Laps")), "classified_position": _text(row.get("ClassifiedPosition")),
            "grid_position": _whole(row.get("GridPosition")), "points": _number(row.get("Points")),
            "status": _text(row.get("Status")),
            **{name.lower(): _seconds(row.get(name)) for name in ("Q1", "Q2", "Q3")},
        }  # fmt: skip
        yield record | {name: value for name, value in further.items() if value is not None}


def lap_records(session: Any, keys: Keys) -> Iterator[Record]:
    """Yield the laps, with what FastF1 knows of them beside."""
    for row in _rows(session.laps):
        record: Record = {
            **keys,
            "driver_number": _whole(row.get("DriverNumber")),
            "lap_number": _whole(row.get("LapNumber")),
            "date_start": _moment(row.get("LapStartDate")),
            "lap_duration": _seconds(row.get("LapTime")),
            **{f"duration_sector_{n}": _seconds(row.get(f"Sector{n}Time")) for n in (1, 2, 3)},
            "i1_speed": _whole(row.get("SpeedI1")),
            "i2_speed": _whole(row.get("SpeedI2")),
            "st_speed": _whole(row.get("SpeedST")),
            "is_pit_out_lap": _seconds(row.get("PitOutTime")) is not None,
        }
        further = {name: _plain(row.get(column)) for column, name in _FURTHER_OF_LAP.items()}
        yield record | {name: value for name, value in further.items() if value is not None}


def stint_records(session: Any, keys: Keys) -> Iterator[Record]:
    """Yield the stints, put together from the laps of each."""
    stints: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for row in _rows(session.laps):
        number, stint = _whole(row.get("DriverNumber")), _whole(row.get("Stint"))
        if number is not None and stint is not None:
            stints.setdefault((number, stint), []).append(row)
    for (number, stint), rows in stints.items():
        laps = [lap for row in rows if (lap := _whole(row.get("LapNumber"))) is not None]
        lives = [life for row in rows if (life := _whole(row.get("TyreLife"))) is not None]
        yield {
            **keys, "driver_number": number, "stint_number": stint,
            "compound": next((text for row in rows if (text := _text(row.get("Compound")))), None),
            "lap_start": min(laps, default=None), "lap_end": max(laps, default=None),
            # FastF1 counts a lap as driven on the tyre when it is over.
            "tyre_age_at_start": min(lives) - 1 if lives else None,
        }  # fmt: skip


def weather_records(session: Any, keys: Keys) -> Iterator[Record]:
    """Yield the weather; without telemetry FastF1 knows no date of it, and there is none."""
    if session.t0_date is None:
        return
    for row in _rows(session.weather_data):
        yield {
            **keys, "date": _moment(session.t0_date + row["Time"]), "air_temperature": _number(row.get("AirTemp")),
            "humidity": _whole(row.get("Humidity")), "pressure": _number(row.get("Pressure")),
            "rainfall": int(bool(row.get("Rainfall"))), "track_temperature": _number(row.get("TrackTemp")),
            "wind_direction": _whole(row.get("WindDirection")), "wind_speed": _number(row.get("WindSpeed")),
        }  # fmt: skip


def telemetry_samples(endpoint: str, frame: Any, number: int, keys: Keys) -> Samples:
    """Return the samples of one driver: those that were sent, and not those that FastF1 makes between them.

    Where a value is missing, FastF1 has put in one for it, so that each is a number.
    """
    sent = frame[frame["Source"].isin(("car", "pos")) & frame["Date"].notna()]
    columns = {
        name: sent[column].fillna(0).round().astype(int).tolist() for name, column in _CHANNELS[endpoint].items()
    }
    if endpoint == "car_data":
        # FastF1 says whether the brake is on, and OpenF1 says 100 then.
        columns["brake"] = [100 * on for on in columns["brake"]]
    places = {**keys, "driver_number": number}
    columns |= {name: [place] * len(sent) for name, place in places.items()}
    columns["date"] = [_moment(one) for one in sent["Date"].tolist()]
    fields = ENDPOINTS[endpoint].fields
    return SampleColumns(ENDPOINTS[endpoint], [columns[field] for field in fields])


RECORDS: Mapping[str, Callable[[Any, Keys], Iterator[Record]]] = {
    "drivers": driver_records,
    "session_result": result_records,
    "laps": lap_records,
    "stints": stint_records,
    "weather": weather_records,
}
"""What makes the records of each endpoint that is no telemetry."""


def _rows(frame: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = frame.to_dict("records")
    return rows


def _is_missing(value: Any) -> bool:
    # NaN, NaT and pandas.NA are not equal to themselves, or say so by being neither.
    try:
        return value is None or bool(value != value)
    except TypeError:
        return True


def _is_bool(value: Any) -> bool:
    return type(value).__name__ in {"bool", "bool_"}


def _whole(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else round(number)


def _number(value: Any) -> float | None:
    if _is_missing(value):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _text(value: Any) -> str | None:
    return None if _is_missing(value) or value == "" else str(value)


def _seconds(value: Any) -> float | None:
    return None if _is_missing(value) else round(float(value.total_seconds()), 3)


def _moment(value: Any) -> str | None:
    """Return a time of FastF1's, which is UTC without saying so, as OpenF1 spells it."""
    if _is_missing(value):
        return None
    return f"{value.isoformat(timespec='microseconds' if value.microsecond else 'seconds')}+00:00"


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: durations in seconds."""
    if _is_missing(value) or value == "":
        return None
    if hasattr(value, "total_seconds"):
        return _seconds(value)
    if _is_bool(value):
        return bool(value)
    if isinstance(value, str):
        return value
    number = _number(value)
    return int(number) if number is not None and number == int(number) else number
