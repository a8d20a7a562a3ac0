"""A settling run asks F1's archive whether files have changed: what has not is neither sent nor stored again."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import happybase
import pytest
from archive_server import load, opened, scopes, serving
from cli import Loader, loader_of
from hbase_server import LocalHBase
from live_server import season_of
from tables import scan

from f1hbase.model.answers import Answer
from f1hbase.model.units import Scope, Unit
from f1hbase.sources.livetiming.client import ArchiveClient, Body, NotModified
from f1hbase.sources.livetiming.lines import parse
from f1hbase.sources.livetiming.source import LiveTimingSource
from f1hbase.sources.livetiming.validators import Validator, parse_validator
from simulator.livetiming import write_archive
from simulator.livetiming_server import ArchiveFaults, ArchiveLog

_PROVISIONAL = "2025-03-09T23:00:00+00:00"
"""Some hours after the simulated weekend: what was fetched then is due once more now."""

_RACE = 70002


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    season = season_of(
        tmp_path_factory.mktemp("season"), "--sessions", "qualifying,race", "--minutes", "2", "--drivers", "3"
    )
    folder = tmp_path_factory.mktemp("archive")
    write_archive(season, folder)
    return folder


@dataclass
class _Archive:
    """An archive that is served, and may be changed.

    Attributes:
        log: What was asked for; a new one for each run.
        faults: How files are tagged, and what goes wrong.
    """

    folder: Path
    url: str
    log: ArchiveLog
    faults: ArchiveFaults

    def file(self, name: str, session: str = "Race") -> Path:
        """The file of a session."""
        (path,) = self.folder.glob(f"*/*/*_{session}/{name}")
        return path

    def sent(self) -> dict[str, int]:
        """How many bytes of each file were sent, but for the indexes of seasons, which list what there is."""
        return {path: size for path, size in self.log.sent.items() if path.count("/") > 1}

    def forget(self) -> None:
        """Begin a new log."""
        self.log.sent.clear()
        self.log.paths.clear()


@pytest.fixture
def archive(made: Path, tmp_path: Path) -> Iterator[_Archive]:
    folder = tmp_path / "archive"
    shutil.copytree(made, folder)
    log, faults = ArchiveLog(), ArchiveFaults()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = serving(folder, faults, log)
    try:
        url = asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result()
        yield _Archive(folder, url, log, faults)
    finally:
        asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@dataclass
class _Zone:
    """A landing zone that is loaded into, as a fast stand-in of HBase: its units have the same lines."""

    folder: Path
    loader: Loader
    archive: _Archive

    def load(self, *arguments: str) -> str:
        """Load the weekend, and return what is printed."""
        self.archive.forget()
        return self.loader.run("--from", "livetiming", "--year", "2025", "--to", str(self.folder), *arguments)

    def manifests(self) -> dict[str, dict[str, Any]]:
        """The manifests of all units by their path, but for those that come with the index of the season."""
        contents = {
            str(path.relative_to(self.folder)): json.loads(path.read_text(encoding="utf-8"))
            for path in self.folder.rglob("_state/units/**/*.json")
        }
        listing = {"meetings", "sessions"}
        return {path: one for path, one in contents.items() if one["unit"]["endpoint"] not in listing}

    def make_provisional(self) -> None:
        """Let everything be as if it had been fetched soon after the weekend."""
        for path in self.folder.rglob("_state/units/**/*.json"):
            content = json.loads(path.read_text(encoding="utf-8"))
            content |= {"fetched": _PROVISIONAL, "status": "provisional"}
            path.write_text(json.dumps(content), encoding="utf-8")

    def objects(self) -> dict[str, bytes]:
        """What is stored, but for the state."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and "_state" not in path.parts
        }


@pytest.fixture
def zone(archive: _Archive, tmp_path: Path) -> _Zone:
    (tmp_path / "work").mkdir()
    settings = {
        "F1HBASE_LIVETIMING_URL": archive.url,
        "F1HBASE_PROCESSES": "1",
        "F1HBASE_RETRY_DELAY": "0",
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }
    return _Zone(tmp_path / "zone", Loader(tmp_path / "work", settings), archive)


