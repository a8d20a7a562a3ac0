"""Rows of whole numbers in blocks, column by column, as `Blocks.java` writes them; knows no endpoint."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from f1hbase.stores.hbase.answers import Rows

_HEADER = struct.Struct("<4i")
_SEPARATOR = b"#"
_NUMBER_BYTES = 4


@dataclass(frozen=True, slots=True)
class Block:
    """Rows whose keys begin alike and end in a time, and whose cells are whole numbers in columns that are known.

    Attributes:
        lead: What all keys have before their last component.
        times: The last components of the keys, in order; an Arrow array of texts.
        columns: Of each column that was asked for, in their order, the numbers: an Arrow array of int32, null where a
            row has no cell.
    """

    lead: bytes
    times: Any
    columns: Sequence[Any]

    def rows(self) -> Rows:
        """Return the rows as the gateway's answers are read."""
        lead = self.lead + _SEPARATOR
        keys = [lead + time.encode() for time in self.times.to_pylist()]
        return Rows(keys, [[_framed(number) for number in column.to_pylist()] for column in self.columns])


def read_block(data: bytes, start: int) -> Block:
    """Return the block that begins somewhere in a message; its arrays keep the message, of which they are parts.

    Args:
        data: The message.
        start: Where the block begins; a multiple of 8.
    """
    import pyarrow as pa

    whole = pa.py_buffer(data)
    at = start

    def take(size: int) -> Any:
        nonlocal at
        begin = at
        at = begin + size + -size % 8
        return whole.slice(begin, size)

    rows, count, lead_bytes, time_bytes = _HEADER.unpack_from(data, at)
    absent = struct.unpack_from(f"<{count}i", data, at + _HEADER.size)
    take(_HEADER.size + 4 * count)
    lead = take(lead_bytes).to_pybytes()
    columns = []
    for missing in absent:
        numbers = take(_NUMBER_BYTES * rows)
        present = take((rows + 7) // 8) if missing else None
        columns.append(pa.Array.from_buffers(pa.int32(), rows, [present, numbers], missing))
    begins = take(4 * (rows + 1))
    return Block(lead, pa.Array.from_buffers(pa.string(), rows, [None, begins, take(time_bytes)], 0), columns)


def _framed(number: int | None) -> bytes:
    if number is None:
        return b""
    text = b"%d" % number
    return len(text).to_bytes(4, "big") + text
