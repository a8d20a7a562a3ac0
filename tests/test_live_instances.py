"""Two instances record one session while they are killed and cut off: nothing is missing, cell for cell."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from archive_server import SHARED
from cli import ENTRY_POINT, Loader
from hbase_server import LocalHBase
from live_server import LiveServer, playing, season_of, until
from tables import reports, scan, values

from simulator.live import HubSettings, Script, Timing, read_script

pytestmark = pytest.mark.hbase

_MEXICO = SHARED / "raw" / "2025_mexico_qualifying_first45min"
_NOT_OF_MESSAGES = ("session", "meeting", "result", "grid")
"""Families that no message makes while the session is on."""


@pytest.fixture(scope="module")
def race(tmp_path_factory: pytest.TempPathFactory) -> Script:
    season = season_of(tmp_path_factory.mktemp("season"), "--sessions", "race", "--minutes", "2", "--drivers", "4")
    return read_script(season, tmp_path_factory.mktemp("archive"))


def _loader(hbase: LocalHBase, folder: Path, server: LiveServer, prefix: str) -> Loader:
    folder.mkdir(exist_ok=True)
    environment = {
        "F1HBASE_HBASE_HOST": hbase.host,
        "F1HBASE_HBASE_PORT": str(hbase.port),
        "F1HBASE_TABLE_PREFIX": prefix,
        "F1HBASE_HUB_URL": f"{server.url}/signalrcore",
        "F1HBASE_LIVETIMING_URL": f"{server.url}/static",
        "F1HBASE_F1TV_TOKEN": "a-token-that-is-none",
        "XDG_STATE_HOME": str(folder / "state"),
    }
    return Loader(folder, environment)


@contextmanager
def _instance(loader: Loader, name: str, script: Script, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    arguments = ["live", "--from", "livetiming", "--session-key", str(script.context.session_key), "--instance", name]
    with (loader.folder / f"{name}.out").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, str(ENTRY_POINT), *arguments, "--no-archive", *options],
            cwd=loader.folder, env=os.environ | loader.environment, stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def _recorded(hbase: LocalHBase, prefix: str) -> dict[bytes, dict[bytes, bytes]]:
    """Return the cells of the families that messages make."""
    table = values(scan(hbase.port, f"{prefix}_f1_data"))
    kept = {
        row: {column: value for column, value in cells.items() if not column.decode().startswith(_NOT_OF_MESSAGES)}
        for row, cells in table.items()
    }
    return {row: cells for row, cells in kept.items() if cells}


def _differences(one: dict[bytes, dict[bytes, bytes]], other: dict[bytes, dict[bytes, bytes]]) -> list[str]:
    """Return the cells in which two tables differ."""
    found = []
    for row in sorted(one.keys() | other.keys()):
        left, right = one.get(row, {}), other.get(row, {})
        found += [
            f"{row.decode()} {column.decode()}: {left.get(column)!r}, {right.get(column)!r}"
            for column in sorted(left.keys() | right.keys())
            if left.get(column) != right.get(column)
        ]
    return found


async def _subscribed(server: LiveServer, number: int) -> None:
    """Wait until so many instances are connected."""
    await until(lambda: sum(one.ended is None and bool(one.topics) for one in server.hub.log) >= number, 60)


async def _reached(server: LiveServer, position: int) -> None:
    await until(lambda: server.player.position >= position or server.player.over.is_set(), 280)


def _of(server: LiveServer, seen: set[int]) -> int:
    """Return the connection that has come since some were seen."""
    return next(one.number for one in server.hub.log if one.number not in seen and one.topics and one.ended is None)


@asynccontextmanager
async def _played(script: Script, timing: Timing) -> AsyncIterator[LiveServer]:
    async with playing(script, timing, HubSettings(archive_at_once=True)) as server:
        yield server


async def _record_with_trouble(
    hbase: LocalHBase, folder: Path, prefix: str, script: Script, timing: Timing, *, kills: int, cuts: int, seed: int
) -> LiveServer:
    """Play a session to two instances, of which one is killed and the other cut off, never both at once."""
    dice = random.Random(seed)
    turns = ["kill"] * kills + ["cut"] * cuts
    dice.shuffle(turns)
    lines = len(script.lines)
    step = lines // (len(turns) + 2)
    async with _played(script, timing) as server:
        loader = _loader(hbase, folder, server, prefix)
        # The table is there before both begin to make it.
        await asyncio.to_thread(loader.run, "schema", "--create", "--regions", "1")
        with _instance(loader, "b", script, "--idle-timeout", "6s") as other:
            await _subscribed(server, 1)
            cut_off = server.hub.log[-1].number
            first = _instance(loader, "a", script, "--idle-timeout", "6s")
            process = first.__enter__()
            try:
                await _subscribed(server, 2)
                for number, turn in enumerate(turns, 1):
                    await _reached(server, step * number + dice.randrange(step // 4))
                    seen = {one.number for one in server.hub.log}
                    if turn == "cut":
                        server.hub.cut(dice.choice(["drop", "cut", "reset"]), cut_off)
                        await _subscribed(server, 2)
                        cut_off = _of(server, seen)
                    else:
                        process.send_signal(signal.SIGKILL)
                        first.__exit__(None, None, None)
                        first = _instance(loader, "a", script, "--idle-timeout", "6s")
                        process = first.__enter__()
                        await _subscribed(server, 2)
                await server.player.over.wait()
                await asyncio.to_thread(process.wait, 120)
                await asyncio.to_thread(other.wait, 120)
            finally:
                first.__exit__(None, None, None)
        truth = f"{prefix}truth"
        loaded = _loader(hbase, folder, server, truth)
        await asyncio.to_thread(
            loaded.run, "load", "--from", "livetiming", "--session-key", str(script.context.session_key)
        )
    return server


async def test_two_instances_with_kills_and_cuts_have_every_cell(
    hbase: LocalHBase, table_prefix: str, race: Script, tmp_path: Path
) -> None:
    await _record_with_trouble(
        hbase, tmp_path, table_prefix, race, Timing(speed=12, subscribers=2), kills=1, cuts=2, seed=7
    )

    recorded, truth = _recorded(hbase, table_prefix), _recorded(hbase, f"{table_prefix}truth")
    assert len(truth) > 4_000
    assert _differences(truth, recorded) == []
    beats = reports(hbase.port, table_prefix, "live")
    assert {key.rpartition("#")[2] for key in beats} == {"a", "b"}


@pytest.mark.skipif(not _MEXICO.is_dir(), reason=f"the real sessions are not in {SHARED}")
@pytest.mark.skipif(not os.environ.get("F1HBASE_LONG_TESTS"), reason="takes three minutes: scripts/test.sh --all")
async def test_a_real_session_with_ten_kills_and_ten_cuts_has_every_cell(
    hbase: LocalHBase, table_prefix: str, tmp_path: Path
) -> None:
    script = read_script(_MEXICO, tmp_path)
    await _record_with_trouble(
        hbase, tmp_path, table_prefix, script, Timing(speed=20, subscribers=2), kills=10, cuts=10, seed=1
    )

    recorded, truth = _recorded(hbase, table_prefix), _recorded(hbase, f"{table_prefix}truth")
    assert len(truth) > 350_000
    assert _differences(truth, recorded) == []