def _but_for_times(manifests: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        path: {name: value for name, value in content.items() if name not in {"fetched", "written", "status"}}
        for path, content in manifests.items()
    }


def test_what_has_not_changed_is_not_stored_again(zone: _Zone) -> None:
    zone.load()
    objects, manifests = zone.objects(), zone.manifests()
    assert zone.archive.sent()
    zone.make_provisional()

    zone.load()

    assert zone.archive.sent() == {}
    assert zone.objects() == objects
    assert _but_for_times(zone.manifests()) == _but_for_times(manifests)
    assert {content["status"] for content in zone.manifests().values()} == {"done"}
    assert all(content["fetched"] > _PROVISIONAL for content in zone.manifests().values())
    # And then nothing is due any more.
    zone.load()
    assert {path.count("/") for path in zone.archive.log.paths} == {1}  # the index of the season
    # Unless one says so.
    zone.load("--refresh", "--endpoint", "weather")
    assert any(path.endswith("WeatherData.jsonStream") for path in zone.archive.sent())


@dataclass
class _Fetched:
    """What a source answers, and which files that took.

    Attributes:
        answers: By endpoint and window.
        sent: The names of the files that were sent, but for the index of the season.
    """

    answers: dict[Unit, Answer]
    sent: set[str]

    def unchanged(self) -> set[str]:
        """The endpoints of which every answer says that nothing has changed."""
        changed = {unit.endpoint for unit, answer in self.answers.items() if not answer.unchanged}
        return {unit.endpoint for unit in self.answers} - changed

    def validators(self, url: str = "") -> dict[Unit, str]:
        """What a state would remember, if the archive had been at an address."""
        found = {}
        for unit, answer in self.answers.items():
            if answer.validator:
                content = json.loads(answer.validator)
                found[unit] = str(Validator(url, content["files"], content["version"]))
        return found

    def told(self, source: LiveTimingSource, scope: Scope) -> None:
        """Tell another source, at another port, what units were made of."""
        source.stored({replace(unit, scope=scope): text for unit, text in self.validators(source.home).items()})


_SOME = ("weather", "position", "laps", "car_data", "pit")


async def _fetch(
    folder: Path, before: _Fetched | None = None, tags: str = "both", endpoints: tuple[str, ...] = _SOME
) -> _Fetched:
    """Fetch endpoints of the race, as a run does that finds in the state what an earlier one left."""
    log = ArchiveLog()
    async with opened(folder, ArchiveFaults(tags=tags), log) as source:
        (scope,) = await scopes(source, mode="manual", session_key=(_RACE,))
        if before is not None:
            before.told(source, scope)
        loaded = await load(source, [Unit(name, scope) for name in endpoints])
    assert not loaded.errors
    sent = {path.rpartition("/")[2] for path in log.sent if path.count("/") > 1}
    return _Fetched({answer.unit: answer for answer in loaded.answers}, sent)


