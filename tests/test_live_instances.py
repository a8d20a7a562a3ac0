"""Two instances record one session while they are killed and cut off: nothing is missing, cell for cell.

`tests/faults/live_kills.py` is the long form, with a real session.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.live_kills import differences, record_with_trouble, recorded
from hbase_server import LocalHBase
from live_server import season_of
from tables import reports

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
