"""`verify --against jolpica`: classifications of OpenF1 and Jolpica are held against each other, driver by driver."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import happybase
import pytest
from cli import Loader
from hbase_server import LocalHBase
from history_api import serving_in_thread
from stored_weekend import YEAR, hbase_options, load
from test_verify_against import command

from f1hbase.composition import classification_source, open_reader
from f1hbase.config import resolve
from f1hbase.operations.verify.classification import deviations, of_history, of_session, unsaid
from f1hbase.operations.verify.classifications import ClassificationRequest, compare_classifications
from f1hbase.operations.verify.comparison import Comparison
from f1hbase.operations.verify.differences import Kind
from simulator import Plan, simulate
from simulator.history import Race
from simulator.history_of_season import RecordedHistory
from simulator.history_server import HistoryLog

KINDS = ("practice", "sprint-qualifying", "sprint", "qualifying", "race")
DRIVERS = 5


@dataclass
class Jolpica:
    """Jolpica with the results of the weekends, which a test may change, and what it was asked."""

    url: str
    history: RecordedHistory
    log: HistoryLog

    @property
    def race(self) -> Race:
        """The first race."""
        return self.history.season(YEAR).races[0]


@pytest.fixture(scope="module")
def weekends(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of two race weekends with sprints."""
    folder = tmp_path_factory.mktemp("made") / "weekends"
    plan = Plan(year=YEAR, meetings=2, sessions=KINDS, minutes=2, drivers=DRIVERS, first_day=date(2025, 3, 14), seed=4)
    for _ in simulate(folder, plan):
        pass
    return folder


