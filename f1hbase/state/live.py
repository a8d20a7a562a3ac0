"""What instances that record one session together remember of each other: heartbeats, and the messages they have had.

Knows no store; `f1hbase.state.hbase.live` keeps them in HBase.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from f1hbase.model.units import Scope

BEAT_SECONDS = 3.0
"""How often an instance writes its heartbeat."""

STALE_AFTER = timedelta(seconds=12)
"""An instance whose last heartbeat is older has stopped, or does not reach the store; clocks may differ by some of it.
With `BEAT_SECONDS` the others name it within 15 s."""

WAITING, CONNECTING, RECORDING, LOST = "waiting", "connecting", "recording", "lost"
ENDED, STOPPED = "ended", "stopped"
"""The states of an instance; the last two are its own last words."""


@dataclass(frozen=True, slots=True)
class LoggedMessage:
    """A message that instances share, so that one that was cut off can do as if it had not been.

    Attributes:
        moment: When it was sent (UTC).
        topic: Its topic.
        body: Its content as JSON.
        order: Tells which of two messages of one moment and topic came first: nanoseconds since 1970 at its arrival.
        seen_by: The instances that have had it.
    """

    moment: datetime
    topic: str
    body: bytes
    order: int = 0
    seen_by: frozenset[str] = frozenset()


class MessageLog(Protocol):
    """The messages of one session that instances share; several threads may not use it at the same time."""

    def since(self, moment: datetime | None) -> list[LoggedMessage]:
        """Return the messages that were sent at a moment or later, or all, in order of time, topic and arrival.

        Raises:
            UnreachableError: If the store is away.
        """


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """How an instance stands.

    Attributes:
        scope_prefix: The session that it records.
        instance: Its name.
        state: `waiting`, `connecting`, `recording`, `lost`, `ended` or `stopped`.
        at: When this was written, by its own clock.
        meta: More about it, for people: host, process, source, when the last message was sent and came.
        stats: Counts, and seconds: `records`, `messages`, `reconnects`, `quarantined`, `waiting_bytes`, `lag` (how long
            the oldest record that is not stored has waited), `latency_p50` and `latency_p99`.
        error: What went wrong last, if it still does.
    """

    scope_prefix: str
    instance: str
    state: str
    at: datetime
    meta: Mapping[str, str] = field(default_factory=dict)
    stats: Mapping[str, float] = field(default_factory=dict)
    error: str = ""

    def has_stopped(self, now: datetime) -> bool:
        """Return whether it is silent without having said that it ends."""
        return self.state not in {ENDED, STOPPED} and now - self.at > STALE_AFTER


class Heartbeats(Protocol):
    """The heartbeats of all instances."""

    def write(self, beat: Heartbeat) -> None:
        """Write a heartbeat in the place of the instance's last one.

        Raises:
            UnreachableError: If the store is away.
        """

    def read(self, scope: Scope | None = None) -> Sequence[Heartbeat]:
        """Return the last heartbeat of each instance of a session, or of all.

        Raises:
            UnreachableError: If the store is away.
        """
