"""From what a source gives to what a destination takes: validated, each identity once, and accounted for.

Written once, for all sources and destinations; knows neither.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from f1hbase.destinations.base import Batch
from f1hbase.model.answers import Answer, RequestStats
from f1hbase.model.catalog import ALL_ENDPOINTS, Endpoint
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
from f1hbase.model.samples import Record, Row, Samples
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
        self._endpoint = ALL_ENDPOINTS[answer.unit.endpoint]
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
            The hashes of identities that came in several slices, or more than once among samples.
        """
        seen: set[int] = set()
        repeated: set[int] = set()
        apart = _Rivals(self._endpoint)
        held: Batch | None = None
        for some in self._answer.records:
            valid = some if isinstance(some, Samples) else self._valid(some)
            marks = self._marks(valid)
            are_distinct = len(set(marks)) == len(marks)
            if conflicts:
                apart.add(_those(valid, marks, conflicts, among=True))
                valid = _those(valid, marks, conflicts, among=False)
            elif isinstance(valid, Samples) and not are_distinct:
                repeated |= {mark for mark, number in Counter(marks).items() if number > 1}
            repeated |= seen.intersection(marks)
            seen.update(marks)
            if held is not None:
                yield held
                held = None
            if valid:
                is_each_once = isinstance(valid, Samples) or are_distinct
                held = self._batch(valid if is_each_once else self._each_once(_Rivals(self._endpoint, valid)))
        if not conflicts and repeated:
            return frozenset(repeated)
        if apart or held is None:
            if held is not None:
                yield held
            held = self._batch(self._each_once(apart))
        yield held
        return frozenset()

    def _valid(self, records: Sequence[Any]) -> list[Record]:
        """Return the records that can be stored; the others are put aside."""
        endpoint, part, unit = self._endpoint, self._part, self._answer.unit
        valid: list[Record] = []
        for record in records:
            try:
                valid.append(check(endpoint, unit.scope.year, record))
            except InvalidRecordError as error:
                part.quarantined.append(self._aside(record, str(error)))
        part.records += len(records)
        return valid

    def _marks(self, valid: Samples | Sequence[Record]) -> list[int]:
        """Return the hashes of the identities of some records, and keep what they say of the unit."""
        endpoint, part = self._endpoint, self._part
        if isinstance(valid, Samples):
            part.records += len(valid)
            part.drivers.update(valid.keys[2])
            return list(map(hash, zip(*valid.keys, strict=True)))
        if endpoint.by_driver:
            part.drivers.update({record["driver_number"] for record in valid})
        for record in valid:
            part.unknown_fields |= unknown_fields(endpoint, record)
        return [hash(identity(endpoint, record)) for record in valid]

    def _each_once(self, rivals: _Rivals) -> list[Record]:
        """Return the record of each identity that stands; the others are counted, or put aside if they differ."""
        self._part.duplicates += rivals.duplicates
        stand: list[Record] = []
        for distinct in rivals:
            stands = distinct[0] if len(distinct) == 1 else winner(distinct)
            stand.append(stands)
            self._part.quarantined += [self._aside(record, IDENTITY) for record in distinct if record is not stands]
        return stand

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
        for aside in part.quarantined:  # told here, as an answer may be gone through twice
            if aside.reason == IDENTITY:
                _log.error("two records of %s have one identity: one goes to quarantine", self._answer.unit)
            else:
                _log.error("a record of %s goes to quarantine: %s", self._answer.unit, aside.reason)
        account.records += part.records
        account.duplicates += part.duplicates
        account.quarantined += part.quarantined
        account.drivers |= part.drivers
        account.unknown_fields |= part.unknown_fields
        account.stats.add(self._answer.stats)
        account.error = account.error or self._answer.error


class _Rivals:
    """Records that may have one identity; of those that say the same only one is held.

    Args:
        endpoint: Whose records they are.
        records: Those to begin with.

    Attributes:
        duplicates: How many said the same as another.
    """

    def __init__(self, endpoint: Endpoint, records: Iterable[Record] = ()) -> None:
        self._endpoint = endpoint
        # By identity: the only record, or where there are several the different ones by what they say.
        self._found: dict[Identity, Record | _Different] = {}
        self._rows: set[Row] = set()
        self.duplicates = 0
        self.add(records)

    def __bool__(self) -> bool:
        return bool(self._found)

    def __iter__(self) -> Iterator[list[Record]]:
        """Yield the different records of each identity, in the order in which they came."""
        for held in self._found.values():
            yield list(held.values()) if isinstance(held, _Different) else [held]

    def add(self, records: Samples | Iterable[Record]) -> None:
        """Take more."""
        for record in self._new(records) if isinstance(records, Samples) else records:
            key = identity(self._endpoint, record)
            held = self._found.get(key)
            if held is None:
                self._found[key] = record
                continue
            if not isinstance(held, _Different):
                held = self._found[key] = _Different({canonical_json(held): held})
            said = canonical_json(record)
            self.duplicates += said in held
            held.setdefault(said, record)

    def _new(self, samples: Samples) -> Samples:
        """Return the samples that are no duplicates of others, which takes no records of them: rows are as exact."""
        rows = dict.fromkeys(row for row in samples.rows if row not in self._rows)
        self._rows.update(rows)
        self.duplicates += len(samples) - len(rows)
        return Samples(samples.endpoint, list(rows))


class _Different(dict[str, Record]):
    """Records of one identity by their canonical JSON."""


def _those(
    records: Samples | Sequence[Record], marks: Sequence[int], conflicts: frozenset[int], *, among: bool
) -> Samples | list[Record]:
    """Return the records whose identity is, or is not, among the conflicts."""
    if isinstance(records, Samples):
        rows = [row for row, mark in zip(records.rows, marks, strict=True) if (mark in conflicts) is among]
        return Samples(records.endpoint, rows)
    return [record for record, mark in zip(records, marks, strict=True) if (mark in conflicts) is among]
