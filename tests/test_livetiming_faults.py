"""An archive that fails, lies or lacks what it lists: one clear line, what is broken put aside, the rest stored."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from archive_server import Loaded, load_session, opened, scopes

from f1hbase.errors import UnreachableError
from f1hbase.model.plans import Selection
from simulator.livetiming import write_archive
from simulator.livetiming_server import ArchiveFaults, ArchiveLog

_RACE = 70001
_BOM = b"\xef\xbb\xbf"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("season")
    arguments = ["--sessions", "race", "--minutes", "2", "--drivers", "4"]
    subprocess.run(
        [sys.executable, "-m", "simulator", "make", str(folder), *arguments], check=True, stdout=subprocess.DEVNULL
    )
    return folder


@pytest.fixture
def archive(made: Path, tmp_path: Path) -> Path:
    """An archive of one race, to be changed."""
    write_archive(made, tmp_path)
    return tmp_path


@pytest.fixture
def race(archive: Path) -> Path:
    """The folder of the race."""
    (index,) = archive.glob("*/*/*/Index.json")
    return index.parent


async def _load(archive: Path, faults: ArchiveFaults | None = None, log: ArchiveLog | None = None) -> Loaded:
    async with opened(archive, faults, log) as source:
        (scope,) = await scopes(source, mode="manual", session_key=(_RACE,))
        return await load_session(source, scope)


@pytest.mark.parametrize("kind", ["500", "503", "page", "cut", "close"])
async def test_a_failure_is_tried_again(archive: Path, kind: str) -> None:
    whole = await _load(archive)
    faults = ArchiveFaults({"TimingData.jsonStream": (kind, 2), "CarData.z.jsonStream": (kind, 1)})

    loaded = await _load(archive, faults)

    assert not loaded.errors
    assert loaded.records == whole.records
    assert all(left == 0 for _, left in faults.left.values())


async def test_what_fails_for_good_fails_alone_and_says_why(archive: Path) -> None:
    loaded = await _load(archive, ArchiveFaults({"WeatherData.jsonStream": ("503", 99)}))

    assert list(loaded.errors) == [f"weather session {_RACE}"]
    assert "HTTP 503" in loaded.errors[f"weather session {_RACE}"]
    assert loaded.of("car_data")


async def test_a_missing_topic_is_no_failure(archive: Path, race: Path, caplog: pytest.LogCaptureFixture) -> None:
    (race / "WeatherData.jsonStream").unlink()  # which the index still lists

    with caplog.at_level(logging.INFO):
        loaded = await _load(archive)

    assert not loaded.errors
    assert loaded.of("weather") == []
    assert f"weather session {_RACE}: nothing to load: the archive has no WeatherData of it" in caplog.text


async def test_a_topic_that_is_xml_with_status_200_is_missing(archive: Path) -> None:
    loaded = await _load(archive, ArchiveFaults({"WeatherData.jsonStream": ("xml", 1)}))

    assert not loaded.errors
    assert loaded.of("weather") == []


async def test_a_session_without_an_index_of_its_own_is_loaded(archive: Path, race: Path) -> None:
    whole = await _load(archive)
    (race / "Index.json").unlink()

    assert (await _load(archive)).records == whole.records


def _cut_in_mid_line(body: bytes) -> bytes:
    return body[:-12]


def _bom_in_the_middle(body: bytes) -> bytes:
    first, rest = body.split(b"\r\n", 1)
    return first + b"\r\n" + _BOM + rest


def _garbage(body: bytes) -> bytes:
    return body + b'garbage\r\n00:00:01.000[]\r\n00:00:02.000{"AirTemp":\r\n'


@pytest.mark.parametrize(
    ("change", "put_aside", "lost"), [(_cut_in_mid_line, 1, 1), (_bom_in_the_middle, 0, 0), (_garbage, 3, 0)]
)
async def test_a_bad_line_is_put_aside_and_the_rest_loaded(
    archive: Path, race: Path, change: Callable[[bytes], bytes], put_aside: int, lost: int,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    whole = (await _load(archive)).of("weather")
    file = race / "WeatherData.jsonStream"
    file.write_bytes(change(file.read_bytes()))

    loaded = await _load(archive)

    assert not loaded.errors
    assert len(loaded.of("weather")) == len(whole) - lost
    assert len(loaded.quarantined) == put_aside
    named = [record for record in caplog.records if "is put aside, the rest is loaded" in record.getMessage()]
    assert len(named) == put_aside
    assert all("WeatherData" in record.getMessage() for record in named)


@pytest.mark.parametrize("broken", [b'00:00:30.000"%%%"\r\n', b'00:00:30.000"AAAA"\r\n', b"00:00:30.000{}\r\n"])
async def test_broken_telemetry_is_put_aside_and_the_rest_loaded(archive: Path, race: Path, broken: bytes) -> None:
    whole = (await _load(archive)).records["car_data"]
    file = race / "CarData.z.jsonStream"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:2], broken, *lines[2:]]))

    loaded = await _load(archive)

    assert loaded.records["car_data"] == whole
    assert len(loaded.quarantined) == 1


@pytest.mark.parametrize("content", [b"", _BOM])
async def test_an_empty_topic_has_no_records(archive: Path, race: Path, content: bytes) -> None:
    (race / "WeatherData.jsonStream").write_bytes(content)

    loaded = await _load(archive)

    assert (loaded.errors, loaded.quarantined, loaded.of("weather")) == ({}, [], [])


async def test_a_clock_that_jumps_back_is_put_in_order(archive: Path, race: Path) -> None:
    whole = await _load(archive)
    file = race / "TimingData.jsonStream"
    lines = file.read_bytes().removeprefix(_BOM).splitlines(keepends=True)
    file.write_bytes(_BOM + b"".join([*lines[5:], *lines[:5]]))

    assert (await _load(archive)).records == whole.records


async def test_without_any_time_what_messages_date_fails_and_the_rest_is_loaded(archive: Path, race: Path) -> None:
    index = json.loads((race / "Index.json").read_bytes().decode("utf-8-sig"))
    for topic in ("SessionData", "ExtrapolatedClock", "PitStopSeries", "CarData.z", "Position.z"):
        index["Feeds"].pop(topic)
    (race / "Index.json").write_text(json.dumps(index))

    loaded = await _load(archive)

    assert {error.split()[0] for error in loaded.errors} == {"position", "intervals", "overtakes", "weather", "laps"}
    assert all("clock" in reason for reason in loaded.errors.values())
    assert loaded.of("drivers")


async def test_t0_from_telemetry_is_the_same(archive: Path, race: Path) -> None:
    whole = await _load(archive)
    index = json.loads((race / "Index.json").read_bytes().decode("utf-8-sig"))
    for topic in ("ExtrapolatedClock", "PitStopSeries", "SessionData"):
        index["Feeds"].pop(topic)
    (race / "Index.json").write_text(json.dumps(index))

    loaded = await _load(archive)

    for endpoint in ("weather", "position", "intervals"):
        assert loaded.records[endpoint] == whole.records[endpoint]


async def test_sessions_without_key_or_files_are_named_and_left_out(
    archive: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = archive / "2025" / "Index.json"
    index = json.loads(path.read_bytes().decode("utf-8-sig"))
    (race,) = index["Meetings"][0]["Sessions"]
    index["Meetings"][0]["Sessions"] += [
        {**race, "Key": -1, "Name": "Sprint"},
        {name: value for name, value in race.items() if name != "Path"} | {"Key": 8},
        "garbage",
    ]
    index["Meetings"].append({"Name": "nameless"})
    path.write_text(json.dumps(index))

    async with opened(archive) as source:
        listing = await source.listing(Selection(year=(2025,)))

    assert [session["session_key"] for session in listing.sessions] == [_RACE]
    assert "3 sessions are left out" in caplog.text
    assert "Sprint" in caplog.text


async def test_an_unknown_topic_and_field_do_no_harm(archive: Path, race: Path) -> None:
    whole = await _load(archive)
    file = race / "WeatherData.jsonStream"
    file.write_bytes(file.read_bytes().replace(b'{"AirTemp"', b'{"New":{"a":[1]},"AirTemp"'))
    index = json.loads((race / "Index.json").read_bytes().decode("utf-8-sig"))
    index["Feeds"]["Novelty"] = {"StreamPath": "Novelty.jsonStream"}
    (race / "Index.json").write_text(json.dumps(index))

    assert (await _load(archive)).records == whole.records


async def test_a_season_index_that_is_none_says_so(archive: Path) -> None:
    (archive / "2025" / "Index.json").write_text('{"hello": 1}')

    async with opened(archive) as source:
        with pytest.raises(UnreachableError, match="--livetiming-url"):
            await source.listing(Selection(year=(2025,)))


async def test_an_archive_that_is_away_ends_the_run_when_patience_does(archive: Path) -> None:
    async with opened(archive, ArchiveFaults(down=True), patience=0.0) as source:
        with pytest.raises(UnreachableError, match="--livetiming-url"):
            await source.listing(Selection(year=(2025,)))


async def test_the_archive_is_asked_politely(archive: Path) -> None:
    log = ArchiveLog()

    await _load(archive, log=log)

    assert log.most_at_once <= 2
    assert all(agent.startswith("f1hbase/") for agent in log.agents)
    assert len(set(log.paths)) == len(log.paths)
    assert len(log.paths) < 40


@pytest.mark.parametrize(
    ("body", "words"),
    [(b"\n" * 300_001, "more than 300,000 lines"), (b"x" * 9_000_000, "a line of 8,")],
    ids=["lines", "a line"],
)
async def test_a_file_that_would_fill_the_memory_is_refused_by_name(
    archive: Path, race: Path, body: bytes, words: str
) -> None:
    (race / "TimingData.jsonStream").write_bytes(body)
    loaded = await _load(archive)
    (error,) = {error for unit, error in loaded.errors.items() if unit.startswith("laps")}
    assert "none of the archive's" in error
    assert words in error
    assert loaded.of("weather")
