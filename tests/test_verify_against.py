"""`verify --against`: every record that another source or place has is here, and what differs is named by kind."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import happybase
import pytest
from files_zone import RACE, SETTLED, START, csv_answer, destination_at, failed, fill, json_answer, store, whole
from hbase_server import LocalHBase
from replay_server import ReplayServer, asked
from stored_weekend import YEAR, hbase_options, load

from f1hbase.composition import open_reader, source_recipe
from f1hbase.config import resolve
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.samples import Samples
from f1hbase.model.times import parse_time
from f1hbase.model.units import Unit, Window
from f1hbase.operations.verify import comparing
from f1hbase.operations.verify.comparing import ComparisonRequest, compare
from f1hbase.operations.verify.comparison import Comparison
from f1hbase.operations.verify.differences import Difference, Kind
from f1hbase.operations.verify.matching import contents, match
from simulator import Plan, simulate

ROOT = Path(__file__).resolve().parent.parent
Lines = list[dict[str, Any]]


def compared(to: Path | str, against: Path | str, **given: Any) -> Comparison:
    """Compare two places as the command does."""
    settings = {"to": [str(to)], "patience": "0s", "rate": "none", "max_retries": 0, **given}
    config = resolve(settings, names=(), environment={})
    other = source_recipe(config, str(against))
    request = ComparisonRequest(config.settings.selection, other, str(against), patience=0)
    return compare(request, open_reader(config, str(to)))


def command(*arguments: str, exit_code: int, **environment: str) -> str:
    """Verify as a user does; return what is printed."""
    result = subprocess.run(
        [sys.executable, "-m", "f1hbase", "verify", "--patience", "0s", *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip
    assert result.returncode == exit_code, result.stdout
    assert "Traceback" not in result.stdout
    return result.stdout


def told(result: Comparison) -> list[tuple[Kind, str | None]]:
    return [(difference.kind, difference.endpoint) for difference in result.differences]


def only(result: Comparison) -> Difference:
    (difference,) = result.differences
    return difference


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of two short sessions."""
    folder = tmp_path_factory.mktemp("made")
    plan = Plan(year=YEAR, sessions=("practice", "race"), minutes=2, drivers=3, first_day=date(2025, 3, 14))
    for _ in simulate(folder, plan):
        pass
    return folder


@pytest.fixture(scope="module")
def zone(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A landing zone with all of it."""
    where = tmp_path_factory.mktemp("zones") / "zone"
    load(made, to=where)
    return where


@pytest.fixture
def other(made: Path, tmp_path: Path) -> Path:
    """A copy of the files, which a test may change."""
    return Path(shutil.copytree(made, tmp_path / "other"))


def changed(folder: Path, endpoint: str, change: Callable[[Lines], None]) -> Lines:
    """Change the records of an endpoint in the race's file; return them as they were."""
    path = max(folder.rglob(f"{endpoint}.jsonl.gz"), key=lambda one: "race" in str(one).lower())
    lines: Lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    before = [dict(line) for line in lines]
    change(lines)
    path.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode()))
    return before


def test_what_was_loaded_from_a_place_is_as_that_has_it(zone: Path, made: Path) -> None:
    records = sum(
        len(gzip.decompress(path.read_bytes()).splitlines())
        for path in made.rglob("*.jsonl.gz")
        if path.name.partition(".")[0] in ENDPOINTS
    )
    text = command("--to", str(zone), "--against", str(made), exit_code=0)
    result = compared(zone, made)
    assert (result.differences, result.notes) == ([], [])
    assert 0 < result.compared <= records
    assert f"OK: {result.compared:,} records of 2 sessions are as {made} has them" in text.splitlines()[-1]


def test_a_lap_that_is_missing_here_is_named(zone: Path, other: Path) -> None:
    def more(laps: Lines) -> None:
        laps.append(laps[0] | {"lap_number": 77})

    (first, *_) = changed(other, "laps", more)
    difference = only(compared(zone, other))
    assert (difference.kind, difference.endpoint) == (Kind.MISSING_RECORDS, "laps")
    assert "1 missing lap of " in difference.detail
    assert difference.examples == (f"driver {first['driver_number']}, lap 77",)


def test_another_stint_is_named_with_both_values(zone: Path, other: Path) -> None:
    def wets(stints: Lines) -> None:
        stints[0]["compound"] = "WET"

    (first, *_) = changed(other, "stints", wets)
    difference = only(compared(zone, other))
    assert (difference.kind, difference.endpoint) == (Kind.OTHER_VALUES, "stints")
    assert "1 other stint of " in difference.detail
    assert difference.detail.endswith("(compound 1)")
    (example,) = difference.examples
    assert example.startswith(f"driver {first['driver_number']}, stint {first['stint_number']}: compound ")
    assert example.endswith(f'"{first["compound"]}" ({other}: "WET")')


