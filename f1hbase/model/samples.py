"""The records of car_data and location as tuples: 98 of 100 records, and all of them alike.

A record as a dict takes five times the memory of a tuple, and everything that is done with it several times as long.
What is not alike (an unknown field, a fraction, a text, another spelling of a time) stays a list of dicts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, overload

import msgspec

from f1hbase.model.catalog import ENDPOINTS, Endpoint
from f1hbase.model.memo import Memo

Record = dict[str, Any]
"""One object of an answer, as `json.loads` gives it."""

SAMPLE_KEYS = ("meeting_key", "session_key", "driver_number", "date")
"""The fields that tell one sample from another: the first of each row."""

AS_OPENF1 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00", re.ASCII)
"""A time as OpenF1 spells it: compared as text, two of them compare as the times do."""

Row = tuple[Any, ...]
"""`meeting_key, session_key, driver_number, date` and a whole number or None for each other field of the catalogue."""


Texts = Sequence[Sequence[bytes | None]]
"""Columns of whole numbers as JSON spells them (`-0` is `0`), or None."""


class Samples(Sequence[Record]):
    """Records of one endpoint: its known fields, each a whole number or null but for the date.

    As a sequence it is one of records like any other; what is fast uses `rows`, `columns` or `texts`. Those that were
    not given are made when they are asked for.

    Args:
        endpoint: The endpoint, whose `numeric` must be true.
        rows: The records; keys and dates are there in each, and the dates are spelt as OpenF1 does.
    """

    def __init__(self, endpoint: Endpoint, rows: Sequence[Row]) -> None:
        self.endpoint = endpoint
        self._rows: Sequence[Row] | None = rows
        self._columns: Sequence[Sequence[Any]] | None = None

    @property
    def rows(self) -> Sequence[Row]:
        """The records as tuples."""
        if self._rows is None:
            self._rows = list(zip(*self.columns, strict=True))
        return self._rows

    @property
    def columns(self) -> Sequence[Sequence[Any]]:
        """The values of each field, in the order of the endpoint's."""
        if self._columns is None:
            self._columns = list(zip(*self.rows, strict=True)) or [()] * len(self.endpoint.fields)
        return self._columns

    @property
    def keys(self) -> Sequence[Sequence[Any]]:
        """The columns of `SAMPLE_KEYS`."""
        return self.columns[: len(SAMPLE_KEYS)]

    @property
    def texts(self) -> Texts:
        """The columns of all other fields, as texts."""
        return [list(map(_SPELT.__getitem__, column)) for column in self.columns[len(SAMPLE_KEYS) :]]

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Record: ...

    @overload
    def __getitem__(self, index: slice) -> Samples: ...

    def __getitem__(self, index: int | slice) -> Record | Samples:
        if isinstance(index, slice):
            return Samples(self.endpoint, self.rows[index])
        return dict(zip(self.endpoint.fields, self.rows[index], strict=True))

    def __iter__(self) -> Iterator[Record]:
        fields = self.endpoint.fields
        return (dict(zip(fields, row, strict=True)) for row in self.rows)


_SPELT: Memo[int | None, bytes | None] = Memo(lambda number: None if number is None else b"%d" % number)


def samples_of_json(endpoint: Endpoint, body: bytes) -> Samples | None:
    """Return the records of a JSON answer; None where it is not one of samples, or no JSON at all."""
    if not endpoint.numeric:
        return None
    try:
        rows = list(map(msgspec.structs.astuple, _decoder(endpoint.name).decode(body)))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    spelt = AS_OPENF1.fullmatch
    return Samples(endpoint, rows) if all(spelt(row[3]) for row in rows) else None


def are_as_openf1(dates: bytes) -> bool:
    """Return whether dates, one a line, are all spelt as OpenF1 does, which is in a few forms."""
    return all(AS_OPENF1.fullmatch(form.decode()) for form in set(dates.translate(_ZEROS).split(b"\n")))


_ZEROS = bytes.maketrans(b"123456789", b"000000000")


@cache
def _decoder(endpoint_name: str) -> msgspec.json.Decoder[list[msgspec.Struct]]:
    """Return what reads exactly such records, and fails with any other.

    Strict as the types are, `1.0` and `true` are not taken for 1.
    """
    fields = ENDPOINTS[endpoint_name].fields
    assert fields[: len(SAMPLE_KEYS)] == SAMPLE_KEYS
    kinds: list[Any] = [(name, str if name == "date" else int) for name in SAMPLE_KEYS]
    kinds += [(name, int | None, None) for name in fields[len(SAMPLE_KEYS) :]]
    # Without the garbage collector, which need not look at what holds numbers and a text.
    kind = msgspec.defstruct("Sample", kinds, forbid_unknown_fields=True, gc=False)
    return msgspec.json.Decoder(list[kind])  # type: ignore[valid-type]
