"""Some records of an answer, in whatever form their store has them, as the JSON and CSV that they are answered with.

A store hands an answer on block by block, so that no answer is ever in memory as a whole. It knows no store.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Protocol

import msgspec

from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.columns import SampleColumns
from f1hbase.model.memo import Memo
from f1hbase.model.samples import Record, Samples
from f1hbase.serve.csvform import csv_lines
from f1hbase.serve.groups import Span
from f1hbase.serve.query import Condition
from f1hbase.serve.store import Piece

_encode = msgspec.json.Encoder().encode


class Block(Protocol):
    """Some records of one endpoint.

    Attributes:
        rows: How many; a block may be empty, and then only says that its store is still at work.
    """

    @property
    def rows(self) -> int:
        """How many records there are."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that at least one of them has, sorted."""

    def json(self) -> Piece:
        """Return their JSON, commas between the records."""

    def csv(self, header: Sequence[str]) -> Piece:
        """Return their lines of CSV under a header, which has at least their fields; without the header itself."""

    def lines(self) -> Iterator[bytes]:
        """Yield the JSON of each."""


class RecordBlock:
    """Records as dicts."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records

    @property
    def rows(self) -> int:
        """How many records there are."""
        return len(self._records)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that at least one of them has, sorted."""
        return tuple(sorted(set().union(*self._records)))

    def json(self) -> bytes:
        """Return their JSON, commas between the records."""
        return json_of(list(self._records))[1:-1]

    def csv(self, header: Sequence[str]) -> bytes:
        """Return their lines of CSV under a header."""
        return csv_lines(header, self._records)

    def lines(self) -> Iterator[bytes]:
        """Yield the JSON of each."""
        return map(json_of, self._records)


EMPTY = RecordBlock(())
"""The block of a store that is still at work."""


class SampleBlock:
    """Samples, column by column: four times as fast as record by record."""

    def __init__(self, samples: Samples) -> None:
        self._endpoint = samples.endpoint
        self._columns = samples.columns
        self._samples = samples

    @property
    def rows(self) -> int:
        """How many samples there are."""
        return len(self._samples)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of the endpoint, sorted."""
        return tuple(sorted(self._endpoint.fields))

    def json(self) -> bytes:
        """Return their JSON, commas between the records."""
        return ",".join(self._texts()).encode()

    def csv(self, header: Sequence[str]) -> bytes:
        """Return their lines of CSV under a header."""
        by_name = dict(zip(self._endpoint.fields, self._columns, strict=True))
        by_name["date"] = [date.replace("T", " ", 1) for date in by_name["date"]]
        nothing = [None] * self.rows
        out = io.StringIO()
        csv.writer(out).writerows(zip(*(by_name.get(name, nothing) for name in header), strict=True))
        return out.getvalue().encode()

    def lines(self) -> Iterator[bytes]:
        """Yield the JSON of each."""
        return (text.encode() for text in self._texts())

    def _texts(self) -> Iterator[str]:
        # Dates are spelt as OpenF1 does, so that nothing in them needs an escape.
        columns = [
            column if name == "date" else map(_NUMBERS.__getitem__, column)
            for name, column in zip(self._endpoint.fields, self._columns, strict=True)
        ]
        return map(_template(self._endpoint.name).__mod__, zip(*columns, strict=True))


class SpanBlock:
    """Neighbours in a group; see `f1hbase.serve.groups`."""

    def __init__(self, span: Span) -> None:
        self._span = span

    @property
    def rows(self) -> int:
        """How many records there are."""
        return self._span.last - self._span.first

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that at least one of them has, sorted."""
        same = self._span.group.csv().fields
        return same if same is not None else tuple(sorted(set().union(*map(json.loads, self.lines()))))

    def json(self) -> Piece:
        """Return their JSON as a stretch of what is kept."""
        return self._span.group.json(self._span.first, self._span.last)

    def csv(self, header: Sequence[str]) -> Piece:
        """Return their lines of CSV, as a stretch of what is kept where all have the fields of the header."""
        table = self._span.group.csv()
        if table.fields == tuple(header):
            return table.lines(self._span.first, self._span.last)
        return csv_lines(header, map(json.loads, self.lines()))

    def lines(self) -> Iterator[bytes]:
        """Yield the JSON of each."""
        return self._span.group.lines(self._span.first, self._span.last)


def block_of(records: Samples | Sequence[Record], conditions: Mapping[str, Condition]) -> Block:
    """Return those of some records that fulfil conditions, as a block."""
    if isinstance(records, Samples):
        return SampleBlock(_matching(records, conditions)) if conditions else SampleBlock(records)
    if not conditions:
        return RecordBlock(records)
    return RecordBlock([
        record for record in records if all(holds(one, record.get(name)) for name, one in conditions.items())
    ])  # fmt: skip


def holds(condition: Condition, value: Any) -> bool:
    """Tell whether a value fulfils a condition; a text where a date should be fulfils none."""
    try:
        return condition.matches(value)
    except ValueError:
        return False


def json_of(value: Any) -> bytes:
    """Return the compact JSON of a record or of a list of them, non-ASCII characters as they are."""
    try:
        return _encode(value)
    except (msgspec.MsgspecError, OverflowError, UnicodeEncodeError):  # a whole number beyond 64 bits, half a character
        return json.dumps(value, separators=(",", ":")).encode()


def _matching(samples: Samples, conditions: Mapping[str, Condition]) -> Samples:
    by_name = dict(zip(samples.endpoint.fields, samples.columns, strict=True))
    places: Sequence[int] = range(len(samples))
    for name, condition in conditions.items():
        column = by_name.get(name)
        if column is None:
            places = ()
            break
        if name == "date":
            places = [place for place in places if holds(condition, column[place])]
        else:  # a column has few different values
            found = {value for value in set(column) if holds(condition, value)}
            places = [place for place in places if column[place] in found]
    if len(places) == len(samples):
        return samples
    return SampleColumns(samples.endpoint, [[column[place] for place in places] for column in by_name.values()])


@cache
def _template(endpoint_name: str) -> str:
    fields = ENDPOINTS[endpoint_name].fields
    return "{" + ",".join(f'"{name}":"%s"' if name == "date" else f'"{name}":%s' for name in fields) + "}"


_NUMBERS: Memo[int | None, str] = Memo(lambda number: "null" if number is None else str(number))
