"""The seam towards where records go: a destination takes them idempotently; knows no source."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from f1hbase.model.answers import RawAnswer
from f1hbase.model.footprints import Footprint, Share
from f1hbase.model.outcomes import Receipt
from f1hbase.model.samples import Record, Samples
from f1hbase.model.units import Scope, Unit
from f1hbase.state.base import Leases, Runs, State


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one unit that are to be stored: each valid, and each identity once.

    Attributes:
        unit: What they are of.
        records: The records.
        source: The name of the source they came from.
        knows: The fields that the source would give where there is a value.
        overwrite: Whether records of the unit may be stored already, so that what has become null must go.
        raw: The answer they came in, with every batch of it; None where the source has none.
        select: Which of the answer's records are the unit's; all when empty.
    """

    unit: Unit
    records: Samples | Sequence[Record]
    source: str = ""
    knows: frozenset[str] = frozenset()
    overwrite: bool = False
    raw: RawAnswer | None = None
    select: dict[str, int] = field(default_factory=dict)


class Writer(Protocol):
    """Stores batches over a connection of its own; used by one thread at a time."""

    def write(self, batch: Batch) -> Receipt:
        """Store a batch; on return it is durable. What the destination refuses is a receipt with an error.

        Any other exception than these ends the worker, which is started again three times.

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


class KeepsObjects(Protocol):
    """A recipe whose destination is a store of objects, where room and requests are paid for."""

    @property
    def keeps_answers(self) -> bool:
        """Whether it keeps answers byte for byte."""

    def footprint(self, shares: Iterable[Share]) -> Footprint:
        """Return what keeping what is expected takes there."""


class DestinationRecipe(Protocol):
    """Says how to open a destination; can be handed to another process.

    Attributes:
        name: For messages and logs.
        keeps_answers: Whether it keeps answers byte for byte.
    """

    name: str
    keeps_answers: bool

    def prepare(self, meetings: Sequence[Scope]) -> None:
        """Create tables, markers and whatever else a load of some meetings needs there.

        Raises:
            F1HBaseError: If that cannot be; says why and what to do.
        """

    def open(self, *, workers: int, number: int, patience: float, stop: threading.Event) -> Destination:
        """Open it as one of several workers.

        Args:
            workers: How many workers there are at the same time; they share what connections there may be.
            number: Which one of all that the run has started.
            patience: For how long it may be away, in seconds.
            stop: Set when nothing is to be waited for any more.
        """

    def open_state(self, patience: float, stop: threading.Event) -> State:
        """Open what it remembers, for the process that starts a load or looks at it."""

    def open_runs(self, patience: float, stop: threading.Event) -> Runs:
        """Open what it remembers of runs."""

    def open_leases(self, run_id: str, patience: float, stop: threading.Event) -> Leases:
        """Open the leases of a run."""
