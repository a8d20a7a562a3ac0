"""The layouts `extractor` and `dated`: their names, what is in them, and what comes back, with and without `_state`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from files_zone import END, RACE, SETTLED, SPRINT, START, csv_answer, json_answer, open_source, reader_at, store, whole
from hbase_server import LocalHBase
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_server import ReplayServer
from tables import scan, values
from test_files_load import load, manifests, run

from f1hbase.config import resolve
from f1hbase.destinations.files import FilesDestination
from f1hbase.destinations.files import recipe as files_recipe
from f1hbase.model.answers import RawAnswer
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.plans import Selection
from f1hbase.model.units import Scope, Unit, Window
from f1hbase.sources.json_files import stream_records
from f1hbase.sources.openf1.formats import decode_answer
from f1hbase.sources.stored import UnreadableError
from f1hbase.stores.files.clients import ObjectInfo
from f1hbase.stores.files.extractor import PLURALS, DamagedAnswerError, session_file_name
from f1hbase.stores.files.json_records import fields_text, record_texts, with_fields
from f1hbase.stores.files.objects import Objects
from f1hbase.stores.files.urls import KNOWN_PLACES, LocationError, parse_location
from f1hbase.stores.files.zone import MARKER, create_zone

ABU_DHABI = Scope(2024, 1252, 9662, START, END, kind="Race", place="Yas Island", title="Race")


def zone_at(path: Path, layout: str) -> FilesDestination:
    return FilesDestination(create_zone(Objects(parse_location(str(path))), layout))


def visible(folder: Path) -> list[str]:
    names = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in names if not name.startswith("_"))


def everything(zone: Path) -> dict[tuple[str, int, int | None], list[str]]:
    """Return the records of each endpoint and session, as text, so that 1 and 1.0 differ."""
    reader = reader_at(zone)
    found = {}
    for record in [*reader.meetings(), *reader.sessions()]:
        scope = Scope(record["year"], record["meeting_key"], record.get("session_key"))
        for endpoint in ENDPOINTS.values():
            if endpoint.of_meeting == (scope.session_key is None):
                records = [one for some in reader.read(Unit(endpoint.name, scope)) for one in some]
                texts = sorted(json.dumps(one, sort_keys=True) for one in records)
                found[endpoint.name, scope.meeting_key, scope.session_key] = texts
    return found


@pytest.fixture(scope="module")
def season(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("season")
    run("simulator", "make", "made", "--minutes", "2", "--sessions", "practice,race", "--drivers", "3", cwd=folder)
    return folder / "made"


@pytest.fixture(scope="module")
def zones(season: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a zone of each layout, filled from the API, windows of one minute."""
    folder = tmp_path_factory.mktemp("zones")
    with ReplayServer(season) as api:
        for layout in ("units", "extractor", "dated"):
            load("openf1", folder / layout, "--api-url", api.url, "--layout", layout, "--window", "1m")
    return folder


# Both layouts


@pytest.mark.parametrize("layout", ["extractor", "dated"])
@pytest.mark.parametrize("with_state", [True, False])
def test_a_zone_says_the_same_in_every_layout(zones: Path, tmp_path: Path, layout: str, with_state: bool) -> None:
    zone = zones / layout
    if not with_state:
        zone = tmp_path / layout
        shutil.copytree(zones / layout, zone, ignore=shutil.ignore_patterns("_*"))
    wanted = everything(zones / "units")
    assert sum(map(len, wanted.values())) > 5_000
    assert everything(zone) == wanted


@pytest.mark.parametrize("layout", ["extractor", "dated"])
def test_a_second_load_asks_for_nothing_and_writes_nothing(season: Path, zones: Path, layout: str) -> None:
    before = {name: (zones / layout / name).stat().st_mtime_ns for name in visible(zones / layout)}
    with ReplayServer(season) as api:
        assert "0 sessions worked on" in load("openf1", zones / layout, "--api-url", api.url)
        load("openf1", zones / layout, "--api-url", api.url, "--refresh", "--window", "1m")
    # What was asked for again and has not changed is not written again.
    assert {name: (zones / layout / name).stat().st_mtime_ns for name in visible(zones / layout)} == before


