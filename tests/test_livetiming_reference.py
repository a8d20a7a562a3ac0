"""Real sessions of F1's archive against the records that OpenF1 makes of the same files, every one of them.

What is not equal is named here and in docs/livetiming.md, with the reason.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from archive_server import SHARED, Loaded, load_session, opened, scopes

from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.records import identity
from f1hbase.model.samples import Record
from f1hbase.sources.recordings import RecordingRecipe

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real sessions are not at {SHARED}")

_SESSIONS = {
    "2023_azerbaijan_qualifying": 9064,
    "2023_azerbaijan_sprint": 9069,
    "2023_azerbaijan_sprint_shootout": 9278,
    "2024_britain_practice_1": 9551,
    "2024_china_sprint_qualifying": 9668,
    "2025_australia_race_first105min": 9693,
    "2025_mexico_qualifying_first45min": 9873,
}
_REFERENCES = (
    "car_data", "location", "position", "intervals", "overtakes", "weather", "team_radio", "race_control", "drivers",
    "championship_drivers", "championship_teams", "pit", "laps", "stints",
)  # fmt: skip

_DEVIATIONS: dict[tuple[int, str], str] = {
    (9064, "drivers"): "OpenF1 takes the last DriverList message alone; ours merges them",
    (9069, "drivers"): "OpenF1 skips a DriverList with fewer than 20 entries",
    (9069, "laps"): "OpenF1 knows the start from SessionData alone, which is absent, and the flag not at all",
    (9278, "race_control"): "OpenF1's key has no message: one of two messages of a second is lost",
    (9693, "pit"): "OpenF1 does not merge PitStop messages",
}


def _reference(session: str, endpoint: str) -> dict[Any, Any]:
    """Return the records of the reference; samples as rows, which take a fifth of the memory."""
    path, kind = SHARED / "reference" / session / f"{endpoint}.jsonl.gz", ENDPOINTS[endpoint]
    if kind.sampled:
        rows = (tuple(record[name] for name in kind.fields) for record in _read(path))
        return {row[:4]: row for row in rows}
    return {identity(kind, record): record for record in _read(path)}


def _read(path: Path) -> Iterator[Record]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _text(record: Record) -> str:
    """Return what a record's cells say: 25.0 is not 25."""
    return json.dumps(record, sort_keys=True)


_loaded: dict[str, Loaded] = {}


async def _session(name: str) -> Loaded:
    if name not in _loaded:
        folder = SHARED / "raw" / name / "static"
        async with opened(folder) as source:
            (scope,) = await scopes(source, mode="year", year=(int(name[:4]),))
            assert scope.session_key == _SESSIONS[name]
            loaded = await load_session(source, scope, as_rows=True)
        assert not loaded.errors
        assert not loaded.quarantined
        _loaded[name] = loaded
    return _loaded[name]


@pytest.mark.parametrize("name", _SESSIONS)
@pytest.mark.parametrize("endpoint", _REFERENCES)
async def test_every_record_equals_the_reference(name: str, endpoint: str) -> None:
    loaded, reference = await _session(name), _reference(name, endpoint)

    if ENDPOINTS[endpoint].sampled:
        rows = loaded.rows.get(endpoint, {})
        assert len(rows) == len(reference)
        assert [row for key, row in rows.items() if reference.get(key) != row] == []
        assert {type(value) for row in rows.values() for value in row} <= {int, str}
    elif (_SESSIONS[name], endpoint) not in _DEVIATIONS:
        assert loaded.records[endpoint].keys() == reference.keys()
        ours = loaded.records[endpoint].items()
        assert [key for key, record in ours if _text(record) != _text(reference[key])] == []


async def test_drivers_of_several_messages_are_merged() -> None:
    ours = (await _session("2023_azerbaijan_qualifying")).records["drivers"]
    reference = _reference("2023_azerbaijan_qualifying", "drivers")

    assert ours.keys() == reference.keys()
    for key, record in reference.items():
        told = {name: value for name, value in record.items() if value is not None}
        assert told == {name: ours[key][name] for name in told}
        assert None not in ours[key].values()


async def test_a_driver_list_of_nineteen_entries_is_taken() -> None:
    assert len((await _session("2023_azerbaijan_sprint")).of("drivers")) == 19


async def test_the_laps_of_a_sprint_begin_at_the_start_and_end_at_the_flag() -> None:
    ours = (await _session("2023_azerbaijan_sprint")).records["laps"]
    reference = _reference("2023_azerbaijan_sprint", "laps")

    # The laps driven back to the pits are none of the race: it had 17.
    extra = reference.keys() - ours.keys()
    assert not ours.keys() - reference.keys()
    assert {key[-1] for key in extra} == {18}
    # Of the first lap OpenF1 knows neither beginning nor time.
    different = {key for key, lap in ours.items() if lap != reference[key]}
    assert {key[-1] for key in different} == {1}
    gained = {"date_start", "lap_duration", "duration_sector_1"}
    for key in different:
        assert {name for name, value in ours[key].items() if value != reference[key][name]} <= gained
        assert ours[key]["date_start"] == "2023-04-29T14:00:16.328000+00:00"


