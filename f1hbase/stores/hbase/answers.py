"""Thrift's answers to `scannerGetList` read straight from their bytes, column by column.

thriftpy2 makes an object of each cell, and happybase a dict of each row. But the rows of an endpoint differ in their
keys and values only, so one regular expression takes a whole answer apart, four times as fast (docs/reading.md). What
it does not match (a column that is not expected, a value with a control character) is read by a plain parser. Knows the
binary protocol only, and no endpoint.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, groupby
from typing import NamedTuple

_VERSION, _CALL, _REPLY, _EXCEPTION = 0x80010000, 1, 2, 3
_LIST, _STRUCT, _STRING, _I32 = 15, 12, 11, 8
_SIZES = {2: 1, 3: 1, 4: 8, 6: 2, 8: 4, 10: 8}
"""The bytes that a value of each of Thrift's plain types takes."""

_ROW_BEGINS = b"\x00\x0b\x00\x01"
"""What stands between two rows: the end of the one struct, and the first field, a string, of the next."""

_AROUND_KEY = len(b"\x0b\x00\x01....\x0d\x00\x02\x0b\x0c....\x00")
_AROUND_VALUE = len(b"....\x0b\x00\x01\x0a\x00\x02........\x00")

Cells = Mapping[bytes, bytes]


class Incomplete(Exception):  # noqa: N818 - no error: there is more to come
    """The bytes end before what is read does."""


