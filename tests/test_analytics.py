"""The dbt project in analytics/, run as a user does: its tables hold what was landed, whichever way that lies."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from archive_server import SHARED, archive_in_thread
from stored_weekend import YEAR, load, records, weekend

import f1hbase
from f1hbase.frames.schemas import columns_of
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.stores.files.extractor import PLURALS

_ROOT = Path(__file__).resolve().parent.parent
_PROJECT = _ROOT / "analytics"
_USED = ("meetings", "sessions", "drivers", "laps", "location", "stints", "pit", "starting_grid", "session_result")
_GOLD = (
    "dim_drivers",
    "dim_sessions",
    "fact_laps",
    "session_leaderboard",
    "driver_session_summary",
    "team_performance",
)
_SILVER = ("silver_sessions", "silver_drivers", "silver_laps", "silver_locations")

_LONGEST_SECONDS = 120


def dbt(command: str, files: Path, layout: str, work: Path) -> duckdb.DuckDBPyConnection:
    """Run a command of dbt over a folder, and return the database that it made."""
    database = work / "f1.duckdb"
    settings = {
        "F1HBASE_ANALYTICS_FILES": str(files),
        "F1HBASE_ANALYTICS_LAYOUT": layout,
        "F1HBASE_ANALYTICS_DATABASE": str(database),
        "DBT_TARGET_PATH": str(work / "target"),
        "DBT_LOG_PATH": str(work / "logs"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "dbt.cli.main", "--no-use-colors", "--quiet", command, "--profiles-dir", "."],
        cwd=_PROJECT, env=os.environ | settings, capture_output=True, text=True, timeout=_LONGEST_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return duckdb.connect(str(database), read_only=True)


def rows(database: duckdb.DuckDBPyConnection, query: str) -> list[tuple[Any, ...]]:
    return database.execute(query).fetchall()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weekend(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def built(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """The tables of a simulated weekend, by way of an export; dbt's own tests have passed."""
    work = tmp_path_factory.mktemp("export")
    endpoints = [word for name in _USED for word in ("--endpoint", name)]
    subprocess.run(
        [sys.executable, "-m", "f1hbase", "export", "--from", str(files), "--to", str(work / "tables"), *endpoints],
        check=True, cwd=work, capture_output=True,
    )  # fmt: skip
    with dbt("build", work / "tables", "export", work) as database:
        yield database


def test_silver_has_each_record_once(built: duckdb.DuckDBPyConnection, files: Path) -> None:
    for table in _SILVER:
        endpoint = {"silver_locations": "location"}.get(table, table.removeprefix("silver_"))
        assert rows(built, f"SELECT count(*) FROM {table}") == [(len(records(files, endpoint)),)]
        assert rows(built, f"SELECT count(*) FROM {table} WHERE batch_day IS NULL OR session_name IS NULL") == [(0,)]
    laps = rows(built, "SELECT session_key, driver_number, lap_number, lap_duration, st_speed FROM silver_laps")
    wanted = [
        (r["session_key"], r["driver_number"], r["lap_number"], r["lap_duration"], r["st_speed"])
        for r in records(files, "laps")
    ]
    assert sorted(map(repr, laps)) == sorted(map(repr, wanted))


def test_the_leaderboard_is_the_result(built: duckdb.DuckDBPyConnection, files: Path) -> None:
    shown = rows(built, "SELECT session_key, driver_number, position, number_of_laps, status FROM session_leaderboard")
    wanted = [
        (
            r["session_key"], r["driver_number"], r["position"], r["number_of_laps"],
            next((name.upper() for name in ("dsq", "dns", "dnf") if r[name]), None),
        )
        for r in records(files, "session_result")
    ]  # fmt: skip
    assert sorted(map(repr, shown)) == sorted(map(repr, wanted))
    # Nothing but laps is enough to say who was where.
    (differ,) = rows(
        built, "SELECT count(*) FROM session_leaderboard WHERE position IS NOT NULL AND position <> position_by_laps"
    )
    assert differ == (0,)
    gaps = rows(
        built, "SELECT session_key, driver_number, gap_to_leader FROM session_leaderboard WHERE gap_to_leader > 0"
    )
    for session_key, driver, gap in gaps:
        (record,) = records(files, "session_result", session_key=session_key, driver_number=driver)
        stated = record["gap_to_leader"]
        assert gap == ([one for one in stated if one is not None][-1] if isinstance(stated, list) else stated)
    assert len(gaps) > 3


def test_gold_is_about_the_same_laps(built: duckdb.DuckDBPyConnection, files: Path) -> None:
    laps = records(files, "laps")
    assert rows(built, "SELECT count(*), count(lap_duration) FROM fact_laps") == [
        (len(laps), sum(record["lap_duration"] is not None for record in laps))
    ]
    for session_key, driver, best, count in rows(
        built, "SELECT session_key, driver_number, best_lap_duration, laps FROM driver_session_summary"
    ):
        own = [r["lap_duration"] for r in laps if (r["session_key"], r["driver_number"]) == (session_key, driver)]
        assert (best, count) == (min((one for one in own if one is not None), default=None), len(own))
    tyres = {(r["session_key"], r["driver_number"], r["stint_number"]): r for r in records(files, "stints")}
    for key in rows(
        built, "SELECT session_key, driver_number, stint_number, lap_number, compound, tyre_age FROM fact_laps"
    ):
        stint = tyres[key[:3]]
        assert key[4:] == (stint["compound"], stint["tyre_age_at_start"] + key[3] - stint["lap_start"])
    teams = {(r["session_key"], r["team_name"]) for r in records(files, "drivers")}
    assert set(rows(built, "SELECT session_key, team_name FROM team_performance")) == teams


