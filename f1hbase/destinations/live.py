"""The seam towards where a feed's records go: with timestamps of their own, in whatever order; knows no feed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from f1hbase.model.outcomes import Outcome, Quarantined
from f1hbase.model.samples import Record, Samples
from f1hbase.model.units import Scope
from f1hbase.state.live import Heartbeats, LoggedMessage, MessageLog


@dataclass(frozen=True, slots=True)
class LiveRecords:
    """Valid records of one endpoint; see `f1hbase.sources.feeds.FeedRecords`.

    Attributes:
        knows: With `replaces`, the fields that the feed would give where there is a value.
    """

    endpoint: str
    records: Samples | Sequence[Record]
    stamp: int
    replaces: bool = False
    final: bool = False
    knows: frozenset[str] = frozenset()


@dataclass(slots=True)
class LiveBatch:
    """What is to be stored at once; what is later in it is newer."""

    records: list[LiveRecords] = field(default_factory=list)
    messages: list[LoggedMessage] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)


class LiveWriter(Protocol):
    """Stores what comes of one session, over a connection of its own; used by one thread at a time."""

    def write(self, batch: LiveBatch) -> int:
        """Store a batch; on return it is durable. Again is safe.

        Returns:
            How many rows of records that were.

        Raises:
            UnreachableError: If the store is away now; it is tried again by who calls.
            StoreError: If it refuses something of it for good.
        """

    def close(self) -> None:
        """Close the connection."""


class LiveStates(Protocol):
    """What is remembered of units that are recorded."""

    def write_partial(self, run_id: str, outcomes: Sequence[Outcome]) -> None:
        """Write the lines of units that go on, but for those that are loaded already."""


class LiveDestination(Protocol):
    """One place where the records of one session go.

    Attributes:
        name: For messages and logs.
        writer: Stores them.
        heartbeats: Of all instances.
        log: The messages that instances share.
        states: The units.
    """

    name: str
    writer: LiveWriter
    heartbeats: Heartbeats
    log: MessageLog
    states: LiveStates

    def forget_messages(self) -> None:
        """Delete the shared messages of the session."""

    def close(self) -> None:
        """Close everything."""


class LiveDestinationRecipe(Protocol):
    """Says how to open a destination for a feed's records."""

    def open(self, scope: Scope, run_id: str) -> AbstractContextManager[LiveDestination]:
        """Open it for one session, and make what is not there yet.

        Raises:
            F1HBaseError: If it cannot be opened; says why and what to do.
        """
