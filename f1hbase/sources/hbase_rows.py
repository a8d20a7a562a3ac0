"""Rows of HBase to records, many at a time; knows row keys and cells, and no connection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import groupby
from typing import Any

from f1hbase.model.catalog import ALL_ENDPOINTS, Endpoint
from f1hbase.model.columns import SampleArrays, SampleColumns
from f1hbase.model.memo import Memo
from f1hbase.model.samples import Record, Samples, are_as_openf1
from f1hbase.model.units import SEPARATOR
from f1hbase.sources.stored import UnreadableError
from f1hbase.stores.hbase.answers import OtherRow, Rows, Run, value_of
from f1hbase.stores.hbase.codec import decode, from_self_describing

Part = Samples | Sequence[Record]
"""Some records of one endpoint."""


class RowDecoder:
    """Makes records of the rows of an endpoint.

    Args:
        endpoint: The endpoint.
        table: The name of the table, for messages.
    """

    def __init__(self, endpoint: Endpoint, table: str) -> None:
        self._endpoint = endpoint
        self._table = table

    def parts(self, runs: Sequence[Run], driver: int | None = None) -> Iterator[Part]:
        """Yield the records of some rows, in their order.

        Args:
            runs: The rows; those of a run of samples are best all of one driver.
            driver: Whose records are wanted, where the rows are of others as well; None for all.

        Raises:
            UnreadableError: If a row cannot be decoded; names it.
        """
        endpoint = self._endpoint
        records: list[Record] = []
        for run in runs:
            if isinstance(run, Rows):
                samples = self._samples(run) if endpoint.numeric else None
                if samples is not None:
                    if records:
                        yield records
                        records = []
                    yield samples
                    continue
                records += self._records(run)
            else:
                records += self._record(run)
        if driver is not None and not endpoint.by_driver:
            records = [record for record in records if record.get("driver_number") == driver]
        if records:
            yield records

    def samples(self, lead: bytes, dates: Any, numbers: Sequence[Any]) -> SampleArrays | None:
        """Return the records of some rows of samples, whose parts are at hand; None if they are of no driver.

        Args:
            lead: What their keys have before the date.
            dates: The dates, an Arrow array of texts, spelt as OpenF1 does.
            numbers: The values of each of `expected_columns`, Arrow arrays of whole numbers.
        """
        places = _places_of(lead)
        return None if places is None else SampleArrays(self._endpoint, places, dates, numbers)

    def _samples(self, rows: Rows) -> SampleColumns | None:
        """Return rows of one driver as columns; None if one of them is not as samples are."""
        # They are in order: what the first and the last one begin with, all do.
        lead = lead_of(rows.keys[0])
        places = _places_of(lead)
        if places is None or lead != lead_of(rows.keys[-1]):
            return None
        length = len(lead) + 1
        # All at once, in a third of the time; a key with a line break in it is none of samples'.
        dates = [key[length:] for key in b"\n".join(rows.keys).decode(errors="replace").split("\n")]
        if len(dates) != len(rows.keys) or not are_as_openf1("\n".join(dates).encode()):
            return None
        try:
            values = [list(map(_WHOLE_NUMBERS.__getitem__, column)) for column in rows.columns]
        except ValueError:
            return None
        return SampleColumns(self._endpoint, [*([place] * len(dates) for place in places), dates, *values])

    def _records(self, rows: Rows) -> list[Record]:
        endpoint = self._endpoint
        fields = [column.partition(b":")[2].decode() for column in expected_columns(endpoint.name)]
        try:
            columns = [
                list(map((_TEXTS if field in endpoint.text else _VALUES).__getitem__, column))
                for field, column in zip(fields, rows.columns, strict=True)
                if field
            ]
        except ValueError:
            return [record for row in _one_by_one(endpoint, rows) for record in self._record(row)]
        fields = [field for field in fields if field]
        records = []
        for key, *values in zip(rows.keys, *columns, strict=True):
            record = self._keyed(key, {})
            if record is not None:
                record.update(zip(fields, values, strict=True))
                records.append(record)
        return records

    def _record(self, row: OtherRow) -> list[Record]:
        record = self._keyed(*row)
        return [] if record is None else [record]

    def _keyed(self, key: bytes, cells: Any) -> Record | None:
        try:
            return decode(self._endpoint, key, cells)
        except ValueError as error:
            raise UnreadableError(
                f"the row {key!r} of the table '{self._table}' cannot be read ({error}). Nothing of "
                "f1hbase wrote it so: delete it, or load it again with --refresh."
            ) from error


def _places_of(lead: bytes) -> tuple[int, int, int] | None:
    """Return the meeting, session and driver of samples; None if a lead is not as theirs are."""
    try:
        _, meeting_key, session_key, driver = map(int, lead.split(_HASH))
    except ValueError:
        return None
    return meeting_key, session_key, driver


def lead_of(key: bytes) -> bytes:
    """Return what a row key has before its last component: of a sample, all but its time."""
    return key.rpartition(_HASH)[0]


def by_lead(runs: Sequence[Run]) -> Iterator[tuple[bytes, Run]]:
    """Yield rows in order of their keys by what these have before the last component; see `lead_of`."""
    for run in runs:
        if isinstance(run, OtherRow):
            yield lead_of(run.key), run
        elif (lead := lead_of(run.keys[0])) == lead_of(run.keys[-1]):
            yield lead, run
        else:
            start = 0
            for lead, keys in groupby(run.keys, lead_of):
                end = start + len(list(keys))
                yield lead, Rows(run.keys[start:end], [column[start:end] for column in run.columns])
                start = end


@cache
def expected_columns(endpoint_name: str) -> tuple[bytes, ...]:
    """Return the columns that rows of an endpoint may have, its known fields', as `family:qualifier`."""
    endpoint = ALL_ENDPOINTS[endpoint_name]
    in_key = {*endpoint.dataset.session_fields, *endpoint.key_fields}
    fields = [field for field in endpoint.fields if field not in in_key]
    # The empty one stands in rows that have no other.
    return tuple(f"{endpoint.family}:{field}".encode() for field in (*fields, *([] if endpoint.numeric else [""])))


_HASH = SEPARATOR.encode()


def _whole_number(framed: bytes) -> int | None:
    value = value_of(framed)
    if value is None:
        return None
    # What is not spelt as whole numbers are (1.0, 1e3, " 1") is left to the codec.
    number = int(value)
    if b"%d" % number != value:
        raise ValueError(value)
    return number


_WHOLE_NUMBERS: Memo[bytes, int | None] = Memo(_whole_number)


def _text(framed: bytes) -> str | None:
    value = value_of(framed)
    return None if value is None else value.decode()


_TEXTS: Memo[bytes, str | None] = Memo(_text)


class _Values(dict[bytes, Any]):
    """What cells that describe themselves hold; remembers what comes again, but no lists, which could be changed."""

    _MOST, _LONGEST = 12_000, 16

    def __missing__(self, framed: bytes) -> Any:
        value = value_of(framed)
        found = None if value is None else from_self_describing(value)
        if len(self) < self._MOST and len(framed) <= self._LONGEST and not isinstance(found, list | dict):
            self[framed] = found
        return found


_VALUES = _Values()


def _one_by_one(endpoint: Endpoint, rows: Rows) -> Iterator[OtherRow]:
    columns = expected_columns(endpoint.name)
    for key, *values in zip(rows.keys, *rows.columns, strict=True):
        cells = {column: value_of(value) for column, value in zip(columns, values, strict=True)}
        yield OtherRow(key, {column: value for column, value in cells.items() if value is not None})
