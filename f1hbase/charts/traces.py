"""Laps over distance with their delta time, and the outline of the track: made of car data and location."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from f1hbase.charts.drivers import DriverStyle, driver_styles
from f1hbase.charts.laps import fastest_lap, lap_times
from f1hbase.charts.tables import Flags, Numbers, SessionTables, numbers, wholes
from f1hbase.frames.schemas import schema_of
from f1hbase.frames.session import NotLoadedError, Session
from f1hbase.frames.telemetry import joined

_DRS_OPEN = 10
"""From this value of `drs` on the flap is open (OpenF1's documentation: 10, 12 and 14 are on; 8 is allowed)."""

_FULL = 100
"""Throttle and brake are percent; a car that is not connected sends 104."""

_TENTHS = 10
"""`x`, `y` and `z` are in tenths of a metre."""

_FEWEST_POINTS = 50
"""A lap of fewer places is no outline: at four a second, that is twelve seconds."""


@dataclass(frozen=True, slots=True)
class LapTrace:
    """One lap over the distance, a row for each sample, in order of time.

    Attributes:
        driver: Who drove it.
        lap_number: Which.
        lap_seconds: How long it took; NaN where it has no time.
        sector_ends: When its first and second sector ended, in seconds since its start; NaN where that is unknown.
        distance: Metres since its start, stretched so that its sectors are as long as those of the first lap compared.
        seconds: Since its start.
        speed: In km/h.
        rpm: Revolutions a minute.
        throttle: In percent.
        brake: In percent.
        n_gear: 0 to 8, as a float, NaN where it is unknown.
        drs: 1 where the flap is open, 0 where not, NaN where it is unknown.
        x: East, in metres.
        y: North, in metres.
        delta: Seconds behind the first lap of the comparison at the same place; negative ahead of it.
    """

    driver: DriverStyle
    lap_number: int
    lap_seconds: float
    sector_ends: Numbers
    distance: Numbers
    seconds: Numbers
    speed: Numbers
    rpm: Numbers
    throttle: Numbers
    brake: Numbers
    n_gear: Numbers
    drs: Numbers
    x: Numbers
    y: Numbers
    delta: Numbers


@dataclass(frozen=True, slots=True)
class Traces:
    """Laps that are compared.

    Attributes:
        laps: The laps that have samples, as they were asked for; the others are compared with the first.
        missing: What is not there, in words.
    """

    laps: tuple[LapTrace, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TrackOutline:
    """The track as one lap drew it.

    Attributes:
        x: East, in metres, the first point being the start of the lap, and the last one again.
        y: North, in metres.
        z: Height, in metres.
        distance: Metres along the outline.
        speed: What the car drove there, in km/h; NaN where it is unknown.
        driver: Whose lap it is; None if there is no outline.
        lap_number: Which; 0 if there is no outline.
        missing: What is not there, in words.
    """

    x: Numbers
    y: Numbers
    z: Numbers
    distance: Numbers
    speed: Numbers
    driver: DriverStyle | None
    lap_number: int
    missing: tuple[str, ...]

    @property
    def length(self) -> float:
        """How long the outline is, in metres: near the track's own length; 0 if there is none."""
        return float(self.distance[-1]) if len(self.distance) else 0.0


def lap_traces(session: Session | SessionTables, laps: Sequence[tuple[int, int | None]]) -> Traces:
    """Return the telemetry of laps over the distance, and how much time each loses to the first one along it.

    The distance is the speed added up, which is some tenths of a percent off. So that the same corner is at the same
    distance in all laps, each sector is stretched to the length it has in the first one, or the whole lap, where
    sectors have no times. At the ends of the sectors and of the lap the delta is then the difference of the official
    times. Between them it is some hundredths of a second off: for 671 pairs of laps of a real qualifying, 0.03 s (root
    mean square) at the end of a sector that was left out. Places instead of speeds are no better: their times are not
    exact.

    Args:
        session: The session.
        laps: Driver and lap number of each, the first being what the others are compared with; without a number it is
            the driver's fastest.

    Raises:
        NotLoadedError: If there is no such driver or lap.
    """
    tables = SessionTables.of(session)
    missing: list[str] = [] if laps else list(tables.missing("laps"))
    made: list[LapTrace] = []
    styles = {style.number: style for style in driver_styles(tables, {driver for driver, _ in laps})}
    for driver, wanted in laps:
        lap = _checked(tables, driver, wanted, missing)
        if lap is None:
            continue
        samples = _samples(tables, driver, lap, missing)
        trace = None if samples is None else _trace(tables, styles[driver], lap, samples)
        if trace is not None:
            made.append(trace if not made else _compared(trace, made[0]))
        elif samples is not None:
            missing.append(f"driver {driver}, lap {lap}: no car data")
    return Traces(tuple(made), tuple(dict.fromkeys(missing)))


def track_outline(session: Session | SessionTables, lap: tuple[int, int] | None = None) -> TrackOutline:
    """Return the outline of the track, as the location of one lap drew it.

    Args:
        session: The session.
        lap: Driver and lap number; by default the fastest laps of the session are tried, until one has places.

    Raises:
        NotLoadedError: If there is no such driver or lap.
    """
    tables = SessionTables.of(session)
    missing: list[str] = []
    if lap is not None:
        _checked(tables, *lap, missing)
    for driver, number in [lap] if lap is not None else _likely_laps(tables):
        samples = _samples(tables, driver, number, missing, needed=("location",))
        outline = None if samples is None else _outline(tables, driver, number, samples)
        if outline is not None:
            return outline
        if "location: not loaded" in missing:
            break
    else:
        missing.append("location: no lap has enough places for an outline")
    missing += tables.missing("laps")
    nothing = np.array([], np.float64)
    return TrackOutline(nothing, nothing, nothing, nothing, nothing, None, 0, tuple(dict.fromkeys(missing)))


# --- how ---


def _likely_laps(tables: SessionTables) -> list[tuple[int, int]]:
    """Return the laps to draw the track with: each driver's fastest, the fastest first; a few are enough."""
    laps = lap_times(tables)
    usable = ~np.isnan(laps.seconds) & ~np.isnat(laps.date_start) & ~laps.pit_in & ~laps.pit_out
    found: dict[int, int] = {}
    for at in np.argsort(laps.seconds, kind="stable"):
        if usable[at]:
            found.setdefault(int(laps.driver_number[at]), int(laps.lap_number[at]))
    return list(found.items())[:5]


def _checked(tables: SessionTables, driver: int, lap: int | None, missing: list[str]) -> int | None:
    """Return the number of a lap, the driver's fastest if none is named; None, and that is noted, if there is none.

    Raises:
        NotLoadedError: If there is no such driver, or no such lap among those that are loaded.
    """
    laps = tables.table("laps")
    if not laps.num_rows:
        missing += tables.missing("laps") or ("laps: none",)
        return None
    # Says so if there is no such driver.
    own = tables.session.laps(driver)["lap_number"].to_pylist()
    if lap is None:
        fastest = fastest_lap(tables, driver)
        if fastest is None:
            missing.append(f"driver {driver}: no lap with a time")
        return fastest
    if lap not in own:
        some = f"has laps {min(own)} to {max(own)}" if own else "has none"
        raise NotLoadedError(f"driver {driver} has no lap {lap} in session {tables.session.key}: {some}.")
    return lap


def _samples(
    tables: SessionTables,
    driver: int,
    lap: int,
    missing: list[str],
    needed: Sequence[str] = ("car_data",),
) -> pa.Table | None:
    """Return car data and location of a lap, joined; None, and why is noted, if what is needed of them is not there."""
    session = tables.session
    absent = [name for name in ("car_data", "location") if not _is_loaded(session, name)]
    if set(absent) & set(needed):
        missing += [f"{name}: not loaded" for name in absent]
        return None
    try:
        if absent:
            return _alone(session, driver, lap, absent)
        frame = session.telemetry(driver, lap=lap)
        table = frame.to_arrow()
    except NotLoadedError:
        missing.append(f"driver {driver}, lap {lap}: when it began is unknown")
        return None
    if frame.state != "complete":
        missing += frame.missing or [f"telemetry: {frame.state}"]
    return table


def _alone(session: Session, driver: int, lap: int, absent: Sequence[str]) -> pa.Table:
    """Return the samples of a lap when only one kind of them is loaded; the columns of the other are null."""
    tables = {
        name: schema_of(name).empty_table() if name in absent else session.read(name, driver=driver, lap=lap).to_arrow()
        for name in ("car_data", "location")
    }
    return joined(tables["car_data"], tables["location"], None, None, driver)


def _is_loaded(session: Session, endpoint: str) -> bool:
    try:
        session.read(endpoint)
    except NotLoadedError:
        return False
    return True


def _trace(tables: SessionTables, style: DriverStyle, lap: int, samples: pa.Table) -> LapTrace | None:
    speed = numbers(samples, "speed")
    if not (~np.isnan(speed)).any():
        return None
    lap_seconds, sector_ends = _official_times(tables, style.number, lap)
    drs = numbers(samples, "drs")
    x, y, _ = places_of(samples)
    seconds = numbers(samples, "time")
    return LapTrace(
        style, lap, lap_seconds, sector_ends, numbers(samples, "distance"), seconds, speed,
        numbers(samples, "rpm"), _percent(samples, "throttle"), _percent(samples, "brake"),
        numbers(samples, "n_gear"), np.where(np.isnan(drs), drs, drs >= _DRS_OPEN), x, y, np.zeros(len(seconds)),
    )  # fmt: skip


def _official_times(tables: SessionTables, driver: int, lap: int) -> tuple[float, Numbers]:
    """Return how long a lap took, and when its first two sectors ended; NaN where that is unknown."""
    laps = tables.table("laps")
    row = np.flatnonzero((wholes(laps, "driver_number") == driver) & (wholes(laps, "lap_number") == lap))
    whole, first, second = (
        float(numbers(laps, name)[row[0]]) if len(row) else float("nan")
        for name in ("lap_duration", "duration_sector_1", "duration_sector_2")
    )
    return whole, np.array([first, first + second])


def _compared(trace: LapTrace, first: LapTrace) -> LapTrace:
    """Return a lap with the distances of the first one, and the time that it has lost to it."""
    both = ~np.isnan(trace.sector_ends) & ~np.isnan(first.sector_ends)
    ends = [
        np.concatenate([[0.0], one.sector_ends[both], one.seconds[-1:]]) for one in (trace, first)
    ]  # fmt: skip
    marks, places = (
        np.interp(seconds, one.seconds, one.distance) for seconds, one in zip(ends, (trace, first), strict=True)
    )
    stretched = np.interp(trace.distance, marks, places)
    delta = trace.seconds - np.interp(stretched, first.distance, first.seconds)
    return replace(trace, distance=stretched, delta=delta)


def _percent(samples: pa.Table, name: str) -> Numbers:
    values = numbers(samples, name)
    return np.where(values > _FULL, np.nan, values)


def places_of(samples: pa.Table) -> tuple[Numbers, Numbers, Numbers]:
    """Return the `x`, `y` and `z` of telemetry or location in metres, NaN where the car was not found."""
    x, y, z = (numbers(samples, name) / _TENTHS for name in "xyz")
    # A car that is not found is at the origin, which no track goes through at height 0.
    lost: Flags = (x == 0) & (y == 0) & (z == 0)
    return np.where(lost, np.nan, x), np.where(lost, np.nan, y), np.where(lost, np.nan, z)


def _outline(tables: SessionTables, driver: int, lap: int, samples: pa.Table) -> TrackOutline | None:
    x, y, z = places_of(samples)
    known = ~(np.isnan(x) | np.isnan(y))
    if known.sum() < _FEWEST_POINTS:
        return None
    x, y, z, speed = (np.append(one[known], one[known][0]) for one in (x, y, z, numbers(samples, "speed")))
    distance = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    (style,) = driver_styles(tables, [driver])
    return TrackOutline(x, y, z, distance, speed, style, lap, ())
