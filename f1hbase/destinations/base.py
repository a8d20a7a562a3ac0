"""The seam towards where records go: a destination takes them idempotently; knows no source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from f1hbase.model.answers import RawAnswer
from f1hbase.model.outcomes import Receipt
from f1hbase.model.samples import Record, Samples
from f1hbase.model.units import Unit
from f1hbase.state.base import State


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one unit that are to be stored: each valid, and each identity once.

    Attributes:
        unit: What they are of.
        records: The records.
        knows: The fields that the source would give where there is a value.
        overwrite: Whether records of the unit may be stored already, so that what has become null must go.
        raw: The answer they came in, with the last batch of it.
        select: Which of the answer's records are the unit's; all when empty.
    """

    unit: Unit
    records: Samples | Sequence[Record]
    knows: frozenset[str] = frozenset()
    overwrite: bool = False
    raw: RawAnswer | None = None
    select: dict[str, int] = field(default_factory=dict)


class Writer(Protocol):
    """Stores batches over a connection of its own; used by one thread at a time."""

    def write(self, batch: Batch) -> Receipt:
        """Store a batch; on return it is durable. What the destination refuses is a receipt with an error.

        Raises:
            UnreachableError: If the destination is away longer than patience lasts.
        """

    def close(self) -> None:
        """Close the connection."""


class Destination(Protocol):
    """One place where records go, as a worker has it.

    Attributes:
        name: For messages and logs, such as `HBase` or `./folder`.
        state: What it remembers of its units.
        writers: As many as may write at the same time.
    """

    name: str
    state: State
    writers: Sequence[Writer]

    def close(self) -> None:
        """Close everything."""
