"""Which unit speaks for a record that several units cover; the one home of that rule.

A unit whose records are all stored precedes one that was fetched while its session went on, and that one a failed one;
among equals the one that was fetched last precedes, as its records were written over those of the others. The order
agrees with `model.coverage`, where a stored unit counts whatever was tried after it. Knows no store.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from datetime import datetime
from typing import Generic, TypeVar

from f1hbase.model.coverage import subtract
from f1hbase.model.outcomes import STORED, Status, UnitState
from f1hbase.model.times import LONG_AGO
from f1hbase.model.units import Window

Owner = TypeVar("Owner")

Precedence = tuple[bool, bool, datetime]


def precedence(state: UnitState) -> Precedence:
    """Return what orders units that cover the same records: the greatest speaks for them."""
    return state.status in STORED, state.status is Status.PARTIAL, state.fetched or LONG_AGO


def precedes(one: UnitState, other: UnitState) -> bool:
    """Return whether the records that two units cover are those of the first; of equals neither precedes."""
    return precedence(one) > precedence(other)


class Timeline(Generic[Owner]):
    """Who speaks for each moment, of one driver or of all.

    Args:
        spans: What each owner covers, in order of precedence: an owner gets what of its window no earlier one has.

    Attributes:
        edges: The moments at which the owner changes, in order.
        owners: The owner before the first edge, between each two, and after the last; None where there is none.
    """

    __slots__ = ("edges", "owners")

    def __init__(self, spans: Iterable[tuple[Window, Owner]]) -> None:
        pieces: list[tuple[Window, Owner]] = []
        taken: list[Window] = []
        for window, owner in spans:
            pieces += [(piece, owner) for piece in subtract(window, taken)]
            taken.append(window)
        pieces.sort(key=lambda piece: piece[0].start or LONG_AGO)
        self.edges: list[datetime] = []
        self.owners: list[Owner | None] = [None]
        for window, owner in pieces:
            if window.start is not None and (not self.edges or self.edges[-1] != window.start):
                self.edges.append(window.start)
                self.owners.append(None)
            self.owners[-1] = owner
            if window.end is not None:
                self.edges.append(window.end)
                self.owners.append(None)

    def owner_at(self, moment: datetime) -> Owner | None:
        """Return who speaks for a moment."""
        return self.owners[bisect_right(self.edges, moment)]

    def windows_of(self, owner: Owner) -> list[Window]:
        """Return the times for which an owner speaks, in order; neighbouring ones are one."""
        starts: list[datetime | None] = [None, *self.edges]
        ends: list[datetime | None] = [*self.edges, None]
        found: list[Window] = []
        for start, end, one in zip(starts, ends, self.owners, strict=True):
            if one is owner:
                found.append(Window(start, end))
        return found
