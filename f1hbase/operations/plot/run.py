"""Draws a chart of a session into a file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from f1hbase.charts import SessionTables, driver_styles, fastest_lap, lap_times
from f1hbase.errors import SetupError
from f1hbase.frames.session import NotLoadedError, Session
from f1hbase.operations.plot import laps, tracks
from f1hbase.operations.plot.request import PlotRequest
from f1hbase.operations.plot.style import DARK, LIGHT, Picture, Theme, image, plain

_BY_DRIVERS: Mapping[str, Callable[[SessionTables, Sequence[int], Theme], Picture]] = {
    "lap-times": laps.draw_lap_times,
    "positions": laps.draw_positions,
    "stints": laps.draw_stints,
}


@dataclass(frozen=True, slots=True)
class Plotted:
    """A picture that was written.

    Attributes:
        output: Its file.
        title: What it shows.
        missing: What it lacks, in words.
    """

    output: Path
    title: str
    missing: tuple[str, ...]


def plot(session: Session, request: PlotRequest) -> Plotted:
    """Draw a chart of a session into a file; the file is whole or as it was before.

    Raises:
        NotLoadedError: If there is nothing to draw, or no such driver or lap; says what is missing.
        ConfigError: If the request makes no sense.
        SetupError: If the file cannot be written.
    """
    request.check()
    tables = SessionTables(session)
    _check_drivers(tables, request.drivers)
    with plain():
        picture = draw(tables, request)
    if picture.is_empty:
        told = "; ".join(picture.missing) or f"session {session.key} has none of it"
        raise NotLoadedError(f"there is nothing to draw: {told}.")
    _write(request.output, image(picture.figure, request.output))
    return Plotted(request.output, f"{request.kind} of {session.scope.year} {session.name}", picture.missing)


def draw(tables: SessionTables, request: PlotRequest) -> Picture:
    """Return the picture of a request.

    Raises:
        NotLoadedError: If there is no such lap.
    """
    theme = DARK if request.dark else LIGHT
    if request.kind in _BY_DRIVERS:
        return _BY_DRIVERS[request.kind](tables, request.drivers, theme)
    if request.kind == "track":
        return tracks.draw_track(tables, _track_lap(tables, request), theme)
    return tracks.draw_telemetry(tables, _telemetry_laps(tables, request), theme)


def _track_lap(tables: SessionTables, request: PlotRequest) -> tuple[int, int] | None:
    if not request.drivers:
        return None
    (driver,) = request.drivers
    lap = request.lap_numbers[0] if request.lap_numbers else fastest_lap(tables, driver)
    if lap is None:
        raise NotLoadedError(
            f"driver {driver} has no lap with a time in session {tables.session.key}: say which with --lap."
        )
    return driver, lap


def _telemetry_laps(tables: SessionTables, request: PlotRequest) -> list[tuple[int, int | None]]:
    drivers, numbers = request.drivers or _fastest_drivers(tables, 2), request.lap_numbers
    if len(drivers) == 1 and numbers:
        return [(drivers[0], number) for number in numbers]
    if len(numbers) > 1:
        return list(zip(drivers, numbers, strict=True))
    return [(driver, numbers[0] if numbers else None) for driver in drivers]


def _fastest_drivers(tables: SessionTables, count: int) -> tuple[int, ...]:
    laps = lap_times(tables)
    usable = np.flatnonzero(~np.isnan(laps.seconds) & ~laps.deleted & ~np.isnat(laps.date_start))
    order = usable[np.argsort(laps.seconds[usable], kind="stable")]
    return tuple(dict.fromkeys(laps.driver_number[order].tolist()))[:count]


def _check_drivers(tables: SessionTables, drivers: Sequence[int]) -> None:
    """Look whether there are such drivers.

    Raises:
        NotLoadedError: If there is none of that number; says which there are.
    """
    known = {style.number for style in driver_styles(tables)} | set(lap_times(tables).driver_number.tolist())
    unknown = sorted(set(drivers) - known)
    if known and unknown:
        raise NotLoadedError(
            f"there is no driver {', '.join(map(str, unknown))} in session {tables.session.key}; there are "
            f"{', '.join(map(str, sorted(known)))}."
        )


def _write(path: Path, content: bytes) -> None:
    """Write a file so that it is whole or as it was before.

    Raises:
        SetupError: If it cannot be written; says why.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            try:
                file.write(content)
                file.close()
                # As if it had been opened by its own name: a temporary file is its maker's alone.
                umask = os.umask(0)
                os.umask(umask)
                Path(file.name).chmod(0o666 & ~umask)
                Path(file.name).replace(path)
            except BaseException:
                with suppress(FileNotFoundError):
                    Path(file.name).unlink()
                raise
    except OSError as error:
        raise SetupError(f"cannot write '{path}': {error.strerror or error}.") from error
