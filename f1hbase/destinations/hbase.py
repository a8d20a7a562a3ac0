"""Stores the records of a unit in `f1_data`, and what cannot be stored in quarantine."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic

from f1hbase.errors import StoreError
from f1hbase.model.catalog import ENDPOINTS, REPORT_FAMILIES
from f1hbase.model.coverage import subtract
from f1hbase.model.samples import Samples
from f1hbase.model.units import CHECKSUM_MODULUS, Answer, Outcome, Unit, Window, parse_unit_key
from f1hbase.stores.hbase.codec import (
    SEPARATOR,
    Block,
    EncodeError,
    block_checksum,
    checksum,
    encode,
    encode_samples,
    merge,
    null_columns,
    raw_json,
    stale_signs,
    unknown_fields,
)  # fmt: skip
from f1hbase.stores.hbase.connector import HBaseConnector
from f1hbase.stores.hbase.frames import Changes, RowMutation
from f1hbase.stores.hbase.schema import Tables

_log = logging.getLogger(__name__)


class HBaseSink:
    """Encodes records and puts them in batches.

    Args:
        connector: The connection to use.
        tables: Where to put them.
        run_id: The run that this is part of.
        quarantine: What is known of it; the same for all sinks that store at the same time.
    """

    def __init__(
        self, connector: HBaseConnector, tables: Tables, run_id: str, quarantine: Quarantine | None = None
    ) -> None:
        self._connector = connector
        self._tables = tables
        self._run_id = run_id
        self._quarantine = quarantine or Quarantine()

    def store(self, answer: Answer, *, again: bool = False) -> Outcome:
        """Store the records of one answer; on return HBase has acknowledged them.

        Records without a key or without a faithful form go to quarantine. Two records of one identity become one
        row, the later winning cell by cell. What HBase refuses is an outcome with an error.

        Args:
            answer: The unit's answer, or a part of it.
            again: Whether the unit may have been stored before: then the cells of fields that are null by now are
                deleted, and what was in quarantine and is mended leaves it.

        Raises:
            UnreachableError: If HBase is away longer than patience lasts.
        """
        started = monotonic()
        unit = answer.unit
        encoded = self._encode(answer, again)
        error = answer.error
        try:
            self._connector.put(self._tables.reports, encoded.quarantined)
            self._connector.put(self._tables.data, encoded.changes)
            if again and answer.error is None:
                self._release_from_quarantine(answer, {row.key for row in encoded.quarantined})
        except StoreError as refusal:
            error = str(refusal)
        return Outcome(
            unit=unit,
            asked_at=answer.asked_at,
            records=len(answer.records),
            rows=encoded.count,
            duplicates=len(answer.records) - len(encoded.quarantined) - encoded.count,
            quarantined=len(encoded.quarantined),
            bytes=answer.bytes,
            requests=answer.requests,
            retries=answer.retries,
            checksum=encoded.checksum,
            seconds=answer.seconds + monotonic() - started,
            drivers=frozenset(encoded.drivers),
            error=error,
            unknown_fields=frozenset(encoded.unknown_fields),
        )

    def quarantine(self, endpoint: str, scope_prefix: str, record: object, reason: str) -> None:
        """Put aside a record that does not even say which unit it belongs to."""
        row = self._put_aside(endpoint, scope_prefix, record, reason, datetime.now(UTC))
        self._connector.put(self._tables.reports, [row])

    def _put_aside(
        self, endpoint: str, scope_prefix: str, record: object, reason: str, found: datetime, unit: Unit | None = None
    ) -> RowMutation:
        raw = raw_json(record).encode()
        key = _quarantine_prefix(scope_prefix, endpoint) + hashlib.sha256(raw).hexdigest().encode()
        cells = {
            b"meta:record": raw,
            b"meta:found": found.isoformat().encode(),
            b"meta:run": self._run_id.encode(),
            b"errors:reason": reason.encode(errors="backslashreplace"),
        }
        if unit is not None:
            cells[b"meta:unit"] = unit.key.encode()
        return RowMutation(key, cells)

    def _release_from_quarantine(self, answer: Answer, still_bad: set[bytes]) -> None:
        """Delete the records in quarantine whose units have been stored again, this one being the last, without them.

        Their units may have had other windows or drivers than those of now.
        """
        unit = answer.unit
        prefix = _quarantine_prefix(unit.scope.prefix, unit.endpoint)
        with self._quarantine.lock:
            index = self._quarantine.indexes.get(prefix)
            if index is None:
                rows = self._connector.scan(self._tables.reports, prefix, columns=[b"meta:unit"])
                index = self._quarantine.indexes[prefix] = _QuarantineIndex.of(rows)
            index.bad |= still_bad
            mended = index.release(unit) if answer.complete else set()
        families = [family.encode() for family in REPORT_FAMILIES]
        self._connector.put(self._tables.reports, [RowMutation(key, {}, families) for key in mended])

    def _encode(self, answer: Answer, again: bool) -> _Encoded:
        if isinstance(answer.records, Samples) and not again:
            # They have no texts, beside which a stale sign could stand.
            block = encode_samples(answer.unit.scope.year, answer.records)
            if block is not None:
                return _Encoded(block=block, drivers={row[2] for row in answer.records.rows})
        unit = answer.unit
        endpoint = ENDPOINTS[unit.endpoint]
        encoded = _Encoded()
        for record in answer.records:
            try:
                if not isinstance(record, dict):
                    raise EncodeError("it is not an object")
                key, cells = encode(endpoint, unit.scope.year, record)
            except EncodeError as error:
                _log.error("a record of %s goes to quarantine: %s", unit, error)
                row = self._put_aside(unit.endpoint, unit.scope.prefix, record, str(error), answer.asked_at, unit)
                encoded.quarantined.append(row)
                continue
            if key in encoded.rows:
                merge(endpoint, encoded.rows[key], cells)
            else:
                encoded.rows[key] = cells
            cells = encoded.rows[key]
            # Of a later record of the same identity, too: what that one puts must not be deleted for the first one.
            deletes = null_columns(endpoint, record, cells) if again else stale_signs(endpoint, cells)
            if deletes:
                encoded.deletes[key] = deletes
            else:
                encoded.deletes.pop(key, None)
            if endpoint.by_driver:
                encoded.drivers.add(record["driver_number"])
            encoded.unknown_fields |= unknown_fields(endpoint, record)
        return encoded


@dataclass(slots=True)
class _QuarantineIndex:
    """What was in quarantine of an endpoint and session when its first unit was stored again.

    Attributes:
        earlier: The keys, by the driver and window of the unit that they came with.
        stored: What has been stored again since, by driver.
        bad: The keys that have been found bad again.
    """

    earlier: dict[tuple[int | None, Window], set[bytes]] = field(default_factory=dict)
    stored: dict[int | None, list[Window]] = field(default_factory=dict)
    bad: set[bytes] = field(default_factory=set)

    @classmethod
    def of(cls, rows: Iterable[tuple[bytes, dict[bytes, bytes]]]) -> _QuarantineIndex:
        """Read the rows of quarantine, each with its unit."""
        result = cls()
        for key, cells in rows:
            _, _, driver, window = parse_unit_key(cells[b"meta:unit"].decode())
            result.earlier.setdefault((driver, window), set()).add(key)
        return result

    def release(self, unit: Unit) -> set[bytes]:
        """Return what is mended by now that all of a unit is stored again."""
        self.stored.setdefault(unit.driver, []).append(unit.window)
        everybody = self.stored.get(None, [])
        over = [
            (driver, window)
            for driver, window in self.earlier
            if not subtract(window, [*everybody, *(self.stored.get(driver, []) if driver is not None else [])])
        ]
        return {key for place in over for key in self.earlier.pop(place)} - self.bad


@dataclass(slots=True)
class Quarantine:
    """What has been found out about quarantine, by the beginning of its keys; one thread at a time."""

    indexes: dict[bytes, _QuarantineIndex] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(slots=True)
class _Encoded:
    """What an answer's records have become: rows by key, or a block where the records are alike."""

    block: Block | None = None
    rows: dict[bytes, dict[bytes, bytes]] = field(default_factory=dict)
    deletes: dict[bytes, list[bytes]] = field(default_factory=dict)
    quarantined: list[RowMutation] = field(default_factory=list)
    drivers: set[int] = field(default_factory=set)
    unknown_fields: set[str] = field(default_factory=set)

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self.rows) if self.block is None else len(self.block.keys)

    @property
    def changes(self) -> Changes:
        """What is to be put."""
        if self.block is not None:
            return self.block
        return [RowMutation(key, cells, self.deletes.get(key, ())) for key, cells in self.rows.items()]

    @property
    def checksum(self) -> int:
        """The checksum of the unit, or of its part."""
        total = sum(map(checksum, self.rows.items())) if self.block is None else block_checksum(self.block)
        return total % CHECKSUM_MODULUS


def _quarantine_prefix(scope_prefix: str, endpoint: str) -> bytes:
    return SEPARATOR.join(["quarantine", scope_prefix, endpoint, ""]).encode()
