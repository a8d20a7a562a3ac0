"""What the pages are about: one store, opened when it is needed and again when it may have changed.

It knows no HTTP, and no kind of store.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from f1hbase.errors import F1HBaseError, UnreachableError
from f1hbase.operations.status.base import StateView

if TYPE_CHECKING:
    from f1hbase.charts import SessionTables
    from f1hbase.frames.store import Store

_Made = TypeVar("_Made")

THREADS = 4
"""How many answers are made at once; HBase's reader has as many connections."""

MOST_WAITING = 64
"""Further questions are refused (503) rather than left to wait."""

FRESH_SECONDS = 5.0
"""For so long what was read of a store's sessions is taken to be true."""

_OPENING_SHARE = 0.05
"""A store that is slow to open (a folder of large files) is opened less often: for 5 % of the time at the most."""

_MOST_SESSIONS = 8
_MOST_REMEMBERED_BYTES = 64 * 1024 * 1024


class BusyError(UnreachableError):
    """Too many questions at once."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A session as it was read, with the tables that charts are made of."""

    tables: SessionTables
    fingerprint: str


@dataclass(slots=True)
class _Opened:
    """A store, the sessions that were read from it, and how many use it now."""

    store: Store
    until: float
    users: int = 0
    is_old: bool = False
    sessions: OrderedDict[int, _Known] = field(default_factory=OrderedDict)


@dataclass(slots=True)
class _Remembered:
    answers: OrderedDict[Hashable, tuple[str, bytes]] = field(default_factory=OrderedDict)
    size: int = 0


class SharedStore:
    """One store for the pages; its methods that are no coroutines are called in its own threads.

    Args:
        open_store: Opens what is stored, to be read; it should give up after some seconds, not after half an hour.
        open_view: Opens what `status` reads, likewise; None where there is none (a folder of records).
        clock: Gives seconds.
    """

    def __init__(
        self,
        open_store: Callable[[], Store],
        open_view: Callable[[], StateView] | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._open_store = open_store
        self._open_view = open_view
        self._clock = clock
        self._threads = ThreadPoolExecutor(THREADS, "pages")
        self._waiting = 0
        self._lock = threading.Lock()
        self._opening = threading.Lock()
        self._opened: _Opened | None = None
        self._remembered = _Remembered()

    async def run(self, work: Callable[[], _Made]) -> _Made:
        """Do some work in one of the threads.

        Raises:
            BusyError: If too many wait for one already.
        """
        if self._waiting >= THREADS + MOST_WAITING:
            raise BusyError("too many questions at once: ask again in a moment.")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1

    def with_store(self, work: Callable[[Store], _Made]) -> _Made:
        """Do something with the store, which is not closed before that is done.

        Raises:
            F1HBaseError: If it cannot be opened or read.
        """
        return self._used(lambda opened: work(opened.store))

    def with_session(self, key: int, work: Callable[[SessionTables], _Made]) -> _Made:
        """Do something with the tables of a session.

        Raises:
            NotLoadedError: If it is not loaded.
            F1HBaseError: If the store cannot be opened or read.
        """
        return self._used(lambda opened: work(self._session(opened, key).tables))

    def answer(self, key: int, kind: Hashable, make: Callable[[SessionTables], bytes]) -> tuple[str, bytes]:
        """Return an answer about a session and what changes with it; it is made anew if more of it is stored since.

        Raises:
            NotLoadedError: If the session, or what is asked of it, is not loaded.
            F1HBaseError: If the store cannot be opened or read.
        """

        def work(opened: _Opened) -> tuple[str, bytes]:
            known = self._session(opened, key)
            with self._lock:
                found = self._remembered.answers.get((key, kind))
                if found is not None and found[0] == known.fingerprint:
                    self._remembered.answers.move_to_end((key, kind))
                    return found
            answer = (known.fingerprint, make(known.tables))
            self._remember((key, kind), answer)
            return answer

        return self._used(work)

    def view(self) -> StateView | None:
        """Open what `status` reads; None where there is none. Whoever calls it closes it."""
        return None if self._open_view is None else self._open_view()

    async def close(self) -> None:
        """End the threads, when they have done what they are at, and close the store."""
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None:
            opened.store.close()

    # --- how ---

    def _used(self, work: Callable[[_Opened], _Made]) -> _Made:
        opened = self._current()
        try:
            return work(opened)
        except F1HBaseError as error:
            if not isinstance(error, LookupError):
                # A store that failed may not be what it was: whoever asks next opens it anew.
                self._retire(opened)
            raise
        finally:
            self._leave(opened)

    def _current(self) -> _Opened:
        with self._opening:
            with self._lock:
                opened = self._opened
                if opened is not None and self._clock() < opened.until:
                    opened.users += 1
                    return opened
            if opened is not None:
                self._retire(opened)
            began = self._clock()
            store = self._open_store()
            now = self._clock()
            fresh = _Opened(store, now + max(FRESH_SECONDS, (now - began) / _OPENING_SHARE), users=1)
            with self._lock:
                self._opened = fresh
            return fresh

    def _retire(self, opened: _Opened) -> None:
        with self._lock:
            if self._opened is opened:
                self._opened = None
            opened.is_old = True
            unused = not opened.users
        if unused:
            opened.store.close()

    def _leave(self, opened: _Opened) -> None:
        with self._lock:
            opened.users -= 1
            unused = opened.is_old and not opened.users
        if unused:
            opened.store.close()

    def _session(self, opened: _Opened, key: int) -> _Known:
        from f1hbase.serve.pages.tables import SharedTables

        with self._lock:
            known = opened.sessions.get(key)
            if known is not None:
                opened.sessions.move_to_end(key)
                return known
        session = opened.store.session(key)
        known = _Known(SharedTables(session), session.fingerprint())
        with self._lock:
            # Another thread may have been faster: all are to share the same tables.
            known = opened.sessions.setdefault(key, known)
            if len(opened.sessions) > _MOST_SESSIONS:
                opened.sessions.popitem(last=False)
        return known

    def _remember(self, name: Hashable, answer: tuple[str, bytes]) -> None:
        kept = self._remembered
        with self._lock:
            old = kept.answers.pop(name, None)
            kept.size += len(answer[1]) - (len(old[1]) if old else 0)
            kept.answers[name] = answer
            while kept.size > _MOST_REMEMBERED_BYTES and len(kept.answers) > 1:
                kept.size -= len(kept.answers.popitem(last=False)[1][1])
