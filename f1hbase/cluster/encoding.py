"""What a Spark executor does: objects of a landing zone to blocks of rows, by the codec and the normaliser of any load.

A block, which `Cells.java` cuts into cells, is rows of one family that have the same columns, sorted by key: the length
of the family (1 byte) and the family; how many columns there are (2 bytes), and of each, in the order of the
qualifiers, the length of the qualifier (2 bytes) and the qualifier; then of each row the length of its key (2 bytes),
its key, and of each column the length of the value (4 bytes) and the value. Big-endian. Blocks instead of rows, as
Spark then moves and sorts a thousandth of the things. Knows neither Spark nor HBase.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from f1hbase.destinations.base import Batch
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.memo import Memo
from f1hbase.model.outcomes import CHECKSUM_MODULUS, Receipt
from f1hbase.model.samples import Samples
from f1hbase.pipeline.normalise import Account, AnswerNormaliser, Restart
from f1hbase.sources.files import stored_part, tallied
from f1hbase.sources.stored import StoredJob, UnreadableError, answer_of
from f1hbase.stores.files.answers import checked_body
from f1hbase.stores.files.packing import DamagedError
from f1hbase.stores.hbase.codec import Row, block_checksum, checksum, encode, encode_samples

BLOCK_ROWS = 4_000
"""How many rows a block has at the most: of car_data some 300 KB. A car's share of an answer has fewer."""


@dataclass(frozen=True, slots=True)
class ObjectTask:
    """An object of the zone, and what is to be made of it.

    Attributes:
        home: The zone, for messages; also the name of the source where a unit does not say its own.
        stored: What the manifests say of the object.
        jobs: The units that it answers, each by its number in the round.
    """

    home: str
    stored: Mapping[str, Any]
    jobs: Sequence[tuple[int, StoredJob]]


class Block(NamedTuple):
    """Some rows of a unit, packed.

    Attributes:
        key: The key of the first.
        family: Their family.
        content: The block.
    """

    key: bytes
    family: bytes
    content: bytes

    @property
    def order(self) -> bytes:
        """What blocks are to be sorted by: their families, as HBase has a file for each, and their first keys."""
        return b"%b\0%b" % (self.family, self.key)


class PackedRows:
    """Rows of one unit, in whatever order they come."""

    def __init__(self) -> None:
        self._by_columns: dict[tuple[bytes, ...], tuple[list[bytes], list[bytes]]] = {}

    def add(self, columns: tuple[bytes, ...], keys: Sequence[bytes], values: Sequence[Sequence[bytes]]) -> None:
        """Append rows.

        Args:
            columns: The columns (`family:qualifier`) that each of them has, of one family.
            keys: Their keys.
            values: For each column, the value in each row.
        """
        mine = self._by_columns.get(columns)
        if mine is None:
            mine = self._by_columns[columns] = ([], [])
        mine[0].extend(keys)
        named = [b"%b%b" % (_KEY_SIZES[len(key)], key) for key in keys]
        sized = [map(_SIZED.__getitem__, values[number]) for number in _head(columns)[2]]
        mine[1].extend(map(b"".join, zip(named, *sized, strict=True)))

    def blocks(self, cuts: Sequence[bytes]) -> Iterator[Block]:
        """Yield the rows as blocks, none of which goes across a cut.

        Args:
            cuts: Row keys, in order.
        """
        for columns, (keys, rows) in self._by_columns.items():
            family, head, _ = _head(columns)
            order = sorted(range(len(keys)), key=keys.__getitem__)
            ordered = [keys[number] for number in order]
            start = 0
            while start < len(ordered):
                place = bisect_right(cuts, ordered[start])
                end = bisect_left(ordered, cuts[place], start) if place < len(cuts) else len(ordered)
                end = min(end, start + BLOCK_ROWS)
                yield Block(ordered[start], family, head + b"".join([rows[number] for number in order[start:end]]))
                start = end


@dataclass(frozen=True, slots=True)
class EncodedUnit:
    """What has become of one unit.

    Attributes:
        number: Its number in the round.
        account: Its counts, and what goes to quarantine.
        receipt: How many rows it has, and their checksum.
        error: Why there are none, for people.
    """

    number: int
    account: Account
    receipt: Receipt
    error: str | None = None


def encode_object(
    task: ObjectTask, content: bytes, knows: Mapping[str, frozenset[str]]
) -> Iterator[tuple[EncodedUnit, PackedRows]]:
    """Yield the units of an object with their rows; a unit that cannot be read has none.

    Args:
        task: What is to be made of it.
        content: Its bytes, as they are stored.
        knows: By endpoint, the fields that the source would give where there is a value.
    """
    try:
        body = checked_body(content, task.stored)
    except DamagedError as error:
        for number, job in task.jobs:
            yield _failed(number, job, f"'{task.home}/{task.stored['path']}': {error}"), PackedRows()
        return
    for number, job in task.jobs:
        assert job.state is not None
        (stored,) = job.state.objects
        (part,) = tallied(job.state, task.home, [stored_part(job.unit.endpoint, stored, body, task.home)])
        account, receipt, rows = Account(job.unit), Receipt(checksum=0), PackedRows()
        answer = answer_of(job, part, task.home)
        try:
            for item in AnswerNormaliser(answer, account, knows[job.unit.endpoint]).batches():
                if isinstance(item, Restart):
                    # Rows are kept until the last of the unit has come, so that nothing void is written.
                    receipt, rows = Receipt(checksum=0), PackedRows()
                else:
                    receipt += _add(item, rows)
        except UnreadableError as error:
            yield _failed(number, job, str(error)), PackedRows()
        else:
            yield EncodedUnit(number, account, receipt), rows


def _add(batch: Batch, rows: PackedRows) -> Receipt:
    """Append the rows of a batch, and return what a writer of HBase would say of it."""
    year = batch.unit.scope.year
    if isinstance(batch.records, Samples):
        block = encode_samples(year, batch.records)
        if block is not None:
            rows.add(block.columns, block.keys, block.values)
            return Receipt(len(block.keys), block_checksum(block) % CHECKSUM_MODULUS)
    endpoint = ENDPOINTS[batch.unit.endpoint]
    total = 0
    for record in batch.records:
        row: Row = encode(endpoint, year, record)
        rows.add(tuple(row.cells), [row.key], [[value] for value in row.cells.values()])
        total += checksum(row)
    return Receipt(len(batch.records), total % CHECKSUM_MODULUS)


def _failed(number: int, job: StoredJob, error: str) -> EncodedUnit:
    return EncodedUnit(number, Account(job.unit), Receipt(), error)


@lru_cache(1000)
def _head(columns: tuple[bytes, ...]) -> tuple[bytes, bytes, Sequence[int]]:
    """Return the family of some columns, how a block of rows with them begins, and the order of the values in a row."""
    (family,) = {column.partition(b":")[0] for column in columns}
    order = sorted(range(len(columns)), key=columns.__getitem__)
    qualifiers = [columns[number].partition(b":")[2] for number in order]
    names = b"".join(_KEY_SIZES[len(name)] + name for name in qualifiers)
    return family, len(family).to_bytes(1, "big") + family + len(columns).to_bytes(2, "big") + names, order


_KEY_SIZES: Memo[int, bytes] = Memo(lambda length: length.to_bytes(2, "big"))
_SIZED: Memo[bytes, bytes] = Memo(lambda value: len(value).to_bytes(4, "big") + value)
