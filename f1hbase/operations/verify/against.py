"""Asks a source for units once more and compares them with what is stored, cell by cell.

The answers go through the pipeline's own normaliser and are encoded as the place would store them, so that what differs
is what loading the unit again would change. For a sample of units; `verify/comparing.py` compares all records with
another place.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from f1hbase.model.answers import Answer
from f1hbase.model.coverage import subtract
from f1hbase.model.times import LONG_AGO
from f1hbase.model.units import Scope, Unit
from f1hbase.operations.verify.base import Auditor, StoredRecord
from f1hbase.operations.verify.differences import Difference, Kind
from f1hbase.operations.verify.reconcile import Reconciliation, Standing
from f1hbase.pipeline.load import run_with_source
from f1hbase.pipeline.normalise import Account, AnswerNormaliser
from f1hbase.sources.base import Source, SourceRecipe

_EXAMPLES = 3
"""How many of a unit's rows are named of each kind of difference."""

_Rows = dict[bytes, Mapping[bytes, bytes]]


class Sample:
    """A random choice among units that go by one after the other, each as likely as any other.

    Args:
        size: How many to choose.
        seed: The same seed chooses the same of the same units.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.units: list[Unit] = []
        self._size = size
        self._random = random.Random(seed)  # noqa: S311 - nothing secret
        self._seen = 0

    def offer(self, scope: Scope, reconciliation: Reconciliation) -> None:
        """Choose among the units that are stored and that others have not replaced, too."""
        for one in reconciliation.ranges:
            if not one.is_stored or one.standing is Standing.GONE:
                continue
            unit = Unit(reconciliation.endpoint.name, scope, one.driver, one.window)
            self._seen += 1
            if len(self.units) < self._size:
                self.units.append(unit)
            elif (place := self._random.randrange(self._seen)) < self._size:
                self.units[place] = unit


@dataclass(slots=True)
class Comparison:
    """What a source has of a unit, and what is stored of it.

    Attributes:
        unit: The unit, or the window of it that one answer was for.
        source: The name of the source.
        rows: How many rows the source's records make.
        missing: How many of them are not stored.
        extra: How many rows are stored that the source has not.
        differing: How many rows have another cell, one too few or one too many.
        examples: Some of them, for people.
        error: Why the unit could not be fetched.
    """

    unit: Unit
    source: str = ""
    rows: int = 0
    missing: int = 0
    extra: int = 0
    differing: int = 0
    examples: list[str] = field(default_factory=list)
    error: str | None = None

    @property
    def agrees(self) -> bool:
        """Whether the source gives exactly what is stored."""
        return self.error is None and not (self.missing or self.extra or self.differing)

    def differences(self) -> Iterator[Difference]:
        """Yield what is wrong, if anything is."""
        if self.agrees:
            return
        detail = f"cannot be compared with {self.source}: {self.error}"
        if self.error is None:
            counts = {"missing": self.missing, f"not in {self.source}": self.extra, "differing": self.differing}
            what = ", ".join(f"{number:,} {name}" for name, number in counts.items() if number)
            detail = f"beside the {self.rows:,} rows of {self.source}: {what}"
        unit = self.unit
        drivers = () if unit.driver is None else (unit.driver,)
        found = self.rows - self.missing + self.extra
        yield Difference(
            Kind.SOURCE, detail, unit.scope, unit.endpoint, drivers, unit.window, self.rows, found,
            tuple(self.examples),
        )  # fmt: skip


def compare_with_source(
    source: SourceRecipe, patience: float, units: Sequence[Unit], auditor: Auditor
) -> list[Comparison]:
    """Fetch units and compare them with what is stored; the rows of one answer are in memory at a time, twice.

    Args:
        source: How the source is opened.
        patience: For how long it may be away, in seconds.
        units: What to compare.
        auditor: Reads what is stored.

    Returns:
        One for each unit that was answered, which may be a shorter window of one that was asked for; those of one
        together, in order of time.

    Raises:
        UnreachableError: If the source, or the store, is away longer than patience lasts.
    """
    return run_with_source(_compare(source, patience, units, auditor))


async def _compare(recipe: SourceRecipe, patience: float, units: Sequence[Unit], auditor: Auditor) -> list[Comparison]:
    async with recipe.open(patience) as source:
        collector = _Collector(source, auditor)
        await source.fetch(units, collector.deliver)
    # Units that overlap may have the same answer.
    return list({one.unit: one for unit in units for one in collector.of(unit)}.values())


class _Collector:
    """Takes the answers of a source and compares each unit once its last part has come.

    Args:
        source: The source.
        auditor: Reads what is stored, and encodes as it was stored.
    """

    def __init__(self, source: Source, auditor: Auditor) -> None:
        self._source = source
        self._auditor = auditor
        self._found: dict[Unit, Comparison] = {}
        self._fetched: dict[Unit, _Rows] = {}
        self._one_at_a_time = asyncio.Lock()

    async def deliver(self, answer: Answer) -> None:
        """Take an answer, or a part of one."""
        async with self._one_at_a_time:
            # In a thread, so that the other requests do not wait for decoding and for the store.
            await asyncio.to_thread(self._take, answer)

    def of(self, unit: Unit) -> list[Comparison]:
        """Return the comparisons of a unit, in order of time; all that could not be fetched of it is one."""
        mine = [
            one
            for one in self._found.values()
            if replace(one.unit, window=unit.window) == unit and one.unit.window.overlaps(unit.window)
        ]
        errors = [one.error for one in mine if one.error is not None]
        if subtract(unit.window, [one.unit.window for one in mine]):
            errors.append("there was no answer")
        compared = [one for one in mine if one.error is None]
        if errors:
            compared.append(Comparison(unit, self._source.name, error=errors[0]))
        return sorted(compared, key=lambda one: one.unit.window.start or LONG_AGO)

    def _take(self, answer: Answer) -> None:
        rows = self._encoded(answer)
        fetched = self._fetched.setdefault(answer.unit, {})
        fetched.update(rows)
        if not answer.complete:
            return
        del self._fetched[answer.unit]
        if answer.error is not None:
            self._found[answer.unit] = Comparison(answer.unit, self._source.name, error=answer.error)
        else:
            self._found[answer.unit] = compare(
                answer.unit, fetched, self._auditor.stored(answer.unit), self._source.name
            )

    def _encoded(self, answer: Answer) -> _Rows:
        """Return the rows of an answer, or raise what decoding it raises, and nothing of it counts."""
        knows = self._source.knows(answer.unit.endpoint)
        return AnswerNormaliser(answer, Account(answer.unit), knows).made(self._auditor.encode)


def compare(
    unit: Unit, rows: Mapping[bytes, Mapping[bytes, bytes]], stored: Iterable[StoredRecord], source: str
) -> Comparison:
    """Compare a unit's rows, as a source has them, with those that are stored."""
    result = Comparison(unit, source, len(rows))
    left = dict(rows)
    for key, cells in stored:
        wanted = left.pop(key, None)
        if wanted is None:
            result.extra += 1
            _add_example(result, result.extra, f"row {_text(key)} is not in {source}")
        elif cells != wanted:
            result.differing += 1
            _add_example(result, result.differing, f"row {_text(key)} has {_cells(cells, wanted, source)}")
    for number, key in enumerate(sorted(left), 1):
        _add_example(result, number, f"row {_text(key)} is not stored")
    result.missing = len(left)
    return result


def _add_example(result: Comparison, number: int, text: str) -> None:
    if number <= _EXAMPLES:
        result.examples.append(text)


def _cells(found: Mapping[bytes, bytes], wanted: Mapping[bytes, bytes], source: str) -> str:
    """Say in which cells two rows differ, with both values."""
    return ", ".join(
        f"{_text(column)} = {_value(found, column)} ({source}: {_value(wanted, column)})"
        for column in sorted({*found, *wanted})
        if found.get(column) != wanted.get(column)
    )


def _value(cells: Mapping[bytes, bytes], column: bytes) -> str:
    value = cells.get(column)
    return "no cell" if value is None else _text(value) or "''"


def _text(value: bytes) -> str:
    return value.decode(errors="backslashreplace")
