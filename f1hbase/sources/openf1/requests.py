"""What one request asks for: a unit, a part of one, or one of each of several sessions; and whose record is whose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from f1hbase.model.answers import Records
from f1hbase.model.catalog import ENDPOINTS, Endpoint
from f1hbase.model.samples import AS_OPENF1, Samples
from f1hbase.model.times import lenient_time
from f1hbase.model.units import ALL_TIME, Scope, Unit, Window
from f1hbase.sources.http.errors import WrongAnswerError
from f1hbase.sources.openf1.query import Query, api_time

_FAR_AWAY = timedelta(days=1)
"""How far from its session an open side is followed, an hour at a time, before it is given up."""

_OPEN_EDGES = (50, 100, 1_000)
"""Where a range of driver numbers that is open at its top is cut: Formula 1's numbers go up to 99, and those of safety
cars up to some hundreds. All from the last one on are one range."""


@dataclass(frozen=True, slots=True)
class DriverRange:
    """The drivers from one number up to another, not included; None is open."""

    low: int | None = None
    high: int | None = None

    def __contains__(self, driver: int) -> bool:
        return (self.low is None or driver >= self.low) and (self.high is None or driver < self.high)

    def filters(self) -> Iterator[str]:
        """Yield the filters that ask for them."""
        if self.low is not None:
            yield f"driver_number>={self.low}"
        if self.high is not None:
            yield f"driver_number<{self.high}"

    def halves(self) -> list[DriverRange]:
        """Return two ranges that together are this one; none where it has one number or cannot be halved."""
        low = self.low or 0
        if self.high is None:
            middle = next((edge for edge in _OPEN_EDGES if edge > low), low)
        else:
            middle = (low + self.high) // 2
        if middle == low:
            return []
        return [DriverRange(self.low, middle), DriverRange(middle, self.high)]


EVERYBODY = DriverRange()


@dataclass(frozen=True, slots=True)
class RequestBatch:
    """What one request asks for.

    Attributes:
        units: The units that its records belong to: one, or one of each of several sessions, of the same endpoint and
            driver.
        window: The time; the units' own, or a part of it.
        drivers: With one unit, the part of its drivers.
        is_part: Whether other requests bring the rest of the unit.
        retry_slow: Whether it is sent again when the server finds it too slow: not if it is a part of one that was.
    """

    units: tuple[Unit, ...]
    window: Window = ALL_TIME
    drivers: DriverRange = EVERYBODY
    is_part: bool = False
    retry_slow: bool = True

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint."""
        return ENDPOINTS[self.units[0].endpoint]

    @property
    def scope(self) -> Scope:
        """The session, or the first of them."""
        return self.units[0].scope

    def query(self) -> Query:
        """Return what to ask the API."""
        return Query(self.endpoint.name, tuple(self._filters()))

    def _filters(self) -> Iterator[str]:
        for unit in self.units:
            if unit.scope.session_key is None:
                yield f"meeting_key={unit.scope.meeting_key}"
            else:
                yield f"session_key={unit.scope.session_key}"
        if self.units[0].driver is not None:
            yield f"driver_number={self.units[0].driver}"
        yield from self.drivers.filters()
        if self.window.start is not None:
            yield f"date>={api_time(self.window.start)}"
        if self.window.end is not None:
            yield f"date<{api_time(self.window.end)}"

    def __str__(self) -> str:
        return str(self.query())


def batch_of(unit: Unit) -> RequestBatch:
    """Return the one request that asks for a unit."""
    return RequestBatch((unit,), unit.window)


class _Inside:
    """Says whether dates are inside a window; as text where they are spelt as OpenF1 does, which is faster."""

    def __init__(self, window: Window) -> None:
        self._window = window
        edges = [edge for edge in (window.start, window.end) if edge is not None]
        self._whole = all(edge.microsecond == 0 for edge in edges)
        self._start, self._end = (None if edge is None else api_time(edge) for edge in (window.start, window.end))

    def __call__(self, date: Any) -> bool:
        if type(date) is not str or self._window == ALL_TIME:
            return True
        if self._whole and AS_OPENF1.fullmatch(date):
            # Whole seconds compare as text whatever fraction follows.
            second = date[:19]
            return (self._start is None or second >= self._start) and (self._end is None or second < self._end)
        moment = lenient_time(date)
        return moment is None or moment in self._window


