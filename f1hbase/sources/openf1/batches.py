"""What one request asks for: a unit, a part of one, or a rectangle of neighbouring ones, and whose record is whose.

The records of car and location data come by driver and window. A request can carry several drivers and a longer window,
and the fewer requests there are, the sooner a season is loaded: the API counts requests, not bytes.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any

from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.samples import AS_OPENF1, Row, Samples
from f1hbase.model.units import ALL_TIME, Query, Scope, Unit, Window, parse_time
from f1hbase.sources.http.errors import WrongAnswerError

_AIM = 0.75
"""How much of the budget a request is aimed at: the next minutes may be busier than the last."""

_FIRST_BYTES_PER_SECOND = 700.0
"""What a driver on track makes in a second, in JSON: 633 KB in 15 minutes (DESIGN.md, Facts about the API)."""

_CSV_SHARE = 1 / 2.6
"""The size of a CSV answer beside the same in JSON (DESIGN.md, Facts about the API)."""

_FORGETTING = 0.8
"""How much of an older, higher rate is remembered at each answer."""

_LARGEST_STEP = 2.0
"""How much larger than any answer so far the next may be."""

_RECOVERY = 1.05
"""How much more is tried after each answer again, once something was too much: a server's slow hour ends."""

_DATE = itemgetter(3)
"""The date in a row of `Samples`."""

_FAR_AWAY = timedelta(days=1)
"""How far from its session an open side is followed, an hour at a time, before it is given up."""

_AFTER_THE_END = timedelta(minutes=15)
"""How long samples are expected to go on after a session; 12 minutes have been seen (DESIGN.md, Units)."""


@dataclass(frozen=True, slots=True)
class RequestBatch:
    """What one request asks for.

    Attributes:
        endpoint: The endpoint.
        scope: The session, or the meeting.
        drivers: The drivers; none means all.
        window: The time.
        units: The units that its records belong to, each a part of the rectangle of drivers and window; or the one
            unit that this is a part of.
    """

    endpoint: str
    scope: Scope
    drivers: tuple[int, ...]
    window: Window
    units: tuple[Unit, ...]

    def query(self) -> Query:
        """Return what to ask the API."""
        return Query(self.endpoint, tuple(self._filters()))

    def _filters(self) -> Iterator[str]:
        if self.scope.session_key is None:
            yield f"meeting_key={self.scope.meeting_key}"
        else:
            yield f"session_key={self.scope.session_key}"
        yield from (f"driver_number={driver}" for driver in self.drivers)
        if self.window.start is not None:
            yield f"date>={_api_time(self.window.start)}"
        if self.window.end is not None:
            yield f"date<{_api_time(self.window.end)}"

    @property
    def driver_seconds(self) -> float:
        """How many seconds of how many drivers it covers, in all: what its size goes by."""
        return _seconds(self.window, self.scope) * max(1, len(self.drivers))

    def __str__(self) -> str:
        return str(self.query())


def batch_of(unit: Unit) -> RequestBatch:
    """Return the one request that asks for a unit."""
    drivers = () if unit.driver is None else (unit.driver,)
    return RequestBatch(unit.endpoint, unit.scope, drivers, unit.window, (unit,))


