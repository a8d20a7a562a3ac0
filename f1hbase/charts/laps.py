"""Lap times, positions and gaps by lap; what slowed a lap is marked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from f1hbase.charts.conditions import deleted_laps, neutralisations, session_start
from f1hbase.charts.drivers import DriverStyle, driver_styles
from f1hbase.charts.tables import (
    MICROS,
    Flags,
    Numbers,
    SessionTables,
    Texts,
    Times,
    Wholes,
    chosen,
    flags,
    numbers,
    seconds_between,
    texts,
    times,
    wholes,
)
from f1hbase.frames.session import Session

SLOW_BEYOND = 1.07
"""A lap that takes longer than 107 % of the session's best is marked as slow: the share of the qualifying rule."""

_IN_THE_LANE = 2064
"""The mini sector status that means the pit lane (OpenF1's documentation of laps)."""

_SAME_MOMENT_SECONDS = 1.0
"""How far the end of a lap and the start of the next may be apart and still be one moment: live timing's messages,
which date_start comes from, are up to some tenths late, while the durations are exact."""


@dataclass(frozen=True, slots=True)
class LapTimes:
    """The laps of a session, a row each, by driver and number.

    Attributes:
        driver_number: Whose.
        lap_number: Which.
        date_start: When it began.
        seconds: How long it took; NaN where it has no time.
        compound: The tyres, such as `SOFT`; empty where no stint says so.
        tyre_age: How many laps they had done before it.
        pit_in: It ended in the pit lane.
        pit_out: It began there.
        neutralised: A safety car, a virtual one or a red flag was out during a part of it.
        deleted: Race control deleted its time.
        slow: It took longer than 107 % of the session's best.
        best_seconds: The session's best time that was not deleted; NaN if there is none.
        drivers: Who drives, in order.
        missing: What is not there, in words.
    """

    driver_number: Wholes
    lap_number: Wholes
    date_start: Times
    seconds: Numbers
    compound: Texts
    tyre_age: Numbers
    pit_in: Flags
    pit_out: Flags
    neutralised: Flags
    deleted: Flags
    slow: Flags
    best_seconds: float
    drivers: tuple[DriverStyle, ...]
    missing: tuple[str, ...]

    @property
    def outlier(self) -> Flags:
        """Which laps do not show how fast the car was; a deleted time does."""
        return self.pit_in | self.pit_out | self.neutralised | self.slow


