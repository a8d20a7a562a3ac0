"""`live` as a user runs it: into a real HBase that goes away meanwhile, raw lines beside it, and as a service."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cli import Loader
from forwarder import Forwarder
from hbase_server import HOST, LocalHBase, free_ports
from live_server import LiveServer, playing, season_of, until
from prometheus_client.parser import text_string_to_metric_families
from samples import sample
from tables import Cells, reports, scan, values

from f1hbase.composition import live_parts, live_request
from f1hbase.config import Config, resolve
from f1hbase.destinations.hbase import HBaseRecipe
from f1hbase.destinations.hbase_live import HBaseLiveRecipe
from f1hbase.destinations.live import LiveBatch, LiveRecords
from f1hbase.errors import ConfigError, UnreachableError
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.units import Scope
from f1hbase.operations.status.lines import status_json, status_lines
from f1hbase.operations.status.reading import Overview
from f1hbase.pipeline.live.raw_lines import RawLinesRecipe
from f1hbase.pipeline.live.run import Recording
from f1hbase.pipeline.live.service import serving, showing
from f1hbase.sources.livetiming.recorded import is_recording
from f1hbase.state.hbase.epochs import raise_epochs
from f1hbase.state.live import RECORDING, STOPPED, Heartbeat
from f1hbase.stores.files.objects import Objects
from f1hbase.stores.files.urls import LocationError, parse_location
from f1hbase.stores.files.zone import create_zone
from f1hbase.stores.hbase.codec import encode
from f1hbase.stores.hbase.connector import HBaseConnector, find_gateway
from f1hbase.stores.hbase.frames import RowMutation
from f1hbase.stores.hbase.schema import Tables
from simulator.live import HubSettings, Script, Timing, read_script

_OF_MESSAGES = ("car", "location", "laps", "stints", "position", "weather", "pit", "racecontrol", "driver", "overtakes",
                "intervals", "teamradio", "championship")  # fmt: skip


@pytest.fixture(scope="module")
def race(tmp_path_factory: pytest.TempPathFactory) -> Script:
    season = season_of(tmp_path_factory.mktemp("season"), "--sessions", "race", "--minutes", "2", "--drivers", "4")
    return read_script(season, tmp_path_factory.mktemp("archive"))


def _loader(folder: Path, port: int, prefix: str, server: LiveServer) -> Loader:
    folder.mkdir(exist_ok=True)
    environment = {
        "F1HBASE_HBASE_HOST": HOST,
        "F1HBASE_HBASE_PORT": str(port),
        "F1HBASE_TABLE_PREFIX": prefix,
        "F1HBASE_HUB_URL": f"{server.url}/signalrcore",
        "F1HBASE_LIVETIMING_URL": f"{server.url}/static",
        "F1HBASE_F1TV_TOKEN": "a-token-that-is-none",
        "XDG_STATE_HOME": str(folder / "state"),
    }
    return Loader(folder, environment)


async def _metrics(port: int) -> dict[str, float]:
    """Return what is shown to Prometheus, by Prometheus' own parser."""
    async with aiohttp.ClientSession() as session, session.get(f"http://{HOST}:{port}/metrics") as answer:
        assert answer.status == 200
        text = await answer.text()
    return {one.name: one.value for family in text_string_to_metric_families(text) for one in family.samples}


def _of_messages(cells: Cells) -> dict[bytes, dict[bytes, bytes]]:
    table = values(cells)
    kept = {
        row: {column: value for column, value in columns.items() if column.partition(b":")[0].decode() in _OF_MESSAGES}
        for row, columns in table.items()
    }
    return {row: columns for row, columns in kept.items() if columns}


