"""Starts it all: the player, the hub with the archive, the publisher; serves until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from f1hbase.serve.run import ListenError
from simulator.live.hub import Hub, HubSettings
from simulator.live.player import Player, Timing
from simulator.live.publisher import Publisher, broker
from simulator.live.script import ScriptError, read_script


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSettings:
    """What is played, how, and where.

    Attributes:
        place: What holds the session.
        session_key: Which session, where there are several.
        end_after: How many seconds after the last message everything ends; None serves until it is told to stop.
        port_file: A file that gets the port when it is listened at.
        sent_file: A file that gets a line for each message that was played.
        mqtt: Host and port of a broker that gets the records; None for none.
        mqtt_password: What the broker wants.
    """

    place: Path
    session_key: int | None = None
    timing: Timing = field(default_factory=Timing)
    hub: HubSettings = field(default_factory=HubSettings)
    host: str = "127.0.0.1"
    port: int = 0
    end_after: float | None = None
    port_file: Path | None = None
    sent_file: Path | None = None
    mqtt: tuple[str, int] | None = None
    mqtt_password: str | None = field(default=None, repr=False)


def play(settings: LiveSettings, tell: Callable[[str], None]) -> None:
    """Play a session until it is told to stop: SIGTERM or Ctrl-C.

    Args:
        settings: What, how and where.
        tell: Called with a line when it listens, and one when all is played.

    Raises:
        ScriptError: If there is no session to play.
        ListenError: When the address is taken, or not this machine's.
    """
    asyncio.run(_play(settings, tell))


async def _play(settings: LiveSettings, tell: Callable[[str], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError):  # Windows has no signal handlers in the loop
            loop.add_signal_handler(name, stop.set)
    async with AsyncExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="simulator-live-")))
        script = await asyncio.to_thread(read_script, settings.place, scratch, settings.session_key)
        sent = stack.enter_context(settings.sent_file.open("wb")) if settings.sent_file else None
        player = Player(script, settings.timing, sent)
        hub = Hub(player, settings.hub)
        port = await stack.enter_async_context(listening(hub.app, settings.host, settings.port))
        if settings.port_file is not None:
            await asyncio.to_thread(settings.port_file.write_text, f"{port}\n")
        where = f"http://{f'[{settings.host}]' if ':' in settings.host else settings.host}:{port}"
        tell(
            f"playing session {script.context.session_key}, {len(script.lines):,} messages: hub {where}/signalrcore, "
            f"archive {where}/static"
        )
        publisher = None
        if settings.mqtt is not None:
            publish = await stack.enter_async_context(broker(*settings.mqtt, settings.mqtt_password))
            publisher = Publisher(player, publish, settings.hub.faults)
        playing = asyncio.create_task(player.run())
        stopping = asyncio.create_task(stop.wait())
        stack.push_async_callback(_cancelled, playing, stopping)
        await asyncio.wait({playing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            playing.result()
            records = ""
            if publisher is not None:
                await publisher.flush()
                records = f", {publisher.published:,} records published"
            tell(f"all is played, {player.position:,} messages{records}")
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), settings.end_after)


async def _cancelled(*tasks: asyncio.Task[object]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def listening(app: web.Application, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[int]:
    """Serve an application, and yield the port.

    Raises:
        ListenError: When the address is taken, or not this machine's.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except (OSError, OverflowError) as error:
            number = getattr(error, "errno", None)
            reason = os.strerror(number) if number and number > 0 else str(error)
            raise ListenError(
                f"cannot listen at {host}:{port} ({reason.lower()}): name another --port, or 0 for a free one"
            ) from None
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


__all__ = ["LiveSettings", "ScriptError", "listening", "play"]
