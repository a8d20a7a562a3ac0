"""Reads tables and source files without any code of the project: what tests compare."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import happybase

# What tells two records of an endpoint apart, beside the meeting and the session: OpenF1's documentation.
IDENTITY: dict[str, tuple[str, ...]] = {
    "meetings": (),
    "sessions": (),
    "drivers": ("driver_number",),
    "session_result": ("driver_number",),
    "starting_grid": ("driver_number",),
    "championship_drivers": ("driver_number",),
    "championship_teams": ("team_name",),
    "car_data": ("driver_number", "date"),
    "location": ("driver_number", "date"),
    "intervals": ("driver_number", "date"),
    "position": ("driver_number", "date"),
    "team_radio": ("driver_number", "date"),
    "laps": ("driver_number", "lap_number"),
    "pit": ("driver_number", "lap_number"),
    "stints": ("driver_number", "stint_number"),
    "weather": ("date",),
    "race_control": ("date", "driver_number", "lap_number", "category", "flag", "scope", "sector", "message"),
    "overtakes": ("date", "overtaking_driver_number", "overtaken_driver_number"),
}
FAMILY = {
    "meetings": "meeting", "sessions": "session", "drivers": "driver", "session_result": "result",
    "starting_grid": "grid", "championship_drivers": "championship", "championship_teams": "championship",
    "car_data": "car", "team_radio": "teamradio", "race_control": "racecontrol",
}  # fmt: skip

Cells = dict[bytes, dict[bytes, tuple[bytes, int]]]


def source_records(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (endpoint, record) of all files below a folder."""
    for path in sorted(folder.rglob("*.jsonl*")):
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            for line in lines:
                yield path.name.partition(".")[0], json.loads(line)


def source_identities(folder: Path) -> dict[str, int]:
    """Return how many distinct identities the files hold, by column family."""
    seen: dict[str, set[tuple[Any, ...]]] = defaultdict(set)
    for endpoint, record in source_records(folder):
        fields = ("meeting_key", "session_key", *IDENTITY[endpoint])
        seen[FAMILY.get(endpoint, endpoint)].add((endpoint, *(record.get(name) for name in fields)))
    return {family: len(identities) for family, identities in seen.items()}


def scan(port: int, table: str, **dialect: str) -> Cells:
    """Return a whole table: row key to column to (value, timestamp)."""
    connection = happybase.Connection("127.0.0.1", port, **dialect)
    try:
        return dict(connection.table(table).scan(include_timestamp=True, batch_size=5000))
    finally:
        connection.close()


def rows_by_family(cells: Cells) -> dict[str, int]:
    """Return how many rows have cells in each family."""
    counts: dict[str, int] = defaultdict(int)
    for columns in cells.values():
        for family in {column.partition(b":")[0].decode() for column in columns}:
            counts[family] += 1
    return dict(counts)


def values(cells: Cells) -> dict[bytes, dict[bytes, bytes]]:
    """Return a table without the timestamps."""
    return {row: {column: value for column, (value, _) in columns.items()} for row, columns in cells.items()}


def reports(port: int, prefix: str, kind: str) -> dict[str, dict[str, str]]:
    """Return the rows of `f1_reports` of one kind, such as `unit` or `run`, as texts."""
    rows = values(scan(port, f"{prefix}_f1_reports"))
    return {
        key.decode(): {column.decode(): value.decode() for column, value in cells.items()}
        for key, cells in rows.items()
        if key.startswith(f"{kind}#".encode())
    }
