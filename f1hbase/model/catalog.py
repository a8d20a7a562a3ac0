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

HISTORY_FAMILIES = (
    "season", "circuit", "seasondriver", "constructor", "status", "race", "raceresult", "sprint", "qualifying",
    "pitstop", "laptime", "driverstanding", "constructorstanding",
)  # fmt: skip
"""The column families of `f1_history`; none is one of `f1_data`, too."""

SETTLES_AFTER = timedelta(hours=48)
"""How long after a session's end late samples and corrections of what is dated still come (docs/architecture.md)."""

RESULTS_SETTLE_AFTER = timedelta(days=14)
"""How long results, grids and championships are corrected: OpenF1 has done so weeks after a race."""

PRACTICE, QUALIFYING, RACE = "Practice", "Qualifying", "Race"
"""The types of sessions (`session_type`): a sprint is a race, a sprint shootout a qualifying, a test day a practice."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Endpoints whose records are of the same meetings and sessions, and in the same table.

    Attributes:
        name: For messages.
        table: The table, without a prefix.
        families: Its column families.
        meeting_fields: The fields of a record that say which meeting it is of.
        session_fields: Those that say which session.
        meetings, sessions: The endpoints that list the meetings and the sessions, which come with the plan.
        led_by_year: Whether row keys begin with the meeting's year, before the fields that say what a record is of.
    """

    name: str
    table: str
    families: tuple[str, ...]
    meeting_fields: tuple[str, ...]
    session_fields: tuple[str, ...]
    meetings: str
    sessions: str
    led_by_year: bool

    @property
    def listing(self) -> tuple[str, str]:
        """The endpoints whose records come with the plan."""
        return self.meetings, self.sessions


TIMING = Dataset(
    "timing", "f1_data", DATA_FAMILIES, ("meeting_key",), ("meeting_key", "session_key"), "meetings", "sessions",
    led_by_year=True,
)  # fmt: skip
"""What was measured in each session since 2018, as OpenF1 has it."""

HISTORY = Dataset(
    "history", "f1_history", HISTORY_FAMILIES, ("season",), ("season", "round"), "seasons", "races", led_by_year=False
)
"""The results since 1950, as Jolpica has them: a season takes the place of a meeting, and a race that of a session."""

DATASETS = (TIMING, HISTORY)


@dataclass(frozen=True, slots=True)
class KeyInt:
    """A component of the row key that is a whole number in the record; null, where that may be, is `-` in the key."""

    field: str
    optional: bool = False


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
        name: As in OpenF1's address, `/v1/<name>`; for `f1_history` our own.
        family: The column family that holds its cells.
        key: What follows `{year}#{meeting_key}#{session_key}` in the row key, or `{season}#{round}` in `f1_history`.
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
        dataset: Which table it is of.
        first_year: The first season of which there are records.
        usual_records: How many records a race (or a season) of the history has, about; 0 where that is not known.
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
    dataset: Dataset = TIMING
    first_year: int = 0
    usual_records: int = 0

    @property
    def scope_fields(self) -> tuple[str, ...]:
        """The fields of a record that say which session (or meeting) it is of; each a whole number."""
        return self.dataset.meeting_fields if self.of_meeting else self.dataset.session_fields

    @cached_property
    def key_fields(self) -> tuple[str, ...]:
        """The fields that the row key carries beside those that say what a record is of (`scope_fields`)."""
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

_DRIVER_ID = KeyText("driver_id")
_DRIVER_OF_RESULT = (
    "driver_id", "driver_permanent_number", "driver_code", "driver_url", "driver_given_name", "driver_family_name",
    "driver_date_of_birth", "driver_nationality",
)  # fmt: skip
_CONSTRUCTOR_OF_RESULT = ("constructor_id", "constructor_url", "constructor_name", "constructor_nationality")
_CIRCUIT_OF_RACE = (
    "circuit_id", "circuit_url", "circuit_name", "circuit_location_lat", "circuit_location_long",
    "circuit_location_locality", "circuit_location_country",
)  # fmt: skip
_CAR = KeyInt("number", optional=True)
_CLASSIFIED = (
    "season", "round", *_DRIVER_OF_RESULT, "number", *_CONSTRUCTOR_OF_RESULT, "position", "position_text", "points",
    "grid", "laps", "status", "time", "time_millis", "fastest_lap_rank", "fastest_lap", "fastest_lap_time",
    "fastest_lap_average_speed", "fastest_lap_average_speed_units",
)  # fmt: skip
_PARTS_OF_WEEKEND = (
    "first_practice", "second_practice", "third_practice", "qualifying", "sprint", "sprint_qualifying",
    "sprint_shootout",
)  # fmt: skip
_STANDING = ("season", "round", "position", "position_text", "points", "wins")
HISTORY_NUMBERS = frozenset(
    {
        "season", "round", "number", "driver_permanent_number", "permanent_number", "position", "points", "grid",
        "laps", "time_millis", "fastest_lap_rank", "fastest_lap", "fastest_lap_average_speed", "stop", "lap",
        "wins", "count", "status_id", "circuit_location_lat", "circuit_location_long", "location_lat", "location_long",
        "constructors", "openf1_meeting_key", "openf1_session_key",
    }
)  # fmt: skip
"""The fields of the history that are no texts."""


