"""A selection whose records are read while it is sent: it looks ahead a little, and knows no store.

What it looks ahead decides what the answer is: one without records, too many of them, a store that does not answer, or
a body. A whole small answer is known then; of a large one there is never more in memory than a block.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

from f1hbase.serve.blocks import Block
from f1hbase.serve.csvform import csv_line
from f1hbase.serve.store import TIMED_OUT, Piece, StoreFailedError, TooManyRowsError

HELD_ROWS = 500
"""How many records are looked ahead at least: 0.1 MB of car_data."""

Read = Callable[[], Iterator[Block]]
"""Reads the blocks of a selection, from the first one, each time it is called; some may be empty."""


class StreamedSelection:
    """Records that are read when they are sent; see `f1hbase.serve.store.Selection`.

    Args:
        blocks: The blocks, once.
        rows: How many records there are, if that is known.
        fields: The fields of all of them, sorted; None where only reading them tells.
        is_whole: Whether `blocks` is all there is, in memory.
        missing: What of the query's sessions is not loaded as a whole.
        unusual: Told when a record has a field that is not among `fields`; the selection then fails.
    """

    def __init__(
        self,
        blocks: Iterable[Block],
        rows: int | None,
        fields: Sequence[str] | None,
        *,
        is_whole: bool,
        missing: Sequence[str] = (),
        unusual: Callable[[], None] = lambda: None,
    ) -> None:
        self._blocks = blocks
        self._unusual = unusual
        self.rows = rows
        self._fields = fields
        self._is_whole = is_whole
        self.missing = missing

    def json(self) -> Iterable[Piece]:
        """Return their JSON, commas between the records."""
        pieces = _separated(map(_json, self._blocks))
        return list(pieces) if self._is_whole else pieces

    def csv(self) -> Iterable[Piece]:
        """Return their CSV, the header first."""
        assert self._fields is not None
        pieces = self._csv(self._fields)
        return list(pieces) if self._is_whole else pieces

    def lines(self) -> Iterator[bytes]:
        """Yield the JSON of each."""
        for block in self._blocks:
            yield from block.lines()

    def _csv(self, header: Sequence[str]) -> Iterator[Piece]:
        known = set(header)
        yield csv_line(header)

        def lines(block: Block) -> Piece:
            if not block.rows:
                return b""
            if not known.issuperset(block.fields):
                self._unusual()
                raise StoreFailedError("UnexpectedFieldError: records have a field that the header has not; ask again")
            return block.csv(header)

        yield from map(lines, self._blocks)


class LookAhead:
    """Makes selections.

    Args:
        most_seconds: How long a query may take until its first records are there, and until they are counted.
        clock: Gives seconds, rising.
    """

    def __init__(self, most_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most_seconds = most_seconds
        self._clock = clock
        self._varied: set[str] = set()

    def select(
        self,
        read: Read,
        *,
        csv: bool,
        limit: int | None = None,
        usual_fields: Sequence[str] | None = None,
        name: str = "",
        missing: Sequence[str] = (),
    ) -> StreamedSelection:
        """Return the records that are read, once it is known what the answer is.

        Args:
            read: Reads them.
            csv: Whether they are asked for as CSV, whose header needs the fields of all.
            limit: How many there may be.
            usual_fields: The fields that records of this endpoint have unless something is unusual, sorted; then a
                large answer need not be read twice for its header.
            name: The endpoint's.
            missing: What of the query's sessions is not loaded as a whole.

        Raises:
            TooManyRowsError: If there are more than the limit.
            StoreFailedError: If it takes too long, or the store fails.
        """
        deadline = self._clock() + self._most_seconds
        reading = read()
        held: deque[Block] = deque()
        rows = 0
        fields: set[str] = set()

        def take(block: Block) -> None:
            nonlocal rows
            rows += block.rows
            if csv and block.rows:
                fields.update(block.fields)
            if limit is not None and rows > limit:
                raise TooManyRowsError(rows, limit)
            if self._clock() > deadline:
                raise StoreFailedError(TIMED_OUT)

        for block in reading:
            take(block)
            if block.rows:
                held.append(block)
            if rows >= HELD_ROWS:
                break
        else:
            return StreamedSelection(held, rows, sorted(fields), is_whole=True, missing=missing)
        usual = usual_fields is not None and fields == set(usual_fields) and name not in self._varied
        if limit is None and (usual or not csv):
            return StreamedSelection(
                chain(_drained(held), reading), None, usual_fields, is_whole=False, missing=missing,
                unusual=lambda: self._varied.add(name),
            )  # fmt: skip
        # Counted, or looked through for their fields, without being kept; then they are read again to be sent.
        held.clear()
        for block in reading:
            take(block)
        return StreamedSelection(read(), rows, sorted(fields), is_whole=False, missing=missing)


def _json(block: Block) -> Piece:
    return block.json() if block.rows else b""


def _drained(blocks: deque[Block]) -> Iterator[Block]:
    """Yield blocks that nothing holds any more: a client may be slow to take what is made of them."""
    while blocks:
        yield blocks.popleft()


def _separated(pieces: Iterable[Piece]) -> Iterator[Piece]:
    begun = False
    for piece in pieces:
        if begun and len(piece):
            yield b","
        begun = begun or bool(len(piece))
        yield piece
