"""`verify --to` a landing zone: each kind of damage is found, named, and can be put right as the text says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from files_zone import RACE, destination_at, failed, fill, json_answer, store, whole
from replay_server import ReplayServer
from test_files_load import ROOT, load, run

from f1hbase.model.outcomes import RunState
from f1hbase.operations.verify.base import Depth
from f1hbase.operations.verify.files import FilesAuditor
from f1hbase.operations.verify.run import VerifyRequest
from f1hbase.operations.verify.run import verify as check
from f1hbase.stores.files.clients import ObjectInfo
from f1hbase.stores.files.objects import Objects
from f1hbase.stores.files.urls import parse_location
from f1hbase.stores.files.zone import find_zone

LAYOUTS = ("units", "extractor", "dated")


def verify(zone: Path | str, *options: str, exit_code: int) -> str:
    """Verify as a user does; return what is printed."""
    result = subprocess.run(
        [sys.executable, "-m", "f1hbase", "verify", "--to", str(zone), "--patience", "0s", *options],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert result.returncode == exit_code, result.stdout
    return result.stdout


def found(zone: Path, *options: str) -> list[dict[str, Any]]:
    """Return the differences, of which there are some."""
    text = verify(zone, *options, "--json", exit_code=1)
    differences: list[dict[str, Any]] = json.loads(text[text.index("{") :])["differences"]
    return differences


@pytest.fixture(scope="module")
def season(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("season")
    run("simulator", "make", "made", "--minutes", "2", "--sessions", "practice,race", "--drivers", "3", cwd=folder)
    return folder / "made"


@pytest.fixture(scope="module")
def api(season: Path) -> Iterator[ReplayServer]:
    with ReplayServer(season) as server:
        yield server


@pytest.fixture(scope="module")
def zones(api: ReplayServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a zone of each layout, filled from the API."""
    folder = tmp_path_factory.mktemp("zones")
    for layout in LAYOUTS:
        load("openf1", folder / layout, "--api-url", api.url, "--layout", layout, "--window", "1m")
    return folder


@pytest.fixture(params=LAYOUTS)
def zone(request: pytest.FixtureRequest, zones: Path, tmp_path: Path) -> Path:
    """Return a zone that a test may damage, in each layout."""
    return Path(shutil.copytree(zones / request.param, tmp_path / request.param))


def laps(zone: Path) -> tuple[Path, int]:
    """Return the object of the laps of a session, and the session."""
    for path in sorted(zone.glob("_state/units/**/laps__*.json")):
        manifest = json.loads(path.read_text())
        if manifest["counts"]["records"]:
            return zone / manifest["objects"][0]["path"], manifest["unit"]["session_key"]
    raise AssertionError("there are laps")