class Sorter:
    """Says which unit of a batch a record belongs to, and refuses records that were not asked for."""

    def __init__(self, batch: RequestBatch) -> None:
        self._parcel = batch
        self._drivers = frozenset(batch.drivers)
        windows = sorted({unit.window for unit in batch.units}, key=lambda w: (w.start is not None, w.start))
        # A part of a unit has a window of its own, narrower than the unit's.
        self._windows = windows if len(batch.units) > 1 else [batch.window]
        self._edges = [window.start for window in self._windows[1:] if window.start is not None]
        self._units = {(unit.driver, unit.window): unit for unit in batch.units}
        self._check_time = batch.window != ALL_TIME
        self._whole = all(
            edge is None or edge.microsecond == 0 for w in self._windows for edge in (w.start, w.end)
        )  # fmt: skip
        self._edge_texts = [_api_time(edge) for edge in self._edges]
        self._start, self._end = (
            None if edge is None else _api_time(edge) for edge in (batch.window.start, batch.window.end)
        )

    def unit(self, driver: Any, date: Any) -> Unit:
        """Return the unit of a record by its driver number and date, either of which may be missing.

        Raises:
            WrongAnswerError: If it is outside of what was asked for.
        """
        if self._drivers and driver is not None and (type(driver) is not int or driver not in self._drivers):
            raise WrongAnswerError(f"the answer holds a record of driver {driver}, who was not asked for")
        if len(self._parcel.units) == 1:
            if self._check_time and not self._inside(date):
                raise WrongAnswerError(f"the answer holds a record of {date}, outside of {self._parcel.window}")
            return self._parcel.units[0]
        if not self._inside(date):
            raise WrongAnswerError(f"the answer holds a record of {date}, outside of {self._parcel.window}")
        by_driver = self._parcel.units[0].driver is not None
        unit = self._units.get((driver if by_driver else None, self._windows[self._index(date)]))
        # A record that says too little to be anybody's still is somebody's: it goes to quarantine.
        return self._parcel.units[0] if unit is None else unit

    def groups(self, rows: Iterable[Row]) -> dict[Unit, list[Row]]:
        """Return the rows of samples by unit.

        Raises:
            WrongAnswerError: If one was not asked for.
        """
        alike: defaultdict[tuple[Row, int], list[Row]] = defaultdict(list)
        for row in rows:
            # Whole seconds compare as text whatever fraction follows.
            index = bisect_right(self._edge_texts, row[3][:19]) if self._whole else self._index(row[3])
            alike[row[:3], index].append(row)
        groups: defaultdict[Unit, list[Row]] = defaultdict(list)
        for ((meeting_key, session_key, driver), _), members in alike.items():
            self.check_scope({"meeting_key": meeting_key, "session_key": session_key})
            # As texts they compare as the times do: all are inside if the first and the last are.
            self.unit(driver, min(members, key=_DATE)[3])
            groups[self.unit(driver, max(members, key=_DATE)[3])] += members
        return groups

    def check_scope(self, record: dict[str, Any]) -> None:
        """Refuse a record of another meeting or session."""
        scope = self._parcel.scope
        for name, wanted in (("meeting_key", scope.meeting_key), ("session_key", scope.session_key)):
            found = record.get(name)
            if found is not None and wanted is not None and found != wanted:
                raise WrongAnswerError(f"the answer holds a record with {name} {found}, not {wanted}")

    def _inside(self, date: Any) -> bool:
        if type(date) is not str:
            return True
        if self._comparable(date):
            # Whole seconds compare as text whatever fraction follows.
            second = date[:19]
            return (self._start is None or second >= self._start) and (self._end is None or second < self._end)
        moment = _moment(date)
        return moment is None or moment in self._parcel.window

    def _index(self, date: Any) -> int:
        if type(date) is not str:
            return 0
        if self._comparable(date):
            return bisect_right(self._edge_texts, date[:19])
        moment = _moment(date)
        return 0 if moment is None else bisect_right(self._edges, moment)

    def _comparable(self, date: str) -> bool:
        return self._whole and AS_OPENF1.fullmatch(date) is not None


def sort_records(batch: RequestBatch, records: Sequence[Any]) -> dict[Unit, Sequence[Any]]:
    """Return the records of each unit of a batch; every unit has an entry.

    Raises:
        WrongAnswerError: If one was not asked for.
    """
    return _sort_samples(batch, records) if isinstance(records, Samples) else _sort_dicts(batch, records)


def _sort_samples(batch: RequestBatch, samples: Samples) -> dict[Unit, Sequence[Any]]:
    groups = Sorter(batch).groups(samples.rows)
    return {unit: Samples(samples.endpoint, groups.get(unit, ())) for unit in batch.units}