_REAL = {"2023_azerbaijan_sprint": 9069, "2023_azerbaijan_qualifying": 9064}


@pytest.fixture(scope="module")
def zone(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A landing zone with the simulated weekend and, where they are at hand, real sessions without locations."""
    work = tmp_path_factory.mktemp("landed")
    load(files, to=str(work / "zone"), layout="extractor", endpoint=_USED)
    endpoints = [name for name in _USED if name != "location"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(work / "state"))
        for name in _REAL if SHARED.exists() else ():
            with archive_in_thread(SHARED / "raw" / name / "static") as url:
                patch.setenv("F1HBASE_LIVETIMING_URL", url)
                done = f1hbase.load(source="livetiming", to=str(work / "zone"), year=2023, endpoint=endpoints)
            assert done.exit_code == 0
    return work / "zone"


@pytest.fixture(scope="module")
def landed(zone: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The tables by way of the landing zone."""
    with dbt("run", zone, "extractor", zone.parent) as database:
        yield database


def test_a_landing_zone_gives_the_same_tables(
    built: duckdb.DuckDBPyConnection, landed: duckdb.DuckDBPyConnection
) -> None:
    for table in (*_SILVER, *_GOLD):
        columns = [name for name, *_ in rows(built, f"DESCRIBE {table}") if not name.startswith("_")]
        simulated = f"year = {YEAR}" if "year" in columns else f"year(batch_day) = {YEAR}"
        query = f"SELECT {', '.join(columns)} FROM {table} WHERE {simulated} ORDER BY ALL"
        assert rows(landed, query) == rows(built, query), table
        assert rows(landed, query)
        assert rows(landed, f"DESCRIBE {table}") == rows(built, f"DESCRIBE {table}")
    (bare,) = rows(landed, "SELECT count(*) FROM bronze_laps WHERE batch_day IS NULL OR _ingestion_timestamp IS NULL")
    assert bare == (0,)


@pytest.mark.skipif(not SHARED.exists(), reason="the real sessions of live timing are not here (../shared)")
@pytest.mark.parametrize("name", _REAL)
def test_the_leaderboard_of_real_sessions_is_their_result(
    landed: duckdb.DuckDBPyConnection, zone: Path, name: str
) -> None:
    board = rows(
        landed,
        "SELECT driver_number, position, number_of_laps, gap_to_leader_text, position_by_laps "
        f"FROM session_leaderboard WHERE session_key = {_REAL[name]} ORDER BY driver_number",
    )
    results = f1hbase.open(zone).session(_REAL[name]).session_result().to_pylist()
    names = ("driver_number", "position", "number_of_laps", "gap_to_leader_text")
    assert [row[:4] for row in board] == [tuple(row[name] for name in names) for row in results]
    places = _places(json.loads((SHARED / "reference" / name / "oracle_jolpica.json").read_bytes()))
    assert {driver: place for driver, place, *_ in board}.items() <= places.items()
    assert len(board) >= 19
    if name.endswith("sprint"):
        assert [row[4] for row in board] == [row[1] for row in board]


def _places(official: Any) -> dict[int, int]:
    """Return the position of each driver, from wherever an answer of Jolpica has its list of results."""
    if isinstance(official, dict):
        official = list(official.values())
    if not isinstance(official, list):
        return {}
    if official and isinstance(official[0], dict) and {"number", "position"} <= official[0].keys():
        return {int(one["number"]): int(one["position"]) for one in official}
    return next((found for one in official if (found := _places(one))), {})


# --- the project itself ---


def test_the_fields_are_those_of_the_catalogue() -> None:
    text = (_PROJECT / "macros" / "fields.sql").read_text(encoding="utf-8")
    listed = {name: fields.split() for name, fields in re.findall(r"'(\w+)': '([\w ]+ [\w ]+)'", text)}
    assert listed.keys() == set(_USED)
    for name, fields in listed.items():
        assert fields == list(ENDPOINTS[name].fields), name
    suffixes = {column.name.removeprefix(column.field) for column in columns_of("session_result")} - {""}
    assert suffixes == {"_text", "_list"}
    mixed = {column.field for column in columns_of("session_result") if column.name != column.field}
    assert all(f"'{field}'" in text for field in mixed)
    plurals = dict(re.findall(r"'(\w+)': '(\w+)'", text[text.index("plural_of") :]))
    assert {name: plurals.get(name, name) for name in _USED} == {name: PLURALS[name] for name in _USED}


def test_every_model_is_described() -> None:
    described = {
        name
        for path in _PROJECT.rglob("models/**/*.yml")
        for name in re.findall(r"^  - name: (\w+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert described == {path.stem for path in _PROJECT.rglob("models/**/*.sql")}
    page = (_ROOT / "docs" / "analytics.md").read_text(encoding="utf-8")
    assert all(name in page for name in (*_SILVER, *_GOLD))
    assert all(name in page for name in re.findall(r"F1HBASE_\w+", (_PROJECT / "profiles.yml").read_text()))