@pytest.fixture(scope="module")
def measured(weekends: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A landing zone with what `verify --against jolpica` reads of OpenF1."""
    where = tmp_path_factory.mktemp("zones") / "zone"
    load(weekends, to=where, endpoint=["meetings", "sessions", "drivers", "session_result", "championship_drivers"])
    return where


@pytest.fixture
def zone(measured: Path, tmp_path: Path) -> Path:
    """A copy of it, into which a test may load more."""
    return Path(shutil.copytree(measured, tmp_path / "zone"))


@pytest.fixture
def jolpica(weekends: Path) -> Iterator[Jolpica]:
    history, log = RecordedHistory(weekends), HistoryLog()
    with serving_in_thread(history, log=log) as url:
        yield Jolpica(url, history, log)


def compared(to: Path | str, jolpica: Jolpica, **given: Any) -> Comparison:
    """Compare as the command does."""
    settings = {
        "to": [str(to)], "jolpica_url": jolpica.url, "patience": "2s", "max_retries": 0, "rate": "none", **given
    }  # fmt: skip
    config = resolve(settings, names=(), environment={})
    source = classification_source(config, "jolpica")
    assert source is not None
    request = ClassificationRequest(config.settings.selection, source, "jolpica", patience=2.0)
    return compare_classifications(request, open_reader(config, str(to)))


def told(result: Comparison) -> list[tuple[Kind, int | None]]:
    return [(one.kind, one.drivers[0] if one.drivers else None) for one in result.differences]


# --- two places of one season ---


def test_both_sides_of_a_season_are_the_same_and_jolpica_is_asked_by_season(zone: Path, jolpica: Jolpica) -> None:
    result = compared(zone, jolpica)
    assert told(result) == []
    assert result.compared == 2 * 3 * DRIVERS, "race, sprint and qualifying of two meetings"
    assert [scope.scope.title for scope in result.scopes] == ["Sprint", "Qualifying", "Race"] * 2
    paths = [request.partition("?")[0] for request in jolpica.log.requests]
    assert sorted(paths) == sorted(
        ["seasons", f"{YEAR}/races", f"{YEAR}/results", f"{YEAR}/qualifying", f"{YEAR}/sprint"]
    )
    asked, left_out = result.notes
    assert asked == (
        "6 classifications asked of jolpica by 5 requests, as no race of it is loaded here; 'load --from jolpica' with "
        "--year keeps them"
    )
    assert left_out == "not compared: 4 sessions, as jolpica has races, sprints and qualifying alone"


def test_what_is_loaded_of_jolpica_is_not_asked_for_again(zone: Path, jolpica: Jolpica) -> None:
    load_history(zone, jolpica, "results", "sprint_results", "races")
    jolpica.log.requests.clear()
    result = compared(zone, jolpica)
    assert told(result) == []
    assert [request.partition("?")[0] for request in jolpica.log.requests] == [f"{YEAR}/qualifying"]
    assert (
        "4 classifications of jolpica as loaded here; 2 classifications asked of jolpica by 1 request" in result.notes
    )

    load_history(zone, jolpica, "qualifying_results")
    jolpica.log.requests.clear()
    result = compared(zone, jolpica)
    assert (told(result), jolpica.log.requests) == ([], [])
    assert "6 classifications of jolpica as loaded here; nothing was asked for" in result.notes


def load_history(zone: Path | str, jolpica: Jolpica, *endpoints: str, **options: Any) -> None:
    from f1hbase import load as run

    given = {"jolpica_url": jolpica.url, "rate": "none", "endpoint": list(endpoints), "patience": "5s", **options}
    assert run(source="jolpica", to=zone, year=YEAR, **given).exit_code == 0


def test_each_kind_of_difference_is_named_with_its_driver(zone: Path, jolpica: Jolpica) -> None:
    results = jolpica.race.results
    first, second, third, fourth, fifth = (int(result["number"]) for result in results)
    results[0]["laps"] = str(int(results[0]["laps"]) + 1)
    results[1]["points"] = "17"
    results[2]["number"] = "99"
    qualifying = jolpica.race.qualifying
    qualifying[0]["position"], qualifying[1]["position"] = "2", "1"
    jolpica.race.sprint.pop()
    last_of_sprint = ({first, second, third, fourth, fifth} - {int(one["number"]) for one in jolpica.race.sprint}).pop()
    meeting = compared(zone, jolpica).scopes[0].scope.meeting_key
    result = compared(zone, jolpica, meeting_key=[meeting])
    assert told(result) == [
        (Kind.FURTHER_DRIVER, last_of_sprint),
        (Kind.OTHER_POSITION, int(qualifying[0]["number"])),
        (Kind.OTHER_POSITION, int(qualifying[1]["number"])),
        (Kind.OTHER_LAPS, first),
        (Kind.OTHER_POINTS, second),
        (Kind.OTHER_NUMBER, third),
    ]
    lines = [str(one) for one in result.differences]
    code = results[1]["Driver"]["code"]
    assert lines[4].endswith(f"driver {second}: {code}: 18 points here, 17 at jolpica")
    assert lines[4].startswith("session_result session 7")
    assert f"number {third} here, 99 at jolpica" in lines[5]


def test_a_later_disqualification_is_said_as_such_and_what_follows_from_it(zone: Path, jolpica: Jolpica) -> None:
    results = jolpica.race.results
    finished = [entry for entry in results if entry["positionText"].isdecimal()]
    assert len(finished) > 2
    out = finished[0]
    results.remove(out)
    for place, entry in enumerate(results, 1):
        entry["position"] = str(place)
        if entry["positionText"].isdecimal():
            entry["positionText"] = str(place)
    results.append(out | {"positionText": "D", "position": str(len(results) + 1), "status": "Disqualified"})
    keys = [one.scope.session_key for one in compared(zone, jolpica).scopes]
    result = compared(zone, jolpica, session_key=[keys[2]])
    number, code = int(out["number"]), out["Driver"]["code"]
    (disqualified,) = (one for one in result.differences if one.drivers == (number,))
    places = [one for one in result.differences if one is not disqualified]
    assert (disqualified.kind, disqualified.drivers) == (Kind.OTHER_OUTCOME, (number,))
    assert disqualified.detail == (
        f"{code}: position 1 here, disqualified (DSQ) at jolpica; a decision that OpenF1 does not have"
    )
    assert {one.kind for one in places} == {Kind.OTHER_POSITION}
    assert {one.drivers[0] for one in places} == {int(one["number"]) for one in finished[1:]}
    assert all(one.detail.endswith(f"(as driver {number} is disqualified)") for one in places)


def test_a_race_that_jolpica_does_not_have_is_named(zone: Path, jolpica: Jolpica) -> None:
    jolpica.race.entry["date"] = f"{YEAR}-01-01"
    result = compared(zone, jolpica)
    assert [kind for kind, _ in told(result)] == [Kind.UNKNOWN_RACE] * 3
    assert "jolpica has no race at this time" in str(result.differences[0])


def test_a_race_without_results_at_jolpica_is_no_difference(zone: Path, jolpica: Jolpica) -> None:
    jolpica.race.results.clear()
    result = compared(zone, jolpica)
    assert told(result) == []
    assert "not compared: 1 session of which jolpica has no results, or not yet" in result.notes


def test_points_that_nobody_has_here_are_not_compared_and_that_is_said(
    weekends: Path, jolpica: Jolpica, tmp_path: Path
) -> None:
    load(weekends, to=tmp_path / "zone", endpoint=["sessions", "session_result"])
    result = compared(tmp_path / "zone", jolpica)
    assert told(result) == []
    lacking = "not compared in 4 sessions: points: neither session_result nor championship_drivers has them here"
    assert lacking in result.notes


def test_one_driver_alone_is_compared(zone: Path, jolpica: Jolpica) -> None:
    (one, other, *_) = jolpica.race.results
    one["laps"] = other["laps"] = "99"
    result = compared(zone, jolpica, driver=[int(one["number"])])
    assert told(result) == [(Kind.OTHER_LAPS, int(one["number"]))]
    assert result.compared == 6


# --- two classifications ---


def _result(number: int, position: int | None, **fields: Any) -> dict[str, Any]:
    flags = {"dnf": False, "dns": False, "dsq": False, "number_of_laps": 50}
    return {"driver_number": number, "position": position, **flags, **fields}


def _entry(number: int | None, position: int, text: str | None = None, **fields: Any) -> dict[str, Any]:
    own = {} if number is None else {"number": number}
    return {
        **own, "driver_id": f"driver_{number}", "position": position, "position_text": text or str(position),
        "laps": 50, "status": "Finished", **fields,
    }  # fmt: skip


def _kinds(here: list[dict[str, Any]], there: list[dict[str, Any]], drivers: Any = ()) -> list[tuple[Kind, int | None]]:
    found = deviations(of_session(here, drivers), of_history(there), "jolpica")
    return [(one.kind, one.number) for one in found]


@pytest.mark.parametrize(
    ("here", "there"),
    [
        (_result(1, None, dnf=True), _entry(1, 18, "R", status="Engine")),
        (_result(1, 18, dnf=True), _entry(1, 18, status="Retired")),
        (_result(1, None, dns=True), _entry(1, 20, "W", status="Did not start")),
        (_result(1, None, dns=True, number_of_laps=0), _entry(1, 20, "R", laps=0, status="Engine")),
        (_result(1, None, dsq=True), _entry(1, 20, "D", status="Disqualified")),
        (_result(1, None), _entry(1, 17, "N", status="Not classified")),
        (_result(1, 5, gap_to_leader="+1 LAP"), _entry(1, 5, status="+1 Lap")),
        (_result(1, 5, gap_to_leader="+1 LAP"), _entry(1, 5, status="Lapped")),
        ({"driver_number": 1, "position": 20, "number_of_laps": 50}, _entry(1, 19, "R", status="Engine")),
    ],
    ids=["dnf", "classified dnf", "dns", "on the way to the grid", "dsq", "nc", "+1", "lapped", "no flags, retired"],
)  # fmt: skip
def test_the_same_end_in_other_words_is_no_difference(here: dict[str, Any], there: dict[str, Any]) -> None:
    assert _kinds([here], [there]) == []


@pytest.mark.parametrize(
    ("here", "there", "kind"),
    [
        (_result(1, 2), _entry(1, 20, "D", status="Disqualified"), Kind.OTHER_OUTCOME),
        (_result(1, 2), _entry(1, 20, "R", status="Engine"), Kind.OTHER_OUTCOME),
        (_result(1, None, dnf=True), _entry(1, 20, "W", status="Did not start"), Kind.OTHER_OUTCOME),
        (_result(1, 18, dnf=True), _entry(1, 18, "R", status="Engine"), Kind.OTHER_POSITION),
        (_result(1, 2), _entry(1, 3), Kind.OTHER_POSITION),
        (_result(1, 2, points=18), _entry(1, 2, points=18.5), Kind.OTHER_POINTS),
    ],
)  # fmt: skip
def test_another_end_is_named(here: dict[str, Any], there: dict[str, Any], kind: Kind) -> None:
    assert _kinds([here], [there]) == [(kind, 1)]


def test_who_is_left_out_of_the_points_has_none() -> None:
    there = [_entry(1, 1, points=25), _entry(2, 2, points=0), _entry(3, 3, points=15)]
    here = [_result(1, 1, points=25.0), _result(2, 2), _result(3, 3)]
    assert _kinds(here, there) == [(Kind.OTHER_POINTS, 3)]


def test_drivers_who_share_a_number_are_told_apart_by_their_codes() -> None:
    here = [_result(5, 1), _result(6, 2)]
    drivers = [{"driver_number": 5, "name_acronym": "AAA"}, {"driver_number": 6, "name_acronym": "BBB"}]
    there = [_entry(5, 1, driver_code="AAA"), _entry(5, 2, driver_code="BBB")]
    assert _kinds(here, there, drivers) == [(Kind.OTHER_NUMBER, 6)]


def test_drivers_who_share_a_number_and_have_no_code_cannot_be_told_apart() -> None:
    there = [_entry(5, 1, driver_family_name="One"), _entry(5, 2, driver_family_name="Two"), _entry(None, 3)]
    (one, other, nameless) = deviations(of_session([_result(5, 1), _result(6, 2)]), of_history(there), "jolpica")
    assert {one.kind, other.kind, nameless.kind} == {Kind.NOT_COMPARED}
    assert one.detail == "One: shares number 5 at jolpica, which no code tells apart"
    assert "has no number at jolpica" in nameless.detail


def test_points_of_a_race_are_those_after_it_less_those_before_it() -> None:
    standings = [{"driver_number": 1, "points_start": 25, "points_current": 43}]
    (one,) = of_session([_result(1, 2)], standings=standings)
    assert one.points == 18.0
    (first,) = of_session([_result(1, 2)], standings=[{"driver_number": 1, "points_current": 18}])
    assert first.points == 18.0
    assert unsaid(of_session([_result(1, 2)])) == ["points"]


# --- the command ---


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["--endpoint", "laps"], 2, "--against jolpica compares session_result alone"),
        (["--year", "1991"], 2, "--year 1991"),
        (["--session-key", "5"], 2, "has no session for --session-key 5"),
        (["--deep"], 2, "--against compares all: leave out --deep"),
        (["--jolpica-url", "http://127.0.0.1:9/ergast/f1"], 3, "no connection"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_gets_one_clear_line(
    measured: Path, tmp_path: Path, arguments: list[str], exit_code: int, message: str
) -> None:
    given = ["--to", str(measured), "--against", "jolpica", *arguments]
    assert message in command(*given, exit_code=exit_code, XDG_STATE_HOME=str(tmp_path))


def test_a_place_without_results_is_said(weekends: Path, tmp_path: Path) -> None:
    load(weekends, to=tmp_path / "zone", endpoint=["sessions"])
    text = command("--to", str(tmp_path / "zone"), "--against", "jolpica", exit_code=2)
    assert "has no session_result of it: nothing can be compared with jolpica" in text


def test_machines_and_people_get_the_same(zone: Path, jolpica: Jolpica, tmp_path: Path) -> None:
    jolpica.race.results[0]["laps"] = "99"
    given = ["--to", str(zone), "--against", "jolpica", "--jolpica-url", jolpica.url, "--rate", "none"]
    text = command(*given, exit_code=1, XDG_STATE_HOME=str(tmp_path))
    assert text.splitlines()[-1].startswith("NOT THE SAME: 1 difference; ")
    assert "laps: see which is right; 'load --refresh --endpoint session_result'" in text
    text = command(*given, "--json", exit_code=1, XDG_STATE_HOME=str(tmp_path))
    found = json.loads(text[text.index("{\n") :])
    assert [one["kind"] for one in found["differences"]] == ["laps"]
    assert found["differences"][0]["drivers"] == [int(jolpica.race.results[0]["number"])]
    assert found["compared"] == 6 * DRIVERS


# --- HBase ---


@pytest.mark.hbase
def test_a_damaged_table_is_found_by_the_keys_in_the_races(weekends: Path, jolpica: Jolpica, hbase: LocalHBase) -> None:
    options = hbase_options(hbase, "classified")
    endpoints = ["meetings", "sessions", "drivers", "session_result", "championship_drivers"]
    load(weekends, to="hbase", endpoint=endpoints, **options)
    load_history("hbase", jolpica, "races", "results", "sprint_results", "qualifying_results", **options)
    jolpica.log.requests.clear()
    assert told(compared("hbase", jolpica, **options)) == []
    connection = happybase.Connection(hbase.host, hbase.port)
    try:
        timing, history = connection.table("classified_f1_data"), connection.table("classified_f1_history")
        # The key joins them, whatever the date says.
        key, cells = next((k, c) for k, c in history.scan(columns=[b"race"]) if k.split(b"#")[1] == b"1")
        assert cells[b"race:openf1_meeting_key"].isdigit()
        history.put(key, {b"race:date": b"2025-01-01"})
        number = int(jolpica.race.results[0]["number"])
        rows = [row for row, _ in timing.scan(columns=[b"result:position"])]
        meeting = cells[b"race:openf1_meeting_key"].decode()
        session = cells[b"race:openf1_session_key"].decode()
        row = f"{YEAR}#{meeting}#{session}#{number}".encode()
        assert row in rows
        timing.put(row, {b"result:number_of_laps": b"1"})
        assert told(compared("hbase", jolpica, **options)) == [(Kind.OTHER_LAPS, number)]
        timing.delete(row, columns=[b"result"])
        assert told(compared("hbase", jolpica, **options)) == [(Kind.MISSING_DRIVER, number)]
    finally:
        connection.close()
    assert jolpica.log.requests == []


def test_the_command_is_in_the_help() -> None:
    loader = Loader(Path.cwd(), {})
    assert "verify --against jolpica --year 2024" in loader.run("verify", "--help")