@pytest.mark.parametrize("layout", ["extractor", "dated"])
def test_a_layout_is_made_from_another_without_the_api(zones: Path, tmp_path: Path, layout: str) -> None:
    assert "requests: 0" in load(str(zones / "units"), tmp_path / layout, "--layout", layout)
    assert everything(tmp_path / layout) == everything(zones / "units")
    if layout == "extractor":
        assert visible(tmp_path / layout) == visible(zones / layout)


def test_a_zone_keeps_its_layout(tmp_path: Path) -> None:
    zone_at(tmp_path, "dated")
    with pytest.raises(LocationError, match="has the layout 'dated', not 'extractor'"):
        zone_at(tmp_path, "extractor")
    assert create_zone(Objects(parse_location(str(tmp_path)))).layout.name == "dated"
    assert json.loads((tmp_path / MARKER).read_text())["layout"] == "dated"


def test_known_places_have_the_layout_of_their_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    recipe = files_recipe(resolve({"to": ["local"]}, environment={}), "local")
    assert recipe.location.root == str(tmp_path / "Documents/openf1_data_analytics/local_test_data")
    recipe.prepare([])
    marker = tmp_path / "Documents/openf1_data_analytics/local_test_data" / MARKER
    assert json.loads(marker.read_text())["layout"] == "extractor"
    volume = parse_location("databricks")
    assert (volume.scheme, f"{volume.root}/") == ("volume", KNOWN_PLACES["databricks"])


# extractor


def test_an_extractors_files_are_named_and_marked(tmp_path: Path) -> None:
    zone = zone_at(tmp_path, "extractor")
    body = b'[{"driver_number":44,"meeting_key":1252,"session_key":9662,"lap_number":1,"lap_duration":88.10,"x":1E2 } ]'
    raw = RawAnswer("openf1", "laps?session_key=9662", SETTLED, SETTLED, 200, "application/json", body)
    store(zone, whole("laps", ABU_DHABI), [{}], raw)
    assert visible(tmp_path) == ["laps_2024-07-07_Yas_Island_Race.json"]
    text = (tmp_path / "laps_2024-07-07_Yas_Island_Race.json").read_text()
    # Numbers as the API spelt them: 88.10 and 1E2.
    assert text == (
        '[\n{"driver_number":44,"meeting_key":1252,"session_key":9662,"lap_number":1,"lap_duration":88.10,"x":1E2,'
        '"session_name": "Race", "batch_day": "2024-07-07"}\n]\n'
    ).replace(": ", ":").replace(', "', ',"')  # fmt: skip


def test_the_plurals_are_those_of_the_docs() -> None:
    docs = (Path(__file__).parent.parent / "docs/landing-zone.md").read_text()
    for name, plural in PLURALS.items():
        assert f"| `{name}` | `{plural}_" in docs
    assert {name for name, plural in PLURALS.items() if name == plural} >= {
        "car_data", "weather", "race_control", "team_radio", "laps", "stints", "drivers", "sessions", "meetings",
    }  # fmt: skip


def test_spaces_and_slashes_are_underscores() -> None:
    start = datetime(2024, 12, 8, 1, 30, tzinfo=UTC) - timedelta(hours=2)
    assert session_file_name(start, "São Paulo", "Sprint/Qualifying 2") == "2024-12-07_São_Paulo_Sprint_Qualifying_2"
    assert session_file_name(start, "half a \ud83c", "Race") == "2024-12-07_half_a_-_Race"


