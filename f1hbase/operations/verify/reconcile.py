"""Holds what units say against what is counted, endpoint by endpoint. Reads nothing itself and knows no store.

What is expected is a range: one unit, or a span of time that was asked for and that no unit speaks of. For each driver
a timeline says which unit speaks for a moment (`model.precedence`), so each record is counted once, as it streams by,
and memory goes by the number of units, not of records.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from f1hbase.model.catalog import Endpoint
from f1hbase.model.outcomes import CHECKSUM_MODULUS, STORED, Status, UnitState
from f1hbase.model.precedence import Timeline, precedence
from f1hbase.model.text import count
from f1hbase.model.times import LONG_AGO, parse_time
from f1hbase.model.units import ALL_TIME, Scope, Window
from f1hbase.operations.requested import RequestedScope
from f1hbase.operations.verify.differences import Difference, Kind
from f1hbase.operations.verify.expected import coverage, expected_drivers, never_loaded

GAP = timedelta(seconds=5)
"""Car data and locations come about four times a second; a time without them that is longer than this is reported."""

_LONGEST_GAPS = 10


class Standing(StrEnum):
    """What has become of a unit since it was stored."""

    LAST = "last"
    """Nothing of it was fetched again: its records must be there, and no others in their place."""
    CUT = "cut"
    """Some of it was fetched again: how many of its records are still its own, nothing says."""
    GONE = "gone"
    """All of it was fetched again: other units speak for its records."""


@dataclass(slots=True, eq=False)
class ExpectedRange:
    """A span of an endpoint's records in one session, and what is counted there.

    Attributes:
        driver: The driver; None for all.
        window: The time.
        state: The unit that speaks of it; None where there is none of what was asked for.
        standing: What has become of it since.
        rows: How many records are its own.
        checksum: The sum of their checksums, if contents were read; not yet reduced.
    """

    driver: int | None
    window: Window
    state: UnitState | None = None
    standing: Standing = Standing.LAST
    rows: int = 0
    checksum: int = 0

    @property
    def is_stored(self) -> bool:
        """Whether a unit that is stored speaks of it."""
        return self.state is not None and self.state.status in STORED

    @property
    def is_compared(self) -> bool:
        """Whether the unit's numbers must be those of what is there."""
        return self.is_stored and self.standing is Standing.LAST

    @property
    def reported(self) -> int:
        """How many records its unit says there are."""
        return 0 if self.state is None else int(self.state.stats.get("rows", 0))


@dataclass(frozen=True, slots=True, order=True)
class Gap:
    """A time in which a driver has no sample: how long it lasts, and the last sample before it."""

    seconds: float
    driver: int
    after: datetime


@dataclass(slots=True)
class Stray:
    """Records that no unit speaks of: how many, and the first one's key."""

    example: bytes
    rows: int = 0

    def __str__(self) -> str:
        return f"{count(self.rows, 'row')}, such as {self.example.decode(errors='backslashreplace')}"


@dataclass(frozen=True, slots=True)
class Tally:
    """What was counted of an endpoint in one session, by another process; see `Reconciliation`.

    Attributes:
        ranges: The rows and the checksum of each range, in their order.
        strays: As of the reconciliation, and so are the others.
    """

    ranges: Sequence[tuple[int, int]]
    strays: dict[int | None, Stray]
    gaps: int
    longest_gaps: list[Gap]


