"""Stores the records of a unit in `f1_data`, and what cannot be stored in quarantine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime
from time import monotonic

from f1hbase.catalog import ENDPOINTS, Endpoint
from f1hbase.codec import SEPARATOR, EncodeError, Row, checksum, encode, null_columns, raw_json
from f1hbase.errors import StoreError
from f1hbase.hbase.connector import HBaseConnector, RowMutation
from f1hbase.hbase.schema import Tables
from f1hbase.units import Answer, Outcome, Unit

_CHECKSUM_MODULUS = 2**64


class HBaseSink:
    """Encodes records and puts them in batches.

    Args:
        connector: The connection to use.
        tables: Where to put them.
        refresh: Whether to delete the cells of fields that are null by now.
    """

    def __init__(self, connector: HBaseConnector, tables: Tables, *, refresh: bool = False) -> None:
        self._connector = connector
        self._tables = tables
        self._refresh = refresh

    def store(self, answer: Answer) -> Outcome:
        """Store the records of one answer; on return HBase has acknowledged them.

        Records without a key or without a faithful form go to quarantine. Two records of one identity become one
        row, the later winning cell by cell. What HBase refuses is an outcome with an error.

        Raises:
            UnreachableError: If HBase is away longer than patience lasts.
        """
        started = monotonic()
        unit = answer.unit
        rows, quarantined, drivers = self._encode(unit, answer)
        error = answer.error
        try:
            self._connector.put(self._tables.reports, quarantined)
            self._connector.put(self._tables.data, self._mutations(ENDPOINTS[unit.endpoint], rows))
        except StoreError as refusal:
            error = str(refusal)
        return Outcome(
            unit=unit,
            asked_at=answer.asked_at,
            records=len(answer.records),
            rows=len(rows),
            duplicates=len(answer.records) - len(quarantined) - len(rows),
            quarantined=len(quarantined),
            bytes=answer.bytes,
            requests=answer.requests,
            retries=answer.retries,
            checksum=sum(checksum(Row(*item)) for item in rows.items()) % _CHECKSUM_MODULUS,
            seconds=answer.seconds + monotonic() - started,
            drivers=frozenset(drivers),
            error=error,
        )

    def _encode(
        self, unit: Unit, answer: Answer
    ) -> tuple[dict[bytes, dict[bytes, bytes]], list[RowMutation], set[int]]:
        endpoint = ENDPOINTS[unit.endpoint]
        rows: dict[bytes, dict[bytes, bytes]] = {}
        quarantined: list[RowMutation] = []
        drivers: set[int] = set()
        for record in answer.records:
            try:
                if not isinstance(record, dict):
                    raise EncodeError("it is not an object")
                key, cells = encode(endpoint, unit.scope.year, record)
            except EncodeError as error:
                quarantined.append(_quarantine(unit, record, str(error), answer.asked_at))
                continue
            if key in rows:
                rows[key] |= cells
            else:
                rows[key] = cells
            if endpoint.by_driver:
                drivers.add(record["driver_number"])
        return rows, quarantined, drivers

    def _mutations(self, endpoint: Endpoint, rows: dict[bytes, dict[bytes, bytes]]) -> Iterator[RowMutation]:
        for key, cells in rows.items():
            yield RowMutation(key, cells, null_columns(endpoint, Row(key, cells)) if self._refresh else ())


def _quarantine(unit: Unit, record: object, reason: str, found: datetime) -> RowMutation:
    raw = raw_json(record).encode()
    digest = hashlib.sha256(raw).hexdigest()
    key = SEPARATOR.join(["quarantine", unit.scope.prefix, unit.endpoint, digest])
    cells = {
        b"meta:record": raw,
        b"meta:unit": unit.key.encode(),
        b"meta:found": found.isoformat().encode(),
        b"errors:reason": reason.encode(errors="backslashreplace"),
    }
    return RowMutation(key.encode(), cells)