def _sort_dicts(batch: RequestBatch, records: Iterable[Any]) -> dict[Unit, Sequence[Any]]:
    sorter = Sorter(batch)
    by_unit: dict[Unit, list[Any]] = {unit: [] for unit in batch.units}
    dated = ENDPOINTS[batch.endpoint].time_field is not None
    for record in records:
        unit = batch.units[0]
        if isinstance(record, dict):
            sorter.check_scope(record)
            unit = sorter.unit(record.get("driver_number"), record.get("date") if dated else None)
        by_unit[unit].append(record)
    return dict(by_unit)


def split(
    batch: RequestBatch, drivers: Sequence[int] = (), least: timedelta = timedelta(seconds=1)
) -> list[RequestBatch]:
    """Cut a batch of one unit, which is too much for one answer, into parts; none if it cannot be cut.

    A dated endpoint is halved in time, down to `least`; an open side is first closed one hour out, and the rest is
    a part of its own. Any other is cut by driver.

    Args:
        batch: What is too much.
        drivers: The drivers of the session, for an endpoint without dates.
        least: The shortest window that a part may have.
    """
    endpoint = ENDPOINTS[batch.endpoint]
    if endpoint.time_field is not None:
        windows = _halves(batch.window, batch.scope, least)
        return [RequestBatch(batch.endpoint, batch.scope, batch.drivers, window, batch.units) for window in windows]
    if endpoint.by_driver and not batch.drivers:
        return [RequestBatch(batch.endpoint, batch.scope, (d,), batch.window, batch.units) for d in drivers]
    return []


def _halves(window: Window, scope: Scope, least: timedelta) -> list[Window]:
    hour = timedelta(hours=1)
    start, end = window.start, window.end
    if start is None or end is None:
        inner_start = start or (end - hour if end else scope.date_start and scope.date_start - hour)
        inner_end = end or (start + hour if start else scope.date_end and scope.date_end + hour)
        if inner_start is None or inner_end is None or inner_end <= inner_start:
            return []
        if _far_away(inner_start, scope.date_start) or _far_away(inner_end, scope.date_end):
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


def _far_away(moment: datetime, session: datetime | None) -> bool:
    """Whether so much cannot be there, so that an API which still finds it too much would find everything so."""
    return session is None or abs(moment - session) > _FAR_AWAY


@dataclass(slots=True)
class Capacity:
    """How much one request for an endpoint may carry, learnt from the answers.

    Args:
        budget: The size that an answer is to stay below, in bytes.
        bytes_per_second: What a driver is taken to make in a second, before any answer has said so.
    """

    budget: float
    bytes_per_second: float
    _largest: float = math.inf  # driver seconds that have been answered at once; unknown at first
    _ceiling: float = math.inf

    @property
    def driver_seconds(self) -> float:
        """How many driver seconds the next request may ask for."""
        return min(_AIM * self.budget / self.bytes_per_second, _LARGEST_STEP * self._largest, self._ceiling)

    def learn(self, driver_seconds: float, size: int) -> None:
        """Take an answer of so many bytes into account."""
        self._largest = driver_seconds if self._largest == math.inf else max(self._largest, driver_seconds)
        self._ceiling *= _RECOVERY
        seen = size / driver_seconds if driver_seconds else 0.0
        # Never zero: a garage is followed by a track.
        self.bytes_per_second = max(seen, _FORGETTING * self.bytes_per_second, 1.0)

    def shrink(self, driver_seconds: float) -> None:
        """Ask for half of what was too large, or too slow for the server."""
        self._ceiling = min(self._ceiling, driver_seconds / 2)


def first_capacity(budget: float, *, as_csv: bool) -> Capacity:
    """Return what is assumed of an endpoint before its first answer."""
    return Capacity(budget, _FIRST_BYTES_PER_SECOND * (_CSV_SHARE if as_csv else 1.0))


