"""The epochs of meetings, in their lease rows: what fences off a worker that slept through its lease and a rollback."""

from __future__ import annotations

from collections.abc import Collection

from f1hbase.model.units import SEPARATOR, Scope
from f1hbase.state.base import Epochs
from f1hbase.state.hbase.cells import EPOCHS_CELL, LEASE, lease_row
from f1hbase.state.hbase.reports import epochs_text, parse_epochs
from f1hbase.stores.hbase.connector import HBaseConnector


def read_epochs(connector: HBaseConnector, table: str, meeting: Scope) -> Epochs:
    """Return the epochs of one meeting."""
    return parse_epochs(connector.get(table, lease_row(meeting), EPOCHS_CELL))


def raise_epochs(
    connector: HBaseConnector, table: str, meeting: Scope, keys: Collection[str] = (), deleted_at: int = 0
) -> Epochs:
    """Raise the epochs of some keys by one, and the time of the last deletion to `deleted_at`; return what is there.

    In one step that nobody can come between: what others have changed meanwhile stays.

    Args:
        connector: The connection to HBase.
        table: The table of reports.
        meeting: The meeting.
        keys: See `f1hbase.state.base.Epochs.by_session`.
        deleted_at: In milliseconds since 1970; an earlier one than is there changes nothing.

    Raises:
        UnreachableError: If HBase is away longer than patience lasts.
    """
    row = lease_row(meeting)
    while True:
        before = connector.get(table, row, EPOCHS_CELL)
        epochs = parse_epochs(before)
        raised = epochs.raised(keys, deleted_at)
        if raised == epochs or connector.put_if(table, row, EPOCHS_CELL, before, epochs_text(raised)):
            return raised


def all_epochs(connector: HBaseConnector, table: str) -> dict[tuple[int, int], Epochs]:
    """Return the epochs of every meeting that has some, by year and meeting key: one scan of the lease rows."""
    found = {}
    for key, cells in connector.scan(table, LEASE, columns=[EPOCHS_CELL]):
        try:
            _, year, meeting_key = key.decode().split(SEPARATOR)
            place = (int(year), int(meeting_key))
        except ValueError:
            continue  # no row of ours
        found[place] = parse_epochs(cells[EPOCHS_CELL])
    return found
