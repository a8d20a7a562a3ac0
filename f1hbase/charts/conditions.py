"""What went on around the cars: weather, messages of race control, and the periods that slowed everybody."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from f1hbase.charts.tables import (
    Numbers,
    SessionTables,
    Texts,
    Times,
    moment_of,
    numbers,
    seconds_between,
    texts,
    times,
    wholes,
)
from f1hbase.frames.session import Session
from f1hbase.model.times import lenient_time

SAFETY_CAR, VIRTUAL_SAFETY_CAR, RED_FLAG = "safety car", "virtual safety car", "red flag"

_DELETED = re.compile(r"\bCAR (\d+) .*?\b(DELETED|REINSTATED)\b.*?\bLAP (\d+)\b")


@dataclass(frozen=True, slots=True)
class Period:
    """A time in which nobody could race.

    Attributes:
        kind: `safety car`, `virtual safety car` or `red flag`.
        start: When it began, in UTC.
        end: When it ended; NaT if no message says so.
    """

    kind: str
    start: np.datetime64
    end: np.datetime64


@dataclass(frozen=True, slots=True)
class Conditions:
    """The weather, a row a minute or so.

    Attributes:
        date: When it was measured.
        seconds: The same since the session's start.
        air_temperature: In degrees Celsius.
        track_temperature: In degrees Celsius.
        humidity: In percent.
        pressure: In hPa.
        rainfall: 1 where it rains, 0 where not.
        wind_direction: In degrees, 0 to 359.
        wind_speed: In m/s.
        missing: What is not there, in words.
    """

    date: Times
    seconds: Numbers
    air_temperature: Numbers
    track_temperature: Numbers
    humidity: Numbers
    pressure: Numbers
    rainfall: Numbers
    wind_direction: Numbers
    wind_speed: Numbers
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RaceControl:
    """The messages of race control on the time line, a row each, in order of time.

    Attributes:
        date: When it was sent.
        seconds: The same since the session's start.
        lap_number: The lap, as the message has it; NaN where it has none.
        driver_number: The driver, likewise.
        sector: The marshalling sector, likewise.
        category: `Flag`, `SafetyCar`, `Drs`, `CarEvent`, `SessionStatus`, `Other` ...
        flag: `GREEN`, `YELLOW`, `RED`, `BLUE`, `CHEQUERED` ...
        scope: `Track`, `Sector` or `Driver`.
        message: Its words.
        periods: The safety cars and red flags that follow from them.
        missing: What is not there, in words.
    """

    date: Times
    seconds: Numbers
    lap_number: Numbers
    driver_number: Numbers
    sector: Numbers
    category: Texts
    flag: Texts
    scope: Texts
    message: Texts
    periods: tuple[Period, ...]
    missing: tuple[str, ...]


def weather(session: Session | SessionTables) -> Conditions:
    """Return the weather of a session."""
    tables = SessionTables.of(session)
    table = tables.table("weather")
    date = times(table, "date")
    return Conditions(
        date, seconds_between(session_start(tables), date), numbers(table, "air_temperature"),
        numbers(table, "track_temperature"), numbers(table, "humidity"), numbers(table, "pressure"),
        numbers(table, "rainfall"), numbers(table, "wind_direction"), numbers(table, "wind_speed"),
        tables.missing("weather"),
    )  # fmt: skip


def race_control(session: Session | SessionTables) -> RaceControl:
    """Return the messages of race control of a session."""
    tables = SessionTables.of(session)
    table = tables.table("race_control")
    date = times(table, "date")
    return RaceControl(
        date, seconds_between(session_start(tables), date), numbers(table, "lap_number"),
        numbers(table, "driver_number"), numbers(table, "sector"), texts(table, "category"), texts(table, "flag"),
        texts(table, "scope"), texts(table, "message"), neutralisations(tables), tables.missing("race_control"),
    )  # fmt: skip


def neutralisations(session: Session | SessionTables) -> tuple[Period, ...]:
    """Return when the safety car, a virtual one or a red flag slowed everybody, as race control's messages have it.

    A safety car lasts from its deployment until the track is clear or green after `SAFETY CAR IN THIS LAP`; a virtual
    one until the track is clear or green, or until it is said to be ending; a red flag until the track is green. One
    that is followed by another ends there, and the chequered flag ends all.
    """
    tables = SessionTables.of(session)
    table = tables.table("race_control")
    rows = zip(
        times(table, "date"), texts(table, "category"), texts(table, "flag"), texts(table, "scope"),
        texts(table, "message"), strict=True,
    )  # fmt: skip
    periods: list[Period] = []
    kind, start, coming_in = "", np.datetime64("NaT", "us"), False
    last_call = start
    for date, category, flag, scope, message in rows:
        words = message.upper()
        begins = _beginning(category, flag, scope, words)
        clear = scope == "Track" and flag in ("GREEN", "CLEAR") and (kind != RED_FLAG or flag == "GREEN")
        ends = (
            flag == "CHEQUERED"
            or (clear and (kind != SAFETY_CAR or coming_in))
            or (category == "SessionStatus" and words in ("SESSION FINISHED", "SESSION ENDS"))
        )
        if kind and (ends or (begins and begins != kind)):
            periods.append(Period(kind, start, date))
            kind, coming_in = "", False
        if begins and not kind:
            kind, start, coming_in = begins, date, False
        elif _is_last_call(kind, words):
            coming_in, last_call = True, date
    if kind:
        periods.append(Period(kind, start, last_call if coming_in else np.datetime64("NaT", "us")))
    return tuple(periods)


def _beginning(category: str, flag: str, scope: str, words: str) -> str:
    if flag == "RED" and scope != "Driver":
        return RED_FLAG
    if category == "SafetyCar" and "DEPLOYED" in words:
        return VIRTUAL_SAFETY_CAR if words.startswith(("VIRTUAL", "VSC")) else SAFETY_CAR
    return ""


def _is_last_call(kind: str, words: str) -> bool:
    if kind == SAFETY_CAR:
        return words.startswith("SAFETY CAR IN THIS LAP")
    return kind == VIRTUAL_SAFETY_CAR and "ENDING" in words


def deleted_laps(tables: SessionTables) -> set[tuple[int, int]]:
    """Return the laps, by driver and number, whose times race control deleted and did not reinstate."""
    found: set[tuple[int, int]] = set()
    for message in texts(tables.table("race_control"), "message"):
        told = _DELETED.search(message.upper())
        if told is None:
            continue
        lap = (int(told[1]), int(told[3]))
        if told[2] == "DELETED":
            found.add(lap)
        else:
            found.discard(lap)
    return found


def session_start(tables: SessionTables) -> np.datetime64:
    """Return when a session began: of a race the first lap, else as it was announced, else as the laps say; or NaT."""
    laps = tables.table("laps")
    starts = times(laps, "date_start")
    if tables.is_race:
        starts = starts[wholes(laps, "lap_number") == 1]
    starts = starts[~np.isnat(starts)]
    announced = moment_of(lenient_time(tables.session.record.get("date_start")))
    if (tables.is_race or np.isnat(announced)) and len(starts):
        return np.datetime64(starts.min(), "us")
    return announced
