"""A process for `test_limiter.py`: takes slots for some seconds, or holds the lock until it is killed.

Prints `ready`, waits for a line on its standard input, and then prints the time of each slot it was given.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from f1hbase.model.rates import Rate
from f1hbase.sources.http.limiter import SharedRateLimiter, _StateFile, machine_clock

RATES = (Rate(200, 1.0), Rate(20, 0.05))


async def take_slots(path: Path, seconds: float) -> None:
    limiter = SharedRateLimiter(RATES, path)
    say("ready")
    sys.stdin.readline()
    end = machine_clock() + seconds
    while machine_clock() < end:
        await limiter.acquire()
        say(repr(machine_clock()))


def hold_lock(path: Path) -> None:
    with _StateFile(path).locked():
        say("ready")
        sys.stdin.readline()


def say(line: str) -> None:
    # One write for each line, past all buffers: what was said before a kill is known.
    os.write(1, f"{line}\n".encode())


if __name__ == "__main__":
    if sys.argv[1] == "hold":
        hold_lock(Path(sys.argv[2]))
    else:
        asyncio.run(take_slots(Path(sys.argv[2]), float(sys.argv[3])))