@pytest.mark.parametrize("order", [(9662, 9700), (9700, 9662)])
def test_of_two_sessions_of_one_name_the_later_key_has_its_key_behind_it(
    tmp_path: Path, order: tuple[int, ...]
) -> None:
    zone = zone_at(tmp_path, "extractor")
    for key in order:
        scope = Scope(2024, 1252, key, START, END, kind="Race", place="Yas Island", title="Race")
        for endpoint in ("laps", "pit"):
            records = [{"meeting_key": 1252, "session_key": key, "driver_number": 44, "lap_number": 1}]
            store(zone, whole(endpoint, scope), records, json_answer(f"{endpoint}?session_key={key}", records))
    stems = {"": 9662, "_9700": 9700}
    assert visible(tmp_path) == sorted(
        f"{plural}_2024-07-07_Yas_Island_Race{tail}.json" for plural in ("laps", "pits") for tail in stems
    )
    for tail, key in stems.items():
        (lap,) = json.loads((tmp_path / f"laps_2024-07-07_Yas_Island_Race{tail}.json").read_text())
        assert lap["session_key"] == key


def windows(*minutes: int) -> list[Window]:
    edges = [None, *(START + timedelta(minutes=minute) for minute in minutes), None]
    return [Window(*pair) for pair in pairwise(edges)]


def test_a_file_appears_when_all_its_windows_are_there(tmp_path: Path) -> None:
    zone = zone_at(tmp_path, "extractor")
    first, second = windows(30)
    store(zone, Unit("location", ABU_DHABI, window=first), [{}] * 9, location(START, 9))
    assert visible(tmp_path) == []
    store(zone, Unit("location", ABU_DHABI, window=second), [{}] * 5, location(START + timedelta(minutes=30), 5))
    (name,) = visible(tmp_path)
    assert name == "locations_2024-07-07_Yas_Island_Race.json"
    assert len(json.loads((tmp_path / name).read_text())) == 14


def test_a_windows_later_answer_replaces_its_part_of_the_file(tmp_path: Path) -> None:
    zone = zone_at(tmp_path, "extractor")
    for window, start in zip(windows(30), (START, START + timedelta(minutes=30)), strict=True):
        store(zone, Unit("location", ABU_DHABI, window=window), [{}] * 8, location(start, 8))
    later = SETTLED + timedelta(days=1)
    narrow = Window(START + timedelta(seconds=1), START + timedelta(minutes=1))
    raw = location(START + timedelta(seconds=1), 1, x=-1, asked_at=later)
    store(zone, Unit("location", ABU_DHABI, window=narrow), [{}], raw, asked_at=later)
    (name,) = visible(tmp_path)
    records = json.loads((tmp_path / name).read_text())
    assert [record["x"] for record in records if record["x"] == -1] == [-1]
    # Of the first window's eight samples four lie in the first second, the other four were replaced by one.
    assert len(records) == 4 + 1 + 8
    assert len({record["date"] for record in records}) == len(records)


def test_nothing_is_done_before_its_file_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zone = zone_at(tmp_path, "extractor")

    def fail(path: str, *_: object) -> None:
        if path.startswith("laps_"):
            raise KeyboardInterrupt
        Objects.put(zone.state._objects, path, *_)  # type: ignore[arg-type]

    monkeypatch.setattr(zone.state._objects, "put", fail)
    with pytest.raises(KeyboardInterrupt):
        store(zone, whole("laps", ABU_DHABI), [{}], json_answer("laps?session_key=9662", [{"lap_number": 1}]))
    assert zone.state.unit_states(ABU_DHABI) == []


def test_a_damaged_answer_is_asked_for_again(tmp_path: Path) -> None:
    zone = zone_at(tmp_path, "extractor")
    first, second = windows(30)
    stored = store(zone, Unit("location", ABU_DHABI, window=first), [{}] * 9, location(START, 9))
    (one,) = stored.receipt.objects
    (tmp_path / one["path"]).write_bytes(b"not gzip")
    with pytest.raises(DamagedAnswerError, match=r"location\b.*damaged"):
        store(zone, Unit("location", ABU_DHABI, window=second), [{}], location(START + timedelta(minutes=30), 1))
    by_window = {state.window: state.status.value for state in zone.state.unit_states(ABU_DHABI)}
    assert by_window == {first: "failed", second: "done"}
    assert visible(tmp_path) == []
    again = zone_at(tmp_path, "extractor")
    store(again, Unit("location", ABU_DHABI, window=first), [{}] * 9, location(START, 9))
    assert len(visible(tmp_path)) == 1


