"""Tells every page that is open how a load goes, as server-sent events; one question to the store serves them all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic
from typing import Any

from aiohttp import web

from f1hbase.errors import F1HBaseError
from f1hbase.serve.pages.answers import encoded
from f1hbase.serve.pages.shared import SharedStore

_log = logging.getLogger(__name__)

MOST_LISTENERS = 100

LOADING_SECONDS, IDLE_SECONDS = 2.0, 10.0
"""How often the store is asked while somebody loads, and otherwise."""

_QUIET_SECONDS = 15.0
"""After so long without news a comment is sent, so that whoever is gone is noticed."""

_ASKING_SHARE = 0.1
"""A store whose answer takes long is asked less often: for 10 % of the time at the most."""

Overview = dict[str, Any]


class Progress:
    """Asks how everything stands while anybody listens, and sends what has changed.

    Args:
        shared: The store.
        read: Returns how everything stands; called in a thread.
    """

    def __init__(self, shared: SharedStore, read: Callable[[], Overview]) -> None:
        self._shared = shared
        self._read = read
        self._idle_seconds = IDLE_SECONDS
        self._listeners: set[asyncio.Queue[bytes]] = set()
        self._last: bytes = b""
        self._asking: asyncio.Task[None] | None = None

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Answer a request with events until it ends: `overview` with JSON, `away` with a reason as JSON."""
        if len(self._listeners) >= MOST_LISTENERS:
            raise web.HTTPServiceUnavailable(text="too many pages listen already")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        # Only the latest event counts: a slow reader misses those before.
        news: asyncio.Queue[bytes] = asyncio.Queue(1)
        self._listeners.add(news)
        try:
            await response.prepare(request)
            if self._last:
                news.put_nowait(self._last)
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._ask())
            while True:
                try:
                    event = await asyncio.wait_for(news.get(), _QUIET_SECONDS)
                except TimeoutError:
                    event = b": nothing new\n\n"
                await response.write(event)
        except (ConnectionError, asyncio.CancelledError):
            return response
        finally:
            self._listeners.discard(news)

    async def close(self) -> None:
        """Stop asking."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    async def _ask(self) -> None:
        while self._listeners:
            began = monotonic()
            loading = False
            try:
                overview = await self._shared.run(self._read)
                loading = bool(overview["loading"])
                event = _event("overview", overview)
            except F1HBaseError as error:
                event = _event("away", {"detail": str(error)})
            except Exception:  # noqa: BLE001 - the next try may do better, and the log has the stack
                _log.exception("what is loaded cannot be told")
                event = _event("away", {"detail": "what is loaded cannot be told; the server's log says why"})
            if event != self._last:
                self._last = event
                for news in self._listeners:
                    if news.full():
                        news.get_nowait()
                    news.put_nowait(event)
            took = monotonic() - began
            await asyncio.sleep(max(LOADING_SECONDS if loading else self._idle_seconds, took / _ASKING_SHARE))
        self._last = b""


def _event(kind: str, content: Any) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + encoded(content) + b"\n\n"