@dataclass(frozen=True, slots=True)
class Positions:
    """Positions, a row for each driver and lap (or change), in this order.

    Attributes:
        driver_number: Whose.
        lap_number: After which lap, 0 being the start; -1 where the rows are changes in time.
        seconds: When, since the session's start; NaN on the grid.
        position: 1 is the first.
        drivers: Who drives, in order.
        missing: What is not there, in words.
    """

    driver_number: Wholes
    lap_number: Wholes
    seconds: Numbers
    position: Wholes
    drivers: tuple[DriverStyle, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Gaps:
    """How far each driver was behind the first at the end of each lap.

    Attributes:
        driver_number: Whose.
        lap_number: At the end of which lap of the driver.
        gap_seconds: How long after the first to complete that lap; a lapped car's is longer than a lap.
        drivers: Who drives, in order.
        missing: What is not there, in words.
    """

    driver_number: Wholes
    lap_number: Wholes
    gap_seconds: Numbers
    drivers: tuple[DriverStyle, ...]
    missing: tuple[str, ...]


def lap_times(session: Session | SessionTables, drivers: Iterable[int] = ()) -> LapTimes:
    """Return the lap times, with what slowed a lap marked.

    Args:
        session: The session.
        drivers: Only theirs; by default all. What is best is the whole session's.
    """
    tables = SessionTables.of(session)
    laps = tables.table("laps")
    number, lap, seconds = wholes(laps, "driver_number"), wholes(laps, "lap_number"), numbers(laps, "lap_duration")
    pit_out, pit_in = _pit_laps(tables)
    keys = list(zip(number.tolist(), lap.tolist(), strict=True))
    gone = deleted_laps(tables)
    deleted = np.array([key in gone for key in keys], bool)
    counted = seconds[~deleted & ~np.isnan(seconds)]
    best = float(counted.min()) if len(counted) else float("nan")
    compound, age = _tyres(tables, keys)
    mine = chosen(drivers, number)
    start = times(laps, "date_start")
    with np.errstate(invalid="ignore"):
        slow = seconds > SLOW_BEYOND * best
    return LapTimes(
        number[mine], lap[mine], start[mine], seconds[mine], compound[mine], age[mine], pit_in[mine], pit_out[mine],
        _neutralised(tables)[mine], deleted[mine], slow[mine], best,
        driver_styles(tables, dict.fromkeys(number[mine].tolist())),
        tables.missing("laps", "drivers", "race_control", "stints"),
    )  # fmt: skip


def fastest_lap(session: Session | SessionTables, driver: int) -> int | None:
    """Return the number of a driver's fastest lap whose time stands and whose start is known; None if there is none."""
    laps = lap_times(session, [driver])
    usable = ~np.isnan(laps.seconds) & ~laps.deleted & ~np.isnat(laps.date_start)
    if not usable.any():
        return None
    return int(laps.lap_number[usable][laps.seconds[usable].argmin()])


def positions_by_lap(session: Session | SessionTables, drivers: Iterable[int] = ()) -> Positions:
    """Return the positions of a race at the end of each lap: the order in which the cars completed it.

    Lap 0 is the starting grid: that of `starting_grid`, else the first positions. Of a session that is no race there
    is no row, and `missing` says so: `positions_over_time` has those.

    Args:
        session: The session.
        drivers: Only theirs; the positions are among all.
    """
    tables = SessionTables.of(session)
    missing = tables.missing("laps", "position", "drivers")
    rows: list[tuple[int, int, float, int]] = []
    if tables.is_race:
        rows = [(driver, 0, float("nan"), place) for driver, place in _grid(tables).items()]
        by_lap: dict[int, list[tuple[float, int]]] = {}
        for (driver, lap), end in _lap_ends(tables).items():
            by_lap.setdefault(lap, []).append((end, driver))
        for lap, ends in by_lap.items():
            rows += [(driver, lap, end, place) for place, (end, driver) in enumerate(sorted(ends), 1)]
    else:
        missing = ("the session is no race: it has no positions by lap", *missing)
    return _positions(tables, rows, drivers, missing)


def positions_over_time(session: Session | SessionTables, drivers: Iterable[int] = ()) -> Positions:
    """Return every change of position, of any session.

    Args:
        session: The session.
        drivers: Only theirs.
    """
    tables = SessionTables.of(session)
    table = tables.table("position")
    seconds = seconds_between(session_start(tables), times(table, "date"))
    rows = [
        (int(driver), -1, float(at), int(place))
        for driver, at, place in zip(
            wholes(table, "driver_number"), seconds, numbers(table, "position"), strict=True
        )
        if place == place
    ]  # fmt: skip
    return _positions(tables, rows, drivers, tables.missing("position", "drivers"))


def gaps_to_leader(session: Session | SessionTables, drivers: Iterable[int] = ()) -> Gaps:
    """Return how far each driver of a race was behind the first at the end of each lap, in seconds.

    Args:
        session: The session.
        drivers: Only theirs; the gaps are to the first of all.
    """
    tables = SessionTables.of(session)
    missing = tables.missing("laps", "drivers")
    rows: list[tuple[int, int, float]] = []
    if tables.is_race:
        ends = _lap_ends(tables)
        first: dict[int, float] = {}
        for (_, lap), end in ends.items():
            first[lap] = min(end, first.get(lap, end))
        # Both are sums of milliseconds: what floats add to that is no gap.
        rows = sorted((driver, lap, round(end - first[lap], 3)) for (driver, lap), end in ends.items())
    else:
        missing = ("the session is no race: it has no gaps to a leader", *missing)
    number = np.array([row[0] for row in rows], np.int64)
    mine = chosen(drivers, number)
    return Gaps(
        number[mine], np.array([row[1] for row in rows], np.int64)[mine],
        np.array([row[2] for row in rows], np.float64)[mine],
        driver_styles(tables, dict.fromkeys(number[mine].tolist())), missing,
    )  # fmt: skip


# --- how ---


def _positions(
    tables: SessionTables, rows: list[tuple[int, int, float, int]], drivers: Iterable[int], missing: tuple[str, ...]
) -> Positions:
    rows = sorted(rows, key=lambda row: (row[0], row[1], row[2]))
    number = np.array([row[0] for row in rows], np.int64)
    mine = chosen(drivers, number)
    return Positions(
        number[mine], np.array([row[1] for row in rows], np.int64)[mine],
        np.array([row[2] for row in rows], np.float64)[mine], np.array([row[3] for row in rows], np.int64)[mine],
        driver_styles(tables, dict.fromkeys(number[mine].tolist())), missing,
    )  # fmt: skip


def _pit_laps(tables: SessionTables) -> tuple[Flags, Flags]:
    """Return which laps began in the pit lane, and which ended there."""
    laps = tables.table("laps")
    keys = list(zip(wholes(laps, "driver_number").tolist(), wholes(laps, "lap_number").tolist(), strict=True))
    out = flags(laps, "is_pit_out_lap")
    began = {key for key, is_out in zip(keys, out, strict=True) if is_out}
    stops = tables.table("pit")
    stopped = set(zip(wholes(stops, "driver_number").tolist(), wholes(stops, "lap_number").tolist(), strict=True))
    lane = [_IN_THE_LANE in (segments or ()) for segments in laps["segments_sector_3"].to_pylist()]
    ended = [
        key in stopped or (key[0], key[1] + 1) in began or in_lane for key, in_lane in zip(keys, lane, strict=True)
    ]
    return out, np.array(ended, bool)


def _neutralised(tables: SessionTables) -> Flags:
    laps = tables.table("laps")
    start = times(laps, "date_start")
    seconds = np.nan_to_num(numbers(laps, "lap_duration"))
    end = start + np.round(seconds * MICROS).astype("timedelta64[us]")
    found = np.zeros(laps.num_rows, bool)
    for period in neutralisations(tables):
        # Comparisons with NaT are false, so a lap without a start is not marked.
        found |= (end > period.start) & ((start < period.end) | (np.isnat(period.end) & ~np.isnat(start)))
    return found


def _tyres(tables: SessionTables, keys: list[tuple[int, int]]) -> tuple[Texts, Numbers]:
    """Return the tyres of laps and the laps that those had done before; of overlapping stints, the later one's."""
    stints = tables.table("stints")
    of: dict[tuple[int, int], tuple[str, float]] = {}
    columns = (wholes(stints, "driver_number").tolist(), numbers(stints, "lap_start"), numbers(stints, "lap_end"),
               texts(stints, "compound"), numbers(stints, "tyre_age_at_start"))  # fmt: skip
    for driver, first, last, compound, age in zip(*columns, strict=True):
        if first == first and last == last:
            for lap in range(int(first), int(last) + 1):
                of[driver, lap] = (compound, age + lap - first)
    found = [of.get(key, ("", float("nan"))) for key in keys]
    return np.array([one[0] for one in found], object), np.array([one[1] for one in found], np.float64)


def _lap_ends(tables: SessionTables) -> dict[tuple[int, int], float]:
    """Return when each lap of a race ended, by driver and number, in seconds since its start.

    Durations are added up while they agree with the laps' starts, since they are exact and the starts are not; a lap
    without a duration ends where the next one starts.
    """
    laps = tables.table("laps")
    start = seconds_between(session_start(tables), times(laps, "date_start"))
    known: dict[int, dict[int, tuple[float, float]]] = {}
    for driver, lap, began, took in zip(
        wholes(laps, "driver_number").tolist(), wholes(laps, "lap_number").tolist(), start.tolist(),
        numbers(laps, "lap_duration").tolist(), strict=True,
    ):  # fmt: skip
        known.setdefault(driver, {})[lap] = (began, took)
    ends: dict[tuple[int, int], float] = {}
    for driver, mine in known.items():
        for lap in sorted(mine):
            began, took = mine[lap]
            before = ends.get((driver, lap - 1))
            if before is not None and not abs(began - before) > _SAME_MOMENT_SECONDS:
                began = before
            end = began + took
            if end != end:
                end = mine.get(lap + 1, (float("nan"), 0.0))[0]
            if end == end:
                ends[driver, lap] = end
    return ends


def _grid(tables: SessionTables) -> dict[int, int]:
    """Return the position of each driver at the start; of the grid if it is loaded, else the first that is known."""
    grid = tables.table("starting_grid")
    places = zip(wholes(grid, "driver_number").tolist(), numbers(grid, "position").tolist(), strict=True)
    found = {driver: int(place) for driver, place in places if place == place}
    if found:
        return found
    changes = tables.table("position")
    rows = zip(
        times(changes, "date"), wholes(changes, "driver_number").tolist(), numbers(changes, "position"), strict=True
    )
    start = session_start(tables)
    for at, driver, place in sorted(rows, key=lambda row: row[0]):
        # The last one before the start: who starts from the pit lane falls back before it.
        if place == place and (driver not in found or not at > start):
            found[driver] = int(place)
    return found