def location(start: datetime, samples: int, x: int = 7, asked_at: datetime = SETTLED) -> RawAnswer:
    lines = ["date,driver_number,meeting_key,session_key,x,y,z"]
    for number in range(samples):
        moment = start + timedelta(milliseconds=250 * number)
        lines.append(f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond:06d}+00:00,44,1252,9662,{x},-3195,187")
    body = ("\n".join(lines) + "\n").encode()
    request = f"location?session_key=9662&date>={start:%Y-%m-%dT%H:%M:%S}&csv=true"
    return RawAnswer("openf1", request, asked_at, asked_at, 200, "text/csv", body)


# dated


def test_an_answer_lies_under_its_second_and_the_next_one_beside_it(tmp_path: Path) -> None:
    zone = zone_at(tmp_path, "dated")
    for endpoint, number in (("laps", 1.5), ("pit", 2), ("weather", 3), ("weather", 3)):
        store(zone, whole(endpoint), [{}], json_answer(f"{endpoint}?session_key=9558", [{"lap_number": number}]))
    seconds = int((SETTLED + timedelta(seconds=1)).timestamp())
    assert visible(tmp_path) == [
        f"raw/2024-09-01/openf1/{seconds}-1.json",
        f"raw/2024-09-01/openf1/{seconds}-2.json",
        f"raw/2024-09-01/openf1/{seconds}.json",
    ]
    assert (tmp_path / visible(tmp_path)[2]).read_bytes() == b'[{"lap_number": 1.5}]'


def test_csv_is_kept_as_the_json_that_it_says(tmp_path: Path) -> None:
    zone = zone_at(tmp_path, "dated")
    raw = csv_answer(START, 300)
    store(zone, whole("car_data"), [{}] * 300, raw)
    (name,) = visible(tmp_path)
    records = json.loads((tmp_path / name).read_text())
    assert records == [r for some in decode_answer(ENDPOINTS["car_data"], raw.content_type, raw.body) for r in some]


def test_a_changed_answer_is_a_new_object_and_counts(tmp_path: Path) -> None:
    for day, time_of_lap in enumerate((88.1, 88.1, 88.2)):
        moment = SETTLED + timedelta(days=day)
        records = [
            {
                "meeting_key": 1240,
                "session_key": 9558,
                "driver_number": 44,
                "lap_number": 1,
                "lap_duration": time_of_lap,
            }
        ]
        raw = json_answer("laps?session_key=9558", records, moment)
        store(zone_at(tmp_path, "dated"), whole("laps"), records, raw, asked_at=moment)
    assert [name.split("/")[1] for name in visible(tmp_path)] == ["2024-09-01", "2024-09-03"]
    for zone in (tmp_path, bare(tmp_path)):
        (lap,) = [record for some in reader_at(zone).read(whole("laps")) for record in some]
        assert lap["lap_duration"] == 88.2


def bare(zone: Path) -> Path:
    """Return a copy without what f1hbase wrote beside the data."""
    copy = zone / "copy"
    shutil.copytree(zone, copy, ignore=shutil.ignore_patterns("_*", "copy"))
    return copy


# Files of others


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content, indent=2).encode())


SESSION = {
    "meeting_key": 1240, "session_key": 9558, "year": 2024, "date_start": START.isoformat(), "location": "Silverstone",
    "session_name": "Race", "batch_day": "2024-07-07",
}  # fmt: skip


def lap(number: int, session: int = 9558, **fields: Any) -> dict[str, Any]:
    return {
        "meeting_key": 1240,
        "session_key": session,
        "driver_number": 44,
        "lap_number": number,
        "lap_duration": None,
    } | fields


