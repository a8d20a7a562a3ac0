"""The formats of an export: records to the bytes of a file."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from f1hbase.frames.arrow import batch_of
from f1hbase.frames.schemas import schema_of, sort_keys
from f1hbase.model.catalog import ALL_ENDPOINTS
from f1hbase.model.records import compact_json
from f1hbase.model.samples import Record, Samples

Part = Samples | Sequence[Record]
ReadParts = Callable[[Callable[[Part], object]], Iterable[object]]
"""Reads records, and yields what is made of some of them at a time by what it is given."""

_ONE_GROUP_ROWS = 10_000
"""Up to so many rows a file has one row group; larger ones have one for each driver."""

_ZSTD_LEVEL = 9
"""Telemetry of a session: 12 % fewer bytes than level 3, and reading it takes as long."""

_GZIP_LEVEL = 6


class Content(NamedTuple):
    """A file's bytes, and how many records it holds."""

    data: bytes
    rows: int


def parquet(endpoint: str, read: ReadParts, metadata: dict[str, str]) -> Content:
    """Write a table as Parquet: zstd, statistics of each row group and page, a row group a driver in large ones."""
    table = _table(endpoint, read)
    times = [field.name for field in table.schema if pa.types.is_timestamp(field.type)]
    buffer = io.BytesIO()
    with pq.ParquetWriter(
        buffer,
        table.schema.with_metadata(metadata),
        compression="zstd",
        compression_level=_ZSTD_LEVEL,
        use_dictionary=[name for name in table.schema.names if name not in times],
        # Times come one after another: their differences take a fraction of the space.
        column_encoding=dict.fromkeys(times, "DELTA_BINARY_PACKED"),
        write_page_index=True,
    ) as writer:
        for group in _groups(endpoint, table):
            writer.write_table(group.replace_schema_metadata(metadata), row_group_size=max(1, group.num_rows))
    return Content(buffer.getvalue(), table.num_rows)


def csv(endpoint: str, read: ReadParts, metadata: dict[str, str]) -> Content:
    """Write a table as CSV, gzipped: nulls empty, texts in quotes, times as in OpenF1's JSON, lists as JSON."""
    del metadata  # CSV has no place for it; the manifest has it
    table = _table(endpoint, read)
    for number, field in enumerate(table.schema):
        column = table[field.name]
        if pa.types.is_timestamp(field.type):
            # %S has the fraction, all six digits of it.
            text = pc.binary_join_element_wise(pc.strftime(column, format="%Y-%m-%dT%H:%M:%S"), "+00:00", "")
            table = table.set_column(number, field.name, text)
        elif pa.types.is_list(field.type):
            texts = [None if value is None else compact_json(value) for value in column.to_pylist()]
            table = table.set_column(number, field.name, pa.array(texts, pa.string()))
    buffer = pa.BufferOutputStream()
    with pa.CompressedOutputStream(buffer, "gzip") as packed:
        pyarrow.csv.write_csv(table, packed)
    return Content(buffer.getvalue().to_pybytes(), table.num_rows)


def jsonl(endpoint: str, read: ReadParts, metadata: dict[str, str]) -> Content:
    """Write records as lines of JSON, gzipped, as the API spells them; `load --from` stores the same again."""
    del endpoint, metadata
    buffer = io.BytesIO()
    rows = 0
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=_GZIP_LEVEL, mtime=0) as file:
        for made in read(_lines):
            assert isinstance(made, tuple)
            count, data = made
            file.write(data)
            rows += count
    return Content(buffer.getvalue(), rows)


FORMS: dict[str, Callable[[str, ReadParts, dict[str, str]], Content]] = {
    "parquet": parquet,
    "csv": csv,
    "jsonl": jsonl,
}
"""By the name that `--format` gives it."""


def _table(endpoint: str, read: ReadParts) -> pa.Table:
    batches = [batch for batch in read(lambda part: batch_of(endpoint, part)) if isinstance(batch, pa.RecordBatch)]
    table = pa.Table.from_batches(batches, schema_of(endpoint))
    order = sort_keys(ALL_ENDPOINTS[endpoint])
    return (table if _is_in_order(table, [name for name, _ in order]) else table.sort_by(order)).combine_chunks()


def _is_in_order(table: pa.Table, names: Sequence[str]) -> bool:
    """Return whether rows are in the order of some columns, no two alike; no where a look does not say: of texts."""
    ordered = np.zeros(max(0, table.num_rows - 1), bool)
    for name in reversed(names):
        column = table[name]
        if column.null_count or not (pa.types.is_integer(column.type) or pa.types.is_timestamp(column.type)):
            return False
        values = column.to_numpy()
        ordered = (values[1:] > values[:-1]) | ((values[1:] == values[:-1]) & ordered)
    return bool(ordered.all())


def _groups(endpoint: str, table: pa.Table) -> Iterable[pa.Table]:
    if not ALL_ENDPOINTS[endpoint].by_driver or table.num_rows <= _ONE_GROUP_ROWS:
        return [table]
    drivers = table["driver_number"].to_numpy()
    edges = [0, *(np.flatnonzero(np.diff(drivers)) + 1).tolist(), table.num_rows]
    return [table.slice(start, end - start) for start, end in pairwise(edges)]


def _lines(part: Part) -> tuple[int, bytes]:
    # Not compact_json: these lines are to be what json.dumps gives for the API's own.
    lines = [json.dumps(record, ensure_ascii=False) for record in part]
    return len(lines), "".join(f"{line}\n" for line in lines).encode()
