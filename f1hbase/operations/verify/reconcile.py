"""What the reports claim of the table, and whether what is counted there bears it out. Reads nothing itself.

A claim is one unit of the reports, or a stretch of time that was asked for and that no unit speaks of. For each driver
a timeline says whose rows those of a moment are: those of the unit that was fetched last. So each row is counted once,
as it streams by, and what is kept in memory goes by the number of units, not of rows.
"""

from __future__ import annotations

import heapq
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from f1hbase.model.catalog import Endpoint, KeyHash, KeyInt, KeyText, KeyWord, Slicing
from f1hbase.model.coverage import Status, UnitState, subtract
from f1hbase.model.units import ALL_TIME, CHECKSUM_MODULUS, Scope, Unit, Window, parse_time
from f1hbase.operations.verify.scope import RequestedScope, coverage, expected_drivers, known_drivers
from f1hbase.stores.hbase.codec import SEPARATOR, Row, checksum

GAP = timedelta(seconds=5)
"""Car data and locations come about four times a second; what lies further apart than this is worth a word."""

_LONGEST_GAPS = 10
_HASH = SEPARATOR.encode()

_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_DONE = (Status.DONE, Status.PROVISIONAL)
_DIGEST = re.compile("[0-9a-f]{8}")


class Standing(StrEnum):
    """What has become of a unit since it was stored."""

    LAST = "last"
    """Nothing of it was fetched again: the table must hold its rows, and no others in its place."""
    CUT = "cut"
    """Some of it was fetched again: how many of its rows are still its own, nobody wrote down."""
    GONE = "gone"
    """All of it was fetched again: others speak for its rows."""


@dataclass(slots=True, eq=False)
class ExpectedRange:
    """A stretch of an endpoint's rows in one session, and what is counted there.

    Attributes:
        driver: The driver; None for all.
        window: The time.
        state: The unit that speaks of it; None where the reports say nothing of what was asked for.
        standing: What has become of it since.
        rows: How many rows of the table are its own.
        checksum: The sum of their checksums, if cells were read; not yet reduced.
    """

    driver: int | None
    window: Window
    state: UnitState | None = None
    standing: Standing = Standing.LAST
    rows: int = 0
    checksum: int = 0

    @property
    def is_done(self) -> bool:
        """Whether a unit that is stored speaks of it."""
        return self.state is not None and self.state.status in _DONE

    @property
    def is_compared(self) -> bool:
        """Whether the unit's numbers must be those of the table."""
        return self.is_done and self.standing is Standing.LAST

    @property
    def reported(self) -> int:
        """How many rows the reports say it has."""
        return 0 if self.state is None else int(self.state.stats.get("rows", 0))


class Kind(StrEnum):
    """What can be wrong."""

    MISSING_ROWS = "missing rows"
    EXTRA_ROWS = "extra rows"
    CELLS = "cells"
    FAILED = "failed"
    PARTIAL = "partial"
    NEVER = "never loaded"
    STRAY = "unreported rows"
    KEYS = "foreign keys"
    NOTHING = "nothing loaded"
    API = "other than the API"
    ROW_COUNTER = "row counter"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it should be.

    Attributes:
        scope: The session, or the meeting; None for what is of the whole table.
        endpoint: The endpoint, where it is one's.
        drivers: The drivers; none means all.
        expected: How many rows there should be, where that is known.
        found: How many there are.
        detail: What is wrong, for people, to follow the name of the place.
        examples: Some of the rows concerned, for people.
    """

    kind: Kind
    detail: str
    scope: Scope | None = None
    endpoint: str | None = None
    drivers: tuple[int, ...] = ()
    window: Window = ALL_TIME
    expected: int | None = None
    found: int | None = None
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self._place()}: {self.detail}"

    def _place(self) -> str:
        if self.scope is None:
            return "the whole table"
        if self.endpoint is None:
            return str(Unit("", self.scope)).strip()
        if len(self.drivers) <= 1:
            return str(Unit(self.endpoint, self.scope, next(iter(self.drivers), None), self.window))
        window = "" if self.window == ALL_TIME else f" {self.window}"
        return f"{Unit(self.endpoint, self.scope)} drivers {', '.join(map(str, self.drivers))}{window}"


@dataclass(frozen=True, slots=True, order=True)
class Gap:
    """A time in which a driver has no sample: how long it lasts, and the last sample before it."""

    seconds: float
    driver: int
    after: datetime


@dataclass(slots=True)
class Stray:
    """Rows that nobody speaks of: how many, and the first one's key."""

    example: bytes
    rows: int = 0

    def __str__(self) -> str:
        return f"{_rows(self.rows)}, such as {self.example.decode(errors='backslashreplace')}"


