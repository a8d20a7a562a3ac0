"""OpenF1's CSV form of an answer."""

from __future__ import annotations  # array[int] can be subscripted only from Python 3.12 on

import csv
import io
import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from f1hbase.serve.query import DATE_FIELDS

_LINES_AT_ONCE = 2_000
_decode = msgspec.json.Decoder().decode


def to_csv(records: Sequence[dict[str, Any]]) -> bytes:
    """Return the records as OpenF1's CSV: the fields present, sorted; dates with a space; nulls empty.

    Lists and booleans are spelled as Python prints them, and lines end in CRLF, as the API's do.
    """
    fields = sorted(set().union(*records))
    return csv_line(fields) + csv_lines(fields, records)


def csv_pieces(lines: Callable[[], Iterator[bytes]]) -> Iterator[bytes]:
    """Yield the CSV of records that have different fields, some thousand lines at a time.

    ``lines`` gives the records as JSON; it is called twice, first for the fields.
    """
    fields: set[str] = set()
    for line in lines():
        fields.update(json.loads(line))
    header = sorted(fields)
    yield csv_line(header)
    source = lines()
    while batch := list(islice(source, _LINES_AT_ONCE)):
        yield csv_lines(header, map(json.loads, batch))


def csv_line(values: Iterable[Any]) -> bytes:
    """Return one line of CSV, its end included."""
    out = io.StringIO()
    csv.writer(out).writerow(values)
    return out.getvalue().encode()


def csv_lines(fields: Sequence[str], records: Iterable[Mapping[str, Any]]) -> bytes:
    """Return the lines of records under a header of some fields."""
    out = io.StringIO()
    csv.writer(out).writerows([_cell(field, record.get(field)) for field in fields] for record in records)
    return out.getvalue().encode()


class _Lines:
    """A file of which each line that is written to it is an item of a list."""

    def __init__(self, lines: list[str]) -> None:
        self.write = lines.append


class CsvLines:
    """The lines of records, made once, so that an answer is a stretch of them, as it is in JSON.

    Args:
        records: The records as JSON.

    Attributes:
        fields: What each of them has, sorted; None where they differ, so that no line stands for itself.
    """

    def __init__(self, records: Iterable[bytes]) -> None:
        self.fields: tuple[str, ...] | None = ()
        self._blob = bytearray()
        self._starts = array("Q", [0])
        written: list[str] = []
        writer = csv.writer(_Lines(written))
        names: tuple[str, ...] | None = None  # in the order of the records, which is rarely another one
        source = iter(records)
        while batch := list(islice(source, _LINES_AT_ONCE)):
            rows = []
            for text in batch:
                record = _decode(text)
                if (own := tuple(record)) != names:
                    fields = tuple(sorted(own))
                    if names is not None and fields != self.fields:
                        self.fields = None
                        return
                    names, self.fields = own, fields
                    dates = [index for index, name in enumerate(fields) if name in DATE_FIELDS]
                row = [record[name] for name in fields]
                for index in dates:
                    if isinstance(row[index], str):
                        row[index] = row[index].replace("T", " ", 1)
                rows.append(row)
            writer.writerows(rows)
            for line in written:
                self._blob += line.encode()
                self._starts.append(len(self._blob))
            written.clear()

    def lines(self, first: int, last: int) -> memoryview:
        """Return some of the lines; there are none where `fields` is None."""
        return memoryview(self._blob)[self._starts[first] : self._starts[last]]


def _cell(field: str, value: Any) -> Any:
    if field in DATE_FIELDS and isinstance(value, str):
        return value.replace("T", " ", 1)
    return value
