"""Records to Arrow, column by column and exactly: a value that a column does not take goes to `extra`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa

from f1hbase.frames.schemas import TIME, Column, Kind, columns_of, schema_of
from f1hbase.model.catalog import ALL_ENDPOINTS
from f1hbase.model.columns import SampleArrays
from f1hbase.model.records import compact_json
from f1hbase.model.samples import Record, Samples
from f1hbase.model.times import lenient_time

POOL = pa.system_memory_pool()
"""Gives back what batches took: Arrow's own pool keeps 20 MB of it (measured)."""

_NULL = type(None)
_PLAIN: dict[Kind, set[type]] = {
    Kind.WHOLE: {int, _NULL},
    Kind.NUMBER: {int, float, _NULL},
    Kind.TEXT: {str, _NULL},
    Kind.SWITCH: {bool, _NULL},
    Kind.TIME: {str, _NULL},
}

Extras = dict[int, dict[str, Any]]
"""What goes to `extra`, by the number of the row."""


def batch_of(endpoint_name: str, part: Samples | Sequence[Record]) -> pa.RecordBatch:
    """Return records as a batch with the schema of their endpoint.

    Args:
        endpoint_name: What they are records of.
        part: The records; none is changed.
    """
    endpoint = ALL_ENDPOINTS[endpoint_name]
    if isinstance(part, SampleArrays) and (batch := _batch_of_arrays(part)) is not None:
        return batch
    extras: Extras = {}
    if isinstance(part, Samples):
        values = dict(zip(endpoint.fields, part.columns, strict=True))
    else:
        values = {field: [record.get(field) for record in part] for field in endpoint.fields}
        for number, record in enumerate(part):
            if not record.keys() <= endpoint.known:
                unknown = {name: value for name, value in record.items() if name not in endpoint.known}
                extras[number] = {name: value for name, value in unknown.items() if value is not None}
    arrays: list[pa.Array] = []
    for field in endpoint.fields:
        arrays += _arrays(
            [column for column in columns_of(endpoint_name) if column.field == field], values[field], extras
        )
    arrays.append(_extra(extras, len(part)))
    return pa.RecordBatch.from_arrays(arrays, schema=schema_of(endpoint_name))


def _batch_of_arrays(samples: SampleArrays) -> pa.RecordBatch | None:
    """Return samples as a batch; None if a value is not within the bounds of its column."""
    schema = schema_of(samples.endpoint.name)
    # A column for each field, in their order: of numbers there is no other kind.
    types = iter(schema.types)
    count = len(samples)
    try:
        arrays = [pa.repeat(pa.scalar(place, next(types)), count, memory_pool=POOL) for place in samples.places]
        arrays += [one.cast(next(types), memory_pool=POOL) for one in (samples.dates, *samples.numbers)]
    except (pa.ArrowInvalid, OverflowError):
        return None
    return pa.RecordBatch.from_arrays([*arrays, pa.nulls(count, next(types))], schema=schema)


def _arrays(columns: Sequence[Column], values: Sequence[Any], extras: Extras) -> list[pa.Array]:
    """Return the arrays of one field: the whole of it in its own column, or shared out value by value."""
    first, *others = columns
    array = _whole(first, values)
    if array is not None:
        return [array, *(pa.nulls(len(values), column.type) for column in others)]
    shares: list[list[Any]] = [[None] * len(values) for _ in columns]
    for number, value in enumerate(values):
        if value is None:
            continue
        for column, share in zip(columns, shares, strict=True):
            fitted = _fitted(column, value)
            if fitted is not None:
                share[number] = fitted
                break
        else:
            extras.setdefault(number, {})[first.field] = value
    return [pa.array(share, column.type) for column, share in zip(columns, shares, strict=True)]


def _whole(column: Column, values: Sequence[Any]) -> pa.Array | None:
    """Return all values as an array, if they are all of the usual types and within bounds."""
    plain = _PLAIN.get(column.kind)
    # Arrow takes 1.5 for 1 and true for 1.0, so the types are looked at first.
    if plain is None or not plain.issuperset(map(type, values)):
        return None
    try:
        if column.kind is Kind.TIME:
            return pa.array(values, pa.string(), memory_pool=POOL).cast(TIME, memory_pool=POOL)
        return pa.array(values, column.type, memory_pool=POOL)
    except (pa.ArrowInvalid, OverflowError):
        return None


def _fitted(column: Column, value: Any) -> Any:
    """Return a value as a column holds it; None if it does not take it."""
    match column.kind:
        case Kind.WHOLE:
            return _whole_number(value, column.type)
        case Kind.NUMBER:
            return _number(value)
        case Kind.TEXT:
            return value if type(value) is str else None
        case Kind.SWITCH:
            return value if type(value) is bool else None
        case Kind.TIME:
            return _time(value)
        case Kind.WHOLES:
            return _list(value, lambda one: _whole_number(one, column.type.value_type))
        case Kind.NUMBERS:
            return _list(value, _number)


def _whole_number(value: Any, arrow_type: pa.DataType) -> int | None:
    if type(value) is float and value.is_integer():
        value = int(value)
    bound = 1 << (arrow_type.bit_width - 1)
    return value if type(value) is int and -bound <= value < bound else None


def _number(value: Any) -> float | None:
    if type(value) is float:
        return value
    if type(value) is not int:
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if number == value else None


def _time(value: Any) -> datetime | None:
    """Return the instant that a text spells exactly: with digits for microseconds at most."""
    moment = lenient_time(value)
    if moment is None or moment.isoformat() not in (value, f"{value}+00:00"):
        try:
            return pa.array([value], pa.string()).cast(TIME)[0].as_py() if type(value) is str else None
        except pa.ArrowInvalid:
            return None
    return moment


def _list(value: Any, fit: Any) -> list[Any] | None:
    if type(value) is not list:
        return None
    fitted = [None if one is None else fit(one) for one in value]
    return None if any(new is None and old is not None for new, old in zip(fitted, value, strict=True)) else fitted


def _extra(extras: Extras, count: int) -> pa.Array:
    if not any(extras.values()):
        return pa.nulls(count, pa.string())
    texts = {number: compact_json(dict(sorted(fields.items()))) for number, fields in extras.items() if fields}
    return pa.array([texts.get(number) for number in range(count)], pa.string())
