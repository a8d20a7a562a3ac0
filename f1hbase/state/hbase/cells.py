"""The rows and cells of `f1_reports`: their one home."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from f1hbase.model.catalog import ALL_ENDPOINTS
from f1hbase.model.coverage import status_of
from f1hbase.model.outcomes import Outcome, Quarantined, Status, UnitState
from f1hbase.model.times import parse_time
from f1hbase.model.units import SEPARATOR, Scope, parse_unit_key
from f1hbase.state.base import quarantine_key
from f1hbase.stores.hbase.frames import RowMutation

RUN = b"run#"
UNIT = b"unit#"
QUARANTINE = b"quarantine#"
LEASE = b"lease#"
LIVE = b"live#"
LIVE_MESSAGE = b"livemessage#"
"""What the keys of each kind of row begin with."""

STATUS, RUN_ID, FETCHED = b"meta:status", b"meta:run", b"meta:fetched"
SOURCE, EPOCH = b"meta:source", b"meta:epoch"
VALIDATOR = b"meta:validator"
DRIVERS = b"meta:drivers"
SESSION_DRIVERS = b"meta:entrants"
"""Everybody who drove in a session; written by earlier versions alone."""
LAST_ERROR = b"errors:last"
RECORD, FOUND, QUARANTINED_UNIT, REASON = b"meta:record", b"meta:found", b"meta:unit", b"errors:reason"
LEASE_CELL, EPOCHS_CELL = b"meta:lease", b"meta:epochs"
RUN_SESSIONS, RUN_END = b"meta:sessions", b"meta:end"

STATS = ("records", "rows", "duplicates", "quarantined", "bytes", "attempts", "seconds")
CHECKSUM = b"stats:checksum"


def stat(name: str) -> bytes:
    """Return the column of one of a unit's counts."""
    return f"stats:{name}".encode()


def units_of(scope: Scope) -> bytes:
    """Return what the keys of a session's units begin with."""
    return f"unit{SEPARATOR}{scope.prefix}{SEPARATOR}".encode()


def lease_row(meeting: Scope) -> bytes:
    """Return the row of a meeting's lease."""
    return SEPARATOR.join(["lease", str(meeting.year), str(meeting.meeting_key)]).encode()


def run_row(run_id: str) -> bytes:
    """Return the row of a run."""
    return f"run{SEPARATOR}{run_id}".encode()


def unit_mutation(run_id: str, outcome: Outcome) -> RowMutation:
    """Return the line of a unit."""
    status = Status.FAILED if outcome.error is not None else status_of(outcome.unit, outcome.asked_at)
    cells = {
        STATUS: status.value.encode(),
        RUN_ID: run_id.encode(),
        FETCHED: outcome.asked_at.isoformat().encode(),
        EPOCH: b"%d" % outcome.epoch,
        SOURCE: outcome.source.encode(),
    }
    if outcome.error is not None:
        # The counts of an earlier success stay: they are still what the table holds.
        cells[LAST_ERROR] = outcome.error.encode(errors="backslashreplace")
        return RowMutation(outcome.unit.key.encode(), cells)
    if outcome.unchanged:
        # The counts and the run of who stored it stay.
        del cells[RUN_ID]
        return RowMutation(outcome.unit.key.encode(), cells, deletes=[LAST_ERROR])
    cells[DRIVERS] = json.dumps(sorted(outcome.drivers)).encode()
    numbers: dict[str, str] = {
        "records": str(outcome.records),
        "rows": str(outcome.rows),
        "duplicates": str(outcome.duplicates),
        "quarantined": str(outcome.quarantined),
        "bytes": str(outcome.stats.bytes),
        "attempts": str(outcome.stats.requests),
        "seconds": f"{outcome.seconds:.3f}",
    }
    cells |= {stat(name): text.encode() for name, text in numbers.items()}
    cells[CHECKSUM] = f"{outcome.receipt.checksum or 0:016x}".encode()
    if outcome.validator:
        cells[VALIDATOR] = outcome.validator.encode()
    deletes = [LAST_ERROR] if outcome.validator else [LAST_ERROR, VALIDATOR]
    return RowMutation(outcome.unit.key.encode(), cells, deletes=deletes)


def unit_state(key: str, cells: Mapping[bytes, bytes]) -> UnitState:
    """Read the line of a unit.

    Raises:
        ValueError, KeyError: If it cannot be read, or is of an endpoint that only a later version knows.
    """
    prefix, endpoint, driver, window = parse_unit_key(key)
    check_known(endpoint)
    error, fetched = cells.get(LAST_ERROR), cells.get(FETCHED)
    checksum = cells.get(CHECKSUM)
    return UnitState(
        scope_prefix=prefix,
        endpoint=endpoint,
        driver=driver,
        window=window,
        status=Status(cells[STATUS].decode()),
        drivers=numbers_of(cells.get(DRIVERS, b"[]")),
        stats={name: figure_of(cells[stat(name)]) for name in STATS if stat(name) in cells},
        error=None if error is None else error.decode(),
        run=cells.get(RUN_ID, b"").decode(),
        fetched=None if fetched is None else parse_time(fetched.decode()),
        checksum=None if checksum is None else int(checksum, 16),
        source=cells.get(SOURCE, b"").decode(),
        session_drivers=numbers_of(cells[SESSION_DRIVERS]) if SESSION_DRIVERS in cells else None,
        validator=cells.get(VALIDATOR, b"").decode(),
    )


def check_known(endpoint: str) -> None:
    """Refuse an endpoint that is none of this version's.

    Raises:
        ValueError: Naming it.
    """
    if endpoint not in ALL_ENDPOINTS:
        raise ValueError(f"this version knows no endpoint '{endpoint}'")


def figure_of(value: bytes) -> float:
    """Return what a cell counts or measures.

    Raises:
        ValueError: If it is no finite number.
    """
    figure = float(value)
    if not math.isfinite(figure):
        raise ValueError(f"{value[:20]!r} is no figure")
    return figure


def numbers_of(value: bytes) -> frozenset[int]:
    """Return the numbers of drivers that a cell lists.

    Raises:
        ValueError: If it is no list of whole numbers.
    """
    try:
        numbers = json.loads(value)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
        raise ValueError(f"{value[:20]!r} is no list of drivers")
    return frozenset(numbers)


def epoch_of(cells: Mapping[bytes, bytes]) -> int:
    """Return the epoch of a unit's line; those of earlier versions have 0."""
    return int(cells.get(EPOCH, b"0"))


def quarantine_mutation(run_id: str, record: Quarantined) -> RowMutation:
    """Return the row of a record in quarantine."""
    cells = {
        RECORD: record.record.encode(),
        FOUND: record.found.isoformat().encode(),
        RUN_ID: run_id.encode(),
        REASON: record.reason.encode(errors="backslashreplace"),
    }
    if record.unit:
        cells[QUARANTINED_UNIT] = record.unit.encode()
    return RowMutation(quarantine_key(record).encode(), cells)
