"""The live simulator: a SignalR hub that two client libraries and FastF1's own recorder take for F1's."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from archive_server import SHARED, load_session, opened, scopes
from click.testing import CliRunner
from live_server import LiveServer, listening_with_pysignalr, playing, season_of, until
from signalrcore.hub_connection_builder import HubConnectionBuilder

from f1hbase.sources.livetiming.lines import parse
from f1hbase.sources.livetiming.patch import merged
from f1hbase.sources.livetiming.recorded import read as read_recordings
from f1hbase.sources.recordings import RecordingSource
from simulator.cli import main
from simulator.live import HubSettings, Script, ScriptError, Timing, read_script
from simulator.live.faults import FeedFaults
from simulator.live.hub import RESTRICTED
from simulator.live.player import WHOLE

_KEY = 70001
_OPEN = ["TimingData", "TimingAppData", "WeatherData", "SessionInfo", "DriverList", "RaceControlMessages"]
_PINGING = HubSettings(ping_seconds=0.1)
"""For signalrcore, which does not stop before it hears something."""


@pytest.fixture(scope="module")
def season(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return season_of(tmp_path_factory.mktemp("season"), "--sessions", "race", "--minutes", "2", "--drivers", "4")


@pytest.fixture(scope="module")
def script(season: Path, tmp_path_factory: pytest.TempPathFactory) -> Script:
    return read_script(season, tmp_path_factory.mktemp("archive"))


def _topics(script: Script) -> list[str]:
    return sorted({line.topic for line in script.lines})


def _contents(script: Script, topics: list[str]) -> list[tuple[str, Any]]:
    """Return what is to be heard of some topics."""
    return [(line.topic, _plain(parse(line.body))) for line in script.lines if line.topic in topics]


def _plain(content: Any) -> Any:
    """Return a message without the sign that it is a whole state."""
    return {name: value for name, value in content.items() if name != "_kf"} if isinstance(content, dict) else content


def _heard(messages: list[tuple[str, Any, str]]) -> list[tuple[str, Any]]:
    return [(topic, _plain(content)) for topic, content, _ in messages]


async def test_pysignalr_hears_every_message_in_order(script: Script) -> None:
    topics = _topics(script)

    async with playing(script) as server, listening_with_pysignalr(server, topics, "a token") as heard:
        await server.over()
        await until(lambda: len(heard.messages) == len(script.lines))

    assert heard.snapshots == [{}]  # nothing was before the first subscriber
    assert _heard(heard.messages) == _contents(script, topics)
    assert heard.messages[0][2] == f"{script.t0 + script.lines[0].since:%Y-%m-%dT%H:%M:%S.}" + heard.messages[0][2][20:]
    assert all(("_kf" in content) == (topic in WHOLE)
               for topic, content, _ in heard.messages if isinstance(content, dict))  # fmt: skip


async def test_signalrcore_hears_every_message_in_order(script: Script) -> None:
    topics = _topics(script)
    messages: list[Any] = []
    snapshots: list[Any] = []

    def listen(url: str, done: threading.Event) -> None:
        cookie = asyncio.run(_cookie(url))
        options = {"access_token_factory": lambda: "a token", "headers": {"Cookie": cookie}}
        connection = HubConnectionBuilder().with_url(f"{url}/signalrcore", options=options).build()
        connection.on("feed", messages.append)
        connection.on_open(
            lambda: connection.send(
                "Subscribe", [topics], on_invocation=lambda message: snapshots.append(message.result)
            )
        )
        connection.start()
        done.wait(60)
        connection.stop()

    done = threading.Event()
    async with playing(script, settings=_PINGING) as server:
        client = asyncio.create_task(asyncio.to_thread(listen, server.url, done))
        try:
            await server.over()
            await until(lambda: len(messages) == len(script.lines))
        finally:
            done.set()
            await client

    assert snapshots == [{}]
    assert _heard([tuple(message) for message in messages]) == _contents(script, topics)


async def _cookie(url: str) -> str:
    """Return the load balancer's cookie as FastF1 gets it."""
    async with aiohttp.ClientSession() as session, session.options(f"{url}/signalrcore/negotiate") as response:
        return f"AWSALBCORS={response.cookies['AWSALBCORS'].value}"