def flip(path: Path) -> None:
    """Change a byte in the middle; the size stays."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def reload(zone: Path, api: ReplayServer, *options: str) -> None:
    """Load the laps again, as the text says."""
    load("openf1", zone, "--api-url", api.url, "--endpoint", "laps", "--refresh", *options)


@pytest.mark.parametrize("options", [(), ("--deep",)])
def test_a_zone_that_was_just_loaded_is_as_it_should_be(zone: Path, options: tuple[str, ...]) -> None:
    text = verify(zone, *options, exit_code=0)
    assert ("every object read" if options else "the sizes of its objects are right") in text
    assert "unnamed" not in text


def test_a_zone_made_of_another_one_is_as_it_should_be(zone: Path, tmp_path: Path) -> None:
    load(str(zone), tmp_path / "copy")
    assert "OK: " in verify(tmp_path / "copy", "--deep", exit_code=0)


def test_an_object_that_is_gone_is_named(zone: Path, api: ReplayServer) -> None:
    path, session = laps(zone)
    path.unlink()
    text = verify(zone, exit_code=1)
    assert f"'{path.relative_to(zone)}' does not exist" in text
    assert {one["endpoint"] for one in found(zone)} == {"laps"}
    assert session in {one["session_key"] for one in found(zone)}
    assert "'load --refresh' with the same session and endpoint" in text
    reload(zone, api)
    verify(zone, "--deep", exit_code=0)


def test_an_object_that_is_cut_off_is_named(zone: Path, api: ReplayServer) -> None:
    path, _ = laps(zone)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: size // 2])
    text = verify(zone, exit_code=1)
    assert f"'{path.relative_to(zone)}' is damaged: " in text
    assert f"it has {size // 2:,} bytes, and should have {size:,}" in text
    assert "rows are missing" in text
    reload(zone, api)
    verify(zone, "--deep", exit_code=0)


def test_a_changed_byte_is_found_by_reading_and_a_refresh_puts_it_right(zone: Path, api: ReplayServer) -> None:
    path, session = laps(zone)
    flip(path)
    assert "--deep" in verify(zone, exit_code=0)
    text = verify(zone, "--deep", exit_code=1)
    assert f"'{path.relative_to(zone)}' is damaged: " in text
    assert session in {one["session_key"] for one in found(zone, "--deep") if one["kind"] == "objects"}
    reload(zone, api)
    verify(zone, "--deep", exit_code=0)


def test_a_manifest_that_is_gone_is_a_unit_that_was_never_loaded(zone: Path, api: ReplayServer) -> None:
    _, session = laps(zone)
    (manifest,) = zone.glob(f"_state/units/**/session={session}/laps__*.json")
    manifest.unlink()
    (one,) = found(zone)
    assert (one["kind"], one["endpoint"], one["session_key"]) == ("never loaded", "laps", session)
    load("openf1", zone, "--api-url", api.url)
    verify(zone, "--deep", exit_code=0)


def test_a_manifest_that_cannot_be_read_is_named(zone: Path) -> None:
    _, session = laps(zone)
    (manifest,) = zone.glob(f"_state/units/**/session={session}/laps__*.json")
    manifest.write_text("{")
    kinds = {one["kind"]: one for one in found(zone)}
    assert kinds.keys() == {"never loaded", "objects"}
    assert f"'{manifest.relative_to(zone)}' cannot be read" in kinds["objects"]["text"]


def test_a_manifest_whose_counts_do_not_add_up_is_named(zone: Path) -> None:
    _, session = laps(zone)
    (path,) = zone.glob(f"_state/units/**/session={session}/laps__*.json")
    manifest = json.loads(path.read_text())
    manifest["counts"]["records"] += 1
    path.write_text(json.dumps(manifest))
    (one,) = found(zone)
    assert "its manifest does not add up" in one["text"]
    manifest["counts"]["rows"] += 1
    path.write_text(json.dumps(manifest))
    (one,) = found(zone)
    assert (one["kind"], one["found"]) == ("missing rows", manifest["counts"]["rows"] - 1)
    manifest["objects"][0]["records"] += 1
    path.write_text(json.dumps(manifest))
    verify(zone, exit_code=0)
    (one,) = found(zone, "--deep")
    assert "its objects have " in one["text"]


def test_what_no_manifest_names_is_told_and_no_difference(zone: Path) -> None:
    (zone / "raw").mkdir(exist_ok=True)
    (zone / "raw" / "notes.txt").write_text("not f1hbase's")
    text = verify(zone, "--deep", exit_code=0)
    assert "unnamed: 1 object that no manifest names" in text
    assert "'raw/notes.txt'" in text
    printed = verify(zone, "--json", exit_code=0)
    answer = json.loads(printed[printed.index("{") :])
    assert answer["ok"]
    assert len(answer["notes"]) == 1


@pytest.mark.parametrize("damage", ["gone", "cut off", "changed", "facts"])
def test_a_published_file_is_checked(zones: Path, tmp_path: Path, api: ReplayServer, damage: str) -> None:
    zone = Path(shutil.copytree(zones / "extractor", tmp_path / "zone"))
    path = min(zone.glob("laps_*.json"))
    if damage == "gone":
        path.unlink()
    elif damage == "cut off":
        path.write_bytes(path.read_bytes()[:-10])
    elif damage == "changed":
        flip(path)
        verify(zone, exit_code=0)
    else:
        for facts in zone.glob("_state/files/**/laps.json"):
            facts.unlink()
    differences = found(zone, "--deep")
    assert {(one["kind"], one["endpoint"]) for one in differences} == {("files", "laps")}
    assert damage == "facts" or f"'{path.name}'" in differences[0]["text"]
    text = verify(zone, "--deep", exit_code=1)
    assert "delete the file, then 'load --refresh'" in text
    path.unlink(missing_ok=True)
    reload(zone, api)
    verify(zone, "--deep", exit_code=0)


def test_failed_units_and_their_earlier_objects_are_told(tmp_path: Path) -> None:
    destination = fill(tmp_path)
    failed(destination, whole("weather"), "HTTP 500")
    failed(destination, whole("laps"), "HTTP 502")
    text = verify(tmp_path, "--deep", exit_code=1)
    assert "failed: HTTP 500; 0 rows of it stored" in text
    assert "failed: HTTP 502; 3 rows of it stored" in text
    assert "'load' asks for it again" in text


def test_what_was_asked_for_and_is_not_there_is_told(tmp_path: Path) -> None:
    destination = fill(tmp_path)
    destination.state.write_run(RunState("20240901T000000.000000Z-abcdef", {"sessions": RACE.prefix}))
    kinds = {(one["kind"], one["endpoint"]) for one in found(tmp_path)}
    assert ("never loaded", "weather") in kinds
    assert ("never loaded", "laps") not in kinds


def test_objects_of_an_earlier_version_are_named(tmp_path: Path) -> None:
    fill(tmp_path)
    lap = {"meeting_key": 1240, "session_key": 9558, "driver_number": 44, "lap_number": 1}
    store(destination_at(tmp_path), whole("laps"), [lap], json_answer("laps?session_key=9558", [lap]))
    text = verify(tmp_path, "--deep", exit_code=0)
    assert "unnamed" not in text


def test_an_answer_by_date_that_a_killed_load_left_is_named(zones: Path, api: ReplayServer, tmp_path: Path) -> None:
    zone = Path(shutil.copytree(zones / "dated", tmp_path / "dated"))
    manifest = next(zone.glob("_state/units/**/weather__*.json"))
    (left,) = (one["path"] for one in json.loads(manifest.read_text())["objects"])
    for path in zone.glob("_state/units/**/weather__*.json"):
        path.unlink()  # as if it had been killed before it wrote them
    load("openf1", zone, "--api-url", api.url, "--window", "1m")
    told = next(line for line in verify(zone, exit_code=0).splitlines() if line.startswith("unnamed: 1 object"))
    assert f"'{left}'" in told


@pytest.mark.parametrize("damaged", [False, True])
def test_a_zone_is_compared_with_the_api(zone: Path, api: ReplayServer, damaged: bool) -> None:
    if damaged:
        laps(zone)[0].unlink()
    options = ("--api-url", api.url, "--endpoint", "laps", "--against-api", "5")
    text = verify(zone, *options, exit_code=1 if damaged else 0)
    assert ", cell by cell (--seed " in text
    assert ("DIFFERENT" in text) == damaged


def test_row_counter_is_refused(zones: Path) -> None:
    text = verify(zones / "units", "--row-counter", exit_code=2)
    assert "--row-counter counts the rows of an HBase table" in text


def test_what_is_no_zone_is_refused_in_one_line(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere"):
        text = verify(place, exit_code=2)
        assert "is no landing zone" in text
        assert "Traceback" not in text


def test_a_store_that_is_away_ends_with_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert "'s3://bucket/zone' cannot be reached" in verify("s3://bucket/zone", exit_code=3)


class Counting(Objects):
    """Objects that remember what was asked of the store."""

    asked: list[str]

    def get(self, path: str) -> bytes | None:
        self.asked.append(path)
        return super().get(path)

    def under(self, prefix: str, most: int | None = None) -> Iterator[ObjectInfo]:
        self.asked.append(f"list {prefix}")
        return super().under(prefix, most)


@pytest.mark.parametrize("deep", [False, True])
def test_sizes_come_from_one_listing_and_each_object_is_read_once(tmp_path: Path, deep: bool) -> None:
    fill(tmp_path)
    objects = Counting(parse_location(str(tmp_path)))
    objects.asked = []
    zone = find_zone(objects)
    assert zone is not None
    result = check(VerifyRequest(depth=Depth(deep=deep)), FilesAuditor(zone))
    assert not result.differences
    assert objects.asked.count("list ") == 1
    answers = [path for path in objects.asked if path.startswith("source=")]
    # Names and dates of sessions and meetings come from the answers that list them.
    listings = {path for path in answers if "endpoint=sessions" in path or "endpoint=meetings" in path}
    read = [path for path in answers if path not in listings]
    assert len(read) == len(set(read)) == (3 if deep else 0)
    assert len(answers) - len(read) <= 2 * len(listings)
