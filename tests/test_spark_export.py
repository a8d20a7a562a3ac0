"""Spark reads what `export` writes as Parquet: the rows and the types of columns that DuckDB finds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import duckdb
import pytest
from stored_weekend import YEAR, weekend

from f1hbase.frames.schemas import columns_of
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.plans import Selection
from f1hbase.operations.export.run import export
from f1hbase.sources.files import open_reader
from f1hbase.stores.files.objects import Objects
from f1hbase.stores.files.urls import parse_location

_READ = """
import json, sys
from pathlib import Path
from pyspark.sql import SparkSession
spark = (
    SparkSession.builder.master("local[1]").config("spark.ui.enabled", False)
    .config("spark.sql.session.timeZone", "UTC")
    .config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.host", "127.0.0.1").getOrCreate()
)
found = {}
for folder in sorted(path for path in Path(sys.argv[1]).iterdir() if not path.name.startswith("_")):
    frame = spark.read.option("basePath", str(folder)).parquet(str(folder))
    frame.createOrReplaceTempView("t")
    numbers = [name for name, kind in frame.dtypes if kind in ("tinyint", "smallint", "int", "bigint", "double")]
    asked = ", ".join(["count(*) n", *(f"CAST(sum({name}) AS DOUBLE) AS {name}" for name in numbers)])
    found[folder.name] = [dict(frame.dtypes), spark.sql(f"SELECT {asked} FROM t").first().asDict()]
print(json.dumps(found))
"""

_AS_SPARK = {
    "BIGINT": "bigint", "INTEGER": "int", "SMALLINT": "smallint", "TINYINT": "tinyint", "DOUBLE": "double",
    "BOOLEAN": "boolean", "VARCHAR": "string", "TIMESTAMP WITH TIME ZONE": "timestamp", "DATE": "date",
    "UTINYINT": "smallint", "USMALLINT": "int", "UINTEGER": "bigint",
}  # fmt: skip
"""What Spark calls the types of DuckDB; it has no numbers without a sign, and takes the next larger ones."""


@pytest.mark.skipif(not os.environ.get("TEST_ALL"), reason="starts a Spark: scripts/test.sh --all")
def test_spark_finds_the_rows_and_types_that_duckdb_finds(tmp_path_factory: pytest.TempPathFactory) -> None:
    files, tables = weekend(tmp_path_factory.getbasetemp()), tmp_path_factory.mktemp("tables")
    source, target = parse_location(str(files)), Objects(parse_location(str(tables)))
    result = export(open_reader(source), target, Selection(mode="year", year=(YEAR,)), "parquet")
    read = subprocess.run([sys.executable, "-c", _READ, str(tables)], capture_output=True, text=True, check=False)
    assert read.returncode == 0, read.stderr[-2000:]
    found = json.loads(read.stdout.splitlines()[-1])

    assert {name: sums["n"] for name, (_, sums) in found.items()} == {
        n: rows for n, rows in result.rows.items() if rows
    }
    for endpoint, (types, sums) in found.items():
        glob = f"{tables}/{endpoint}/**/*.parquet"
        described = _query(f"DESCRIBE SELECT * FROM read_parquet('{glob}', hive_partitioning = true)")
        by_name = {name: _spark_type(kind) for name, kind, *_ in described}
        for column in columns_of(endpoint):
            assert types[column.name] == by_name[column.name], (endpoint, column.name)
        assert {"season", "meeting"} <= types.keys()
        for name, total in sums.items():
            if name != "n":
                ((own,),) = _query(f"SELECT CAST(sum({name}) AS DOUBLE) FROM read_parquet('{glob}')")
                assert total == pytest.approx(own), (endpoint, name)
    assert len(found) > len(ENDPOINTS) // 2


def _query(text: str) -> list[tuple[Any, ...]]:
    relation = duckdb.sql(text)
    assert relation is not None
    return relation.fetchall()


def _spark_type(kind: str) -> str:
    return f"array<{_spark_type(kind[:-2])}>" if kind.endswith("[]") else _AS_SPARK[kind]
