"""Sessions, windows of time, and the units of work made of them; knows no source and no store.

A unit is the smallest piece of work that can be fetched, stored, counted and repeated on its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from f1hbase.model.catalog import ENDPOINTS, Endpoint
from f1hbase.model.times import parse_time

SEPARATOR = "#"
"""What joins the components of a row key."""

LONGEST_SESSION = timedelta(hours=12)
"""How long a session without an end may last; the longest known, a test day, took 9 hours."""


def scope_prefix(year: int, meeting_key: int, session_key: int | None) -> str:
    """Return `{year}#{meeting_key}#{session_key}`, or `{year}#{meeting_key}` for a meeting."""
    prefix = f"{year}{SEPARATOR}{meeting_key}"
    return prefix if session_key is None else f"{prefix}{SEPARATOR}{session_key}"


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

    def overlaps(self, other: Window) -> bool:
        """Return whether some moment is in both."""
        return (self.start is None or other.end is None or self.start < other.end) and (
            other.start is None or self.end is None or other.start < self.end
        )

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
        date_start: When it begins, if the source says so.
        date_end: When it ends, if the source says so.
        name: What people call it, such as `2024 British Grand Prix, Race`.
        cancelled: Whether it was called off.
        kind: The type of session, one of the catalogue's; empty where it is not known.
        place: The town or circuit, as the source has it (`location`); empty where it is not known.
        title: The session's own name (`session_name`), such as `Practice 1`; empty where it is not known.
    """

    year: int
    meeting_key: int
    session_key: int | None
    date_start: datetime | None = None
    date_end: datetime | None = None
    name: str = ""
    cancelled: bool = False
    kind: str = ""
    place: str = ""
    title: str = ""

    @property
    def prefix(self) -> str:
        """`{year}#{meeting_key}#{session_key}`, with `-` for the session key of a meeting."""
        return f"{scope_prefix(self.year, self.meeting_key, None)}{SEPARATOR}{_component(self.session_key)}"

    @property
    def meeting(self) -> Scope:
        """The meeting as such, by its keys alone."""
        return Scope(self.year, self.meeting_key, None)

    @property
    def over_at(self) -> datetime | None:
        """When it is over, at the latest; None if nothing is known."""
        if self.date_end is None and self.date_start is not None:
            return self.date_start + LONGEST_SESSION
        return self.date_end

    def goes_on(self, now: datetime) -> bool:
        """Return whether it has begun and may not be over, so that its records still grow."""
        begun = self.date_start is None or self.date_start <= now
        return begun and self.over_at is not None and now < self.over_at and not self.cancelled


def parse_scope(prefix: str) -> Scope | None:
    """Return what a scope prefix stands for; None if it is not spelt as one."""
    try:
        year, meeting_key, session_key = (None if part == "-" else int(part) for part in prefix.split(SEPARATOR))
    except ValueError:
        return None
    if year is None or meeting_key is None:
        return None
    scope = Scope(year, meeting_key, session_key)
    return scope if scope.prefix == prefix else None


def endpoints_of(scope: Scope) -> list[Endpoint]:
    """Return the endpoints of which a session (or a meeting as such) has records."""
    return [endpoint for endpoint in ENDPOINTS.values() if endpoint.of_meeting == (scope.session_key is None)]


@dataclass(frozen=True, slots=True)
class Unit:
    """One piece of work: the records of an endpoint for a scope, a driver (None: all) and a window."""

    endpoint: str
    scope: Scope
    driver: int | None = None
    window: Window = ALL_TIME

    @property
    def key(self) -> str:
        """What names this unit in the state of a destination."""
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
    """Take the key of a unit apart: scope prefix, endpoint, driver, window.

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
