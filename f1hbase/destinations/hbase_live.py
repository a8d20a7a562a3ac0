"""HBase as the place where a feed's records go: every cell bears the time of its message, so the newest one stands."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby

from f1hbase.config import Config
from f1hbase.destinations.hbase import HBaseRecipe
from f1hbase.destinations.hbase import recipe as hbase_recipe
from f1hbase.destinations.live import LiveBatch, LiveDestination, LiveRecords, LiveStates, LiveWriter
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.outcomes import Outcome, Status
from f1hbase.model.samples import SAMPLE_KEYS, Samples
from f1hbase.model.samples import Row as SampleRow
from f1hbase.model.units import Scope
from f1hbase.state.hbase.cells import quarantine_mutation
from f1hbase.state.hbase.live import HBaseHeartbeats, HBaseMessageLog, message_mutations
from f1hbase.state.hbase.reports import HBaseReports
from f1hbase.state.live import Heartbeats, MessageLog
from f1hbase.stores.hbase.codec import Block, encode, encode_samples, null_columns, stale_signs
from f1hbase.stores.hbase.connector import HBaseConnector
from f1hbase.stores.hbase.frames import RowMutation
from f1hbase.stores.hbase.schema import Tables

_log = logging.getLogger(__name__)

_AWAY_AFTER_SECONDS = 3.0
"""After how long without an answer a call gives up; who called tries again, and keeps what comes meanwhile."""

_CALL_SECONDS = 10.0
_MANY_STAMPS = 4
_SAMPLE_KEYS = len(SAMPLE_KEYS)
_DELETIONS_EVERY_SECONDS = 10.0
"""How often it is looked whether something of the meeting was deleted: cells must be later than that."""


class HBaseLiveWriter:
    """See `f1hbase.destinations.live.LiveWriter`.

    Args:
        connector: The connection to use.
        reports: Reads what was deleted, over the same connection.
        tables: The names of the tables.
        scope: The session.
        run_id: This run.
    """

    def __init__(
        self, connector: HBaseConnector, reports: HBaseReports, tables: Tables, scope: Scope, run_id: str
    ) -> None:
        self._connector = connector
        self._reports = reports
        self._tables = tables
        self._scope = scope
        self._run_id = run_id
        self._earliest = 0
        self._looked_at: float | None = None

    def write(self, batch: LiveBatch) -> int:
        """Store a batch; on return HBase has acknowledged it."""
        self._look_for_deletions()
        if batch.quarantined:
            aside = {record.digest: quarantine_mutation(self._run_id, record) for record in batch.quarantined}
            self._connector.put(self._tables.reports, list(aside.values()))
        rows = 0
        # A call has one timestamp: what is of one time goes together, and the older first.
        stamped = sorted(_gathered(batch.records), key=lambda one: max(one.stamp, self._earliest))
        for stamp, several in groupby(stamped, key=lambda one: max(one.stamp, self._earliest)):
            rows += self._put(stamp, list(several))
        if batch.messages:
            # After the records that were made of them: who reads them may rely on these.
            mutations = {row.key: row for row in message_mutations(self._scope, batch.messages)}
            self._connector.put(self._tables.reports, list(mutations.values()))
        return rows

    def close(self) -> None:
        """Close the connection."""
        self._connector.close()

    def _put(self, stamp: int, several: Sequence[LiveRecords]) -> int:
        mutations: dict[bytes, RowMutation] = {}
        number = 0
        for one in several:
            block = self._block(one)
            if block is not None:
                self._connector.put(self._tables.data, block, timestamp=stamp)
                number += len(block.keys)
                continue
            for row in self._rows(one):
                earlier = mutations.get(row.key)
                mutations[row.key] = row if earlier is None else _over(earlier, row)
        if mutations:
            self._connector.put(self._tables.data, list(mutations.values()), timestamp=stamp)
        return number + len(mutations)

    def _block(self, one: LiveRecords) -> Block | None:
        if not isinstance(one.records, Samples) or one.replaces:
            return None
        block = encode_samples(self._scope.year, one.records)
        # A row may be in a call once; a message that says a sample twice goes row by row.
        return None if block is None or len(set(block.keys)) < len(block.keys) else block

    def _rows(self, one: LiveRecords) -> Iterator[RowMutation]:
        endpoint = ENDPOINTS[one.endpoint]
        for record in one.records:
            key, cells = encode(endpoint, self._scope.year, record)
            deletes = null_columns(endpoint, record, cells, one.knows) if one.replaces else stale_signs(endpoint, cells)
            yield RowMutation(key, cells, deletes)

    def _look_for_deletions(self) -> None:
        now = time.monotonic()
        if self._looked_at is None or now - self._looked_at > _DELETIONS_EVERY_SECONDS:
            self._earliest = self._reports.epochs(self._scope.meeting).deleted_at + 1
            self._looked_at = now


class HBaseLiveStates:
    """See `f1hbase.destinations.live.LiveStates`."""

    def __init__(self, reports: HBaseReports, scope: Scope) -> None:
        self._reports = reports
        self._scope = scope

    def write_partial(self, run_id: str, outcomes: Sequence[Outcome]) -> None:
        """Write the lines of units that go on, but for those that are loaded already."""
        loaded = {
            state.endpoint
            for state in self._reports.unit_states(self._scope)
            if state.status in {Status.DONE, Status.PROVISIONAL}
        }
        epoch = self._reports.epochs(self._scope.meeting).of(self._scope)
        lines = [replace(outcome, epoch=epoch) for outcome in outcomes if outcome.unit.endpoint not in loaded]
        if lines:
            self._reports.write_units(run_id, lines)


class HBaseLiveDestination:
    """See `f1hbase.destinations.live.LiveDestination`.

    Args:
        recipe: How HBase is opened.
        scope: The session.
        run_id: This run.
    """

    name = "HBase"

    def __init__(self, recipe: HBaseRecipe, scope: Scope, run_id: str) -> None:
        self._connectors = [
            # A put that is refused for long (a table that is disabled) is waited for as if HBase were away.
            HBaseConnector(
                recipe.gateways, _AWAY_AFTER_SECONDS, put_timeout=10 * _AWAY_AFTER_SECONDS,
                call_timeout=min(_CALL_SECONDS, recipe.call_timeout),
            )
            for _ in range(3)
        ]  # fmt: skip
        rows, beats, log = self._connectors
        reports = recipe.tables.reports
        self.writer: LiveWriter = HBaseLiveWriter(rows, HBaseReports(rows, reports), recipe.tables, scope, run_id)
        self.heartbeats: Heartbeats = HBaseHeartbeats(beats, reports)
        self._log = HBaseMessageLog(log, reports, scope)
        self.log: MessageLog = self._log
        self.states: LiveStates = HBaseLiveStates(HBaseReports(beats, reports), scope)

    def forget_messages(self) -> None:
        """Delete the shared messages of the session."""
        self._log.clear()

    def close(self) -> None:
        """Close all connections."""
        for connector in self._connectors:
            connector.close()


@dataclass(frozen=True, slots=True)
class HBaseLiveRecipe:
    """See `f1hbase.destinations.live.LiveDestinationRecipe`."""

    hbase: HBaseRecipe

    @contextmanager
    def open(self, scope: Scope, run_id: str) -> Iterator[LiveDestination]:
        """Create the tables that are absent, and open HBase for a session."""
        self.hbase.prepare([scope.meeting])
        destination = HBaseLiveDestination(self.hbase, scope, run_id)
        try:
            yield destination
        finally:
            destination.close()


def live_recipe(config: Config) -> HBaseLiveRecipe:
    """Return how the settings say that HBase is opened, once its gateways have answered.

    Raises:
        UnreachableError: If no gateway answers.
    """
    return HBaseLiveRecipe(hbase_recipe(config))


def _gathered(records: Sequence[LiveRecords]) -> Sequence[LiveRecords]:
    """Give records that never change one timestamp, the earliest, where a batch has many: each takes a call.

    A batch has many when a session is played faster than it was, or HBase was away.
    """
    final = [one for one in records if one.final and not one.replaces]
    if len({one.stamp for one in final}) < _MANY_STAMPS:
        return records
    stamp = min(one.stamp for one in final)
    gathered = [replace(one, stamp=stamp) for one in final if not isinstance(one.records, Samples)]
    samples: dict[str, dict[SampleRow, SampleRow]] = defaultdict(dict)
    for one in final:
        if isinstance(one.records, Samples):
            samples[one.endpoint].update({row[:_SAMPLE_KEYS]: row for row in one.records.rows})
    gathered += [
        LiveRecords(name, Samples(ENDPOINTS[name], list(rows.values())), stamp, final=True)
        for name, rows in samples.items()
    ]
    return [*gathered, *(one for one in records if not one.final or one.replaces)]


def _over(earlier: RowMutation, later: RowMutation) -> RowMutation:
    """Return what two changes of one row, of one time, make together."""
    cells = {column: value for column, value in earlier.cells.items() if column not in later.deletes} | dict(
        later.cells
    )
    deletes = [column for column in dict.fromkeys([*earlier.deletes, *later.deletes]) if column not in cells]
    return RowMutation(later.key, cells, deletes)
