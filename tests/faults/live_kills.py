"""Two live instances, of which one is killed and the other cut off, again and again, never both at once.

Then what they recorded is compared, cell for cell, with what a load of the archive makes. The long form of
`test_live_instances.py`, outside CI's time; it starts an HBase and a hub of its own:

    .venv/bin/python tests/faults/live_kills.py FOLDER --kills 10 --cuts 10 --speed 20 --seed 1

FOLDER is what the live simulator plays; about four minutes for the 45 minutes of a real qualifying session.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cli import ENTRY_POINT, Loader
from hbase_server import LocalHBase
from live_server import LiveServer, playing, until
from tables import scan, values

from simulator.live import HubSettings, Script, Timing, read_script

_NOT_OF_MESSAGES = ("session", "meeting", "result", "grid")
"""Families that no message makes while the session is on."""

Table = dict[bytes, dict[bytes, bytes]]


def loader_for(hbase: LocalHBase, folder: Path, server: LiveServer, prefix: str) -> Loader:
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
def instance(loader: Loader, name: str, script: Script, *options: str) -> Iterator[subprocess.Popen[bytes]]:
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


def recorded(hbase: LocalHBase, prefix: str) -> Table:
    """Return the cells of the families that messages make."""
    table = values(scan(hbase.port, f"{prefix}_f1_data"))
    kept = {
        row: {column: value for column, value in cells.items() if not column.decode().startswith(_NOT_OF_MESSAGES)}
        for row, cells in table.items()
    }
    return {row: cells for row, cells in kept.items() if cells}


def differences(one: Table, other: Table) -> list[str]:
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


async def subscribed(server: LiveServer, number: int) -> None:
    """Wait until so many instances are connected."""
    await until(
        lambda: (
            sum(one.ended is None and bool(one.topics) for one in server.hub.log) >= number
            or server.player.over.is_set()
        ),
        60,
    )


async def reached(server: LiveServer, position: int) -> None:
    await until(lambda: server.player.position >= position or server.player.over.is_set(), 280)


async def came(server: LiveServer, seen: set[int]) -> int:
    """Wait for a subscription that is none of those seen, and return its number; 0 if the session ends before.

    The number of open ones says nothing: that of an instance just killed counts until the hub hears of its end.
    """

    def fresh() -> list[int]:
        return [one.number for one in server.hub.log if one.number not in seen and one.topics and one.ended is None]

    await until(lambda: fresh() or server.player.over.is_set(), 60)
    return next(iter(fresh()), 0)


async def record_with_trouble(
    hbase: LocalHBase,
    folder: Path,
    prefix: str,
    script: Script,
    timing: Timing,
    *,
    kills: int,
    cuts: int,
    seed: int,
    idle: str = "6s",
) -> LiveServer:
    """Play a session to two instances, of which one is killed and the other cut off, never both at once."""
    dice = random.Random(seed)
    turns = ["kill"] * kills + ["cut"] * cuts
    dice.shuffle(turns)
    lines = len(script.lines)
    step = lines // (len(turns) + 2)
    async with playing(script, timing, HubSettings(archive_at_once=True)) as server:
        loader = loader_for(hbase, folder, server, prefix)
        # The table is there before both begin to make it.
        await asyncio.to_thread(loader.run, "schema", "--create", "--regions", "1")
        with instance(loader, "b", script, "--idle-timeout", idle) as other:
            await subscribed(server, 1)
            cut_off = server.hub.log[-1].number
            first = instance(loader, "a", script, "--idle-timeout", idle)
            process = first.__enter__()
            try:
                await subscribed(server, 2)
                for number, turn in enumerate(turns, 1):
                    await reached(server, step * number + dice.randrange(step // 4))
                    if server.player.over.is_set():
                        print(f"the session was over before turn {number}: play it slower")
                        break
                    seen = {one.number for one in server.hub.log}
                    if turn == "cut":
                        server.hub.cut(dice.choice(["drop", "cut", "reset"]), cut_off)
                        cut_off = await came(server, seen)
                    else:
                        process.send_signal(signal.SIGKILL)
                        first.__exit__(None, None, None)
                        first = instance(loader, "a", script, "--idle-timeout", idle)
                        process = first.__enter__()
                        await came(server, seen)
                await server.player.over.wait()
                await asyncio.to_thread(process.wait, 120)
                await asyncio.to_thread(other.wait, 120)
            finally:
                first.__exit__(None, None, None)
        truth = f"{prefix}truth"
        loaded = loader_for(hbase, folder, server, truth)
        await asyncio.to_thread(
            loaded.run, "load", "--from", "livetiming", "--session-key", str(script.context.session_key)
        )
    return server


def main() -> None:
    """Play a session, and say what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--cuts", type=int, default=10)
    parser.add_argument("--speed", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="live-kills-") as scratch:
        folder = Path(scratch)
        script = read_script(given.folder, folder)
        hbase = LocalHBase(folder / "hbase")
        try:
            hbase.start()
            timing = Timing(speed=given.speed, subscribers=2)
            asyncio.run(
                record_with_trouble(
                    hbase,
                    folder / "work",
                    "live",
                    script,
                    timing,
                    kills=given.kills,
                    cuts=given.cuts,
                    seed=given.seed,
                    idle="30s",
                )
            )
            found, truth = recorded(hbase, "live"), recorded(hbase, "livetruth")
        finally:
            hbase.stop()
    wrong = differences(truth, found)
    print(f"seed {given.seed}: {len(truth):,} rows, {len(wrong)} cells differ")
    for line in wrong[:50]:
        print(line)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
