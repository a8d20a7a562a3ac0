"""FastF1 as a source: the genuine library over a static archive, beside what OpenF1 and the archive itself say."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from archive_server import SHARED, archive_in_thread, load, load_session, scopes, serving
from cli import Loader

from f1hbase.model.units import Unit
from f1hbase.sources.fastf1.library import Places
from f1hbase.sources.fastf1.records import FIELDS
from f1hbase.sources.fastf1.source import FastF1Options, open_source
from simulator.livetiming import write_archive

pytest.importorskip("fastf1", reason="FastF1 is not installed: pip install 'f1hbase[fastf1]'")

_NOWHERE = "http://127.0.0.1:9/ergast/f1"
_REAL = "2025_mexico_qualifying_first45min"

pytestmark = [
    # The library's own, and pandas' about it.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A race of two minutes and two cars, as the archive has it."""
    folder = tmp_path_factory.mktemp("season")
    arguments = ["--sessions", "race", "--minutes", "2", "--drivers", "2"]
    command = [sys.executable, "-m", "simulator", "make", str(folder / "records"), *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    write_archive(folder / "records", folder / "archive")
    return folder


def _records(folder: Path, endpoint: str) -> list[dict[str, Any]]:
    (path,) = folder.rglob(f"{endpoint}.jsonl.gz")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


async def test_a_simulated_race_comes_through_the_library(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    async with serving(archive / "archive") as url, open_source(FastF1Options(Places(url, _NOWHERE))) as source:
        (race,) = await scopes(source, mode="latest", num_sessions=1)
        loaded = await load_session(source, race)
    assert loaded.errors == {}
    assert loaded.quarantined == []
    drivers = {record["driver_number"] for record in _records(archive / "records", "drivers")}
    assert {record["driver_number"] for record in loaded.of("drivers")} == drivers
    # Every sample that was sent, in whatever millisecond FastF1 has rounded it to.
    for endpoint, fields in (("car_data", ("rpm", "speed", "n_gear", "throttle")), ("location", ("x", "y", "z"))):
        sent = [(r["driver_number"], *(r[f] for f in fields)) for r in _records(archive / "records", endpoint)]
        found = [(r["driver_number"], *(r[f] for f in fields)) for r in loaded.of(endpoint)]
        assert sorted(found) == sorted(sent)
    weather = [record["air_temperature"] for record in _records(archive / "records", "weather")]
    assert [record["air_temperature"] for record in loaded.of("weather")] == weather
    parts = [answer for answer in loaded.answers if answer.unit.endpoint == "car_data"]
    assert [answer.complete for answer in parts] == [False] * (len(drivers) - 1) + [True], "a driver at a time"
    assert (tmp_path / "f1hbase" / "fastf1").is_dir(), "the cache is below the state folder"
    assert {unit.endpoint for unit in source.lacking()} == {"intervals", "pit", "team_radio", "race_control"} | {
        "overtakes", "position", "starting_grid", "championship_drivers", "championship_teams", "sessions",
    }  # fmt: skip


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"there is no {SHARED} with real sessions")
async def test_a_real_qualifying_has_the_laps_and_samples_that_openf1_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    names = ("laps", "stints", "weather", "car_data")
    real = SHARED / "raw" / _REAL / "static"
    async with serving(real) as url, open_source(FastF1Options(Places(url, _NOWHERE))) as source:
        (session,) = await scopes(source, mode="manual", session_key=(9873,), year=(2025,))
        loaded = await load(source, [Unit(name, session) for name in names], as_rows=True)
    reference = SHARED / "reference" / _REAL
    laps = {(r["driver_number"], r["lap_number"]): r for r in _records(reference, "laps")}
    mine = {(r["driver_number"], r["lap_number"]): r for r in loaded.of("laps")}
    assert len(mine) > 150
    assert mine.keys() <= laps.keys()
    for field in ("lap_duration", "duration_sector_1", "duration_sector_2", "i1_speed", "st_speed", "is_pit_out_lap"):
        both = [
            (lap[field], laps[key][field])
            for key, lap in mine.items()
            if lap[field] is not None and laps[key][field] is not None
        ]
        assert len(both) > 100
        assert [one for one, _ in both] == [other for _, other in both]
    assert {lap["compound"] for lap in mine.values()} >= {"SOFT"}
    assert all(lap["tyre_life"] >= 1 for lap in mine.values() if "tyre_life" in lap)
    assert len(loaded.of("stints")) == len(_records(reference, "stints"))
    assert len(loaded.of("weather")) == len(_records(reference, "weather"))
    assert len(loaded.rows["car_data"]) == len(_records(reference, "car_data"))


async def test_a_session_without_laps_is_said(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    copy = tmp_path / "archive"
    for path in (archive / "archive").rglob("*"):
        if path.is_file() and path.name not in {"TimingData.jsonStream", "TimingAppData.jsonStream"}:
            target = copy / path.relative_to(archive / "archive")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    async with serving(copy) as url, open_source(FastF1Options(Places(url, _NOWHERE))) as source:
        (race,) = await scopes(source, mode="latest", num_sessions=1)
        loaded = await load(source, [Unit("laps", race), Unit("weather", race)])
    assert loaded.errors == {}
    assert loaded.of("laps") == []
    assert loaded.of("weather")
    assert "FastF1 has none of this session" in caplog.text


def test_a_load_lands_json_by_date_and_parquet_by_export(archive: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    with archive_in_thread(archive / "archive") as url:
        settings = {"LIVETIMING_URL": url, "JOLPICA_URL": _NOWHERE, "PATIENCE": "5s"}
        environment = {f"F1HBASE_{name}": value for name, value in settings.items()}
        loader = Loader(tmp_path, environment | {"XDG_STATE_HOME": str(tmp_path / "state")})
        endpoints = [word for name in ("laps", "weather", "car_data") for word in ("--endpoint", name)]
        output = loader.run("load", "--from", "fastf1", "--mode", "latest", *endpoints, "--to", "./zone",
                            "--layout", "dated")  # fmt: skip
    assert "all that was asked for is loaded" in output
    landed = sorted((tmp_path / "zone" / "raw").glob("*/fastf1/*.json"))
    assert landed
    lists = [json.loads(path.read_bytes()) for path in landed]
    assert {tuple(sorted(one[0])) for one in lists if one and "compound" in one[0]}, "laps with their tyres"
    loader.run("export", "--from", "./zone", "--to", "./files", "--endpoint", "car_data")
    (file,) = (tmp_path / "files").rglob("car_data.parquet")
    assert pq.read_table(file).num_rows == len(_records(archive / "records", "car_data"))


def test_without_the_library_the_line_that_installs_it_is_named(tmp_path: Path) -> None:
    code = (
        "import importlib.util, sys; find = importlib.util.find_spec;"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'fastf1' else find(name, *rest);"
        "import f1hbase\n"
        "try:\n    f1hbase.plan(source='fastf1', to='./zone')\n"
        "except Exception as error:\n    print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "SetupError FastF1 is not installed: pip install 'f1hbase[fastf1]'."


def test_what_fastf1_has_not_is_refused_by_name(tmp_path: Path) -> None:
    loader = Loader(tmp_path, {"XDG_STATE_HOME": str(tmp_path / "state")})
    output = loader.run("plan", "--from", "fastf1", "--endpoint", "intervals", "--to", "./zone", exit_code=2)
    assert f"fastf1 has no such records. It has meetings, sessions, {', '.join(FIELDS)}" in output
    assert "FastF1 has laps and telemetry since 2018" in loader.run(
        "plan", "--from", "fastf1", "--year", "2017", "--to", "./zone", exit_code=2
    )
