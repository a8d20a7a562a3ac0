"""Records of one meeting, session and driver, kept as the JSON bytes they are answered with.

Each record is one stretch of bytes, by date, and a table of instants finds a window by bisection: the usual question (a
session, fifteen minutes) is then one slice of bytes a driver. 1.8 million records take about 0.35 GB. No file is known
here.
"""

from __future__ import annotations  # array[int] can be subscripted only from Python 3.12 on

import json
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import NamedTuple

from f1hbase.serve.csvform import CsvLines
from f1hbase.serve.query import Condition, Filter

_CHECK_RECORDS = 1_000
"""Between two looks at the clock, about 5 ms."""

GroupKey = tuple[int | None, int | None, int | None]
"""``meeting_key``, ``session_key`` and ``driver_number``."""


class Span(NamedTuple):
    """The records ``first`` up to, not including, ``last`` of a group."""

    group: Group
    first: int
    last: int


@dataclass(slots=True)
class Group:
    """The records of one meeting, session and driver: each one's JSON and a comma, joined.

    ``starts`` has one offset more than there are records; ``dates`` (microseconds, rising) is None where a
    record has no ``date``.
    """

    key: GroupKey
    blob: bytearray
    starts: array[int]
    dates: array[int] | None
    _csv: tuple[int, CsvLines] | None = field(default=None, init=False, repr=False)

    def json(self, first: int, last: int) -> memoryview:
        """Return the JSON of some records, commas between them."""
        return memoryview(self.blob)[self.starts[first] : self.starts[last] - 1]

    def csv(self) -> CsvLines:
        """Return the records as CSV; made when first asked for, and kept."""
        count = len(self.starts) - 1
        if self._csv is None or self._csv[0] != count:  # more files may have been added since
            self._csv = (count, CsvLines(self.lines(0, count)))
        return self._csv[1]

    def lines(self, first: int, last: int) -> Iterator[bytes]:
        """Yield the JSON of each of some records."""
        for index in range(first, last):
            yield bytes(self.blob[self.starts[index] : self.starts[index + 1] - 1])

    def select(self, conditions: dict[str, Condition], check: Callable[[], None] | None = None) -> Iterator[Span]:
        """Yield the records that fulfil the conditions, neighbours in one span.

        Args:
            conditions: By field.
            check: Called now and then while records are looked through; may raise to end that.
        """
        rest = dict(conditions)
        spans = [(0, len(self.starts) - 1)]
        if self.dates is not None and (date := rest.pop("date", None)):
            spans = _by_date(self.dates, date)
        for first, last in spans:
            if first >= last:
                continue
            if not rest:
                yield Span(self, first, last)
                continue
            begin = None
            for index, line in enumerate(self.lines(first, last), first):
                if check is not None and (index - first) % _CHECK_RECORDS == 0:
                    check()
                record = json.loads(line)
                if all(condition.matches(record.get(field)) for field, condition in rest.items()):
                    begin = index if begin is None else begin
                elif begin is not None:
                    yield Span(self, begin, index)
                    begin = None
            if begin is not None:
                yield Span(self, begin, last)


class GroupBuilder:
    """A group while files are being read."""

    def __init__(self, key: GroupKey) -> None:
        self._group = Group(key, bytearray(), array("Q", [0]), array("q"))
        self._identities: dict[object, int] = {}
        self._replaced: set[int] = set()
        self._in_order = True

    def append(self, line: bytes, moment: int | None, identity: object) -> None:
        """Add a record; one without ``identity`` is known by its date, which needs no memory."""
        group = self._group
        index = len(group.starts) - 1
        if moment is None:
            group.dates = None
        elif group.dates is not None:
            if group.dates and moment <= group.dates[-1]:
                self._in_order = False
            group.dates.append(moment)
        if identity is not None:
            earlier = self._identities.get(identity)
            if earlier is not None:
                self._replaced.add(earlier)
            self._identities[identity] = index
        group.blob += line
        group.blob += b","
        group.starts.append(len(group.blob))

    def extend(self, lines: Sequence[bytes], moments: Sequence[int]) -> None:
        """Add records that are known by their dates; there is at least one."""
        group = self._group
        if group.dates is None:
            for line, moment in zip(lines, moments, strict=True):
                self.append(line, moment, None)
            return
        if (group.dates and moments[0] <= group.dates[-1]) or any(b <= a for a, b in pairwise(moments)):
            self._in_order = False
        group.dates.extend(moments)
        begin = len(group.blob) + 1
        group.starts.extend(end + number for number, end in enumerate(accumulate(map(len, lines)), begin))
        group.blob += b",".join(lines)
        group.blob += b","

    def group(self) -> Group:
        """Return the records by date, each identity once."""
        group = self._group
        if (group.dates is None or self._in_order) and not self._replaced:
            return group
        order = [index for index in range(len(group.starts) - 1) if index not in self._replaced]
        dates = group.dates
        if dates is not None:
            order.sort(key=dates.__getitem__)
            if not self._identities:
                order = [
                    one
                    for one, after in zip(order, [*order[1:], -1], strict=True)
                    if after < 0 or dates[one] != dates[after]
                ]
        # The builder keeps the result, so that more files can still be added.
        fresh = Group(group.key, bytearray(), array("Q", [0]), None if dates is None else array("q"))
        for index in order:
            fresh.blob += group.blob[group.starts[index] : group.starts[index + 1]]
            fresh.starts.append(len(fresh.blob))
            if fresh.dates is not None and dates is not None:
                fresh.dates.append(dates[index])
        return fresh


def _by_date(dates: array[int], condition: Condition) -> list[tuple[int, int]]:
    """Return the spans of ``dates`` that fulfil a condition on the field ``date``, apart and in order."""
    found = sorted(
        (first, last)
        for first, last in (_span_of(dates, alternative) for alternative in condition.alternatives)
        if first < last
    )
    spans: list[tuple[int, int]] = []
    for first, last in found:
        if spans and first <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], last))
        else:
            spans.append((first, last))
    return spans


def _span_of(dates: array[int], filters: Iterable[Filter]) -> tuple[int, int]:
    """Return the stretch of ``dates`` that fulfils every filter."""
    first, last = 0, len(dates)
    for one in filters:
        if one.span is None:  # a number or a text is no date
            return 0, 0
        begin, end = one.span
        if one.op in {">=", "="}:
            first = max(first, bisect_left(dates, begin))
        if one.op == ">":
            first = max(first, bisect_left(dates, end))
        if one.op == "<":
            last = min(last, bisect_left(dates, begin))
        if one.op in {"<=", "="}:
            last = min(last, bisect_left(dates, end))
    return first, last
