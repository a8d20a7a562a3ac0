"""Two instances record one session while they are killed and cut off: nothing is missing, cell for cell.

`tests/faults/live_kills.py` is the long form, with a real session.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from faults.live_kills import differences, record_with_trouble, recorded
from hbase_server import HOST, LocalHBase
from live_server import season_of
from tables import reports

from f1hbase.model.units import Scope
from f1hbase.pipeline.live.beating import Beating
from f1hbase.state.hbase.live import HBaseHeartbeats
from f1hbase.state.live import ENDED, RECORDING, Heartbeat
from f1hbase.stores.hbase.connector import HBaseConnector, find_gateway
from f1hbase.stores.hbase.schema import REPORT_FAMILIES, Tables
from simulator.live import Script, Timing, read_script

pytestmark = pytest.mark.hbase


@pytest.fixture(scope="module")
def race(tmp_path_factory: pytest.TempPathFactory) -> Script:
    season = season_of(tmp_path_factory.mktemp("season"), "--sessions", "race", "--minutes", "2", "--drivers", "4")
    return read_script(season, tmp_path_factory.mktemp("archive"))


async def test_two_instances_with_kills_and_cuts_have_every_cell(
    hbase: LocalHBase, table_prefix: str, race: Script, tmp_path: Path
) -> None:
    await record_with_trouble(
        hbase, tmp_path, table_prefix, race, Timing(speed=12, subscribers=2), kills=1, cuts=2, seed=7
    )

    found, truth = recorded(hbase, table_prefix), recorded(hbase, f"{table_prefix}truth")
    assert len(truth) > 4_000
    assert differences(truth, found) == []
    beats = reports(hbase.port, table_prefix, "live")
    assert {key.rpartition("#")[2] for key in beats} == {"a", "b"}
    assert {beat["meta:state"] for beat in beats.values()} == {"ended"}
    # The last one to end has deleted what they shared.
    assert reports(hbase.port, table_prefix, "livemessage") == {}


class AtOnce:
    """Heartbeats of which each instance writes its own before any reads them, as if all ended in one moment."""

    def __init__(self, heartbeats: HBaseHeartbeats, together: threading.Barrier) -> None:
        self._heartbeats = heartbeats
        self._together = together

    def write(self, beat: Heartbeat) -> None:
        self._heartbeats.write(beat)

    def read(self, scope: Scope | None = None) -> Sequence[Heartbeat]:
        self._together.wait(30)
        return self._heartbeats.read(scope)


def test_of_instances_that_end_at_once_one_is_the_last(hbase: LocalHBase, table_prefix: str) -> None:
    tables, scope = Tables(table_prefix), Scope(2025, 7001, 70001)
    gateways = (find_gateway(HOST, hbase.port),)
    states = dict.fromkeys("ab", RECORDING)
    # As many reads as the threads make: one at the beginning and one at the end of each.
    together = threading.Barrier(2)

    def beat(name: str) -> Heartbeat:
        return Heartbeat(scope.prefix, name, states[name], datetime.now(UTC))

    def instance(name: str) -> bool:
        connector = HBaseConnector(gateways, 30)
        with closing(connector):
            heartbeats = AtOnce(HBaseHeartbeats(connector, tables.reports), together)
            with Beating(heartbeats, scope, lambda: beat(name), every=600) as beating:
                states[name] = ENDED
                return beating.is_last()

    with closing(HBaseConnector(gateways, 30)) as connector:
        connector.create_table(tables.reports, REPORT_FAMILIES, {})
    with ThreadPoolExecutor(2) as threads:
        assert any(threads.map(instance, "ab"))
