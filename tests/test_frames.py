"""Calls of mutateRows: the same bytes as thriftpy2's, for any rows, in both protocols."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from happybase.connection import THRIFT_PROTOCOLS
from Hbase_thrift import BatchMutation, Hbase, Mutation
from hypothesis import given, settings
from hypothesis import strategies as st
from thriftpy2.thrift import TClient
from thriftpy2.transport import TMemoryBuffer
from thriftpy2.transport.memory import cymemory

from f1hbase.stores.hbase.codec import Block
from f1hbase.stores.hbase.frames import FrameWriter, RowMutation

_PROTOCOLS = ["binary", "compact"]
_BUFFERS: dict[str, Any] = {"binary": cymemory.TCyMemoryBuffer, "compact": TMemoryBuffer}

_some_examples = settings(max_examples=30)

_AROUND = 60
"""What a call has around its rows, in bytes, and a few more."""

_cells = st.dictionaries(st.binary(max_size=20) | st.just(b"car:100%"), st.binary(max_size=300), max_size=8)
_mutations = st.lists(
    st.builds(RowMutation, st.binary(min_size=1, max_size=200), _cells, st.lists(st.binary(max_size=9), max_size=3)),
    min_size=1,
    max_size=16,
    unique_by=lambda mutation: mutation.key,
)


def _by_thriftpy2(protocol: str, table: str, rows: Sequence[RowMutation], timestamp: int | None = None) -> bytes:
    """What thriftpy2's client sends for the batch that happybase would make of these rows."""
    transport = _BUFFERS[protocol]()
    client = TClient(Hbase, THRIFT_PROTOCOLS[protocol](transport))
    batches = [
        BatchMutation(
            row.key,
            [Mutation(isDelete=False, column=c, value=v, writeToWAL=True) for c, v in row.cells.items()]
            + [Mutation(isDelete=True, column=c, writeToWAL=True) for c in row.deletes],
        )
        for row in rows
    ]
    arguments = {"tableName": table.encode(), "rowBatches": batches, "attributes": {}}
    if timestamp is None:
        client._send("mutateRows", **arguments)
    else:
        client._send("mutateRowsTs", timestamp=timestamp, **arguments)
    written: bytes = transport.getvalue()
    return written


@pytest.mark.parametrize("protocol", _PROTOCOLS)
@_some_examples
@given(rows=_mutations, table=st.text(min_size=1, max_size=200), timestamp=st.none() | st.integers(0, 2**63 - 1))
def test_a_call_is_byte_for_byte_thriftpy2s(
    protocol: str, rows: list[RowMutation], table: str, timestamp: int | None
) -> None:
    writer = FrameWriter(protocol)
    for _ in range(2):  # the second time everything is remembered
        (frame,) = writer.frames(table, rows, timestamp)
        assert frame.data == _by_thriftpy2(protocol, table, rows, timestamp)
        assert frame.changes == rows
        assert frame.protocol == protocol


@pytest.mark.parametrize("protocol", _PROTOCOLS)
@_some_examples
@given(rows=_mutations, largest=st.integers(1, 2000))
def test_calls_stay_below_a_size_and_no_row_is_cut_lost_or_moved(
    protocol: str, rows: list[RowMutation], largest: int
) -> None:
    frames = list(FrameWriter(protocol).frames("t", rows, largest=largest))
    batches = [list(frame.changes) for frame in frames if not isinstance(frame.changes, Block)]
    assert [row for batch in batches for row in batch] == rows
    for frame, batch in zip(frames, batches, strict=True):
        assert len(batch) == 1 or len(frame.data) <= largest + _AROUND
    for batch, following in pairwise(batches):
        assert len(_by_thriftpy2(protocol, "t", [*batch, following[0]])) > largest


def test_nothing_to_change_is_no_call() -> None:
    assert list(FrameWriter("binary").frames("t", [])) == []


def test_other_columns_are_another_template_however_many() -> None:
    writer = FrameWriter("binary")
    for number in range(1100):
        rows = [RowMutation(b"k", {b"car:%d" % number: b"%d" % number})]
        (frame,) = writer.frames("t", rows)
        assert frame.data == _by_thriftpy2("binary", "t", rows)


_blocks = st.integers(1, 5).flatmap(
    lambda width: st.builds(
        lambda columns, rows: Block([b"%d" % n for n in range(len(rows))], columns, list(zip(*rows, strict=True))),
        st.lists(st.binary(max_size=9), min_size=width, max_size=width, unique=True).map(tuple),
        st.lists(st.tuples(*[st.binary(max_size=30)] * width), min_size=1, max_size=30),
    )
)


@pytest.mark.parametrize("protocol", _PROTOCOLS)
@_some_examples
@given(block=_blocks, largest=st.integers(1, 2000))
def test_a_block_is_put_as_its_rows_are(protocol: str, block: Block, largest: int) -> None:
    writer = FrameWriter(protocol)
    rows = [RowMutation(*row) for row in block.rows()]
    (whole,) = writer.frames("t", block)
    assert whole.data == _by_thriftpy2(protocol, "t", rows)
    frames = list(writer.frames("t", block, largest=largest))
    parts = [frame.changes for frame in frames]
    assert [RowMutation(*row) for part in parts if isinstance(part, Block) for row in part.rows()] == rows
    for frame, part in zip(frames, parts, strict=True):
        assert isinstance(part, Block)
        assert len(part.keys) == 1 or len(frame.data) <= largest + _AROUND
        assert frame.data == _by_thriftpy2(protocol, "t", [RowMutation(*row) for row in part.rows()])


@pytest.mark.parametrize("protocol", _PROTOCOLS)
@pytest.mark.parametrize("count", [14, 15, 16, 127, 128])
def test_counts_and_lengths_about_which_protocols_change_their_spelling(protocol: str, count: int) -> None:
    cells = {b"f:%d" % number: b"v" * number for number in range(count)}
    rows = [RowMutation(b"%d" % number, cells if number == 0 else {b"f:q": b"1"}) for number in range(count)]
    (frame,) = FrameWriter(protocol).frames("t", rows)
    assert frame.data == _by_thriftpy2(protocol, "t", rows)


def test_the_lengths_of_many_short_values_count() -> None:
    columns = tuple(b"f:%d" % number for number in range(8))
    block = Block([b"%03d" % number for number in range(200)], columns, [[b""] * 200] * 8)
    for frame in FrameWriter("binary").frames("t", block, largest=2000):
        assert len(frame.data) <= 2000 + _AROUND
