"""The live simulator publishes over MQTT what OpenF1 would: records with `_key` and `_id`, times spelled its way."""

from __future__ import annotations

import gzip
import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from archive_server import SHARED, load_session, opened, scopes
from live_server import season_of, until
from mqtt_broker import broker, subscribed

from simulator.live import Player, Timing, read_script
from simulator.live.faults import FeedFaults
from simulator.live.publisher import IDENTITIES, Publisher
from simulator.live.publisher import broker as connected

_REAL = SHARED / "reference" / "2025_saopaulo_sprint_live" / "mqtt.jsonl.gz"


async def _published(place: Path, scratch: Path, faults: FeedFaults | None = None) -> list[tuple[str, Any]]:
    """Play a session without a broker, and return what would be published."""
    payloads: list[tuple[str, Any]] = []

    async def publish(topic: str, payload: bytes) -> None:
        try:
            payloads.append((topic, json.loads(payload)))
        except ValueError:
            payloads.append((topic, None))

    player = Player(read_script(place, scratch), Timing(speed=0.0, subscribers=0))
    publisher = Publisher(player, publish, faults)
    await player.run()
    await publisher.flush()
    return payloads


@pytest.fixture(scope="module")
def season(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return season_of(tmp_path_factory.mktemp("season"), "--sessions", "race", "--minutes", "1", "--drivers", "3")


async def test_what_is_published_is_what_the_archive_loads(season: Path, tmp_path: Path) -> None:
    payloads = await _published(season, tmp_path)

    ids = [payload["_id"] for _, payload in payloads]
    assert all(one < other for one, other in itertools.pairwise(ids))
    last: dict[str, dict[Any, Any]] = {}
    for topic, payload in payloads:
        last.setdefault(topic.removeprefix("v1/"), {})[payload["_key"]] = payload
    async with opened(tmp_path) as source:
        (scope,) = await scopes(source, mode="manual", session_key=(70001,))
        loaded = await load_session(source, scope)
    # Results and grids are not in OpenF1's feed, and the record of the session is not a part of it.
    for endpoint in IDENTITIES:
        assert len(last.get(endpoint, {})) == len(loaded.of(endpoint)), endpoint
    assert {len(loaded.of(name)) > 0 for name in ("car_data", "laps", "stints", "weather", "intervals", "pit")} == {
        True
    }


async def test_times_are_spelled_as_openf1_publishes_them(season: Path, tmp_path: Path) -> None:
    payloads = await _published(season, tmp_path)
    dates = {topic: [payload["date"] for name, payload in payloads if name == topic and payload.get("date")]
             for topic, _ in payloads}  # fmt: skip

    for topic in ("v1/weather", "v1/position", "v1/intervals"):
        assert dates[topic]
        assert not any(text.endswith("+00:00") for text in dates[topic])
    assert all(text.endswith("+00:00") for text in dates["v1/car_data"])
    assert any(not text.endswith("000+00:00") and "." in text for text in dates["v1/car_data"])
    assert {text.endswith("+00:00") for text in dates["v1/pit"]} == {True, False}


async def test_a_broker_hands_on_what_is_published(season: Path, tmp_path: Path) -> None:
    expected = await _published(season, tmp_path)
    player = Player(read_script(season, tmp_path), Timing(speed=0.0, subscribers=0))

    async with broker() as port, subscribed(port) as heard, connected("127.0.0.1", port) as publish:
        publisher = Publisher(player, publish)
        await player.run()
        await until(lambda: len(heard) == publisher.published, 60)

    def plain(topic: str, payload: Any) -> str:
        return json.dumps([topic, {**payload, "_id": None}], sort_keys=True)

    assert Counter(plain(topic, json.loads(payload)) for topic, payload in heard) == Counter(
        plain(topic, payload) for topic, payload in expected
    )


async def test_faults_of_a_feed(season: Path, tmp_path: Path) -> None:
    whole = await _published(season, tmp_path)
    faults = FeedFaults({"duplicate": 0.05, "reorder": 0.05, "late": 0.05, "garbage": 0.01}, seed=2)

    payloads = await _published(season, tmp_path, faults)

    assert None in [payload for _, payload in payloads]
    good = [payload for _, payload in payloads if payload is not None]
    assert [payload["_id"] for payload in good] != sorted(payload["_id"] for payload in good)
    assert len({payload["_id"] for payload in good}) == len(whole)
    assert len(good) > len(whole)


@pytest.mark.skipif(not _REAL.is_file(), reason=f"what OpenF1 published is not in {_REAL}")
async def test_the_same_keys_and_spellings_as_openf1s_own_messages(tmp_path: Path) -> None:
    with gzip.open(_REAL, "rt", encoding="utf-8") as lines:
        real = [json.loads(line) for line in lines]
    recording = SHARED / "raw" / "2025_saopaulo_sprint_live" / "recorder_a.fastf1.txt.gz"

    ours = await _published(recording, tmp_path)

    for endpoint in ("weather", "position", "race_control"):
        theirs = {one["payload"]["_key"]: one["payload"] for one in real if one["topic"] == f"v1/{endpoint}"}
        mine = {payload["_key"]: payload for topic, payload in ours if topic == f"v1/{endpoint}"}
        assert {key: {**payload, "_id": None} for key, payload in mine.items()} == {
            key: {**payload, "_id": None} for key, payload in theirs.items()
        }
    shapes = {one["topic"]: set(one["payload"]) | {"_id"} for one in real}
    assert {topic: set(payload) for topic, payload in ours if topic in shapes} == shapes
