"""Recordings of the live feed, in both forms, give what the archive gives."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from archive_server import Loaded, load_session, opened, scopes
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from store_servers import moto_s3

from f1hbase.composition import source_recipe
from f1hbase.config import resolve
from f1hbase.errors import ConfigError
from f1hbase.model.units import Scope
from f1hbase.pipeline.live.raw_lines import RawLinesRecipe
from f1hbase.sources.livetiming.lines import quoted, split
from f1hbase.sources.livetiming.recorded import is_recording
from f1hbase.sources.recordings import RecordingRecipe
from f1hbase.stores.files.packing import LONGEST_LINE_BYTES
from f1hbase.stores.files.urls import parse_location
from simulator.livetiming import write_archive

_RACE = 70001
_START = datetime(2025, 3, 1, tzinfo=UTC)
_ALL = (
    "drivers", "championship_drivers", "championship_teams", "intervals", "position", "team_radio", "laps", "pit",
    "stints", "weather", "race_control", "overtakes", "car_data", "location",
)  # fmt: skip

Recorded = list[tuple[datetime, str, Any]]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    season, folder = tmp_path_factory.mktemp("season"), tmp_path_factory.mktemp("archive")
    arguments = ["--sessions", "race", "--minutes", "2", "--drivers", "4"]
    subprocess.run(
        [sys.executable, "-m", "simulator", "make", str(season), *arguments], check=True, stdout=subprocess.DEVNULL
    )
    write_archive(season, folder)
    return folder


@pytest.fixture(scope="module")
def messages(archive: Path) -> Recorded:
    """The messages of the race in order, as a feed sends them; `t0` is what ExtrapolatedClock says."""
    (index,) = archive.glob("*/*/*/Index.json")
    found: list[tuple[timedelta, str, bytes]] = []
    for path in sorted(index.parent.glob("*.jsonStream")):
        topic = path.name.removesuffix(".jsonStream")
        lines = filter(None, map(split, path.read_bytes().split(b"\r\n")))
        found += [(since, topic, body) for since, body in lines]
    found.sort(key=lambda item: item[:2])
    since, _, clock = next(item for item in found if item[1] == "ExtrapolatedClock")
    t0 = datetime.fromisoformat(json.loads(clock)["Utc"]) - since
    return [
        (t0 + since, topic, quoted(body) if topic.endswith(".z") else json.loads(body)) for since, topic, body in found
    ]


def _as_python(messages: Recorded) -> str:
    return "".join(f"{[topic, content, f'{moment:%Y-%m-%dT%H:%M:%S.%f}Z']!r}\n" for moment, topic, content in messages)


def _as_received(messages: Recorded, delay: timedelta) -> str:
    lines = []
    for moment, topic, content in messages:
        nanoseconds = (moment + delay - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
        lines.append(f"{nanoseconds}:{topic}:{json.dumps(content, ensure_ascii=False)}\n")
    return "".join(lines)


async def _recorded(path: Path) -> Loaded:
    async with RecordingRecipe(path).open(1.0) as source:
        (scope,) = await scopes(source)
        return await load_session(source, scope)


async def _archived(archive: Path) -> Loaded:
    async with opened(archive) as source:
        (scope,) = await scopes(source, mode="manual", session_key=(_RACE,))
        return await load_session(source, scope)


async def test_both_forms_give_the_records_of_the_archive(archive: Path, messages: Recorded, tmp_path: Path) -> None:
    python, received = tmp_path / "a.txt", tmp_path / "b.txt.gz"
    python.write_text(_as_python(messages))
    received.write_bytes(gzip.compress(_as_received(messages, timedelta(milliseconds=120)).encode()))
    truth = await _archived(archive)

    for path in (python, received):
        loaded = await _recorded(path)
        assert not loaded.quarantined
        for endpoint in _ALL:
            assert loaded.records[endpoint] == truth.records[endpoint], (path.name, endpoint)


async def test_messages_out_of_order_are_put_in_order(archive: Path, messages: Recorded, tmp_path: Path) -> None:
    shuffled = [message for pair in zip(messages[1::2], messages[::2], strict=False) for message in pair]
    shuffled += messages[len(shuffled) :]
    path = tmp_path / "a.txt"
    path.write_text(_as_python(shuffled))

    loaded, truth = await _recorded(path), await _archived(archive)

    for endpoint in ("laps", "stints", "position", "race_control"):
        assert loaded.records[endpoint] == truth.records[endpoint], endpoint


async def test_two_recordings_with_holes_are_one_whole(archive: Path, messages: Recorded, tmp_path: Path) -> None:
    third = len(messages) // 3
    early, late = messages[: 2 * third], messages[:5] + messages[third:]
    (tmp_path / "a.txt").write_text(_as_python(early))
    (tmp_path / "b.txt").write_text(_as_received(late, timedelta(milliseconds=345)))

    loaded, truth = await _recorded(tmp_path), await _archived(archive)

    for endpoint in _ALL:
        assert loaded.records[endpoint] == truth.records[endpoint], endpoint


async def test_a_whole_state_at_the_beginning_dates_nothing(messages: Recorded, tmp_path: Path) -> None:
    info = next(content for _, topic, content in messages if topic == "SessionInfo")
    state = {"SessionInfo": info, "TimingData": {"Lines": {"99": {"Line": 7}}}, "_hint": 1}
    path = tmp_path / "b.txt"
    path.write_text(f"1740000000000000000:init:{json.dumps(state)}\n" + _as_received(messages[-50:], timedelta(0)))

    loaded = await _recorded(path)

    assert 99 not in {record["driver_number"] for record in loaded.of("position")}


async def test_a_damaged_recording_is_loaded_as_far_as_it_goes(
    messages: Recorded, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.txt.gz"
    text = _as_python(messages[:200]) + "['TimingData', __import__('os'), 'x']\n" + _as_python(messages[200:])
    packed = gzip.compress(text.encode())
    path.write_bytes(packed[: len(packed) * 3 // 4])

    loaded = await _recorded(path)

    assert loaded.of("car_data")
    assert "a.txt.gz, line 201 is put aside" in caplog.text
    assert "cut off or damaged" in caplog.text


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a prefix in an empty bucket of moto's S3."""
    names = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": "us-east-1"}
    files = {name: str(tmp_path / "none") for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")}
    with moto_s3() as url:
        for name, value in (names | files | {"AWS_ENDPOINT_URL": url}).items():
            monkeypatch.setenv(name, value)
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].create_bucket("live", "us-east-1")
        yield "s3://live/2025"
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].reset()