class Reconciliation:
    """What the reports claim of one endpoint of one session (or meeting), and what is counted of it.

    Args:
        endpoint: The endpoint.
        scope: The session, or the meeting.
        states: The units known of the scope, those of other endpoints included.
        asked: What the runs asked for.
    """

    def __init__(
        self, endpoint: Endpoint, scope: Scope, states: Sequence[UnitState], asked: Iterable[RequestedScope]
    ) -> None:
        self.endpoint = endpoint
        self.scope = scope
        self.strays: dict[int | None, Stray] = {}
        self.gaps = 0
        self.longest_gaps: list[Gap] = []
        expected = expected_drivers(endpoint, scope, states, asked)
        mine = sorted((state for state in states if state.endpoint == endpoint.name), key=_precedence, reverse=True)
        reported = [ExpectedRange(state.driver, state.window, state) for state in mine]
        self.claims = [*reported, *_never(reported, expected)]
        # The drivers endpoint may be asked only to find out who drove, and a failure of that be made good elsewhere.
        by_the_way = endpoint.name == "drivers" and not expected
        self._is_excused = by_the_way and coverage(scope, states).knows_all_drivers
        drivers: list[int | None] = [None, *sorted({c.driver for c in self.claims if c.driver is not None})]
        self._timelines = {
            driver: _Timeline([claim for claim in self.claims if claim.driver in (None, driver)]) for driver in drivers
        }
        by_windows = endpoint.slicing is Slicing.WINDOWS
        # Units of all drivers are also those of drivers without a unit of their own; but windows are loaded for each
        # driver as soon as any is known.
        self._settle([*known_drivers(scope, states)] if by_windows else [])
        self._shape = _KeyShape(endpoint)
        self._wants_gaps = by_windows
        self._driver_text: str | None = None
        self._driver: int | None = None
        self._timeline = self._timelines[None]
        self._last: datetime | None = None

    @property
    def rows(self) -> int:
        """How many rows were counted."""
        return sum(claim.rows for claim in self.claims) + sum(stray.rows for stray in self.strays.values())

    @property
    def reported(self) -> int:
        """How many rows the reports say there are, without those that were fetched again since."""
        return sum(claim.reported for claim in self.claims if claim.is_done and claim.standing is not Standing.GONE)

    @property
    def is_exact(self) -> bool:
        """Whether `reported` is what the table must hold: every unit is stored, none was cut by a later one."""
        return all(claim.is_compared or claim.standing is Standing.GONE for claim in self.claims)

    @property
    def units(self) -> Counter[str]:
        """How many units there are of each status, and how many were not compared as later ones overlap them."""
        counts: Counter[str] = Counter()
        for claim in self.claims:
            if claim.state is not None and claim.standing is not Standing.GONE:
                counts[claim.state.status.value] += 1
                counts["unchecked"] += claim.is_done and claim.standing is Standing.CUT
        return +counts

    def count(self, components: Sequence[str], key: bytes, cells: Mapping[bytes, bytes] | None) -> bool:
        """Count one row, and return whether its key is one of this endpoint's.

        Args:
            components: What follows the session in the row key.
            key: The whole of the row key.
            cells: The row's cells of the endpoint's family, to compare them as well.
        """
        shape = self._shape
        if not shape.fits(components):
            return False
        if shape.driver is not None and components[shape.driver] != self._driver_text:
            self._turn_to(components[shape.driver])
        self.count_next("" if shape.date is None else components[shape.date], key, cells)
        return True

    def count_next(self, date: str, key: bytes, cells: Mapping[bytes, bytes] | None) -> None:
        """Count one row of the same driver as the last one, whose key is known to be one of this endpoint's."""
        owner = self._owner(date)
        if owner is None or owner.standing is Standing.GONE:
            self.strays.setdefault(self._driver, Stray(key)).rows += 1
            return
        owner.rows += 1
        if cells is not None:
            owner.checksum += checksum(Row(key, dict(cells)))

    @property
    def has_samples(self) -> bool:
        """Whether its keys are a driver and a date, so that a driver's rows follow each other in order of time."""
        return (self._shape.driver, self._shape.date) == (0, 1) and len(self.endpoint.key) == 2

    def differences(self, *, counted: bool = True, deep: bool = False) -> Iterator[Difference]:
        """Yield what is wrong.

        Args:
            counted: Whether the rows were counted; otherwise only what the reports themselves say.
            deep: Whether the cells were read.
        """
        never: dict[Window, list[ExpectedRange]] = {}
        for claim in sorted(self.claims, key=_place):
            if claim.standing is Standing.GONE:
                continue
            if claim.state is None:
                never.setdefault(claim.window, []).append(claim)
            elif not claim.is_done:
                yield from self._not_done(claim, claim.state, counted=counted)
            elif claim.is_compared and counted:
                yield from self._compare(claim, claim.state, deep=deep)
        for window, claims in never.items():
            yield self._never_loaded(window, claims, counted=counted)
        if self.strays:
            stray = Stray(next(iter(self.strays.values())).example, sum(stray.rows for stray in self.strays.values()))
            detail = f"no unit of the reports speaks of {stray}"
            yield self._difference(Kind.STRAY, detail, self.strays, expected=0, found=stray.rows)

    def _turn_to(self, text: str) -> None:
        self._driver_text = text
        self._driver = int(text)
        self._timeline = self._timelines.get(self._driver, self._timelines[None])
        self._last = None

    def _owner(self, date: str) -> ExpectedRange | None:
        timeline = self._timeline
        if not (timeline.edges or self._wants_gaps):
            return timeline.owners[0]
        try:
            moment = parse_time(date)
        except (ValueError, OverflowError):
            return None
        if self._wants_gaps:
            if self._last is not None and moment - self._last > GAP:
                self._note_gap(moment - self._last, self._last)
            self._last = moment
        return timeline.owners[bisect_right(timeline.edges, moment)]

    def _note_gap(self, length: timedelta, after: datetime) -> None:
        self.gaps += 1
        gap = Gap(length.total_seconds(), self._driver or 0, after)
        add: Callable[[list[Gap], Gap], object] = (
            heapq.heappush if len(self.longest_gaps) < _LONGEST_GAPS else heapq.heappushpop
        )
        add(self.longest_gaps, gap)

    def _settle(self, drivers: Sequence[int]) -> None:
        """Find out what has become of each unit.

        Args:
            drivers: For whom a unit of all drivers must have been fetched again to be gone; nobody: for any driver.
        """
        everyone = [self._timelines.get(driver, self._timelines[None]) for driver in drivers]
        everyone = everyone or list(self._timelines.values())
        for claim in self.claims:
            if claim.state is None:
                continue
            where = everyone if claim.driver is None else [self._timelines[claim.driver]]
            shares = [timeline.windows_of(claim) for timeline in where]
            if not any(shares):
                claim.standing = Standing.GONE
            elif any(share != [claim.window] for share in shares):
                claim.standing = Standing.CUT

    def _not_done(self, claim: ExpectedRange, state: UnitState, *, counted: bool) -> Iterator[Difference]:
        there = f"; {_rows(claim.rows)} of it in the table" if counted else ""
        if state.status is Status.FAILED:
            if not self._is_excused:
                detail = f"failed: {state.error or 'no reason known'}{there}"
                yield self._difference(Kind.FAILED, detail, (claim.driver,), claim.window, found=claim.rows)
        else:
            detail = f"fetched while it was still going on, and not again since{there}"
            yield self._difference(Kind.PARTIAL, detail, (claim.driver,), claim.window, found=claim.rows)

    def _compare(self, claim: ExpectedRange, state: UnitState, *, deep: bool) -> Iterator[Difference]:
        expected, found = claim.reported, claim.rows
        if found < expected:
            lost = expected - found
            kind, detail = Kind.MISSING_ROWS, f"{lost:,} of {_rows(expected)} {_verb(lost)} missing"
        elif found > expected:
            more = found - expected
            kind, detail = Kind.EXTRA_ROWS, f"{_rows(more)} too many: {found:,} where the reports say {expected:,}"
        elif deep and state.checksum is not None and claim.checksum % CHECKSUM_MODULUS != state.checksum:
            kind, detail = Kind.CELLS, f"the cells of its {_rows(found)} are not those that were stored"
        else:
            return
        yield self._difference(kind, detail, (claim.driver,), claim.window, expected=expected, found=found)

    def _never_loaded(self, window: Window, claims: Sequence[ExpectedRange], *, counted: bool) -> Difference:
        rows = sum(claim.rows for claim in claims)
        there = f", but the table holds {_rows(rows)} of it" if counted and rows else ""
        detail = f"no report that it was loaded{there}" if there else "never loaded"
        return self._difference(Kind.NEVER, detail, [claim.driver for claim in claims], window, found=rows)

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


