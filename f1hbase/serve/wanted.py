"""What a query asks of a store that keeps records by session, driver and time; knows no store.

What is said here of drivers and times becomes ranges of keys or stored units; only the rest is looked for in the
records.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from f1hbase.model.catalog import Endpoint
from f1hbase.model.units import ALL_TIME, Scope, Window
from f1hbase.serve.blocks import holds
from f1hbase.serve.query import Condition, Filter

FAR_FROM_SESSION = timedelta(days=7)
"""A record whose date is further from its session's start and end than this is not looked for by its date alone."""

_MOST_WINDOWS = 16
_MOST_DRIVERS = 64
"""With more windows or drivers than these, all between the first and the last are read, and the rest filtered out."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The records of one endpoint that a query asks for.

    Attributes:
        endpoint: The endpoint.
        conditions: All conditions on fields.
        windows: The times in which the records are, apart and in order; none is all time.
        drivers: The driver numbers; None for any, or where a condition has to be asked about each.
    """

    endpoint: Endpoint
    conditions: Mapping[str, Condition]
    windows: tuple[Window, ...] = (ALL_TIME,)
    drivers: tuple[int, ...] | None = None

    @property
    def rest(self) -> dict[str, Condition]:
        """The conditions that neither sessions nor drivers nor windows speak for."""
        spoken_for = {"meeting_key", "session_key"}
        if self.endpoint.by_driver:
            spoken_for.add("driver_number")
        if self.endpoint.time_field == "date" and self.conditions.get("date") is not None and self._is_exact:
            spoken_for.add("date")
        return {name: condition for name, condition in self.conditions.items() if name not in spoken_for}

    @property
    def _is_exact(self) -> bool:
        return len(_spans(self.conditions["date"])) <= _MOST_WINDOWS

    @property
    def hull(self) -> Window:
        """One window that has all of them in it."""
        return Window(self.windows[0].start, self.windows[-1].end) if self.windows else ALL_TIME

    def wants_driver(self, number: int) -> bool:
        """Tell whether records of a driver are wanted."""
        condition = self.conditions.get("driver_number")
        return condition is None or holds(condition, number)

    def wants_session(self, scope: Scope) -> bool:
        """Tell whether a session may have wanted records: by its keys, and where a time is named, by when it was."""
        for name, key in (("meeting_key", scope.meeting_key), ("session_key", scope.session_key)):
            condition = self.conditions.get(name)
            if condition is not None and not holds(condition, key):
                return False
        if scope.date_start is None or self.windows == (ALL_TIME,):
            return True
        end = scope.over_at or scope.date_start
        try:
            near = Window(scope.date_start - FAR_FROM_SESSION, end + FAR_FROM_SESSION)
        except OverflowError:
            return True
        return any(window.overlaps(near) for window in self.windows)


def wanted(endpoint: Endpoint, conditions: Mapping[str, Condition]) -> Wanted:
    """Return what conditions ask of an endpoint; one without windows asks for nothing."""
    windows: tuple[Window, ...] = (ALL_TIME,)
    if endpoint.time_field == "date" and (date := conditions.get("date")) is not None:
        spans = _spans(date)
        if len(spans) > _MOST_WINDOWS:
            spans = [(spans[0][0], spans[-1][1])]
        windows = tuple(Window(_moment(begin), _moment(end)) for begin, end in spans)
    drivers = None
    if endpoint.by_driver and (driver := conditions.get("driver_number")) is not None:
        numbers = driver.numbers
        if numbers is not None and len(numbers) <= _MOST_DRIVERS:
            drivers = tuple(sorted(int(one) for one in numbers if math.isfinite(one) and one == int(one)))
    return Wanted(endpoint, conditions, windows, drivers)


def _spans(condition: Condition) -> Sequence[tuple[int, int]]:
    """Return the times that fulfil a condition on a date: half-open, in microseconds since 1970, apart and in order."""
    found = sorted(
        (begin, end) for begin, end in (_span(alternative) for alternative in condition.alternatives) if begin < end
    )
    apart: list[tuple[int, int]] = []
    for begin, end in found:
        if apart and begin <= apart[-1][1]:
            apart[-1] = (apart[-1][0], max(apart[-1][1], end))
        else:
            apart.append((begin, end))
    return apart


def _span(filters: Iterable[Filter]) -> tuple[int, int]:
    first, last = -_LAST, _LAST
    for one in filters:
        if one.span is None:  # a number or a text is no date
            return 0, 0
        begin, end = one.span
        if one.op in {">=", "="}:
            first = max(first, begin)
        if one.op == ">":
            first = max(first, end)
        if one.op == "<":
            last = min(last, begin)
        if one.op in {"<=", "="}:
            last = min(last, end)
    return first, last


def _moment(microseconds: int) -> datetime | None:
    """Return a time; None for what stands for no bound, or lies beyond the calendar."""
    if abs(microseconds) >= _LAST:
        return None
    try:
        return _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        return None
