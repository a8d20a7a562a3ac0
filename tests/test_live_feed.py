"""The live timing hub as a feed: the records of history as they happen, whatever befalls the connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from archive_server import load, load_session, opened, scopes
from live_server import LiveServer, playing, season_of, until

from f1hbase.credentials import Secret
from f1hbase.errors import F1HBaseError
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.records import identity
from f1hbase.model.samples import Samples
from f1hbase.model.units import Scope, Unit
from f1hbase.pipeline.live.raw_lines import RawLines, RawLinesRecipe
from f1hbase.sources.feeds import Back, FeedMessage, Lost, Over
from f1hbase.sources.livetiming.feed import LiveOptions, LiveTimingFeed
from f1hbase.sources.livetiming.hub import Hub
from f1hbase.sources.livetiming.recorded import is_recording, recordings_of
from f1hbase.sources.livetiming.recorded import read as read_recordings
from f1hbase.sources.recordings import RecordingSource
from f1hbase.state.live import LoggedMessage
from f1hbase.stores.files.urls import parse_location
from simulator.live import HubSettings, Script, Timing, read_script
from simulator.live.faults import FeedFaults

_KEYS = {"meeting_key", "session_key"}
_MADE_LIVE = [
    name for name, endpoint in ENDPOINTS.items()
    if not endpoint.of_meeting and name not in {"sessions", "starting_grid", "session_result"}
]  # fmt: skip


@dataclass
class SharedMessages:
    """The messages that instances share, in memory."""

    messages: dict[tuple[datetime, str, bytes], LoggedMessage] = field(default_factory=dict)

    def add(self, message: LoggedMessage) -> None:
        key = message.moment, message.topic, message.body
        before = self.messages.get(key)
        seen_by = message.seen_by | (before.seen_by if before else frozenset())
        self.messages[key] = LoggedMessage(message.moment, message.topic, message.body, message.order, seen_by)

    def since(self, moment: datetime | None) -> list[LoggedMessage]:
        chosen = [one for one in self.messages.values() if moment is None or one.moment >= moment]
        return sorted(chosen, key=lambda one: (one.moment, one.topic, one.order))


@dataclass
class Follower:
    """What a feed has given: of each record the state with the greatest stamp, as HBase would have it."""

    records: dict[str, dict[Any, dict[str, Any]]] = field(default_factory=dict)
    stamps: dict[tuple[str, Any, str], int] = field(default_factory=dict)
    broken: list[Any] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    connections: int = 0
    messages: int = 0
    over: list[str] = field(default_factory=list)

    def take(self, message: FeedMessage) -> None:
        self.messages += 1
        for some in message.records:
            endpoint = ENDPOINTS[some.endpoint]
            for record in some.records if not isinstance(some.records, Samples) else list(some.records):
                if not record.keys() >= _KEYS:
                    self.broken.append(record)
                    continue
                key = identity(endpoint, record)
                known = self.records.setdefault(endpoint.name, {}).setdefault(key, {})
                for name, value in record.items():
                    cell = endpoint.name, key, name
                    if (value is not None or some.replaces) and some.stamp >= self.stamps.get(cell, 0):
                        self.stamps[cell] = some.stamp
                        known[name] = value


@pytest.fixture(scope="module")
def race(tmp_path_factory: pytest.TempPathFactory) -> Script:
    season = season_of(tmp_path_factory.mktemp("season"), "--sessions", "race", "--minutes", "2", "--drivers", "4")
    return read_script(season, tmp_path_factory.mktemp("archive"))


@asynccontextmanager
async def _following(
    server: LiveServer,
    scope: Scope,
    log: SharedMessages | None = None,
    name: str = "a",
    *,
    token: str = "token",
    keeper: RawLines | None = None,
) -> AsyncIterator[Follower]:
    """Follow the feed while the block runs."""
    options = LiveOptions(f"{server.url}/signalrcore", Secret(token), wait=0.5)
    feed = LiveTimingFeed(Hub(options.url, options.token), scope, name, log, options)
    follower = Follower()

    async def follow() -> None:
        async for event in feed.events():
            if isinstance(event, FeedMessage):
                follower.take(event)
                if keeper is not None and event.raw is not None:
                    keeper.add(event.raw, event.arrived.timestamp())
                if event.logged is not None and log is not None:
                    log.add(event.logged)
            elif isinstance(event, Lost):
                follower.lost.append(event.reason)
            elif isinstance(event, Back):
                follower.connections += 1
            elif isinstance(event, Over):
                follower.over.append(event.reason)

    task = asyncio.create_task(follow())
    try:
        yield follower
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        rest = feed.finish()
        if rest is not None:
            follower.take(rest)


async def _truth(script: Script) -> tuple[Scope, dict[str, dict[Any, dict[str, Any]]]]:
    """Return the session, and what history makes of it."""
    async with opened(script.archive) as source:
        (scope,) = await scopes(source, session_key=(script.context.session_key,))
        loaded = await load(source, [Unit(name, scope) for name in _MADE_LIVE])
    return scope, {
        name: {identity(ENDPOINTS[name], record): _plain(record) for record in loaded.of(name)} for name in _MADE_LIVE
    }


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if value is not None}


def _of(follower: Follower, names: Iterable[str] = _MADE_LIVE) -> dict[str, dict[Any, dict[str, Any]]]:
    return {
        name: {key: _plain(record) for key, record in follower.records.get(name, {}).items()} for name in names
    }  # fmt: skip


async def _heard_all(server: LiveServer, *heard: Follower) -> None:
    """Wait until all is played, and for a while nothing more has come."""
    await server.over()
    before = -1
    while (now := sum(one.messages for one in heard)) != before:
        before = now
        await asyncio.sleep(0.3)


async def test_live_makes_the_records_of_history(race: Script) -> None:
    scope, truth = await _truth(race)
    async with playing(race, settings=HubSettings(archive_at_once=True)) as server, _following(server, scope) as heard:
        await _heard_all(server, heard)

    assert sum(map(len, truth.values())) > 4_000
    assert _of(heard) == truth
    assert heard.broken == []


async def test_what_comes_twice_or_in_another_order_changes_nothing(race: Script) -> None:
    scope, truth = await _truth(race)
    faults = FeedFaults({"duplicate": 0.05, "reorder": 0.1})
    settings = HubSettings(archive_at_once=True, faults=faults)
    # Not as fast as it can: order is made by time.
    async with playing(race, Timing(speed=60), settings) as server, _following(server, scope) as heard:
        await _heard_all(server, heard)

    assert _of(heard) == truth


async def test_a_gap_is_filled_with_what_another_instance_has_had(race: Script) -> None:
    scope, truth = await _truth(race)
    log = SharedMessages()
    settings = HubSettings(archive_at_once=True, faults=FeedFaults(gap=20.0))
    async with (
        playing(race, Timing(speed=40, subscribers=2), settings) as server,
        _following(server, scope, log, "a") as one,
        _following(server, scope, log, "b") as other,
    ):
        for number, share in enumerate((0.3, 0.6), 3):
            await until(lambda share=share: server.player.position > share * len(race.lines))
            server.hub.cut("cut", server.hub.log[-1].number)
            await until(lambda number=number: len(server.hub.log) == number)
        await _heard_all(server, one, other)
        # A gap is filled when others have caught up with what came after it.
        await asyncio.sleep(3.0)

    alone = {"laps", "stints", "race_control", "pit", "drivers", "championship_drivers", "championship_teams"}
    for heard in (one, other):
        found = _of(heard, alone)
        assert found == {name: truth[name] for name in alone}
    together = Follower()
    for name in _MADE_LIVE:
        together.records[name] = {**one.records.get(name, {}), **other.records.get(name, {})}
    assert _of(together) == truth


async def test_the_end_of_a_session_is_said_and_makes_its_result(race: Script) -> None:
    async with opened(race.archive) as source:
        (scope,) = await scopes(source, session_key=(race.context.session_key,))
        results = (await load(source, [Unit("session_result", scope)])).of("session_result")
    last = race.lines[-1]
    ended = replace(race, lines=[*race.lines, last._replace(topic="SessionStatus", body=b'{"Status":"Ends"}')])
    async with playing(ended, settings=HubSettings(archive_at_once=True)) as server:
        async with _following(server, scope) as heard:
            await _heard_all(server, heard)
        assert heard.over == ["its status is Ends"]
        assert list(_of(heard, ["session_result"])["session_result"].values()) == [_plain(one) for one in results]


async def test_without_a_token_the_rest_is_recorded(race: Script) -> None:
    scope, truth = await _truth(race)
    settings = HubSettings(archive_at_once=True)
    async with playing(race, settings=settings) as server, _following(server, scope, token="") as heard:
        await _heard_all(server, heard)

    assert heard.records["laps"].keys() == truth["laps"].keys()
    assert "car_data" not in heard.records
    feed = LiveTimingFeed(Hub("http://localhost"), scope, "a", None, LiveOptions("http://localhost"))
    assert "car_data" in feed.lacks[0]
    assert "F1HBASE_F1TV_TOKEN" in feed.lacks[0]


async def test_one_alone_that_was_cut_off_has_what_the_whole_state_says(race: Script) -> None:
    scope, truth = await _truth(race)
    settings = HubSettings(archive_at_once=True, faults=FeedFaults(gap=60.0))
    async with playing(race, Timing(speed=60), settings) as server, _following(server, scope) as heard:
        await until(lambda: server.player.position > len(race.lines) // 3)
        server.hub.cut("reset", 1)
        await until(lambda: heard.connections == 2)
        await _heard_all(server, heard)
        await asyncio.sleep(3.0)

    told = ("race_control", "team_radio", "drivers")
    assert _of(heard, told) == {name: truth[name] for name in told}
    assert len(heard.lost) == 1
    assert len(heard.records["car_data"]) < len(truth["car_data"])  # what only other instances have


async def test_raw_lines_of_two_instances_are_a_recording(race: Script, tmp_path: Path) -> None:
    scope, truth = await _truth(race)
    zone = tmp_path / "zone"
    keepers = [
        RawLinesRecipe(parse_location(str(zone))).open(scope, name, tmp_path / "state") for name in ("a", "b")
    ]  # fmt: skip
    settings = HubSettings(archive_at_once=True, faults=FeedFaults(gap=5.0))
    async with (
        playing(race, Timing(speed=60, subscribers=2), settings) as server,
        _following(server, scope, name="a", keeper=keepers[0]) as one,
        _following(server, scope, name="b", keeper=keepers[1]) as other,
    ):
        await until(lambda: server.player.position > len(race.lines) // 2)
        server.hub.cut("drop", 1)
        await until(lambda: len(server.hub.log) == 3)
        await _heard_all(server, one, other)
    for keeper in keepers:
        keeper.close()

    for place in (zone, zone / "raw-live" / str(scope.year)):
        assert is_recording(place)
    recording = read_recordings(recordings_of(zone))
    found = await load_session(RecordingSource(recording, "zone"), scope)
    recording.close()
    assert not recording.estimated
    assert {
        name: {identity(ENDPOINTS[name], record): _plain(record) for record in found.of(name)} for name in _MADE_LIVE
    } == truth


async def test_a_token_that_ends_leaves_what_is_free(race: Script) -> None:
    scope, _ = await _truth(race)
    settings = HubSettings(archive_at_once=True, token="token")
    async with playing(race, Timing(speed=60), settings) as server, _following(server, scope) as heard:
        await until(lambda: server.player.position > len(race.lines) // 4)
        server.hub.expire()
        await until(lambda: heard.connections >= 2)
        before = len(heard.records["car_data"])
        laps = len(heard.records.get("position", {}))
        await _heard_all(server, heard)

    assert len(heard.records["position"]) > laps
    assert len(heard.records["car_data"]) == before


@pytest.mark.parametrize(
    ("settings", "token", "code", "words"),
    [
        (HubSettings(refuses="garbage"), "", 3, "does not answer as a SignalR hub does"),
        (HubSettings(refuses="denied"), "token", 2, "F1HBASE_F1TV_TOKEN is wrong or has run out"),
        (HubSettings(refuses="denied"), "", 2, "wants a token"),
        (HubSettings(token="another"), "token", 2, "F1HBASE_F1TV_TOKEN is wrong or has run out"),
        (HubSettings(refuses="close"), "", 3, "closed the connection instead of answering the handshake"),
        (HubSettings(refuses="silent"), "", 3, "has not answered in 1 s"),
        (HubSettings(refuses="mute"), "", 3, "nothing came for 1 s"),
        (HubSettings(refuses="refuse"), "", 3, "answers HTTP 503"),
    ],
)
async def test_a_hub_that_does_not_work_is_one_clear_line(
    race: Script, settings: HubSettings, token: str, code: int, words: str
) -> None:
    scope = Scope(2025, 1, race.context.session_key)
    async with playing(race, Timing(), settings) as server:
        url = f"{server.url}/signalrcore"
        feed = LiveTimingFeed(Hub(url, token, timeout=1.0), scope, "a", None, LiveOptions(url, Secret(token), 0.5))
        with pytest.raises(F1HBaseError, match=words) as raised:
            await _until_it_fails(feed)

    assert raised.value.exit_code == code
    assert "\n" not in str(raised.value)
    assert token == "" or f" {token}" not in str(raised.value).replace("the token", "")


async def test_what_is_no_hub_at_all_is_said(race: Script) -> None:
    async with playing(race, Timing(), HubSettings(archive_at_once=True)) as server:
        url = f"{server.url}/static"
        feed = LiveTimingFeed(Hub(url), Scope(2025, 1, 2), "a", None, LiveOptions(url, patience=0.5))
        with pytest.raises(F1HBaseError, match="Check --hub-url"):
            await _until_it_fails(feed)


async def test_garbage_among_messages_goes_to_quarantine(race: Script) -> None:
    scope, truth = await _truth(race)
    settings = HubSettings(archive_at_once=True, faults=FeedFaults({"garbage": 0.01, "strange": 0.01}))
    async with playing(race, settings=settings) as server, _following(server, scope) as heard:
        await _heard_all(server, heard)

    assert _of(heard) == truth
    assert heard.broken
    assert {record["reason"] for record in heard.broken} >= {"no JSON"}


async def test_records_bear_the_time_of_their_message(race: Script) -> None:
    scope, _ = await _truth(race)
    async with playing(race, settings=HubSettings(archive_at_once=True)) as server, _following(server, scope) as heard:
        await _heard_all(server, heard)

    sent = {
        int((race.t0 + line.since - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(milliseconds=1))
        for line in race.lines
    }
    assert {stamp for (name, _, _), stamp in heard.stamps.items() if name != "session_result"} <= sent


async def _until_it_fails(feed: LiveTimingFeed) -> None:
    async with asyncio.timeout(20), aclosing(feed.events()) as events:  # type: ignore[type-var]
        async for _ in events:
            continue


def test_a_token_goes_nowhere_in_the_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from f1hbase.config import resolve
    from f1hbase.sources.livetiming.feed import feed_recipe

    monkeypatch.setenv("F1HBASE_F1TV_TOKEN", "a-token-that-is-none")
    with pytest.raises(F1HBaseError, match="over https only"):
        feed_recipe(resolve({"hub_url": "http://example.org/signalrcore"}))
    file = tmp_path / "f1hbase.toml"
    file.write_text('hub-url = "https://example.org/signalrcore"\n')
    with pytest.raises(F1HBaseError, match=r"which '.*' names"):
        feed_recipe(resolve({}, config=file))
    assert "a-token" not in repr(feed_recipe(resolve({})))