def _copy(made: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Return an archive that may be changed, and the folder of its race."""
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)
    (race,) = folder.glob("*/*/*_Race")
    return folder, race


async def test_what_has_not_changed_is_answered_as_such(made: Path) -> None:
    first = await _fetch(made)
    again = await _fetch(made, first)

    assert not first.unchanged()
    assert again.unchanged() == set(_SOME)
    assert again.sent == set()
    assert again.validators() == first.validators()
    # Also of a server that sends files all the same, and never of one that says nothing of them.
    assert (await _fetch(made, first, tags="ignored")).unchanged() == set(_SOME)
    untagged = await _fetch(made, tags="none")
    assert untagged.validators() == {}
    assert (await _fetch(made, untagged, tags="none")).unchanged() == set()


async def test_what_has_changed_is_fetched_and_nothing_else(made: Path, tmp_path: Path) -> None:
    folder, race = _copy(made, tmp_path)
    first = await _fetch(folder)
    file = race / "WeatherData.jsonStream"
    file.write_bytes(file.read_bytes().replace(b'"AirTemp":"', b'"AirTemp":"1'))

    again = await _fetch(folder, first)

    assert again.unchanged() == set(_SOME) - {"weather"}
    # What tells the times of its messages is needed, too.
    assert again.sent == {"WeatherData.jsonStream", "Index.json", "SessionData.jsonStream",
                          "ExtrapolatedClock.jsonStream"}  # fmt: skip
    assert (await _fetch(folder, again)).sent == set()


async def test_times_that_have_changed_change_what_they_date(made: Path, tmp_path: Path) -> None:
    folder, race = _copy(made, tmp_path)
    first = await _fetch(folder)
    file = race / "ExtrapolatedClock.jsonStream"
    file.write_bytes(file.read_bytes().replace(b'"Remaining":"01:', b'"Remaining":"02:'))

    again = await _fetch(folder, first)

    assert again.unchanged() == {"car_data"}  # whose records say their times themselves


async def test_a_topic_that_is_listed_now_is_fetched(made: Path, tmp_path: Path) -> None:
    folder, race = _copy(made, tmp_path)
    index, file = race / "Index.json", race / "WeatherData.jsonStream"
    listed, whole = index.read_bytes(), file.read_bytes()
    file.unlink()
    feeds = {topic: feed for topic, feed in parse(listed)["Feeds"].items() if topic != "WeatherData"}
    index.write_text(json.dumps({"Feeds": feeds}), encoding="utf-8")
    first = await _fetch(folder)
    assert (await _fetch(folder, first)).unchanged() == set(_SOME)

    file.write_bytes(whole)
    index.write_bytes(listed)
    again = await _fetch(folder, first)

    assert "WeatherData.jsonStream" in again.sent
    assert again.unchanged() == set()  # whatever is not listed may be there now


async def test_a_listed_topic_that_was_not_there_is_asked_for_again(made: Path, tmp_path: Path) -> None:
    folder, race = _copy(made, tmp_path)
    file = race / "WeatherData.jsonStream"
    whole = file.read_bytes()
    file.unlink()
    first = await _fetch(folder)
    assert (await _fetch(folder, first)).unchanged() == set(_SOME)

    file.write_bytes(whole)
    again = await _fetch(folder, first)

    assert "WeatherData.jsonStream" in again.sent
    assert again.unchanged() == set(_SOME) - {"weather"}


async def test_a_grid_changes_with_the_race_after_it(made: Path, tmp_path: Path) -> None:
    folder, race = _copy(made, tmp_path)

    async def fetch(before: _Fetched | None = None) -> _Fetched:
        async with opened(folder) as source:
            (scope,) = await scopes(source, mode="manual", session_key=(_RACE - 1,))
            if before is not None:
                before.told(source, scope)
            loaded = await load(source, [Unit("starting_grid", scope)])
        return _Fetched({answer.unit: answer for answer in loaded.answers}, set())

    first = await fetch()
    assert (await fetch(first)).unchanged() == {"starting_grid"}
    file = race / "TimingAppData.jsonStream"
    file.write_bytes(file.read_bytes() + b"01:00:00.000{}\r\n")

    assert (await fetch(first)).unchanged() == set()
    # Without a race there is none to be known by: the index of the season would list it.
    (index,) = folder.glob("*/Index.json")
    season = parse(index.read_bytes())
    races = season["Meetings"][0]["Sessions"]
    season["Meetings"][0]["Sessions"] = [one for one in races if one["Key"] != _RACE]
    whole = index.read_bytes()
    index.write_text(json.dumps(season), encoding="utf-8")
    alone = await fetch()
    assert (await fetch(alone)).unchanged() == {"starting_grid"}
    index.write_bytes(whole)
    assert (await fetch(alone)).unchanged() == set()


async def test_files_are_known_by_their_etag_else_by_their_time(made: Path) -> None:
    (path, *_) = [str(file.relative_to(made)) for file in made.glob("*/*/*/WeatherData.jsonStream")]  # noqa: ASYNC240
    for tags in ("both", "etag", "modified", "ignored", "none"):
        log = ArchiveLog()
        async with serving(made, ArchiveFaults(tags=tags), log) as url, ArchiveClient(url, 5.0) as client:
            body = await client.fetch(path)
            assert isinstance(body, Body)
            assert body.tag.endswith('"') == (tags in {"both", "etag", "ignored"})
            assert bool(body.tag) == (tags != "none")
            again = await client.fetch(path, body.tag)
            assert isinstance(again, NotModified) == (tags != "none")
            assert log.sent[path] == body.size * (2 if tags in {"ignored", "none"} else 1)
            assert isinstance(await client.fetch(path, '"another"'), Body)
            assert await client.fetch("2025/nothing", body.tag) is None


def test_a_validator_that_is_none_counts_for_nothing() -> None:
    url = "https://a/static"
    good = str(Validator(url, {"a": '"1"', "b": None, "c": ""}))
    assert parse_validator(good, url) == Validator(url, {"a": '"1"', "b": None, "c": ""})
    assert parse_validator(good, "https://b/static") is None
    assert parse_validator(str(Validator(url, {"a": "x"}, version="0.0.1")), url) is None
    for text in ("", "{}", "[]", "null", '{"version":1,"url":2,"files":{}}', good[:-3], good.replace('"a"', "1")):
        assert parse_validator(text, url) is None
    other = json.loads(good)
    other["files"] = {"a": 7}
    assert parse_validator(json.dumps(other), url) is None


@pytest.mark.hbase
def test_rows_that_have_not_changed_keep_their_cells(
    hbase: LocalHBase, table_prefix: str, archive: _Archive, tmp_path: Path
) -> None:
    """In HBase, down to the timestamps of cells; then with one file changed."""
    loader = loader_of(hbase, tmp_path / "work", archive.url, table_prefix, livetiming_url=archive.url, processes="1")
    endpoints = ("weather", "laps", "car_data", "starting_grid", "intervals")
    command = ("--from", "livetiming", "--year", "2025", *(f"--endpoint={name}" for name in endpoints))
    loader.run(*command)
    before = scan(hbase.port, f"{table_prefix}_f1_data")
    lines = _lines(hbase, table_prefix)
    _make_provisional(hbase, table_prefix)
    archive.forget()

    loader.run(*command)

    assert archive.sent() == {}
    after = scan(hbase.port, f"{table_prefix}_f1_data")
    families = (b"session:", b"meeting:")  # they come with the index of the season
    assert _without(after, families) == _without(before, families)
    again = _lines(hbase, table_prefix)
    for key, line in lines.items():
        if b"#meetings#" not in key and b"#sessions#" not in key:
            assert _counts(again[key]) == _counts(line)
            assert again[key][b"meta:run"] == line[b"meta:run"]
        assert again[key][b"meta:status"] == b"done"
    loader.run("verify", "--deep", "--year", "2025")

    _make_provisional(hbase, table_prefix)
    file = archive.file("WeatherData.jsonStream")
    file.write_bytes(file.read_bytes().replace(b'"AirTemp":"', b'"AirTemp":"1'))
    archive.forget()
    loader.run(*command)

    kept, now = _without(after, families), _without(scan(hbase.port, f"{table_prefix}_f1_data"), families)
    different = {row for row in now if now[row] != kept.get(row)}
    assert different
    assert all(b"#weather#" in row for row in different)
    assert str(file.relative_to(archive.folder)) in archive.sent()
    assert not any("Data.z" in path or "Timing" in path for path in archive.sent())


def _lines(hbase: LocalHBase, prefix: str) -> dict[bytes, dict[bytes, bytes]]:
    return {
        row: {column: value for column, (value, _) in columns.items()}
        for row, columns in scan(hbase.port, f"{prefix}_f1_reports").items()
        if row.startswith(b"unit#")
    }


def _counts(line: dict[bytes, bytes]) -> dict[bytes, bytes]:
    return {column: value for column, value in line.items() if column.startswith(b"stats:")}


def _without(cells: Any, families: tuple[bytes, ...]) -> dict[bytes, Any]:
    return {
        row: kept
        for row, columns in cells.items()
        if (kept := {column: cell for column, cell in columns.items() if not column.startswith(families)})
    }


def _make_provisional(hbase: LocalHBase, prefix: str) -> None:
    connection = happybase.Connection("127.0.0.1", hbase.port)
    try:
        table = connection.table(f"{prefix}_f1_reports")
        for row in _lines(hbase, prefix):
            table.put(row, {b"meta:fetched": _PROVISIONAL.encode(), b"meta:status": b"provisional"})
    finally:
        connection.close()
