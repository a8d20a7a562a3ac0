"""A way to a server that can be closed, cut and blocked, so that one server looks like several and fails at will."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Self

from hbase_server import HOST, free_ports

_CALL_SECONDS = 10.0


class Forwarder:
    """Forwards a port of its own to another one of the loopback interface, during a ``with`` block.

    Every method returns when it is done: after ``stop`` connections are refused, after ``start`` they are not.

    >>> with Forwarder(hbase.port) as way:
    ...     connector = HBaseConnector([find_gateway(HOST, way.port)])

    Attributes:
        port: Where it listens; the same after each start.
        received: How many bytes have come from clients and gone to the server.
    """

    def __init__(self, target: int) -> None:
        (self.port,) = free_ports(1)
        self.received = 0
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"forwarder-{self.port}", daemon=True)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[Any]] = set()
        self._open = asyncio.Event()
        self._open.set()
        self._answers_to_lose = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._finish())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def start(self) -> None:
        """Accept connections (again)."""
        self._call(self._start())

    def stop(self) -> None:
        """Close every connection, and refuse new ones."""
        self._call(self._stop())

    def cut(self) -> None:
        """Close every connection, as a server does that thinks them idle; new ones are accepted."""
        self._call(self._cut())

    def hold(self) -> None:
        """Accept connections and whatever they send, and never answer."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def release(self) -> None:
        """Forward what was held, and go on as before."""
        self._loop.call_soon_threadsafe(self._open.set)

    def lose_answers(self, count: int = 1) -> None:
        """Close the connection in place of each of the next answers: the server has done what nobody hears of."""
        self._answers_to_lose = count

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_CALL_SECONDS)

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._serve, HOST, self.port)

    async def _stop(self) -> None:
        if self._server is not None:
            # What is being accepted while a server closes would never be closed (AssertionError in asyncio's _attach).
            for listening in self._server.sockets:
                self._loop.remove_reader(listening.fileno())
            await _turns()
            self._server.close()
            self._server = None
        await self._cut()

    async def _finish(self) -> None:
        await self._stop()
        # A connection may just have been accepted; whoever serves it sees that it is over.
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)
        await _turns()  # what was closed last closes its socket in the next one

    async def _cut(self) -> None:
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if self._server is not None:
                await self._forward(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # either way this connection is over
        finally:
            self._connections.discard(task)
            await _close(writer)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._open.wait()
        opening = asyncio.ensure_future(asyncio.open_connection(HOST, self._target))
        try:
            answers, questions = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_opened)
            raise
        ways = [
            asyncio.ensure_future(self._pass_questions(reader, questions)),
            asyncio.ensure_future(self._pass_answers(answers, writer)),
        ]
        try:
            # When one side closes, so does the other.
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            questions.close()  # first: a connection may be cut while it is being closed
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            await _close(questions)

    async def _pass_questions(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self._open.wait()
            self.received += len(data)
            writer.write(data)
            await writer.drain()

    async def _pass_answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self._open.wait()
            if self._answers_to_lose:
                self._answers_to_lose -= 1
                return
            writer.write(data)
            await writer.drain()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


def _close_opened(opening: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result()[1].close()


async def _turns() -> None:
    """Let the loop do what is due, and what follows from that."""
    for _ in range(3):
        await asyncio.sleep(0)