async def test_an_extractors_files_are_recognised(tmp_path: Path) -> None:
    write(tmp_path / "sessions_2024-07-07_Silverstone_Race.json", [SESSION])
    write(tmp_path / "laps_2024-07-07_Silverstone_Race.json", [lap(1, session_name="Race", batch_day="2024-07-07")])
    write(tmp_path / "pits_2024-07-07_Silverstone_Race.json", [])
    write(tmp_path / "notes.json", {"mine": True})
    source = open_source(tmp_path)
    (session,) = (await source.listing(Selection())).sessions
    assert session == {name: value for name, value in SESSION.items() if name != "batch_day"}
    reader = reader_at(tmp_path)
    assert [record for some in reader.read(whole("laps")) for record in some] == [lap(1)]
    assert {state.endpoint for state in reader.units(RACE)} == {"sessions", "laps", "pit"}


async def test_raw_answers_by_date_are_recognised_by_their_records(tmp_path: Path) -> None:
    write(tmp_path / "raw/2024-07-08/openf1/1720400000.json", [SESSION])
    write(tmp_path / "raw/2024-07-08/openf1/1720400001.json", [lap(1), lap(2), lap(1, 9554)])
    write(tmp_path / "raw/2024-07-09/openf1/1720500000.json", [lap(2, st_speed=300), lap(3)])
    write(tmp_path / "raw/2024-07-09/openf1/1720500000-1.json", {"detail": "No results found."})
    write(tmp_path / "raw/2024-07-09/weather/1720500000.json", [{"meeting_key": 1240, "session_key": 9558}])
    reader = reader_at(tmp_path)
    laps = [record for some in reader.read(whole("laps")) for record in some]
    assert sorted((one["lap_number"], one.get("st_speed")) for one in laps) == [(1, None), (2, 300), (3, None)]
    assert {state.endpoint for state in reader.units(RACE)} == {"sessions", "laps", "weather"}
    # Of the other session there is no record: it is named by its keys, which no plan takes.
    assert {"meeting_key": 1240, "session_key": SPRINT.session_key} in reader.sessions()


@pytest.mark.parametrize("name", ["laps_2024-07-07_Silverstone_Race.json", "raw/2024-07-09/openf1/1720500000.json"])
def test_a_damaged_file_is_named_and_the_rest_is_loaded(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "zone"
    is_dated = name.startswith("raw")
    write(
        folder / ("raw/2024-07-08/openf1/1720400000.json" if is_dated else "sessions_2024-07-07_Silverstone_Race.json"),
        [SESSION],
    )
    write(
        folder / ("raw/2024-07-08/openf1/1720400001.json" if is_dated else "weather_2024-07-07_Silverstone_Race.json"),
        [{"meeting_key": 1240, "session_key": 9558, "date": START.isoformat(), "humidity": 60}],
    )
    write(folder / name, json.dumps([lap(1), lap(2)]).encode()[:-30])
    result = load_from(folder, tmp_path)
    assert result.returncode == 1
    assert name in result.stdout
    kept = [one for path, one in manifests(tmp_path / "copy").items() if "weather" in path]
    assert [one["counts"]["records"] for one in kept] == [1]


def load_from(folder: Path, cwd: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "f1hbase", "load", "--from", str(folder), "--to", "./copy", *options], cwd=cwd,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
    )  # fmt: skip


def test_what_a_zone_lacks_is_said_once_and_is_no_failure(tmp_path: Path) -> None:
    folder = tmp_path / "zone"
    for key, day in ((9558, "07"), (9554, "06")):
        session = {**SESSION, "session_key": key, "date_start": f"2024-07-{day}T14:00:00+00:00"}
        write(folder / f"sessions_2024-07-{day}_Silverstone_Race.json", [session])
        write(folder / f"laps_2024-07-{day}_Silverstone_Race.json", [lap(1, key)])
    result = load_from(folder, tmp_path)
    assert result.returncode == 0, result.stdout
    (line,) = [line for line in result.stdout.splitlines() if "has no " in line]
    assert "drivers (2 sessions)" in line
    assert "car_data (2 sessions)" in line
    assert "laps" not in line
    assert "all that the source has of what was asked for is loaded" in result.stdout
    assert not any("weather" in path for path in manifests(tmp_path / "copy"))
    named = load_from(folder, tmp_path, "--endpoint", "laps", "--endpoint", "weather")
    assert named.returncode == 1
    assert "weather session 9558" in named.stdout


