"""Which sessions and meetings a store has, remembered for some seconds; knows no kind of store."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from f1hbase.errors import F1HBaseError
from f1hbase.model.outcomes import UnitState
from f1hbase.model.samples import Record
from f1hbase.model.times import lenient_time
from f1hbase.model.units import Scope
from f1hbase.pipeline.plan import session_scope
from f1hbase.sources.base import Reader

_log = logging.getLogger(__name__)

BEGUN_WITHIN_SECONDS = 60
"""A session counts as begun a minute before it does, as in OpenF1."""


@dataclass(frozen=True, slots=True)
class Listed:
    """The sessions and meetings of a store at one time.

    Attributes:
        reader: What they were read with.
        sessions: The records of the sessions.
        meetings: The records of the meetings.
        scopes: Each session as the store's keys have it.
        read_at: When they were read, by the clock of `Sessions`.
        states: The units that are stored, by the prefix of their scope, as far as anybody asked.
    """

    reader: Reader
    sessions: Sequence[Record]
    meetings: Sequence[Record]
    scopes: Sequence[Scope]
    read_at: float
    states: dict[str, Sequence[UnitState]] = field(default_factory=dict)

    def states_of(self, scope: Scope) -> Sequence[UnitState]:
        """Return the units that are stored of a session."""
        found = self.states.get(scope.prefix)
        if found is None:
            found = self.states[scope.prefix] = self.reader.units(scope)
        return found

    def latest(self, key: str, now: float) -> int | None:
        """Return a key of the session that has begun last and takes place; None without one.

        Args:
            key: `meeting_key` or `session_key`.
            now: Seconds since 1970.
        """
        begun = [
            (moment, record["session_key"], record.get(key))
            for record in self.sessions
            if (moment := lenient_time(record.get("date_start"))) is not None
            and record.get("is_cancelled") is False
            and moment.timestamp() <= now + BEGUN_WITHIN_SECONDS
        ]
        return max(begun, key=lambda one: one[:2])[2] if begun else None


class Sessions:
    """Lists what a store has, and again when that was some time ago. Several threads may use one.

    Args:
        open_reader: Opens what reads the store; called for each listing, as some readers remember theirs.
        fresh_seconds: For how long a listing counts.
        in_background: Whether an old one is used while a new one is being read.
        clock: Gives seconds, rising.
    """

    def __init__(
        self,
        open_reader: Callable[[], Reader],
        fresh_seconds: float,
        *,
        in_background: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_reader = open_reader
        self._fresh_seconds = fresh_seconds
        self._in_background = in_background
        self._clock = clock
        self._turn = threading.Lock()
        self._listed: Listed | None = None
        self._failed: tuple[float, F1HBaseError] | None = None

    def listed(self) -> Listed:
        """Return what there is.

        Raises:
            F1HBaseError: If the store does not say.
        """
        found = self._listed
        if found is not None and self._clock() - found.read_at < self._fresh_seconds:
            return found
        if found is not None and self._in_background:
            if self._turn.acquire(blocking=False):
                threading.Thread(target=self._read_and_release, name="listing", daemon=True).start()
            return found
        came_at = self._clock()
        with self._turn:
            # Whoever waited for somebody else's reading takes what came of it, a failure too.
            if self._failed is not None and self._failed[0] >= came_at:
                raise self._failed[1]
            if self._listed is None or self._listed is found:
                try:
                    self._listed = self._read()
                except F1HBaseError as error:
                    self._failed = (self._clock(), error)
                    raise
            return self._listed

    def _read_and_release(self) -> None:
        try:
            self._listed = self._read()
        except F1HBaseError as error:
            _log.warning("what there is cannot be listed again: %s", error)
        finally:
            self._turn.release()

    def _read(self) -> Listed:
        read_at = self._clock()
        reader = self._open_reader()
        sessions, meetings = _usable(reader.sessions(), "session_key"), _usable(reader.meetings())
        by_key: Mapping[object, Record] = {record["meeting_key"]: record for record in meetings}
        scopes = []
        for record in sessions:
            meeting = by_key.get(record["meeting_key"])
            year = record["year"] if meeting is None else meeting["year"]
            scopes.append(session_scope(year, record, meeting))
        return Listed(reader, sessions, meetings, scopes, read_at)


def _usable(records: Sequence[Record], *keys: str) -> list[Record]:
    """Return the records that have their keys: a zone names a session whose own record is damaged by its keys alone."""
    return [record for record in records if all(type(record.get(key)) is int for key in ("year", "meeting_key", *keys))]
