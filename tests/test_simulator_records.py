"""Simulated sessions look like real ones: in shape, in motion, and from one endpoint to the other."""

import gzip
import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterable
from datetime import date, datetime
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from f1hbase.model.catalog import ENDPOINTS
from f1hbase.serve.file_store import KEY_FIELDS, FileStore, identity_fields
from simulator import Plan, simulate
from simulator.cli import main
from simulator.track import make_track

SAMPLES = Path(__file__).parents[2] / "shared" / "openf1-real" / "endpoint-samples.json"
RACE = 70_005

Record = dict[str, Any]


def records(folder: Path, endpoint: str) -> list[Record]:
    found: list[Record] = []
    for file in sorted(folder.rglob(f"{endpoint}.jsonl.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            found.extend(json.loads(line) for line in lines)
    return found


def digest(folder: Path) -> str:
    total = hashlib.sha256()
    for file in sorted(folder.rglob("*.gz")):
        total.update(str(file.relative_to(folder)).encode() + file.read_bytes())
    return total.hexdigest()


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def by_driver(found: Iterable[Record]) -> dict[tuple[int, int], list[Record]]:
    cars = defaultdict(list)
    for one in found:
        cars[one["session_key"], one["driver_number"]].append(one)
    return cars


@pytest.fixture(scope="module")
def weekend(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("weekend")
    list(simulate(out, Plan(seed=4, minutes=2, drivers=8)))
    return out


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        list(simulate(tmp_path / name, Plan(seed=seed, minutes=1, drivers=3, sessions=("qualifying", "race"))))
    assert digest(tmp_path / "a") == digest(tmp_path / "b") != digest(tmp_path / "c")


def test_the_bytes_are_those_of_earlier_versions(tmp_path: Path) -> None:
    list(simulate(tmp_path, Plan(seed=1, minutes=1, drivers=3, sessions=("qualifying", "race"))))
    lines = hashlib.sha256()
    for file in sorted(tmp_path.rglob("*.gz")):  # unpacked: how zlib packs is its own affair
        lines.update(str(file.relative_to(tmp_path)).encode() + gzip.decompress(file.read_bytes()))
    assert lines.hexdigest() == "e61409cf250707d1cbbfd4770216dbf011bf5dc4f4f5dcd8859f82cb786c2559"


@pytest.mark.parametrize("minutes", [1, 10])
def test_a_safety_car_is_in_location_alone_and_changes_nothing_else(tmp_path: Path, minutes: int) -> None:
    for name, with_it in (("without", False), ("with", True)):
        plan = Plan(minutes=minutes, drivers=2, sessions=("practice", "sprint", "race"), safety_car=with_it)
        list(simulate(tmp_path / name, plan))
    for endpoint in ENDPOINTS:
        plain, more = records(tmp_path / "without", endpoint), records(tmp_path / "with", endpoint)
        assert [one for one in more if one.get("driver_number") != 241] == plain
        extra = [one for one in more if one.get("driver_number") == 241]
        assert bool(extra) == (endpoint == "location")
        for session, found in by_driver(extra).items():
            dates = [seconds(one["date"]) for one in found]
            assert dates == sorted(set(dates))
            assert 0.05 * 60 * minutes < dates[-1] - dates[0] < 12 * 60, session
            (facts,) = [one for one in records(tmp_path / "with", "sessions") if one["session_key"] == session[0]]
            assert facts["session_type"] == "Race"
            assert seconds(facts["date_start"]) < dates[0]
        assert len(by_driver(extra)) == 2 * bool(extra)


@pytest.mark.parametrize(("minutes", "drivers"), [(1, 2), (1, 20), (3, 5)])
def test_every_endpoint_has_records_even_in_a_minute(tmp_path: Path, minutes: int, drivers: int) -> None:
    list(simulate(tmp_path, Plan(seed=3, minutes=minutes, drivers=drivers)))
    store = FileStore.load([tmp_path])
    assert store.endpoints() == sorted(ENDPOINTS)
    assert all(store.count(endpoint) for endpoint in ENDPOINTS)


@pytest.mark.parametrize("endpoint", sorted(ENDPOINTS))
def test_no_identity_comes_twice_and_the_store_keeps_all(weekend: Path, endpoint: str) -> None:
    found = records(weekend, endpoint)
    keys = {
        tuple(str(one.get(field)) for field in (*KEY_FIELDS, *identity_fields(ENDPOINTS[endpoint]))) for one in found
    }
    assert len(keys) == len(found) > 0


@pytest.mark.parametrize("endpoint", sorted(ENDPOINTS))
def test_records_have_the_fields_and_types_of_openf1(weekend: Path, endpoint: str) -> None:
    if not SAMPLES.is_file():
        pytest.skip(f"the samples are not at {SAMPLES}")
    (sample, *_) = json.loads(SAMPLES.read_text())[endpoint]
    # The samples lack a field that the real records have.
    extra = {"country_code"} if endpoint == "drivers" else set()
    for one in records(weekend, endpoint):
        assert set(one) == set(sample) | extra
        for field, value in sample.items():
            if field not in {"gap_to_leader", "interval", "duration"} and None not in (value, one[field]):
                kinds = (int, float) if isinstance(value, int | float) else type(value)
                assert isinstance(one[field], kinds), (field, one[field])


def test_samples_begin_before_the_session_and_end_after_it(weekend: Path) -> None:
    sessions = {one["session_key"]: one for one in records(weekend, "sessions")}
    for endpoint in ("car_data", "location"):
        for (session, _), found in by_driver(records(weekend, endpoint)).items():
            dates = [one["date"] for one in found]
            assert dates == sorted(dates)
            assert -300 <= seconds(dates[0]) - seconds(sessions[session]["date_start"]) < 0
            assert 0 < seconds(dates[-1]) - seconds(sessions[session]["date_end"]) <= 720


def test_cars_accelerate_and_brake_as_formula_1_cars_do(weekend: Path) -> None:
    for found in by_driver(records(weekend, "car_data")).values():
        for before, after in pairwise(found):
            step = seconds(after["date"]) - seconds(before["date"])
            change = (after["speed"] - before["speed"]) / 3.6
            slack = 0.6  # whole km/h, and milliseconds
            assert -55 * step - slack <= change <= 16 * step + slack
            assert step > 0


def test_pedals_gears_and_revs_fit_the_speed(weekend: Path) -> None:
    tops: dict[int, int] = defaultdict(int)
    for one in records(weekend, "car_data"):
        assert 0 <= one["throttle"] <= 100
        assert one["brake"] in {0, 100}
        assert not (one["brake"] and one["throttle"])
        assert one["drs"] in {0, 8, 10, 12, 14}
        assert 0 <= one["rpm"] <= 12_500
        assert (one["n_gear"] == 0) <= (one["speed"] == 0)
        tops[one["n_gear"]] = max(tops[one["n_gear"]], one["speed"])
    assert [tops[gear] for gear in sorted(tops)] == sorted(tops.values())


def test_cars_stay_on_the_track_or_in_the_pit_lane(weekend: Path) -> None:
    found = records(weekend, "location")
    grid = {(one["x"] // 100, one["y"] // 100) for one in found if one["session_key"] < RACE}
    near = {(x + dx, y + dy) for x, y in grid for dx in (-2, -1, 0, 1, 2) for dy in (-2, -1, 0, 1, 2)}
    assert all((one["x"] // 100, one["y"] // 100) in near for one in found if one["session_key"] == RACE)


def test_location_moves_as_fast_as_car_data_says(weekend: Path) -> None:
    cars, places = by_driver(records(weekend, "car_data")), by_driver(records(weekend, "location"))
    for who, found in cars.items():
        top = max(one["speed"] for one in found)
        for before, after in pairwise(places[who]):
            step = seconds(after["date"]) - seconds(before["date"])
            way = math.dist((before["x"], before["y"]), (after["x"], after["y"])) / 10
            assert way <= 1.12 * top / 3.6 * step + 0.5


def test_laps_add_up_and_follow_one_another(weekend: Path) -> None:
    for found in by_driver(records(weekend, "laps")).values():
        assert [one["lap_number"] for one in found] == list(range(1, len(found) + 1))
        for lap, after in zip(found, [*found[1:], None], strict=True):
            sectors = [lap[f"duration_sector_{one}"] for one in (1, 2, 3)]
            if lap["lap_duration"] is None:
                continue
            assert lap["lap_duration"] == pytest.approx(sum(sectors), abs=0.0015)
            if lap["date_start"] and after and after["date_start"] and not after["is_pit_out_lap"]:
                gap = seconds(after["date_start"]) - seconds(lap["date_start"])
                assert gap == pytest.approx(lap["lap_duration"], abs=0.01)


def test_stints_end_where_the_pit_stops_are(weekend: Path) -> None:
    stints, stops = by_driver(records(weekend, "stints")), by_driver(records(weekend, "pit"))
    for who, found in stints.items():
        assert all(after["lap_start"] == before["lap_end"] + 1 for before, after in pairwise(found))
        assert {one["lap_number"] for one in stops.get(who, [])} <= {one["lap_end"] for one in found}
    assert {one["session_key"] for one in records(weekend, "pit")} >= {RACE}


def test_overtakes_agree_with_positions(weekend: Path) -> None:
    positions = by_driver(records(weekend, "position"))
    overtakes = records(weekend, "overtakes")
    assert overtakes
    for one in overtakes:
        mine = positions[one["session_key"], one["overtaking_driver_number"]]
        at = [each for each in mine if seconds(each["date"]) <= seconds(one["date"]) + 0.05]
        assert at[-1]["position"] <= one["position"] or any(each["position"] == one["position"] for each in at)


def test_the_result_is_where_the_positions_end(weekend: Path) -> None:
    positions = by_driver(records(weekend, "position"))
    for one in records(weekend, "session_result"):
        if one["position"] is not None:
            assert positions[one["session_key"], one["driver_number"]][-1]["position"] == one["position"]


def test_intervals_are_numbers_words_and_nulls(tmp_path: Path) -> None:
    list(simulate(tmp_path, Plan(seed=4, minutes=6, sessions=("race",), drivers=20)))
    kinds = {type(one["gap_to_leader"]) for one in records(tmp_path, "intervals")}
    assert {float, type(None)} <= kinds <= {float, int, str, type(None)}
    gaps = {one["gap_to_leader"] for one in records(tmp_path, "intervals") if isinstance(one["gap_to_leader"], str)}
    assert all(one.startswith("+") and "LAP" in one for one in gaps)


def test_messages_of_race_control_share_seconds(weekend: Path) -> None:
    found = records(weekend, "race_control")
    dates = [(one["session_key"], one["date"]) for one in found]
    assert len(set(dates)) < len(dates)
    assert {"Flag", "SessionStatus", "Drs", "Other"} <= {one["category"] for one in found}
    assert {one["qualifying_phase"] for one in found} >= {None, "Q1"}


def test_whole_seconds_have_no_fraction(weekend: Path) -> None:
    dates = [one["date"] for one in records(weekend, "race_control")]
    assert any("." not in one for one in dates)
    assert all(datetime.fromisoformat(one).isoformat() == one for one in dates)


def test_a_season_goes_on_and_loses_a_meeting(tmp_path: Path) -> None:
    plan = Plan(seed=2, meetings=6, minutes=1, drivers=2, sessions=("race",), first_day=date(2026, 3, 6), year=2026)
    list(simulate(tmp_path, plan))
    meetings = records(tmp_path, "meetings")
    assert sum(one["is_cancelled"] for one in meetings) == 1
    assert len({one["meeting_key"] for one in meetings}) == 6
    races = sorted(records(tmp_path, "championship_drivers"), key=lambda one: one["session_key"])
    assert len({one["session_key"] for one in races}) == 5
    ends = {(one["session_key"], one["driver_number"]): one["points_current"] for one in races}
    keys = sorted({session for session, _ in ends})
    for one in races:
        before = keys.index(one["session_key"]) - 1
        start = ends[keys[before], one["driver_number"]] if before >= 0 else None
        assert one["points_start"] == start
    assert {one["drs"] for one in records(tmp_path, "car_data")} == {0}


def test_seasons_of_different_years_share_no_key_so_that_they_can_be_one_api(tmp_path: Path) -> None:
    keys = set()
    for year in (2024, 2025):
        found = simulate(tmp_path / str(year), Plan(year=year, meetings=2, sessions=("race",), minutes=1, drivers=1))
        keys |= {key for one in found for key in (one.meeting_key, one.session_key)}
    assert len(keys) == 8


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), st.floats(9, 100))
def test_a_track_is_closed_and_takes_the_time_asked_for(seed: int, lap_time: float) -> None:
    track = make_track(Random(seed), lap_time)
    assert track.lap.duration == pytest.approx(lap_time, rel=0.05)
    assert math.dist((track.lap.x[0], track.lap.y[0]), (track.lap.x[-1], track.lap.y[-1])) < 10
    assert track.lap.distance == sorted(track.lap.distance)
    assert track.marks == sorted(track.marks)
    assert track.pit_exit < track.sectors[0] < track.sectors[1] < track.pit_entry


def test_the_command_says_what_it_wrote_and_spares_what_is_there(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    arguments = [
        "make",
        out,
        "--minutes",
        "1",
        "--drivers",
        "2",
        "--sessions",
        "practice",
        "--start-date",
        "2024-05-03",
    ]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert "6901 69001 Practice 1:" in done.output
    assert records(tmp_path, "sessions")[0]["date_start"].startswith("2024-05-0")
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 1
    assert "is not empty" in again.output
    assert CliRunner().invoke(main, ["make", out, "--sessions", "parade"]).exit_code == 2
