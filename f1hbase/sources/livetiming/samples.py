"""The samples of a session by windows of time, of which only one is in memory at a time; knows no HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.samples import Record, Row, Samples
from f1hbase.model.units import Unit
from f1hbase.sources.livetiming.clock import times_in
from f1hbase.sources.livetiming.files import Line, Problem, Problems, TopicFile
from f1hbase.sources.livetiming.lines import BadLineError, inflate, quoted
from f1hbase.sources.livetiming.messages import SessionContext
from f1hbase.sources.livetiming.normalised import edges
from f1hbase.sources.livetiming.spelling import spelled_utc, utc
from f1hbase.sources.livetiming.topics.base import MISSHAPEN
from f1hbase.sources.livetiming.topics.telemetry import TELEMETRY

_SLICE_ROWS = 3_500
"""How many samples are handed on at once: some 1 MB as Python objects."""

_MOST_PROBLEMS = 1_000
"""So many lines that cannot be read are kept, and put aside with the unit they were found with."""


class _Span(NamedTuple):
    """A message and the first and last date of its records, as OpenF1 spells them."""

    line: Line
    first: str
    last: str


class SampleFile:
    """The samples of a topic's file, with the span of each message, so that a window reads only what it needs.

    Args:
        file: The file.
        endpoint: `car_data` or `location`.
    """

    def __init__(self, file: TopicFile, endpoint: str) -> None:
        self.file = file
        self.telemetry = TELEMETRY[endpoint]
        self.latest: list[tuple[timedelta, datetime]] = []
        """Of each message its line's offset and its latest record's time: what t0 can be told from."""
        self._spans: list[_Span] = []
        self.problems: list[Problem] = []

    def scan(self) -> None:
        """Read the times of all messages; takes a tenth of the time of reading them all."""
        lines = self.file.lines  # finds the problems of the file, too
        self.problems += self.file.problems
        for line in lines:
            try:
                texts = [text.decode("ascii") for text in times_in(_inflated(self.file, line))]
                dates = [spelled_utc(text) for text in texts]
                latest = max(map(utc, texts), default=None)
            except (BadLineError, *MISSHAPEN) as error:
                self._put_aside(line, error)
                continue
            if latest is not None:
                self._spans.append(_Span(line, min(dates), max(dates)))
                self.latest.append((line.since, latest))

    def _put_aside(self, line: Line, error: Exception) -> None:
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(self.file.problem(line, str(error)))

    def within(self, start: str, end: str) -> list[Line]:
        """Return the lines that have records from one date up to another."""
        return [span.line for span in self._spans if span.first < end and span.last >= start]


class WindowSamples:
    """The samples of a unit's window and driver, decoded as they are iterated.

    Args:
        unit: The unit.
        samples: Where they are.
        session: The session.
        problems: Names what cannot be read.
        first: Whether this is the window that carries what could not be dated.
    """

    def __init__(
        self, unit: Unit, samples: SampleFile, session: SessionContext, problems: Problems, *, first: bool
    ) -> None:
        self._unit = unit
        self._samples = samples
        self._session = session
        self._problems = problems
        self._first = first

    def __iter__(self) -> Iterator[Samples | Sequence[Any]]:
        endpoint = ENDPOINTS[self._unit.endpoint]
        start, end = edges(self._unit.window)
        driver = self._unit.driver
        broken = list(self._samples.problems) if self._first else []
        others: list[Record] = []
        rows: list[Row] = []
        for line in self._samples.within(start, end):
            try:
                body = _inflated(self._samples.file, line)
                some, odd = self._samples.telemetry.rows(self._session, body)
            except (BadLineError, *MISSHAPEN) as error:
                broken.append(self._samples.file.problem(line, f"it is not as the service sends it ({error})"))
                continue
            rows += [row for row in some if start <= row[3] < end and (driver is None or row[2] == driver)]
            others += [
                record
                for record in odd
                if start <= record["date"] < end and (driver is None or record["driver_number"] == driver)
            ]
            while len(rows) >= _SLICE_ROWS:
                yield Samples(endpoint, rows[:_SLICE_ROWS])
                del rows[:_SLICE_ROWS]
        if rows:
            yield Samples(endpoint, rows)
        if others:
            yield others
        for problem in broken:
            self._problems.name(problem)
        if broken:
            yield [problem.record() for problem in broken]


def _inflated(file: TopicFile, line: Line) -> bytes:
    return inflate(quoted(file.body(line)))
