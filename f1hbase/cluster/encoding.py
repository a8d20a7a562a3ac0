"""What a Spark executor does: objects of a landing zone to packed rows, by the codec and the normaliser of every load.

A packed row is what `Cells.java` cuts into cells: the length of the family (1 byte) and the family; then of each cell,
in the order of the qualifiers, the length of the qualifier (2 bytes), the qualifier, the length of the value (4 bytes)
and the value. Knows neither Spark nor HBase.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

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


@dataclass(slots=True)
class PackedRows:
    """Rows of one unit: the keys, and with each its cells of one family."""

    keys: list[bytes] = field(default_factory=list)
    packed: list[bytes] = field(default_factory=list)


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


def regions_of(starts: Sequence[bytes], keys: Sequence[bytes]) -> list[int]:
    """Return for each key the number of its part of the table.

    Args:
        starts: The first key of each part but the first, in order.
        keys: Row keys; those of a unit usually are of one part.

    >>> regions_of([b"2024#2", b"2024#3"], [b"2024#1#7", b"2024#2", b"2024#4"])
    [0, 1, 2]
    """
    if not keys:
        return []
    first = bisect_right(starts, min(keys))
    if first == bisect_right(starts, max(keys)):
        return [first] * len(keys)
    return [bisect_right(starts, key) for key in keys]


def pack(columns: Sequence[bytes], rows: Iterator[Sequence[bytes]]) -> Iterator[bytes]:
    """Yield rows packed.

    Args:
        columns: The columns (`family:qualifier`) that each of them has, of one family.
        rows: Their values, in the order of the columns.

    >>> list(pack([b"car:speed", b"car:rpm"], iter([(b"7", b"12000")])))
    [b'\\x03car\\x00\\x03rpm\\x00\\x00\\x00\\x0512000\\x00\\x05speed\\x00\\x00\\x00\\x017']
    """
    template, order = _form(tuple(columns))
    for row in rows:
        yield template % tuple([_SIZED[row[number]] for number in order])


def _add(batch: Batch, rows: PackedRows) -> Receipt:
    """Append the rows of a batch, and return what a writer of HBase would say of it."""
    year = batch.unit.scope.year
    if isinstance(batch.records, Samples):
        block = encode_samples(year, batch.records)
        if block is not None:
            rows.keys += block.keys
            rows.packed += pack(block.columns, zip(*block.values, strict=True))
            return Receipt(len(block.keys), block_checksum(block) % CHECKSUM_MODULUS)
    endpoint = ENDPOINTS[batch.unit.endpoint]
    total = 0
    for record in batch.records:
        row: Row = encode(endpoint, year, record)
        rows.keys.append(row.key)
        rows.packed += pack(tuple(row.cells), iter([tuple(row.cells.values())]))
        total += checksum(row)
    return Receipt(len(batch.records), total % CHECKSUM_MODULUS)


def _failed(number: int, job: StoredJob, error: str) -> EncodedUnit:
    return EncodedUnit(number, Account(job.unit), Receipt(), error)


@lru_cache(1000)
def _form(columns: tuple[bytes, ...]) -> tuple[bytes, Sequence[int]]:
    """Return a template of a packed row with these columns, and the order of the values in it."""
    (family,) = {column.partition(b":")[0] for column in columns}
    order = sorted(range(len(columns)), key=columns.__getitem__)
    qualifiers = [columns[number].partition(b":")[2] for number in order]
    template = _literal(len(family).to_bytes(1, "big") + family)
    template += b"".join(_literal(len(name).to_bytes(2, "big") + name) + b"%b" for name in qualifiers)
    return template, order


def _literal(text: bytes) -> bytes:
    return text.replace(b"%", b"%%")


_SIZED: Memo[bytes, bytes] = Memo(lambda value: len(value).to_bytes(4, "big") + value)
