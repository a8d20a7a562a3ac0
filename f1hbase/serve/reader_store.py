"""A store of records over whatever keeps them by session: HBase, or a landing zone.

It turns a query into sessions, drivers and times, which the store looks up (`SessionRecords`); only what is left of the
query is looked for in the records.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from f1hbase.errors import F1HBaseError, StoreError, UnreachableError
from f1hbase.frames.reading import Completeness
from f1hbase.model.catalog import ENDPOINTS, Endpoint
from f1hbase.model.units import Scope, Unit
from f1hbase.serve.blocks import Block, block_of
from f1hbase.serve.query import Query
from f1hbase.serve.sessions import Listed, Sessions
from f1hbase.serve.store import StoreFailedError, StoreUnavailableError
from f1hbase.serve.streamed import LookAhead, StreamedSelection
from f1hbase.serve.wanted import Wanted, wanted

_log = logging.getLogger(__name__)

MOST_SECONDS = 10.0
"""How long a query may take by default until its first records are there; OpenF1's database gives up after 5 s."""

_AWAY_SECONDS = 1.0
"""For so long after a store did not answer, nobody else waits for it."""

_MOST_JUDGED = 8
"""Of queries of more sessions than these it is not said whether they are loaded as a whole: a meeting has five."""

UNAVAILABLE = "The store of the records does not answer now. Try again later."
GONE = "The store of the records refuses: it may be without its tables."
DAMAGED = "UnreadableError: something that is stored cannot be read; the log of the server says what"


class SessionRecords(Protocol):
    """Reads the records of sessions."""

    def blocks(self, wanted: Wanted, listed: Listed, scopes: Sequence[Scope]) -> Iterator[Block]:
        """Yield the wanted records of some sessions, block by block; an empty block says that it is at work.

        Between two blocks it holds nothing that others wait for: the reader of an answer may be slow.

        Raises:
            F1HBaseError: If the store does not answer, refuses, or holds something that cannot be read.
        """

    def close(self) -> None:
        """Let go of what is held open."""


class ReaderStore:
    """Records of sessions; see `f1hbase.serve.store.RecordStore`.

    Args:
        sessions: Lists the sessions.
        records: Reads their records.
        most_seconds: How long a query may take until its first records are there.
        clock: Gives the seconds since 1970, for what is the latest session.
    """

    def __init__(
        self,
        sessions: Sessions,
        records: SessionRecords,
        most_seconds: float = MOST_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sessions = sessions
        self._records = records
        self._look_ahead = LookAhead(most_seconds)
        self._clock = clock
        self._away = _Away()

    def select(self, endpoint: str, query: Query, limit: int | None = None) -> StreamedSelection:
        """Return the records that a query asks for, by session, driver and date as far as the store keeps them so."""
        known = ENDPOINTS.get(endpoint)
        if known is None:
            return StreamedSelection((), 0, (), is_whole=True)
        with self._translated():
            listed = self._sessions.listed()
            if known.name in {"meetings", "sessions"}:
                records = listed.meetings if known.of_meeting else listed.sessions
                found = block_of(records, query.conditions)
                return self._look_ahead.select(lambda: iter((found,)), csv=query.csv, limit=limit)
            asked = wanted(known, query.conditions)
            scopes = [scope for scope in listed.scopes if asked.windows and asked.wants_session(scope)]
            return self._look_ahead.select(
                lambda: self._blocks(asked, listed, scopes),
                csv=query.csv,
                limit=limit,
                usual_fields=sorted(known.fields) if known.numeric else None,
                name=known.name,
                missing=self._missing(known, asked, listed, scopes),
            )

    def latest(self, field: str) -> int | None:
        """Return the `meeting_key` or `session_key` of the session that has begun last and takes place."""
        with self._translated():
            return self._sessions.listed().latest(field, self._clock())

    def close(self) -> None:
        """Let go of what the store holds open; what reads meanwhile fails."""
        self._records.close()

    def _blocks(self, asked: Wanted, listed: Listed, scopes: Sequence[Scope]) -> Iterator[Block]:
        if not scopes:
            return
        with self._translated():
            yield from self._records.blocks(asked, listed, scopes)

    def _missing(self, endpoint: Endpoint, asked: Wanted, listed: Listed, scopes: Sequence[Scope]) -> list[str]:
        if len(scopes) > _MOST_JUDGED:
            return []
        found = []
        for scope in scopes:
            states = listed.states_of(scope)
            driver = asked.drivers[0] if asked.drivers is not None and len(asked.drivers) == 1 else None
            state = Completeness(Unit(endpoint.name, scope, driver, asked.hull), states).state
            if state in {"partial", "absent"}:
                found.append(f"{scope.session_key} {state}")
        return found

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn what a store raises into what the server answers; while it is away, fail at once."""
        self._away.check()
        try:
            yield
        except UnreachableError as error:
            self._away.noticed()
            _log.warning("%s", error)
            raise StoreUnavailableError(UNAVAILABLE) from error
        except StoreError as error:
            _log.warning("%s", error)
            raise StoreUnavailableError(GONE) from error
        except F1HBaseError as error:
            _log.error("%s", error)
            raise StoreFailedError(DAMAGED) from error


class _Away:
    """Remembers that a store did not answer, so that not every thread of the server waits for it."""

    def __init__(self) -> None:
        self._until = 0.0
        self._turn = threading.Lock()

    def noticed(self) -> None:
        self._until = time.monotonic() + _AWAY_SECONDS

    def check(self) -> None:
        if not self._until:
            return
        with self._turn:
            if time.monotonic() < self._until:
                raise StoreUnavailableError(UNAVAILABLE)
            # One request looks whether it is back; the others go on failing meanwhile.
            self._until = 0.0
