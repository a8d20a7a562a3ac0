"""Thrift's `mutateRows` written straight to bytes: the same bytes that thriftpy2 writes, in a fraction of the time.

happybase makes an object of each cell and thriftpy2 walks through it field by field, which costs more than all else
that is done with a row. But rows with the same columns differ only in their keys and values: what is around those is
worked out once for each set of columns, as a template, and a row is then one formatting of bytes. Reading the answers
is left to thriftpy2.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from typing import NamedTuple, Protocol

from f1hbase.model.memo import Memo
from f1hbase.stores.hbase.codec import Block

FRAME_BYTES = 1_000_000
"""How large a frame may become, unless it is a single row: a framed gateway refuses those above 2 MB unless told
otherwise (`hbase.regionserver.thrift.framed.max_frame_size_in_mb`), and larger ones are no faster
(docs/performance.md)."""

_SHAPES = 1_000
"""How many sets of columns are remembered; an endpoint has one or a few."""

# Thrift's types: those of the binary protocol are TType's, the compact one has numbers of its own.
_STRING, _STRUCT, _LIST, _MAP, _BOOL, _I64 = 11, 12, 15, 13, 2, 10
_COMPACT = {_STRING: 8, _STRUCT: 12, _LIST: 9, _MAP: 11, _I64: 6}
_LONGEST_LENGTH = 5
"""How many bytes the length of a text takes at most: 4 in the binary protocol, up to 5 in the compact one."""

_CALL = 1
_STOP = b"\0"


class RowMutation(NamedTuple):
    """What changes in one row: cells by `family:qualifier` that are put, and columns that are deleted."""

    key: bytes
    cells: Mapping[bytes, bytes]
    deletes: Sequence[bytes] = ()


Changes = Block | Iterable[RowMutation]
"""What a table is to be changed by."""


class Frame(NamedTuple):
    """One call.

    Attributes:
        protocol: What it is written in, `binary` or `compact`.
        call: What is called, by which thriftpy2 reads the answer.
        data: The call as it is sent.
        changes: What it says.
    """

    protocol: str
    call: str
    data: bytes
    changes: Changes


class _Spelling(Protocol):
    """How a Thrift protocol spells the few things that a call of `mutateRows` consists of."""

    def call(self, name: bytes) -> bytes:
        """Begin a call."""

    def field(self, kind: int, number: int, last: int) -> bytes:
        """Begin a field, after the one with the number `last` of the same struct."""

    def flag(self, value: bool, number: int, last: int) -> bytes:
        """Write a whole boolean field."""

    def text(self, value: bytes) -> bytes:
        """Write a text."""

    def structs(self, count: int) -> bytes:
        """Begin a list of structs."""

    def integer(self, value: int) -> bytes:
        """Write a number of 64 bits."""

    def no_entries(self) -> bytes:
        """Write an empty map of texts."""


class _Binary:
    """TBinaryProtocol."""

    def call(self, name: bytes) -> bytes:
        return struct.pack(">I", 0x80010000 | _CALL) + self.text(name) + struct.pack(">i", 0)

    def field(self, kind: int, number: int, last: int) -> bytes:
        del last
        return struct.pack(">bh", kind, number)

    def flag(self, value: bool, number: int, last: int) -> bytes:
        return self.field(_BOOL, number, last) + (b"\1" if value else b"\0")

    def text(self, value: bytes) -> bytes:
        return len(value).to_bytes(4, "big") + value

    def structs(self, count: int) -> bytes:
        return struct.pack(">bi", _STRUCT, count)

    def integer(self, value: int) -> bytes:
        return struct.pack(">q", value)

    def no_entries(self) -> bytes:
        return struct.pack(">bbi", _STRING, _STRING, 0)


class _Compact:
    """TCompactProtocol, which says in how far a field's number differs from the last one's, and sizes as varints."""

    def call(self, name: bytes) -> bytes:
        return bytes([0x82, 1 | _CALL << 5]) + _varint(0) + self.text(name)

    def field(self, kind: int, number: int, last: int) -> bytes:
        return bytes([(number - last) << 4 | _COMPACT[kind]])

    def flag(self, value: bool, number: int, last: int) -> bytes:
        return bytes([(number - last) << 4 | (1 if value else 2)])

    def text(self, value: bytes) -> bytes:
        return _varint(len(value)) + value

    def structs(self, count: int) -> bytes:
        kind = _COMPACT[_STRUCT]
        return bytes([count << 4 | kind]) if count < 15 else bytes([0xF0 | kind]) + _varint(count)

    def integer(self, value: int) -> bytes:
        return _varint(value << 1 ^ value >> 63)

    def no_entries(self) -> bytes:
        return b"\0"


def _varint(number: int) -> bytes:
    low = bytearray()
    while number > 0x7F:
        low.append(number & 0x7F | 0x80)
        number >>= 7
    low.append(number)
    return bytes(low)


class FrameWriter:
    """Writes rows as calls of `mutateRows`.

    Args:
        protocol: `binary` or `compact`.
    """

    def __init__(self, protocol: str) -> None:
        self._protocol = protocol
        self._spelling: _Spelling = _Compact() if protocol == "compact" else _Binary()
        self._texts: Memo[bytes, bytes] = Memo(self._spelling.text)
        self._template = lru_cache(_SHAPES)(self._make_template)

    def frames(
        self, table: str, changes: Changes, timestamp: int | None = None, largest: int | None = None
    ) -> Iterator[Frame]:
        """Yield the calls that make the changes, each written when it is asked for; a row is never cut.

        Args:
            table: The table to change.
            changes: The changes; each row once.
            timestamp: When they count as made, in milliseconds since 1970; by default when HBase gets them.
            largest: How many bytes of rows a call may have, unless it has one row; by default `FRAME_BYTES`.
        """
        largest = FRAME_BYTES if largest is None else largest
        if isinstance(changes, Block):
            for block in self._parts(changes, largest):
                yield self._frame(table, block, self._rows(block), timestamp)
        else:
            for batch, rows in self._batches(changes, largest):
                yield self._frame(table, batch, rows, timestamp)

    def _batches(
        self, mutations: Iterable[RowMutation], largest: int
    ) -> Iterator[tuple[Sequence[RowMutation], Sequence[bytes]]]:
        batch: list[RowMutation] = []
        rows: list[bytes] = []
        size = 0
        for mutation in mutations:
            row = self._row(mutation)
            if batch and size + len(row) > largest:
                yield batch, rows
                batch, rows, size = [], [], 0
            batch.append(mutation)
            rows.append(row)
            size += len(row)
        if batch:
            yield batch, rows

    def _parts(self, block: Block, largest: int) -> Iterator[Block]:
        """Cut a block by the size that its rows cannot exceed, so that each part can be written by itself."""
        longest = [max(map(len, texts)) for texts in (block.keys, *block.values)]
        row = len(self._template(block.columns, ())) + sum(longest) + _LONGEST_LENGTH * len(longest)
        count = max(1, largest // row)
        for start in range(0, len(block.keys), count):
            yield block.part(start, start + count)

    def _rows(self, block: Block) -> list[bytes]:
        template = self._template(block.columns, ())
        values = (map(self._texts.__getitem__, column) for column in block.values)
        return [template % row for row in zip(map(self._spelling.text, block.keys), *values, strict=True)]

    def _frame(self, table: str, changes: Changes, rows: Sequence[bytes], timestamp: int | None) -> Frame:
        spell = self._spelling
        call = "mutateRows" if timestamp is None else "mutateRowsTs"
        begin = [
            spell.call(call.encode()),
            spell.field(_STRING, 1, 0), spell.text(table.encode()),
            spell.field(_LIST, 2, 1), spell.structs(len(rows)),
        ]  # fmt: skip
        end = [spell.field(_MAP, 3, 2), spell.no_entries(), _STOP]
        if timestamp is not None:
            end = [
                spell.field(_I64, 3, 2), spell.integer(timestamp),
                spell.field(_MAP, 4, 3), spell.no_entries(), _STOP,
            ]  # fmt: skip
        return Frame(self._protocol, call, b"".join([*begin, *rows, *end]), changes)

    def _row(self, mutation: RowMutation) -> bytes:
        key, cells, deletes = mutation
        template = self._template(tuple(cells), tuple(deletes))
        return template % (self._spelling.text(key), *map(self._texts.__getitem__, cells.values()))

    def _make_template(self, columns: tuple[bytes, ...], deletes: tuple[bytes, ...]) -> bytes:
        """Return a row without its key and values, in whose places stands `%b`."""
        spell = self._spelling
        parts = [
            spell.field(_STRING, 1, 0), b"%b",
            spell.field(_LIST, 2, 1), _literal(spell.structs(len(columns) + len(deletes))),
        ]  # fmt: skip
        for column in columns:
            parts += [
                spell.flag(False, 1, 0),
                spell.field(_STRING, 2, 1), _literal(spell.text(column)),
                spell.field(_STRING, 3, 2), b"%b",
                spell.flag(True, 4, 3),
                _STOP,
            ]  # fmt: skip
        for column in deletes:
            parts += [
                spell.flag(True, 1, 0),
                spell.field(_STRING, 2, 1), _literal(spell.text(column)),
                spell.flag(True, 4, 2),
                _STOP,
            ]  # fmt: skip
        return b"".join([*parts, _STOP])


def _literal(data: bytes) -> bytes:
    """Make bytes stand for themselves in a template."""
    return data.replace(b"%", b"%%")


@cache
def frame_writer(protocol: str) -> FrameWriter:
    """Return the writer of a protocol; one serves all, as what it remembers is worth sharing."""
    return FrameWriter(protocol)
