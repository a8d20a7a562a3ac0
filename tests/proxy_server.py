"""A forwarding HTTP proxy of the loopback interface for tests, in the test's own event loop."""

from __future__ import annotations

import asyncio
import base64
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Asked:
    """A request as it came to the proxy: ``target`` is an absolute address, or ``host:port`` of a CONNECT."""

    method: str
    target: str
    headers: dict[str, str] = field(repr=False)


class ProxyServer:
    """Forwards requests for http during an ``async with`` block, and refuses every CONNECT.

    >>> async with ProxyServer(user="me", password="secret") as proxy:
    ...     monkeypatch.setenv("HTTP_PROXY", proxy.url)

    ``user`` and ``password``: without them a request is a 407. ``connect``: what a CONNECT is answered with, or None
    to hang up on it.
    """

    def __init__(self, user: str = "", password: str = "", connect: int | None = 403) -> None:
        self._login = f"{user}:{password}" if user else ""
        self._connect = connect
        self._tasks: set[asyncio.Task[None]] = set()
        self.asked: list[Asked] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """The address for ``HTTP_PROXY``, with its user and password."""
        return f"http://{self._login}{'@' if self._login else ''}127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            await self._answer(reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request; then the connection is closed."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        self.asked.append(Asked(method, target, headers))
        wanted = f"Basic {base64.b64encode(self._login.encode('latin-1')).decode()}"
        if self._login and headers.get("proxy-authorization") != wanted:
            await _refuse(writer, 407)
        elif method == "CONNECT":
            if self._connect is not None:
                await _refuse(writer, self._connect)
        else:
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            await _forward(method, target, headers, body, writer)


async def _forward(
    method: str, target: str, headers: dict[str, str], body: bytes, writer: asyncio.StreamWriter
) -> None:
    parts = urlsplit(target)
    there, onward = await asyncio.open_connection(parts.hostname, parts.port or 80)
    try:
        path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        kept = {name: value for name, value in headers.items() if not name.startswith("proxy-")} | {
            "connection": "close"
        }
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in kept.items()), "", ""]
        onward.write("\r\n".join(lines).encode("latin-1") + body)
        while piece := await there.read(65536):
            writer.write(piece)
            await writer.drain()
    finally:
        onward.close()
        with suppress(OSError):
            await onward.wait_closed()


async def _refuse(writer: asyncio.StreamWriter, status: int) -> None:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", "Content-Length: 0", "Connection: close", "", ""]
    writer.write("\r\n".join(lines).encode())
    await writer.drain()
