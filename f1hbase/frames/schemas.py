"""The columns of each endpoint's tables: one fixed schema over all years; knows no store.

A number has the smallest type that holds every value that the API gives, a time is an instant in UTC. A field in which
the API mixes kinds of values (`gap_to_leader` is a number, a text such as `+1 LAP`, or a list) has a column for each.
What no column holds, a field that is not known today included, is in the last one, `extra`, as a JSON object.

>>> schema_of("intervals").names
['meeting_key', 'session_key', 'driver_number', 'date', 'gap_to_leader', 'gap_to_leader_text', 'interval', \
'interval_text', 'extra']
>>> schema_of("car_data").field("speed").type
DataType(int16)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache

import pyarrow as pa

from f1hbase.model.catalog import ALL_ENDPOINTS, Endpoint, KeyHash, KeyInt, KeyText

EXTRA = "extra"
"""The column of what has no other: a JSON object of fields and values as they were given, null where there is none."""

SCHEMA_VERSION = 1
"""Changes when a column is added or changes its type."""


class Kind(Enum):
    """Which JSON values a column takes."""

    WHOLE = "whole numbers"
    NUMBER = "numbers"
    TEXT = "texts"
    SWITCH = "true and false"
    TIME = "times"
    WHOLES = "lists of whole numbers"
    NUMBERS = "lists of numbers"


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        name: Its name.
        field: The field of the record it is made of.
        kind: Which values it takes; others are in another column of the field, or in `extra`.
        type: Its Arrow type.
    """

    name: str
    field: str
    kind: Kind
    type: pa.DataType


TIME = pa.timestamp("us", "UTC")

_INT8, _INT16, _INT32 = (Kind.WHOLE, pa.int8()), (Kind.WHOLE, pa.int16()), (Kind.WHOLE, pa.int32())
_DOUBLE = (Kind.NUMBER, pa.float64())
_SWITCH = (Kind.SWITCH, pa.bool_())
_TEXT = (Kind.TEXT, pa.string())
_TIME = (Kind.TIME, TIME)
_SEGMENTS = (Kind.WHOLES, pa.list_(pa.int16()))

# Most values are far from the bounds. Larger ones are not lost: they are in `extra`.
_KINDS: Mapping[str, tuple[Kind, pa.DataType]] = {
    **dict.fromkeys(("brake", "drs", "n_gear", "throttle"), _INT8),
    **dict.fromkeys(("rainfall", "sector", "qualifying_phase"), _INT8),
    **dict.fromkeys(("position", "position_current", "position_start"), _INT8),
    **dict.fromkeys(("rpm", "speed", "i1_speed", "i2_speed", "st_speed", "wind_direction", "year"), _INT16),
    **dict.fromkeys(
        ("driver_number", "overtaken_driver_number", "overtaking_driver_number", "lap_number", "number_of_laps",
         "stint_number", "lap_start", "lap_end", "tyre_age_at_start"), _INT16,
    ),
    **dict.fromkeys(
        ("season", "round", "number", "permanent_number", "driver_permanent_number", "grid", "laps", "lap", "stop",
         "fastest_lap_rank", "fastest_lap", "wins", "count", "status_id"), _INT16,
    ),
    **dict.fromkeys(("meeting_key", "session_key", "circuit_key", "country_key", "x", "y", "z"), _INT32),
    **dict.fromkeys(("openf1_meeting_key", "openf1_session_key", "time_millis"), _INT32),
    **dict.fromkeys(
        ("points", "fastest_lap_average_speed", "location_lat", "location_long", "circuit_location_lat",
         "circuit_location_long"), _DOUBLE,
    ),
    **dict.fromkeys(
        ("duration", "duration_sector_1", "duration_sector_2", "duration_sector_3", "gap_to_leader", "interval",
         "lane_duration", "lap_duration", "pit_duration", "stop_duration", "points_current", "points_start",
         "air_temperature", "humidity", "pressure", "track_temperature", "wind_speed"), _DOUBLE,
    ),
    **dict.fromkeys(("is_cancelled", "is_pit_out_lap", "dnf", "dns", "dsq"), _SWITCH),
    **dict.fromkeys(("date", "date_start", "date_end"), _TIME),
    **dict.fromkeys(("segments_sector_1", "segments_sector_2", "segments_sector_3"), _SEGMENTS),
    "team_name": _TEXT,
}  # fmt: skip

_NUMBERS = ("list", Kind.NUMBERS, pa.list_(pa.float64()))
_OR_TEXT = ("text", Kind.TEXT, pa.string())
_MIXED: Mapping[tuple[str, str], tuple[tuple[str, Kind, pa.DataType], ...]] = {
    ("intervals", "gap_to_leader"): (_OR_TEXT,),
    ("intervals", "interval"): (_OR_TEXT,),
    ("race_control", "qualifying_phase"): (_OR_TEXT,),
    ("session_result", "gap_to_leader"): (_OR_TEXT, _NUMBERS),
    ("session_result", "duration"): (_OR_TEXT, _NUMBERS),
}
"""The fields whose values are of several kinds, and the columns beside their own: a suffix, kind and type of each.

`gap_to_leader` is `+1 LAP` for lapped cars; of a qualifying, it and `duration` are lists of one value a phase."""


@cache
def columns_of(endpoint_name: str) -> tuple[Column, ...]:
    """Return the columns of an endpoint but for `extra`, those of the key first."""
    endpoint = ALL_ENDPOINTS[endpoint_name]
    columns = []
    for field in endpoint.fields:
        kind, arrow_type = _KINDS.get(field) or _TEXT
        if field in endpoint.text and kind is not Kind.TIME:
            kind, arrow_type = _TEXT
        columns.append(Column(field, field, kind, arrow_type))
        columns += [
            Column(f"{field}_{suffix}", field, other, other_type)
            for suffix, other, other_type in _MIXED.get((endpoint_name, field), ())
        ]
    return tuple(columns)


@cache
def schema_of(endpoint_name: str) -> pa.Schema:
    """Return the schema of an endpoint's tables."""
    columns = columns_of(endpoint_name)
    return pa.schema([pa.field(column.name, column.type) for column in columns] + [pa.field(EXTRA, pa.string())])


def sort_keys(endpoint: Endpoint) -> list[tuple[str, str]]:
    """Return by what the rows of a table are in order: the key, numbers as numbers."""
    names = ["year"] if endpoint.keyed_by_year else []
    names += endpoint.scope_fields
    for part in endpoint.key:
        if isinstance(part, KeyInt | KeyText):
            names.append(part.field)
        elif isinstance(part, KeyHash):
            names += part.fields
    return [(name, "ascending") for name in names]
