"""Stored bytes to records, slice by slice: answers as OpenF1 and Jolpica gave them, and JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from typing import Any

from f1hbase.model.catalog import HISTORY, Endpoint
from f1hbase.model.ergast import BadPageError, read_page
from f1hbase.model.records import loose_json, may_lose_numbers
from f1hbase.model.samples import Samples, samples_of_json
from f1hbase.sources.http.errors import RequestError
from f1hbase.sources.openf1.formats import decode_answer
from f1hbase.sources.stored import UnreadableError
from f1hbase.stores.files.answers import JSON_LINES

_SLICE_LINES = 3_500
"""How many JSON lines are decoded at once."""

_SLICE_BYTES = 4_000_000
"""After how many bytes no more of them are; 3,500 lines of real records have 1 MB at the most."""

_EXCERPT_BYTES = 60


class StoredRecords:
    """The records of a stored body, decoded as they are iterated, each time anew.

    Args:
        endpoint: What they are records of.
        content_type: That of the body.
        body: The bytes.
        where: What holds them, for messages.
    """

    def __init__(self, endpoint: Endpoint, content_type: str, body: bytes, where: str) -> None:
        self._endpoint = endpoint
        self._content_type = content_type
        self._body = body
        self._where = where

    def __iter__(self) -> Iterator[Samples | Sequence[Any]]:
        if self._content_type == JSON_LINES:
            yield from records_of_lines(self._endpoint, BytesIO(self._body), self._where)
            return
        if self._endpoint.dataset is HISTORY:
            try:
                yield read_page(self._body).records
            except BadPageError as error:
                raise UnreadableError(f"'{self._where}' cannot be read: {error}") from error
            return
        try:
            yield from decode_answer(self._endpoint, self._content_type, self._body)
        except RequestError as error:
            raise UnreadableError(f"'{self._where}' cannot be read: {error}") from error


def records_of_lines(endpoint: Endpoint, lines: Iterable[bytes], where: str) -> Iterator[Samples | Sequence[Any]]:
    """Yield the records of JSON lines, some at a time; empty lines are none.

    Raises:
        UnreadableError: If a line is no JSON; names it.
    """
    for some in _slices(lines):
        samples = samples_of_json(endpoint, b"[" + b",".join(line for _, line in some) + b"]")
        yield [_record(line, number, where) for number, line in some] if samples is None else samples


def _slices(lines: Iterable[bytes]) -> Iterator[list[tuple[int, bytes]]]:
    """Yield the lines that are not empty with their numbers, some at a time."""
    some: list[tuple[int, bytes]] = []
    size = 0
    for number, line in enumerate(lines, 1):
        if line.isspace() or not line:
            continue
        some.append((number, line))
        size += len(line)
        if len(some) == _SLICE_LINES or size > _SLICE_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some


def _record(line: bytes, number: int, where: str) -> Any:
    try:
        return loose_json(line) if may_lose_numbers(line) else json.loads(line)
    except (ValueError, RecursionError) as error:
        excerpt = line[:_EXCERPT_BYTES].decode(errors="replace")
        raise UnreadableError(f"'{where}', line {number}, is no JSON: {excerpt}") from error