def _keep(messages: Recorded, url: str, instance: str, session_key: int, folder: Path) -> None:
    """Keep messages as `live` does, an object a minute."""
    keeper = RawLinesRecipe(parse_location(url)).open(Scope(2025, 70000, session_key), instance, folder)
    for moment, topic, content in messages:
        line = json.dumps([topic, content, f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"])
        keeper.add(line.encode(), moment.timestamp())
    keeper.close()


async def test_raw_lines_of_two_instances_are_read_from_where_live_keeps_them(
    archive: Path, messages: Recorded, bucket: str, tmp_path: Path
) -> None:
    third = len(messages) // 3
    _keep(messages[: 2 * third], bucket, "box-1", _RACE, tmp_path)
    _keep(messages[third:], bucket, "box-2", _RACE, tmp_path)
    truth = await _archived(archive)

    for place in (bucket, f"{bucket}/raw-live/2025/70000/{_RACE}"):
        async with source_recipe(resolve({"source": place}, environment={})).open(1.0) as source:
            (scope,) = await scopes(source)
            loaded = await load_session(source, scope)
        assert not loaded.quarantined
        for endpoint in _ALL:
            assert loaded.records[endpoint] == truth.records[endpoint], (place, endpoint)


async def test_one_of_several_sessions_in_a_bucket_is_to_be_named(
    messages: Recorded, bucket: str, tmp_path: Path
) -> None:
    for session_key in (_RACE, 7):
        _keep(messages[:3], bucket, "box-1", session_key, tmp_path)
    recipe = source_recipe(resolve({"source": bucket}, environment={}))
    with pytest.raises(
        ConfigError, match=f"several sessions; name one of them, such as {bucket}/raw-live/2025/70000/7"
    ):
        async with recipe.open(1.0):
            pass
    nothing = source_recipe(resolve({"source": f"{bucket}/raw-live/1999"}, environment={}))
    with pytest.raises(ConfigError, match="there are no raw lines"):
        async with nothing.open(1.0):
            pass


async def test_what_is_put_aside_of_a_recording_goes_to_quarantine(messages: Recorded, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    too_long = "['TimingData', '" + "x" * LONGEST_LINE_BYTES + "', '2025-03-01T00:00:00Z']\n"
    bad = ["['TimingData', __import__('os'), 'x']\n", too_long, "['Heartbeat', {'Utc"]
    path.write_text(bad[1] + bad[0] + _as_python(messages) + bad[2])
    assert is_recording(path)

    loaded = await _recorded(path)

    lines = [json.loads(one.record)["line"] for one in loaded.quarantined]
    assert sorted(lines) == [1, 2, len(messages) + 3]
    assert max(len(one.record) for one in loaded.quarantined) < 10_000
    assert loaded.of("car_data")


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("['Heartbeat', {}, '2025-03-01T00:00:00Z']\n", "which session"),
        (
            "".join(
                f"['SessionInfo', {{'Key': {key}, 'Meeting': {{'Key': 2}}}}, '2025-03-01T00:00:00Z']\n"
                for key in (1, 3)
            ),
            "several sessions",
        ),
        ("['SessionInfo', {'Key': 'x', 'Meeting': 3}, '2025-03-01T00:00:00Z']\n", "no key"),
    ],
)
async def test_a_recording_of_no_session_says_so(tmp_path: Path, lines: str, reason: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(lines)

    with pytest.raises(ConfigError, match=reason):
        await _recorded(path)


def test_a_recording_is_recognised_by_its_first_lines(messages: Recorded, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(_as_python(messages[:3]))
    (tmp_path / "notes.txt").write_text("hello\n")
    (tmp_path / "empty").mkdir()

    assert is_recording(tmp_path / "a.txt")
    assert is_recording(tmp_path)
    assert not is_recording(tmp_path / "notes.txt")
    assert not is_recording(tmp_path / "empty")
    assert not is_recording(tmp_path / "absent")
    config = resolve({"source": str(tmp_path / "a.txt")}, environment={})
    assert isinstance(source_recipe(config), RecordingRecipe)