@pytest.mark.hbase
async def test_a_session_is_recorded_while_hbase_goes_away_and_confirmed_by_the_archive(
    hbase: LocalHBase, table_prefix: str, race: Script, tmp_path: Path
) -> None:
    key = str(race.context.session_key)
    settings = HubSettings(archive_at_once=True)
    with Forwarder(hbase.port) as way:
        async with playing(race, Timing(speed=30), settings) as server:
            loader = _loader(tmp_path, way.port, table_prefix, server)
            truth = _loader(tmp_path, hbase.port, f"{table_prefix}truth", server)
            arguments = ["live", "--from", "livetiming", "--session-key", key, "--idle-timeout", "4s", "--no-archive"]
            zone = ["--to", "hbase", "--to", "./zone", "--layout", "raw-live"]
            (port,) = free_ports(1)
            zone += ["--metrics", str(port)]
            recording = asyncio.create_task(asyncio.to_thread(loader.run, *arguments, *zone))
            await until(lambda: server.player.position > len(race.lines) // 4, 60)
            shown = await _metrics(port)
            assert shown["f1hbase_live_recording"] == 1
            assert 0 < shown["f1hbase_live_messages_total"] <= len(race.lines)
            way.stop()
            await until(lambda: "HBase is away" in loader.log, 60)
            way.start()
            output = await recording
            await asyncio.to_thread(truth.run, "load", "--from", "livetiming", "--session-key", key)
            recorded = scan(hbase.port, f"{table_prefix}_f1_data")
            loaded = _of_messages(scan(hbase.port, f"{table_prefix}truth_f1_data"))

            assert _of_messages(recorded) == loaded
            assert "HBase is away" in output
            assert "HBase is back" in output
            assert "a-token" not in output + loader.log
            assert set(_stamps(recorded, b"car:")) <= _moments(race)
            units = reports(hbase.port, table_prefix, "unit")
            assert {unit["meta:status"] for unit in units.values()} == {"partial"}

            assert is_recording(tmp_path / "zone")

            # The archive confirms what was recorded.
            await asyncio.to_thread(loader.run, "load", "--from", "livetiming", "--session-key", key)
            units = reports(hbase.port, table_prefix, "unit")
            assert "partial" not in {unit["meta:status"] for name, unit in units.items() if "#laps#" in name}
            assert _of_messages(scan(hbase.port, f"{table_prefix}_f1_data")) == loaded


@pytest.mark.hbase
def test_what_was_rolled_back_can_be_recorded_again(hbase: LocalHBase, table_prefix: str) -> None:
    scope = Scope(2025, 1, 2)
    tables = Tables(table_prefix)
    gateway = find_gateway(HOST, hbase.port)
    recipe = HBaseLiveRecipe(HBaseRecipe((gateway,), tables, "NONE", 10.0, 10.0))
    stamp = 1_700_000_000_000
    deleted_at = stamp + 60_000
    weather = sample("weather", meeting_key=1, session_key=2)
    with recipe.open(scope, "run") as destination:
        connector = HBaseConnector([gateway])
        key = encode(ENDPOINTS["weather"], 2025, weather).key
        connector.put(tables.data, [RowMutation(key, {}, [b"weather"])], timestamp=deleted_at)
        raise_epochs(connector, tables.reports, scope.meeting, ["2"], deleted_at)
        destination.writer.write(LiveBatch([LiveRecords("weather", [weather], stamp)]))
        # An older message that comes late changes nothing.
        older = {**weather, "air_temperature": -1.0}
        destination.writer.write(LiveBatch([LiveRecords("weather", [weather], deleted_at + 500)]))
        destination.writer.write(LiveBatch([LiveRecords("weather", [older], deleted_at + 400)]))
        connector.close()
    cells = scan(hbase.port, tables.data)[key]
    assert cells[b"weather:air_temperature"] == (b"17.0", deleted_at + 500)
    assert all(at > deleted_at for _, at in cells.values())


def _stamps(cells: Cells, family: bytes) -> list[int]:
    return [at for columns in cells.values() for column, (_, at) in columns.items() if column.startswith(family)]


def _moments(script: Script) -> set[int]:
    start = datetime(1970, 1, 1, tzinfo=UTC)
    return {(script.t0 + line.since - start) // timedelta(milliseconds=1) for line in script.lines}


def _config(hbase: LocalHBase, prefix: str, server: LiveServer, script: Script) -> Config:
    return resolve(
        {
            "source": "livetiming", "session_key": script.context.session_key, "hbase_host": HOST,
            "hbase_port": hbase.port, "table_prefix": prefix, "hub_url": f"{server.url}/signalrcore",
            "livetiming_url": f"{server.url}/static", "no_archive": True, "idle_timeout": "30s",
        },
        environment={},
    )  # fmt: skip


@pytest.mark.hbase
async def test_a_service_records_when_it_is_told_to(
    hbase: LocalHBase, table_prefix: str, race: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("F1HBASE_F1TV_TOKEN", "a-token-that-is-none")
    (port,) = free_ports(1)
    async with playing(race, Timing(speed=30), HubSettings(archive_at_once=True)) as server:
        config = _config(hbase, table_prefix, server, race)
        async with (
            serving(f"127.0.0.1:{port}", "secret-word", live_request(config), lambda: live_parts(config)) as (_, where),
            aiohttp.ClientSession(f"http://{where}", headers={"Authorization": "Bearer secret-word"}) as session,
        ):

            async def ask(method: str, path: str) -> tuple[int, Any]:
                async with session.request(method, path) as response:
                    text = await response.text()
                return response.status, json.loads(text) if text.startswith("{") else text

            assert (await ask("GET", "/health"))[1]["state"] == "idle"
            status, begun = await ask("POST", "/")
            assert (status, begun["begun"]) == (202, True)
            status, again = await ask("POST", "/")
            assert (status, again["begun"]) == (200, False)
            async with asyncio.timeout(60):
                while (await ask("GET", "/health"))[1].get("stats", {}).get("rows", 0) < 500:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            _, health = await ask("GET", "/health")
            assert (health["state"], health["session_key"]) == ("recording", race.context.session_key)
            _, metrics = await ask("GET", "/metrics")
            assert "f1hbase_live_recording 1\n" in metrics
            assert "f1hbase_live_latency_p99_seconds" in metrics
            async with aiohttp.ClientSession(f"http://{where}") as stranger, stranger.post("/stop") as refused:
                assert refused.status == 401
            _, stopped = await ask("POST", "/stop")
            assert (stopped["ended"], stopped["state"], stopped["exit_code"]) == (True, STOPPED, 130)
            assert (await ask("POST", "/stop"))[1]["ended"] is False
    beats = reports(hbase.port, table_prefix, "live")
    assert [beat["meta:state"] for beat in beats.values()] == [STOPPED]


async def test_an_address_for_metrics_that_is_taken_is_said() -> None:
    (port,) = free_ports(1)
    async with showing(f"{HOST}:{port}", Recording()) as where:
        with pytest.raises(UnreachableError, match=r"--metrics .*: cannot listen there: .*address already in use"):
            async with showing(where, Recording()):
                pass


def test_a_service_shows_its_figures_at_its_own_address(tmp_path: Path) -> None:
    printed = Loader(tmp_path, {}).run("live", "--serve", "127.0.0.1:8099", "--metrics", "9465", exit_code=2)
    assert "--metrics: with --serve the figures are at /metrics of that address" in printed


async def test_a_service_listens_to_others_only_with_a_token() -> None:
    config = resolve({"source": "livetiming"}, environment={})
    with pytest.raises(ConfigError, match="F1HBASE_SERVE_TOKEN"):
        async with serving("0.0.0.0:8080", "", live_request(config), lambda: live_parts(config)):
            pass


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"source": "openf2"}, "there is no such feed"),
        ({"to": ["./zone"], "source": "livetiming"}, "say --to hbase"),
        ({"to": ["hbase", "./zone"], "source": "livetiming"}, "--layout raw-live"),
        ({"layout": "raw-live", "source": "livetiming"}, "say where the raw lines go"),
    ],
)
def test_what_makes_no_sense_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        live_parts(resolve(given, environment={}))


