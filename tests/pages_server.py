"""The server with its web pages, in a thread of the test's process, over a real store."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from f1hbase.composition import open_record_store, shared_store
from f1hbase.config import resolve
from f1hbase.serve.app import create_app
from f1hbase.serve.pages import progress
from f1hbase.serve.run import open_files
from f1hbase.serve.security import OPEN, Access

_END_SECONDS = 20.0


@contextmanager
def serving(
    place: str | Path, *, idle_seconds: float | None = None, access: Access = OPEN, **options: Any
) -> Iterator[str]:
    """Serve a place as `serve --from` does; yields the address, such as `http://127.0.0.1:41234`.

    Args:
        place: Where the records are: `hbase`, or a path.
        idle_seconds: How often what is loaded is looked for; by default as seldom as for users.
        access: Who may ask.
        **options: Settings, such as `hbase_port`.
    """
    config = resolve(options, names=[])
    store = open_record_store(config, [str(place)], 10.0, lambda folders: open_files(folders, sys.stderr))
    with pytest.MonkeyPatch.context() as patch:
        if idle_seconds is not None:
            patch.setattr(progress, "IDLE_SECONDS", idle_seconds)
        app = create_app(store, access=access, pages=shared_store(config, [str(place)], store))
    with running(app) as address:
        yield address


@contextmanager
def running(app: web.Application) -> Iterator[str]:
    """Serve an application on loopback, in a thread; yields the address."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="pages-server", daemon=True)
    thread.start()
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)

    async def start() -> int:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port: int = runner.addresses[0][1]
        return port

    try:
        port = asyncio.run_coroutine_threadsafe(start(), loop).result(_END_SECONDS)
        yield f"http://127.0.0.1:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(_END_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_END_SECONDS)
        loop.close()
