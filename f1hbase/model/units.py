"""The words of the plan: meetings, sessions, windows of time, and the units of work made of them.

A unit is the smallest piece of work that can be fetched, stored, counted and repeated on its own. Times are aware
datetimes in UTC throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from f1hbase.model.samples import Record
from f1hbase.stores.hbase.codec import SEPARATOR, scope_prefix

CHECKSUM_MODULUS = 2**64
"""The checksum of a unit is the sum of its rows' checksums modulo this, so it does not depend on their order."""

SETTLED_AFTER = timedelta(hours=48)
"""How long after a session's end late samples and corrections still come (DESIGN.md, Units)."""

LONGEST_SESSION = timedelta(hours=12)
"""How long a session without an end may last; the longest known, a test day, took 9 hours."""

_CSV_FILTER = "csv=true"


def parse_time(text: str) -> datetime:
    """Read an ISO 8601 time; without a zone it is UTC.

    Raises:
        ValueError: If it is not one.
    """
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


@dataclass(frozen=True, slots=True)
class Window:
    """A half-open span of time, `start <= t < end`; None is open. The default covers all time."""

    start: datetime | None = None
    end: datetime | None = None

    def __contains__(self, moment: datetime) -> bool:
        return (self.start is None or self.start <= moment) and (self.end is None or moment < self.end)

    @property
    def is_closed(self) -> bool:
        """Whether it has a start and an end."""
        return self.start is not None and self.end is not None

    def __str__(self) -> str:
        if self == ALL_TIME:
            return "whole session"
        return f"{_component(self.start)} to {_component(self.end)}"


ALL_TIME = Window()


def slice_time(start: datetime | None, end: datetime | None, step: timedelta) -> list[Window]:
    """Cut a session into windows that together cover all time, each moment exactly once.

    Args:
        start: When the session begins.
        end: When it ends.
        step: The length of a window.

    Returns:
        As many windows as cover the session; the first is open at its left and the last at its right, because
        samples exist before the start and after the end. One window, open on both sides, where a time is missing.
    """
    if start is None or end is None or end <= start:
        return [ALL_TIME]
    edges: list[datetime | None] = [None]
    edge = start + step
    while edge < end:
        edges.append(edge)
        edge += step
    edges.append(None)
    return [Window(*pair) for pair in pairwise(edges)]


@dataclass(frozen=True, slots=True)
class Scope:
    """What a unit belongs to: a session, or (without a session key) a meeting as such.

    Attributes:
        year: The meeting's year.
        date_start: When it begins, if the API says so.
        date_end: When it ends, if the API says so.
        name: What people call it, such as `2024 British Grand Prix, Race`.
        cancelled: Whether it was called off.
    """

    year: int
    meeting_key: int
    session_key: int | None
    date_start: datetime | None = None
    date_end: datetime | None = None
    name: str = ""
    cancelled: bool = False

    @property
    def prefix(self) -> str:
        """`{year}#{meeting_key}#{session_key}`, with `-` for the session key of a meeting."""
        return f"{scope_prefix(self.year, self.meeting_key, None)}{SEPARATOR}{_component(self.session_key)}"

    @property
    def over_at(self) -> datetime | None:
        """When it is over, at the latest; None if nothing is known."""
        if self.date_end is None and self.date_start is not None:
            return self.date_start + LONGEST_SESSION
        return self.date_end

    @property
    def settled_at(self) -> datetime | None:
        """From when on no more late samples are expected."""
        return None if self.over_at is None else self.over_at + SETTLED_AFTER


@dataclass(frozen=True, slots=True)
class Unit:
    """One piece of work: the records of an endpoint for a scope, a driver (None: all) and a window."""

    endpoint: str
    scope: Scope
    driver: int | None = None
    window: Window = ALL_TIME

    @property
    def key(self) -> str:
        """The row key of this unit in `f1_reports`."""
        parts = (self.driver, self.window.start, self.window.end)
        return SEPARATOR.join(["unit", self.scope.prefix, self.endpoint, *map(_component, parts)])

    def __str__(self) -> str:
        driver = "" if self.driver is None else f" driver {self.driver}"
        window = "" if self.window == ALL_TIME else f" {self.window}"
        session = f"meeting {self.scope.meeting_key}"
        if self.scope.session_key is not None:
            session = f"session {self.scope.session_key}"
        return f"{self.endpoint} {session}{driver}{window}"


