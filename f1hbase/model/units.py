"""Sessions, windows of time, and the units of work made of them; knows no source and no store.

A unit is the smallest piece of work that can be fetched, stored, counted and repeated on its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TypeGuard

from f1hbase.model.catalog import ALL_ENDPOINTS, DATASETS, HISTORY, TIMING, Dataset, Endpoint
from f1hbase.model.times import parse_time

SEPARATOR = "#"
"""What joins the components of a row key."""

LONGEST_SESSION = timedelta(hours=12)
"""How long a session without an end may last; the longest known, a test day, took 9 hours."""

LARGEST_KEY = 2**63 - 1
"""Of meetings, sessions and drivers: a whole number of 64 bits. The keys of OpenF1 have four or five digits."""

YEARS = range(1900, 10_000)
"""Of which years there may be sessions."""


def is_key(value: object) -> TypeGuard[int]:
    """Return whether a value can be the key of a meeting or session: longer ones make no names of files."""
    return type(value) is int and 0 <= value <= LARGEST_KEY


def is_year(value: object) -> TypeGuard[int]:
    """Return whether a value can be the year of a meeting."""
    return type(value) is int and value in YEARS


_ROUNDS = 100
"""The key of a season of the history is its year times this, and that of a race the same plus its round: no meeting
or session of OpenF1 has such a key (they have four and five digits, and some 30 and 120 more come each year)."""

_FIRST_SEASON = 1950


def season_scope(season: int) -> Scope:
    """Return a season of the history: `1991` has the key 199100.

    >>> season_scope(1991).prefix
    '1991#199100#-'
    """
    return Scope(season, season * _ROUNDS, None)


def race_scope(season: int, number: int) -> Scope:
    """Return a race of the history by its season and round: the fifth of 1991 has the key 199105.

    >>> race_scope(1991, 5).prefix, race_scope(1991, 5).row_prefix
    ('1991#199100#199105', '1991#5')
    """
    return Scope(season, season * _ROUNDS, season * _ROUNDS + number)


def is_round(number: object) -> bool:
    """Return whether a race of the history can have a number, as only these have keys of their own."""
    return type(number) is int and 0 < number < _ROUNDS


def season_of_key(key: int) -> Scope | None:
    """Return the season of the history that has a key; None if none can have it."""
    scope = season_scope(key // _ROUNDS)
    return scope if scope.meeting_key == key and scope.year >= _FIRST_SEASON else None


def race_of_key(key: int) -> Scope | None:
    """Return the race of the history that has a key; None if none can have it."""
    scope = race_scope(key // _ROUNDS, key % _ROUNDS)
    return scope if key % _ROUNDS and scope.year >= _FIRST_SEASON else None


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
    def dataset(self) -> Dataset:
        """Which table its records are in."""
        return HISTORY if self.meeting_key == self.year * _ROUNDS else TIMING

    @property
    def round(self) -> int | None:
        """The round of a race of the history; None for all else."""
        return None if self.dataset is TIMING or self.session_key is None else self.session_key - self.meeting_key

    @property
    def row_prefix(self) -> str:
        """What the row keys of its records begin with, such as `2024#1240#9558`; in the history `1991#5`, or `1991`."""
        if self.dataset is TIMING:
            return scope_prefix(self.year, self.meeting_key, self.session_key)
        return SEPARATOR.join(map(str, self.fields.values()))

    @property
    def fields(self) -> dict[str, int]:
        """Which of the records of its endpoints are its own: field and value, such as `{"meeting_key": 1240}`."""
        keys = (self.meeting_key, self.session_key) if self.dataset is TIMING else (self.year, self.round)
        return {name: key for name, key in zip(self.dataset.session_fields, keys, strict=True) if key is not None}

    @property
    def own_fields(self) -> dict[str, int]:
        """Which record of a list of sessions (or meetings) is its own: field and value, the fewest that say it."""
        if self.dataset is TIMING and self.session_key is not None:
            return {"session_key": self.session_key}
        return self.fields

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
    """Return what a scope prefix stands for; None if it is not spelt as one, or no session can have such keys."""
    try:
        year, meeting_key, session_key = (None if part == "-" else int(part) for part in prefix.split(SEPARATOR))
    except ValueError:
        return None
    if (
        year is None
        or meeting_key is None
        or not is_year(year)
        or not all(map(is_key, (meeting_key, session_key or 0)))
    ):
        return None
    scope = Scope(year, meeting_key, session_key)
    return scope if scope.prefix == prefix else None


def endpoints_of(scope: Scope) -> list[Endpoint]:
    """Return the endpoints of which a session (or a meeting as such) has records."""
    dataset, of_meeting = scope.dataset, scope.session_key is None
    return [
        endpoint
        for endpoint in ALL_ENDPOINTS.values()
        if endpoint.dataset is dataset and endpoint.of_meeting == of_meeting
    ]


def datasets_of(scopes: Iterable[Scope]) -> list[Dataset]:
    """Return the data sets that some sessions (or meetings) are of, in the catalogue's order; `f1_data`'s for none."""
    there = {scope.dataset.name for scope in scopes} or {TIMING.name}
    return [one for one in DATASETS if one.name in there]


def own_endpoint(scope: Scope) -> Endpoint:
    """Return the endpoint of a session's (or meeting's) own record."""
    return ALL_ENDPOINTS[scope.dataset.meetings if scope.session_key is None else scope.dataset.sessions]


def scope_of_key(dataset: Dataset, components: Sequence[str]) -> Scope | None:
    """Return which session (or meeting) a row of a table is of, by the components of its key; None if it is none's."""
    try:
        if dataset is TIMING:
            return parse_scope(SEPARATOR.join([*components[:3], "-"][:3]))
        season = int(components[0])
        number = int(components[1]) if len(components) > 1 and components[1].isdecimal() else None
    except ValueError:
        return None
    scope = season_scope(season) if number is None else race_scope(season, number)
    return scope if components[: len(scope.fields)] == scope.row_prefix.split(SEPARATOR) else None


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
