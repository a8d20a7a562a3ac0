"""What is stored in one place, HBase or a landing zone: its meetings and its sessions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from f1hbase.frames.arrow import batch_of
from f1hbase.frames.frame import Frame
from f1hbase.frames.schemas import schema_of, sort_keys
from f1hbase.frames.session import NotLoadedError, Session
from f1hbase.model.catalog import ALL_ENDPOINTS
from f1hbase.model.plans import SessionPlan
from f1hbase.model.samples import Record
from f1hbase.pipeline.plan import session_scope
from f1hbase.sources.base import Reader

_MOST_NAMED = 10


class Store:
    """What is stored in one place; made by `f1hbase.connect` and `f1hbase.open`.

    May be used as a context manager, which closes it.

    Args:
        reader: Reads it.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    @property
    def home(self) -> str:
        """Where it is, for people."""
        return self._reader.home

    def meetings(self, year: int | None = None) -> Frame:
        """Return the meetings, of one season if it is named.

        Raises:
            NotLoadedError: If nothing of that season is loaded.
        """
        return self._listing("meetings", self._reader.meetings(), year)

    def sessions(self, year: int | None = None) -> Frame:
        """Return the sessions, of one season if it is named.

        Raises:
            NotLoadedError: If nothing of that season is loaded.
        """
        return self._listing("sessions", self._reader.sessions(), year)

    def session(self, session_key: int) -> Session:
        """Return a session by its key.

        Raises:
            NotLoadedError: If it is not loaded; names those that are.
        """
        records = {record["session_key"]: record for record in _usable(self._reader.sessions(), "sessions")}
        if session_key not in records:
            raise NotLoadedError(
                f"there is no session {session_key} in {self.home}; {_some_of(list(records))}. "
                f"Load it: f1hbase load --session-key {session_key}"
            )
        record = records[session_key]
        meeting = next(
            (one for one in self._reader.meetings() if one.get("meeting_key") == record["meeting_key"]), None
        )
        year = meeting.get("year") if meeting else None
        scope = session_scope(year if type(year) is int else record["year"], record, meeting)
        return Session(self._reader, SessionPlan(scope, record))

    def close(self) -> None:
        """Close the connections, where there are any."""
        with suppress(AttributeError):
            self._reader.close()  # type: ignore[attr-defined]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<f1hbase.Store {self.home}>"

    def _listing(self, endpoint_name: str, listed: Sequence[Record], year: int | None) -> Frame:
        records = _usable(listed, endpoint_name)
        years = sorted({record["year"] for record in records})
        if year is not None and year not in years:
            some = f"it has {', '.join(map(str, years))}" if years else "it is empty"
            raise NotLoadedError(
                f"nothing of {year} is loaded in {self.home}; {some}. Load it: f1hbase load --year {year}"
            )
        chosen = [record for record in records if year in (None, record["year"])]

        def read() -> Iterator[Any]:
            yield batch_of(endpoint_name, chosen)

        metadata = {"f1hbase.store": self.home, "f1hbase.endpoint": endpoint_name}
        return Frame(schema_of(endpoint_name).with_metadata(metadata), read, sort_keys(ALL_ENDPOINTS[endpoint_name]))


def _usable(listed: Sequence[Record], endpoint_name: str) -> list[Record]:
    """Return the records that have their keys; a zone names a session whose own record is damaged by its keys alone."""
    keys = ("year", "meeting_key", *(() if ALL_ENDPOINTS[endpoint_name].of_meeting else ("session_key",)))
    return [record for record in listed if all(type(record.get(key)) is int for key in keys)]


def _some_of(keys: Sequence[int]) -> str:
    if not keys:
        return "it has none"
    if len(keys) <= _MOST_NAMED:
        return f"it has {', '.join(map(str, sorted(keys)))}"
    return f"it has {len(keys)}, the latest being {max(keys)}: .sessions() lists them"
