"""What can be wrong with what is stored, and how it is told. Knows no store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from f1hbase.model.text import count
from f1hbase.model.units import ALL_TIME, Scope, Unit, Window

_SHOWN_DIFFERENCES = 50


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
    MISSING_RECORDS = "missing records"
    OTHER_VALUES = "other values"
    SHIFTED_TIMES = "shifted times"
    BEYOND = "beyond the other"
    NOT_COMPARED = "not compared"
    OTHER_POSITION = "position"
    OTHER_POINTS = "points"
    OTHER_LAPS = "laps"
    OTHER_OUTCOME = "outcome"
    OTHER_NUMBER = "number"
    MISSING_DRIVER = "missing driver"
    FURTHER_DRIVER = "further driver"
    UNKNOWN_RACE = "unknown race"


_ASK_BOTH = (
    "see which is right; 'load --refresh --endpoint session_result' with the same session brings what OpenF1 has now, "
    "'load --from {other} --refresh' what {other} has"
)
_TAKE = "see which is right; 'load --from {other} --refresh' with the same session and endpoint takes what {other} has"

_REMEDIES = {
    Kind.MISSING_ROWS: "'load --refresh' with the same session and endpoint fetches them again",
    Kind.CELLS: "--against-api names them; 'load --refresh' with the same session and endpoint fetches them again",
    Kind.SOURCE: "'load --refresh' with the same session and endpoint brings what the source has now",
    Kind.FAILED: "'load' asks for it again",
    Kind.PARTIAL: "'load' asks for it again",
    Kind.NEVER: "'load' asks for it",
    Kind.NOTHING: "'load' asks for it",
    Kind.EXTRA_ROWS: "no load deletes rows: look at them in {viewer}, or 'rollback' the session and load it again",
    Kind.STRAY: "no load deletes rows: look at them in {viewer}, or 'rollback' the session and load it again",
    Kind.FOREIGN: "not f1hbase's: look at them in {viewer}",
    Kind.TOTAL: "'verify' without --row-counter says where",
    Kind.OBJECT: "'load --refresh' with the same session and endpoint fetches them again",
    Kind.FILE: "delete the file, then 'load --refresh' with the same session and endpoint makes it anew",
    Kind.MISSING_RECORDS: _TAKE,
    Kind.OTHER_VALUES: _TAKE,
    Kind.SHIFTED_TIMES: _TAKE,
    Kind.BEYOND: "no load deletes rows: where {other} is right, 'rollback' the session and load it again",
    Kind.OTHER_POSITION: _ASK_BOTH,
    Kind.OTHER_POINTS: _ASK_BOTH,
    Kind.OTHER_LAPS: _ASK_BOTH,
    Kind.OTHER_OUTCOME: _ASK_BOTH,
    Kind.OTHER_NUMBER: _ASK_BOTH,
    Kind.MISSING_DRIVER: _ASK_BOTH,
    Kind.FURTHER_DRIVER: _ASK_BOTH,
    Kind.UNKNOWN_RACE: "see whether the date of the session is right; where {other} lacks the race, leave it out",
    Kind.NOT_COMPARED: "the rest was compared; put it right there, or leave it out with --endpoint or --session-key",
}
"""What to do about each kind of difference; `{viewer}` and `{other}` are those of `difference_lines`."""


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


def difference_lines(differences: Sequence[Difference], *, viewer: str = "", other: str = "") -> Iterator[str]:
    """Yield differences for people, as many as one reads, and what to do about each kind.

    Args:
        differences: The differences.
        viewer: With what one looks at single records.
        other: What `--from` calls the place that was compared with.
    """
    yield f"{count(len(differences), 'difference')}:"
    for difference in differences[:_SHOWN_DIFFERENCES]:
        yield f"  {difference}"
        yield from (f"    {example}" for example in difference.examples)
    more = len(differences) - _SHOWN_DIFFERENCES
    if more > 0:
        yield f"  and {more:,} more; --json has all"
    yield "what to do:"
    kinds_of: dict[str, list[str]] = {}
    for kind in dict.fromkeys(difference.kind for difference in differences):
        kinds_of.setdefault(_REMEDIES[kind].format(viewer=viewer, other=other), []).append(kind.value)
    yield from (f"  {', '.join(kinds)}: {remedy}" for remedy, kinds in kinds_of.items())


def difference_json(difference: Difference) -> dict[str, Any]:
    """Return a difference in JSON's types."""
    scope = difference.scope
    start, end = difference.window.start, difference.window.end
    return {
        "kind": difference.kind.value,
        "text": str(difference),
        "scope": None if scope is None else scope.prefix,
        "year": None if scope is None else scope.year,
        "meeting_key": None if scope is None else scope.meeting_key,
        "session_key": None if scope is None else scope.session_key,
        "endpoint": difference.endpoint,
        "drivers": list(difference.drivers),
        "window": [None if edge is None else edge.isoformat() for edge in (start, end)],
        "expected": difference.expected,
        "found": difference.found,
        "examples": list(difference.examples),
    }
