"""The records of a unit, made from a session's messages each time they are iterated; knows neither file nor feed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Protocol

from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.records import Identity, identity
from f1hbase.model.samples import Record
from f1hbase.model.units import ALL_TIME, Unit, Window
from f1hbase.sources.livetiming.files import Problem, Problems
from f1hbase.sources.livetiming.messages import Message, SessionContext
from f1hbase.sources.livetiming.topics.base import MISSHAPEN, Normaliser

_SLICE_RECORDS = 3_500
"""How many records are handed on at once."""


class SessionMessages(Protocol):
    """Where the messages of one session are read from."""

    context: SessionContext

    def messages(self, topics: Collection[str]) -> Iterator[Message | Problem]:
        """Yield the messages of some topics in order of time and topic, from the beginning each time."""


class NormalisedRecords:
    """The records of a unit. Of a record that changes in the course of a session it is the last state.

    Args:
        unit: The unit; its driver and window are all that is given.
        kind: What makes the records.
        session: The messages.
        problems: Names what cannot be read.
    """

    def __init__(self, unit: Unit, kind: type[Normaliser], session: SessionMessages, problems: Problems) -> None:
        self._unit = unit
        self._kind = kind
        self._session = session
        self._problems = problems

    def __iter__(self) -> Iterator[Sequence[Any]]:
        broken: list[Problem] = []
        records = final_records(self._kind(self._session.context), self._session.messages(self._kind.topics), broken)
        for problem in broken:
            self._problems.name(problem)
        chosen = list(filter(within(self._unit), records))
        for start in range(0, len(chosen), _SLICE_RECORDS):
            yield chosen[start : start + _SLICE_RECORDS]
        if broken:
            yield [problem.record() for problem in broken]


def final_records(normaliser: Normaliser, messages: Iterable[Message | Problem], broken: list[Problem]) -> list[Record]:
    """Return the last state of each record that messages make, in the order in which they were first seen.

    Args:
        normaliser: Makes the records.
        messages: The messages; a problem among them, and a message that cannot be read, is added to `broken`.
        broken: Where to add these.
    """
    endpoint = ENDPOINTS[normaliser.endpoint]
    final: dict[Identity, Record] = {}
    for number, message in enumerate(messages, 1):
        if isinstance(message, Problem):
            broken.append(message)
            continue
        try:
            for record in normaliser.take(message):
                final[identity(endpoint, record)] = record
        except MISSHAPEN as error:
            broken.append(_misshapen(message, number, error))
    for record in normaliser.end():
        final[identity(endpoint, record)] = record
    return list(final.values())


def within(unit: Unit) -> Callable[[Record], bool]:
    """Return what says whether a record is one of a unit's driver and window."""
    endpoint = ENDPOINTS[unit.endpoint]
    span = None if unit.window == ALL_TIME or endpoint.time_field is None else edges(unit.window)

    def chosen(record: Record) -> bool:
        if unit.driver is not None and endpoint.by_driver and record["driver_number"] != unit.driver:
            return False
        return span is None or span[0] <= record[str(endpoint.time_field)] < span[1]

    return chosen


def edges(window: Window) -> tuple[str, str]:
    """Return the edges of a window as texts, with which dates as OpenF1 spells them compare as the times do."""
    start = "" if window.start is None else window.start.isoformat()
    end = "A" if window.end is None else window.end.isoformat()  # after every digit
    return start, end


def _misshapen(message: Message, number: int, error: Exception) -> Problem:
    what = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else str(error)
    where = f"{message.topic}, message of {message.moment.isoformat()}"
    return Problem(where, number, f"it is not as the service sends it ({what})", f"{message.content!r:.2000}")