class Checked:
    """The records of an answer to a batch of one unit; raises as soon as one comes that was not asked for.

    Args:
        batch: What was asked.
        records: What came.
    """

    def __init__(self, batch: RequestBatch, records: Records) -> None:
        self._batch = batch
        self._records = records
        self._inside = _Inside(batch.window)

    def __iter__(self) -> Iterator[Samples | Sequence[Any]]:
        for some in self._records:
            if isinstance(some, Samples):
                self._check_samples(some)
            else:
                for record in some:
                    if isinstance(record, dict):
                        self.check(record)
            yield some

    def check(self, record: dict[str, Any]) -> None:
        """Refuse a record that was not asked for.

        Raises:
            WrongAnswerError: Naming what of it is wrong.
        """
        check_scope(self._batch.scope, record)
        if self._batch.endpoint.by_driver:
            self._check_driver(record.get("driver_number"))
        if self._batch.endpoint.time_field is not None:
            self._check_date(record.get("date"))

    def _check_samples(self, samples: Samples) -> None:
        *places, dates = samples.keys
        for meeting_key, session_key, driver in set(zip(*places, strict=True)):
            check_scope(self._batch.scope, {"meeting_key": meeting_key, "session_key": session_key})
            self._check_driver(driver)
        if dates and self._batch.window != ALL_TIME:
            # Dates of samples are spelt alike, and compare as text as the times do: all are inside if these are.
            self._check_date(min(dates))
            self._check_date(max(dates))

    def _check_driver(self, driver: Any) -> None:
        asked = self._batch.units[0].driver
        if type(driver) is int and ((asked is not None and driver != asked) or driver not in self._batch.drivers):
            raise WrongAnswerError(f"the answer holds a record of driver {driver}, who was not asked for")

    def _check_date(self, date: Any) -> None:
        if not self._inside(date):
            raise WrongAnswerError(f"the answer holds a record of {date}, outside of {self._batch.window}")


def share_out(batch: RequestBatch, records: Records) -> dict[Unit, list[Any]]:
    """Return the records of each unit of a batch of several sessions; every unit has an entry.

    Raises:
        WrongAnswerError: If one was not asked for.
    """
    by_session = {unit.scope.session_key: unit for unit in batch.units}
    shares: dict[Unit, list[Any]] = {unit: [] for unit in batch.units}
    for some in records:
        for record in some:
            unit = batch.units[0]  # a record that does not say whose it is goes to quarantine there
            key = record.get("session_key") if isinstance(record, dict) else None
            if type(key) is int:
                if key not in by_session:
                    raise WrongAnswerError(f"the answer holds a record with session_key {key}, which was not asked for")
                unit = by_session[key]
                Checked(replace(batch, units=(unit,)), ()).check(record)
            shares[unit].append(record)
    return shares


def check_scope(scope: Scope, record: dict[str, Any]) -> None:
    """Refuse a record of another meeting or session.

    Raises:
        WrongAnswerError: Naming the key.
    """
    for name, wanted in (("meeting_key", scope.meeting_key), ("session_key", scope.session_key)):
        found = record.get(name)
        if type(found) is int and wanted is not None and found != wanted:
            raise WrongAnswerError(f"the answer holds a record with {name} {found}, not {wanted}")


def split(
    batch: RequestBatch, least: timedelta = timedelta(seconds=1), far: timedelta = _FAR_AWAY
) -> list[RequestBatch]:
    """Cut a request that is too much for one answer into parts that together are the same; none if it cannot be cut.

    Several sessions are asked for one by one. A dated endpoint is halved in time, each half a unit of its own; an open
    side is first closed one hour out, and the rest stays open as one more. Any other is halved by ranges of driver
    numbers, which are parts of the one unit; a range open at its top is asked as one.

    Args:
        batch: What is too much.
        least: The shortest window that a part may have.
        far: How far from its session an open side is closed before it is given up.
    """
    if len(batch.units) > 1:
        return [batch_of(unit) for unit in batch.units]
    (unit,) = batch.units
    if batch.endpoint.time_field is not None:
        windows = _halves(batch.window, batch.scope, least, far)
        return [replace(batch, units=(replace(unit, window=window),), window=window) for window in windows]
    if batch.endpoint.by_driver and unit.driver is None:
        return [replace(batch, drivers=part, is_part=True) for part in batch.drivers.halves()]
    return []


def _halves(window: Window, scope: Scope, least: timedelta, far: timedelta) -> list[Window]:
    hour = timedelta(hours=1)
    start, end = window.start, window.end
    if start is None or end is None:
        inner_start = start or (end - hour if end else scope.date_start and scope.date_start - hour)
        inner_end = end or (start + hour if start else scope.date_end and scope.date_end + hour)
        if inner_start is None or inner_end is None or inner_end <= inner_start:
            return []
        if _far_away(inner_start, scope.date_start, far) or _far_away(inner_end, scope.date_end, far):
            return []
        parts = [Window(inner_start, inner_end)]
        if start is None:
            parts.insert(0, Window(None, inner_start))
        if end is None:
            parts.append(Window(inner_end, None))
        return parts
    half = timedelta(seconds=(end - start) // timedelta(seconds=2))
    if half < least:
        return []
    return [Window(start, start + half), Window(start + half, end)]


def _far_away(moment: datetime, session: datetime | None, far: timedelta) -> bool:
    """Return whether so much cannot be there, so that an API which still finds it too much would find everything so."""
    return session is None or abs(moment - session) > far
