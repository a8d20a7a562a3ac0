"""How fast answers go into a landing zone and come out of it, and what packing them harder costs.

`python -m benchmarks.landing_zone FOLDER [URL]`: FOLDER has a `car_data.jsonl.gz`, such as `python -m simulator make`
writes; URL is where the zone is made, a temporary folder by default. Prints Markdown.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import resource
import sys
import tempfile
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from time import perf_counter

from f1hbase.destinations.base import Batch
from f1hbase.destinations.files import FilesDestination
from f1hbase.model.answers import Answer, RawAnswer
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.outcomes import Outcome
from f1hbase.model.units import Scope, Unit, Window
from f1hbase.sources.files import open_reader
from f1hbase.sources.stored import StoredSource
from f1hbase.stores.files.objects import Objects
from f1hbase.stores.files.packing import unpack
from f1hbase.stores.files.urls import Location, parse_location
from f1hbase.stores.files.zone import create_zone

_ROWS = 60_000
"""The records of an answer of 4 MB."""

_ANSWERS = 12


def answers(folder: Path) -> Iterator[tuple[int, RawAnswer]]:
    """Yield answers in CSV as the API gives them, with their records."""
    (path, *_) = sorted(folder.rglob("car_data.jsonl.gz"))
    fields = sorted(ENDPOINTS["car_data"].fields)
    now = datetime.now(UTC)
    with gzip.open(path, "rt") as file:
        for number in range(_ANSWERS):
            lines = [",".join(fields)]
            for record in map(json.loads, islice(file, _ROWS)):
                record["date"] = record["date"].replace("T", " ")
                lines.append(",".join("" if record.get(name) is None else str(record[name]) for name in fields))
            if len(lines) == 1:
                return
            body = ("\n".join(lines) + "\n").encode()
            yield len(lines) - 1, RawAnswer("openf1", f"car_data?n={number}", now, now, 200, "text/csv", body)


def levels(body: bytes, records: int) -> None:
    """Print what each level of gzip takes for an answer, and saves."""
    print("| level | MB/s | of the size | records/s |\n| --- | --- | --- | --- |")
    for level in (1, 3, 4, 6, 9):
        began = perf_counter()
        packed = zlib.compress(body, level)
        seconds = perf_counter() - began
        print(
            f"| {level} | {len(body) / seconds / 1e6:.0f} | {len(packed) / len(body):.1%} | {records / seconds:,.0f} |"
        )


def write(location: Location, made: list[tuple[int, RawAnswer]], scope: Scope) -> list[Unit]:
    """Store the answers with one writer, and print how fast."""
    destination = FilesDestination(create_zone(Objects(location)))
    units, outcomes = [], []
    began = perf_counter()
    for number, (records, raw) in enumerate(made):
        start = datetime(2024, 7, 7, tzinfo=UTC) + timedelta(minutes=number)
        unit = Unit("car_data", scope, window=Window(start, start + timedelta(minutes=1)))
        receipt = destination.writers[0].write(Batch(unit, [{}] * records, raw=raw))
        units.append(unit)
        outcomes.append(Outcome(unit, raw.asked_at, "openf1", records, receipt=receipt))
    destination.state.write_units("benchmark", outcomes)
    seconds, records = perf_counter() - began, sum(records for records, _ in made)
    print(f"\nwrite: {records:,} records in {seconds:.2f} s, {records / seconds:,.0f} records/s, one writer")
    return units


async def read(location: Location, units: list[Unit]) -> None:
    """Read and decode all of it, and print how fast."""
    count = 0

    async def deliver(answer: Answer) -> None:
        nonlocal count
        for some in answer.records:
            count += len(some)

    began = perf_counter()
    await StoredSource(open_reader(location)).fetch(units, deliver)
    seconds = perf_counter() - began
    print(f"read and decode: {count:,} records in {seconds:.2f} s, {count / seconds:,.0f} records/s")


def main() -> None:
    """Run it all."""
    made = list(answers(Path(sys.argv[1])))
    records, raw = made[0]
    print(f"{len(made)} answers of {len(raw.body) / 1e6:.1f} MB, {records:,} records each\n")
    levels(raw.body, records)
    with tempfile.TemporaryDirectory() as folder:
        location = parse_location(sys.argv[2] if len(sys.argv) > 2 else folder)
        units = write(location, made, Scope(2024, 1240, 9558))
        made.clear()
        asyncio.run(read(location, units))
        stored = sum(path.stat().st_size for path in Path(folder).rglob("*.gz"))
        unpacked = sum(len(unpack(path.read_bytes())) for path in Path(folder).rglob("*.gz"))
        if unpacked:
            print(f"size: {stored / 1e6:.1f} MB of {unpacked / 1e6:.1f} MB ({stored / unpacked:.1%})")
    print(f"most memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