async def test_fastf1s_recorder_records_a_session_that_loads_as_from_the_archive(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastf1.livetiming.client import SignalRClient

    recorded = tmp_path / "recorded.txt"
    topics = _topics(script)

    async with playing(script, settings=_PINGING) as server:
        monkeypatch.setattr(SignalRClient, "_connection_url", server.url.replace("http", "ws") + "/signalrcore")
        monkeypatch.setattr(SignalRClient, "_negotiate_url", f"{server.url}/signalrcore/negotiate")
        client = SignalRClient(str(recorded), timeout=0, no_auth=True)
        monkeypatch.setattr(client, "topics", topics)
        # Its "no token" is None, which signalrcore refuses since 1.0.
        monkeypatch.setattr(client, "_access_token_factory", lambda: lambda: "")
        await asyncio.to_thread(client._run)
        await server.over()
        expected = sum(line.topic not in RESTRICTED for line in script.lines)
        await until(lambda: len(recorded.read_text(encoding="utf-8").splitlines()) >= expected)
        await asyncio.to_thread(client._exit)
        async with aiohttp.ClientSession() as session, session.get(f"{server.url}/_live") as response:
            state = await response.json()

    assert [one["authorised"] for one in state["connections"]] == [False]
    assert not RESTRICTED & set(state["connections"][0]["topics"])
    with closing(read_recordings([recorded])) as recording:
        source = RecordingSource(recording, str(recorded))
        (scope,) = await scopes(source, mode="manual", session_key=(_KEY,))
        live = await load_session(source, scope)
    async with opened(script.archive) as archive:
        whole = await load_session(archive, scope)
    for endpoint in ("position", "weather", "drivers", "race_control", "laps", "stints"):
        assert live.records[endpoint] == whole.records[endpoint]
        assert whole.records[endpoint]


async def test_who_joins_late_gets_the_merged_state(script: Script) -> None:
    timing = Timing(speed=0.0, hold=1, skip=60.0)
    before = [line for line in script.lines if (line.since - script.lines[0].since).total_seconds() < 60.0]

    async with playing(script, timing) as server, listening_with_pysignalr(server, _OPEN) as heard:
        await server.over()
        await until(lambda: len(heard.messages) == len(_contents(script, _OPEN)) - len([
            line for line in before if line.topic in _OPEN]))  # fmt: skip

    state: Any = {}
    for line in before:
        if line.topic == "TimingData":
            state = merged(state, parse(line.body))
    assert heard.snapshots[0]["TimingData"] == state
    assert heard.snapshots[0]["WeatherData"]["_kf"] is True


async def test_topics_for_subscribers_take_a_token_and_a_wrong_one_is_refused(script: Script) -> None:
    topics = _topics(script)
    settings = HubSettings(token="the right one")

    async with playing(script, settings=settings) as server:
        async with listening_with_pysignalr(server, topics, "a wrong one") as heard:
            await until(lambda: heard.failures)
        assert not heard.messages
        async with listening_with_pysignalr(server, topics) as heard:
            await server.over()
            await until(lambda: len(heard.messages) == sum(line.topic not in RESTRICTED for line in script.lines))
        assert not RESTRICTED & {topic for topic, _, _ in heard.messages}


async def test_a_token_that_ends_closes_its_connection(script: Script) -> None:
    timing = Timing(speed=0.0, subscribers=2)  # does not begin

    async with (
        playing(script, timing) as server,
        listening_with_pysignalr(server, _OPEN, "a token") as heard,
        listening_with_pysignalr(server, _OPEN) as other,
    ):
        await until(lambda: server.hub.log and server.hub.log[-1].topics and other.snapshots and heard.snapshots)
        server.hub.expire()
        await until(lambda: heard.failures)
        assert {one.ended for one in server.hub.log} == {"the token has ended", None}
        assert not other.failures


@pytest.mark.parametrize("kind", ["drop", "cut", "reset"])
async def test_what_is_sent_while_a_client_is_away_is_only_in_the_snapshot(script: Script, kind: str) -> None:
    faults = FeedFaults({kind: 0.01}, seed=3, gap=5.0)

    async with (
        playing(script, settings=HubSettings(faults=faults)) as server,
        listening_with_pysignalr(server, _OPEN) as heard,
    ):
        await server.over()
        await until(lambda: len(heard.snapshots) == len(server.hub.log))
        if kind != "reset":  # which loses what was on its way, too
            await until(lambda: len(heard.messages) == sum(one.sent for one in server.hub.log))

    assert {one.ended for one in server.hub.log[:-1]} == {kind}
    lost = len(_contents(script, _OPEN)) - sum(one.sent for one in server.hub.log)
    assert lost >= len(server.hub.log) - 1  # the message that met the fault, at least
    everything = _contents(script, _OPEN)
    assert all(message in everything for message in _heard(heard.messages))


async def test_faults_change_order_and_number_but_lose_nothing(script: Script) -> None:
    faults = FeedFaults({"duplicate": 0.1, "reorder": 0.1, "late": 0.1, "garbage": 0.0}, seed=5, late=3.0)

    async def listen() -> tuple[list[tuple[str, Any]], list[tuple[int, str]]]:
        async with (
            playing(script, settings=HubSettings(faults=faults)) as server,
            listening_with_pysignalr(server, _OPEN) as heard,
        ):
            await server.over()
            met = server.hub.log[0].faults
            extra = sum(kind == "duplicate" for _, kind in met)
            await until(lambda: len(heard.messages) == len(_contents(script, _OPEN)) + extra)
        return _heard(heard.messages), met

    heard, met = await listen()
    again = await listen()

    assert {kind for _, kind in met} == {"duplicate", "reorder", "late"}
    assert heard != _contents(script, _OPEN)
    assert _as_set(heard) == _as_set(_contents(script, _OPEN))
    assert (heard, met) == again  # the same seed, the same faults


def _as_set(messages: list[tuple[str, Any]]) -> set[str]:
    return {json.dumps(message, sort_keys=True) for message in messages}


async def test_one_of_two_clients_can_be_cut_off_by_a_request(script: Script) -> None:
    timing = Timing(speed=0.0, subscribers=99)

    async with (
        playing(script, timing) as server,
        listening_with_pysignalr(server, _OPEN) as one,
        listening_with_pysignalr(server, _OPEN) as other,
        aiohttp.ClientSession() as session,
    ):

        async def ask(**asked: object) -> tuple[int, Any]:
            async with session.post(f"{server.url}/_live", json=asked) as response:
                return response.status, await response.json()

        await until(lambda: one.snapshots and other.snapshots)
        assert await ask(cut=1) == (200, {"cut": 1})
        assert (await ask(cut=1, kind="axe"))[0] == 400
        await until(lambda: len(one.snapshots) + len(other.snapshots) == 3)
        assert await ask(start=True) == (200, {})
        await server.over()
        await until(lambda: len(one.messages) == len(other.messages) == len(_contents(script, _OPEN)))

    assert server.hub.log[0].ended == "drop"


async def _raw(server: LiveServer, text: str) -> list[str]:
    """Connect without a library, send a text, and return what comes until the hub closes or is silent."""
    answers: list[str] = []
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{server.url}/signalrcore") as socket:
        await socket.send_str(text)
        while True:
            try:
                message = await asyncio.wait_for(socket.receive(), 0.5)
            except TimeoutError:
                return [*answers, "silence"]
            if message.type != aiohttp.WSMsgType.TEXT:
                return [*answers, "end"]
            answers.append(message.data)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("silent", ["silence"]),
        ("close", ["end"]),
        ("mute", ["{}\x1e", "silence"]),
        ("garbage", ["\x00\x01{this is no JSON\x1e", "end"]),
    ],
)
async def test_a_hub_that_does_not_do_its_work(script: Script, kind: str, expected: list[str]) -> None:
    hello = '{"protocol":"json","version":1}\x1e'
    subscribe = '{"type":1,"target":"Subscribe","arguments":[["WeatherData"]],"invocationId":"0"}\x1e'

    async with playing(script, Timing(speed=0.0), HubSettings(refuses=kind, refusals=1)) as server:
        assert await _raw(server, hello + subscribe) == expected
        # It was to happen once.
        assert (await _raw(server, hello))[0] == "{}\x1e"


