"""A table that is read when it is needed: whole, in batches, or as a pandas or Polars frame."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from f1hbase.frames.arrow import POOL
from f1hbase.frames.needs import need

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

_BATCH_ROWS = 65_536


class Frame:
    """A table of one endpoint: typed columns, times in UTC, nulls kept.

    Nothing is read before it is asked for. What reads Arrow by its C stream interface (`pyarrow.table(frame)`,
    `polars.DataFrame(frame)`, DuckDB's SQL) takes it as it is, in batches; every attribute of `pyarrow.Table` that is
    not below is the whole table's: `frame.num_rows`, `frame.to_pylist()`, `frame.group_by("driver_number")`.

    Args:
        schema: The columns; its metadata says where the rows come from and how much of them is there.
        read: Yields the rows, in batches of any size.
        sort: By what the rows of the whole table are in order.
    """

    def __init__(
        self, schema: pa.Schema, read: Callable[[], Iterator[pa.RecordBatch]], sort: list[tuple[str, str]]
    ) -> None:
        self.schema = schema
        self._read = read
        self._sort = sort

    @property
    def metadata(self) -> dict[str, str]:
        """What is known of the table: `store`, `endpoint`, `session_key`, `state` and, as a JSON list, `missing`."""
        lead = b"f1hbase."
        return {
            key.removeprefix(lead).decode(): value.decode()
            for key, value in (self.schema.metadata or {}).items()
            if key.startswith(lead)
        }

    @property
    def state(self) -> str:
        """How much of it is stored: `complete`, `provisional` (it may have been corrected since) or `partial`."""
        return self.metadata.get("state", "complete")

    @property
    def missing(self) -> list[str]:
        """What is not stored, and why, a text for each piece."""
        return list(json.loads(self.metadata.get("missing", "[]")))

    def batches(self, rows: int = _BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """Yield the rows as they are stored, so many at a time; only a few batches are in memory.

        From HBase they come in the order of the drivers and of time; from a landing zone in that of its files.

        Args:
            rows: How many rows a batch has at the most; most have as many.

        Raises:
            ValueError: If it is less than 1.
        """
        if rows < 1:
            raise ValueError(f"a batch has at least 1 row, not {rows}")
        held: list[pa.RecordBatch] = []
        count = 0
        for batch in self._read():
            at = 0
            while count + batch.num_rows - at >= rows:
                piece = batch.slice(at, rows - count)
                yield self._joined([*held, piece])
                at += piece.num_rows
                held, count = [], 0
            if at < batch.num_rows:
                held.append(batch.slice(at))
                count += batch.num_rows - at
        if held:
            yield self._joined(held)

    def to_arrow(self) -> pa.Table:
        """Return the whole table, in the order of its key; read once and kept."""
        return self._table

    def to_pandas(self, **options: Any) -> pd.DataFrame:
        """Return a pandas frame; whole numbers with nulls stay whole numbers (`Int16`), as its Arrow types do.

        Args:
            **options: Those of `pyarrow.Table.to_pandas`, to have it otherwise.

        Raises:
            MissingPackageError: If pandas is not installed.
        """
        pandas = need("pandas", "to_pandas()")
        if "types_mapper" not in options:
            options["types_mapper"] = lambda kind: pandas.ArrowDtype(kind)
        frame: pd.DataFrame = self._table.to_pandas(**options)
        return frame

    def to_polars(self) -> pl.DataFrame:
        """Return a Polars frame.

        Raises:
            MissingPackageError: If Polars is not installed.
        """
        polars = need("polars", "to_polars()")
        frame: pl.DataFrame = polars.from_arrow(self._table)
        return frame

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        reader = pa.RecordBatchReader.from_batches(self.schema, self.batches())
        return reader.__arrow_c_stream__(requested_schema)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, column: str) -> pa.ChunkedArray:
        return self._table[column]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._table, name)

    def __repr__(self) -> str:
        told = " ".join(f"{name}={value}" for name, value in self.metadata.items() if name != "missing")
        return f"<f1hbase.Frame {told} columns={self.schema.names}>"

    @cached_property
    def _table(self) -> pa.Table:
        table = pa.Table.from_batches(self._read(), self.schema.remove_metadata())
        return table.sort_by(self._sort).replace_schema_metadata(self.schema.metadata)

    def _joined(self, batches: list[pa.RecordBatch]) -> pa.RecordBatch:
        whole = batches[0] if len(batches) == 1 else pa.concat_batches(batches, memory_pool=POOL)
        return whole.replace_schema_metadata(self.schema.metadata)
