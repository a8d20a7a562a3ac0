"""One round as Spark does it: read objects, encode them in Python, sort by region and key, write HBase's files."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from f1hbase.cluster.encoding import EncodedUnit, ObjectTask, encode_object
from f1hbase.cluster.errors import SparkError
from f1hbase.cluster.hfiles import HBaseFiles
from f1hbase.cluster.session import SparkApplication

_SCHEMA = "part int, first binary, block binary"
_GLOB = re.compile(r"([{}\[\]*?\\])")

_SEED = 42
"""With which Spark hashes the columns that it partitions by (`HashPartitioning`)."""

_MASK = 0xFFFFFFFF

_PARTS_PER_CORE = 2


@dataclass(frozen=True, slots=True)
class Round:
    """What a round has to read.

    Attributes:
        number: Which one of the load.
        tasks: What is to be made of each object, by its path in the zone.
        prefixes: What the row keys of each session begin with.
        between: Keys at which its rows can be cut into parts of like size: of sessions, and of cars in them.
        knows: By endpoint, the fields that the source would give where there is a value.
    """

    number: int
    tasks: Mapping[str, ObjectTask]
    prefixes: Sequence[str]
    between: Sequence[str]
    knows: Mapping[str, frozenset[str]]


def encode_round(
    spark: SparkApplication, files: HBaseFiles, run: str, work: Round, root: str, timestamp: int
) -> tuple[str, list[EncodedUnit]]:
    """Write the files of a round, and return their folder, and what has become of each unit.

    Args:
        spark: The application.
        files: HBase's files.
        run: The run that this is.
        work: What is to be read.
        root: What Hadoop calls the root of the landing zone.
        timestamp: Of every cell, in ms since 1970.

    Raises:
        SparkError: If other rows were written than were encoded.
    """
    from pyspark.accumulators import AccumulatorParam

    class Gathered(AccumulatorParam[list[EncodedUnit]]):
        """Units from all executors."""

        def zero(self, value: list[EncodedUnit]) -> list[EncodedUnit]:
            return []

        def addInPlace(self, value1: list[EncodedUnit], value2: list[EncodedUnit]) -> list[EncodedUnit]:  # noqa: N802
            value1 += value2
            return value1

    context = spark.context
    starts = files.region_starts()
    cuts = cut_points(starts, work.prefixes, work.between, _PARTS_PER_CORE * context.defaultParallelism)
    parts = touched(cuts, work.prefixes)
    numbers = dict(zip(parts, numbers_hashed_to(len(parts)), strict=True))
    units = context.accumulator(list[EncodedUnit](), Gathered())
    shared = context.broadcast((work, root, sorted({*cuts, *map(str.encode, work.between)}), cuts, numbers))

    def encode(batches: Iterator[Any]) -> Iterator[Any]:
        yield from _encode(batches, *shared.value, units)

    paths = [_GLOB.sub(r"\\\1", f"{root}/{path}") for path in work.tasks]
    frame = spark.session.read.format("binaryFile").option("recursiveFileLookup", "true").load(paths)
    blocks = frame.select("path", "content").mapInArrow(encode, _SCHEMA)
    blocks = blocks.repartition(len(parts), "part").sortWithinPartitions("first").select("block")
    try:
        folder, written = files.write(blocks, run, work.number, timestamp, len(parts))
    finally:
        shared.unpersist()
    # A task that was done twice tells of its units twice.
    found = {unit.number: unit for unit in units.value}
    expected = sum(unit.receipt.rows for unit in found.values())
    if written != expected:
        raise SparkError(
            f"Spark has written {written:,} rows of {expected:,}: HBase is not given them, and nothing is loaded."
        )
    return folder, list(found.values())


def cut_points(starts: Sequence[bytes], prefixes: Sequence[str], between: Sequence[str], wanted: int) -> list[bytes]:
    """Return where rows are cut into parts that are sorted and written by themselves: at each region, and between.

    Args:
        starts: The first key of each region but the first.
        prefixes: What the row keys of each session begin with.
        between: Where else they can be cut.
        wanted: How many parts there should be: the rows of one region would else be written by one task.

    >>> cut_points([b"2024#2"], ["2024#1#7", "2024#2#8"], ["2024#1#7#44"], 2)
    [b'2024#2']
    >>> cut_points([], ["2024#1#7"], ["2024#1#7#1", "2024#1#7#16", "2024#1#7#44"], 3)
    [b'2024#1#7#1', b'2024#1#7#16']
    """
    cuts = set(starts)
    places = sorted({key.encode() for key in between} - cuts)
    missing = min(wanted - len(touched(sorted(cuts), prefixes)), len(places))
    cuts |= {places[number * len(places) // missing] for number in range(max(0, missing))}
    return sorted(cuts)


def touched(cuts: Sequence[bytes], prefixes: Iterable[str]) -> list[int]:
    """Return the numbers of the parts that the rows of some sessions may be in.

    >>> touched([b"2024#2", b"2024#3"], ["2024#1#7", "2024#3#9"])
    [0, 2]
    """
    found: set[int] = set()
    for prefix in prefixes:
        # `$` is the byte after `#`, which all keys of a session have behind the prefix but its own.
        found.update(range(bisect_right(cuts, prefix.encode()), bisect_right(cuts, prefix.encode() + b"$") + 1))
    return sorted(found)


def numbers_hashed_to(count: int) -> list[int]:
    """Return a number for each of some partitions that Spark puts into it, as it partitions by a hash of a column."""
    found: dict[int, int] = {}
    number = 0
    while len(found) < count:
        found.setdefault(spark_hash(number) % count, number)
        number += 1
    return [found[place] for place in range(count)]


def spark_hash(number: int) -> int:
    """Return the hash that Spark partitions an int column by: Murmur3 (x86, 32 bits), signed.

    >>> spark_hash(0), spark_hash(1)
    (933211791, -559580957)
    """
    mixed = _rotated(number * 0xCC9E2D51 & _MASK, 15) * 0x1B873593 & _MASK
    mixed = (_rotated(_SEED ^ mixed, 13) * 5 + 0xE6546B64) & _MASK
    mixed ^= 4  # the length of an int in bytes
    mixed = (mixed ^ mixed >> 16) * 0x85EBCA6B & _MASK
    mixed = (mixed ^ mixed >> 13) * 0xC2B2AE35 & _MASK
    mixed ^= mixed >> 16
    return mixed - (1 << 32) if mixed >> 31 else mixed


def _rotated(number: int, bits: int) -> int:
    return (number << bits | number >> (32 - bits)) & _MASK


def _encode(
    batches: Iterable[Any],
    work: Round,
    root: str,
    between: Sequence[bytes],
    cuts: Sequence[bytes],
    numbers: Mapping[int, int],
    units: Any,
) -> Iterator[Any]:
    """Yield the blocks of some objects as Arrow's batches, one a unit; tell the accumulator of the units.

    `between` are the keys at which blocks end: the cuts between the parts of the table, sessions, and cars in them.
    """
    import pyarrow as pa

    for batch in batches:
        paths, contents = batch.column("path"), batch.column("content")
        for path, content in zip(paths, contents, strict=True):
            task = work.tasks[path.as_py()[len(root) + 1 :]]
            for unit, rows in encode_object(task, content.as_py(), work.knows):
                units.add([unit])
                blocks = list(rows.blocks(between))
                if not blocks:
                    continue
                parts = [numbers[bisect_right(cuts, block.key)] for block in blocks]
                firsts, contents_of = [block.order for block in blocks], [block.content for block in blocks]
                yield pa.RecordBatch.from_arrays(
                    [pa.array(parts, pa.int32()), pa.array(firsts, pa.binary()), pa.array(contents_of, pa.binary())],
                    names=["part", "first", "block"],
                )
