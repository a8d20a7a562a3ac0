"""A process for `test_circuit_breaker.py`: finds the API away, and waits until a file says that it is back.

Prints `look TIME` at each look whether it is back, and `open TIME` when it may go on. A second is a hundredth of one.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

from f1hbase.sources.http.breaker import CircuitBreaker
from f1hbase.sources.http.errors import TransientError
from f1hbase.sources.http.shared import machine_clock

SPEED = 100.0


def clock() -> float:
    return machine_clock() * SPEED


async def sleep(seconds: float) -> None:
    await asyncio.sleep(seconds / SPEED)


async def wait(path: Path, is_back: Callable[[], bool]) -> None:
    async def probe() -> None:
        say("look")
        if not is_back():
            raise TransientError("HTTP 503: away")

    breaker = CircuitBreaker(path, probe, patience=1e9, clock=clock, sleep=sleep)
    assert await breaker.away(TransientError("HTTP 503: away"), breaker.now())
    say("open")


def say(word: str) -> None:
    # One write for each line, past all buffers: what was said before a kill is known.
    os.write(1, f"{word} {clock()!r}\n".encode())


if __name__ == "__main__":
    asyncio.run(wait(Path(sys.argv[1]), Path(sys.argv[2]).exists))