class RefusedError(Exception):
    """The gateway answers with an exception.

    Attributes:
        field: Which one: that of `scannerGetList`'s result (1 an IOError, 2 an IllegalArgument), 0 for Thrift's own.
        message: Its text.
    """

    def __init__(self, field: int, message: bytes) -> None:
        super().__init__(message.decode(errors="replace"))
        self.field = field
        self.message = message


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows in the order of their keys, all of whose columns are expected ones.

    Attributes:
        keys: The keys.
        columns: For each expected column, in their order, the value in each row as `value_of` reads it.
    """

    keys: Sequence[bytes]
    columns: Sequence[Sequence[bytes]]


class OtherRow(NamedTuple):
    """A row that has something unusual."""

    key: bytes
    cells: Cells


Run = Rows | OtherRow


def value_of(framed: bytes) -> bytes | None:
    """Return the value that stands in a column of `Rows`, which begins with its length; None where there is no cell.

    Raises:
        ValueError: If the length is another one.
    """
    if not framed:
        return None
    if int.from_bytes(framed[:4], "big") != len(framed) - 4:
        raise ValueError(f"a cell's length is not that of its value: {framed[:40]!r}")
    return framed[4:]


def merged(runs: Sequence[Run]) -> list[Run]:
    """Return the same rows with as few runs as there can be; an answer comes in many pieces."""
    found: list[Run] = []
    for usual, group in groupby(runs, key=lambda run: isinstance(run, Rows)):
        some = list(group)
        if not usual or len(some) == 1:
            found += some
            continue
        rows = [run for run in some if isinstance(run, Rows)]
        columns = zip(*(run.columns for run in rows), strict=True)
        found.append(Rows(_chained(run.keys for run in rows), [_chained(parts) for parts in columns]))
    return found


def _chained(parts: Iterable[Sequence[bytes]]) -> list[bytes]:
    return list(chain.from_iterable(parts))


def scanner_get_list(scanner: int, rows: int) -> bytes:
    """Return the call that asks a scanner for its next rows."""
    name = b"scannerGetList"
    return b"".join([
        struct.pack(">Ii", _VERSION | _CALL, len(name)), name, struct.pack(">i", 0),
        struct.pack(">bhi", _I32, 1, scanner), struct.pack(">bhi", _I32, 2, rows), b"\0",
    ])  # fmt: skip


class AnswerReader:
    """Reads one answer, which comes in pieces.

    Args:
        columns: The expected columns, each as `family:qualifier`.
    """

    def __init__(self, columns: Sequence[bytes]) -> None:
        self._columns = tuple(sorted(columns))
        # The gateway answers with the cells in the order of their names.
        self._places = [self._columns.index(column) for column in columns]
        self._pattern = _pattern(self._columns)
        self._around = [len(column) + _AROUND_VALUE for column in self._columns]
        self._buffer = bytearray()
        self._left = -1
        self.is_complete = False
        self.last_key = b""

    def feed(self, data: bytes) -> list[Run]:
        """Take the next bytes, and return the rows that are complete now.

        Raises:
            RefusedError: If the answer is an exception.
            ValueError: If it is no answer to `scannerGetList`.
        """
        self._buffer += data
        runs: list[Run] = []
        try:
            at = 0
            if self._left < 0:
                at = self._begin()
            at = self._rows(at, runs)
        except Incomplete:
            return runs
        del self._buffer[:at]
        return runs

    def _begin(self) -> int:
        kind, name, at = _message(self._buffer)
        if kind == _EXCEPTION:
            raise RefusedError(0, _first_text(self._buffer, at))
        if kind != _REPLY or name != b"scannerGetList":
            raise ValueError(f"the gateway answers with {name[:40]!r}")
        field_type, at = _byte(self._buffer, at)
        number, at = _unpack(">h", self._buffer, at)
        if field_type != _LIST:
            raise RefusedError(number, _first_text(self._buffer, at))
        _, at = _byte(self._buffer, at)
        self._left, at = _unpack(">i", self._buffer, at)
        if self._left < 0:
            raise ValueError("the gateway answers with a negative number of rows")
        del self._buffer[:at]
        return 0

    def _rows(self, at: int, runs: list[Run]) -> int:
        """Read what is there; return where what is not read begins."""
        # All rows but the last one in the buffer are complete, unless there is something unusual in it.
        cut = self._buffer.rfind(_ROW_BEGINS, at)
        if cut > at and self._left > 1:
            at = self._region(at, cut + 1, runs)
        # The last row of the answer has no other behind it.
        while self._left == 1:
            try:
                key, cells, end = _row(self._buffer, at)
            except Incomplete:
                return at
            runs.append(self._regular(key, cells) or OtherRow(key, cells))
            self._count(1, key)
            at = end
        if self._left == 0 and at < len(self._buffer):
            if self._buffer[at] or at + 1 != len(self._buffer):
                raise ValueError("the gateway's answer does not end where its rows do")
            self.is_complete = True
            at += 1
        return at

    def _region(self, at: int, end: int, runs: list[Run]) -> int:
        found = self._pattern.findall(self._buffer, at, end)
        if found and len(found) <= self._left:
            rows = self._made(found)
            if self._length(rows) == end - at:
                runs.append(rows)
                self._count(len(found), rows.keys[-1])
                return end
        while at < end and self._left > 1:
            match = self._pattern.match(self._buffer, at, end)
            if match is not None:
                runs.append(self._made([match.groups(b"")]))
                key, at = match[1], match.end()
            else:
                try:
                    key, cells, at = _row(self._buffer, at)
                except Incomplete:  # what looked like a row's beginning was part of a value
                    return at
                runs.append(OtherRow(key, cells))
            self._count(1, key)
        return at

    def _count(self, rows: int, last_key: bytes) -> None:
        self._left -= rows
        self.last_key = last_key

    def _made(self, found: Sequence[Sequence[bytes]]) -> Rows:
        keys, *columns = zip(*found, strict=True)
        return Rows(keys, [columns[place] for place in self._places])

    def _length(self, rows: Rows) -> int:
        """Return how many bytes rows take in the answer."""
        count = len(rows.keys)
        total = count * _AROUND_KEY + sum(map(len, rows.keys))
        for place, column in zip(self._places, rows.columns, strict=True):
            total += sum(map(len, column)) + (count - column.count(b"")) * self._around[place]
        return total

    def _regular(self, key: bytes, cells: Cells) -> Rows | None:
        known = set(self._columns)
        if not cells.keys() <= known:
            return None
        framed = [
            len(cells[column]).to_bytes(4, "big") + cells[column] if column in cells else b""
            for column in self._columns
        ]
        return Rows([key], [[framed[place]] for place in self._places])


def rows_of(answer: bytes, columns: Sequence[bytes]) -> list[Run]:
    """Return the rows of a whole answer, with as few runs as there can be.

    Args:
        answer: The answer.
        columns: The expected columns, as of `AnswerReader`.

    Raises:
        ValueError: If it is no answer to `scannerGetList`, or not all of one.
    """
    reader = AnswerReader(columns)
    runs = reader.feed(answer)
    if not reader.is_complete:
        raise ValueError(f"an answer of {len(answer):,} bytes ends before its rows do")
    return merged(runs)


@lru_cache(200)
def _pattern(columns: tuple[bytes, ...]) -> re.Pattern[bytes]:
    """Return what matches a row whose columns are among these: groups for its key and, with its length, each value."""
    text = rb"[^\x00-\x1f]*+"
    parts = [rb"\x0b\x00\x01\x00\x00..(", text, rb")\x0d\x00\x02\x0b\x0c\x00\x00\x00."]
    for column in columns:
        name = re.escape(struct.pack(">I", len(column)) + column)
        parts += [rb"(?:", name, rb"\x0b\x00\x01(\x00\x00..", text, rb")\x0a\x00\x02.{8}\x00)?+"]
    # Without the look ahead, the row's end would be found in the length of a column that is not expected.
    return re.compile(b"".join([*parts, rb"\x00(?=\x0b\x00\x01|\Z)"]), re.DOTALL)


def _message(data: bytearray) -> tuple[int, bytes, int]:
    version, at = _unpack(">I", data, 0)
    if version & 0xFFFF0000 != _VERSION:
        raise ValueError("the gateway does not answer in Thrift's binary protocol")
    name, at = _text(data, at)
    _, at = _unpack(">i", data, at)
    return version & 0xFF, name, at


def _row(data: bytearray, at: int) -> tuple[bytes, Cells, int]:
    """Read a `TRowResult`: its key, its cells, and where it ends."""
    key, cells = b"", dict[bytes, bytes]()
    for kind, number, begin in _fields(data, at):
        if kind == 0:
            return key, cells, begin
        if (kind, number) == (_STRING, 1):
            key, _ = _text(data, begin)
        elif number == 2:
            count, place = _unpack(">i", data, begin + 2)
            for _ in range(count):
                column, place = _text(data, place)
                cells[column], place = _cell(data, place)
    raise Incomplete


def _cell(data: bytearray, at: int) -> tuple[bytes, int]:
    value = b""
    for kind, number, begin in _fields(data, at):
        if kind == 0:
            return value, begin
        if (kind, number) == (_STRING, 1):
            value, _ = _text(data, begin)
    raise Incomplete


def _first_text(data: bytearray, at: int) -> bytes:
    """Return the first text of a struct: the message of an exception."""
    text = b""
    for kind, _, begin in _fields(data, at):
        if kind == _STRING and not text:
            text, _ = _text(data, begin)
    return text


def _fields(data: bytearray, at: int) -> Iterator[tuple[int, int, int]]:
    """Yield the type, number and place of each field of a struct, and at last 0, 0 and where it ends."""
    while True:
        kind, at = _byte(data, at)
        if kind == 0:
            yield 0, 0, at
            return
        number, at = _unpack(">h", data, at)
        yield kind, number, at
        at = _after(data, kind, at)


def _after(data: bytearray, kind: int, at: int) -> int:
    """Return where a value ends."""
    if kind in _SIZES:
        end = at + _SIZES[kind]
    elif kind == _STRING:
        _, end = _text(data, at)
    elif kind == _STRUCT:
        *_, (_, _, end) = _fields(data, at)
    elif kind == 13:
        key, at = _byte(data, at)
        value, at = _byte(data, at)
        count, end = _unpack(">i", data, at)
        for _ in range(count):
            end = _after(data, value, _after(data, key, end))
    elif kind in (14, _LIST):
        item, at = _byte(data, at)
        count, end = _unpack(">i", data, at)
        for _ in range(count):
            end = _after(data, item, end)
    else:
        raise ValueError(f"the gateway's answer has a value of the unknown type {kind}")
    if end > len(data):
        raise Incomplete
    return end


def _text(data: bytearray, at: int) -> tuple[bytes, int]:
    length, at = _unpack(">i", data, at)
    if length < 0:
        raise ValueError("the gateway's answer has a text of a negative length")
    end = at + length
    if end > len(data):
        raise Incomplete
    return bytes(data[at:end]), end


def _byte(data: bytearray, at: int) -> tuple[int, int]:
    if at >= len(data):
        raise Incomplete
    return data[at], at + 1


def _unpack(form: str, data: bytearray, at: int) -> tuple[int, int]:
    size = struct.calcsize(form)
    if at + size > len(data):
        raise Incomplete
    return struct.unpack_from(form, data, at)[0], at + size
