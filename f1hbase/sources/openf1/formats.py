"""The body of an answer to records: JSON, and the CSV that is a third of its size for car and location data.

CSV loses the difference between a number and a text that looks like one, so it is taken only for endpoints whose every
field is a number but for the date, and given up for JSON when a header or a value is not as expected.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from f1hbase.model.answers import Records
from f1hbase.model.catalog import Endpoint
from f1hbase.model.columns import SampleTexts
from f1hbase.model.memo import Memo
from f1hbase.model.records import loose_json, may_lose_numbers
from f1hbase.model.samples import Record, Samples, are_as_openf1, samples_of_json
from f1hbase.model.text import excerpt
from f1hbase.sources.http.body import LARGE_BYTES
from f1hbase.sources.http.errors import GiveUpError, TooLargeError, TransientError, UnfaithfulError

CSV = "text/csv"
JSON = "application/json"

SLICE_ROWS = 1_800
"""How many samples are decoded, encoded and put at once: some 0.5 MB as a call to HBase. Slices of twice as many are no
faster, and what is under way of them takes 13 MB more in a worker (95 MB instead of 108 with a race)."""

_SLICE_BYTES = SLICE_ROWS * 66
_OF_VALUES = b"0123456789-+.: T"
"""What numbers and dates are made of."""
_WHOLE_JSON_BYTES = 300_000

_MOST_RECORDS = 300_000
_MOST_VALUES = 2_500_000
_MOST_OBJECTS = 500_000
"""What an answer of the largest size (32 MB) would hold if its records and values were as short as the shortest real
ones: 114 bytes a record (position), 12.9 a value (laps), four lists and objects a record (laps). What has more would
need many times its size in memory, and its records are none."""

_MOST_VALUES_A_RECORD = 100
"""A lap has 46, with those of its segments; where there are more on average, most are in no record."""

# The numbers of JSON: Python's int() and float() would take more than those.
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,99})", re.ASCII)  # int() refuses thousands of digits
_FLOAT = re.compile(r"-?(0|[1-9]\d{0,99})(\.\d+([eE][+-]?\d+)?|[eE][+-]?\d+)", re.ASCII)


def decode_answer(endpoint: Endpoint, content_type: str, body: bytes) -> Records:
    """Return the records of an answer, which are decoded as they are iterated.

    Args:
        endpoint: What was asked.
        content_type: `text/csv`, or anything else for JSON.
        body: The body.

    Raises:
        TransientError: If it is no answer to that, at once or while iterating.
        UnfaithfulError: If it is CSV that does not say all that JSON would, at once or while iterating.
    """
    if not body:
        raise TransientError("the answer has no body, so it is cut off")
    return CsvAnswer(body, endpoint) if content_type.startswith(CSV) else JsonAnswer(body, endpoint)


def decode_json(body: bytes) -> list[Any]:
    """Return the records of a JSON answer.

    Raises:
        TransientError: If it is not a JSON list, as when a proxy's page or half an answer came instead.
        GiveUpError: If it has more values than any real one.
    """
    _check_amount(body)
    try:
        try:
            # Without a copy of the body as text, and in a third of the time.
            records = loose_json(body) if may_lose_numbers(body) else msgspec.json.decode(body)
        except (ValueError, RecursionError):
            records = loose_json(body)  # it takes more, such as NaN
    except (ValueError, RecursionError) as error:
        if body.startswith(b"[{") and not body.rstrip().endswith(b"]"):
            raise TransientError(f"the answer is cut off after {len(body):,} bytes") from error
        raise TransientError(f"the answer is not JSON ({error}): {excerpt(body)}") from error
    if not isinstance(records, list):
        raise TransientError(f"the answer is not a list of records: {excerpt(body)}")
    _check_number(len(records), body)
    return records


def _check_number(records: int, body: bytes) -> None:
    if records > _MOST_RECORDS:
        raise GiveUpError(f"the answer has {records:,} records in {len(body):,} bytes, more than any: {excerpt(body)}")


def _check_amount(body: bytes) -> None:
    if len(body) <= _WHOLE_JSON_BYTES:
        return
    values, objects = body.count(b","), body.count(b"{")
    if (
        values > _MOST_VALUES
        or objects + body.count(b"[") > _MOST_OBJECTS
        or values > max(_MOST_RECORDS, _MOST_VALUES_A_RECORD * objects)
    ):
        raise GiveUpError(f"the answer has more values than any of the API's in {len(body):,} bytes: {excerpt(body)}")


class JsonAnswer:
    """A JSON answer, in slices: samples where its records are such, otherwise as they are."""

    def __init__(self, body: bytes, endpoint: Endpoint) -> None:
        self._body = body
        self._endpoint = endpoint

    def __iter__(self) -> Iterator[Samples | Sequence[Any]]:
        samples = samples_of_json(self._endpoint, self._body)
        if samples is None:
            yield from _decoded_slices(self._body)
            return
        for start in range(0, len(samples), SLICE_ROWS):
            yield samples[start : start + SLICE_ROWS]


def _decoded_slices(body: bytes) -> Iterator[list[Any]]:
    """Yield the records of a JSON answer; of a large one some at a time, as objects take some five times the memory.

    Raises:
        TransientError: If it is not a JSON list.
        TooLargeError: If it is so large that what is wrong with it has to be looked for in smaller ones.
        GiveUpError: If it has more values than any real one.
    """
    _check_amount(body)
    records: list[msgspec.Raw] = []
    if len(body) > _WHOLE_JSON_BYTES:
        with suppress(ValueError, RecursionError):  # what is wrong with it, `decode_json` says
            # Of anything but objects there may be ten times as many, which as pieces take a hundred bytes each.
            _check_number(len(_objects.decode(body)), body)
            records = msgspec.json.decode(body, type=list[msgspec.Raw])
    if not records:
        if len(body) > LARGE_BYTES:
            raise TooLargeError(
                f"the answer is no JSON as it should be, in {len(body):,} bytes: {excerpt(body)}", LARGE_BYTES
            )
        yield decode_json(body)
    _check_number(len(records), body)
    for start in range(0, len(records), SLICE_ROWS):
        yield decode_json(b"[" + b",".join(records[start : start + SLICE_ROWS]) + b"]")


class _Object(msgspec.Struct, gc=False):
    """A JSON object, whatever is in it."""


_objects = msgspec.json.Decoder(list[_Object])


class CsvAnswer:
    """A CSV answer, decoded slice by slice, so that of a large one only its bytes are held.

    Args:
        body: The body of the answer.
        endpoint: What was asked; its `numeric` must be true.

    Raises:
        TransientError: If it is broken off or no CSV of this endpoint.
        UnfaithfulError: If it holds what CSV cannot say, such as an unknown field or a text; JSON can.
    """

    def __init__(self, body: bytes, endpoint: Endpoint) -> None:
        if not body.endswith(b"\n"):
            raise TransientError(f"the CSV answer breaks off: {excerpt(body[-120:])}")
        self._body = body
        self._start = body.index(b"\n") + 1
        self._names = _text(body[: self._start], body).rstrip("\r\n").split(",")
        self._endpoint = endpoint
        self._readers = _readers(self._names, endpoint, body)
        if b'"' in body:
            raise UnfaithfulError("the CSV answer holds a quoted text where numbers were expected")
        self._are_whole = set(self._names) == endpoint.known
        self._end = b"\r\n" if body[: self._start].endswith(b"\r\n") else b"\n"

    def __iter__(self) -> Iterator[Samples | Sequence[Any]]:
        """Yield the records, as samples where they are alike.

        Raises:
            TransientError: If a line has another number of values than the header.
            UnfaithfulError: If a value is no number.
        """
        position, size = self._start, len(self._body)
        while position < size:
            end = self._body.find(b"\n", min(position + _SLICE_BYTES, size - 1)) + 1
            part = self._body[position:end]
            position = end
            samples = self._samples(part) if self._are_whole else None
            yield self._records(part) if samples is None else samples

    def _samples(self, part: bytes) -> Samples | None:
        """Return the records of some lines, which are cut into values column by column; None if they are not alike."""
        width = len(self._names)
        separators = b"," * (width - 1) + self._end
        if part.translate(None, _OF_VALUES) != separators * part.count(b"\n"):
            return None
        values = part.replace(self._end, b",").split(b",")
        del values[-1]  # after the last line's end
        meetings, sessions, drivers, dates, *numbers = (
            values[self._names.index(name) :: width] for name in self._endpoint.fields
        )
        as_json = b"\n".join(dates).replace(b" ", b"T")
        if not are_as_openf1(as_json):
            return None
        try:
            scope = [list(map(_WHOLE_NUMBERS.__getitem__, column)) for column in (meetings, sessions, drivers)]
            texts = [list(map(_WHOLE_OR_NONE.__getitem__, column)) for column in numbers]
        except ValueError:
            return None
        return SampleTexts(self._endpoint, [*scope, as_json.decode().split("\n")], texts)

    def _records(self, part: bytes) -> list[Record]:
        lines = _text(part, self._body).splitlines()
        commas = len(self._names) - 1
        if any(line.count(",") != commas for line in lines):
            raise TransientError(f"the CSV answer has lines of other than {commas + 1} values: {excerpt(self._body)}")
        columns = list(zip(self._names, self._readers, strict=True))
        return [
            {name: read(text) for (name, read), text in zip(columns, line.split(","), strict=True)} for line in lines
        ]


def _text(part: bytes, body: bytes) -> str:
    try:
        return part.decode()
    except UnicodeDecodeError as error:
        raise TransientError(f"the answer is not text ({error.reason}): {excerpt(body)}") from error


def _readers(header: list[str], endpoint: Endpoint, body: bytes) -> list[Callable[[str], Any]]:
    needed = {"meeting_key", "session_key", *endpoint.key_fields}
    if not needed <= set(header) or len(set(header)) < len(header):
        raise TransientError(f"the answer is not the CSV of {endpoint.name}: {excerpt(body)}")
    unknown = set(header) - endpoint.known
    if unknown:
        raise UnfaithfulError(f"CSV cannot say what kind of values the unknown field {min(unknown)[:40]} has")
    return [_json_date if name == "date" else _number for name in header]


def _json_date(text: str) -> str | None:
    return text.replace(" ", "T", 1) or None


def _whole_number(text: bytes) -> bytes:
    """Return a whole number as it is; `-0` is another way to spell 0."""
    if _INTEGER.fullmatch(text.decode()):
        return b"%d" % int(text)
    raise ValueError(text)


_WHOLE_OR_NONE: Memo[bytes, bytes | None] = Memo(lambda text: None if text == b"" else _whole_number(text))
_WHOLE_NUMBERS: Memo[bytes, int] = Memo(lambda text: int(_whole_number(text)))


def _number(text: str) -> Any:
    """Read a value that is a number or nothing."""
    if text == "":
        return None
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    raise UnfaithfulError(f"CSV cannot say what kind of value {text[:40]!r} is")
