"""A process for `test_limiter.py`: takes slots for some seconds, holds the lock until it is killed, or kills takers.

Prints `ready`, waits for a line on its standard input, and then prints the time of each slot it was given.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

from f1hbase.model.rates import Rate
from f1hbase.sources.http.limiter import SharedRateLimiter
from f1hbase.sources.http.shared import SharedState, machine_clock

RATES = (Rate(200, 1.0), Rate(20, 0.05))


async def take_slots(path: Path, seconds: float, coroutines: int) -> None:
    limiter = SharedRateLimiter(RATES, path)
    say("ready")
    sys.stdin.readline()
    end = machine_clock() + seconds

    async def take() -> None:
        while machine_clock() < end:
            await limiter.acquire()
            say(repr(machine_clock()))

    await asyncio.gather(*(take() for _ in range(coroutines)))


def hold_lock(path: Path) -> None:
    with SharedState(path).transaction():
        say("ready")
        sys.stdin.readline()


def die_while_writing(path: Path) -> None:
    with SharedState(path).transaction() as (db, _):
        db.execute("PRAGMA cache_size = 1")  # so that pages go to the file before the end
        db.execute("UPDATE grants SET at = at + 1.0")
        os.kill(os.getpid(), signal.SIGKILL)


def kill_takers(path: Path, count: int) -> None:
    """Fork takers one after the other, kill each while it takes slots, and print how many they said they got."""
    said, say_here = os.pipe()
    for number in range(count):
        child = os.fork()
        if not child:
            asyncio.run(take_for_ever(path, say_here))
        time.sleep(0.003 + 0.0007 * number)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    os.close(say_here)
    total = 0
    while some := os.read(said, 65536):
        total += len(some)
    say(str(total))


async def take_for_ever(path: Path, say_here: int) -> None:
    limiter = SharedRateLimiter((Rate(4000, 0.001),), path)
    while True:
        await limiter.acquire()
        os.write(say_here, b".")


def say(line: str) -> None:
    # One write for each line, past all buffers: what was said before a kill is known.
    os.write(1, f"{line}\n".encode())


if __name__ == "__main__":
    if sys.argv[1] == "hold":
        hold_lock(Path(sys.argv[2]))
    elif sys.argv[1] == "die":
        die_while_writing(Path(sys.argv[2]))
    elif sys.argv[1] == "kill":
        kill_takers(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        asyncio.run(take_slots(Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]) if len(sys.argv) > 4 else 1))
