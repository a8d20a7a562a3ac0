"""`live --from openf1`: what OpenF1 publishes over MQTT becomes the records of its REST API, through a real broker."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from archive_server import SHARED, Loaded, load_session, opened, scopes
from cli import loader_of
from forwarder import Forwarder
from hbase_server import LocalHBase, free_ports
from live_server import season_of, until
from mqtt_broker import PasswordPlugin, broker, mosquitto, subscriptions
from replay_server import ReplayServer
from tables import scan, values

from f1hbase.config import Config, resolve
from f1hbase.credentials import Credentials
from f1hbase.errors import ConfigError, F1HBaseError, UnreachableError
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.records import identity
from f1hbase.model.units import Scope
from f1hbase.sources.feeds import Back, FeedEvent, FeedMessage, Lost, Over
from f1hbase.sources.livetiming.recorded import read as read_recordings
from f1hbase.sources.openf1.broker import BrokerRefusedError, Heard, connect
from f1hbase.sources.openf1.feed import FeedOptions, OpenF1Feed, feed_recipe
from f1hbase.sources.openf1.published import BadPayloadError, read, spelled
from f1hbase.sources.openf1.source import OpenF1Options
from f1hbase.sources.openf1.token import TokenProvider, token_path
from f1hbase.sources.recordings import RecordingSource
from simulator.live import Player, Timing, read_script
from simulator.live.faults import FeedFaults
from simulator.live.publisher import IDENTITIES, Publisher
from simulator.live.publisher import broker as connected
from simulator.live.run import listening

_REAL = SHARED / "reference" / "2025_saopaulo_sprint_live" / "mqtt.jsonl.gz"
_SCOPE = Scope(2025, 7001, 70001)
_EXACT = ("car_data", "location", "weather", "position", "drivers", "overtakes", "pit", "championship_drivers",
          "championship_teams", "intervals", "team_radio", "race_control", "laps", "stints")  # fmt: skip


_leaves_sockets = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""amqtt and paho leave some sockets to the garbage collector."""


@pytest.fixture(scope="module")
def season(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return season_of(tmp_path_factory.mktemp("season"), "--sessions", "race", "--minutes", "1", "--drivers", "3")


@dataclass
class _Fed:
    """What a feed gave.

    Attributes:
        events: All of them.
        failures: What it raised.
    """

    events: list[FeedEvent] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)

    @property
    def messages(self) -> list[FeedMessage]:
        """What came of payloads."""
        return [event for event in self.events if isinstance(event, FeedMessage)]

    def kinds(self) -> list[str]:
        """What came besides."""
        return [type(event).__name__ for event in self.events if not isinstance(event, FeedMessage)]

    def standing(self) -> tuple[dict[str, dict[Any, Any]], list[Any]]:
        """Return the record of each identity that stands, by the stamps alone, and what goes to quarantine."""
        best: dict[str, dict[Any, tuple[int, Any]]] = {}
        problems = []
        for message in self.messages:
            for some in message.records:
                for record in some.records:
                    if "reason" in record:
                        problems.append(record)
                        continue
                    known = best.setdefault(some.endpoint, {})
                    key = identity(ENDPOINTS[some.endpoint], record)
                    if key not in known or known[key][0] <= some.stamp:
                        known[key] = (some.stamp, record)
        return {name: {key: record for key, (_, record) in of.items()} for name, of in best.items()}, problems


@asynccontextmanager
async def _reading(
    options: FeedOptions, tokens: TokenProvider | None = None, scope: Scope = _SCOPE
) -> AsyncIterator[_Fed]:
    """Read a feed, and yield what it gives."""
    fed = _Fed()

    async def listen(feed: OpenF1Feed) -> None:
        async for event in feed.events():
            fed.events.append(event)

    async with aiohttp.ClientSession() as session:
        task = asyncio.create_task(listen(OpenF1Feed(scope, options, session, tokens)))

        def on_end(done: asyncio.Task[None]) -> None:
            if not done.cancelled() and done.exception() is not None:
                fed.failures.append(done.exception() or RuntimeError())

        task.add_done_callback(on_end)
        try:
            yield fed
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _options(port: int, **others: Any) -> FeedOptions:
    return FeedOptions(f"mqtt://127.0.0.1:{port}", OpenF1Options(), **{"patience": 5.0, **others})