_USUAL_RECORDS = {
    "seasons": 1, "races": 1, "season_circuits": 15, "season_drivers": 45, "season_constructors": 18,
    "finishing_status": 30, "results": 24, "sprint_results": 20, "qualifying_results": 22, "driver_standings": 26,
    "constructor_standings": 12, "pit_stops": 40, "lap_times": 1_150,
}  # fmt: skip
"""Ergast had 26,759 results of 1,125 races, 24 each; a race of 60 laps with 19 cars has 1,150 times of laps."""


def _history(
    name: str, family: str, key: tuple[KeyPart, ...], fields: tuple[str, ...], *, of_season: bool = False,
    usual: bool = False, first_year: int = 1950,
) -> Endpoint:  # fmt: skip
    in_key = {part.field for part in key if isinstance(part, KeyText)}
    return Endpoint(
        name, family, key, fields, text=frozenset(fields) - HISTORY_NUMBERS - in_key, of_meeting=of_season,
        settles_after=RESULTS_SETTLE_AFTER, usual_in=frozenset({RACE}) if usual else frozenset(), dataset=HISTORY,
        first_year=first_year, usual_records=_USUAL_RECORDS[name],
    )  # fmt: skip


_ALL_HISTORY = (
    _history("seasons", "season", (), ("season", "url"), of_season=True),
    _history(
        "races", "race", (),
        (
            "season", "round", "url", "race_name", "date", "time", *_CIRCUIT_OF_RACE,
            *(f"{part}_{field}" for part in _PARTS_OF_WEEKEND for field in ("date", "time")),
            "openf1_meeting_key", "openf1_session_key",
        ),
    ),
    _history(
        "season_circuits", "circuit", (KeyWord("circuit"), KeyText("circuit_id")),
        (
            "season", "circuit_id", "url", "circuit_name", "location_lat", "location_long", "location_locality",
            "location_country",
        ),
        of_season=True,
    ),
    _history(
        "season_drivers", "seasondriver", (KeyWord("driver"), _DRIVER_ID),
        (
            "season", "driver_id", "permanent_number", "code", "url", "given_name", "family_name", "date_of_birth",
            "nationality",
        ),
        of_season=True,
    ),
    _history(
        "season_constructors", "constructor", (KeyWord("constructor"), KeyText("constructor_id")),
        ("season", "constructor_id", "url", "name", "nationality"), of_season=True,
    ),
    _history(
        "finishing_status", "status", (KeyWord("status"), KeyText("status")),
        ("season", "status", "status_id", "count"), of_season=True,
    ),
    _history("results", "raceresult", (_DRIVER_ID, _CAR), _CLASSIFIED, usual=True),
    _history("sprint_results", "sprint", (_DRIVER_ID, _CAR), _CLASSIFIED, first_year=2021),
    _history(
        "qualifying_results", "qualifying", (_DRIVER_ID, _CAR),
        (
            "season", "round", *_DRIVER_OF_RESULT, "number", *_CONSTRUCTOR_OF_RESULT, "position", "q1", "q2", "q3",
        ),
    ),
    _history(
        "driver_standings", "driverstanding", (_DRIVER_ID,), (*_STANDING, *_DRIVER_OF_RESULT, "constructors"),
        usual=True,
    ),
    _history(
        "constructor_standings", "constructorstanding", (KeyWord("constructor"), KeyText("constructor_id")),
        (*_STANDING, *_CONSTRUCTOR_OF_RESULT), first_year=1958,
    ),
    _history(
        "pit_stops", "pitstop", (_DRIVER_ID, KeyWord("stop"), KeyInt("stop")),
        ("season", "round", "driver_id", "stop", "lap", "time", "duration"), first_year=2011,
    ),
    _history(
        "lap_times", "laptime", (_DRIVER_ID, KeyWord("lap"), KeyInt("lap")),
        ("season", "round", "driver_id", "lap", "position", "time"), first_year=1996,
    ),
)  # fmt: skip

ENDPOINTS: Mapping[str, Endpoint] = MappingProxyType({endpoint.name: endpoint for endpoint in _ALL})
"""Every endpoint of `f1_data` by name, in the order in which a session is loaded: what is small and names drivers
first."""

HISTORY_ENDPOINTS: Mapping[str, Endpoint] = MappingProxyType({endpoint.name: endpoint for endpoint in _ALL_HISTORY})
"""Every endpoint of `f1_history` by name."""

ALL_ENDPOINTS: Mapping[str, Endpoint] = MappingProxyType({**ENDPOINTS, **HISTORY_ENDPOINTS})
"""Every endpoint of every table by name."""