async def test_the_hub_refuses_what_is_not_the_protocol(script: Script) -> None:
    async with playing(script, Timing(speed=0.0)) as server:
        for hello in ('{"protocol":"messagepack","version":1}', '{"protocol":"json","version":9}', "[]"):
            refusal = '{"error":"the protocol is not supported"}\x1e'
            assert await _raw(server, f"{hello}\x1e") == [refusal, "end"]
        assert await _raw(server, "GET / HTTP/1.1") == ["end"]
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{server.url}/signalrcore/negotiate") as response,
        ):
            negotiated = await response.json()
        # Without the cookie it is another node that answers.
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{server.url}/signalrcore?id={negotiated['connectionId']}") as response,
        ):
            assert response.status == 404


async def test_the_archive_has_the_session_when_it_is_over(script: Script) -> None:
    path = f"{script.context.path}TimingData.jsonStream"

    async with playing(script) as server, aiohttp.ClientSession() as session:
        async with session.get(f"{server.url}/static/2025/Index.json") as response:
            assert response.status == 200
        async with session.get(f"{server.url}/static/{path}") as response:
            assert response.status == 404
        async with listening_with_pysignalr(server, ["WeatherData"]):
            await server.over()
        async with session.get(f"{server.url}/static/{path}") as response:
            assert await response.read() == (script.archive / path).read_bytes()


