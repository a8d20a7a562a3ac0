"""The table `f1_reports` as the state of HBase: a row a run, a unit of work, a record in quarantine."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from f1hbase.errors import F1HBaseError
from f1hbase.model.outcomes import Outcome, Quarantined, RunState, Status, UnitState
from f1hbase.model.units import SEPARATOR, Scope
from f1hbase.state.base import Epochs
from f1hbase.state.hbase import cells as names
from f1hbase.stores.hbase.connector import HBaseConnector
from f1hbase.stores.hbase.frames import RowMutation
from f1hbase.stores.hbase.schema import REPORT_FAMILIES

_log = logging.getLogger(__name__)

ROLLED_BACK = "rolled back"
"""The error of a line that a worker wrote after its session had been rolled back."""


class HBaseReports:
    """Reads and writes `f1_reports`; see `f1hbase.state.base` (State, Runs and StateIndex).

    Args:
        connector: The connection to use.
        table: The name of the table.
    """

    def __init__(self, connector: HBaseConnector, table: str) -> None:
        self._connector = connector
        self._table = table

    def check_there(self) -> None:
        """Refuse to go on without the table.

        Raises:
            F1HBaseError: If it is not there; says why that may be.
        """
        if self._table not in self._connector.tables():
            raise F1HBaseError(
                f"there is no table '{self._table}': nothing has been loaded yet, or into tables of another name "
                "(--table-prefix)."
            )

    # --- runs ---

    def write_run(self, run: RunState) -> None:
        """Write what is known of a run; fields written before and not now stay."""
        cells = {
            f"{family}:{name}".encode(errors="backslashreplace"): value.encode(errors="backslashreplace")
            for family in REPORT_FAMILIES
            for name, value in getattr(run, family).items()
        }
        self._connector.put(self._table, [RowMutation(names.run_row(run.run_id), cells)])

    def runs(self) -> list[RunState]:
        """Return all runs, the latest first."""
        runs = []
        for key, cells in self._connector.scan(self._table, names.RUN):
            families = {"meta": dict[str, str](), "stats": dict[str, str](), "errors": dict[str, str]()}
            for column, value in cells.items():
                family, _, name = _text(column).partition(":")
                if family in families:  # others are somebody else's
                    families[family][name] = _text(value)
            runs.append(RunState(_text(key).partition(SEPARATOR)[2], **families))
        return runs[::-1]

    # --- units ---

    def write_units(self, run_id: str, outcomes: Sequence[Outcome]) -> None:
        """Remember how units ended; only ever after their rows are acknowledged."""
        self._connector.put(self._table, [names.unit_mutation(run_id, outcome) for outcome in outcomes])

    def unit_states(self, scope: Scope) -> list[UnitState]:
        """Return the units known of one session (or of a meeting as such), with one short scan.

        A line of an older epoch counts as failed: what it speaks of was rolled back after it was fetched.
        """
        epoch = self.epochs(scope.meeting).of(scope)
        states = []
        for key, cells in self._connector.scan(self._table, names.units_of(scope)):
            try:
                state = names.unit_state(key.decode(), cells)
                if names.epoch_of(cells) < epoch:
                    state = replace(state, status=Status.FAILED, error=ROLLED_BACK)
            except (ValueError, KeyError) as error:
                # Not understood is not done: the unit is fetched again.
                _log.warning("the report %r cannot be read (%s); what it speaks of counts as not loaded", key, error)
                continue
            states.append(state)
        return states

    def epochs(self, meeting: Scope) -> Epochs:
        """Return how often the sessions of a meeting were rolled back, and when last."""
        return parse_epochs(self._connector.get(self._table, names.lease_row(meeting), names.EPOCHS_CELL))

    def unit_scopes(self) -> Iterator[str]:
        """Yield the prefix of each scope that has units, by seeking from one to the next."""
        position = names.UNIT
        while True:
            rows = self._connector.stream(self._table, names.UNIT, start=position, columns=[names.STATUS], chunk=1)
            key, _ = next(rows, (None, None))
            del rows  # and with it the scanner
            if key is None:
                return
            parts = key.split(SEPARATOR.encode())[1:4]
            yield b"#".join(parts).decode(errors="backslashreplace")
            # The byte after `#`: comes after all keys of the scope.
            position = names.UNIT + b"#".join(parts) + b"$"

    # --- quarantine ---

    def quarantined(self, scope: Scope, endpoint: str) -> list[tuple[str, str]]:
        """Return what is in quarantine of an endpoint and session: each one's key, and the key of its unit."""
        prefix = f"quarantine{SEPARATOR}{scope.prefix}{SEPARATOR}{endpoint}{SEPARATOR}".encode()
        rows = self._connector.scan(self._table, prefix, columns=[names.QUARANTINED_UNIT])
        return [(key.decode(), cells[names.QUARANTINED_UNIT].decode()) for key, cells in rows]

    def put_quarantine(self, run_id: str, records: Collection[Quarantined]) -> None:
        """Put records aside; the same record twice is once."""
        if records:
            mutations = {record.digest: names.quarantine_mutation(run_id, record) for record in records}
            self._connector.put(self._table, list(mutations.values()))

    def delete_quarantine(self, keys: Collection[str]) -> None:
        """Take records out of quarantine, by their keys."""
        families = [family.encode() for family in REPORT_FAMILIES]
        self._connector.put(self._table, [RowMutation(key.encode(), {}, families) for key in keys])

    def quarantine_counts(self) -> dict[tuple[str, str], int]:
        """Return how many records are in quarantine, by scope prefix and endpoint."""
        counts: dict[tuple[str, str], int] = {}
        for key, _ in self._connector.scan(self._table, names.QUARANTINE, columns=[names.FOUND]):
            try:
                _, *scope, endpoint, _digest = key.decode().split(SEPARATOR)
            except ValueError:
                _log.warning("the row %r is of no record in quarantine and is passed over", key)
                continue
            where = (SEPARATOR.join(scope), endpoint)
            counts[where] = counts.get(where, 0) + 1
        return counts


def _text(value: bytes) -> str:
    return value.decode(errors="backslashreplace")


def parse_epochs(text: bytes | None) -> Epochs:
    """Read the cell of a lease row that keeps epochs; what cannot be read has none."""
    if text is None:
        return Epochs()
    try:
        content = json.loads(text)
        return Epochs({str(k): int(v) for k, v in content["sessions"].items()}, int(content.get("deleted_at", 0)))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        _log.warning("the epochs of a lease cannot be read (%s): %.200r", error, text)
        return Epochs()


def epochs_text(epochs: Epochs) -> bytes:
    """Return the cell that `parse_epochs` reads."""
    content = {"sessions": dict(epochs.by_session), "deleted_at": epochs.deleted_at}
    return json.dumps(content, separators=(",", ":")).encode()
