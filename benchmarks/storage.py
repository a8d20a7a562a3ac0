"""How much room the same records take on disk, with the project's schema and with a table as people make it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

from benchmarks import records
from benchmarks.clients import Clients
from benchmarks.contenders import RecordsJob, RowsJob
from benchmarks.errors import BenchmarkError
from benchmarks.options import Options, Tell
from benchmarks.results import markdown_table, megabytes, number
from benchmarks.servers import ROOT
from benchmarks.stage import Stage
from f1hbase.model.catalog import DATA_FAMILIES
from f1hbase.stores.hbase.frames import FRAME_BYTES

REAL = ROOT.parent / "shared" / "openf1-real" / "meeting-1304-testing-day1"
"""Real records, where they are beside the project."""

_COMPACTION_SECONDS = 600.0
_DEFAULT_TABLE = "bench_default"


def run(stage: Stage, options: Options, tell: Tell) -> str:
    """Put the same rows into both tables, compact them, and compare their files.

    The default table has the families that happybase makes of no options but one version; its cells are those of the
    naive script, which are the same.
    """
    source = options.data or REAL
    if source.is_dir() and options.storage_rows > 100_000:
        meetings = records.find_meetings(source)
        told = "real"
    else:
        made = records.simulated(stage.scratch / "storage", rows=options.storage_rows, meetings=1)
        meetings, told = made.meetings, "simulated"
    tables = stage.create("bench_storage", meetings)
    connection = stage.happybase()
    connection.create_table(_DEFAULT_TABLE, {family: {"max_versions": 1} for family in DATA_FAMILIES})
    connection.close()
    # A region that has been split leaves a folder of its own behind, whose files are counted twice and never compacted.
    stage.shell.run(f"alter '{_DEFAULT_TABLE}', SPLIT_ENABLED => false")
    tell("filling both tables")
    rows = 0
    for job in (
        RecordsJob(stage.gateway, tables, meetings, connections=1, frame_bytes=FRAME_BYTES),
        RowsJob(stage.gateway, _DEFAULT_TABLE, meetings, connections=1),
    ):
        with Clients([job]) as clients:
            rows = sum(done.rows for done in clients.go())
    sizes = {}
    for table in (tables.data, _DEFAULT_TABLE):
        stage.check(table, rows=rows, cells=rows * records.CELLS)
        tell(f"compacting {table}")
        sizes[table] = compacted_size(stage, table)
    stage.drop(tables.data, tables.reports, _DEFAULT_TABLE)
    ours, theirs = sizes[tables.data], sizes[_DEFAULT_TABLE]
    body = markdown_table(
        ["table", "MB on disk", "bytes a row", "of the default"],
        [
            ["the project's schema", megabytes(ours), number(ours / rows), f"1/{theirs / ours:.0f}"],
            ["default families, one version", megabytes(theirs), number(theirs / rows), "1"],
        ],
    )
    return f"{rows:,} {told} car_data rows of {records.CELLS} cells, after a major compaction.\n\n{body}"


def compacted_size(stage: Stage, table: str) -> int:
    """Flush a table, compact it, and return the size of its files in bytes.

    The files that a compaction has replaced stay for some minutes; of each family and region the newest counts.
    """
    folder = stage.hbase.table_folder(table)
    stage.shell.run(f"flush '{table}'")
    before = set(_store_files(folder))
    stores = {path.parent for path in before}
    stage.shell.run(f"major_compact '{table}'")
    deadline = monotonic() + _COMPACTION_SECONDS
    while True:
        fresh = set(_store_files(folder)) - before
        if {path.parent for path in fresh} == stores and "NONE" in stage.shell.run(f"puts compaction_state('{table}')"):
            return sum(path.stat().st_size for path in fresh)
        if monotonic() > deadline:
            raise BenchmarkError(f"{table} is not compacted after {_COMPACTION_SECONDS:.0f} s")
        sleep(0.5)


def _store_files(folder: Path) -> Iterator[Path]:
    """Yield the files of all families: `<region>/<family>/<file>`; names that begin with a dot are HBase's own."""
    for family in DATA_FAMILIES:
        yield from (path for path in folder.glob(f"*/{family}/*") if path.is_file() and path.name[0] != ".")
