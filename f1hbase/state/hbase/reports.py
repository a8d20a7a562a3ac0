"""The table `f1_reports`: one row a run, one row a unit of work, one row a record in quarantine."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from f1hbase.errors import F1HBaseError
from f1hbase.model.coverage import Status, UnitState, status_of
from f1hbase.model.units import Outcome, Scope, Unit, parse_time, parse_unit_key
from f1hbase.stores.hbase.codec import SEPARATOR
from f1hbase.stores.hbase.connector import HBaseConnector
from f1hbase.stores.hbase.frames import RowMutation

_log = logging.getLogger(__name__)

_ENTRANTS = b"meta:entrants"
_UNIT_STATS = (
    "records", "rows", "duplicates", "quarantined", "bytes", "attempts", "seconds", "checksum",
)  # fmt: skip


def new_run_id(now: datetime) -> str:
    """Return an identifier that sorts by time and is not given twice."""
    return f"{now:%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(3)}"


@dataclass(frozen=True, slots=True)
class RunState:
    """One run as the reports remember it; the values are text as in the table."""

    run_id: str
    meta: Mapping[str, str] = field(default_factory=dict)
    stats: Mapping[str, str] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)


class HBaseReports:
    """Reads and writes `f1_reports`.

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

    def write_run(self, run: RunState) -> None:
        """Write what is known of a run; fields written before and not now stay."""
        cells = {
            f"{family}:{name}".encode(errors="backslashreplace"): value.encode(errors="backslashreplace")
            for family in ("meta", "stats", "errors")
            for name, value in getattr(run, family).items()
        }
        self._connector.put(self._table, [RowMutation(f"run{SEPARATOR}{run.run_id}".encode(), cells)])

    def runs(self) -> list[RunState]:
        """Return all runs, the latest first."""
        runs = []
        for key, cells in self._connector.scan(self._table, b"run" + SEPARATOR.encode()):
            run = RunState(key.decode().partition(SEPARATOR)[2], {}, {}, {})
            families = {"meta": dict[str, str](), "stats": dict[str, str](), "errors": dict[str, str]()}
            for column, value in cells.items():
                family, _, name = column.decode().partition(":")
                families[family][name] = value.decode()
            runs.append(RunState(run.run_id, **families))
        return runs[::-1]

    def write_units(self, run_id: str, outcomes: Sequence[Outcome]) -> None:
        """Remember how units ended; only ever after their rows are acknowledged."""
        self._connector.put(self._table, [_unit_row(run_id, outcome) for outcome in outcomes])

    def write_entrants(self, run_id: str, unit: Unit, asked_at: datetime, entrants: Collection[int]) -> None:
        """Remember who drove on the line of a unit of the session; one without a line gets one without records."""
        known = self._connector.get(self._table, unit.key.encode(), b"meta:status")
        if known is None:
            self.write_units(run_id, [Outcome(unit, asked_at, entrants=frozenset(entrants))])
        else:
            self._connector.put(self._table, [RowMutation(unit.key.encode(), {_ENTRANTS: _numbers(entrants)})])

    def unit_states(self, scope: Scope) -> list[UnitState]:
        """Return the units known of one session (or of a meeting as such), with one short scan."""
        states = []
        prefix = f"unit{SEPARATOR}{scope.prefix}{SEPARATOR}"
        for key, cells in self._connector.scan(self._table, prefix.encode()):
            try:
                states.append(_unit_state(key.decode(), cells))
            except (ValueError, KeyError) as error:
                # Not understood is not done: the unit is fetched again.
                _log.warning("the report %r cannot be read (%s); what it speaks of counts as not loaded", key, error)
        return states

    def quarantined(self) -> dict[tuple[str, str], int]:
        """Return how many records are in quarantine, by scope prefix and endpoint."""
        counts: dict[tuple[str, str], int] = {}
        prefix = f"quarantine{SEPARATOR}".encode()
        for key, _ in self._connector.scan(self._table, prefix, columns=[b"meta:found"]):
            _, *scope, endpoint, _digest = key.decode().split(SEPARATOR)
            where = (SEPARATOR.join(scope), endpoint)
            counts[where] = counts.get(where, 0) + 1
        return counts


def _unit_row(run_id: str, outcome: Outcome) -> RowMutation:
    status = Status.FAILED if outcome.error is not None else status_of(outcome.unit, outcome.asked_at)
    cells = {
        b"meta:status": status.value.encode(),
        b"meta:run": run_id.encode(),
        b"meta:fetched": outcome.asked_at.isoformat().encode(),
    }
    last_error = b"errors:last"
    if outcome.error is not None:
        # The counts of an earlier success stay: they are still what the table holds.
        cells[last_error] = outcome.error.encode(errors="backslashreplace")
        return RowMutation(outcome.unit.key.encode(), cells)
    cells[b"meta:drivers"] = json.dumps(sorted(outcome.drivers)).encode()
    if outcome.entrants is not None:
        cells[_ENTRANTS] = _numbers(outcome.entrants)
    for name in _UNIT_STATS:
        value = getattr(outcome, name)
        text = f"{value:016x}" if name == "checksum" else f"{value:.3f}" if name == "seconds" else str(value)
        cells[f"stats:{name}".encode()] = text.encode()
    return RowMutation(outcome.unit.key.encode(), cells, deletes=[last_error])


def _numbers(drivers: Collection[int]) -> bytes:
    return json.dumps(sorted(drivers)).encode()


def _unit_state(key: str, cells: Mapping[bytes, bytes]) -> UnitState:
    prefix, endpoint, driver, window = parse_unit_key(key)
    stats = {
        name: float(cells[column])
        for name in _UNIT_STATS
        if name != "checksum" and (column := f"stats:{name}".encode()) in cells
    }
    error, fetched = cells.get(b"errors:last"), cells.get(b"meta:fetched")
    checksum = cells.get(b"stats:checksum")
    return UnitState(
        scope_prefix=prefix,
        endpoint=endpoint,
        driver=driver,
        window=window,
        status=Status(cells[b"meta:status"].decode()),
        drivers=frozenset(json.loads(cells.get(b"meta:drivers", b"[]"))),
        stats=stats,
        error=None if error is None else error.decode(),
        run=cells.get(b"meta:run", b"").decode(),
        fetched=None if fetched is None else parse_time(fetched.decode()),
        checksum=None if checksum is None else int(checksum, 16),
        entrants=frozenset(json.loads(cells[b"meta:entrants"])) if b"meta:entrants" in cells else None,
    )