class Reconciliation:
    """What is expected of one endpoint of one session (or meeting), and what is counted of it.

    An auditor either passes each record to `count`, or, where records are kept by unit, adds to `rows` and `checksum`
    of the ranges itself. A copy in another process may count instead, whose `tally` is taken by `take`.

    Args:
        endpoint: The endpoint.
        scope: The session, or the meeting.
        states: The units known of the scope, those of other endpoints included.
        requested: What the runs asked for.

    Attributes:
        ranges: What is expected, in order of precedence.
        strays: Records that no unit speaks of, by driver.
        gaps: How many times without a sample there were.
        longest_gaps: Some of them, the longest.
    """

    def __init__(
        self, endpoint: Endpoint, scope: Scope, states: Sequence[UnitState], requested: Sequence[RequestedScope]
    ) -> None:
        self.endpoint = endpoint
        self.scope = scope
        self.strays: dict[int | None, Stray] = {}
        self.gaps = 0
        self.longest_gaps: list[Gap] = []
        expected = expected_drivers(endpoint, scope, states, requested)
        mine = sorted((state for state in states if state.endpoint == endpoint.name), key=precedence, reverse=True)
        self.ranges = [ExpectedRange(state.driver, state.window, state) for state in mine]
        self.ranges += [ExpectedRange(*missing) for missing in never_loaded(endpoint, scope, states, expected)]
        # Earlier versions asked for the drivers of every session, and a failure of that may have done no harm.
        self._is_excused = endpoint.name == "drivers" and not expected and coverage(scope, states).knows_drivers
        drivers: set[int | None] = {None, *(one.driver for one in self.ranges)}
        self._timelines = {
            driver: Timeline((one.window, one) for one in self.ranges if one.driver in (None, driver))
            for driver in drivers
        }
        self._settle()
        self._driver: int | None = None
        self._timeline = self._timelines[None]
        self._last: datetime | None = None

    @property
    def rows(self) -> int:
        """How many records were counted."""
        return sum(one.rows for one in self.ranges) + sum(stray.rows for stray in self.strays.values())

    @property
    def reported(self) -> int:
        """How many records the units say there are, without those that were fetched again since."""
        return sum(one.reported for one in self.ranges if one.is_stored and one.standing is not Standing.GONE)

    @property
    def is_exact(self) -> bool:
        """Whether there must be `reported` records: every unit is stored, none was cut by a later one."""
        return all(one.is_compared or one.standing is Standing.GONE for one in self.ranges)

    @property
    def units(self) -> Counter[str]:
        """How many units there are of each status, and how many were not compared as later ones overlap them."""
        counts: Counter[str] = Counter()
        for one in self.ranges:
            if one.state is not None and one.standing is not Standing.GONE:
                counts[one.state.status.value] += 1
                counts["unchecked"] += one.is_stored and one.standing is Standing.CUT
        return +counts

    def turn_to(self, driver: int | None) -> None:
        """Say whose records are counted from now on; None for those of no driver."""
        self._driver = driver
        self._timeline = self._timelines.get(driver, self._timelines[None])
        self._last = None

    def count(self, date: str, key: bytes, checksum: int | None = None) -> None:
        """Count one record of the driver last turned to.

        Args:
            date: The time that orders the records, as it is spelt; empty for an endpoint without one. The samples of a
                driver come in order of time.
            key: What names the record, for examples.
            checksum: The record's checksum, where contents are compared as well.
        """
        owner = self._owner(date)
        if owner is None or owner.standing is Standing.GONE:
            self.strays.setdefault(self._driver, Stray(key)).rows += 1
            return
        owner.rows += 1
        if checksum is not None:
            owner.checksum += checksum

    def tally(self) -> Tally:
        """Return what was counted."""
        return Tally([(one.rows, one.checksum) for one in self.ranges], self.strays, self.gaps, self.longest_gaps)

    def take(self, tally: Tally) -> None:
        """Take what a copy of this has counted; nothing was counted here."""
        for one, (rows, checksum) in zip(self.ranges, tally.ranges, strict=True):
            one.rows, one.checksum = rows, checksum
        self.strays, self.gaps, self.longest_gaps = tally.strays, tally.gaps, tally.longest_gaps

    def differences(self, *, counted: bool = True, deep: bool = False) -> Iterator[Difference]:
        """Yield what is wrong.

        Args:
            counted: Whether the records were counted; otherwise only what the units themselves say.
            deep: Whether contents were read.
        """
        never: dict[Window, list[ExpectedRange]] = {}
        for one in sorted(self.ranges, key=_place):
            if one.standing is Standing.GONE:
                continue
            if one.state is None:
                never.setdefault(one.window, []).append(one)
            elif not one.is_stored:
                yield from self._not_stored(one, one.state, counted=counted)
            elif one.is_compared and counted:
                yield from self._compare(one, one.state, deep=deep)
        for window, ranges in never.items():
            yield self._never_loaded(window, ranges, counted=counted)
        if self.strays:
            stray = Stray(next(iter(self.strays.values())).example, sum(stray.rows for stray in self.strays.values()))
            detail = f"no unit of the reports speaks of {stray}"
            yield self._difference(Kind.STRAY, detail, self.strays, expected=0, found=stray.rows)

    def _settle(self) -> None:
        """Find out what has become of each unit; a unit of all drivers also has those without a unit of their own."""
        everyone = list(self._timelines.values())
        for one in self.ranges:
            if one.state is None:
                continue
            where = everyone if one.driver is None else [self._timelines[one.driver]]
            shares = [timeline.windows_of(one) for timeline in where]
            if not any(shares):
                one.standing = Standing.GONE
            elif any(share != [one.window] for share in shares):
                one.standing = Standing.CUT

    def _owner(self, date: str) -> ExpectedRange | None:
        timeline, sampled = self._timeline, self.endpoint.sampled
        if not (timeline.edges or sampled):
            return timeline.owners[0]
        try:
            moment = parse_time(date)
        except (ValueError, OverflowError):
            return None
        if sampled:
            if self._last is not None and moment - self._last > GAP:
                self._note_gap(moment - self._last, self._last)
            self._last = moment
        return timeline.owner_at(moment)

    def _note_gap(self, length: timedelta, after: datetime) -> None:
        self.gaps += 1
        gap = Gap(length.total_seconds(), self._driver or 0, after)
        add: Callable[[list[Gap], Gap], object] = (
            heapq.heappush if len(self.longest_gaps) < _LONGEST_GAPS else heapq.heappushpop
        )
        add(self.longest_gaps, gap)

    def _not_stored(self, one: ExpectedRange, state: UnitState, *, counted: bool) -> Iterator[Difference]:
        there = f"; {count(one.rows, 'row')} of it stored" if counted else ""
        if state.status is Status.FAILED:
            if not self._is_excused:
                detail = f"failed: {state.error or 'no reason known'}{there}"
                yield self._difference(Kind.FAILED, detail, (one.driver,), one.window, found=one.rows)
        else:
            detail = f"fetched while it was still going on, and not again since{there}"
            yield self._difference(Kind.PARTIAL, detail, (one.driver,), one.window, found=one.rows)

    def _compare(self, one: ExpectedRange, state: UnitState, *, deep: bool) -> Iterator[Difference]:
        expected, found = one.reported, one.rows
        if found < expected:
            lost = expected - found
            verb = "is" if lost == 1 else "are"
            kind, detail = Kind.MISSING_ROWS, f"{lost:,} of {count(expected, 'row')} {verb} missing"
        elif found > expected:
            more = count(found - expected, "row")
            kind, detail = Kind.EXTRA_ROWS, f"{more} too many: {found:,} where the reports say {expected:,}"
        elif deep and state.checksum is not None and one.checksum % CHECKSUM_MODULUS != state.checksum:
            kind, detail = Kind.CELLS, f"the cells of its {count(found, 'row')} are not those that were stored"
        else:
            return
        yield self._difference(kind, detail, (one.driver,), one.window, expected=expected, found=found)

    def _never_loaded(self, window: Window, ranges: Sequence[ExpectedRange], *, counted: bool) -> Difference:
        rows = sum(one.rows for one in ranges)
        detail = "never loaded"
        if counted and rows:
            detail = f"no report that it was loaded, but {count(rows, 'row')} of it stored"
        return self._difference(Kind.NEVER, detail, [one.driver for one in ranges], window, found=rows)

    def _difference(
        self,
        kind: Kind,
        detail: str,
        drivers: Iterable[int | None],
        window: Window = ALL_TIME,
        expected: int | None = None,
        found: int | None = None,
    ) -> Difference:
        numbers = tuple(driver for driver in drivers if driver is not None)
        return Difference(kind, detail, self.scope, self.endpoint.name, numbers, window, expected, found)


def _place(one: ExpectedRange) -> tuple[int, datetime]:
    return -1 if one.driver is None else one.driver, one.window.start or LONG_AGO
