"""Where all cars were, at even steps of time: what the replay draws; knows no HTTP."""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from f1hbase.charts import SessionTables
from f1hbase.charts.traces import places_of
from f1hbase.frames.session import NotLoadedError
from f1hbase.frames.telemetry import LONGEST_GAP_SECONDS, interpolated

STEPS_A_SECOND = 2
"""Cars send their places four times a second; between two of these steps a straight line is within a metre of them."""

_AROUND = timedelta(seconds=LONGEST_GAP_SECONDS)
_MICROS = 1_000_000

Places = npt.NDArray[np.float32]


def places(tables: SessionTables, start: datetime, seconds: int) -> bytes:
    """Return the places of all cars from a moment on.

    The answer is the length of its head as four bytes, the head as JSON, filled up with spaces so that what follows
    begins at a multiple of four, and then 32-bit floats, least byte first: for each driver the x of all steps, then the
    y of all steps, in metres, NaN where a car is nowhere. The head has `start` (milliseconds since 1970), `step`
    (seconds), `count` (steps) and `drivers`.

    Args:
        tables: The session.
        start: The first step.
        seconds: How long.

    Raises:
        NotLoadedError: If no location is loaded.
    """
    count = seconds * STEPS_A_SECOND
    numbers, values = resampled(tables, start, count)
    head = json.dumps({
        "start": round(start.timestamp() * 1000), "step": 1 / STEPS_A_SECOND, "count": count, "drivers": numbers,
    }).encode()  # fmt: skip
    head += b" " * (-(len(head) + 4) % 4)
    return struct.pack("<I", len(head)) + head + values.astype("<f4").tobytes()


def resampled(tables: SessionTables, start: datetime, count: int) -> tuple[list[int], Places]:
    """Return the drivers that have places, and these as (driver, x or y, step) in metres.

    Raises:
        NotLoadedError: If no location is loaded.
    """
    end = start + timedelta(seconds=count / STEPS_A_SECOND)
    try:
        samples = tables.session.location(start=start - _AROUND, end=end + _AROUND).to_arrow()
    except NotLoadedError:
        raise NotLoadedError(
            f"location of session {tables.session.key} is not loaded, so there is nothing to replay. Load it: "
            f"f1hbase load --session-key {tables.session.key} --endpoint location"
        ) from None
    drivers = samples["driver_number"].to_numpy()
    at = samples["date"].cast("int64").to_numpy()
    steps = _micros(start) + np.arange(count) * (_MICROS // STEPS_A_SECOND)
    x, y, _ = places_of(samples)
    known = ~(np.isnan(x) | np.isnan(y))
    found: list[int] = []
    values: list[Places] = []
    # The table is in the order of drivers and time.
    numbers, begins = np.unique(drivers, return_index=True)
    for number, begin, stop in zip(numbers, begins, np.append(begins, len(drivers))[1:], strict=True):
        mine = slice(int(begin), int(stop))
        there = known[mine]
        if there.any():
            found.append(int(number))
            moments = at[mine][there]
            values.append(np.stack([interpolated(steps, moments, one[mine][there]) for one in (x, y)]))
    return found, np.stack(values).astype(np.float32) if values else np.empty((0, 2, count), np.float32)


def _micros(moment: datetime) -> int:
    return round(moment.astimezone(UTC).timestamp() * _MICROS)
