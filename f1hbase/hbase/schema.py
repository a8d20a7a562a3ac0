"""The two tables: their names, their families, and how they come to be. Nothing here drops anything."""

from __future__ import annotations

from dataclasses import dataclass

from f1hbase.catalog import DATA_FAMILIES, REPORT_FAMILIES
from f1hbase.errors import SchemaError
from f1hbase.hbase.connector import HBaseConnector

FAMILY_OPTIONS = {
    # happybase's own defaults are three versions and no block cache.
    "max_versions": 1,
    "block_cache_enabled": True,
    "bloom_filter_type": "ROW",
}


@dataclass(frozen=True, slots=True)
class Tables:
    """The names of the tables of one installation."""

    prefix: str = ""

    @property
    def data(self) -> str:
        """The table of records."""
        return f"{self.prefix}_f1_data" if self.prefix else "f1_data"

    @property
    def reports(self) -> str:
        """The table of progress."""
        return f"{self.prefix}_f1_reports" if self.prefix else "f1_reports"

    @property
    def families(self) -> dict[str, tuple[str, ...]]:
        """The families each table must have."""
        return {self.data: DATA_FAMILIES, self.reports: REPORT_FAMILIES}


def ensure_tables(connector: HBaseConnector, tables: Tables) -> list[str]:
    """Create the tables that are absent and check those that exist.

    Returns:
        The names of the tables created.

    Raises:
        SchemaError: If a table lacks a family; names them and the command that adds them.
    """
    existing = set(connector.tables())
    created = []
    for name, families in tables.families.items():
        if name not in existing and connector.create_table(name, families, FAMILY_OPTIONS):
            created.append(name)
        else:
            _check_families(name, families, connector.families(name))
    return created


def _check_families(table: str, wanted: tuple[str, ...], present: set[str]) -> None:
    missing = [family for family in wanted if family not in present]
    if missing:
        alter = ", ".join(f"{{NAME => '{family}', VERSIONS => 1}}" for family in missing)
        raise SchemaError(
            f"the table '{table}' exists but lacks the column {'family' if len(missing) == 1 else 'families'} "
            f"{', '.join(missing)}. Add with hbase shell:  alter '{table}', {alter}  "
            "or load into tables of another name with --table-prefix."
        )
