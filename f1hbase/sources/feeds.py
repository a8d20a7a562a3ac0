"""The seam towards records as they happen: a feed pushes them while a session is on; knows no destination."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from f1hbase.model.answers import Listing
from f1hbase.model.samples import Record, Samples
from f1hbase.model.units import Scope
from f1hbase.state.live import LoggedMessage, MessageLog


@dataclass(frozen=True, slots=True)
class FeedRecords:
    """Records of one endpoint that one message made, changed or confirmed.

    They are validated by who takes them: what has no key (such as the remains of a message that could not be read)
    goes to quarantine.

    Attributes:
        endpoint: What they are records of.
        records: The records, spelt as OpenF1's REST API spells them. A later one of an identity stands.
        stamp: When they were said, in milliseconds since 1970: the message's own time, or its `_id`. It becomes the
            timestamp of the cells, so that of two records of one identity the one with the greater stamp stands,
            whichever arrives first.
        replaces: Whether each is the whole record, so that fields that it has as null lose their cells. Otherwise only
            the fields that have a value are stored: absent is not null.
        final: Whether no record of the same identity will ever have other values, so that it does not matter which of
            the stamps of a batch its cells bear.
    """

    endpoint: str
    records: Samples | Sequence[Record]
    stamp: int
    replaces: bool = False
    final: bool = False


@dataclass(frozen=True, slots=True)
class FeedMessage:
    """What came of one message, or what waiting for others has made of earlier ones.

    Attributes:
        arrived: When it arrived here (UTC); latency is counted from it.
        records: What it says, by endpoint; empty for a message of which nothing is made.
        raw: The message as a line to keep, without its end; None where these records belong to messages that were
            handed on before.
        logged: The message as other instances may need it to fill a gap of their own; None where they do not.
    """

    arrived: datetime
    records: Sequence[FeedRecords] = ()
    raw: bytes | None = None
    logged: LoggedMessage | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection is gone; the feed is connecting again by itself.

    Attributes:
        at: Since when (UTC).
        reason: Why, for people.
    """

    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Back:
    """The connection is there: for the first time, or again after `Lost`.

    Attributes:
        at: Since when (UTC).
    """

    at: datetime


@dataclass(frozen=True, slots=True)
class Over:
    """The feed says that the session is over; some more messages may follow.

    Attributes:
        at: When that was said (UTC).
        reason: How, for people.
    """

    at: datetime
    reason: str


FeedEvent = FeedMessage | Lost | Back | Over


class Feed(Protocol):
    """The records of one session as they happen.

    Attributes:
        name: As in `--from`.
        home: Where it is, for messages: an address without credentials.
        lacks: What it will not have, for people, one line each: said once at the start.
    """

    name: str
    home: str
    lacks: Sequence[str]

    def knows(self, endpoint: str) -> frozenset[str]:
        """Return the fields of an endpoint that this feed would give where there is a value."""

    def events(self) -> AsyncIterator[FeedEvent]:
        """Yield what happens, as it happens, until it is closed.

        Connects again by itself, for ever, with waits that grow. Who iterates takes each event at once: what cannot be
        stored yet is for him to keep, so that the connection never waits.

        Raises:
            F1HBaseError: If it cannot go on whatever one waits for (a refused token, another kind of server at that
                address); says why and what to do, in one line.
        """


@runtime_checkable
class HasRest(Protocol):
    """A feed that keeps messages back for a while, or of which some records are made only by the end of a session."""

    def finish(self) -> FeedMessage | None:
        """Return what all that has come makes and was not handed on yet; nothing comes after it."""


class FeedRecipe(Protocol):
    """Says how to open a feed."""

    async def listing(self) -> Listing:
        """Return the sessions, of the past and to come, among which one is chosen to be recorded, and their meetings.

        Raises:
            F1HBaseError: If it cannot be had; says why and what to do.
        """

    def open(self, scope: Scope, instance: str, log: MessageLog | None) -> AbstractAsyncContextManager[Feed]:
        """Open the feed of a session; records of other sessions are left out.

        Args:
            scope: The session.
            instance: The name of this instance, which no other one that runs has.
            log: The messages that instances share: for a feed that needs all of them; read in another thread.

        Raises:
            F1HBaseError: If it cannot be opened; says why and what to do.
        """
