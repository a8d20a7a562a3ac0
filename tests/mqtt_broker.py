"""An MQTT broker for tests, mosquitto where it is installed, else amqtt in the test's event loop; and a client."""

from __future__ import annotations

import asyncio
import gc
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import aiomqtt
from amqtt.broker import Broker
from amqtt.plugins.base import BaseAuthPlugin
from amqtt.session import Session


class PasswordPlugin(BaseAuthPlugin):  # type: ignore[misc]  # amqtt has no types here
    """Lets in who has a password that is good at the moment."""

    is_good: ClassVar[Callable[[str], bool]] = staticmethod(lambda _: True)
    refused: ClassVar[list[str]] = []
    admitted: ClassVar[list[str]] = []
    server: ClassVar[Broker | None] = None

    @dataclass
    class Config:
        """It has no settings."""

    async def authenticate(self, *, session: Session) -> bool:
        """Return whether a client is let in."""
        password = session.password or ""
        good = bool(type(self).is_good(password))
        (self.admitted if good else self.refused).append(password)
        return good


@asynccontextmanager
async def broker(
    is_good: Callable[[str], bool] | None = None, certificate: tuple[Path, Path] | None = None
) -> AsyncIterator[int]:
    """Run a broker on loopback, and yield its port.

    Args:
        is_good: Says which passwords are good; by default mosquitto is used where there is one, and any is.
        certificate: The files of a certificate and its key, for TLS.
    """
    if is_good is None and certificate is None and shutil.which("mosquitto"):
        async with _mosquitto() as port:
            yield port
        return
    PasswordPlugin.is_good = staticmethod(is_good or (lambda _: True))
    PasswordPlugin.refused = []
    PasswordPlugin.admitted = []
    listener: dict[str, object] = {"type": "tcp", "bind": "127.0.0.1:0"}
    if certificate is not None:
        listener |= {"ssl": True, "certfile": str(certificate[0]), "keyfile": str(certificate[1])}
    server = Broker({"listeners": {"default": listener}, "plugins": {"mqtt_broker.PasswordPlugin": {}}})
    PasswordPlugin.server = server
    await server.start()
    try:
        instance = server._servers["default"].instance
        assert instance is not None
        yield instance.sockets[0].getsockname()[1]
    finally:
        await server.shutdown()
        # amqtt forgets the connections that it has refused.
        for writer in [one for one in gc.get_objects() if type(one) is asyncio.StreamWriter]:
            writer.close()
        await asyncio.sleep(0)


def subscriptions() -> int:
    """Return how many subscriptions the last broker with passwords has."""
    assert PasswordPlugin.server is not None
    return sum(len(several) for several in PasswordPlugin.server._subscriptions.values())


@asynccontextmanager
async def _mosquitto() -> AsyncIterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    process = await asyncio.create_subprocess_exec("mosquitto", "-p", str(port), stderr=asyncio.subprocess.DEVNULL)
    try:
        async with asyncio.timeout(10):
            while True:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                await asyncio.sleep(0.02)
        yield port
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def subscribed(port: int) -> AsyncIterator[list[tuple[str, bytes]]]:
    """Subscribe to everything, and yield what comes: topic and payload."""
    heard: list[tuple[str, bytes]] = []

    async def listen(client: aiomqtt.Client) -> None:
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            heard.append((str(message.topic), message.payload))

    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.subscribe("v1/#")
        task = asyncio.create_task(listen(client))
        try:
            yield heard
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
