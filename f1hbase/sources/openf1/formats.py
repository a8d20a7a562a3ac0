"""The body of an answer to records: JSON, and the CSV that is a third of its size for car and location data.

CSV loses the difference between a number and a text that looks like one, so it is taken only for endpoints whose every
field is a number but for the date, and given up for JSON when a header or a value is not as expected.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from f1hbase.model.catalog import Endpoint
from f1hbase.model.memo import Memo
from f1hbase.model.samples import Record, Row, Samples, samples_of_json, samples_of_rows
from f1hbase.sources.http.errors import TransientError, UnfaithfulError

_EXCERPT_CHARACTERS = 120
_KEYS = frozenset({"meeting_key", "session_key", "driver_number"})
_LINES_AT_ONCE = 2_000
"""How many lines are cut into values at once: as texts they take five times the memory of the line."""

# The numbers of JSON: Python's int() and float() would take more than those.
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,99})", re.ASCII)  # int() refuses thousands of digits
_FLOAT = re.compile(r"-?(0|[1-9]\d{0,99})(\.\d+([eE][+-]?\d+)?|[eE][+-]?\d+)", re.ASCII)


def decode_json(body: bytes) -> list[Any]:
    """Return the records of a JSON answer.

    Raises:
        TransientError: If it is not a JSON list, as when a proxy's page or half an answer came instead.
    """
    try:
        records = json.loads(body)
    except (ValueError, RecursionError) as error:
        if body.startswith(b"[{") and not body.rstrip().endswith(b"]"):
            raise TransientError(f"the answer is cut off after {len(body):,} bytes") from error
        raise TransientError(f"the answer is not JSON ({error}): {excerpt(body)}") from error
    if not isinstance(records, list):
        raise TransientError(f"the answer is not a list of records: {excerpt(body)}")
    return records


def records_of_json(body: bytes, endpoint: Endpoint) -> Sequence[Any]:
    """Return the records of a JSON answer, as `Samples` where they are alike.

    Raises:
        TransientError: If it is not a JSON list.
    """
    samples = samples_of_json(endpoint, body)
    return decode_json(body) if samples is None else samples


class CsvAnswer:
    """A CSV answer, taken apart into lines at once and into records only as they are asked for.

    A line is a sixth of the memory of a record, so that a large answer can be handed on piece by piece.

    Args:
        body: The body of the answer.
        endpoint: What was asked; its `numeric` must be true.

    Raises:
        TransientError: If it is broken off or no CSV of this endpoint.
        UnfaithfulError: If it holds what CSV cannot say, such as an unknown field or a text; JSON can.
    """

    def __init__(self, body: bytes, endpoint: Endpoint) -> None:
        try:
            text = body.decode()
        except UnicodeDecodeError as error:
            raise TransientError(f"the answer is not text ({error.reason}): {excerpt(body)}") from error
        if not text.endswith("\n"):
            raise TransientError(f"the CSV answer breaks off: {excerpt(body[-_EXCERPT_CHARACTERS:])}")
        header, *self.lines = text.splitlines()
        self._endpoint = endpoint
        self._names = header.split(",")
        self._readers = _readers(self._names, endpoint, body)
        if '"' in text:
            raise UnfaithfulError("the CSV answer holds a quoted text where numbers were expected")
        self._driver, self._date = self._names.index("driver_number"), self._names.index("date")
        commas = len(self._names) - 1
        if any(line.count(",") != commas for line in self.lines):
            raise TransientError(f"the CSV answer has lines of other than {commas + 1} values: {excerpt(body)}")

    def places(self) -> Iterator[tuple[str, str, str | None]]:
        """Yield each line with its driver number as it stands there, and its date as JSON spells it."""
        for line in self.lines:
            values = line.split(",")
            yield line, values[self._driver], _json_date(values[self._date])

    def samples(self) -> Samples | None:
        """Return all records as samples, or None where they are not; far cheaper than `records`."""
        if len(self._names) < len(self._endpoint.fields):
            return None
        rows: list[Row] = []
        try:
            for start in range(0, len(self.lines), _LINES_AT_ONCE):
                rows += self._rows(self.lines[start : start + _LINES_AT_ONCE])
        except ValueError:
            return None
        return samples_of_rows(self._endpoint, rows)

    def _rows(self, lines: Sequence[str]) -> Iterator[Row]:
        """Yield the rows of some lines, which are cut into values column by column.

        Raises:
            ValueError: If one has a value that is no whole number, or none where a key is to be.
        """
        values = ",".join(lines).split(",")
        columns: list[Iterable[Any]] = []
        for field in self._endpoint.fields:
            texts = values[self._names.index(field) :: len(self._names)]
            if field == "date":
                columns.append("\n".join(texts).replace(" ", "T").split("\n"))
            else:
                columns.append(map((_WHOLE_NUMBERS if field in _KEYS else _WHOLE_OR_NONE).__getitem__, texts))
        return zip(*columns, strict=True)

    def records(self, lines: Iterable[str]) -> list[Record]:
        """Return the records of some of the lines, as the same answer in JSON would have them.

        Raises:
            UnfaithfulError: If a value is no number.
        """
        columns = list(zip(self._names, self._readers, strict=True))
        return [
            {name: read(text) for (name, read), text in zip(columns, line.split(","), strict=True)} for line in lines
        ]


def excerpt(body: bytes) -> str:
    """Return the beginning of a body as one line of text, without the tags of a page."""
    text = re.sub(r"<[^>]*>", " ", body[:2000].decode(errors="replace"))
    return " ".join(text.split())[:_EXCERPT_CHARACTERS] or "(nothing)"


def _readers(header: list[str], endpoint: Endpoint, body: bytes) -> list[Callable[[str], Any]]:
    needed = {"meeting_key", "session_key", *endpoint.key_fields}
    if not needed <= set(header):
        raise TransientError(f"the answer is not the CSV of {endpoint.name}: {excerpt(body)}")
    unknown = set(header) - set(endpoint.fields)
    if unknown:
        raise UnfaithfulError(f"CSV cannot say what kind of values the unknown field {min(unknown)} has")
    return [_json_date if name == "date" else _number for name in header]


def _json_date(text: str) -> str | None:
    return text.replace(" ", "T", 1) or None


def _whole_number(text: str) -> int:
    if _INTEGER.fullmatch(text):
        return int(text)
    raise ValueError(text)


def _whole_or_none(text: str) -> int | None:
    return None if text == "" else _whole_number(text)


_WHOLE_NUMBERS: Memo[str, int] = Memo(_whole_number)
_WHOLE_OR_NONE: Memo[str, int | None] = Memo(_whole_or_none)


def _number(text: str) -> Any:
    """Read a value that is a number or nothing."""
    if text == "":
        return None
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    raise UnfaithfulError(f"CSV cannot say what kind of value {text[:40]!r} is")
