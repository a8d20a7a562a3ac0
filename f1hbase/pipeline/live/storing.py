"""The thread that stores what waits, however long the store is away; knows no feed and no kind of store."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from f1hbase.destinations.live import LiveBatch, LiveWriter
from f1hbase.errors import StoreError, UnreachableError
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.outcomes import Quarantined
from f1hbase.model.records import digest, identity, raw_json
from f1hbase.model.samples import Record, Samples
from f1hbase.model.text import count
from f1hbase.model.units import Scope
from f1hbase.pipeline.live.backlog import Backlog
from f1hbase.pipeline.live.figures import Figures
from f1hbase.pipeline.live.items import Decoded, decode

_log = logging.getLogger(__name__)

BATCH_BYTES = 500_000
"""How much is stored at once: some 8,000 samples, when so much waits."""

LINGER_SECONDS = 0.03
"""How long a batch waits for more of the same moment: a second's messages come in bursts."""

_WAIT_SECONDS = 0.5
_FIRST_REST, _LONGEST_REST = 0.5, 5.0
"""Seconds between two tries of a store that is away."""

_SAY_EVERY_SECONDS = 60.0
_IDENTITIES = 2_000_000
"""How many identities are remembered to count rows once; beyond that a row may be counted twice."""


class Storing:
    """Stores what waits, in a thread of its own; use it as a context manager.

    Args:
        backlog: What waits.
        writer: Stores it.
        scope: The session.
        figures: Where to count.
        knows: Tells the fields of an endpoint that the feed would give.
        name: The store, for messages.
    """

    def __init__(
        self,
        backlog: Backlog,
        writer: LiveWriter,
        scope: Scope,
        figures: Figures,
        knows: Callable[[str], frozenset[str]],
        name: str,
    ) -> None:
        self._backlog = backlog
        self._writer = writer
        self._scope = scope
        self._figures = figures
        self._knows = knows
        self._name = name
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="f1hbase-storing", daemon=True)
        self._identities: set[int] = set()
        self.away_because = ""
        """Why the store is away now; empty while it is not."""

    def __enter__(self) -> Storing:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            items = self._backlog.take(BATCH_BYTES, _WAIT_SECONDS)
            if not items:
                continue
            decoded = decode(items, self._knows)
            with self._figures.lock:
                self._figures.busy_since = min((at for at, _ in decoded.arrivals), default=time.time())
            if self._store(decoded):
                self._count(decoded)
                self._backlog.done()
                with self._figures.lock:
                    self._figures.busy_since = 0.0
                # Without a pause each message of a burst would be a batch, and a round trip, of its own.
                self._stop.wait(LINGER_SECONDS)

    def _store(self, decoded: Decoded) -> bool:
        """Store a batch, and wait for the store as long as it takes; False if there is no time left."""
        rest, away_since, said_at = _FIRST_REST, 0.0, 0.0
        while True:
            try:
                self._write(decoded.batch)
            except UnreachableError as error:
                now = time.monotonic()
                away_since = away_since or now
                self.away_because = str(error)
                if now - said_at > _SAY_EVERY_SECONDS or not said_at:
                    said_at = now
                    _log.warning(
                        "%s is away: %s; what comes waits (%s on disk), and is stored when it is back",
                        self._name, error, _megabytes(self._backlog.disk_bytes),
                    )  # fmt: skip
                if self._stop.wait(rest):
                    return False
                rest = min(2 * rest, _LONGEST_REST)
            else:
                if away_since:
                    _log.warning(
                        "%s is back after %.0f s; %s are stored now",
                        self._name, time.monotonic() - away_since, _megabytes(self._backlog.waiting_bytes),
                    )  # fmt: skip
                self.away_because = ""
                return True

    def _write(self, batch: LiveBatch) -> None:
        try:
            self._writer.write(batch)
        except StoreError as refusal:
            _log.error("%s refuses a batch: %s", self._name, refusal)
            self._write_one_by_one(batch)

    def _write_one_by_one(self, batch: LiveBatch) -> None:
        """Store what the store takes, and put the rest aside.

        Raises:
            UnreachableError: If it takes nothing at all: then it is the store, and not a record.
        """
        refused: list[Quarantined] = []
        taken = 0
        for one in batch.records:
            try:
                self._writer.write(LiveBatch([one]))
                taken += 1
            except StoreError as refusal:
                now = datetime.now(UTC)
                refused += [
                    Quarantined(self._scope.prefix, one.endpoint, raw_json(record), digest(record), str(refusal), now)
                    for record in one.records
                ]
        if refused and not taken:
            raise UnreachableError(refused[0].reason)
        self._writer.write(LiveBatch([], batch.messages, [*batch.quarantined, *refused]))
        with self._figures.lock:
            self._figures.quarantined += len(refused)

    def _count(self, decoded: Decoded) -> None:
        now = time.time()
        figures = self._figures
        with figures.lock:
            for at, number in decoded.arrivals:
                figures.latencies.add(now - at, number)
            for one in decoded.batch.records:
                figures.rows[one.endpoint] += self._new(one.endpoint, one.records)
            figures.quarantined += len(decoded.batch.quarantined)

    def _new(self, endpoint: str, records: Samples | Sequence[Record]) -> int:
        """Return how many of some records have an identity that was not counted yet."""
        if isinstance(records, Samples):
            marks = {hash((endpoint, *row[:4])) for row in records.rows}
        else:
            marks = {hash((endpoint, identity(ENDPOINTS[endpoint], record))) for record in records}
        fresh = marks - self._identities
        if len(self._identities) < _IDENTITIES:
            self._identities |= fresh
        return len(fresh)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else count(size, "byte")
