"""What can be wrong with what is stored, and how it is told. Knows no store."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from f1hbase.model.units import ALL_TIME, Scope, Unit, Window


class Kind(StrEnum):
    """What can be wrong."""

    MISSING_ROWS = "missing rows"
    EXTRA_ROWS = "extra rows"
    CELLS = "cells"
    FAILED = "failed"
    PARTIAL = "partial"
    NEVER = "never loaded"
    STRAY = "unreported rows"
    FOREIGN = "foreign keys"
    NOTHING = "nothing loaded"
    SOURCE = "other than the source"
    TOTAL = "row counter"
    OBJECT = "objects"
    FILE = "files"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it should be.

    Attributes:
        kind: What is wrong.
        detail: The same for people, to follow the name of the place, if there is one.
        scope: The session, or the meeting; None for what is of the whole store.
        endpoint: The endpoint, where it is one's.
        drivers: The drivers; none means all.
        window: The time.
        expected: How many rows there should be, where that is known.
        found: How many there are.
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
        return self.detail if self.scope is None else f"{self._place(self.scope)}: {self.detail}"

    def _place(self, scope: Scope) -> str:
        if self.endpoint is None:
            return str(Unit("", scope)).strip()
        if len(self.drivers) <= 1:
            return str(Unit(self.endpoint, scope, next(iter(self.drivers), None), self.window))
        window = "" if self.window == ALL_TIME else f" {self.window}"
        return f"{Unit(self.endpoint, scope)} drivers {', '.join(map(str, self.drivers))}{window}"