@asynccontextmanager
async def _publishing(port: int, season: Path, scratch: Path, faults: FeedFaults | None = None) -> AsyncIterator[Any]:
    """Yield what plays a session to a broker, and returns how many payloads that were."""
    async with connected("127.0.0.1", port, "a publisher") as publish:

        async def play() -> int:
            player = Player(read_script(season, scratch), Timing(speed=0.0, subscribers=0))
            publisher = Publisher(player, publish, faults)
            await player.run()
            await publisher.flush()
            return publisher.published

        yield play


async def _loaded(archive: Path) -> Loaded:
    async with opened(archive) as source:
        (scope,) = await scopes(source, mode="manual", session_key=(70001,))
        return await load_session(source, scope)


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if value is not None}


@pytest.mark.parametrize(
    "faults",
    [
        None,
        FeedFaults({"duplicate": 0.05, "reorder": 0.1, "late": 0.1}, seed=4, late=20.0),
        FeedFaults({"garbage": 0.01, "late": 0.3}, seed=5, late=2.0),
    ],
)
async def test_records_are_those_that_the_session_has(season: Path, tmp_path: Path, faults: FeedFaults | None) -> None:
    async with broker() as port, _reading(_options(port)) as fed, _publishing(port, season, tmp_path, faults) as play:
        await until(lambda: fed.kinds() == ["Back"])
        number = await play()
        await until(lambda: len(fed.messages) >= number)
        await asyncio.wait_for(_quiet(fed), 10)

    standing, problems = fed.standing()
    loaded = await _loaded(tmp_path)
    for endpoint in _EXACT:
        theirs = {identity(ENDPOINTS[endpoint], record): _plain(record) for record in loaded.of(endpoint)}
        assert {key: _plain(record) for key, record in standing.get(endpoint, {}).items()} == theirs, endpoint
    assert not any(name.startswith("_") for of in standing.values() for record in of.values() for name in record)
    assert bool(problems) == (faults is not None and "garbage" in faults.shares)
    assert all(problem["topic"].startswith("v1/") for problem in problems)


async def _quiet(fed: _Fed) -> None:
    """Wait until nothing comes any more."""
    number = -1
    while number != len(fed.events):
        number = len(fed.events)
        await asyncio.sleep(0.1)


def test_times_become_what_rest_says() -> None:
    assert spelled("2025-11-08T14:21:08.442000") == "2025-11-08T14:21:08.442000+00:00"
    assert spelled("2025-11-08T14:21:08.442917+00:00") == "2025-11-08T14:21:08.442000+00:00"
    assert spelled("2025-11-08T14:21:08.000917") == "2025-11-08T14:21:08+00:00"
    assert spelled("2025-11-08T14:21:08Z") == "2025-11-08T14:21:08+00:00"
    assert [spelled(value) for value in (None, 7, "yesterday")] == [None, 7, "yesterday"]


