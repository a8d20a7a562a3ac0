"""Tyres and pit stops."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from f1hbase.charts.conditions import session_start
from f1hbase.charts.drivers import DriverStyle, driver_styles
from f1hbase.charts.tables import (
    Numbers,
    SessionTables,
    Texts,
    Times,
    Wholes,
    chosen,
    numbers,
    seconds_between,
    texts,
    times,
    wholes,
)
from f1hbase.frames.session import Session


@dataclass(frozen=True, slots=True)
class Stints:
    """The stints, a row each, by driver and number.

    Attributes:
        driver_number: Whose.
        stint_number: Which.
        lap_start: Its first lap.
        lap_end: Its last lap, included.
        compound: `SOFT`, `MEDIUM`, `HARD`, `INTERMEDIATE`, `WET`; empty where it is unknown.
        tyre_age_at_start: How many laps the tyres had done; NaN where it is unknown.
        drivers: Who drives, in order.
        missing: What is not there, in words; stints that end before they begin are left out, and counted here.
    """

    driver_number: Wholes
    stint_number: Wholes
    lap_start: Wholes
    lap_end: Wholes
    compound: Texts
    tyre_age_at_start: Numbers
    drivers: tuple[DriverStyle, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PitStops:
    """The pit stops, a row each, by driver and lap.

    Attributes:
        driver_number: Whose.
        lap_number: The lap that ended in the pit lane.
        date: When.
        seconds: The same since the session's start.
        lane_seconds: How long the car was in the pit lane.
        stop_seconds: How long it stood; NaN where that is unknown, as in most of 2023.
        drivers: Who drives, in order.
        missing: What is not there, in words.
    """

    driver_number: Wholes
    lap_number: Wholes
    date: Times
    seconds: Numbers
    lane_seconds: Numbers
    stop_seconds: Numbers
    drivers: tuple[DriverStyle, ...]
    missing: tuple[str, ...]


def stints(session: Session | SessionTables, drivers: Iterable[int] = ()) -> Stints:
    """Return the stints with their tyres.

    Args:
        session: The session.
        drivers: Only theirs; by default all.
    """
    tables = SessionTables.of(session)
    table = tables.table("stints")
    number, first, last = wholes(table, "driver_number"), numbers(table, "lap_start"), numbers(table, "lap_end")
    mine = chosen(drivers, number)
    usable = mine & (last >= first)
    missing = list(tables.missing("stints", "drivers"))
    odd = int((mine & ~usable).sum())
    if odd:
        missing.append(f"stints: {odd} of {int(mine.sum())} have no laps that they could be drawn at")
    return Stints(
        number[usable], wholes(table, "stint_number")[usable], first[usable].astype(np.int64),
        last[usable].astype(np.int64), texts(table, "compound")[usable], numbers(table, "tyre_age_at_start")[usable],
        driver_styles(tables, dict.fromkeys(number[usable].tolist())), tuple(missing),
    )  # fmt: skip


def pit_stops(session: Session | SessionTables, drivers: Iterable[int] = ()) -> PitStops:
    """Return the pit stops.

    Args:
        session: The session.
        drivers: Only theirs; by default all.
    """
    tables = SessionTables.of(session)
    table = tables.table("pit")
    number, date = wholes(table, "driver_number"), times(table, "date")
    mine = chosen(drivers, number)
    lane = numbers(table, "lane_duration")
    # Records of before 2025 have the time in the lane as pit_duration alone.
    lane = np.where(np.isnan(lane), numbers(table, "pit_duration"), lane)
    return PitStops(
        number[mine], wholes(table, "lap_number")[mine], date[mine],
        seconds_between(session_start(tables), date)[mine], lane[mine], numbers(table, "stop_duration")[mine],
        driver_styles(tables, dict.fromkeys(number[mine].tolist())), tables.missing("pit", "drivers"),
    )  # fmt: skip
