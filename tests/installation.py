"""An installation of the loader for tests: two tables of a real HBase, the command line for them, and rollback."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import happybase
from cli import Loader
from hbase_server import LocalHBase
from tables import Cells, scan, values

from f1hbase.composition import open_rollback
from f1hbase.config import Config, resolve
from f1hbase.model.catalog import DATA_FAMILIES
from f1hbase.model.outcomes import UnitState
from f1hbase.model.units import Scope
from f1hbase.operations.rollback.base import Rollback, Target
from f1hbase.state.hbase.reports import HBaseReports
from f1hbase.stores.hbase.connector import HBaseConnector, find_gateway
from f1hbase.stores.hbase.schema import REPORT_FAMILIES


@dataclass(frozen=True)
class Installation:
    """Two tables, and the command line for them."""

    hbase: LocalHBase
    prefix: str
    loader: Loader

    @property
    def data(self) -> Cells:
        return scan(self.hbase.port, f"{self.prefix}_f1_data")

    @property
    def reports(self) -> Cells:
        return scan(self.hbase.port, f"{self.prefix}_f1_reports")

    def put(self, table: str, rows: dict[bytes, dict[bytes, bytes]], timestamp: int | None = None) -> None:
        connection = happybase.Connection(self.hbase.host, self.hbase.port)
        with connection.table(f"{self.prefix}_{table}").batch(timestamp, batch_size=20_000) as batch:
            for key, cells in rows.items():
                batch.put(key, cells)
        connection.close()

    def forget_leases(self) -> None:
        """What the death of the process that held them does."""
        connection = happybase.Connection(self.hbase.host, self.hbase.port)
        table = connection.table(f"{self.prefix}_f1_reports")
        for key, _ in list(table.scan(row_prefix=b"lease#")):
            table.delete(key, columns=[b"meta:lease"])
        connection.close()

    def copy(self, prefix: str) -> Installation:
        """Return the same tables under other names."""
        copy = Installation(
            self.hbase, prefix, loader_for(self.hbase, prefix, self.loader.folder, self.loader.environment)
        )
        copy.create()
        copy.put("f1_data", values(self.data))
        copy.put("f1_reports", values(self.reports))
        return copy

    def create(self) -> None:
        """Create the tables."""
        connection = happybase.Connection(self.hbase.host, self.hbase.port)
        for table, families in (("f1_data", DATA_FAMILIES), ("f1_reports", REPORT_FAMILIES)):
            connection.create_table(f"{self.prefix}_{table}", {family: {"max_versions": 1} for family in families})
        connection.close()

    @property
    def config(self) -> Config:
        """The settings by which its HBase and tables are found."""
        where = {"hbase_host": self.hbase.host, "hbase_port": self.hbase.port, "table_prefix": self.prefix}
        return resolve(where, names=[])

    @contextmanager
    def rollback(self, target: Target) -> Iterator[Rollback]:
        """Find what a rollback would delete, as the command does."""
        with closing(open_rollback(self.config, target)) as rollback:
            yield rollback

    def roll_back(self, target: Target) -> str:
        """Do so, and return what was said before."""
        with self.rollback(target) as rollback:
            described = "\n".join(rollback.describe())
            rollback.carry_out()
        return described

    def run_of(self, place: str, endpoint: str) -> str:
        """Return the run that the units of a session and endpoint are of; it must be one."""
        (run,) = {
            cells[b"meta:run"][0].decode()
            for key, cells in self.reports.items()
            if key.startswith(f"unit#{place}#{endpoint}#".encode())
        }
        return run

    def states(self, scope: Scope) -> list[UnitState]:
        """Return how the units of a session stand for whoever reads them."""
        with closing(self.connector()) as connector:
            return HBaseReports(connector, f"{self.prefix}_f1_reports").unit_states(scope)

    def connector(self) -> HBaseConnector:
        """Open a connection of one's own."""
        return HBaseConnector([find_gateway(self.hbase.host, self.hbase.port)])


def loader_for(hbase: LocalHBase, prefix: str, folder: Path, environment: dict[str, str]) -> Loader:
    """The command line for some tables, with further settings."""
    ours = {"F1HBASE_HBASE_HOST": hbase.host, "F1HBASE_HBASE_PORT": str(hbase.port), "F1HBASE_TABLE_PREFIX": prefix}
    return Loader(folder, environment | ours)


def is_of(key: bytes, place: str) -> bool:
    """Whether a row of either table belongs to a session or meeting."""
    bare = re.sub(rb"^(unit|quarantine|lease)#", b"", key)
    return (bare + b"#").startswith(place.encode() + b"#")


def without(cells: Cells, place: str) -> Cells:
    """A table without a session or meeting."""
    return {key: columns for key, columns in cells.items() if not is_of(key, place)}