@pytest.mark.parametrize("payload", [b"", b"[1]", b"{", b'{"a": NaN}', b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_record_is_refused(payload: bytes) -> None:
    with pytest.raises(BadPayloadError):
        read("weather", payload)


def test_an_id_that_is_none_is_none() -> None:
    for text in ("true", '"7"', "-1", "1.5", "null"):
        assert read("weather", f'{{"_id": {text}, "date": null}}'.encode()).number is None
    assert read("weather", b'{"_id": 7}').number == 7


@pytest.mark.skipif(not _REAL.is_file(), reason=f"what OpenF1 published is not in {_REAL}")
async def test_what_openf1_published_of_a_real_session() -> None:
    with gzip.open(_REAL, "rt", encoding="utf-8") as lines:
        real = [json.loads(line) for line in lines]
    recording = SHARED / "raw" / "2025_saopaulo_sprint_live" / "recorder_a.fastf1.txt.gz"
    with closing(read_recordings([recording])) as session:
        source = RecordingSource(session, str(recording))
        (scope,) = await scopes(source, mode="manual", session_key=(9864,))
        loaded = await load_session(source, scope)

    async with broker() as port, _reading(_options(port), scope=scope) as fed:
        await until(lambda: fed.kinds() == ["Back"])
        async with connected("127.0.0.1", port) as publish:
            for line in real:
                await publish(line["topic"], json.dumps(line["payload"]).encode())
        await until(lambda: len(fed.messages) == len(real))

    standing, problems = fed.standing()
    assert not problems
    for endpoint in ("weather", "position", "race_control"):
        theirs = {identity(ENDPOINTS[endpoint], record): record for record in loaded.of(endpoint)}
        assert standing[endpoint] == theirs
    # In the order of arrival, as they have no `_id`: the last message of a lap stands.
    last = {line["payload"]["_key"]: line["payload"] for line in real if line["topic"] == "v1/laps"}
    assert len(standing["laps"]) == len(last)
    assert {json.dumps({**_plain(lap), "date_start": None}, sort_keys=True) for lap in standing["laps"].values()} == {
        json.dumps({**_plain({k: v for k, v in lap.items() if k != "_key"}), "date_start": None}, sort_keys=True)
        for lap in last.values()
    }


async def test_records_of_other_sessions_and_unknown_topics_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    weather = {"meeting_key": 7001, "session_key": 70001, "date": "2025-03-09T13:00:00", "wind_speed": 1.5}
    soon = int(time.time() * 1000)
    payloads: list[tuple[str, Any]] = [
        ("v1/weather", {**weather, "session_key": 70002, "_id": soon}),
        ("v1/tyres", {**weather, "_id": soon + 1}),
        ("v1/tyres", {**weather, "_id": soon + 2}),
        ("v2/weather", weather),
        ("v1/meetings", {"meeting_key": 7002}),
        ("v1/weather", {**weather, "_id": soon + 3}),
    ]

    async with broker() as port, _reading(_options(port)) as fed, connected("127.0.0.1", port) as publish:
        await until(lambda: fed.kinds() == ["Back"])
        for topic, payload in payloads:
            await publish(topic, json.dumps(payload).encode())
        await until(lambda: fed.messages)

    (message,) = fed.messages
    (records,) = message.records
    assert (records.stamp, records.replaces) == (soon + 3, True)
    assert records.records == [{**weather, "date": "2025-03-09T13:00:00+00:00"}]
    assert message.raw is not None
    raw = json.loads(message.raw)
    assert raw["payload"] == payloads[-1][1]
    assert (raw["topic"], datetime.fromisoformat(raw["arrived"])) == ("v1/weather", message.arrived)
    assert [record.message for record in caplog.records if "no endpoint" in record.message] == [
        "the feed has the topic v1/tyres, which is no endpoint: left out"
    ]


async def test_an_id_from_the_future_does_not_make_cells_that_stand_for_ever() -> None:
    weather = {"meeting_key": 7001, "session_key": 70001, "date": "2025-03-09T13:00:00"}
    far = int(time.time() * 1000) + 10 * 86_400_000

    async with broker() as port, _reading(_options(port)) as fed, connected("127.0.0.1", port) as publish:
        await until(lambda: fed.kinds() == ["Back"])
        for number in (far, far + 1):
            await publish("v1/weather", json.dumps({**weather, "_id": number}).encode())
        await until(lambda: len(fed.messages) == 2)

    stamps = [message.records[0].stamp for message in fed.messages]
    assert stamps[0] < stamps[1] <= time.time() * 1000 + 1


class _Tokens:
    """A server that gives tokens, each good for some seconds, as OpenF1's does for an hour."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.until: dict[str, float] = {}
        self.app = web.Application()
        self.app.router.add_post("/token", self._give)

    def is_good(self, token: str) -> bool:
        """Return whether a token is good now; the publisher's always is."""
        return token == "a publisher" or self.until.get(token, 0.0) > time.time()

    async def _give(self, request: web.Request) -> web.Response:
        form = await request.post()
        if form.get("password") != "the password":
            return web.json_response({"detail": "Incorrect username or password"}, status=401)
        token = f"token-number-{len(self.until) + 1}"
        self.until[token] = time.time() + self.seconds
        return web.json_response({"access_token": token, "expires_in": str(self.seconds)})


def _provider(port: int, folder: Path, password: str = "the password") -> TokenProvider:
    url = f"http://127.0.0.1:{port}/v1"
    credentials = Credentials("a user", password)
    return TokenProvider(url, credentials, token_path(url, credentials, folder))


@_leaves_sockets
async def test_a_token_is_renewed_before_it_ends_without_a_gap(tmp_path: Path) -> None:
    tokens = _Tokens(seconds=1.0)
    numbers = itertools.count(int(time.time() * 1000))
    sent = []

    async with (
        listening(tokens.app) as token_port,
        broker(tokens.is_good) as port,
        _reading(_options(port, overlap=0.3), _provider(token_port, tmp_path)) as fed,
        connected("127.0.0.1", port, "a publisher") as publish,
    ):
        await until(lambda: fed.kinds() == ["Back"])
        while len(tokens.until) < 4:
            record = {"meeting_key": 7001, "session_key": 70001, "date": "2025-03-09T13:00:00", "_id": next(numbers)}
            await publish("v1/weather", json.dumps(record).encode())
            sent.append(record["_id"])
            await asyncio.sleep(0.002)
        await until(lambda: {message.records[0].stamp for message in fed.messages} >= set(sent))

    assert fed.kinds() == ["Back"]  # the connection was never lost
    assert len([one for one in PasswordPlugin.admitted if one.startswith("token")]) >= 3
    assert not PasswordPlugin.refused
    assert not fed.failures


async def test_a_token_that_was_withdrawn_is_replaced(tmp_path: Path) -> None:
    tokens = _Tokens(seconds=600.0)

    async with listening(tokens.app) as token_port, broker(tokens.is_good) as port:
        with Forwarder(port) as way:
            async with _reading(_options(way.port), _provider(token_port, tmp_path)) as fed:
                await until(lambda: fed.kinds() == ["Back"])
                tokens.until["token-number-1"] = 0.0
                way.cut()
                await until(lambda: fed.kinds()[-1] == "Back" and "Lost" in fed.kinds())
        assert PasswordPlugin.refused == ["token-number-1"]
        assert list(tokens.until) == ["token-number-1", "token-number-2"]


async def test_a_lost_connection_comes_back() -> None:
    weather = {"meeting_key": 7001, "session_key": 70001, "date": "2025-03-09T13:00:00", "_id": 1}

    async with broker() as port:
        with Forwarder(port) as way:
            async with _reading(_options(way.port)) as fed:
                await until(lambda: fed.kinds() == ["Back"])
                way.stop()
                await until(lambda: fed.kinds()[:2] == ["Back", "Lost"])
                way.start()
                await until(lambda: fed.kinds()[-1] == "Back" and len(fed.kinds()) > 2)
                async with connected("127.0.0.1", port) as publish:
                    await publish("v1/weather", json.dumps(weather).encode())
                await until(lambda: fed.messages)

    lost = next(event for event in fed.events if isinstance(event, Lost))
    assert "the connection was lost" in lost.reason
    assert isinstance(fed.events[0], Back)


async def test_credentials_that_are_refused_end_it_at_once(tmp_path: Path) -> None:
    tokens = _Tokens(seconds=600.0)
    async with listening(tokens.app) as token_port, broker(tokens.is_good) as port:
        async with _reading(_options(port), _provider(token_port, tmp_path, "another password")) as fed:
            await until(lambda: fed.failures)
        assert isinstance(fed.failures[0], F1HBaseError)
        assert "OpenF1 refused F1HBASE_API_USERNAME/F1HBASE_API_PASSWORD" in str(fed.failures[0])


async def test_a_broker_that_takes_no_token_needs_a_subscription(tmp_path: Path) -> None:
    tokens = _Tokens(seconds=600.0)
    async with listening(tokens.app) as token_port, broker(lambda _: False) as port:
        async with _reading(_options(port), _provider(token_port, tmp_path)) as fed:
            await until(lambda: fed.failures)
        async with _reading(_options(port)) as without:
            await until(lambda: without.failures)

    assert isinstance(fed.failures[0], ConfigError)
    assert str(fed.failures[0]).endswith("though the token is new: the feed needs a subscription of OpenF1.")
    assert "set F1HBASE_API_USERNAME and F1HBASE_API_PASSWORD" in str(without.failures[0])
    assert not any(token in str(fed.failures) + str(fed.events) for token in tokens.until)


async def test_a_broker_that_is_not_there_is_waited_for_as_long_as_patience_lasts() -> None:
    (port,) = free_ports(1)
    async with _reading(_options(port, patience=0.5)) as fed:
        await until(lambda: fed.failures)

    assert isinstance(fed.failures[0], UnreachableError)
    assert "Check the network and --mqtt-url" in str(fed.failures[0])
    assert {"Lost"} == set(fed.kinds())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for the name localhost that nobody has signed, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


@_leaves_sockets
@pytest.mark.parametrize("scheme", ["mqtts", "wss"])
async def test_the_broker_is_spoken_to_over_tls_and_must_prove_who_it_is(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    async with broker(certificate=certificate, websockets=scheme == "wss") as port:
        options = replace(_options(port, patience=600.0), url=f"{scheme}://localhost:{port}")
        async with _reading(options) as fed:
            await until(lambda: fed.failures)  # long before patience ends
        (refusal,) = fed.failures
        assert isinstance(refusal, UnreachableError)
        assert f"the certificate of {options.url} is not trusted (self-signed certificate)" in str(refusal)
        assert "SSL_CERT_FILE" in str(refusal)
        assert "\n" not in str(refusal)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        async with _reading(options) as fed:
            await until(lambda: fed.kinds() == ["Back"])
        # Its certificate is not one for another name.
        async with _reading(replace(options, url=f"{scheme}://127.0.0.1:{port}")) as fed:
            await until(lambda: fed.failures)
        assert "IP address mismatch" in str(fed.failures[0])


@pytest.mark.skipif(shutil.which("mosquitto") is None, reason="mosquitto is not installed")
async def test_mosquitto_is_heard_over_websockets_and_tls_with_a_token(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    record = {"meeting_key": 7001, "session_key": 70001, "date": "2025-03-09T13:00:00", "_id": 1, "_key": "a",
              "category": "Flag", "message": "GREEN LIGHT"}  # fmt: skip
    async with mosquitto(websockets=True, certificate=certificate, user=("f1hbase", "a token")) as port:
        url = f"wss://localhost:{port}/mqtt"
        heard: list[Heard] = []
        with pytest.raises(BrokerRefusedError, match=f"{url} refuses the connection"):
            await connect(url, "another token", "v1/#", heard.append, time.time)
        connection = await connect(url, "a token", "v1/#", heard.append, time.time)
        publisher = await connect(url, "a token", "v2/#", heard.append, time.time)
        await publisher._client.publish("v1/race_control", json.dumps(record).encode(), qos=1)
        await until(lambda: heard)
        await publisher.close()
        await connection.close()
    assert [(one.topic, json.loads(one.payload)) for one in heard] == [("v1/race_control", record)]


async def test_a_finished_session_is_over_when_nothing_comes_any_more() -> None:
    ended = datetime.now(UTC) - timedelta(minutes=1)
    scope = replace(_SCOPE, date_start=ended - timedelta(hours=1), date_end=ended)
    record = {"meeting_key": 7001, "session_key": 70001, "date": "2025-03-09T13:00:00", "_id": 1,
              "category": "SessionStatus", "message": "SESSION FINISHED"}  # fmt: skip

    async with (
        broker() as port,
        _reading(_options(port, quiet=0.1), scope=scope) as fed,
        connected("127.0.0.1", port) as publish,
    ):
        await until(lambda: fed.kinds() == ["Back"])
        await publish("v1/race_control", json.dumps(record).encode())
        await until(lambda: isinstance(fed.events[-1], Over))


def _config(file: Path | None = None, **settings: str) -> Config:
    return resolve(settings, config=file, environment={})


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("F1HBASE_API_USERNAME", "a user")
    monkeypatch.setenv("F1HBASE_API_PASSWORD", "the password")


@pytest.mark.usefixtures("credentials")
def test_a_token_goes_to_openf1_or_where_one_says_and_only_over_tls(tmp_path: Path) -> None:
    assert feed_recipe(_config()).options.url == "mqtts://mqtt.openf1.org:8883"
    assert feed_recipe(_config(mqtt_url="wss://mqtt.openf1.org:8084/mqtt"))
    assert feed_recipe(_config(mqtt_url="mqtts://broker.example.org"))
    assert feed_recipe(_config(mqtt_url="mqtt://127.0.0.1:1883"))
    with pytest.raises(ConfigError, match="over TLS only"):
        feed_recipe(_config(mqtt_url="mqtt://broker.example.org"))
    file = tmp_path / "f1hbase.toml"
    file.write_text('mqtt-url = "mqtts://broker.example.org"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"which '.*' names: name the broker with --mqtt-url"):
        feed_recipe(_config(file))
    for address in ("https://mqtt.openf1.org", "mqtts://me:secret@mqtt.openf1.org", "mqtts://"):
        with pytest.raises(ConfigError):
            _config(mqtt_url=address)


def test_without_credentials_there_is_only_a_broker_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("F1HBASE_API_USERNAME", "F1HBASE_API_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    assert feed_recipe(_config(mqtt_url="mqtt://localhost:1883"))
    with pytest.raises(ConfigError, match=r"needs a subscription: set F1HBASE_API_USERNAME"):
        feed_recipe(_config())


@pytest.fixture
def api(season: Path) -> Iterator[ReplayServer]:
    with ReplayServer(season) as server:
        yield server


@pytest.mark.hbase
async def test_live_stores_what_a_load_would(
    hbase: LocalHBase, table_prefix: str, season: Path, api: ReplayServer, tmp_path: Path
) -> None:
    """The cells of the endpoints that live timing has exactly, from the feed as from the API; faults and all."""
    faults = FeedFaults({"duplicate": 0.02, "reorder": 0.1, "late": 0.1}, seed=6, late=10.0)
    endpoints = ("car_data", "location", "weather", "position", "overtakes")
    asked = [argument for name in endpoints for argument in ("--endpoint", name)]
    loader = loader_of(hbase, tmp_path / "loaded", api.url, f"{table_prefix}l")
    loader.run("--session-key", "70001", *asked)

    async with broker(lambda _: True) as port:
        settings = {"mqtt_url": f"mqtt://127.0.0.1:{port}", "idle_timeout": "3s"}
        recorder = loader_of(hbase, tmp_path / "live", api.url, f"{table_prefix}v", **settings)
        command = ("live", "--from", "openf1", "--session-key", "70001", "--no-archive")
        recording = asyncio.create_task(asyncio.to_thread(recorder.run, *command))
        await until(lambda: subscriptions() or recording.done(), 60)
        async with _publishing(port, season, tmp_path / "scratch", faults) as play:
            await play()
        output = await recording

    assert "nothing has come for" in output
    loaded, live = (values(scan(hbase.port, f"{table_prefix}{which}_f1_data")) for which in "lv")
    families = {ENDPOINTS[name].family.encode() for name in endpoints}

    def cells(table: dict[bytes, dict[bytes, bytes]]) -> dict[bytes, dict[bytes, bytes]]:
        found = {
            row: {column: value for column, value in columns.items() if column.partition(b":")[0] in families}
            for row, columns in table.items()
        }
        return {row: columns for row, columns in found.items() if columns}

    assert cells(live) == cells(loaded)


def test_every_endpoint_of_the_feed_is_in_the_catalogue() -> None:
    assert set(IDENTITIES) <= set(ENDPOINTS)