@dataclass(slots=True)
class FamilyCount:
    """Counts the rows of one column family in one session (or meeting), as they stream by.

    Attributes:
        reconciliations: Those of the endpoints that share the family.
        skip: How long the scope's own row key is.
        others: Endpoints of the family that are not asked about: their rows are passed over.
        foreign: Rows whose keys no endpoint of the family makes.
    """

    reconciliations: Sequence[Reconciliation]
    skip: int
    others: Sequence[Endpoint] = ()
    foreign: Stray | None = None
    _shapes: list[_KeyShape] = field(default_factory=list)
    _driver: bytes = b""  # what the last row's key has before its date
    _sampled: Reconciliation | None = None  # whose row it was, if more like it are to be expected

    def __post_init__(self) -> None:
        self._shapes = [_KeyShape(endpoint) for endpoint in self.others]

    def add(self, key: bytes, cells: Mapping[bytes, bytes] | None = None) -> None:
        """Count one row; with its cells, to compare them as well."""
        if self._sampled is not None and key.startswith(self._driver):
            # Nearly all rows are the next sample of the same driver.
            date = key[len(self._driver) :]
            if _HASH not in date:
                self._sampled.count_next(date.decode(errors="replace"), key, cells)
                return
        components = key[self.skip + 1 :].decode(errors="replace").split(SEPARATOR) if len(key) > self.skip else []
        for reconciliation in self.reconciliations:
            if reconciliation.count(components, key, cells):
                self._sampled = reconciliation if reconciliation.has_samples else None
                self._driver = key[: key.rindex(_HASH) + 1]
                return
        if any(shape.fits(components) for shape in self._shapes):
            return
        self.foreign = self.foreign or Stray(key)
        self.foreign.rows += 1


