"""What became of a unit in one destination, and how that stands later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from f1hbase.model.answers import RequestStats
from f1hbase.model.text import safe
from f1hbase.model.units import Unit, Window

CHECKSUM_MODULUS = 2**64
"""The checksum of a unit is the sum of its rows' checksums modulo this, so it does not depend on their order."""


class Status(StrEnum):
    """How a unit stood when its line was written.

    A provisional unit was fetched before its session had settled; it is asked for once more when it has. A partial
    one was fetched while what it speaks of was still going on, and counts as not done.
    """

    DONE = "done"
    PROVISIONAL = "provisional"
    PARTIAL = "partial"
    FAILED = "failed"


STORED = (Status.DONE, Status.PROVISIONAL)
"""The states of a unit whose records are all stored, as far as there were any."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a destination says of the records that it has taken and that are durable now.

    Attributes:
        rows: How many distinct rows, or records, it has stored.
        checksum: The sum of the rows' checksums, modulo 2**64; None for a destination that makes no rows.
        error: Why it refuses them, for people; None when they are stored.
        objects: What a landing zone wrote, in the form of its manifest.
    """

    rows: int = 0
    checksum: int | None = None
    error: str | None = None
    objects: Sequence[Mapping[str, Any]] = ()

    def __add__(self, other: Receipt) -> Receipt:
        sums = [one.checksum for one in (self, other) if one.checksum is not None]
        return Receipt(
            self.rows + other.rows,
            sum(sums) % CHECKSUM_MODULUS if sums else None,
            self.error or other.error,
            (*self.objects, *other.objects),
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a unit once its answer was stored in a destination (or was not): its line in the state.

    Attributes:
        unit: What was asked for.
        asked_at: When the first request for it was sent.
        source: The source it came from.
        records: How many records the source gave.
        duplicates: How many of them were equal to another one of the unit.
        quarantined: How many were put aside.
        receipt: What the destination says.
        stats: What it took to get it.
        seconds: What fetching and storing took.
        drivers: The driver numbers seen.
        unknown_fields: The fields seen that the catalogue does not know.
        error: Why it failed, for people; None when it is stored.
        epoch: The epoch of its session when its worker began (docs/architecture.md, fencing).
        validator: What its records were made of, in words of the source's own.
        unchanged: Whether what was stored before stands, as the source has not changed: its counts stay, too.
    """

    unit: Unit
    asked_at: datetime
    source: str = ""
    records: int = 0
    duplicates: int = 0
    quarantined: int = 0
    receipt: Receipt = field(default_factory=Receipt)
    stats: RequestStats = field(default_factory=RequestStats)
    seconds: float = 0.0
    drivers: frozenset[int] = frozenset()
    unknown_fields: frozenset[str] = frozenset()
    error: str | None = None
    epoch: int = 0
    validator: str = ""
    unchanged: bool = False

    def __post_init__(self) -> None:
        # An API's own words may be in it, and every destination writes it down.
        if self.error is not None:
            object.__setattr__(self, "error", safe(self.error))

    @property
    def rows(self) -> int:
        """How many distinct rows its records made."""
        return self.receipt.rows

    def failed(self, error: str) -> Outcome:
        """Return the same as a failure."""
        return replace(self, error=error)


@dataclass(frozen=True, slots=True)
class UnitState:
    """One unit as the state of a destination remembers it.

    Attributes:
        scope_prefix: `{year}#{meeting_key}#{session_key or -}`.
        status: As it was written; how it stands now `model.coverage` says.
        drivers: The driver numbers seen in its records.
        stats: Counts by name, such as records, rows and bytes.
        error: Why it failed the last time, if it did.
        run: The run that wrote it.
        fetched: When its records were asked for.
        checksum: The sum of its rows' checksums modulo 2**64; None where there is none.
        source: The source it came from; empty in lines of earlier versions, which knew OpenF1 alone.
        session_drivers: Everybody who drove in the session, as lines of earlier versions say it.
        objects: What a landing zone's manifest names.
        validator: What its records were made of, in words of the source's own; empty where that is not known.
        is_unreadable: Whether what is remembered of it cannot be read: records of it may be there, and nobody can say.
    """

    scope_prefix: str
    endpoint: str
    driver: int | None
    window: Window
    status: Status
    drivers: frozenset[int] = frozenset()
    stats: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    run: str = ""
    fetched: datetime | None = None
    checksum: int | None = None
    source: str = ""
    session_drivers: frozenset[int] | None = None
    objects: Sequence[Mapping[str, Any]] = ()
    validator: str = ""
    is_unreadable: bool = False

    @property
    def was_stored(self) -> bool:
        """Whether records of it may be in the destination, however it stands now."""
        return self.status is not Status.FAILED or self.checksum is not None or bool(self.objects)


@dataclass(frozen=True, slots=True)
class RunState:
    """One run as the state remembers it; the values are text."""

    run_id: str
    meta: Mapping[str, str] = field(default_factory=dict)
    stats: Mapping[str, str] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A record that was put aside instead of being stored.

    Attributes:
        scope_prefix: Where it belongs, `-#-#-` if that is not known.
        endpoint: The endpoint.
        record: The record's JSON.
        digest: The SHA-256 of its canonical JSON, in hex: the same however the answer spelt it.
        reason: Why, for people.
        found: When it was asked for.
        unit: The key of the unit it came with; empty if it belongs to none.
    """

    scope_prefix: str
    endpoint: str
    record: str
    digest: str
    reason: str
    found: datetime
    unit: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", safe(self.reason))
