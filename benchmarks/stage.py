"""The stage: a running HBase, its open shell, and the tables that the contenders fill one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import happybase

from benchmarks.errors import BenchmarkError
from benchmarks.records import Meeting
from benchmarks.servers import HOST, HBaseShell, LocalHBase
from f1hbase.stores.hbase.connector import KEYS_ONLY, Gateway, HBaseConnector
from f1hbase.stores.hbase.schema import Layout, Tables, creation_script, split_points


@dataclass(frozen=True, slots=True)
class Stage:
    """What every contender and study needs.

    Attributes:
        scratch: A folder for files, deleted at the end.
        hbase: The running HBase.
        shell: Its shell.
    """

    scratch: Path
    hbase: LocalHBase
    shell: HBaseShell

    @property
    def gateway(self) -> Gateway:
        """The Thrift gateway."""
        return self.hbase.gateway

    @property
    def pids(self) -> dict[str, int]:
        """HBase and its gateway."""
        return {"gateway": self.hbase.pids["gateway"], "HBase": self.hbase.pids["master"]}

    def create(self, prefix: str, meetings: Sequence[Meeting]) -> Tables:
        """Create both tables by the project's schema, split at the meetings."""
        tables = Tables(prefix)
        self.shell.run(creation_script(tables, Layout(splits=split_points(one.session for one in meetings))))
        return tables

    def empty(self, *tables: str) -> None:
        """Empty tables, the splits kept; what is in memory of others is flushed, so that no run has to do that."""
        self.shell.run("\n".join(f"truncate_preserve '{table}'" for table in tables))
        self.shell.run("flush 'hbase:meta'")

    def drop(self, *tables: str) -> None:
        """Drop tables of this benchmark, where they are."""
        for table in tables:
            self.shell.run(f"(disable '{table}' if is_enabled '{table}'; drop '{table}') if exists '{table}'")

    def connector(self) -> HBaseConnector:
        """Return a connection that gives up soon."""
        return HBaseConnector([self.gateway], patience=10.0)

    def check(self, table: str, *, rows: int, cells: int) -> None:
        """Compare what a table holds with what it should.

        Raises:
            BenchmarkError: If it holds something else.
        """
        found_rows = found_cells = 0
        for _, columns in self.connector().stream(table, row_filter=KEYS_ONLY):
            found_rows += 1
            found_cells += len(columns)
        if (found_rows, found_cells) != (rows, cells):
            raise BenchmarkError(f"{table} holds {found_rows} rows and {found_cells} cells, not {rows} and {cells}")

    def happybase(self) -> happybase.Connection:
        """Return a plain connection."""
        return happybase.Connection(HOST, self.gateway.port)


@contextmanager
def open_stage(scratch: Path) -> Iterator[Stage]:
    """Start HBase and its shell; both are stopped at the end, whatever happens."""
    with ExitStack() as stack:
        hbase = stack.enter_context(LocalHBase(scratch / "hbase"))
        shell = stack.enter_context(hbase.open_shell())
        yield Stage(scratch, hbase, shell)
