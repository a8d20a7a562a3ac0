"""The process that loads one meeting: opens what the recipe says, loads, and tells its parent.

It is started by `start_worker` as a Python of its own, so that it imports nothing of the user's program, and can be
started from any thread, notebook or daemonic process.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from time import monotonic, process_time

from f1hbase.errors import F1HBaseError
from f1hbase.metrics import names
from f1hbase.metrics.meter import METER, resident_bytes
from f1hbase.pipeline.meeting import MeetingLoader
from f1hbase.pipeline.messages import GRACE_SECONDS, Finished, Link, LogLine, Measured, Task
from f1hbase.pipeline.remaining import Remaining
from f1hbase.sources.base import MayLack

_log = logging.getLogger(__name__)

_MEASURED_SECONDS = 2.0
"""How often a worker tells what it has measured: what a kill loses of it."""

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from f1hbase.pipeline.worker import main; main(int(sys.argv[1]))"
)

_MALLOC = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "262144", "MALLOC_TRIM_THRESHOLD_": "262144"}
"""glibc's malloc in a worker: otherwise each thread has a heap of its own, and answers, frames and blocks of freed
memory between them stay with the process: 131 MB instead of 103 with a race, at the same speed. Others ignore it."""


def start_worker(task: Task) -> tuple[subprocess.Popen[bytes], Connection]:
    """Start a process that loads a meeting; return it, and the connection on which it tells how that goes.

    Raises:
        OSError: If no process can be started.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, str(theirs.fileno()), json.dumps(sys.path)],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=_MALLOC | os.environ,
                # Ctrl-C reaches every process of the terminal, but the parent decides what it means.
                process_group=0,
            )
        except BaseException:
            ours.close()
            raise
    connection = Connection(ours.detach())
    with suppress(OSError):  # it died at birth, which the end of the connection says
        connection.send_bytes(pickle.dumps(task))
    return process, connection


def main(descriptor: int) -> None:
    """Run a worker process; never raises, so that no stack trace reaches the user."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(descriptor)
    try:
        task: Task = pickle.loads(connection.recv_bytes())  # noqa: S301 - from our own parent
    except (EOFError, OSError):
        return
    link = Link(connection)
    logger = logging.getLogger("f1hbase")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.handlers = [_LinkHandler(link, f"meeting {task.meeting.scope.meeting_key}")]
    try:
        finished = asyncio.run(_load_meeting(task, link))
    except* F1HBaseError as group:
        error = _first(group.exceptions)
        link.tell(Finished(str(error), error.exit_code if isinstance(error, F1HBaseError) else 1))
    except* Exception as group:  # noqa: BLE001 - a bug must be told to the parent, not printed
        _log.debug("the worker failed", exc_info=True)
        error = _first(group.exceptions)
        link.tell(Finished(f"{type(error).__name__}: {error}", 1))
    else:
        link.tell(finished)


class _Measuring:
    """Tells the parent what this process measures, now and then and at the end.

    Args:
        link: Whom to tell.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._told_at, self._cpu = monotonic(), 0.0

    async def __aenter__(self) -> None:
        self._telling = asyncio.create_task(self._tell_now_and_then())

    async def __aexit__(self, *_: object) -> None:
        self._telling.cancel()
        self._tell()

    async def _tell_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(_MEASURED_SECONDS)
            self._tell()

    def _tell(self) -> None:
        now, cpu = monotonic(), process_time()
        METER.count(names.WORKER_SECONDS, now - self._told_at)
        METER.count(names.WORKER_CPU_SECONDS, cpu - self._cpu)
        self._told_at, self._cpu = now, cpu
        self._link.tell(Measured(METER.take(), resident_bytes()))


class _LinkHandler(logging.Handler):
    """Hands log lines to the parent."""

    def __init__(self, link: Link, prefix: str) -> None:
        super().__init__()
        self._link = link
        self._prefix = prefix

    def emit(self, record: logging.LogRecord) -> None:
        # With the stack of a bug, which belongs in the log file, at the level that only the log file shows.
        self._link.tell(LogLine(record.levelno, f"{self._prefix}: {self.format(record)}"))


async def _load_meeting(task: Task, link: Link) -> Finished:
    stop_waiting = threading.Event()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        stopping.set()
        stop_waiting.set()
        # What hangs in a call cannot be interrupted; what it speaks of is simply not done.
        deadline = threading.Timer(GRACE_SECONDS, os._exit, (1,))
        deadline.daemon = True
        deadline.start()

    def hear() -> None:
        if not link.hear():
            loop.remove_reader(link.fileno())
        stop()

    patience = task.options.patience
    # Before anything is opened, which may wait for a store: a parent that is gone must be noticed meanwhile.
    loop.add_reader(link.fileno(), hear)
    loop.add_signal_handler(signal.SIGTERM, stop)
    with ExitStack() as opened:
        destinations = []
        for kind in task.recipe.destinations:
            destination = await asyncio.to_thread(
                kind.open, workers=task.workers, number=task.number, patience=patience, stop=stop_waiting
            )
            opened.callback(destination.close)
            destinations.append(destination)
        async with _Measuring(link), task.recipe.source.open(patience) as source:
            # Here and not in the parent: what is to be done is read by who does it.
            states = await asyncio.to_thread(
                lambda: [[s for one in task.meeting.scopes for s in d.state.unit_states(one)] for d in destinations]
            )
            refresh = task.run_id if task.options.refresh else ""
            loader = MeetingLoader(
                task.meeting,
                Remaining(
                    task.meeting,
                    states,
                    task.selection,
                    datetime.now(UTC),
                    refresh,
                    [kind.keeps_answers for kind in task.recipe.destinations],
                ),
                source=source,
                destinations=destinations,
                run_id=task.run_id,
                epochs=task.epochs,
                tell=link.tell,
                stopping=stopping,
                listing=task.listing,
            )
            complete = await loader.run()
            error = None if complete else "it was told to stop before all was loaded"
            lacking = source.lacking() if isinstance(source, MayLack) else ()
            return Finished(error, 0 if complete else 1, source.unaccounted(), lacking)


def _first(exceptions: Iterable[BaseException]) -> BaseException:
    """The first error inside nested groups."""
    error = next(iter(exceptions))
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