class _Timeline:
    """Whose the rows of each moment are.

    Attributes:
        edges: The moments at which that changes, in order.
        owners: Whose they are before the first edge, between each two, and after the last; None where nobody's.
    """

    __slots__ = ("edges", "owners")

    def __init__(self, claims: Iterable[ExpectedRange]) -> None:
        """Give each claim, in order of precedence, what of its window no earlier one has."""
        pieces: list[tuple[Window, ExpectedRange]] = []
        taken: list[Window] = []
        for claim in claims:
            pieces += [(piece, claim) for piece in subtract(claim.window, taken)]
            taken.append(claim.window)
        pieces.sort(key=lambda piece: piece[0].start or _LONG_AGO)
        self.edges: list[datetime] = []
        self.owners: list[ExpectedRange | None] = [None]
        for window, claim in pieces:
            if window.start is not None and (not self.edges or self.edges[-1] != window.start):
                self.edges.append(window.start)
                self.owners.append(None)
            self.owners[-1] = claim
            if window.end is not None:
                self.edges.append(window.end)
                self.owners.append(None)

    def windows_of(self, claim: ExpectedRange) -> list[Window]:
        """Return the times at which rows are a claim's; neighbouring ones are one."""
        starts: list[datetime | None] = [None, *self.edges]
        ends: list[datetime | None] = [*self.edges, None]
        return [
            Window(start, end)
            for start, end, owner in zip(starts, ends, self.owners, strict=True)
            if owner is claim
        ]  # fmt: skip


class _KeyShape:
    """What follows the session in an endpoint's row keys.

    Attributes:
        driver: Which component is the driver; None if none is.
        date: Which one is the time that orders the rows.
    """

    __slots__ = ("_checks", "_length", "date", "driver")

    def __init__(self, endpoint: Endpoint) -> None:
        self._length = len(endpoint.key)
        self._checks: list[tuple[int, Callable[[str], object]]] = []
        self.driver: int | None = None
        self.date: int | None = None
        for index, part in enumerate(endpoint.key):
            match part:
                case KeyInt(name):
                    self._checks.append((index, _is_canonical_int))
                    if name == "driver_number":
                        self.driver = index
                case KeyWord(word):
                    self._checks.append((index, word.__eq__))
                case KeyHash():
                    self._checks.append((index, _DIGEST.fullmatch))
                case KeyText(name):
                    if name == endpoint.time_field:
                        self.date = index

    def fits(self, components: Sequence[str]) -> bool:
        """Return whether the endpoint makes such keys."""
        if len(components) != self._length:
            return False
        for index, check in self._checks:  # noqa: SIM110 - all() takes twice as long, and there are many rows
            if not check(components[index]):
                return False
        return True


def _is_canonical_int(text: str) -> bool:
    return text.isdecimal() and text.isascii() and (text[0] != "0" or text == "0")


def _precedence(state: UnitState) -> tuple[bool, bool, datetime]:
    """Sorts last what speaks for its rows: what is stored before what is not, and of that the latest."""
    return state.status in _DONE, state.status is Status.PARTIAL, state.fetched or _LONG_AGO


def _place(claim: ExpectedRange) -> tuple[int, datetime]:
    return -1 if claim.driver is None else claim.driver, claim.window.start or _LONG_AGO


def _never(reported: Sequence[ExpectedRange], expected: Collection[int | None]) -> list[ExpectedRange]:
    """Return what was asked for and no unit speaks of."""
    never = []
    for driver in expected:
        spoken_of = [claim.window for claim in reported if claim.driver in (None, driver)]
        never += [ExpectedRange(driver, window) for window in subtract(ALL_TIME, spoken_of)]
    return never


def _rows(number: int) -> str:
    return f"{number:,} row{'' if number == 1 else 's'}"


def _verb(number: int) -> str:
    return "is" if number == 1 else "are"
