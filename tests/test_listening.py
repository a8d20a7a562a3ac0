"""What servers answer to web pages of others, to names that are not theirs, and to requests that are none."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hbase_server import free_ports

from f1hbase.errors import ConfigError
from f1hbase.listening.runner import GarbageLines, Runner
from f1hbase.model.plans import Selection
from f1hbase.pipeline.live.run import LiveParts, LiveRequest
from f1hbase.pipeline.live.service import LiveService, serving

PAGE = {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}


@asynccontextmanager
async def live_service(folder: Path) -> AsyncIterator[tuple[LiveService, str]]:
    """A service without a token, whose recordings wait for their session."""
    over = threading.Event()

    def parts() -> LiveParts:
        over.wait(30)
        raise ConfigError("it is over")

    request = LiveRequest(Selection(), "one", timedelta(0), timedelta(0), folder)
    (port,) = free_ports(1)
    async with serving(f"127.0.0.1:{port}", "", request, parts) as (service, where):
        try:
            yield service, f"http://{where}"
        finally:
            over.set()


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {}, 405),
        ("GET", PAGE | {"Host": "evil.example"}, 403),
        ("POST", {"Host": "evil.example"}, 403),
        ("POST", {"Origin": "http://evil.example"}, 403),
        ("POST", {"Origin": "null"}, 403),
        ("POST", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("POST", {"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
async def test_no_web_page_starts_or_stops_a_recording(
    tmp_path: Path, method: str, headers: dict[str, str], status: int
) -> None:
    async with live_service(tmp_path) as (service, url), aiohttp.ClientSession(url) as session:
        async with session.request(method, "/", headers=headers) as answer:
            assert answer.status == status
        assert not service.is_recording
        async with session.post("/") as answer:
            assert answer.status == 202
        async with session.request(method, "/stop", headers=headers) as answer:
            assert answer.status == status
        assert service.is_recording


async def _answer(_: web.Request) -> web.Response:
    return web.Response(text="an answer")


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[int]:
    """The port of an application that answers whatever is asked."""
    app = web.Application()
    app.router.add_get("/{anything:.*}", _answer)
    runner = Runner(app, logging.getLogger("f1hbase.test_listening"), **options)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert not any(one.exc_info for one in found)
    return [one.getMessage() for one in found]


@pytest.mark.parametrize("target", ["http://localhost:99999999/x", "http://a:b:c/", "http://[::1/"])
async def test_a_target_that_cannot_be_read_ends_its_connection_and_is_one_line(
    target: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert await reader.readuntil(b"an answer")
        writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        async with asyncio.timeout(5):
            rest = await reader.read()
        writer.close()
        assert rest == b"" or rest.startswith(b"HTTP/1.1 400")
    (line,) = warnings(caplog)
    assert line.startswith("a request that is not HTTP: ")


async def test_garbage_without_end_is_two_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "f1hbase.test_listening")  # as a log file has it
    async with running() as port:
        for _ in range(30):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"no request of HTTP at all\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.0 400")
            writer.close()
    first, last = warnings(caplog)
    assert first.startswith("a request that is not HTTP: ")
    assert last == "29 more requests that were not HTTP"


def test_garbage_is_told_of_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    garbage = GarbageLines(logging.getLogger("f1hbase.test_listening"), clock=lambda: now)
    for now in (0.0, 1.0, 59.0, 60.0, 130.0):
        garbage.tell(f"at {now:g} s")
    garbage.close()
    assert warnings(caplog) == [
        "a request that is not HTTP: at 0 s",
        "a request that is not HTTP: at 60 s (and 2 more before it)",
        "a request that is not HTTP: at 130 s",
    ]


async def test_a_connection_that_never_asks_is_closed() -> None:
    async with running(first_request_seconds=0.2) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(10):
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.close()
