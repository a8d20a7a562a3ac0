"""Recording from Python: `f1hbase.live()` in a program with an event loop, ended by an event or by the session."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hbase_server import HOST, LocalHBase
from live_server import LiveServer, playing, season_of, until
from tables import reports, scan

import f1hbase
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.samples import Record
from f1hbase.state.live import STOPPED
from simulator.live import Script, Timing, read_script


@pytest.fixture(scope="module")
def race(tmp_path_factory: pytest.TempPathFactory) -> Script:
    season = season_of(tmp_path_factory.mktemp("season"), "--sessions", "race", "--minutes", "1", "--drivers", "2")
    return read_script(season, tmp_path_factory.mktemp("archive"))


@pytest.fixture
def words(
    hbase: LocalHBase, table_prefix: str, race: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("F1HBASE_F1TV_TOKEN", "a-token-that-is-none")
    return {
        "source": "livetiming", "session_key": race.context.session_key, "no_archive": True, "hbase_host": HOST,
        "hbase_port": hbase.port, "table_prefix": table_prefix,
    }  # fmt: skip


def _at(server: LiveServer) -> dict[str, Any]:
    return {"hub_url": f"{server.url}/signalrcore", "livetiming_url": f"{server.url}/static"}


@pytest.mark.hbase
async def test_an_event_ends_it_and_a_function_hears_what_comes_meanwhile(
    words: dict[str, Any], hbase: LocalHBase, table_prefix: str, race: Script
) -> None:
    stop, heard = threading.Event(), Counter[str]()

    def hear(endpoint: str, records: Sequence[Record]) -> None:
        assert all(record["session_key"] == race.context.session_key for record in records if "session_key" in record)
        heard[endpoint] += len(records)

    async with playing(race, Timing(speed=30)) as server:
        recording = asyncio.create_task(
            asyncio.to_thread(f1hbase.live, stop=stop, on_records=hear, **words, **_at(server))
        )
        await until(lambda: heard["car_data"] > 20 and heard["weather"] > 0, 60)
        stop.set()
        recorded = await asyncio.wait_for(recording, 30)

    assert (recorded.exit_code, recorded.scope and recorded.scope.session_key) == (130, race.context.session_key)
    rows = Counter(
        column.partition(b":")[0]
        for columns in scan(hbase.port, f"{table_prefix}_f1_data").values()
        for column in list(columns)[:1]
    )
    assert rows[ENDPOINTS["car_data"].family.encode()] == heard["car_data"]
    assert recorded.stats["rows"] >= rows.total()
    beats = reports(hbase.port, table_prefix, "live")
    assert [beat["meta:state"] for beat in beats.values()] == [STOPPED]


@pytest.mark.hbase
async def test_it_returns_when_the_session_is_over_whatever_who_listens_does(
    words: dict[str, Any], race: Script, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(endpoint: str, records: Sequence[Record]) -> None:
        raise LookupError(endpoint, len(records))

    async with playing(race) as server:
        with caplog.at_level(logging.ERROR, "f1hbase"):
            recorded = await asyncio.to_thread(
                f1hbase.live, on_records=fail, idle_timeout="2s", instance="one", **words, **_at(server)
            )

    assert (recorded.exit_code, recorded.instance) == (0, "one")
    assert recorded.stats["rows"] > 1_000
    assert [record.message for record in caplog.records] == [
        "what listens to the records has failed; the recording goes on, and this is said once"
    ]


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"nonsense": 1}, TypeError, "unexpected keyword argument 'nonsense'"),
        ({"source": "openf2"}, ValueError, "there is no such feed"),
        ({"source": "livetiming", "idle_timeout": "soon"}, ValueError, "'soon' is not a length of time"),
        ({"source": "livetiming", "to": "./zone"}, ValueError, "say --to hbase"),
    ],
)
def test_a_mistake_is_an_error_that_says_what_to_write(
    options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        f1hbase.live(**options)
