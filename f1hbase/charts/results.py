"""The final classification, as it is printed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from f1hbase.charts.drivers import DriverStyle, driver_styles, last_positions
from f1hbase.charts.laps import lap_times
from f1hbase.charts.tables import Numbers, SessionTables, Texts, Wholes
from f1hbase.frames.session import Session


@dataclass(frozen=True, slots=True)
class Classification:
    """The result, a row for each driver, the classified ones first.

    Attributes:
        driver_number: Whose.
        position: NaN of who is not classified.
        grid_position: Where the driver started from; NaN where it is unknown.
        number_of_laps: How many were driven; NaN where it is unknown.
        duration: In seconds: of a race the time, else the best lap; of a qualifying that of the last part with one.
        gap: What is printed behind: empty for the first, `+12.345`, or `+1 LAP`.
        status: `DNF`, `DNS`, `DSQ`, or empty.
        best_lap: The best lap time in seconds; NaN if there is none.
        parts: Of a qualifying, the best times of Q1, Q2 and Q3 in seconds, three columns; else none.
        is_official: Whether it is `session_result`'s, and not made of the last positions.
        drivers: Who drives, in the order of the rows.
        missing: What is not there, in words.
    """

    driver_number: Wholes
    position: Numbers
    grid_position: Numbers
    number_of_laps: Numbers
    duration: Numbers
    gap: Texts
    status: Texts
    best_lap: Numbers
    parts: Numbers
    is_official: bool
    drivers: tuple[DriverStyle, ...]
    missing: tuple[str, ...]


def classification(session: Session | SessionTables) -> Classification:
    """Return the result; where it is not loaded, the order of the last positions that are known."""
    tables = SessionTables.of(session)
    results = {row["driver_number"]: row for row in tables.table("session_result").to_pylist()}
    grid = {row["driver_number"]: row["position"] for row in tables.table("starting_grid").to_pylist()}
    laps = lap_times(tables)
    last = last_positions(tables)
    order = driver_styles(tables, results or dict.fromkeys([*last, *laps.driver_number.tolist()]))
    rows = [results.get(style.number) or {"position": last.get(style.number)} for style in order]
    timed = ~np.isnan(laps.seconds) & ~laps.deleted
    best = [laps.seconds[timed & (laps.driver_number == style.number)] for style in order]
    driven = [
        row.get("number_of_laps") if results else int((laps.driver_number == style.number).sum())
        for row, style in zip(rows, order, strict=True)
    ]
    lists = [row.get("duration_list") for row in rows]
    width = max((len(one) for one in lists if one), default=0)
    parts = np.array([_filled(one or [], width) for one in lists], np.float64).reshape(len(rows), width)
    missing = tables.missing("session_result", "drivers", "laps")
    if not results and order:
        told = "last positions" if last else "best laps"
        missing = (f"the order is that of the {told}, not the official result", *missing)
    return Classification(
        np.array([style.number for style in order], np.int64),
        _numbers(row.get("position") for row in rows),
        _numbers(grid.get(style.number) for style in order),
        _numbers(driven),
        _numbers(_duration(row) for row in rows),
        np.array([_gap(row) for row in rows], object),
        np.array([_status(row) for row in rows], object),
        _numbers(float(times.min()) if len(times) else None for times in best),
        parts, bool(results), order, missing,
    )  # fmt: skip


def _numbers(values: Any) -> Numbers:
    return np.array([float("nan") if value is None else value for value in values], np.float64)


def _filled(values: list[float | None], width: int) -> list[float]:
    return [float("nan") if value is None else value for value in [*values, *[None] * (width - len(values))]]


def _last(values: list[float | None] | None) -> float | None:
    return next((value for value in reversed(values or []) if value is not None), None)


def _duration(row: dict[str, Any]) -> float | None:
    duration: float | None = row.get("duration")
    return _last(row.get("duration_list")) if duration is None else duration


def _gap(row: dict[str, Any]) -> str:
    if row.get("gap_to_leader_text"):
        return str(row["gap_to_leader_text"])
    gap = row.get("gap_to_leader")
    gap = _last(row.get("gap_to_leader_list")) if gap is None else gap
    return f"+{gap:.3f}" if gap else ""


def _status(row: dict[str, Any]) -> str:
    return next((name.upper() for name in ("dsq", "dns", "dnf") if row.get(name)), "")