class Packer:
    """Cuts the units that are to be fetched into requests, the next one only when it can be sent.

    Args:
        units: What to fetch.
        capacity: Says how many driver seconds a request for an endpoint may carry; None means a unit each.
    """

    def __init__(self, units: Iterable[Unit], capacity: Callable[[str], float | None]) -> None:
        self._units = deque(units)
        self._capacity = capacity

    def __bool__(self) -> bool:
        return bool(self._units)

    def put_back(self, units: Iterable[Unit]) -> None:
        """Let units be cut anew, before all others."""
        self._units.extendleft(reversed(list(units)))

    def take(self) -> RequestBatch:
        """Return the next request; there must be one."""
        capacity = self._capacity(self._units[0].endpoint)
        first = self._units[0]
        if capacity is None or first.driver is None or first.window == ALL_TIME:
            return batch_of(self._units.popleft())
        return self._take_rectangle(first, capacity)

    def remove(self, endpoint: str, scope: Scope) -> list[Unit]:
        """Take away all units of an endpoint and session, and return them."""
        removed = [unit for unit in self._units if (unit.endpoint, unit.scope) == (endpoint, scope)]
        self._units = deque(unit for unit in self._units if (unit.endpoint, unit.scope) != (endpoint, scope))
        return removed

    def _take_rectangle(self, first: Unit, capacity: float) -> RequestBatch:
        """Take as many drivers of the first unit's window as fit, and as many windows more as those have in common."""
        windows = self._neighbours(first)
        drivers = windows[first.window]
        seconds = _seconds(first.window, first.scope)
        chosen = drivers[: max(1, int(capacity // seconds))] if seconds else drivers
        taken = [first.window]
        left = capacity - seconds * len(chosen)
        for window, others in list(windows.items())[1:]:
            size = _seconds(window, first.scope) * len(chosen)
            if (
                len(chosen) < len(drivers)
                or window.start != taken[-1].end
                or size > left
                or not set(chosen) <= set(others)
            ):
                break
            taken.append(window)
            left -= size
        return self._remove(first, chosen, taken)

    def _neighbours(self, first: Unit) -> dict[Window, list[int]]:
        """Return the drivers still to be fetched of each window of the first unit's endpoint and session, in order."""
        windows: dict[Window, list[int]] = defaultdict(list)
        for unit in self._units:
            if unit.endpoint == first.endpoint and unit.scope == first.scope and unit.driver is not None:
                windows[unit.window].append(unit.driver)
        earliest = datetime.min.replace(tzinfo=UTC)
        rest = sorted((w for w in windows if w != first.window), key=lambda w: w.start or earliest)
        end = first.window.end
        later = [w for w in rest if end is not None and w.start is not None and w.start >= end]
        return {window: windows[window] for window in (first.window, *later)}

    def _remove(self, first: Unit, drivers: Sequence[int], windows: Sequence[Window]) -> RequestBatch:
        inside = {(driver, window) for driver in drivers for window in windows}
        taken: list[Unit] = []
        left: deque[Unit] = deque()
        for unit in self._units:
            same = unit.endpoint == first.endpoint and unit.scope == first.scope
            (taken if same and (unit.driver, unit.window) in inside else left).append(unit)
        self._units = left
        window = Window(windows[0].start, windows[-1].end)
        return RequestBatch(first.endpoint, first.scope, tuple(drivers), window, tuple(taken))


def _seconds(window: Window, scope: Scope) -> float:
    """How long a window is; an open side ends where samples are expected to."""
    start, end = window.start, window.end
    if start is None:
        start = scope.date_start
    if end is None and scope.date_end is not None:
        end = scope.date_end + _AFTER_THE_END
    if start is None or end is None or end <= start:
        # Outside of the session there may be samples all the same.
        return _AFTER_THE_END.total_seconds()
    return (end - start).total_seconds()


def _moment(date: str) -> datetime | None:
    try:
        return parse_time(date)
    except ValueError:
        return None


def _api_time(moment: datetime) -> str:
    # Without a zone the API takes UTC; the '+' of a zone would have to survive as %2B on the way.
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat()
