"""The genuine FastF1 reads the same files as f1hbase: on every lap, time and sample that both give they agree."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from archive_server import SHARED, Loaded, load, opened, scopes, serving
from live_server import season_of

from f1hbase.model.units import Unit
from simulator.livetiming import write_archive

pandas = pytest.importorskip("pandas")
api = pytest.importorskip("fastf1._api", reason="the genuine FastF1 is not installed")
requests = pytest.importorskip("fastf1.req")

pytestmark = pytest.mark.filterwarnings("default")

_TIMES = {
    "lap_duration": "LapTime",
    "duration_sector_1": "Sector1Time",
    "duration_sector_2": "Sector2Time",
    "duration_sector_3": "Sector3Time",
}
_SPEEDS = {"i1_speed": "SpeedI1", "i2_speed": "SpeedI2", "st_speed": "SpeedST"}
_CAR = {"rpm": "RPM", "speed": "Speed", "n_gear": "nGear", "throttle": "Throttle", "drs": "DRS"}
_AXES = {"x": "X", "y": "Y", "z": "Z"}


@dataclass
class _Both:
    """A session as f1hbase and as FastF1 read it.

    Attributes:
        ours: What f1hbase gives.
        laps: FastF1's laps.
        cars, places: FastF1's samples by driver number, where they were asked for.
    """

    ours: Loaded
    laps: Any
    cars: dict[str, Any]
    places: dict[str, Any]


async def _read(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, *, telemetry: bool) -> _Both:
    """Read the only session of an archive with both."""
    requests.Cache.configure(cache_dir=str(cache))
    endpoints = ("laps", "car_data", "location") if telemetry else ("laps",)
    async with opened(folder) as source:
        (scope,) = await scopes(source, mode="all")
        ours = await load(source, [Unit(name, scope) for name in endpoints])
    (index,) = [path async for path in _glob(folder, "*/*/*/Index.json")]
    path = f"/static/{index.parent.relative_to(folder).as_posix()}/"
    async with serving(folder) as url:
        # Both, so that what is missing is not looked for elsewhere.
        monkeypatch.setattr(api, "base_url", url.removesuffix("/static"))
        monkeypatch.setattr(api, "base_url_mirror", url.removesuffix("/static"))
        laps, _ = await asyncio.to_thread(api.timing_data, path)
        cars = await asyncio.to_thread(api.car_data, path) if telemetry else {}
        places = await asyncio.to_thread(api.position_data, path) if telemetry else {}
    return _Both(ours, laps, cars, places)


async def _glob(folder: Path, pattern: str) -> Any:
    for path in await asyncio.to_thread(lambda: sorted(folder.glob(pattern))):
        yield path


def _compare_laps(both: _Both) -> Counter[str]:
    """Hold each value that both give against the other, and return how many there are of each field."""
    ours = {(lap["driver_number"], lap["lap_number"]): lap for lap in both.ours.of("laps")}
    compared: Counter[str] = Counter()
    for _, row in both.laps.iterrows():
        lap = ours.get((int(row["Driver"]), int(row["NumberOfLaps"])))
        assert lap is not None, f"FastF1 has lap {row['NumberOfLaps']} of {row['Driver']}"
        for field, column in (_TIMES | _SPEEDS).items():
            theirs = row[column]
            if pandas.isna(theirs) or lap[field] is None:
                continue
            value = theirs.total_seconds() if field in _TIMES else float(theirs)
            assert lap[field] == pytest.approx(value, abs=1e-6), (row["Driver"], row["NumberOfLaps"], field)
            compared[field] += 1
    return compared


def _compare_samples(both: _Both, endpoint: str) -> int:
    """Hold each sample against FastF1's, and return how many there are."""
    frames, fields = (both.cars, _CAR) if endpoint == "car_data" else (both.places, _AXES)
    theirs = set()
    for number, frame in frames.items():
        known = frame[frame["Time"].notna()]  # the others FastF1 has filled in
        dates = known["Date"].dt.floor("ms").dt.strftime("%Y-%m-%dT%H:%M:%S.%f")
        columns = [known[column].astype(float).tolist() for column in fields.values()]
        if endpoint == "car_data":
            columns.append(known["Brake"].astype(float).tolist())
        theirs |= set(zip([int(number)] * len(known), dates.tolist(), *columns, strict=True))
    ours = set()
    for sample in both.ours.of(endpoint):
        date = sample["date"].removesuffix("+00:00")
        values = [float(sample[field] or 0) for field in fields]
        if endpoint == "car_data":
            values.append(float(bool(sample["brake"])))  # FastF1 keeps whether, not how much
        ours.add((sample["driver_number"], date if "." in date else f"{date}.000000", *values))
    assert len(ours - theirs) == 0, sorted(ours - theirs)[:3]
    assert len(theirs - ours) == 0, sorted(theirs - ours)[:3]
    return len(ours)


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real sessions are not in {SHARED}")
@pytest.mark.parametrize(
    ("name", "laps", "speeds"),
    [
        ("2025_australia_race_first105min", 270, 270),
        ("2023_azerbaijan_sprint", 280, 290),
        ("2024_britain_practice_1", 200, 200),
    ],
)
async def test_laps_of_real_sessions(
    name: str, laps: int, speeds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = await _read(SHARED / "raw" / name / "static", tmp_path, monkeypatch, telemetry=False)

    compared = _compare_laps(both)

    assert compared["lap_duration"] >= laps
    assert compared["i1_speed"] >= speeds


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real sessions are not in {SHARED}")
async def test_laps_and_telemetry_of_a_real_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, cache = tmp_path / "archive", tmp_path / "cache"
    cache.mkdir()
    await asyncio.to_thread(_thinned, SHARED / "raw" / "2025_mexico_qualifying_first45min" / "static", folder)
    both = await _read(folder, cache, monkeypatch, telemetry=True)

    assert _compare_laps(both)["lap_duration"] == 123
    assert _compare_samples(both, "car_data") > 40_000
    assert _compare_samples(both, "location") > 40_000


def _thinned(archive: Path, folder: Path) -> None:
    """Copy an archive with every fourth message of telemetry, of which FastF1 takes long to read all."""
    shutil.copytree(archive, folder)
    for path in folder.rglob("*.z.jsonStream"):
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[::4]))


async def test_telemetry_of_a_simulated_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    season = season_of(tmp_path / "season", "--sessions", "race", "--minutes", "3", "--drivers", "4")
    await asyncio.to_thread(write_archive, season, tmp_path / "archive")
    (tmp_path / "cache").mkdir()

    both = await _read(tmp_path / "archive", tmp_path / "cache", monkeypatch, telemetry=True)

    # FastF1 finds no laps in simulated timing data.
    assert _compare_samples(both, "car_data") == len(both.ours.of("car_data")) > 1_000
    assert _compare_samples(both, "location") > 1_000