def test_a_place_of_raw_lines_is_told_from_a_landing_zone(tmp_path: Path) -> None:
    scope = Scope(2025, 1, 2)
    place = parse_location(str(tmp_path / "raw"))
    RawLinesRecipe(place).open(scope, "a", tmp_path / "state").close()
    with pytest.raises(LocationError, match="holds raw lines of live recordings"):
        create_zone(Objects(place))
    zone = parse_location(str(tmp_path / "zone"))
    create_zone(Objects(zone))
    with pytest.raises(LocationError, match="has the layout 'units', not 'raw-live'"):
        RawLinesRecipe(zone).open(scope, "a", tmp_path / "state")


def test_status_names_an_instance_that_has_stopped() -> None:
    now = datetime.now(UTC)
    beats = [
        Heartbeat("2025#1#2", "a", RECORDING, now, {}, {"rows": 1200.0, "latency_p50": 0.1}),
        Heartbeat("2025#1#2", "b", RECORDING, now - timedelta(seconds=15), {}, {"rows": 7.0}),
        Heartbeat("2025#1#2", "c", STOPPED, now - timedelta(seconds=60), {}, {}),
    ]
    overview = Overview([], live=beats)
    lines = [line for line in status_lines(overview) if line.startswith("live:")]
    assert "instance a: recording, 1,200 rows, 0.10 s behind" in lines[0]
    assert "instance b: NO HEARTBEAT for 15 s" in lines[1]
    assert "instance c: stopped" in lines[2]
    assert [one["stopped"] for one in status_json(overview)["live"]] == [False, True, False]