def test_samples_at_another_time_are_shifted_and_not_missing(zone: Path, other: Path) -> None:
    def later(samples: Lines) -> None:
        for sample in samples[5:8]:
            moment = timedelta(milliseconds=17) + _moment(sample)
            sample["date"] = moment.isoformat(timespec="microseconds")

    changed(other, "car_data", later)
    difference = only(compared(zone, other))
    assert (difference.kind, difference.endpoint) == (Kind.SHIFTED_TIMES, "car_data")
    assert difference.detail.startswith("3 samples of ")
    assert difference.detail.endswith("at another time, here by -0.017 s")


def test_a_lap_of_which_only_the_time_differs_is_shifted(zone: Path, other: Path) -> None:
    def later(laps: Lines) -> None:
        lap = next(lap for lap in laps if lap["date_start"])
        lap["date_start"] = (_moment(lap, "date_start") - timedelta(seconds=1.5)).isoformat()

    changed(other, "laps", later)
    difference = only(compared(zone, other))
    assert (difference.kind, difference.endpoint) == (Kind.SHIFTED_TIMES, "laps")
    assert difference.detail.endswith("at another time, here by +1.500 s")


def test_what_the_other_lacks_of_what_it_has_whole_is_beyond(zone: Path, other: Path) -> None:
    def fewer(messages: Lines) -> None:
        del messages[-1]

    before = changed(other, "race_control", fewer)
    difference = only(compared(zone, other))
    assert (difference.kind, difference.endpoint) == (Kind.BEYOND, "race_control")
    assert difference.detail.startswith("1 message that ")
    assert before[-1]["date"] in difference.examples[0]


def test_examples_are_few_and_counts_are_of_all(zone: Path, other: Path) -> None:
    changed(other, "car_data", lambda samples: samples.clear())
    difference = only(compared(zone, other))
    assert (difference.kind, len(difference.examples)) == (Kind.BEYOND, 3)
    assert (difference.found or 0) - (difference.expected or 0) > 1_000


