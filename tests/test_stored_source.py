"""What is stored as a source: how much of it is read at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from samples import END, a_scope, sample

from f1hbase.model.answers import Answer
from f1hbase.model.outcomes import Status, UnitState
from f1hbase.model.samples import Record
from f1hbase.model.units import ALL_TIME, Scope, Unit
from f1hbase.sources.stored import StoredSource

_ENDPOINTS = ("laps", "pit", "stints")


class OneConnection:
    """A reader with one connection, as a worker has where there are many: who reads holds it to the end."""

    home = "a place with one connection"

    def __init__(self) -> None:
        self.reading: list[str] = []
        self.most = 0

    def sessions(self) -> Sequence[Record]:
        return ()

    def meetings(self) -> Sequence[Record]:
        return ()

    def units(self, scope: Scope) -> Sequence[UnitState]:
        return [
            UnitState(scope.prefix, endpoint, None, ALL_TIME, Status.DONE, fetched=END, source="openf1")
            for endpoint in _ENDPOINTS
        ]

    def read(self, unit: Unit) -> Iterator[Sequence[Record]]:
        self.reading.append(unit.endpoint)
        self.most = max(self.most, len(self.reading))
        for number in range(3):
            yield [sample(unit.endpoint, driver_number=number)]
        self.reading.remove(unit.endpoint)


async def test_what_is_read_over_shared_connections_is_read_one_after_the_other() -> None:
    reader = OneConnection()
    delivered: list[tuple[str, int]] = []

    async def deliver(answer: Answer) -> None:
        number = 0
        for some in answer.records:
            number += len(some)
            await asyncio.sleep(0.02)  # others get their turn, as while a batch is being stored
        delivered.append((answer.unit.endpoint, number))

    await StoredSource(reader).fetch([Unit(endpoint, a_scope()) for endpoint in _ENDPOINTS], deliver)

    assert sorted(delivered) == [(endpoint, 3) for endpoint in _ENDPOINTS]
    assert reader.most == 1
