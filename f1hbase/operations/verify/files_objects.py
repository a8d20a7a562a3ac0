"""The objects of a landing zone against what manifests say of them; each is read once. Knows no unit."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import md5
from typing import Any

from f1hbase.model.catalog import ALL_ENDPOINTS
from f1hbase.model.samples import Record, Samples
from f1hbase.sources.decoding import StoredRecords
from f1hbase.sources.stored import UnreadableError
from f1hbase.stores.files.answers import checked_body
from f1hbase.stores.files.clients import ObjectInfo
from f1hbase.stores.files.objects import Objects, UnreadableObjectError
from f1hbase.stores.files.packing import DamagedError, md5_hex

_log = logging.getLogger(__name__)

_BATCH_BYTES = 32_000_000
_BATCH_OBJECTS = 64
"""As much is read at once: an object store gives 16 objects at a time, and all of a batch is in memory."""

_NO_RECORDS = 400
"""An answer of this status or above says that there are no records."""

_Key = tuple[str, str, tuple[str, ...]]


@dataclass(slots=True)
class _Read:
    """What reading an object has shown: what is wrong with it, or its records by the values that select them."""

    problem: str | None
    records: Counter[tuple[Any, ...]]


class ObjectChecks:
    """Compares objects with what manifests say of them, and remembers what came of it.

    Args:
        objects: The objects.
        sizes: The size of each in bytes, by path, as they were listed; filled by the caller before the first question.
    """

    def __init__(self, objects: Objects, sizes: Mapping[str, int]) -> None:
        self._objects = objects
        self._sizes = sizes
        self._ahead: dict[str, bytes | UnreadableObjectError | None] = {}
        self._waiting: list[Mapping[str, Any]] = []
        self._read: dict[_Key, _Read] = {}

    def prepare(self, stored: Sequence[Mapping[str, Any]], *, deep: bool) -> None:
        """Say which objects will be asked about next, in order, so that they are read several at a time."""
        self._ahead.clear()
        self._waiting = []
        if deep:
            mine = {str(one["path"]): one for one in stored if _key(one) not in self._read}
            self._waiting = list(mine.values())

    def problem(self, endpoint: str, stored: Mapping[str, Any], *, deep: bool) -> str | None:
        """Return what is wrong with an object, to follow its path; None if nothing is.

        Args:
            endpoint: What it has records of.
            stored: What a manifest says of it.
            deep: Whether to read it even if its size is right.
        """
        path, wanted = str(stored["path"]), stored.get("stored_bytes")
        if not deep and self._sizes.get(path) == wanted:
            return None
        return self._reading(endpoint, stored).problem

    def decoded(self, stored: Mapping[str, Any]) -> int:
        """Return how many records a sound object has for a unit, once `problem` has read it."""
        return self._read[_key(stored)].records[tuple(stored["select"].values())]

    def digest(self, path: str, size: int) -> str:
        """Return the MD5 of a large object, in hex, reading some of it at a time."""
        digest = md5(usedforsecurity=False)
        try:
            for some in self._objects.chunks(ObjectInfo(path, size)):
                digest.update(some)
        except FileNotFoundError:
            return ""  # deleted just now
        return digest.hexdigest()

    def records(self, endpoint: str, stored: Mapping[str, Any]) -> Iterator[Record]:
        """Yield the records of a small object; none where it is damaged, which `problem` says."""
        try:
            body = checked_body(self._objects.get(str(stored["path"])), stored)
            for some in _decoded(endpoint, stored, body):
                yield from (record for record in some if isinstance(record, dict))
        except (DamagedError, UnreadableError) as error:
            _log.debug("'%s' has no name or date to show: %s", stored["path"], error)

    def _reading(self, endpoint: str, stored: Mapping[str, Any]) -> _Read:
        key = _key(stored)
        if key not in self._read:
            self._read[key] = self._look(endpoint, stored, self._content(str(stored["path"])))
        return self._read[key]

    def _content(self, path: str) -> bytes | UnreadableObjectError | None:
        """Return an object's bytes; with it those are read that will be asked about next."""
        if path in self._ahead:
            return self._ahead.pop(path)
        batch, size = [path], self._sizes.get(path, 0)
        waiting = [str(one["path"]) for one in self._waiting]
        place = waiting.index(path) + 1 if path in waiting else len(waiting)
        for one in waiting[place:]:
            size += self._sizes.get(one, 0)
            if size > _BATCH_BYTES or len(batch) == _BATCH_OBJECTS:
                break
            batch.append(one)
        self._waiting = self._waiting[place + len(batch) - 1 :]
        self._ahead = dict(zip(batch, self._objects.try_all(batch), strict=True))
        return self._ahead.pop(path)

    def _look(self, endpoint: str, stored: Mapping[str, Any], content: bytes | UnreadableObjectError | None) -> _Read:
        none: Counter[tuple[Any, ...]] = Counter()
        if content is None:
            return _Read("does not exist", none)
        if isinstance(content, UnreadableObjectError):
            return _Read(f"is not to be read: {content}", none)
        try:
            body = checked_body(content, stored)
            if md5_hex(body) != stored["md5"]:
                raise DamagedError(f"what is packed in it has not the MD5 {stored['md5']} of its manifest")
            names = tuple(stored["select"])
            for some in _decoded(endpoint, stored, body):
                none.update(_values(some, names))
        except DamagedError as error:
            size, wanted = len(content), stored.get("stored_bytes")
            sizes = "" if size == wanted or wanted is None else f"; it has {size:,} bytes, and should have {wanted:,}"
            return _Read(f"is damaged: {error}{sizes}", none)
        except UnreadableError as error:
            return _Read(f"is as it was stored, and cannot be decoded: {error}", none)
        return _Read(None, none)


def _key(stored: Mapping[str, Any]) -> _Key:
    return str(stored["path"]), f"{stored['stored_md5']} {stored['md5']}", tuple(stored["select"])


def _decoded(endpoint: str, stored: Mapping[str, Any], body: bytes) -> Iterator[Samples | Sequence[Any]]:
    if stored["status"] < _NO_RECORDS:
        yield from StoredRecords(ALL_ENDPOINTS[endpoint], str(stored["content_type"]), body, str(stored["path"]))


def _values(records: Samples | Sequence[Any], names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Yield of each record the values of some fields; without fields records of any kind count."""
    if isinstance(records, Samples):
        places = [records.endpoint.fields.index(name) for name in names]
        return (tuple(row[place] for place in places) for row in records.rows)
    if not names:
        return (() for _ in records)
    return (
        tuple(value if isinstance(value := record.get(name), int | str) else None for name in names)
        for record in records
        if isinstance(record, dict)
    )
