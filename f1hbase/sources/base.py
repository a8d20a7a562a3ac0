"""The three seams of the loader: where records come from, where rows go, and who remembers.

Each has one implementation today (`f1hbase.openf1`, `f1hbase.destinations.hbase`, `f1hbase.state.hbase.reports`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, Protocol

from f1hbase.model.coverage import UnitState
from f1hbase.model.units import Answer, Outcome, Query, Scope, Unit


class Source(Protocol):
    """Turns units into records."""

    async def ask(self, query: Query) -> list[Any]:
        """Return the records of one query: what a plan is made from."""
        ...

    async def fetch(self, units: Iterable[Unit], deliver: Callable[[Answer], Awaitable[None]]) -> None:
        """Hand one answer for each unit to `deliver`, as they arrive; a failure is an answer with an error.

        `deliver` may take its time: the source then waits instead of heaping up answers.
        """
        ...


class Sink(Protocol):
    """Stores records so that storing them again changes nothing."""

    def store(self, answer: Answer, *, again: bool = False) -> Outcome:
        """Store the records of one answer, `again` if they may be stored already; on return they are acknowledged."""
        ...


class Reports(Protocol):
    """Remembers what is done."""

    def write_units(self, run_id: str, outcomes: Sequence[Outcome]) -> None:
        """Remember how units ended; only ever called after their rows are acknowledged."""
        ...

    def write_entrants(self, run_id: str, unit: Unit, asked_at: datetime, entrants: Collection[int]) -> None:
        """Remember who drove in a session, of which nothing else is left to report."""
        ...

    def unit_states(self, scope: Scope) -> list[UnitState]:
        """Return what is known of a session's (or meeting's) units."""
        ...
