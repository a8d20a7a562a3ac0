"""What a record is, endpoint by endpoint: its family, its key, its fields, how long it may still change.

This is the only place that knows endpoints; how a particular source is asked for one is that source's. A new endpoint
is one more entry of `ENDPOINTS`.

>>> ENDPOINTS["car_data"].family
'car'
>>> ENDPOINTS["stints"].key_fields
('driver_number', 'stint_number')
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from types import MappingProxyType

DATA_FAMILIES = (
    "car", "driver", "intervals", "laps", "location", "meeting", "pit", "position", "racecontrol", "session",
    "stints", "teamradio", "weather", "overtakes", "result", "grid", "championship",
)  # fmt: skip
"""The column families of `f1_data`."""

SETTLES_AFTER = timedelta(hours=48)
"""How long after a session's end late samples and corrections of what is dated still come (docs/architecture.md)."""

RESULTS_SETTLE_AFTER = timedelta(days=14)
"""How long results, grids and championships are corrected: OpenF1 has done so weeks after a race."""

PRACTICE, QUALIFYING, RACE = "Practice", "Qualifying", "Race"
"""The types of sessions (`session_type`): a sprint is a race, a sprint shootout a qualifying, a test day a practice."""


@dataclass(frozen=True, slots=True)
class KeyInt:
    """A component of the row key that is a whole number in the record."""

    field: str


@dataclass(frozen=True, slots=True)
class KeyText:
    """A component of the row key that is a string in the record, such as a date."""

    field: str


@dataclass(frozen=True, slots=True)
class KeyWord:
    """A fixed word in the row key."""

    word: str


@dataclass(frozen=True, slots=True)
class KeyHash:
    """The first 8 hex digits of a SHA-256 over fields of the record that are cells as well."""

    fields: tuple[str, ...]


KeyPart = KeyInt | KeyText | KeyWord | KeyHash


@dataclass(frozen=True)
class Endpoint:
    """One kind of record.

    Attributes:
        name: As in OpenF1's address, `/v1/<name>`.
        family: The column family of `f1_data` that holds its cells.
        key: What follows `{year}#{meeting_key}#{session_key}` in the row key.
        fields: The fields known today, those in the key included. Others are kept all the same.
        text: The fields whose cells hold the string as it is; every other cell describes itself.
        of_meeting: Whether a record belongs to a meeting as such and has no session key.
        sampled: Whether its records are samples, about four a second and car, so that a session's are loaded by
            windows of time; all others are one unit a session.
        time_field: The field that orders its records in time, where each has one.
        numeric: Whether every known field but the date is a number.
        settles_after: How long after the session's end its records may still change.
        usual_in: The types of sessions that have at least one record of it when they were held.
        noun: What people call one of its records.
    """

    name: str
    family: str
    key: tuple[KeyPart, ...]
    fields: tuple[str, ...]
    text: frozenset[str] = frozenset()
    of_meeting: bool = False
    sampled: bool = False
    time_field: str | None = None
    numeric: bool = False
    settles_after: timedelta = SETTLES_AFTER
    usual_in: frozenset[str] = frozenset()
    noun: str = "record"

    @cached_property
    def key_fields(self) -> tuple[str, ...]:
        """The fields that the row key carries beside `meeting_key` and `session_key`."""
        if self.keyed_by_year:
            return ("year",)
        return tuple(part.field for part in self.key if isinstance(part, KeyInt | KeyText))

    @cached_property
    def known(self) -> frozenset[str]:
        """The fields known today, as a set."""
        return frozenset(self.fields)

    @property
    def keyed_by_year(self) -> bool:
        """Whether the record itself states the year that every row key begins with."""
        return self.name in {"meetings", "sessions"}

    @property
    def by_driver(self) -> bool:
        """Whether each record belongs to one driver, so that the endpoint can be asked for one driver."""
        return "driver_number" in self.key_fields


_ALWAYS = frozenset({PRACTICE, QUALIFYING, RACE})
_S = ("meeting_key", "session_key")
_DRIVER = KeyInt("driver_number")
_DATE = KeyText("date")
_PLACE = (
    "circuit_key", "circuit_short_name", "country_code", "country_key", "country_name",
    "date_end", "date_start", "gmt_offset", "is_cancelled", "location", "year",
)  # fmt: skip
_PLACE_TEXT = frozenset(_PLACE) - {"circuit_key", "country_key", "is_cancelled", "year"}
_MEETING_TEXT = (
    "circuit_image", "circuit_info_url", "circuit_type", "country_flag", "meeting_name", "meeting_official_name",
)  # fmt: skip
_SESSION_TEXT = ("session_name", "session_type")
_DRIVER_TEXT = (
    "broadcast_name", "country_code", "first_name", "full_name", "headshot_url", "last_name", "name_acronym",
    "team_colour", "team_name",
)  # fmt: skip

