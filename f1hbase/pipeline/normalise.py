"""From what a source gives to what a destination takes: validated, each identity once, and accounted for.

Written once, for all sources and destinations; knows neither.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from f1hbase.destinations.base import Batch
from f1hbase.model.answers import Answer, RequestStats
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.outcomes import Quarantined
from f1hbase.model.records import (
    Identity,
    InvalidRecordError,
    canonical_json,
    check,
    digest,
    identity,
    raw_json,
    unknown_fields,
    winner,
)
from f1hbase.model.samples import SAMPLE_KEYS, Record, Samples
from f1hbase.model.units import Unit

_log = logging.getLogger(__name__)

Key = TypeVar("Key")
Value = TypeVar("Value")

IDENTITY = "identity: another record of the same identity has other values"
"""The reason of a record in quarantine that lost against another one (docs/architecture.md)."""


@dataclass(slots=True)
class Account:
    """What has come of one unit so far.

    Attributes:
        unit: The unit.
        records: How many records the source gave.
        duplicates: How many of them were equal to another one.
        quarantined: Those that were put aside.
        drivers: The driver numbers seen.
        unknown_fields: The fields seen that the catalogue does not know.
        stats: What it took.
        error: Why it failed, if it did.
    """

    unit: Unit
    records: int = 0
    duplicates: int = 0
    quarantined: list[Quarantined] = field(default_factory=list)
    drivers: set[int] = field(default_factory=set)
    unknown_fields: set[str] = field(default_factory=set)
    stats: RequestStats = field(default_factory=RequestStats)
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Restart:
    """Said instead of a batch: what was given of this answer is void, and comes again."""


class AnswerNormaliser:
    """Turns one answer, which is a unit or a part of one, into batches.

    Args:
        answer: The answer.
        account: That of its unit, to which what comes is added.
        knows: The fields that the source would give where there is a value.
    """

    def __init__(self, answer: Answer, account: Account, knows: frozenset[str]) -> None:
        self._answer = answer
        self._account = account
        self._endpoint = ENDPOINTS[answer.unit.endpoint]
        self._knows = knows
        self._part = Account(answer.unit)

    def batches(self) -> Generator[Batch | Restart, None, None]:
        """Yield what is to be stored, each batch with the answer it came in; then the account is up to date.

        Raises:
            Exception: Whatever decoding the records raises; the account is then as it was.
        """
        if self._answer.error is not None:
            self._add_up()  # there is nothing to store
            return
        conflicts = yield from self._pass(frozenset())
        if conflicts:
            # Which of several records stands is known only when all have been seen.
            yield Restart()
            self._part = Account(self._answer.unit)
            yield from self._pass(conflicts)
        self._add_up()

    def made(self, make: Callable[[Batch], Iterable[tuple[Key, Value]]]) -> dict[Key, Value]:
        """Return what is made of the batches, by key; of those that turn out to be void nothing.

        Raises:
            Exception: Whatever decoding the records raises.
        """
        found: dict[Key, Value] = {}
        for item in self.batches():
            if isinstance(item, Restart):
                found.clear()
            else:
                found.update(make(item))
        return found

    def _pass(self, conflicts: frozenset[int]) -> Generator[Batch | Restart, None, frozenset[int]]:
        """Yield the batches of the samples whose identity is not among the conflicts, and of all other records.

        Returns:
            The hashes of identities that came more than once, at least once of them among samples.
        """
        seen: set[int] = set()
        repeated: set[int] = set()
        others: list[Any] = []
        other_marks: set[int] = set()
        held: Batch | None = None
        for some in self._answer.records:
            if not isinstance(some, Samples):
                others.extend(some)
                if not conflicts:
                    other_marks.update(_marks(some))
                continue
            hashes = [hash(row[:4]) for row in some.rows]
            if conflicts:
                others.extend(record for record, mark in zip(some, hashes, strict=True) if mark in conflicts)
                rows = [row for row, mark in zip(some.rows, hashes, strict=True) if mark not in conflicts]
                some = Samples(some.endpoint, rows)
            else:
                marks = set(hashes)
                repeated |= seen & marks
                if len(marks) < len(hashes):
                    repeated |= {mark for mark, number in Counter(hashes).items() if number > 1}
                seen |= marks
            if held is not None:
                yield held
            held = self._of_samples(some) if some.rows else None
        repeated |= seen & other_marks
        if repeated:
            return frozenset(repeated)
        valid = self._of_records(others)
        if valid or held is None:
            if held is not None:
                yield held
            held = self._batch(valid)
        yield held
        return frozenset()

    def _of_samples(self, samples: Samples) -> Batch:
        self._part.records += len(samples)
        self._part.drivers.update({row[2] for row in samples.rows})
        return self._batch(samples)

    def _of_records(self, records: Sequence[Any]) -> list[Record]:
        """Return the records that can be stored, each identity once; the others are put aside."""
        endpoint, part, unit = self._endpoint, self._part, self._answer.unit
        part.records += len(records)
        by_identity: dict[Identity, list[Record]] = defaultdict(list)
        for record in records:
            try:
                valid = check(endpoint, unit.scope.year, record)
            except InvalidRecordError as error:
                _log.error("a record of %s goes to quarantine: %s", unit, error)
                part.quarantined.append(self._aside(record, str(error)))
                continue
            by_identity[identity(endpoint, valid)].append(valid)
            if endpoint.by_driver:
                part.drivers.add(valid["driver_number"])
            part.unknown_fields |= unknown_fields(endpoint, valid)
        return [self._one_of(some) if len(some) > 1 else some[0] for some in by_identity.values()]

    def _one_of(self, records: list[Record]) -> Record:
        """Return which of several records of one identity stands; equal ones are duplicates, others put aside."""
        stands = winner(records)
        distinct = {canonical_json(record): record for record in records}
        self._part.duplicates += len(records) - len(distinct)
        for text, record in distinct.items():
            if text != canonical_json(stands):
                _log.error("two records of %s have one identity: one goes to quarantine", self._answer.unit)
                self._part.quarantined.append(self._aside(record, IDENTITY))
        return stands

    def _aside(self, record: object, reason: str) -> Quarantined:
        unit = self._answer.unit
        return Quarantined(
            unit.scope.prefix, unit.endpoint, raw_json(record), digest(record), reason, self._answer.asked_at, unit.key
        )

    def _batch(self, records: Samples | Sequence[Record]) -> Batch:
        answer = self._answer
        return Batch(answer.unit, records, answer.source, self._knows, raw=answer.raw, select=dict(answer.select))

    def _add_up(self) -> None:
        account, part = self._account, self._part
        account.records += part.records
        account.duplicates += part.duplicates
        account.quarantined += part.quarantined
        account.drivers |= part.drivers
        account.unknown_fields |= part.unknown_fields
        account.stats.add(self._answer.stats)
        account.error = account.error or self._answer.error


def _marks(records: Sequence[Any]) -> Iterator[int]:
    """Yield the hashes of the identities that records would have as samples."""
    for record in records:
        if isinstance(record, dict):
            with suppress(TypeError):  # a list in a key has no hash, and is the key of no sample
                yield hash(tuple(map(record.get, SAMPLE_KEYS)))
