"""Car data and location joined in time, with the distance driven: pure arithmetic, knows no store.

As in FastF1, the rows are the moments of both kinds of samples. What changes steadily (speed, rpm, throttle, place) is
interpolated between its neighbours; what changes in steps (gear, brake, DRS) is that of the sample before.
"""

from __future__ import annotations

from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from f1hbase.frames.schemas import TIME

LONGEST_GAP_SECONDS = 5.0
"""Between samples further apart nothing is interpolated: what is between them is null. A car sends about four a second;
of 755,919 real ones, 12 gaps were longer."""

SCHEMA = pa.schema([
    pa.field("date", TIME),
    pa.field("driver_number", pa.int16()),
    pa.field("time", pa.float64()),
    pa.field("distance", pa.float64()),
    pa.field("relative_distance", pa.float64()),
    pa.field("speed", pa.float64()),
    pa.field("rpm", pa.float64()),
    pa.field("throttle", pa.float64()),
    pa.field("n_gear", pa.int8()),
    pa.field("brake", pa.int8()),
    pa.field("drs", pa.int8()),
    pa.field("x", pa.float64()),
    pa.field("y", pa.float64()),
    pa.field("z", pa.float64()),
    pa.field("source", pa.string()),
])  # fmt: skip
"""`time` in seconds since the first moment, `distance` in metres since then, `relative_distance` from 0 to 1, `speed`
in km/h, `x`, `y` and `z` in tenths of a metre. `source` is `car`, `location`, `both`, or `interpolated` at the ends."""

_Numbers = npt.NDArray[np.float64]
_Micros = npt.NDArray[np.int64]
_STEADY, _PLACE, _STEPS = ("speed", "rpm", "throttle"), ("x", "y", "z"), ("n_gear", "brake", "drs")
_MICROS = 1_000_000
_KMH = 3.6


def joined(car: pa.Table, location: pa.Table, start: datetime | None, end: datetime | None, driver: int) -> pa.Table:
    """Return both kinds of samples of one driver as one table.

    Args:
        car: The samples of car_data, in order of time; those a little before the start and after the end serve to
            interpolate there, and are not in the result.
        location: Those of location, likewise.
        start: The first moment; if it is not null, the table has a row for it.
        end: The last moment, likewise.
        driver: The driver.
    """
    car_at, location_at = _moments(car), _moments(location)
    edges = [round(moment.timestamp() * _MICROS) for moment in (start, end) if moment is not None]
    at = np.union1d(np.union1d(car_at, location_at), np.array(edges, np.int64))
    if start is not None:
        at = at[at >= edges[0]]
    if end is not None:
        at = at[at <= edges[-1]]
    steady = {name: interpolated(at, car_at, _numbers(car, name)) for name in _STEADY}
    steps = {name: _before(at, car_at, car[name]) for name in _STEPS}
    place = {name: interpolated(at, location_at, _numbers(location, name)) for name in _PLACE}
    time = (at - at[0]) / _MICROS if len(at) else np.array([], np.float64)
    distance = _distance(time, steady["speed"])
    whole = distance[-1] if len(distance) else 0.0
    arrays: dict[str, pa.Array] = {
        "date": pa.array(at, pa.timestamp("us")).cast(TIME),
        "driver_number": pa.array(np.full(len(at), driver), pa.int16()),
        "time": pa.array(time),
        "distance": pa.array(distance),
        "relative_distance": pa.array(distance / whole) if whole > 0 else pa.nulls(len(at), pa.float64()),
        "source": _sources(at, car_at, location_at),
        **{name: _array(values) for name, values in {**steady, **place}.items()},
        **steps,
    }
    return pa.Table.from_arrays([arrays[name].cast(SCHEMA.field(name).type) for name in SCHEMA.names], schema=SCHEMA)


def _moments(samples: pa.Table) -> _Micros:
    return samples["date"].cast(pa.int64()).to_numpy()  # type: ignore[no-any-return]


def _numbers(samples: pa.Table, name: str) -> _Numbers:
    return samples[name].cast(pa.float64()).to_numpy()  # type: ignore[no-any-return]


def interpolated(at: _Micros, known_at: _Micros, known: _Numbers) -> _Numbers:
    """Interpolate linearly between samples; NaN outside of them and in gaps of more than `LONGEST_GAP_SECONDS`.

    Args:
        at: The moments, in microseconds since 1970, in order.
        known_at: Those of the samples, likewise.
        known: What the samples have; NaN where one has nothing.
    """
    there = ~np.isnan(known)
    known_at, known = known_at[there], known[there]
    if not len(known):
        return np.full(len(at), np.nan)
    values = np.interp(at, known_at, known, left=np.nan, right=np.nan)
    after = np.clip(np.searchsorted(known_at, at), 0, len(known_at) - 1)
    before = np.clip(np.searchsorted(known_at, at, side="right") - 1, 0, len(known_at) - 1)
    values[(known_at[after] - known_at[before]) > LONGEST_GAP_SECONDS * _MICROS] = np.nan
    return values


def _before(at: _Micros, known_at: _Micros, known: pa.ChunkedArray) -> pa.Array:
    """Take the value of the last sample at or before each moment; null before the first one and after long gaps."""
    if not len(known_at):
        return pa.nulls(len(at), known.type)
    places = np.searchsorted(known_at, at, side="right") - 1
    unknown = (places < 0) | ((at - known_at[np.clip(places, 0, None)]) > LONGEST_GAP_SECONDS * _MICROS)
    return pc.take(known, pa.array(places, mask=unknown)).combine_chunks()


def _distance(time: _Numbers, speed: _Numbers) -> _Numbers:
    """Return the metres driven since the first moment, by the trapezoidal rule; what is not known counts as none."""
    if not len(time):
        return time
    metres = np.nan_to_num((speed[1:] + speed[:-1]) / 2 / _KMH * np.diff(time))
    return np.concatenate([[0.0], np.cumsum(metres)])


def _array(values: _Numbers) -> pa.Array:
    return pa.array(values, mask=np.isnan(values))


def _sources(at: _Micros, car_at: _Micros, location_at: _Micros) -> pa.Array:
    of_car, of_location = np.isin(at, car_at), np.isin(at, location_at)
    names = np.select([of_car & of_location, of_car, of_location], ["both", "car", "location"], default="interpolated")
    return pa.array(names.astype(object), pa.string())
