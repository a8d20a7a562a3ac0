"""Rows that come from Spark's Java in blocks: the same records and tables as row by row."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from f1hbase.cluster.blocks import Block
from f1hbase.frames.arrow import batch_of
from f1hbase.frames.schemas import schema_of, sort_keys
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.samples import SAMPLE_KEYS
from f1hbase.operations.export import forms
from f1hbase.sources.hbase_rows import RowDecoder

_CARS = ENDPOINTS["car_data"]
_BEGUN = datetime(2025, 3, 14, 11, tzinfo=UTC)
_COLUMNS = len(_CARS.fields) - len(SAMPLE_KEYS)

_numbers = st.none() | st.integers(-200, 20_000) | st.integers(1 - 2**31, 2**31 - 1)


@st.composite
def _blocks(draw: st.DrawFn, drivers: Sequence[str]) -> Block:
    seconds = draw(st.lists(st.integers(0, 10**8), min_size=1, max_size=9, unique=True).map(sorted))
    times = [(_BEGUN + timedelta(milliseconds=one)).isoformat() for one in seconds]
    columns = draw(
        st.lists(st.lists(_numbers, min_size=len(times), max_size=len(times)), min_size=_COLUMNS, max_size=_COLUMNS)
    )
    lead = f"2025#1#2#{draw(st.sampled_from(drivers))}".encode()
    return Block(lead, pa.array(times, pa.string()), [pa.array(column, pa.int32()) for column in columns])


@given(block=_blocks(["4", "16", str(2**40)]))
def test_a_block_has_the_records_and_the_batch_of_its_rows(block: Block) -> None:
    decoder = RowDecoder(_CARS, "t")
    samples = decoder.samples(block.lead, block.times, block.columns)
    (by_row,) = decoder.parts([block.rows()])
    assert samples is not None
    assert list(samples) == list(by_row)
    assert batch_of("car_data", samples).equals(batch_of("car_data", by_row))


def test_a_block_of_no_driver_is_none_of_samples() -> None:
    none = pa.array([], pa.string())
    assert [RowDecoder(_CARS, "t").samples(lead, none, []) for lead in (b"2025#1#2#x", b"2025#1#2#4#0")] == [None, None]


@given(blocks=st.lists(_blocks(["4", "16"]), max_size=4))
def test_a_table_is_in_order_whatever_order_its_parts_have(blocks: list[Block]) -> None:
    decoder = RowDecoder(_CARS, "t")
    parts = [part for block in blocks for part in decoder.parts([block.rows()])]
    batches = [batch_of("car_data", part) for part in parts]
    expected = pa.Table.from_batches(batches, schema_of("car_data")).sort_by(sort_keys(_CARS))
    assert forms._table("car_data", lambda make: map(make, parts)).equals(expected)
