"""The naive way: what a script of a page does with `requests` and `happybase`, without anything of this project."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import happybase
import requests

from benchmarks.clients import Work

_IN_KEY = ("meeting_key", "session_key", "driver_number", "date")


def row_key(year: int, record: dict[str, Any]) -> bytes:
    """Return the row key of a car_data record: the same as this project's, so that the rows are the same."""
    parts = [year, *(record[field] for field in _IN_KEY)]
    return "#".join(str(part) for part in parts).encode()


def cells(record: dict[str, Any]) -> dict[bytes, bytes]:
    """Return the cells of a car_data record: the same as this project's."""
    return {
        f"car:{field}".encode(): str(value).encode()
        for field, value in record.items()
        if field not in _IN_KEY and value is not None
    }


@dataclass(frozen=True, slots=True)
class NaiveJob:
    """Loads car_data session by session, driver by driver.

    Attributes:
        api: The address of the API.
        port: That of HBase's Thrift gateway.
        table: Where to put.
        year: The season.
        sessions: The session keys.
        most: How many records to put at the most.
        batch_size: What the happybase batch is told; None puts each record by itself.
    """

    api: str
    port: int
    table: str
    year: int
    sessions: Sequence[int]
    most: int
    batch_size: int | None

    def prepare(self) -> Work:
        """Connect."""
        connection = happybase.Connection("127.0.0.1", self.port)
        table = connection.table(self.table)
        return lambda: self._put(table) if self.batch_size is None else self._put_in_batches(table)

    def _put(self, table: Any) -> int:
        count = 0
        for record in islice(self._records(), self.most):
            table.put(row_key(self.year, record), cells(record))
            count += 1
        return count

    def _put_in_batches(self, table: Any) -> int:
        count = 0
        with table.batch(batch_size=self.batch_size) as batch:
            for record in islice(self._records(), self.most):
                batch.put(row_key(self.year, record), cells(record))
                count += 1
        return count

    def _records(self) -> Iterator[dict[str, Any]]:
        for session in self.sessions:
            drivers = self._get("drivers", session_key=session)
            for driver in drivers:
                yield from self._get("car_data", session_key=session, driver_number=driver["driver_number"])

    def _get(self, endpoint: str, **filters: int) -> list[dict[str, Any]]:
        response = requests.get(f"{self.api}/{endpoint}", params=filters, timeout=60)
        if response.status_code == requests.codes.not_found:  # there are none
            return []
        response.raise_for_status()
        records: list[dict[str, Any]] = response.json()
        return records