async def test_two_messages_of_one_second_are_two_records() -> None:
    ours = (await _session("2023_azerbaijan_sprint_shootout")).records["race_control"]
    reference = _reference("2023_azerbaijan_sprint_shootout", "race_control")

    assert not reference.keys() - ours.keys()
    assert [ours[key]["message"] for key in ours.keys() - reference.keys()] == [
        "CAR 14 (ALO) TIME 1:58.103 DELETED - DOUBLE YELLOW AT TURN 3"
    ]
    assert all(ours[key] == record for key, record in reference.items())


async def test_a_pit_stop_that_leaves_out_what_has_not_changed_is_complete() -> None:
    ours = (await _session("2025_australia_race_first105min")).records["pit"]
    reference = _reference("2025_australia_race_first105min", "pit")

    assert ours.keys() == reference.keys()
    different = [key for key, stop in ours.items() if stop != reference[key]]
    assert [key[-2:] for key in different] == [(30, 4)]
    assert ours[different[0]] == {**reference[different[0]], "stop_duration": 2.5}


@pytest.mark.parametrize("name", _SESSIONS)
async def test_sessions_are_those_of_the_reference(name: str) -> None:
    (session,) = (await _session(name)).of("sessions")
    (reference,) = _read(SHARED / "reference" / name / "sessions.legacy.jsonl.gz")

    if name == "2023_azerbaijan_sprint_shootout":
        # OpenF1 calls it by the name of today.
        reference["session_name"] = "Sprint Qualifying"
    assert session == reference


@pytest.mark.parametrize("name", ["2023_azerbaijan_qualifying", "2023_azerbaijan_sprint"])
async def test_results_are_the_official_ones_as_far_as_live_timing_knows(name: str) -> None:
    results = (await _session(name)).of("session_result")
    oracle = json.loads((SHARED / "reference" / name / "oracle_jolpica.json").read_bytes())
    official = _official(oracle)

    # Who did not start has a place in the official result, and none on the timing screen.
    assert {r["driver_number"] for r in results} <= official.keys()
    assert len(results) >= len(official) - 1
    assert {r["driver_number"]: r["position"] for r in results}.items() <= official.items()


def _official(oracle: Any) -> dict[int, int]:
    """Return the position of each driver, from wherever the answer has its list of results."""
    if isinstance(oracle, dict):
        for name in ("QualifyingResults", "SprintResults", "Results"):
            if name in oracle:
                return {int(one["number"]): int(one["position"]) for one in oracle[name]}
        oracle = list(oracle.values())
    if isinstance(oracle, list):
        for item in oracle:
            if found := _official(item):
                return found
    return {}


async def _recording(*names: str) -> Loaded:
    folder = SHARED / "raw" / "2025_saopaulo_sprint_live"
    path = folder / names[0] if names else folder
    async with RecordingRecipe(path).open(1.0) as source:
        (scope,) = await scopes(source)
        return await load_session(source, scope)


def _live_reference(endpoint: str) -> dict[Any, Record]:
    """Return what OpenF1 made of recorder a, in the spelling of REST and without what is none of the record."""
    records = {}
    for record in _read(SHARED / "reference" / "2025_saopaulo_sprint_live" / f"{endpoint}.final.jsonl.gz"):
        told = {name: value for name, value in record.items() if not name.startswith("_")}
        for name in ("date", "date_start"):
            if told.get(name) and "+" not in told[name]:
                told[name] += "+00:00"
        records[identity(ENDPOINTS[endpoint], told)] = told
    return records


async def test_a_recording_gives_what_openf1_made_of_it() -> None:
    loaded = await _recording("recorder_a.fastf1.txt.gz")

    assert not loaded.quarantined
    for endpoint in ("position", "weather", "race_control", "stints"):
        assert loaded.records[endpoint] == _live_reference(endpoint), endpoint
    # OpenF1 learnt late that it is a race, and counts each lap one too low.
    reference = {key: lap for key, lap in _live_reference("laps").items() if 8 <= lap["lap_number"] < 23}
    shifted = {(*key[:3], key[3] + 1): {**lap, "lap_number": lap["lap_number"] + 1} for key, lap in reference.items()}
    ours = {key: lap for key, lap in loaded.records["laps"].items() if key in shifted}
    different = {key for key, lap in shifted.items() if ours.get(key) != lap}
    assert len(shifted) > 250
    assert different == set()


async def test_two_recordings_of_one_session_are_one_each_row_once() -> None:
    a, both = await _recording("recorder_a.fastf1.txt.gz"), await _recording()

    for endpoint in ("position", "weather"):
        assert a.records[endpoint].items() <= both.records[endpoint].items()
    dates = sorted(record["date"] for record in both.of("weather"))
    # One a minute, whichever recorder has it.
    assert len(dates) == 85
    assert len({date[:16] for date in dates}) == len(dates)