def test_a_session_named_by_its_key_of_which_there_is_nothing_is_a_failure(tmp_path: Path) -> None:
    write(tmp_path / "zone/sessions_2024-07-07_Silverstone_Race.json", [SESSION])
    assert load_from(tmp_path / "zone", tmp_path).returncode == 0
    assert load_from(tmp_path / "zone", tmp_path, "--session-key", "9558").returncode == 1


# Texts of records


@given(
    st.lists(st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False) | st.text() | st.integers()))
)
def test_records_are_cut_out_of_json_as_they_are_spelt(records: list[dict[str, Any]]) -> None:
    for indent in (None, 2):
        body = json.dumps(records, indent=indent).encode()
        texts = list(record_texts("application/json", body))
        assert [json.loads(text) for text in texts] == records
        assert all(text in body for text in texts)
        marked = [json.loads(with_fields(text, fields_text({"batch_day": "x"}))) for text in texts]
        assert marked == [record | {"batch_day": "x"} for record in records]


def test_csv_becomes_the_json_that_the_api_would_have_given() -> None:
    body = b"date,driver_number,meeting_key,session_key,x,y,z\n2024-07-07 14:00:00+00:00,44,1,2,,-0.50,3\n"
    (text,) = record_texts("text/csv; charset=utf-8", body)
    assert text == (
        b'{"date":"2024-07-07T14:00:00+00:00","driver_number":44,"meeting_key":1,"session_key":2,"x":null,"y":-0.50,"z":3}'
    )


class Chunked(Objects):
    """Gives objects in small pieces, so that records lie across their edges."""

    size_of_chunk = 7

    def chunks(self, info: ObjectInfo, size: int = 0) -> Iterator[bytes]:
        return super().chunks(info, self.size_of_chunk)


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=9) | st.integers() | st.none(), max_size=4), max_size=9), st.integers(1, 40))  # fmt: skip  # noqa: E501
def test_a_list_is_read_record_by_record_wherever_it_is_cut(records: list[dict[str, Any]], size: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for body in (json.dumps(records), json.dumps(records, indent=1, ensure_ascii=False)):
            content = body.encode()
            Path(folder, "x.json").write_bytes(content)
            objects = Chunked(parse_location(folder))
            objects.size_of_chunk = size
            info = ObjectInfo("x.json", len(content))
            assert list(stream_records(objects, info, "x.json")) == records
            Path(folder, "x.json").write_bytes(content[:-1])
            with pytest.raises(UnreadableError, match=r"x\.json"):
                list(stream_records(objects, ObjectInfo("x.json", len(content) - 1), "x.json"))


# HBase


@pytest.mark.hbase
def test_every_layout_makes_the_table_that_the_api_makes(
    hbase: LocalHBase, table_prefix: str, season: Path, zones: Path, tmp_path: Path
) -> None:
    def table(name: str, source: str, *options: str) -> dict[bytes, dict[bytes, bytes]]:
        prefix = f"{table_prefix}{name}"
        run(
            "f1hbase", "load", "--from", source, "--year", "2025", "--table-prefix", prefix, "--hbase-host", hbase.host,
            "--hbase-port", str(hbase.port), *options, cwd=tmp_path,
        )  # fmt: skip
        return values(scan(hbase.port, f"{prefix}_f1_data"))

    with ReplayServer(season) as api:
        wanted = table("api", "openf1", "--api-url", api.url)
    for layout in ("units", "extractor", "dated"):
        copy = tmp_path / layout
        left_out = [] if layout == "units" else ["_*"]
        shutil.copytree(zones / layout, copy, ignore=shutil.ignore_patterns(*left_out))
        assert table(layout, str(copy)) == wanted, layout
    assert len(wanted) > 5_000
