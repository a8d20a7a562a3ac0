"""The seam of `verify`: an auditor looks at one place where records are stored; knows no source and changes nothing.

A new kind of place is one module with a function `open_auditor(config, location)`, and one line in
`f1hbase.composition.AUDITORS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from f1hbase.destinations.base import Batch
from f1hbase.model.outcomes import RunState, UnitState
from f1hbase.model.units import Scope, Unit
from f1hbase.operations.verify.differences import Difference
from f1hbase.operations.verify.reconcile import Reconciliation

Tick = Callable[[int], None]
"""Is told how many more records have been counted."""

StoredRecord = tuple[bytes, Mapping[bytes, bytes]]
"""A record as it is stored: the key that names it there, and its contents by name. Both are shown to people."""


@dataclass(frozen=True, slots=True)
class Depth:
    """How closely to look.

    Attributes:
        deep: Whether to read contents, too, and not only to count.
        against_source: How many units to ask the source for again and compare cell by cell.
        seed: Which ones; None lets chance decide.
        row_counter: Whether to have the store count its rows by itself instead of reading them.
    """

    deep: bool = False
    against_source: int = 0
    seed: int | None = None
    row_counter: bool = False


@dataclass(slots=True)
class Survey:
    """What a place has, at first sight.

    Attributes:
        prefixes: The scope prefixes that it has units or records of.
        foreign: What is none of f1hbase's; without a scope where it belongs to none.
    """

    prefixes: set[str] = field(default_factory=set)
    foreign: list[Difference] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Aside:
    """A record in quarantine: where it belongs, and why it is there.

    Attributes:
        key: What names it there.
        scope_prefix: Its session, or meeting; `-#-#-` where it says none.
        endpoint: Its endpoint.
        reason: As it was given when the record was put aside.
    """

    key: str
    scope_prefix: str
    endpoint: str
    reason: str


class Auditor(Protocol):
    """Looks at one place where records are stored; used by one thread at a time.

    Each method raises UnreachableError if the place is away longer than patience lasts.

    Attributes:
        name: The place, for messages.
        viewer: With what one looks at single records there, for messages.
        look: How it looks, for people.
        deep_look: The same of a deep look.
    """

    name: str
    viewer: str
    look: str
    deep_look: str

    def check(self, depth: Depth) -> None:
        """Refuse what cannot be done, before anything long begins.

        Raises:
            F1HBaseError: If there is nothing to look at, or not that closely; says why and what to do.
        """

    def survey(self) -> Survey:
        """Return which sessions and meetings it has anything of, without reading their records."""

    def runs(self) -> Sequence[RunState]:
        """Return the runs that loaded something there; none where it does not remember runs."""

    def quarantined(self) -> Iterable[Aside]:
        """Yield the records in quarantine."""

    def loading(self, meetings: Iterable[Scope]) -> Iterator[str]:
        """Yield which of some meetings are being loaded now, and by whom, for people."""

    def describe(self, scope: Scope) -> Scope:
        """Return a scope with what is stored of its name and dates, and whether it was cancelled."""

    def units(self, scope: Scope) -> Sequence[UnitState]:
        """Return the units that the state knows of a scope."""

    def count(
        self, scope: Scope, reconciliations: Mapping[str, Reconciliation], tick: Tick, *, deep: bool
    ) -> Iterable[Difference]:
        """Count the records of a scope into the reconciliations of its endpoints.

        Args:
            scope: The scope, as `describe` returns it.
            reconciliations: By endpoint; records of other endpoints are passed over.
            tick: Told now and then how many records were counted.
            deep: Whether to read contents, too.

        Returns:
            What is wrong beside that: records of no endpoint, objects that are broken.
        """

    def notes(self) -> Iterable[str]:
        """Yield what else there is to know once every session was counted, for people; no differences."""

    def count_family(self, family: str) -> int:
        """Have the store count by itself how many rows there are in a column family.

        Raises:
            F1HBaseError: If that fails; says why.
        """

    def encode(self, batch: Batch) -> Iterable[StoredRecord]:
        """Return a batch as it would be stored."""

    def stored(self, unit: Unit) -> Iterable[StoredRecord]:
        """Yield the records that are stored of a unit's endpoint, session, driver and window."""

    def close(self) -> None:
        """Close all connections."""


@dataclass(frozen=True, slots=True)
class Uncounted:
    """A scope that is to be counted; see `Auditor.count`."""

    scope: Scope
    reconciliations: Mapping[str, Reconciliation]


@runtime_checkable
class CountsAhead(Protocol):
    """An auditor that counts many scopes at the same time, before `count` is called for each of them."""

    def count_ahead(self, scopes: Sequence[Uncounted], *, deep: bool) -> None:
        """Count the records of some scopes into their reconciliations; `count` then says only what is wrong beside."""
