"""A simulated session from the archive, record by record as from the OpenF1-like server."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from archive_server import Loaded, load, load_session, opened, scopes

from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.plans import Selection
from f1hbase.model.records import identity
from f1hbase.model.samples import Record
from f1hbase.model.units import Unit
from simulator.livetiming import write_archive

_EXACT = (
    "car_data", "location", "weather", "position", "drivers", "overtakes", "pit", "championship_drivers",
    "championship_teams",
)  # fmt: skip


@pytest.fixture(scope="module")
def season(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("season")
    arguments = ["--sessions", "qualifying,race", "--minutes", "3", "--drivers", "6"]
    subprocess.run(
        [sys.executable, "-m", "simulator", "make", str(folder), *arguments], check=True, stdout=subprocess.DEVNULL
    )
    return folder


@pytest.fixture(scope="module")
def archive(season: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    write_archive(season, folder)
    return folder


def _truth(season: Path, kind: str, endpoint: str) -> dict[Any, Record]:
    (path,) = season.glob(f"*/session-*-{kind}")
    file = path / f"{endpoint}.jsonl.gz"
    if not file.exists():
        return {}
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    return {identity(ENDPOINTS[endpoint], record): record for record in records}


async def _loaded(archive: Path, kind: str) -> Loaded:
    async with opened(archive) as source:
        (scope,) = [one for one in await scopes(source, year=(2025,), mode="year") if one.kind == kind.capitalize()]
        return await load_session(source, scope)


def _by_identity(loaded: Loaded, endpoint: str) -> dict[Any, Record]:
    return {identity(ENDPOINTS[endpoint], record): record for record in loaded.of(endpoint)}


@pytest.mark.parametrize("kind", ["qualifying", "race"])
async def test_the_archive_gives_the_records_that_the_api_gives(season: Path, archive: Path, kind: str) -> None:
    loaded = await _loaded(archive, kind)

    assert not loaded.errors
    assert not loaded.quarantined
    for endpoint in _EXACT:
        assert _by_identity(loaded, endpoint) == _truth(season, kind, endpoint), endpoint


async def test_a_race_has_intervals_but_those_that_say_nothing(season: Path, archive: Path) -> None:
    loaded = await _loaded(archive, "race")

    truth = {
        key: record
        for key, record in _truth(season, "race", "intervals").items()
        if record["gap_to_leader"] is not None or record["interval"] is not None
    }
    assert truth
    assert _by_identity(loaded, "intervals") == truth


@pytest.mark.parametrize("kind", ["qualifying", "race"])
async def test_race_control_comes_with_the_part_of_qualifying_as_a_number(
    season: Path, archive: Path, kind: str
) -> None:
    loaded = await _loaded(archive, kind)

    truth, ours = _truth(season, kind, "race_control"), _by_identity(loaded, "race_control")
    assert truth.keys() == ours.keys()
    for key, record in truth.items():
        part = record.pop("qualifying_phase")
        if part is None:  # between two parts the simulator has none, and live timing the last one
            ours[key].pop("qualifying_phase")
        elif record["category"] in {"Flag", "CarEvent", "SafetyCar", "SessionStatus"}:
            assert ours[key].pop("qualifying_phase") == int(re.sub(r"\D", "", part))
        else:
            assert ours[key].pop("qualifying_phase") is None
    assert ours == truth


@pytest.mark.parametrize("kind", ["qualifying", "race"])
async def test_recordings_of_team_radio_are_below_the_sessions_path(season: Path, archive: Path, kind: str) -> None:
    loaded = await _loaded(archive, kind)

    truth = _truth(season, kind, "team_radio")
    assert truth.keys() == _by_identity(loaded, "team_radio").keys()
    for record in loaded.of("team_radio"):
        assert record["recording_url"].startswith("https://livetiming.formula1.com/static/2025/")


@pytest.mark.parametrize("kind", ["qualifying", "race"])
async def test_laps_are_put_together_from_what_is_said_while_they_are_driven(
    season: Path, archive: Path, kind: str
) -> None:
    loaded = await _loaded(archive, kind)

    laps, truth = _by_identity(loaded, "laps"), _truth(season, kind, "laps")
    (flag,) = [r["date"] for r in loaded.of("race_control") if r["message"] == "CHEQUERED FLAG"][:1]
    driven = [key for key, lap in truth.items() if lap["lap_number"] > 1 and lap["date_start"] < flag]
    assert driven
    fields = ("date_start", "lap_duration", "duration_sector_2", "duration_sector_3", "i1_speed", "i2_speed")
    for key in driven:
        assert {name: laps[key][name] for name in fields} == {name: truth[key][name] for name in fields}, key


async def test_the_grid_belongs_to_the_qualifying_session(season: Path, archive: Path) -> None:
    truth = _truth(season, "qualifying", "starting_grid")

    assert truth
    assert _by_identity(await _loaded(archive, "qualifying"), "starting_grid") == truth
    assert (await _loaded(archive, "race")).of("starting_grid") == []


async def test_sessions_and_meetings_have_openf1s_keys_places_and_times(season: Path, archive: Path) -> None:
    async with opened(archive) as source:
        listing = await source.listing(Selection(year=(2025,)))
        known = source.knows("sessions")

    truths = [next(iter(_truth(season, kind, "sessions").values())) for kind in ("qualifying", "race")]
    assert list(listing.sessions) == [{name: truth[name] for name in truth if name in known} for truth in truths]
    assert "is_cancelled" not in known


async def test_windows_and_drivers_are_parts_of_the_same(season: Path, archive: Path) -> None:
    async with opened(archive, window=timedelta(seconds=40)) as source:
        (scope,) = await scopes(source, mode="manual", session_key=(70002,))
        in_windows = await load(source, [Unit("car_data", scope)])
        of_one = await load(source, [Unit("car_data", scope, driver=11)])

    truth = _truth(season, "race", "car_data")
    assert _by_identity(in_windows, "car_data") == truth
    assert len(in_windows.answers) > 3
    assert _by_identity(of_one, "car_data") == {k: r for k, r in truth.items() if r["driver_number"] == 11}
