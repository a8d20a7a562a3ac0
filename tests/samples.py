"""Records, plans and strategies that several test files use. No real record is kept here."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from f1hbase.model.catalog import ENDPOINTS, Endpoint
from f1hbase.model.plans import MeetingPlan, Selection, SessionPlan
from f1hbase.model.records import JSON_SIGN
from f1hbase.model.samples import Samples, samples_of_json
from f1hbase.model.units import Scope
from f1hbase.stores.hbase.codec import checksum, decode, encode

REAL = Path(os.environ.get("OPENF1_REAL") or Path(__file__).resolve().parents[2] / "shared" / "openf1-real")
"""Real OpenF1 records, beside the project and no part of it; OPENF1_REAL names another folder."""

SILVERSTONE = "meeting-1240-silverstone-fp1"

needs_real_records = pytest.mark.skipif(not REAL.is_dir(), reason=f"the real OpenF1 records are not in {REAL}")

START = datetime(2024, 7, 7, 14, 0, tzinfo=UTC)
END = datetime(2024, 7, 7, 16, 0, tzinfo=UTC)
_DATE = "2024-07-07T14:03:01.500000+00:00"
_SESSION = {"meeting_key": 1240, "session_key": 9558}
_PLACE: dict[str, Any] = {
    "circuit_key": 2, "circuit_short_name": "Silverstone", "country_code": "GBR", "country_key": 2,
    "country_name": "Great Britain", "date_end": END.isoformat(), "date_start": START.isoformat(),
    "gmt_offset": "01:00:00", "is_cancelled": False, "location": "Silverstone", "year": 2024,
}  # fmt: skip
_CAR = {"driver_number": 44, "date": _DATE}
_POINTS = {"points_current": 110.5, "points_start": 85, "position_current": 8, "position_start": 8}

_RECORDS: dict[str, dict[str, Any]] = {
    "meetings": {
        "meeting_key": 1240, **_PLACE, "circuit_image": "https://example.org/silverstone.png",
        "circuit_info_url": "https://example.org/circuits/2", "circuit_type": "Permanent",
        "country_flag": "https://example.org/gb.png", "meeting_name": "British Grand Prix",
        "meeting_official_name": "FORMULA 1 BRITISH GRAND PRIX 2024",
    },
    "sessions": {**_SESSION, **_PLACE, "session_name": "Race", "session_type": "Race"},
    "drivers": {
        **_SESSION, "driver_number": 44, "broadcast_name": "L HAMILTON", "country_code": None, "first_name": "Lewis",
        "full_name": "Lewis HAMILTON", "headshot_url": "https://example.org/44.png", "last_name": "Hamilton",
        "name_acronym": "HAM", "team_colour": "27F4D2", "team_name": "Mercedes",
    },
    "session_result": {
        **_SESSION, "driver_number": 44, "dnf": False, "dns": False, "dsq": False, "duration": [88.1, None, 87.0],
        "gap_to_leader": "+1 LAP", "number_of_laps": 51, "position": 2,
    },
    "starting_grid": {**_SESSION, "driver_number": 44, "lap_duration": 86.5, "position": 2},
    "championship_drivers": {**_SESSION, "driver_number": 44, **_POINTS},
    "championship_teams": {**_SESSION, "team_name": "Mercedes", **_POINTS},
    "intervals": {**_SESSION, **_CAR, "gap_to_leader": 41.019, "interval": "+1 LAP"},
    "position": {**_SESSION, **_CAR, "position": 2},
    "team_radio": {**_SESSION, **_CAR, "recording_url": "https://example.org/HAM_44.mp3"},
    "laps": {
        **_SESSION, "driver_number": 44, "lap_number": 12, "date_start": _DATE, "duration_sector_1": 28.5,
        "duration_sector_2": None, "duration_sector_3": 24.0, "i1_speed": 287, "i2_speed": None,
        "is_pit_out_lap": False, "lap_duration": 88.123, "segments_sector_1": [2049, None, 2051],
        "segments_sector_2": [], "segments_sector_3": [2064], "st_speed": 301,
    },
    "pit": {
        **_SESSION, "driver_number": 44, "lap_number": 27, "date": _DATE, "lane_duration": 29.1,
        "pit_duration": 29.1, "stop_duration": 2.4,
    },
    "stints": {
        **_SESSION, "driver_number": 44, "stint_number": 2, "compound": "MEDIUM", "lap_end": 38, "lap_start": 28,
        "tyre_age_at_start": 0,
    },
    "weather": {
        **_SESSION, "date": _DATE, "air_temperature": 17.0, "humidity": 68, "pressure": 990.3, "rainfall": 0,
        "track_temperature": 27.5, "wind_direction": 210, "wind_speed": 2.4,
    },
    "race_control": {
        **_SESSION, "date": _DATE, "category": "Flag", "driver_number": None, "flag": "YELLOW", "lap_number": 3,
        "message": "YELLOW IN TRACK SECTOR 8", "qualifying_phase": None, "scope": "Sector", "sector": 8,
    },
    "overtakes": {
        **_SESSION, "date": _DATE, "overtaken_driver_number": 4, "overtaking_driver_number": 44, "position": 1,
    },
    "car_data": {
        **_SESSION, **_CAR, "brake": 0, "drs": 12, "n_gear": 8, "rpm": 11141, "speed": 315, "throttle": 99,
    },
    "location": {**_SESSION, **_CAR, "x": 567, "y": -3195, "z": 187},
}  # fmt: skip


def sample(endpoint: str, **changes: Any) -> dict[str, Any]:
    """Return a plausible record of an endpoint with every field it has today, but for `changes`."""
    return {**_RECORDS[endpoint], **changes}


def samples_of(records: list[dict[str, Any]], endpoint: str = "car_data") -> Samples:
    """Return records of a sampled endpoint as samples, which they must be."""
    samples = samples_of_json(ENDPOINTS[endpoint], json.dumps(records).encode())
    assert samples is not None
    return samples


def real_records(folder: str, endpoint: str) -> Iterator[dict[str, Any]]:
    """Yield the real records of one file."""
    with gzip.open(REAL / folder / f"{endpoint}.jsonl.gz", "rb") as lines:
        yield from map(json.loads, lines)


def exact(value: object) -> str:
    """Return a text that is equal only for the same JSON: unlike `==`, 1, 1.0 and true differ."""
    return json.dumps(value, sort_keys=True)


def unfaithful(endpoint: Endpoint, year: int, lines: list[bytes]) -> list[str]:
    """Return what of some JSON lines does not come back from its row as it went in."""
    wrong = []
    for line in lines:
        record = json.loads(line)
        row = encode(endpoint, year, record)
        back = decode(endpoint, row.key, row.cells)
        if len(back) != len(record) or not all(_same(back[field], value) for field, value in record.items()):
            wrong.append(f"{record} became {back}")
    return wrong


def _same(one: object, other: object) -> bool:
    """Return whether two values are the same JSON, quickly; `==` alone takes 1, 1.0 and true for one."""
    return one == other and type(one) is type(other) and (type(one) is not list or repr(one) == repr(other))


def table_checksum(endpoint: Endpoint, year: int, records: list[dict[str, Any]]) -> int:
    """Return the checksum of a unit of these records, as the reports keep it."""
    return sum(checksum(encode(endpoint, year, record)) for record in records) % 2**64


# --- hypothesis ---

AWKWARD_TEXTS = (
    "", " ", "12", " 1", "1 ", "1.0", "-0", "1e5", "1e999", "012", "0x1", "true", "True", "null", "None", "NaN",
    "Infinity", "-Infinity", '"x"', '"', "[1]", "[", "{}", "{", "+1 LAP", "#", "%", "%23", "%25", "%2523", "a#b", "\n",
    "\t1\n", "\x00", "\u2028", "\ufeff1", "Sergio Pérez", "周冠宇", "🏎", "1" * 5000,
)  # fmt: skip
"""Texts that are easily taken for something else than the text they are."""

texts = st.sampled_from(AWKWARD_TEXTS) | st.text(max_size=12)
"""Any text that UTF-8 can hold."""

numbers = st.integers() | st.integers(10**30, 10**40) | st.floats(allow_nan=False, allow_infinity=False)

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
"""Anything that JSON can say, null included."""

endpoints = st.sampled_from(list(ENDPOINTS.values()))


def key_values(endpoint: Endpoint, *, year: int) -> dict[str, st.SearchStrategy[Any]]:
    """Return strategies for the fields that the row key of an endpoint is made of."""
    wanted: dict[str, st.SearchStrategy[Any]] = {"meeting_key": st.integers(0, 2**63 - 1)}
    if endpoint.name != "meetings":
        wanted["session_key"] = st.integers(0, 2**63 - 1)
    for field in endpoint.key_fields:
        wanted[field] = texts if field in {"date", "team_name"} else st.integers(0, 2**63 - 1)
    if "year" in wanted:
        wanted["year"] = st.just(year)
    return wanted


@st.composite
def records(
    draw: st.DrawFn, endpoint: Endpoint, *, year: int = 2024, unknown: bool = True, faithful_types: bool = False
) -> dict[str, Any]:
    """Draw a record of an endpoint: any values, any known fields left out, any unknown ones added.

    `faithful_types` keeps strings (or null) in the text fields, as the API does.
    """
    keys = key_values(endpoint, year=year)
    others = {
        field: (st.none() | texts) if faithful_types and field in endpoint.text else json_values
        for field in endpoint.fields
        if field not in keys
    }
    record: dict[str, Any] = draw(st.fixed_dictionaries(keys, optional=others))
    if unknown:
        record |= draw(st.dictionaries(texts.filter(lambda name: is_free(endpoint, name)), json_values, max_size=3))
    return record


def is_free(endpoint: Endpoint, name: str) -> bool:
    """Return whether a field of this name would be one that the catalogue does not know."""
    own_sign = name.endswith(JSON_SIGN) and name.removesuffix(JSON_SIGN) in endpoint.known
    return name not in {*endpoint.fields, *endpoint.key_fields, "meeting_key"} and not own_sign


# --- plans ---


def a_scope(session_key: int | None = 9558, **changes: Any) -> Scope:
    """Return a session (or a meeting as such) of two hours."""
    values: dict[str, Any] = {"date_start": START, "date_end": END, "name": "British Grand Prix, Race"}
    return Scope(**({"year": 2024, "meeting_key": 1240, "session_key": session_key} | values | changes))


def a_meeting(key: int = 1240, location: str = "Silverstone", **changes: Any) -> MeetingPlan:
    """Return a meeting with one session."""
    meeting = a_scope(None, meeting_key=key, name=f"2024 {location} Grand Prix")
    session = SessionPlan(a_scope(meeting_key=key, **changes), sample("sessions", meeting_key=key))
    return MeetingPlan(meeting, sample("meetings", meeting_key=key, location=location), (session,), END + WEEK)


def a_selection(**choices: Any) -> Selection:
    """Return a requested scope; `endpoint` or `driver` may name one."""
    for one, several in (("endpoint", "endpoints"), ("driver", "drivers")):
        if one in choices:
            choices[several] = (choices.pop(one),)
    return Selection(**choices)


HOUR = timedelta(hours=1)
WEEK = timedelta(days=7)
