"""The seam towards what is remembered: units, quarantine and leases of each destination, runs of the first one."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from f1hbase.errors import F1HBaseError
from f1hbase.model.outcomes import Outcome, Quarantined, RunState, UnitState
from f1hbase.model.units import Scope

_log = logging.getLogger(__name__)

LEASE_SECONDS = 120.0
"""How long a lease lasts after it was last renewed. The clocks of hosts that load together may differ by less."""

RENEW_SECONDS = LEASE_SECONDS / 4


def new_run_id(now: datetime) -> str:
    """Return an identifier that sorts by time and is not given twice."""
    return f"{now:%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(3)}"


class State(Protocol):
    """What one destination remembers of its units; several threads may not use one at the same time."""

    def unit_states(self, scope: Scope) -> list[UnitState]:
        """Return the units known of one session (or of a meeting as such) that count: none of an older epoch."""

    def write_units(self, run_id: str, outcomes: Sequence[Outcome]) -> None:
        """Remember how units ended; only ever after their records are durable."""

    def quarantined(self, scope: Scope, endpoint: str) -> list[tuple[str, str]]:
        """Return what is in quarantine of an endpoint and session: each one's key, and the key of its unit."""

    def put_quarantine(self, run_id: str, records: Collection[Quarantined]) -> None:
        """Put records aside; the same record twice is once."""

    def delete_quarantine(self, keys: Collection[str]) -> None:
        """Take records out of quarantine, by their keys."""


def quarantine_key(record: Quarantined) -> str:
    """Return what names a record in quarantine."""
    return f"quarantine#{record.scope_prefix}#{record.endpoint}#{record.digest}"


class Runs(Protocol):
    """What is remembered of runs."""

    def write_run(self, run: RunState) -> None:
        """Write what is known of a run; fields written before and not now stay."""

    def runs(self) -> list[RunState]:
        """Return all runs, the latest first."""


@dataclass(frozen=True, slots=True)
class Epochs:
    """How often each session of a meeting was rolled back, and when last.

    A unit's line carries the epoch that its worker began with; one of an older epoch than its session's counts for
    nothing, so that a worker that slept through its lease and a rollback can write what it likes.

    Attributes:
        by_session: How often each session key, as text, was rolled back by itself where that is not 0; `-` is the
            meeting as such, and `*` all there is of the meeting at once, sessions that nobody knew of included.
        deleted_at: When records of the meeting were last deleted, in milliseconds since 1970 by the store's clock;
            0 for never. What writes with times of its own writes with later ones.
    """

    by_session: Mapping[str, int] = field(default_factory=dict)
    deleted_at: int = 0

    def of(self, scope: Scope) -> int:
        """Return the epoch of a session, or of the meeting as such."""
        return self.by_session.get(epoch_key(scope), 0) + self.by_session.get(WHOLE_MEETING, 0)

    def raised(self, keys: Collection[str], deleted_at: int = 0) -> Epochs:
        """Return them with one more for some keys, and a later deletion."""
        more = {key: self.by_session.get(key, 0) + 1 for key in keys}
        return Epochs({**self.by_session, **more}, max(self.deleted_at, deleted_at))


WHOLE_MEETING = "*"
"""The key among the epochs of a meeting that counts for each of its sessions and for the meeting as such."""


def epoch_key(scope: Scope) -> str:
    """Return the key of a session (or of the meeting as such) among the epochs of its meeting."""
    return "-" if scope.session_key is None else str(scope.session_key)


class Leases(Protocol):
    """The leases of one run: who loads a meeting now."""

    def take(self, meeting: Scope) -> str | None:
        """Take the lease of a meeting.

        Returns:
            Who else holds it, for people; None when it is ours now.

        Raises:
            UnreachableError: If the store is away longer than patience lasts.
        """

    def epochs(self, meeting: Scope) -> Epochs:
        """Return the epochs of a meeting whose lease is held, as they were when it was taken."""

    def name_worker(self, meeting: Scope, pid: int) -> None:
        """Say which process loads the meeting, so that it counts as held while that one lives."""

    def give_back(self, meeting: Scope) -> None:
        """Let others load the meeting; a lease that the store cannot be told of runs out by itself."""

    def lost(self, meeting: Scope) -> bool:
        """Return whether a lease that was taken is held no longer, because it ran out and somebody else has it."""

    def renew(self) -> None:
        """Make all leases that are held last longer; any thread may call it."""


class StateIndex(Protocol):
    """What `status` and `verify` need to know of a whole store."""

    def unit_scopes(self) -> Iterable[str]:
        """Yield the prefix of each scope that has units."""

    def quarantine_counts(self) -> dict[tuple[str, str], int]:
        """Return how many records are in quarantine, by scope prefix and endpoint."""

    def holders(self) -> Iterator[tuple[Scope, str]]:
        """Yield the meetings that are being loaded now, and by whom, for people."""


class Renewable(Protocol):
    """What has to be renewed while it is held."""

    def renew(self) -> None:
        """Make it last longer; any thread may call it."""


class LeaseKeeper:
    """A thread that renews the leases of a run while the block runs.

    Args:
        leases: What to renew.
        every: How often, in seconds.
    """

    def __init__(self, leases: Renewable, every: float = RENEW_SECONDS) -> None:
        self._leases = leases
        self._every = every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease-keeper", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        # Not waited for: it may hang in a call to the store, and what it could still do is only to renew.
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            try:
                self._leases.renew()
            except F1HBaseError as error:
                _log.debug("the leases are not renewed: %s", error)
