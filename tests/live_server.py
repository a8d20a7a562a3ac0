"""A live hub for tests, in the test's own event loop, and clients of it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pysignalr.client import SignalRClient
from pysignalr.messages import CompletionMessage, Message

from simulator.live import Hub, HubSettings, Player, Script, Timing
from simulator.live.run import listening
from simulator.livetiming_server import ArchiveFaults, ArchiveLog

AS_FAST_AS_POSSIBLE = Timing(speed=0.0, hold=1)


@dataclass
class LiveServer:
    """A hub that is listened at.

    Attributes:
        url: Its address, without a path.
    """

    hub: Hub
    url: str

    @property
    def player(self) -> Player:
        """What plays the session."""
        return self.hub.player

    async def over(self) -> None:
        """Wait until all is played."""
        await asyncio.wait_for(self.player.over.wait(), 60)


@asynccontextmanager
async def playing(
    script: Script,
    timing: Timing = AS_FAST_AS_POSSIBLE,
    settings: HubSettings | None = None,
    archive_faults: ArchiveFaults | None = None,
    archive_log: ArchiveLog | None = None,
) -> AsyncIterator[LiveServer]:
    """Play a session, and yield the server."""
    player = Player(script, timing)
    hub = Hub(player, settings, archive_faults, archive_log)
    async with listening(hub.app) as port:
        task = asyncio.create_task(player.run())
        try:
            # By name: pysignalr keeps no cookies of addresses.
            yield LiveServer(hub, f"http://localhost:{port}")
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@dataclass
class Heard:
    """What a client of the hub heard.

    Attributes:
        snapshots: The answers to its subscriptions.
        messages: Topic, content and time of each message.
        failures: What kept it from hearing.
    """

    snapshots: list[dict[str, Any]] = field(default_factory=list)
    messages: list[tuple[str, Any, str]] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)

    def of(self, topic: str) -> list[Any]:
        """The contents of a topic's messages."""
        return [content for name, content, _ in self.messages if name == topic]


@asynccontextmanager
async def listening_with_pysignalr(
    server: LiveServer, topics: list[str], token: str | None = None
) -> AsyncIterator[Heard]:
    """Subscribe with pysignalr, which connects again by itself, and yield what it hears."""
    heard = Heard()
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    client = SignalRClient(f"{server.url}/signalrcore", headers=headers, max_size=None, connection_timeout=5)

    async def on_feed(arguments: list[Any]) -> None:
        heard.messages.append((arguments[0], arguments[1], arguments[2]))

    async def on_snapshot(message: Message) -> None:
        assert isinstance(message, CompletionMessage)
        heard.snapshots.append(message.result or {})

    async def on_open() -> None:
        await client.send("Subscribe", [topics], on_snapshot)  # type: ignore[list-item]  # as every hub takes it

    client.on("feed", on_feed)
    client.on_open(on_open)
    task = asyncio.create_task(client.run())

    def on_end(done: asyncio.Task[None]) -> None:
        if not done.cancelled():
            heard.failures.append(done.exception() or RuntimeError("it ended"))

    task.add_done_callback(on_end)
    try:
        yield heard
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task


async def until(condition: Any, seconds: float = 20.0) -> None:
    """Wait until something is so.

    Raises:
        TimeoutError: If it does not become so.
    """
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in other threads, too
            await asyncio.sleep(0.005)


def season_of(folder: Path, *arguments: str) -> Path:
    """Return the folder of a simulated season, made by the command line's words."""
    subprocess.run(
        [sys.executable, "-m", "simulator", "make", str(folder), *arguments], check=True, stdout=subprocess.DEVNULL
    )
    return folder
