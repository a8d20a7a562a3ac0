"""What comparing two places has found, counted by endpoint, session and kind of difference. Knows no place."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from f1hbase.model.catalog import Endpoint
from f1hbase.model.text import count
from f1hbase.model.units import Scope, Unit
from f1hbase.operations.verify.differences import Difference, Kind
from f1hbase.operations.verify.matching import Match, label, shown

EXAMPLES = 3
"""How many records of an endpoint and session are named of each kind of difference."""


@dataclass(slots=True)
class EndpointComparison:
    """An endpoint of a session (or a meeting) here and in the other place.

    Attributes:
        compared: How many records the other place has of what could be compared.
        missing: How many of them are not here.
        other: How many have other values here.
        shifted: How many are here at another time.
        beyond: How many records here the other place does not have.
        fields: How often each field differs.
        shifts: The least and the most seconds that the shifted ones are later here.
        errors: What of it could not be compared, and why.
        examples: Some records of each kind, for people.
    """

    endpoint: Endpoint
    scope: Scope
    compared: int = 0
    missing: int = 0
    other: int = 0
    shifted: int = 0
    beyond: int = 0
    fields: Counter[str] = field(default_factory=Counter)
    shifts: tuple[float, float] = (0.0, 0.0)
    errors: list[tuple[Unit, str]] = field(default_factory=list)
    examples: dict[Kind, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, found: Match, other_name: str) -> None:
        """Count what was found of a unit."""
        self.compared += found.there
        self.missing += len(found.missing)
        self.beyond += len(found.beyond)
        self.other += len(found.other)
        for record in found.missing:
            if not self._example(Kind.MISSING_RECORDS, label(self.endpoint, record)):
                break
        for record in found.beyond:
            if not self._example(Kind.BEYOND, label(self.endpoint, record)):
                break
        for one in found.other:
            self.fields.update(one.values.keys())
            differs = ", ".join(
                f"{name} {shown(here)} ({other_name}: {shown(there)})" for name, (here, there) in one.values.items()
            )
            self._example(Kind.OTHER_VALUES, f"{label(self.endpoint, one.record)}: {differs}")
        for shift in found.shifted:
            least, most = self.shifts if self.shifted else (shift.seconds, shift.seconds)
            self.shifts = min(least, shift.seconds), max(most, shift.seconds)
            self.shifted += 1
            text = f"{label(self.endpoint, shift.record)}: {shift.field} {shift.seconds:+.3f} s"
            self._example(Kind.SHIFTED_TIMES, text)

    def differences(self, other_name: str) -> Iterator[Difference]:
        """Yield one for each kind of which there is any."""
        noun, of = self.endpoint.noun, f" of {self.compared:,} of {other_name}"
        if self.missing:
            text = f"{count(self.missing, f'missing {noun}')}{of}"
            yield self._difference(Kind.MISSING_RECORDS, text, self.compared, self.compared - self.missing)
        if self.other:
            often = ", ".join(f"{name} {number:,}" for name, number in self.fields.most_common())
            yield self._difference(Kind.OTHER_VALUES, f"{count(self.other, f'other {noun}')}{of} ({often})")
        if self.shifted:
            least, most = self.shifts
            by = f"{least:+.3f} s" if least == most else f"{least:+.3f} to {most:+.3f} s"
            text = f"{count(self.shifted, noun)}{of} at another time, here by {by}"
            yield self._difference(Kind.SHIFTED_TIMES, text)
        if self.beyond:
            text = f"{count(self.beyond, noun)} that {other_name} does not have, beside the {self.compared:,} it has"
            yield self._difference(Kind.BEYOND, text, self.compared, self.compared + self.beyond)
        if self.errors:
            unit, reason = self.errors[0]
            more = f" (and {len(self.errors) - 1} more windows)" if len(self.errors) > 1 else ""
            drivers = () if unit.driver is None else (unit.driver,)
            detail = f"cannot be compared{more}: {reason}"
            yield Difference(Kind.NOT_COMPARED, detail, self.scope, self.endpoint.name, drivers, unit.window)

    def _difference(self, kind: Kind, text: str, expected: int | None = None, found: int | None = None) -> Difference:
        return Difference(
            kind, text, self.scope, self.endpoint.name, expected=expected, found=found,
            examples=tuple(self.examples[kind]),
        )  # fmt: skip

    def _example(self, kind: Kind, text: str) -> bool:
        kept = self.examples[kind]
        if len(kept) < EXAMPLES:
            kept.append(text)
        return len(kept) < EXAMPLES


@dataclass(slots=True)
class ScopeComparison:
    """A session (or a meeting as such) here and in the other place."""

    scope: Scope
    endpoints: dict[str, EndpointComparison] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)


@dataclass(slots=True)
class Comparison:
    """All that was found.

    Attributes:
        place: What is stored, for people.
        other: What it was compared with, for people.
        other_name: What `--from` calls that.
        scopes: Each session and meeting, in order of time.
        unusable: What the other lists that is no session that could be compared.
        notes: What was not compared, and why that is no difference.
        seconds: How long it took.
    """

    place: str
    other: str
    other_name: str
    scopes: list[ScopeComparison] = field(default_factory=list)
    unusable: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def differences(self) -> list[Difference]:
        """All that differs."""
        return [*self.unusable, *(difference for scope in self.scopes for difference in scope.differences)]

    @property
    def compared(self) -> int:
        """How many records of the other place were compared."""
        return sum(one.compared for scope in self.scopes for one in scope.endpoints.values())
