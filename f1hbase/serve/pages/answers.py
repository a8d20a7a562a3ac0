"""What the pages are told, as JSON: charts as columns of numbers, who drives, and what is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np

from f1hbase.charts import (
    SessionTables,
    classification,
    columns_of,
    driver_styles,
    gaps_to_leader,
    lap_times,
    lap_traces,
    pit_stops,
    positions_by_lap,
    positions_over_time,
    race_control,
    stints,
    track_outline,
    weather,
)
from f1hbase.frames.session import Session

_NAMES = ("session_name", "session_type", "circuit_short_name", "location", "country_name", "gmt_offset")


def encoded(value: Any) -> bytes:
    """Return JSON; NaN and NaT are null."""
    return msgspec.json.encode(value, enc_hook=_plain)


def about_session(tables: SessionTables) -> bytes:
    """Return what a session is called, who drives, and how much of it is stored."""
    session = tables.session
    record = session.record
    start, end = span(tables)
    return encoded({
        "session_key": session.key,
        "meeting_key": session.scope.meeting_key,
        "year": session.scope.year,
        "name": session.name,
        **{name: record.get(name) for name in _NAMES},
        "is_race": tables.is_race,
        "is_cancelled": bool(record.get("is_cancelled")),
        "start": milliseconds(start),
        "end": milliseconds(end),
        "drivers": [_fields(style) for style in driver_styles(tables)],
        **_completeness(session),
    })  # fmt: skip


def telemetry(tables: SessionTables, laps: list[tuple[int, int | None]]) -> bytes:
    """Return laps over the distance; see `f1hbase.charts.lap_traces`.

    Raises:
        NotLoadedError: If there is no such driver or lap.
    """
    traces = lap_traces(tables, laps)
    return encoded({"laps": [chart(one) for one in traces.laps], "missing": list(dict.fromkeys(traces.missing))})


def chart(table: Any, **more: Any) -> dict[str, Any]:
    """Return a chart as JSON's values: its arrays as `columns`, and its other fields by their names."""
    others = {item.name: getattr(table, item.name) for item in fields(table)}
    return {
        "columns": columns_of(table),
        **{name: _plain_or_same(value) for name, value in others.items() if not isinstance(value, np.ndarray)},
        **more,
    }


def span(tables: SessionTables) -> tuple[datetime | None, datetime | None]:
    """Return from when to when a session went, as it was announced and as its laps say."""
    scope = tables.session.scope
    laps = tables.table("laps")
    starts = [moment for moment in laps["date_start"].to_pylist() if moment is not None]
    begin = [moment for moment in (scope.date_start, min(starts, default=None)) if moment is not None]
    end = [moment for moment in (scope.date_end, max(starts, default=None)) if moment is not None]
    return min(begin, default=None), max(end, default=None)


def milliseconds(moment: datetime | None) -> int | None:
    """Return a moment as browsers count: milliseconds since 1970."""
    return None if moment is None else round(moment.timestamp() * 1000)


def _laps(tables: SessionTables) -> dict[str, Any]:
    found = lap_times(tables)
    return chart(found, outlier=found.outlier.tolist())


def _positions(tables: SessionTables) -> dict[str, Any]:
    return chart(positions_by_lap(tables) if tables.is_race else positions_over_time(tables))


def _radio(tables: SessionTables) -> dict[str, Any]:
    table = tables.table("team_radio")
    rows = sorted(table.select(["date", "driver_number", "recording_url"]).to_pylist(), key=lambda row: row["date"])
    columns = {name: [row[name] for row in rows] for name in ("date", "driver_number", "recording_url")}
    return {"columns": columns, "missing": tables.missing("team_radio")}


CHARTS: Mapping[str, Callable[[SessionTables], dict[str, Any]]] = {
    "laps": _laps,
    "positions": _positions,
    "gaps": lambda tables: chart(gaps_to_leader(tables)),
    "stints": lambda tables: chart(stints(tables)),
    "pit-stops": lambda tables: chart(pit_stops(tables)),
    "weather": lambda tables: chart(weather(tables)),
    "race-control": lambda tables: chart(race_control(tables)),
    "team-radio": _radio,
    "classification": lambda tables: chart(classification(tables)),
    "track": lambda tables: chart(track_outline(tables)),
    "position-changes": lambda tables: chart(positions_over_time(tables)),
}
"""What the pages can ask of a session, by the name in the address."""


def _completeness(session: Session) -> dict[str, Any]:
    """Return the state of a session, the worst of its endpoints', and what is missing of which."""
    found = session.completeness()
    states = [one.state for one in found.values()]
    if any(state in ("absent", "partial") for state in states):
        state = "partial"
    else:
        state = "provisional" if "provisional" in states else "complete"
    return {
        "state": state,
        "endpoints": {name: {"state": one.state, "missing": one.missing} for name, one in found.items()},
    }


def _fields(value: Any) -> dict[str, Any]:
    return {item.name: _plain_or_same(getattr(value, item.name)) for item in fields(value)}


def _plain_or_same(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _fields(value)
    if isinstance(value, tuple | list):
        return [_plain_or_same(one) for one in value]
    return _plain(value) if isinstance(value, np.generic) else value


def _plain(value: Any) -> Any:
    """Return a value of NumPy as JSON has it."""
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else f"{value}+00:00"
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    raise TypeError(f"{type(value).__name__} is none of JSON's types")