@pytest.mark.parametrize("at_once", [100, 100_000])
def test_a_session_in_one_answer_is_compared_in_windows(
    zone: Path, other: Path, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slower(samples: Lines) -> None:
        for sample in samples[::500]:
            sample["speed"] += 1

    monkeypatch.setattr(comparing, "_RECORDS_AT_ONCE", at_once)
    monkeypatch.setattr(comparing, "_LONG", timedelta(0))
    expected = len(changed(other, "car_data", slower)[::500])
    difference = only(compared(zone, other))
    assert (difference.kind, difference.detail.split()[0]) == (Kind.OTHER_VALUES, str(expected))
    assert compared(zone, other).compared == compared(zone, zone).compared


def test_the_selection_of_load_says_what_is_compared(zone: Path, other: Path) -> None:
    def without_the_first(laps: Lines) -> None:
        driver = laps[0]["driver_number"]
        laps[:] = [lap for lap in laps if lap["driver_number"] != driver]

    (first, *_) = changed(other, "laps", without_the_first)
    driver, session = first["driver_number"], first["session_key"]
    assert told(compared(zone, other)) == [(Kind.BEYOND, "laps")]
    assert told(compared(zone, other, driver=[driver])) == [(Kind.BEYOND, "laps")]
    assert compared(zone, other, endpoint=["stints", "pit"]).differences == []
    assert compared(zone, other, driver=[driver + 200], endpoint=["laps"]).compared == 0
    result = compared(zone, other, mode="latest", num_sessions=1)
    assert {one.scope.session_key for one in result.scopes} == {session, None}
    (earlier,) = {one.scope.session_key for one in compared(zone, other).scopes} - {session, None}
    assert compared(zone, other, session_key=[earlier]).differences == []


def test_the_api_is_asked_only_for_what_is_stored_here(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    laps = tmp_path / "laps"
    with ReplayServer(made) as api:
        one = max(compared(made, made).scopes, key=lambda scope: scope.scope.session_key or 0).scope.session_key
        load(made, to=laps, endpoint=["laps", "sessions", "meetings"], session_key=[one])
        result = compared(laps, "openf1", api_url=api.url)
        endpoints = set(asked(api))
    assert result.differences == []
    assert endpoints == {"sessions", "meetings", "laps"}
    assert any("1 session of openf1 of which nothing is loaded" in note for note in result.notes)
    assert any("stints (1 session)" in note for note in result.notes)


def test_a_place_of_files_is_compared_in_all_that_it_has(made: Path, zone: Path, tmp_path: Path) -> None:
    load(made, to=tmp_path / "laps", endpoint=["laps", "sessions", "meetings"])
    kinds = {difference.kind for difference in compared(tmp_path / "laps", zone).differences}
    assert kinds == {Kind.MISSING_RECORDS}
    result = compared(zone, tmp_path / "laps")
    assert result.differences == []
    assert any("nothing of it was loaded into" in note and "stints" in note for note in result.notes)


def test_a_damaged_object_is_named_and_the_rest_compared(made: Path, zone: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(zone, tmp_path / "broken"))
    (path, *_) = sorted(broken.glob("source=*/**/endpoint=weather/*.gz"))
    path.write_bytes(path.read_bytes()[:-3])
    there = compared(made, broken)
    assert set(told(there)) == {(Kind.NOT_COMPARED, "weather")}
    assert str(path.relative_to(broken)) in str(there.differences[0])
    here = compared(broken, made)
    assert {kind for kind, _ in told(here)} == {Kind.NOT_COMPARED}
    assert there.compared > 1_000


def test_a_unit_that_failed_there_is_not_compared(tmp_path: Path) -> None:
    fill(tmp_path / "here")
    fill(tmp_path / "there")
    failed(destination_at(tmp_path / "there"), whole("stints"), "HTTP 500")
    result = compared(tmp_path / "here", tmp_path / "there")
    assert (Kind.NOT_COMPARED, "stints") in told(result)
    assert "it failed when it was fetched (HTTP 500)" in str(result.differences)


def test_the_latest_answer_counts_also_where_it_is_of_one_driver(tmp_path: Path) -> None:
    """The zone's answer for all drivers is older than that for one: what that says of the driver counts no more."""
    window = Window(START, START + timedelta(minutes=1))

    def lap(driver: int, seconds: float) -> dict[str, Any]:
        return {
            "meeting_key": 1240, "session_key": RACE.session_key, "driver_number": driver, "lap_number": 1,
            "lap_duration": seconds,
        }  # fmt: skip

    for name in ("here", "there"):
        zone = fill(tmp_path / name)
        old, new = [lap(1, 90.0), lap(44, 91.0)], [lap(44, 92.0)]
        store(zone, whole("laps"), old, json_answer("laps?session_key=9558", old))
        store(
            zone, Unit("laps", RACE, 44), new, json_answer("laps?driver_number=44", new),
            asked_at=SETTLED + timedelta(days=1),
        )  # fmt: skip
        store(zone, Unit("car_data", RACE, None, window), [{}] * 8, csv_answer(START, 8))
    result = compared(tmp_path / "here", tmp_path / "there", endpoint=["laps"])
    assert (result.differences, result.scopes[-1].endpoints["laps"].compared) == ([], 2)
    laps = [record for some in open_reader(resolve({}), str(tmp_path / "here")).read(whole("laps")) for record in some]
    assert sorted((one["driver_number"], one["lap_duration"]) for one in laps) == [(1, 90.0), (44, 92.0)]


# --- records ---


def test_fields_that_the_other_does_not_know_are_not_compared() -> None:
    endpoint = ENDPOINTS["session_result"]
    key = {"meeting_key": 1, "session_key": 2, "driver_number": 44}
    here = dict(contents(endpoint, [{**key, "position": 1, "dnf": False, "number_of_laps": 52}]))
    there = dict(contents(endpoint, [{**key, "position": 1, "number_of_laps": 51}]))
    assert match(endpoint, here, there, frozenset({"position"})).other[0].values == {"number_of_laps": (52, 51)}
    known = match(endpoint, here, there, frozenset({"position", "dnf"})).other[0].values
    assert known == {"dnf": (False, None), "number_of_laps": (52, 51)}


def test_numbers_are_compared_by_value_and_true_is_not_one() -> None:
    endpoint = ENDPOINTS["weather"]
    key = {"meeting_key": 1, "session_key": 2, "date": "2024-07-07T14:00:00+00:00"}
    here = dict(contents(endpoint, [{**key, "air_temperature": 21.0, "rainfall": 1}]))
    there = dict(contents(endpoint, [{**key, "air_temperature": 21, "rainfall": True}]))
    (other,) = match(endpoint, here, there, endpoint.known).other
    assert other.values == {"rainfall": (1, True)}


def test_samples_are_compared_with_records_of_the_same_values() -> None:
    endpoint = ENDPOINTS["location"]
    row = (1, 2, 44, "2024-07-07T14:00:00+00:00", 5, None, 7)
    here = dict(contents(endpoint, Samples(endpoint, [row])))
    there = dict(contents(endpoint, [dict(zip(endpoint.fields, row, strict=True))]))
    found = match(endpoint, here, there, endpoint.known)
    assert (found.there, found.missing, found.beyond, found.other, found.shifted) == (1, [], [], [], [])


def test_a_record_far_from_its_like_is_missing_and_not_shifted() -> None:
    endpoint = ENDPOINTS["location"]

    def at(second: int) -> dict[Any, Any]:
        return dict(contents(endpoint, Samples(endpoint, [(1, 2, 44, f"2024-07-07T14:00:{second:02}+00:00", 5, 6, 7)])))

    assert len(match(endpoint, at(0), at(5), endpoint.known).shifted) == 1
    far = match(endpoint, at(0), at(6), endpoint.known)
    assert (len(far.missing), len(far.beyond), far.shifted) == (1, 1, [])


# --- the command ---


def test_machines_get_the_same(zone: Path, other: Path) -> None:
    changed(other, "laps", lambda laps: laps[0].update(lap_duration=1.0))
    text = command("--to", str(zone), "--against", str(other), "--json", exit_code=1)
    found = json.loads(text[text.index("{\n") :])
    assert (found["ok"], found["against"], len(found["differences"])) == (False, str(other), 1)
    assert found["differences"][0]["kind"] == "other values"
    (laps,) = (
        one["endpoints"]["laps"]
        for one in found["sessions"]
        if one["session_key"] == found["differences"][0]["session_key"]
    )
    assert (laps["other"], laps["fields"], laps["missing"]) == (1, {"lap_duration": 1}, 0)
    text = command("--to", str(zone), "--against", str(other), exit_code=1)
    assert text.splitlines()[-1].startswith("NOT THE SAME: 1 difference; ")
    assert f"'load --from {other} --refresh'" in text


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["--against", "nowhere"], 2, "there is no folder 'nowhere', and no source of that name"),
        (["--against", "ftp://host/zone"], 2, "'ftp:' is no store that f1hbase knows"),
        (["--against", "s3://key:secret@bucket/zone"], 2, "credentials"),
        (["--against", "{zone}"], 2, "that is what is to be compared"),
        (["--against", "{made}", "--deep"], 2, "--against compares all: leave out --deep"),
        (["--against", "{made}", "--session-key", "5"], 2, "has no session for --session-key 5"),
        (["--driver", "44"], 2, "--driver goes with --against"),
        (["--mode", "latest"], 2, "--mode goes with --against"),
        (["--against", "openf1", "--api-url", "http://127.0.0.1:9/v1"], 3, "no connection"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_gets_one_clear_line(
    zone: Path, made: Path, tmp_path: Path, arguments: list[str], exit_code: int, message: str
) -> None:
    given = [text.format(zone=zone, made=made) for text in arguments]
    text = command("--to", str(zone), *given, exit_code=exit_code, XDG_STATE_HOME=str(tmp_path))
    assert message in text
    assert "secret" not in text


# --- HBase ---


@pytest.fixture(scope="module")
def table(hbase: LocalHBase, zone: Path) -> Iterator[tuple[dict[str, Any], happybase.Table]]:
    """Tables loaded from the zone."""
    options = hbase_options(hbase, "against")
    load(zone, to="hbase", **options)
    connection = happybase.Connection(hbase.host, hbase.port)
    yield options, connection.table("against_f1_data")
    connection.close()


@pytest.mark.hbase
def test_a_table_has_every_record_of_the_zone_it_was_loaded_from(
    table: tuple[dict[str, Any], happybase.Table], zone: Path
) -> None:
    options, rows = table
    result = compared("hbase", zone, **options)
    assert (result.differences, result.notes) == ([], [])
    assert result.compared == compared(zone, zone).compared
    assert compared(zone, "hbase", **options).differences == []
    lap = next(key for key, _ in rows.scan(columns=[b"laps:lap_duration"]))
    car = next(key for key, _ in rows.scan(columns=[b"car:speed"]))
    cells = rows.row(lap, columns=[b"laps"]), rows.row(car, columns=[b"car"])
    try:
        rows.put(lap, {b"laps:lap_duration": b"1.5"})
        rows.delete(car, columns=[b"car"])
        missing, other = sorted(compared("hbase", zone, **options).differences, key=lambda one: one.kind)
    finally:
        rows.put(lap, cells[0])
        rows.put(car, cells[1])
    _, _, session, driver, number = lap.decode().split("#")
    assert (missing.kind, missing.endpoint) == (Kind.MISSING_RECORDS, "car_data")
    assert car.decode().split("#")[4] in missing.examples[0]
    assert (other.kind, other.endpoint) == (Kind.OTHER_VALUES, "laps")
    assert other.scope is not None
    assert str(other.scope.session_key) == session
    assert other.examples[0].startswith(f"driver {driver}, lap {number}: lap_duration 1.5 ({zone}: ")


@pytest.mark.hbase
def test_a_table_that_does_not_exist_is_said(zone: Path, hbase: LocalHBase) -> None:
    where = ("--table-prefix", "nothing", "--hbase-host", hbase.host, "--hbase-port", str(hbase.port))
    text = command("--against", str(zone), *where, exit_code=1)
    assert "nothing_f1_" in text.splitlines()[-1]


def _moment(record: dict[str, Any], name: str = "date") -> datetime:
    return parse_time(record[name])