_ALL = (
    Endpoint(
        "meetings", "meeting", key=(), fields=("meeting_key", *_PLACE, *_MEETING_TEXT),
        text=_PLACE_TEXT | set(_MEETING_TEXT), of_meeting=True, noun="meeting",
    ),
    Endpoint(
        "sessions", "session", key=(), fields=(*_S, *_PLACE, *_SESSION_TEXT),
        text=_PLACE_TEXT | set(_SESSION_TEXT), noun="session",
    ),
    Endpoint(
        "drivers", "driver", key=(_DRIVER,), fields=(*_S, "driver_number", *_DRIVER_TEXT),
        text=frozenset(_DRIVER_TEXT), usual_in=_ALWAYS, noun="driver",
    ),
    Endpoint(
        "session_result", "result", key=(_DRIVER,),
        fields=(
            *_S, "driver_number", "dnf", "dns", "dsq", "duration", "gap_to_leader", "number_of_laps", "position",
        ),
        settles_after=RESULTS_SETTLE_AFTER, usual_in=_ALWAYS, noun="result",
    ),
    Endpoint(
        "starting_grid", "grid", key=(_DRIVER,), fields=(*_S, "driver_number", "lap_duration", "position"),
        settles_after=RESULTS_SETTLE_AFTER, noun="place",
    ),
    Endpoint(
        "championship_drivers", "championship", key=(_DRIVER,),
        fields=(
            *_S, "driver_number", "points_current", "points_start", "position_current", "position_start",
        ),
        settles_after=RESULTS_SETTLE_AFTER, usual_in=frozenset({RACE}),
    ),
    Endpoint(
        "championship_teams", "championship", key=(KeyWord("championship_teams"), KeyText("team_name")),
        fields=(*_S, "team_name", "points_current", "points_start", "position_current", "position_start"),
        settles_after=RESULTS_SETTLE_AFTER, usual_in=frozenset({RACE}),
    ),
    Endpoint(
        "intervals", "intervals", key=(_DRIVER, _DATE),
        fields=(*_S, "driver_number", "date", "gap_to_leader", "interval"), time_field="date",
        usual_in=frozenset({RACE}),
    ),
    Endpoint(
        "position", "position", key=(_DRIVER, _DATE), fields=(*_S, "driver_number", "date", "position"),
        time_field="date", usual_in=_ALWAYS,
    ),
    Endpoint(
        "team_radio", "teamradio", key=(_DRIVER, _DATE), fields=(*_S, "driver_number", "date", "recording_url"),
        text=frozenset({"recording_url"}), time_field="date", noun="message",
    ),
    Endpoint(
        "laps", "laps", key=(_DRIVER, KeyInt("lap_number")),
        fields=(
            *_S, "driver_number", "lap_number", "date_start", "duration_sector_1", "duration_sector_2",
            "duration_sector_3", "i1_speed", "i2_speed", "is_pit_out_lap", "lap_duration", "segments_sector_1",
            "segments_sector_2", "segments_sector_3", "st_speed",
        ),
        # No time_field: a lap's date_start may be null, so a filter on it would lose laps.
        text=frozenset({"date_start"}), usual_in=_ALWAYS, noun="lap",
    ),
    Endpoint(
        "pit", "pit", key=(_DRIVER, KeyInt("lap_number")),
        fields=(*_S, "driver_number", "lap_number", "date", "lane_duration", "pit_duration", "stop_duration"),
        text=frozenset({"date"}), usual_in=frozenset({RACE}), noun="pit stop",
    ),
    Endpoint(
        "stints", "stints", key=(_DRIVER, KeyWord("stint"), KeyInt("stint_number")),
        fields=(*_S, "driver_number", "stint_number", "compound", "lap_end", "lap_start", "tyre_age_at_start"),
        text=frozenset({"compound"}), usual_in=_ALWAYS, noun="stint",
    ),
    Endpoint(
        "weather", "weather", key=(KeyWord("weather"), _DATE),
        fields=(
            *_S, "date", "air_temperature", "humidity", "pressure", "rainfall", "track_temperature",
            "wind_direction", "wind_speed",
        ),
        time_field="date", usual_in=_ALWAYS,
    ),
    Endpoint(
        "race_control", "racecontrol",
        key=(
            KeyWord("race_control"), _DATE,
            KeyHash(("driver_number", "lap_number", "category", "flag", "scope", "sector", "message")),
        ),
        fields=(
            *_S, "date", "category", "driver_number", "flag", "lap_number", "message", "qualifying_phase", "scope",
            "sector",
        ),
        text=frozenset({"category", "flag", "message", "scope"}), time_field="date", usual_in=_ALWAYS, noun="message",
    ),
    Endpoint(
        "overtakes", "overtakes",
        key=(
            KeyWord("overtakes"), _DATE, KeyInt("overtaking_driver_number"), KeyInt("overtaken_driver_number"),
        ),
        fields=(*_S, "date", "overtaken_driver_number", "overtaking_driver_number", "position"),
        time_field="date", noun="overtake",
    ),
    Endpoint(
        "car_data", "car", key=(_DRIVER, _DATE),
        fields=(*_S, "driver_number", "date", "brake", "drs", "n_gear", "rpm", "speed", "throttle"),
        sampled=True, time_field="date", numeric=True, usual_in=_ALWAYS, noun="sample",
    ),
    Endpoint(
        "location", "location", key=(_DRIVER, _DATE), fields=(*_S, "driver_number", "date", "x", "y", "z"),
        sampled=True, time_field="date", numeric=True, usual_in=_ALWAYS, noun="sample",
    ),
)  # fmt: skip

ENDPOINTS: Mapping[str, Endpoint] = MappingProxyType({endpoint.name: endpoint for endpoint in _ALL})
"""Every endpoint by name, in the order in which a session is loaded: what is small and names drivers first."""