async def test_time_passes_as_fast_as_it_is_told(script: Script) -> None:
    seconds = (script.lines[-1].since - script.lines[0].since).total_seconds()
    began = time.monotonic()

    async with playing(script, Timing(speed=seconds, subscribers=0)) as server:
        await server.over()

    assert time.monotonic() - began >= 0.99


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real sessions are not in {SHARED}")
@pytest.mark.parametrize(
    ("place", "key"),
    [
        ("2025_mexico_qualifying_first45min", 9873),
        ("2023_azerbaijan_sprint", 9069),
        ("2025_saopaulo_sprint_live", 9864),
    ],
)
async def test_real_sessions_and_recordings_can_be_played(place: str, key: int, tmp_path: Path) -> None:
    script = read_script(SHARED / "raw" / place, tmp_path)
    assert script.context.session_key == key

    timing = Timing(speed=0.0, hold=1, until=900.0)
    async with playing(script, timing) as server, listening_with_pysignalr(server, _OPEN) as heard:
        await server.over()
        await until(lambda: len(heard.messages) == server.hub.log[0].sent)

    assert heard.messages
    assert _heard(heard.messages) == _contents(script, _OPEN)[: len(heard.messages)]


def test_what_cannot_be_played_is_said_in_a_line(season: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for place, words in (
        (tmp_path / "nowhere", "there is no"),
        (tmp_path / "empty", "there is no session: it is neither an archive"),
    ):
        with pytest.raises(ScriptError, match=words):
            read_script(place, tmp_path / "scratch")
    with pytest.raises(ScriptError, match="no session 5 of which there are files"):
        read_script(season, tmp_path / "scratch", 5)
    done = CliRunner().invoke(main, ["live", str(tmp_path / "nowhere")])
    assert (done.exit_code, done.stderr.strip()) == (1, f"Error: there is no {tmp_path / 'nowhere'}")


def test_the_command_plays_and_ends(season: Path, tmp_path: Path) -> None:
    sent = tmp_path / "sent.jsonl"
    arguments = ["--speed=0", "--subscribers=0", "--port=0", "--until=30", "--end-after=0", f"--sent-file={sent}"]

    done = subprocess.run(
        [sys.executable, "-m", "simulator", "live", str(season), *arguments], capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    first, last = done.stdout.splitlines()
    assert first.startswith(f"playing session {_KEY}, ")
    lines = [json.loads(line) for line in sent.read_text(encoding="utf-8").splitlines()]
    assert last == f"all is played, {len(lines):,} messages"
    assert [line["number"] for line in lines] == list(range(len(lines)))


def test_a_fault_that_does_not_exist_is_wrong_usage() -> None:
    for arguments, words in (
        (["--fault", "axe=0.1"], "'axe' is not one of"),
        (["--fault", "drop=2"], "must be from 0 to 1"),
        (["--fault", "drop=0.7", "--fault", "late=0.7"], "more than 1 together"),
        (["--start-at", "noon"], "is neither +SECONDS"),
    ):
        done = CliRunner().invoke(main, ["live", "x", *arguments])
        assert done.exit_code == 2
        assert words in " ".join(done.stderr.split())
