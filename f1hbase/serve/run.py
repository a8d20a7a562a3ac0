"""Starts the server: reads the folders, listens, and serves until SIGTERM or Ctrl-C.

It is handed what it says things with, and knows no command line.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, TextIO

from aiohttp import web
from tqdm import tqdm

from f1hbase.errors import F1HBaseError
from f1hbase.listening.runner import Runner
from f1hbase.serve.app import LONGEST_QUERY_BYTES
from f1hbase.serve.file_store import FileStore

_log = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS = 5.0
"""After so long uvicorn, on which OpenF1 runs, closes a connection without a request."""

_LINE_SECONDS = 5.0
_MOST_FILES = 16_384

_BACKLOG = 1_024
"""How many connections may wait to be taken."""

_LONGEST_LINE_BYTES = LONGEST_QUERY_BYTES + 8 * 1024  # of which what is too long can still be told


class ListenError(F1HBaseError):
    """The address cannot be listened at."""

    exit_code = 3


class LoadingProgress:
    """Shows how far the reading of files is: a bar on a terminal, elsewhere a line every five seconds.

    Use it as a context manager, and call it as `f1hbase.serve.file_store.Progress`.

    Args:
        stream: Where to, such as the standard error output.
        clock: Gives seconds, for the lines.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._next = clock() + _LINE_SECONDS
        self._bar: tqdm[NoReturn] | None = None

    def __enter__(self) -> LoadingProgress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, read: int, total: int, records: int) -> None:
        """Show that ``read`` of ``total`` bytes are read, and how many records that were."""
        if self._stream.isatty():
            if self._bar is None:
                self._bar = tqdm(total=total, unit="B", unit_scale=True, desc="reading", file=self._stream, leave=False)
            self._bar.set_postfix_str(f"{records:,} records", refresh=False)
            self._bar.update(read - self._bar.n)
        elif self._clock() >= self._next:
            self._next = self._clock() + _LINE_SECONDS
            share = read / total if total else 1.0
            print(f"reading: {share:.0%}, {records:,} records", file=self._stream, flush=True)


def open_files(folders: Iterable[Path], stream: TextIO, most_seconds: float = math.inf) -> FileStore:
    """Read folders of record files, and show on a stream how far that is.

    Args:
        folders: Where they are.
        stream: Such as the standard error output.
        most_seconds: How long a query may take.

    Raises:
        RecordFilesError: When they cannot be served.
    """
    with LoadingProgress(stream) as progress:
        return FileStore.load(folders, progress, most_seconds)


def serve(
    app: web.Application,
    host: str,
    port: int,
    tell: Callable[[str], None],
    port_file: Path | None = None,
    *,
    has_pages: bool = False,
) -> None:
    """Serve an application until SIGTERM or Ctrl-C.

    Args:
        app: What to serve.
        host: The address to listen at.
        port: The port; 0 takes a free one.
        tell: Called once it listens, with ``serving http://HOST:PORT/v1``, and with where the pages are.
        port_file: A file that gets the port.
        has_pages: Whether it has web pages.

    Raises:
        ListenError: When the address is taken, or not this machine's.
    """
    asyncio.run(_serve(app, host, port, tell, port_file, has_pages))


async def _serve(
    app: web.Application, host: str, port: int, tell: Callable[[str], None], port_file: Path | None, has_pages: bool
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError):  # Windows has no signal handlers in the loop
            loop.add_signal_handler(name, stop.set)
    runner = Runner(
        app,
        logging.getLogger(f"{__name__}.http"),
        keepalive_timeout=KEEP_ALIVE_SECONDS,
        max_line_size=_LONGEST_LINE_BYTES,
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port, backlog=_BACKLOG).start()
        except (OSError, OverflowError) as error:
            number = getattr(error, "errno", None)
            reason = os.strerror(number) if number and number > 0 else str(error)
            raise ListenError(
                f"cannot listen at {host}:{port} ({reason.lower()}): name another --port, or 0 for a free one"
            ) from None
        port = runner.addresses[0][1]
        if port_file is not None:
            await asyncio.to_thread(port_file.write_text, f"{port}\n")
        _raise_file_limit()
        tell(f"serving http://{_in_url(host)}:{port}/v1")
        if has_pages:
            tell(f"web pages: http://{_in_url(host)}:{port}/")
        await stop.wait()
    finally:
        await runner.cleanup()


def _raise_file_limit() -> None:
    """Allow as many connections as the system does: each is an open file, and many systems begin with 1,024."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