def parse_unit_key(key: str) -> tuple[str, str, int | None, Window]:
    """Take the row key of a unit apart: scope prefix, endpoint, driver, window.

    Raises:
        ValueError: If it is not the key of a unit.
    """
    word, *parts = key.split(SEPARATOR)
    if word != "unit" or len(parts) != 7:
        raise ValueError(f"'{key}' is not the key of a unit")
    *scope, endpoint, driver, start, end = (None if part == "-" else part for part in parts)
    window = Window(*(None if edge is None else parse_time(edge) for edge in (start, end)))
    prefix = SEPARATOR.join(map(_component, scope))
    return prefix, str(endpoint), None if driver is None else int(driver), window


def _component(value: object) -> str:
    if value is None:
        return "-"
    return value.isoformat() if isinstance(value, datetime) else str(value)


@dataclass(frozen=True, slots=True)
class Query:
    """What a source is asked: an endpoint, and filters such as `session_key=9159` or `date>=2023-09-15T13:00:00`."""

    endpoint: str
    filters: tuple[str, ...] = ()

    @property
    def as_csv(self) -> bool:
        """Whether the answer is to be CSV instead of JSON."""
        return _CSV_FILTER in self.filters

    def in_csv(self) -> Query:
        """Return the same query for an answer in CSV."""
        return Query(self.endpoint, (*self.filters, _CSV_FILTER))

    def __str__(self) -> str:
        return f"{self.endpoint}?{'&'.join(self.filters)}".rstrip("?")


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """A session to load, with the record that the plan was made from, so that it need not be asked for again."""

    scope: Scope
    record: Record


@dataclass(frozen=True, slots=True)
class MeetingPlan:
    """A meeting to load, one process's work: the sessions asked for, and the meeting's own record.

    Attributes:
        record: None where the API has no such meeting although it has the sessions.
        asked_at: When the records were asked for.
    """

    scope: Scope
    record: Record | None
    sessions: Sequence[SessionPlan]
    asked_at: datetime

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """The meeting as such and its sessions."""
        return (self.scope, *(session.scope for session in self.sessions))


@dataclass(slots=True)
class Answer:
    """What a source made of a unit: its records, or why there are none.

    Attributes:
        unit: What was asked for.
        asked_at: When the first request for it was sent.
        records: The records, or `Samples`; empty when the API has none.
        bytes: The size of the answer's body.
        requests: How many requests it took.
        retries: How many of them failed and were sent again.
        seconds: From the first request to the last byte.
        error: Why the unit could not be fetched, for people; None when it was.
        complete: Whether this is all of the unit; a large one may come in parts, of which the last says so.
    """

    unit: Unit
    asked_at: datetime
    records: Sequence[Any] = ()
    bytes: int = 0
    requests: int = 0
    retries: int = 0
    seconds: float = 0.0
    error: str | None = None
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a unit once its answer was stored (or was not): its line in the reports.

    Attributes:
        unit: What was asked for.
        asked_at: When the first request for it was sent.
        records: How many records the API gave.
        rows: How many distinct rows its records made.
        duplicates: How many records had the identity of another one of the unit.
        quarantined: How many records could not be encoded and were put aside.
        checksum: The sum of the rows' checksums, modulo 2**64.
        drivers: The driver numbers seen.
        unknown_fields: The fields seen that the catalogue does not know.
        bytes, requests, retries: As in `Answer`.
        seconds: What fetching and storing took.
        error: Why it failed, for people; None when it is stored.
        entrants: Everybody who drove in the session, where that was asked for without storing it.
    """

    unit: Unit
    asked_at: datetime
    records: int = 0
    rows: int = 0
    duplicates: int = 0
    quarantined: int = 0
    bytes: int = 0
    requests: int = 0
    retries: int = 0
    checksum: int = 0
    seconds: float = 0.0
    drivers: frozenset[int] = frozenset()
    error: str | None = None
    unknown_fields: frozenset[str] = frozenset()
    entrants: frozenset[int] | None = None

    def with_part(self, part: Outcome) -> Outcome:
        """Return this outcome and that of another part of the same unit as one."""
        return replace(
            self,
            records=self.records + part.records,
            rows=self.rows + part.rows,
            duplicates=self.duplicates + part.duplicates,
            quarantined=self.quarantined + part.quarantined,
            bytes=self.bytes + part.bytes,
            requests=self.requests + part.requests,
            retries=self.retries + part.retries,
            checksum=(self.checksum + part.checksum) % CHECKSUM_MODULUS,
            seconds=part.seconds,
            drivers=self.drivers | part.drivers,
            unknown_fields=self.unknown_fields | part.unknown_fields,
            error=self.error or part.error,
        )

    @property
    def attempts(self) -> int:
        """How often the API was asked for it: `requests` by the name that the reports give it."""
        return self.requests
