"""What charts show: the numbers of the records, what slowed a lap marked, and what is missing said."""

from __future__ import annotations

import gzip
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archive_server import SHARED
from hypothesis import given
from hypothesis import strategies as st
from samples import sample
from stored_weekend import load, records, weekend

import f1hbase
from f1hbase import charts
from f1hbase.charts.colours import COMPOUNDS, DARK_GROUND, LEAST_CONTRAST, LIGHT_GROUND, contrast, readable
from f1hbase.charts.conditions import deleted_laps
from f1hbase.charts.laps import SLOW_BEYOND
from f1hbase.frames.session import NotLoadedError, Session
from f1hbase.model.times import parse_time

ALL: dict[str, Callable[[charts.SessionTables], Any]] = {
    "lap_times": charts.lap_times,
    "positions_by_lap": charts.positions_by_lap,
    "positions_over_time": charts.positions_over_time,
    "gaps_to_leader": charts.gaps_to_leader,
    "stints": charts.stints,
    "pit_stops": charts.pit_stops,
    "weather": charts.weather,
    "race_control": charts.race_control,
    "classification": charts.classification,
    "track_outline": charts.track_outline,
    "lap_traces": lambda tables: charts.lap_traces(tables, [(1, None)]),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weekend(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def race(files: Path) -> charts.SessionTables:
    store = f1hbase.open(files)
    return charts.SessionTables(store.session(store.sessions()["session_key"].to_pylist()[-1]))


@pytest.fixture(scope="module")
def qualifying(files: Path) -> charts.SessionTables:
    store = f1hbase.open(files)
    return charts.SessionTables(store.session(store.sessions()["session_key"].to_pylist()[-2]))


def of(files: Path, tables: charts.SessionTables, endpoint: str, **values: Any) -> list[dict[str, Any]]:
    return records(files, endpoint, session_key=tables.session.key, **values)


def made(folder: Path, **endpoints: Iterable[dict[str, Any]]) -> Session:
    """Return a race of a folder that has these records, their keys filled in, and no other."""
    keys = {"meeting_key": 1240, "session_key": 9558}
    all_of = {
        "meetings": [sample("meetings", meeting_key=1240)],
        "sessions": [sample("sessions", **keys, session_type="Race", date_start="2024-07-07T14:00:00+00:00")],
        **endpoints,
    }
    for name, some in all_of.items():
        with gzip.open(folder / f"{name}.jsonl.gz", "wt", encoding="utf-8") as lines:
            lines.writelines(json.dumps(keys | record if name in endpoints else record) + "\n" for record in some)
    return f1hbase.open(folder).session(9558)


def control(second: int, **values: Any) -> dict[str, Any]:
    nothing = dict.fromkeys(("category", "flag", "scope", "sector", "driver_number", "lap_number", "qualifying_phase"))
    return {**nothing, "date": f"2024-07-07T14:{second // 60:02}:{second % 60:02}+00:00", **values}


# --- laps ---


def test_lap_times_are_those_of_the_records_with_what_slowed_them(race: charts.SessionTables, files: Path) -> None:
    chart = charts.lap_times(race)
    laps = {(r["driver_number"], r["lap_number"]): r for r in of(files, race, "laps")}
    keys = list(zip(chart.driver_number.tolist(), chart.lap_number.tolist(), strict=True))
    assert keys == sorted(laps)
    assert charts.columns_of(chart)["seconds"] == [laps[key]["lap_duration"] for key in keys]
    stops = {(r["driver_number"], r["lap_number"]) for r in of(files, race, "pit")}
    assert {key for key, is_in in zip(keys, chart.pit_in, strict=True) if is_in} >= stops
    assert stops
    out = {key for key, record in laps.items() if record["is_pit_out_lap"]}
    assert {key for key, is_out in zip(keys, chart.pit_out, strict=True) if is_out} == out
    counted = [s for s, gone in zip(chart.seconds, chart.deleted, strict=True) if s == s and not gone]
    assert chart.best_seconds == min(counted)
    assert chart.slow.tolist() == [bool(s > SLOW_BEYOND * chart.best_seconds) for s in chart.seconds]
    tyres = of(files, race, "stints")
    for key, compound, age in zip(keys, chart.compound, chart.tyre_age, strict=True):
        (stint,) = [r for r in tyres if r["driver_number"] == key[0] and r["lap_start"] <= key[1] <= r["lap_end"]]
        assert (compound, age) == (stint["compound"], stint["tyre_age_at_start"] + key[1] - stint["lap_start"])
    assert chart.missing == ()


def test_some_drivers_are_judged_by_the_best_of_all(race: charts.SessionTables) -> None:
    whole = charts.lap_times(race)
    last = whole.drivers[-1].number
    some = charts.lap_times(race, [last])
    assert set(some.driver_number) == {last}
    assert [style.number for style in some.drivers] == [last]
    assert some.drivers[0] == whole.drivers[-1]
    assert some.best_seconds == whole.best_seconds < np.nanmin(some.seconds)


def test_the_last_lap_of_a_race_has_the_order_and_the_gaps_of_the_result(
    race: charts.SessionTables, files: Path
) -> None:
    results = {r["driver_number"]: r for r in of(files, race, "session_result")}
    laps = max(r["number_of_laps"] for r in results.values())
    whole = {n: r for n, r in results.items() if r["number_of_laps"] == laps and r["position"] is not None}
    assert len(whole) > 1
    positions, gaps = charts.positions_by_lap(race), charts.gaps_to_leader(race)
    last = positions.lap_number == laps
    order = dict(zip(positions.driver_number[last].tolist(), positions.position[last].tolist(), strict=True))
    assert order == {number: record["position"] for number, record in whole.items()}
    last = gaps.lap_number == laps
    behind = dict(zip(gaps.driver_number[last].tolist(), gaps.gap_seconds[last].tolist(), strict=True))
    # Of sums of laps that are each rounded to a millisecond.
    assert behind == pytest.approx({n: r["gap_to_leader"] for n, r in whole.items()}, abs=0.001 * laps)


def test_positions_of_a_lap_are_one_after_another(race: charts.SessionTables) -> None:
    chart = charts.positions_by_lap(race)
    for lap in set(chart.lap_number.tolist()):
        places = chart.position[chart.lap_number == lap]
        assert sorted(places.tolist()) == list(range(1, len(places) + 1))
    assert set(chart.driver_number[chart.lap_number == 0]) == {style.number for style in chart.drivers}


def test_what_is_no_race_has_positions_over_time_alone(qualifying: charts.SessionTables, files: Path) -> None:
    for chart in (charts.positions_by_lap(qualifying), charts.gaps_to_leader(qualifying)):
        assert len(chart.driver_number) == 0
        assert "no race" in chart.missing[0]
    changes = charts.positions_over_time(qualifying)
    wanted = sorted((r["driver_number"], r["date"], r["position"]) for r in of(files, qualifying, "position"))
    assert changes.position.tolist() == [place for _, _, place in wanted]
    assert (changes.lap_number == -1).all()


def test_a_lap_without_a_time_ends_where_the_next_one_starts(tmp_path: Path) -> None:
    def lap(driver: int, number: int, start: str | None, seconds: float | None) -> dict[str, Any]:
        date = None if start is None else f"2024-07-07T14:{start}+00:00"
        return sample("laps", driver_number=driver, lap_number=number, date_start=date, lap_duration=seconds)

    session = made(
        tmp_path,
        laps=[
            lap(1, 1, "03:00", 90.0), lap(1, 2, "04:30.200", None), lap(1, 3, "06:00", 90.125), lap(1, 4, None, None),
            lap(2, 1, "03:00", 91.5), lap(2, 2, "04:31.400", 92.0), lap(2, 3, None, None), lap(2, 4, None, 80.0),
        ],
    )  # fmt: skip
    gaps = charts.gaps_to_leader(session)
    found = dict(zip(zip(gaps.driver_number, gaps.lap_number, strict=True), gaps.gap_seconds, strict=True))
    assert found == {(1, 1): 0, (1, 2): 0, (1, 3): 0, (2, 1): 1.5, (2, 2): 3.5}


@pytest.mark.skipif(not SHARED.exists(), reason="the real sessions of live timing are not here (../shared)")
def test_the_order_in_which_real_cars_end_a_lap_is_their_position(tmp_path: Path) -> None:
    source = SHARED / "reference" / "2025_australia_race_first105min"
    for path in source.glob("*.jsonl.gz"):
        (tmp_path / path.name.replace(".legacy", "")).symlink_to(path)
    session = f1hbase.open(tmp_path).session(9693)
    chart = charts.positions_by_lap(session)
    changes = session.position().to_pylist()
    laps = {(row["driver_number"], row["lap_number"]): row for row in session.laps().to_pylist()}
    compared = 0
    for driver, lap, place in zip(chart.driver_number, chart.lap_number, chart.position, strict=True):
        row = laps.get((driver, lap))
        if row is None or row["date_start"] is None or row["lap_duration"] is None:
            continue
        end = row["date_start"] + timedelta(seconds=row["lap_duration"] + 0.5)
        told = [one["position"] for one in changes if one["driver_number"] == driver and one["date"] <= end]
        assert place == told[-1], (driver, lap)
        compared += 1
    assert compared > 250
    (safety_car,) = charts.neutralisations(session)
    assert safety_car.kind == "safety car"
    times = charts.lap_times(session)
    assert times.neutralised[(times.lap_number >= 2) & (times.lap_number <= 7)].all()
    assert not times.neutralised[times.lap_number >= 9].any()


# --- what went on ---

SAFETY = {"category": "SafetyCar"}
GREEN = {"category": "Flag", "flag": "GREEN", "scope": "Track", "message": "GREEN FLAG"}


@pytest.mark.parametrize(
    ("messages", "wanted"),
    [
        (
            [
                control(60, **SAFETY, message="SAFETY CAR DEPLOYED"),
                control(70, category="Flag", flag="CLEAR", scope="Track", message="TRACK CLEAR"),
                control(200, **SAFETY, message="SAFETY CAR IN THIS LAP"),
                control(260, category="Flag", flag="CLEAR", scope="Track", message="TRACK CLEAR"),
            ],
            [("safety car", 60, 260)],
        ),
        (
            [
                control(60, **SAFETY, message="VIRTUAL SAFETY CAR DEPLOYED"),
                control(90, **SAFETY, message="VIRTUAL SAFETY CAR ENDING"),
                control(100, category="Flag", flag="CLEAR", scope="Sector", sector=4, message="CLEAR IN SECTOR 4"),
                control(103, **GREEN),
            ],
            [("virtual safety car", 60, 103)],
        ),
        (
            [
                control(60, **SAFETY, message="VIRTUAL SAFETY CAR DEPLOYED"),
                control(80, **SAFETY, message="SAFETY CAR DEPLOYED"),
                control(120, category="Flag", flag="RED", scope="Track", message="RED FLAG"),
                control(125, category="Flag", flag="CLEAR", scope="Track", message="TRACK CLEAR"),
                control(600, **GREEN),
            ],
            [("virtual safety car", 60, 80), ("safety car", 80, 120), ("red flag", 120, 600)],
        ),
        (
            [
                control(60, **SAFETY, message="SAFETY CAR DEPLOYED"),
                control(99, category="Flag", flag="CHEQUERED", scope="Track", message="CHEQUERED FLAG"),
            ],
            [("safety car", 60, 99)],
        ),
        ([control(60, **SAFETY, message="SAFETY CAR DEPLOYED")], [("safety car", 60, None)]),
        ([control(60, category="Other", message="CAR 1 NOTED - SAFETY CAR INFRINGEMENT"), control(70, **GREEN)], []),
    ],
)  # fmt: skip
def test_periods_follow_from_the_messages(
    tmp_path: Path, messages: list[dict[str, Any]], wanted: list[tuple[str, int, int | None]]
) -> None:
    lap = sample("laps", driver_number=1, lap_number=1, date_start="2024-07-07T14:00:00+00:00")
    session = made(tmp_path, race_control=messages, laps=[lap])
    start = np.datetime64("2024-07-07T14:00:00", "us")
    found = [
        (one.kind, _seconds(one.start - start), _seconds(one.end - start))
        for one in charts.race_control(session).periods
    ]
    assert found == wanted


def _seconds(span: np.timedelta64) -> int | None:
    return None if np.isnat(span) else int(span / np.timedelta64(1, "s"))


def test_a_deleted_time_is_marked_until_it_is_reinstated(tmp_path: Path) -> None:
    words = [
        "CAR 12 (ANT) TIME 1:37.326 DELETED - TRACK LIMITS AT TURN 4 LAP 16 15:48:48",
        "CAR 4 (NOR) TIME 1:27.100 DELETED - TRACK LIMITS AT TURN 9 LAP 3 11:40:00",
        "CAR 4 (NOR) LAP TIME 1:27.100 REINSTATED - TRACK LIMITS AT TURN 9 LAP 3 11:40:00",
    ]
    messages = [control(second, category="Other", message=message) for second, message in enumerate(words)]
    assert deleted_laps(charts.SessionTables(made(tmp_path, race_control=messages))) == {(12, 16)}


def test_weather_and_messages_are_those_of_the_records(race: charts.SessionTables, files: Path) -> None:
    weather = charts.weather(race)
    wanted = sorted(of(files, race, "weather"), key=lambda record: record["date"])
    shown = charts.columns_of(weather)
    for name in ("air_temperature", "track_temperature", "humidity", "pressure", "rainfall", "wind_speed"):
        assert shown[name] == [record[name] for record in wanted]
    assert [parse_time(text) for text in shown["date"]] == [parse_time(record["date"]) for record in wanted]
    told = charts.race_control(race)
    assert sorted(told.message) == sorted(record["message"] for record in of(files, race, "race_control"))
    assert (np.diff(told.seconds) >= 0).all()


def test_stints_and_stops_are_those_of_the_records(race: charts.SessionTables, files: Path) -> None:
    names = ("driver_number", "stint_number", "lap_start", "lap_end", "compound", "tyre_age_at_start")
    shown = charts.columns_of(charts.stints(race))
    rows = list(zip(*(shown[name] for name in names), strict=True))
    assert rows == sorted(tuple(record[name] for name in names) for record in of(files, race, "stints"))
    stops = charts.pit_stops(race)
    wanted = {(r["driver_number"], r["lap_number"]): r["lane_duration"] for r in of(files, race, "pit")}
    keys = zip(stops.driver_number.tolist(), stops.lap_number.tolist(), strict=True)
    assert dict(zip(keys, stops.lane_seconds.tolist(), strict=True)) == wanted


def test_a_stint_that_ends_before_it_begins_is_left_out_and_counted(tmp_path: Path) -> None:
    some = [
        sample("stints", driver_number=30, stint_number=1, lap_start=1, lap_end=2),
        sample("stints", driver_number=30, stint_number=2, lap_start=3, lap_end=1),
        sample("stints", driver_number=30, stint_number=3, lap_start=None, lap_end=None),
    ]
    chart = charts.stints(made(tmp_path, stints=some))
    assert chart.stint_number.tolist() == [1]
    assert "2 of 3" in chart.missing[-1]


# --- results ---


def test_a_classification_is_the_result(
    race: charts.SessionTables, qualifying: charts.SessionTables, files: Path
) -> None:
    chart = charts.classification(race)
    results = sorted(of(files, race, "session_result"), key=lambda r: (r["position"] is None, r["position"]))
    assert chart.is_official
    shown = charts.columns_of(chart)
    assert shown["position"] == [record["position"] for record in results]
    assert shown["driver_number"] == [record["driver_number"] for record in results]
    best = defaultdict(list)
    for record in of(files, race, "laps"):
        best[record["driver_number"]].append(record["lap_duration"] or np.inf)
    timed = charts.lap_times(race)
    for number, shortest in zip(chart.driver_number.tolist(), chart.best_lap, strict=True):
        if not timed.deleted[timed.driver_number == number].any():
            assert shortest == min(best[number])
    parts = charts.classification(qualifying)
    wanted = {r["driver_number"]: r["duration"] for r in of(files, qualifying, "session_result")}
    assert charts.columns_of(parts)["duration"] == [
        [one for one in wanted[number] if one is not None][-1] for number in parts.driver_number.tolist()
    ]
    assert parts.parts.shape[1] == 3


def test_without_a_result_the_last_positions_are_the_order(tmp_path: Path) -> None:
    some = [
        sample("position", driver_number=number, position=place, date=f"2024-07-07T14:0{minute}:00+00:00")
        for number, place, minute in ((1, 1, 1), (44, 2, 1), (44, 1, 2), (1, 2, 2))
    ]
    chart = charts.classification(made(tmp_path, position=some))
    assert not chart.is_official
    assert chart.driver_number.tolist() == [44, 1]
    assert "last positions" in chart.missing[0]


# --- telemetry ---


def test_laps_are_compared_at_the_same_places(race: charts.SessionTables) -> None:
    first, second = (style.number for style in charts.lap_times(race).drivers[:2])
    chart = charts.lap_traces(race, [(first, None), (second, None), (first, 2)])
    assert chart.missing == ()
    one, other, again = chart.laps
    assert (one.lap_number, again.lap_number) == (charts.fastest_lap(race, first), 2)
    assert not one.delta.any()
    table = race.session.telemetry(second, lap=other.lap_number)
    assert other.speed.tolist() == table["speed"].to_pylist()
    for trace in chart.laps:
        assert trace.distance[-1] == pytest.approx(one.distance[-1])
        assert trace.delta[-1] == pytest.approx(trace.lap_seconds - one.lap_seconds, abs=1e-6)
        at = np.interp(one.sector_ends, one.seconds, one.distance)
        # Between two samples, which are a fifth of a second apart, both are interpolated.
        assert np.interp(at, trace.distance, trace.delta) == pytest.approx(
            trace.sector_ends - one.sector_ends, abs=0.01
        )
        assert (np.diff(trace.distance) >= 0).all()


def test_a_track_is_closed_and_as_long_as_a_lap(race: charts.SessionTables) -> None:
    outline = charts.track_outline(race)
    assert outline.driver is not None
    assert (outline.x[0], outline.y[0]) == (outline.x[-1], outline.y[-1])
    (trace,) = charts.lap_traces(race, [(outline.driver.number, outline.lap_number)]).laps
    assert outline.length == pytest.approx(trace.distance[-1], rel=0.02)
    assert outline.missing == ()


def test_no_such_driver_or_lap_is_an_error_that_says_which_there_are(race: charts.SessionTables) -> None:
    known = charts.lap_times(race).drivers[0].number
    for call in (
        lambda lap: charts.lap_traces(race, [lap]),
        lambda lap: charts.track_outline(race, lap),
    ):
        with pytest.raises(NotLoadedError, match=r"no lap 999 .*: has laps 1 to"):
            call((known, 999))
        with pytest.raises(NotLoadedError, match="there is no driver 98"):
            call((98, 1))


# --- what is missing ---


@pytest.mark.parametrize("name", ALL)
def test_a_session_of_which_nothing_is_loaded_gives_an_empty_chart_that_says_so(tmp_path: Path, name: str) -> None:
    chart = ALL[name](charts.SessionTables(made(tmp_path)))
    assert not any(charts.columns_of(chart).values())
    assert "not loaded" in " ".join(chart.missing)


@pytest.mark.parametrize("name", ALL)
def test_records_whose_values_are_all_null_are_no_error(tmp_path: Path, name: str) -> None:
    keys = {
        "driver_number": 1, "lap_number": 1, "stint_number": 1, "date": "2024-07-07T14:00:00+00:00",
        "meeting_key": 1240, "session_key": 9558,
    }  # fmt: skip
    endpoints = (
        "drivers",
        "laps",
        "stints",
        "pit",
        "position",
        "weather",
        "race_control",
        "session_result",
        "car_data",
    )
    bare = {e: [{f: keys.get(f) for f in sample(e)}] for e in (*endpoints, "location", "starting_grid")}
    chart = ALL[name](charts.SessionTables(made(tmp_path, **bare)))
    json.dumps(charts.columns_of(chart), allow_nan=False)


def test_without_telemetry_the_rest_is_there(tmp_path: Path, files: Path, race: charts.SessionTables) -> None:
    endpoints = ("drivers", "laps", "position", "session_result", "pit", "stints", "weather", "race_control")
    session = made(tmp_path, **{e: [_rekeyed(r) for r in of(files, race, e)] for e in endpoints})
    tables = charts.SessionTables(session)
    assert charts.lap_times(tables).seconds.tolist() == pytest.approx(
        charts.lap_times(race).seconds.tolist(), nan_ok=True
    )
    first = charts.lap_times(tables).drivers[0].number
    assert charts.lap_traces(tables, [(first, None)]).missing == ("car_data: not loaded", "location: not loaded")
    assert "location: not loaded" in charts.track_outline(tables).missing


def test_an_outline_needs_no_car_data(tmp_path: Path, files: Path, race: charts.SessionTables) -> None:
    session = made(tmp_path, **{e: [_rekeyed(r) for r in of(files, race, e)] for e in ("laps", "location")})
    outline, whole = charts.track_outline(session), charts.track_outline(race)
    assert outline.length == pytest.approx(whole.length, rel=0.02)
    assert np.isnan(outline.speed).all()


def _rekeyed(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in ("meeting_key", "session_key")}


def test_what_is_loaded_in_part_says_so(files: Path, tmp_path: Path, race: charts.SessionTables) -> None:
    driver = charts.lap_times(race).drivers[0].number
    load(files, to=str(tmp_path / "zone"), session_key=race.session.key, endpoint="laps", driver=driver)
    chart = charts.lap_times(f1hbase.open(tmp_path / "zone").session(race.session.key))
    assert any(text.startswith("laps: ") for text in chart.missing)
    assert "stints: not loaded" in chart.missing


# --- the page ---

_PAGE = Path(__file__).resolve().parent.parent / "docs" / "plots.md"


def test_the_examples_of_the_page_run(files: Path, monkeypatch: pytest.MonkeyPatch, race: charts.SessionTables) -> None:
    monkeypatch.chdir(files.parent)
    (code,) = re.findall(r"```python\n(.*?)```", _PAGE.read_text(encoding="utf-8"), re.DOTALL)
    driver = str(charts.lap_times(race).drivers[0].number)
    for name, value in {'"./zone"': repr(str(files)), "9558": str(race.session.key), "44": driver}.items():
        code = code.replace(name, value)
    exec(compile(code, str(_PAGE), "exec"), {})


# --- colours ---

colours = st.integers(0, 0xFFFFFF).map(lambda number: f"#{number:06x}")


@given(colours)
def test_every_colour_is_readable_on_both_grounds(colour: str) -> None:
    for ground in (LIGHT_GROUND, DARK_GROUND):
        shown = readable(colour, ground)
        assert contrast(shown, ground) >= LEAST_CONTRAST
        if contrast(colour, ground) >= LEAST_CONTRAST:
            assert shown == colour


def test_drivers_have_the_colour_of_their_team_and_the_second_is_dashed(
    race: charts.SessionTables, files: Path
) -> None:
    styles = charts.driver_styles(race)
    teams = {r["driver_number"]: (r["team_name"], r["team_colour"]) for r in of(files, race, "drivers")}
    seen: set[str] = set()
    for style in styles:
        team, colour = teams[style.number]
        assert style.dark == readable(f"#{colour.lower()}", DARK_GROUND)
        assert style.second == (team in seen)
        seen.add(team)
    assert len(seen) < len(styles)


def test_drivers_that_no_list_names_have_colours_of_their_own(race: charts.SessionTables) -> None:
    unknown = charts.driver_styles(race, [241, 242])
    assert len({style.light for style in unknown}) == 2
    assert [style.acronym for style in unknown] == ["241", "242"]


def test_the_compounds_are_seen_on_both_grounds() -> None:
    for ground in (LIGHT_GROUND, DARK_GROUND):
        assert all(contrast(colour, ground) >= 1.5 for colour in COMPOUNDS.values())
