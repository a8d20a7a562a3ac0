"""The fast way of car_data and location: the same rows as the slow way's, or none at all."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import exact, needs_real_records, real_records, sample

from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.samples import Record, Samples, samples_of_json
from f1hbase.sources.openf1.formats import decode_json
from f1hbase.stores.hbase.codec import Block, block_checksum, checksum, encode, encode_samples

_some_examples = settings(max_examples=60)
_ENDPOINTS = ["car_data", "location"]
_any_date = st.datetimes().map(lambda moment: moment.isoformat() + "+00:00").filter(lambda text: len(text) >= 25)
_dates = st.sampled_from(["2024-07-05T11:30:00+00:00", "2024-07-05T11:30:00.5+00:00"]) | _any_date


@st.composite
def _answers(draw: st.DrawFn) -> tuple[str, list[Record]]:
    name = draw(st.sampled_from(_ENDPOINTS))
    fields = ENDPOINTS[name].fields
    numbers = st.integers(-300, 20_000) | st.integers()
    record = st.fixed_dictionaries(
        {
            field: _dates if field == "date" else st.integers(0, 3) if field in fields[:3] else numbers
            for field in fields
        }
    )
    keys = (*fields[:3], "date")
    one_each = st.lists(record, min_size=1, max_size=30, unique_by=lambda one: tuple(one[key] for key in keys))
    return name, draw(one_each)


def _slowly(name: str, records: list[Record]) -> dict[bytes, dict[bytes, bytes]]:
    return dict(encode(ENDPOINTS[name], 2024, record) for record in records)


def _samples(name: str, records: list[Record]) -> Samples | None:
    return samples_of_json(ENDPOINTS[name], json.dumps(records).encode())


@_some_examples
@given(_answers())
def test_a_block_has_the_rows_and_the_checksum_that_the_records_have(answer: tuple[str, list[Record]]) -> None:
    name, records = answer
    samples = _samples(name, records)
    assert samples is not None
    assert [exact(record) for record in samples] == [exact(record) for record in records]
    assert (len(samples), samples[0], list(samples[1:])) == (len(records), records[0], records[1:])
    block = encode_samples(2024, samples)
    assert block is not None
    rows = _slowly(name, records)
    assert dict(block.rows()) == rows
    assert block_checksum(block) == sum(map(checksum, rows.items()))


def test_a_null_or_a_missing_field_makes_no_block_but_stays_a_sample() -> None:
    whole, null = sample("car_data"), sample("car_data", rpm=None)
    short = {field: value for field, value in whole.items() if field != "drs"}
    for record in (null, short):
        samples = _samples("car_data", [whole, record])
        assert samples is not None
        assert list(samples) == [whole, {"drs": None} | record]
        assert encode_samples(2024, samples) is None


def test_the_checksum_of_a_block_does_not_depend_on_the_order_of_its_columns() -> None:
    block = Block([b"k", b"l"], (b"f:b", b"f:a"), [[b"1", b"2"], [b"3", b"4"]])
    turned = Block(block.keys, block.columns[::-1], block.values[::-1])
    assert block_checksum(block) == block_checksum(turned) == sum(map(checksum, block.rows()))


def test_no_record_makes_no_block() -> None:
    samples = _samples("car_data", [])
    assert samples is not None
    assert encode_samples(2024, samples) is None


@pytest.mark.parametrize(
    "change",
    [
        {"rpm": 1.0}, {"rpm": -0.0}, {"rpm": 1e3}, {"rpm": True}, {"rpm": "1"}, {"rpm": [1]}, {"rpm": float("nan")},
        {"rpm": float("inf")}, {"n_gears": 1}, {"driver_number": None}, {"driver_number": 55.0}, {"session_key": "1"},
        {"date": None}, {"date": "2024-07-05"}, {"date": "2024-07-05T11:30:00"}, {"date": "2024-07-05 11:30:00+00:00"},
        {"date": "2024-07-05T11:30:00+02:00"}, {"date": "2024-07-05T11:30:00#+00:00"},
        {"date": "2024-07-05T11:30:00+00:00\ud800"}, {"date": "٢024-07-05T11:30:00+00:00"},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_not_alike_is_left_to_the_slow_way(change: Record) -> None:
    assert _samples("car_data", [sample("car_data"), sample("car_data", **change)]) is None


@pytest.mark.parametrize("missing", ["meeting_key", "session_key", "driver_number", "date"])
def test_without_its_keys_a_record_is_no_sample(missing: str) -> None:
    record = {field: value for field, value in sample("location").items() if field != missing}
    assert _samples("location", [record]) is None


@pytest.mark.parametrize("body", [b"", b"[", b"{}", b"null", b"<html>", b"[1]", b"[[]]", b'[{"date": "\xff"}]', b"[]]"])
def test_what_is_no_answer_is_no_samples(body: bytes) -> None:
    assert samples_of_json(ENDPOINTS["car_data"], body) is None


def test_other_endpoints_have_no_samples() -> None:
    for name, endpoint in ENDPOINTS.items():
        assert (samples_of_json(endpoint, b"[]") is None) == (name not in _ENDPOINTS)


_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=3,
)


@settings(max_examples=300)
@given(
    changes=st.dictionaries(st.sampled_from([*ENDPOINTS["car_data"].fields, "new"]), _values, max_size=3),
    spaces=st.booleans(),
)
def test_whatever_it_reads_it_reads_as_json_does(changes: Record, spaces: bool) -> None:
    body = json.dumps([sample("car_data") | changes], separators=None if spaces else (",", ":")).encode()
    samples = samples_of_json(ENDPOINTS["car_data"], body)
    if samples is not None:
        assert [exact(record) for record in samples] == [exact(record) for record in decode_json(body)]


@needs_real_records
def test_the_real_records_are_samples_and_have_the_rows_they_have() -> None:
    for name in _ENDPOINTS:
        records = list(islice(real_records("meeting-1304-testing-day1", name), 5_000))
        samples = _samples(name, records)
        assert samples is not None
        block = encode_samples(2026, samples)
        assert block is not None
        assert {key.replace(b"2026", b"2024", 1): cells for key, cells in block.rows()} == _slowly(name, records)
