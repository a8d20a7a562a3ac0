"""An MQTT broker for tests, mosquitto where it is installed, else amqtt in the test's event loop; and a client."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
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
    is_good: Callable[[str], bool] | None = None,
    certificate: tuple[Path, Path] | None = None,
    *,
    websockets: bool = False,
) -> AsyncIterator[int]:
    """Run a broker on loopback, and yield its port.

    Args:
        is_good: Says which passwords are good; by default mosquitto is used where there is one, and any is.
        certificate: The files of a certificate and its key, for TLS; amqtt is used then.
        websockets: Whether MQTT is spoken over WebSockets.
    """
    if is_good is None and certificate is None and shutil.which("mosquitto"):
        async with mosquitto(websockets=websockets) as port:
            yield port
        return
    PasswordPlugin.is_good = staticmethod(is_good or (lambda _: True))
    PasswordPlugin.refused = []
    PasswordPlugin.admitted = []
    listener: dict[str, object] = {"type": "ws" if websockets else "tcp", "bind": "127.0.0.1:0"}
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
async def mosquitto(
    *, websockets: bool = False, certificate: tuple[Path, Path] | None = None, user: tuple[str, str] | None = None
) -> AsyncIterator[int]:
    """Run mosquitto on loopback, and yield its port.

    Args:
        websockets: Whether MQTT is spoken over WebSockets.
        certificate: The files of a certificate and its key, for TLS.
        user: The name and password of the only one who is let in; by default anybody is.
    """
    with socket.socket() as free, TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
        lines = [f"listener {port} 127.0.0.1", f"protocol {'websockets' if websockets else 'mqtt'}"]
        if os.getuid() == 0:
            lines.append("user root")  # else it becomes one who may not read the files
        if certificate is not None:
            lines += [f"certfile {certificate[0]}", f"keyfile {certificate[1]}"]
        if user is None:
            lines.append("allow_anonymous true")
        else:
            passwords = Path(folder) / "passwords"
            passwords.write_text(f"{user[0]}:{user[1]}\n", encoding="utf-8")
            packing = await asyncio.create_subprocess_exec("mosquitto_passwd", "-U", str(passwords))
            assert await packing.wait() == 0
            lines += ["allow_anonymous false", f"password_file {passwords}"]
        if websockets:
            lines.append(f"listener 0 {folder}/socket")  # some versions end where all listeners speak WebSockets
        settings = Path(folder) / "mosquitto.conf"
        settings.write_text("\n".join(lines) + "\n", encoding="utf-8")
        free.close()
        async with _running(settings, port):
            yield port


@asynccontextmanager
async def _running(settings: Path, port: int) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec("mosquitto", "-c", str(settings), stderr=asyncio.subprocess.DEVNULL)
    try:
        async with asyncio.timeout(10):
            while True:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                await asyncio.sleep(0.02)
        yield
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
