"""HBase as a destination: records become rows of `f1_data` or `f1_history`, put in batches over several connections."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from f1hbase.destinations.base import Batch, Writer
from f1hbase.errors import StoreError
from f1hbase.model.catalog import ALL_ENDPOINTS, HISTORY
from f1hbase.model.outcomes import CHECKSUM_MODULUS, Receipt
from f1hbase.model.samples import Samples
from f1hbase.model.units import Scope, datasets_of
from f1hbase.state.base import State
from f1hbase.state.hbase.file_records import HBaseFileRecords
from f1hbase.state.hbase.leases import HBaseLeases, living_runs
from f1hbase.state.hbase.reports import HBaseReports
from f1hbase.stores.hbase.codec import (
    Row,
    block_checksum,
    checksum,
    encode,
    encode_samples,
    null_columns,
    stale_signs,
)  # fmt: skip
from f1hbase.stores.hbase.connector import OTHER_CONNECTIONS, USUAL_THREADS, Gateway, HBaseConnector, find_gateways
from f1hbase.stores.hbase.frames import RowMutation
from f1hbase.stores.hbase.schema import Layout, Tables, ensure_tables, split_points
from f1hbase.stores.hbase.shell import find_shell

if TYPE_CHECKING:
    from f1hbase.config import Config

_log = logging.getLogger(__name__)

ROW_CONNECTIONS = 4
"""Over how many connections all workers together put rows, at least one each: while HBase is at one batch, the next is
encoded and sent, so that one meeting by itself keeps the gateway busy, too (measured: docs/performance.md)."""

_STARTUP_PATIENCE_SECONDS = 10.0
_LEASE_CALL_SECONDS = 5.0
_PARENT_CALL_SECONDS = 15.0


class HBaseWriter:
    """Encodes batches and puts them over one connection.

    Args:
        connector: The connection.
        table: The table of records.
        history: That of the records of the history; none where there are none.
    """

    def __init__(self, connector: HBaseConnector, table: str, history: str = "") -> None:
        self._connector = connector
        self._table = table
        self._history = history

    def write(self, batch: Batch) -> Receipt:
        """Store a batch; on return HBase has acknowledged it. What HBase refuses is a receipt with an error.

        Where records may be stored already, the cells of fields that have become null are deleted.

        Raises:
            UnreachableError: If HBase is away longer than patience lasts.
        """
        year = batch.unit.scope.year
        try:
            if isinstance(batch.records, Samples) and not batch.overwrite:
                # They have no texts, beside which a stale sign could stand.
                block = encode_samples(year, batch.records)
                if block is not None:
                    self._connector.put(self._table, block)
                    return Receipt(len(block.keys), block_checksum(block) % CHECKSUM_MODULUS)
            rows = self._rows(batch)
            table = self._history if batch.unit.scope.dataset is HISTORY else self._table
            self._connector.put(table, rows)
        except StoreError as refusal:
            return Receipt(error=str(refusal))
        return Receipt(len(rows), sum(checksum(Row(row.key, dict(row.cells))) for row in rows) % CHECKSUM_MODULUS)

    def close(self) -> None:
        """Close the connection."""
        self._connector.close()

    def _rows(self, batch: Batch) -> list[RowMutation]:
        endpoint = ALL_ENDPOINTS[batch.unit.endpoint]
        rows = []
        for record in batch.records:
            key, cells = encode(endpoint, batch.unit.scope.year, record)
            deletes = (
                null_columns(endpoint, record, cells, batch.knows) if batch.overwrite else stale_signs(endpoint, cells)
            )
            rows.append(RowMutation(key, cells, deletes))
        return rows


class HBaseDestination:
    """HBase as a worker has it; see `f1hbase.destinations.base.Destination`.

    Args:
        connectors: One for the state and, where there are more, the others for rows.
        data: The table of records.
        reports: The table of progress.
        history: The table of the records of the history; none where there are none.
    """

    name = "HBase"

    def __init__(self, connectors: Sequence[HBaseConnector], data: str, reports: str, history: str = "") -> None:
        self.state: State = HBaseReports(connectors[-1], reports)
        self.writers: Sequence[Writer] = [HBaseWriter(one, data, history) for one in connectors[:-1] or connectors]
        self._connectors = connectors

    def close(self) -> None:
        """Close all connections."""
        for connector in self._connectors:
            connector.close()


@dataclass(frozen=True, slots=True)
class HBaseRecipe:
    """HBase behind some gateways; see `f1hbase.destinations.base.DestinationRecipe`.

    Attributes:
        gateways: Where it is.
        tables: The names of its tables.
        compression: How new tables are compressed.
        put_timeout: How long a put may be tried again before its unit fails, in seconds.
        call_timeout: How long one call may take, in seconds.
    """

    gateways: tuple[Gateway, ...]
    tables: Tables
    compression: str
    put_timeout: float
    call_timeout: float
    name: str = HBaseDestination.name
    keeps_answers: bool = False

    def prepare(self, meetings: Sequence[Scope]) -> None:
        """Create the tables that are absent, split at some meetings, and check those that are there."""
        connector = HBaseConnector(self.gateways, _STARTUP_PATIENCE_SECONDS)
        datasets = datasets_of(meetings)
        _log.info(
            "HBase at %s, tables %s",
            ", ".join(map(str, self.gateways)), " and ".join(self.tables.families_of(datasets)),
        )  # fmt: skip
        layout = Layout(self.compression, split_points(meetings))
        for name in ensure_tables(connector, self.tables, layout, find_shell(), datasets):
            _log.info("created the table %s", name)
        # One thread of the gateway serves one connection.
        connector.close()

    def open(self, *, workers: int, number: int, patience: float, stop: threading.Event) -> HBaseDestination:
        """Open as many connections as one of several workers may have."""
        if number == 0 and workers + OTHER_CONNECTIONS > USUAL_THREADS * len(self.gateways):
            _log.warning(
                "%d processes may be more than the Thrift gateway serves at a time: raise "
                "hbase.thrift.minWorkerThreads (%d by default), name more gateways, or lower --processes",
                workers,
                USUAL_THREADS,
            )
        connectors = [
            HBaseConnector(
                self.gateways, patience, stop, put_timeout=self.put_timeout, preferred=number,
                call_timeout=self.call_timeout,
            )
            for _ in range(connections_for(workers, len(set(self.gateways))))
        ]  # fmt: skip
        return HBaseDestination(connectors, self.tables.data, self.tables.reports, self.tables.history)

    def open_state(self, patience: float, stop: threading.Event) -> HBaseReports:
        """Open the reports."""
        return HBaseReports(self._connector(patience, stop), self.tables.reports)

    def open_runs(self, patience: float, stop: threading.Event) -> HBaseReports:
        """Open the reports, for runs."""
        return self.open_state(patience, stop)

    def open_leases(self, run_id: str, patience: float, stop: threading.Event) -> HBaseLeases:
        """Open the leases of a run."""
        impatient = HBaseConnector(self.gateways, patience=0, call_timeout=_LEASE_CALL_SECONDS)
        return HBaseLeases(self._connector(patience, stop), impatient, self.tables.reports, run_id)

    def living_runs(self, patience: float, stop: threading.Event) -> set[str]:
        """Return the runs that load something now."""
        return living_runs(self._connector(patience, stop), self.tables.reports)

    def _connector(self, patience: float, stop: threading.Event) -> HBaseConnector:
        # The parent's calls are small; one that hangs would keep it from its workers and from the user.
        seconds = min(_PARENT_CALL_SECONDS, max(patience, 1.0))
        return HBaseConnector(self.gateways, patience, stop, call_timeout=seconds)


def recipe(config: Config, location: str = "") -> HBaseRecipe:
    """Return how the settings say that HBase is opened, once its gateways have answered.

    Raises:
        UnreachableError: If no gateway answers.
    """
    del location  # there is one HBase, which the settings name
    settings = config.settings
    return HBaseRecipe(
        find_gateways(settings.gateways, settings.hbase_transport, settings.hbase_protocol),
        Tables(settings.table_prefix),
        settings.compression,
        settings.put_timeout.total_seconds(),
        settings.hbase_timeout.total_seconds(),
    )


def open_file_records(config: Config) -> HBaseFileRecords:
    """Open the records of files in `f1_reports`; the table is created if it is absent.

    Raises:
        F1HBaseError: If HBase does not answer, or its tables are not what they should be.
    """
    hbase = recipe(config)
    hbase.prepare([])
    patience = config.settings.patience.total_seconds()
    return HBaseFileRecords(HBaseConnector(hbase.gateways, patience), hbase.tables.reports)


def connections_for(processes: int, gateways: int) -> int:
    """Return how many connections each of some workers opens: one for the reports, and the others for rows.

    Together they are no more than gateways usually serve; if that leaves one, rows and reports take turns.

    >>> connections_for(1, 1), connections_for(4, 1), connections_for(10, 1), connections_for(10, 2)
    (5, 2, 1, 2)
    """
    room = (USUAL_THREADS * gateways - OTHER_CONNECTIONS) // processes
    return max(1, min(max(1, ROW_CONNECTIONS // processes) + 1, room))
