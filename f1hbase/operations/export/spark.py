"""Exports tables of HBase by Spark: a file is read, decoded and written by one task, with the code of any export.

The process that runs the export says which files there are to write (`f1hbase.operations.export.run`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from f1hbase.cluster.blocks import Block
from f1hbase.cluster.errors import SparkError
from f1hbase.cluster.reading import SparkReader, open_spark_reader
from f1hbase.cluster.scans import Found, RangeScan, ScanPart
from f1hbase.errors import ConfigError
from f1hbase.model.catalog import ALL_ENDPOINTS, Endpoint
from f1hbase.model.text import count
from f1hbase.model.units import ALL_TIME, SEPARATOR
from f1hbase.operations.export.files import FileJob, Written, write_file
from f1hbase.operations.export.forms import Part
from f1hbase.pipeline.display import TaskDisplay
from f1hbase.sources.hbase import key_range
from f1hbase.sources.hbase_rows import RowDecoder, by_lead, expected_columns
from f1hbase.stores.files.objects import Objects
from f1hbase.stores.files.urls import Location
from f1hbase.stores.hbase.answers import Run, rows_of

if TYPE_CHECKING:
    from f1hbase.config import Config

_HASH = SEPARATOR.encode()


class SparkExport:
    """Writes files by Spark; see `f1hbase.operations.export.files.ExportEngine`.

    Args:
        reader: Reads the tables.
        patience: For how long the target may be away, in seconds.
    """

    def __init__(self, reader: SparkReader, patience: float) -> None:
        self._reader = reader
        self._patience = patience

    def write(self, jobs: Sequence[FileJob], target: Objects) -> Iterable[tuple[FileJob, Written]]:
        """Write files, a task each or several small ones in one.

        A snapshot is taken only now, when it is known what the units say: it has at least that.

        Raises:
            SparkError: If Spark fails, a table cannot be read, or files were written where this process has none.
            UnreachableError: If HBase or the target is away for longer than patience lasts.
        """
        tables = self._reader.tables
        parts = []
        for job in jobs:
            endpoint = ALL_ENDPOINTS[job.unit.endpoint]
            table = tables.of(endpoint.dataset)
            columns = expected_columns(endpoint.name) if endpoint.numeric else ()
            numbers = [column.partition(b":")[2] for column in columns]
            ranges = [
                RangeScan(
                    table, endpoint.family, key_range(endpoint, unit.scope, unit.driver, ALL_TIME), numbers=numbers
                )
                for unit in job.units
            ]
            parts.append(ScanPart((job, table), ranges, job.expected))
        name = f"Spark: {count(len(jobs), 'file')}"
        written: list[Written] = self._reader.read(name, parts, partial(_write, target.location, self._patience))
        for job, one in zip(jobs, written, strict=True):
            if one.error is None and target.size(job.path) != one.bytes:
                raise SparkError(
                    f"Spark's executors have written '{job.path}', and it is not in '{target.location}' as this "
                    "machine sees it: name a bucket with --to, or a folder that all of them share."
                )
        return zip(jobs, written, strict=True)

    def close(self) -> None:
        """End Spark."""
        self._reader.close()


def open_engine(config: Config, location: str, show: Callable[[], TaskDisplay]) -> SparkExport:
    """Look whether all is there that exporting by Spark needs, and return what does it; starts nothing.

    Raises:
        F1HBaseError: If something is not there; says what, and how to have it.
    """
    settings = config.settings
    if location != "hbase":
        raise ConfigError(
            f"--engine spark exports tables of HBase, not '{location}': leave out --from, or use --engine local."
        )
    reader = open_spark_reader(config, "f1hbase export", show, snapshot=settings.snapshot)
    return SparkExport(reader, settings.patience.total_seconds())


def _write(location: Location, patience: float, about: tuple[FileJob, str], found: Iterator[Found]) -> Written:
    """Write the file of a job, in a worker."""
    job, table = about
    return write_file(job, Objects(location, patience), lambda make: _made(job, table, found, make))


def _made(job: FileJob, table: str, found: Iterator[Found], make: Callable[[Part], object]) -> Iterable[object]:
    """Yield what is made of the records of a file, in the order in which the local export reads them."""
    endpoint = ALL_ENDPOINTS[job.unit.endpoint]
    decoder = RowDecoder(endpoint, table)
    if not endpoint.sampled or job.drivers is not None:
        for run in _runs(found, endpoint):
            yield from map(make, _parts(run, decoder))
        return
    # The keys are in the order of texts: 1, 16, 4. The local export seeks drivers by number.
    by_driver: dict[int, list[object]] = {}
    for run in _runs(found, endpoint):
        for lead, some in [(run.lead, run)] if isinstance(run, Block) else by_lead([run]):
            driver = lead.rpartition(_HASH)[2]
            if driver.isdigit():  # any other row is none of the endpoint's, and is passed over
                by_driver.setdefault(int(driver), []).extend(map(make, _parts(some, decoder)))
    for _, made in sorted(by_driver.items()):
        yield from made


def _runs(found: Iterator[Found], endpoint: Endpoint) -> Iterator[Run | Block]:
    columns = expected_columns(endpoint.name)
    for one in found:
        if isinstance(one, Block):
            yield one
        else:
            yield from rows_of(one, columns)


def _parts(run: Run | Block, decoder: RowDecoder) -> Iterable[Part]:
    if isinstance(run, Block):
        samples = decoder.samples(run.lead, run.times, run.columns)
        if samples is not None:
            return [samples]
        run = run.rows()
    return decoder.parts([run])
