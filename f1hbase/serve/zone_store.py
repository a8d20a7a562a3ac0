"""The records of a landing zone, piece by piece: a stored answer is taken apart when it is first asked for, and kept.

What is kept has a bound (`KEPT_BYTES`); of what is asked for again, an answer is then a slice of bytes. It knows no
HTTP.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

from f1hbase.frames.reading import piece_made, stored_fingerprint, stored_pieces
from f1hbase.model.answers import Records
from f1hbase.model.samples import Samples
from f1hbase.model.units import Scope, Unit
from f1hbase.serve.blocks import EMPTY, Block, SampleBlock, SpanBlock, json_of
from f1hbase.serve.file_store import KEY_FIELDS, FileStore
from f1hbase.serve.reader_store import ReaderStore
from f1hbase.serve.sessions import Listed, Sessions
from f1hbase.serve.wanted import Wanted
from f1hbase.sources.base import Reader

KEPT_BYTES = 256_000_000
"""How many bytes of records are kept, about: the car data of two races."""

FRESH_SECONDS = 30.0
"""For how long a listing of the zone counts; then a new one is made while the old one is still used."""

PATIENCE_SECONDS = 5.0
"""For how long an object store may be away before an answer is a 503."""

_BYTES_A_ROW = 30
"""What a record takes beside its JSON: where it begins, when it was."""


class ZoneRecords:
    """Reads the records of sessions from a landing zone; see `f1hbase.serve.reader_store.SessionRecords`.

    Args:
        kept_bytes: How many bytes of records may be kept.
    """

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept = _Kept(kept_bytes)

    def blocks(self, wanted: Wanted, listed: Listed, scopes: Sequence[Scope]) -> Iterator[Block]:
        """Yield the wanted records of some sessions, by stored answer, and in each by driver and date."""
        endpoint = wanted.endpoint
        for scope in scopes:
            states = listed.states_of(scope)
            whole = Unit(endpoint.name, scope)
            stamp = str(stored_fingerprint(whole, states))
            for number, (piece, records) in enumerate(stored_pieces(listed.reader, whole, states)):
                if not self._is_wanted(wanted, piece):
                    continue
                key = f"{piece.key} {number} {stamp}"
                store = self._kept.get(key, lambda piece=piece, records=records: _taken_apart(piece, records))  # type: ignore[misc]
                yield EMPTY
                yield from _selected(store, wanted)

    def close(self) -> None:
        """Do nothing: nothing is held open."""

    def _is_wanted(self, wanted: Wanted, piece: Unit) -> bool:
        if piece.driver is not None and not wanted.wants_driver(piece.driver):
            return False
        return any(window.overlaps(piece.window) for window in wanted.windows)


def _selected(store: FileStore, wanted: Wanted) -> Iterator[Block]:
    conditions = dict(wanted.conditions)
    keys = [(place, conditions.pop(name)) for place, name in enumerate(KEY_FIELDS) if name in conditions]
    for group in store.groups(wanted.endpoint.name):
        if all(condition.matches(group.key[place]) for place, condition in keys):
            for span in group.select(conditions):
                yield SpanBlock(span)


def _taken_apart(piece: Unit, records: Records) -> FileStore:
    store = FileStore()

    for part in piece_made(piece, records, lambda part: part):
        if isinstance(part, Samples):
            store.add_samples(piece.endpoint, part, list(SampleBlock(part).lines()))
        else:
            store.add(piece.endpoint, map(json_of, part))
    store.groups(piece.endpoint)
    return store


class _Kept:
    """What was used last, as much of it as has room; each is made once, however many ask for it at the same time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[str, tuple[FileStore, int]] = OrderedDict()
        self._used = 0
        self._making: dict[str, threading.Lock] = {}
        self._turn = threading.Lock()

    def get(self, key: str, make: Callable[[], FileStore]) -> FileStore:
        with self._turn:
            if (found := self._find(key)) is not None:
                return found
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._turn:
                if (found := self._find(key)) is not None:
                    return found
            try:
                made = make()
                self._keep(key, made)
            finally:
                with self._turn:
                    self._making.pop(key, None)
        return made

    def _find(self, key: str) -> FileStore | None:
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def _keep(self, key: str, made: FileStore) -> None:
        size = sum(
            len(group.blob) + _BYTES_A_ROW * len(group.starts)
            for endpoint in made.endpoints()
            for group in made.groups(endpoint)
        )
        with self._turn:
            self._kept[key] = (made, size)
            self._used += size
            while self._used > self._most and len(self._kept) > 1:
                self._used -= self._kept.popitem(last=False)[1][1]


def record_store(open_reader: Callable[[], Reader], most_seconds: float) -> ReaderStore:
    """Return the records of a landing zone, or of files that others wrote.

    Args:
        open_reader: Opens what reads it.
        most_seconds: How long a query may take until its first records are there.
    """
    sessions = Sessions(open_reader, FRESH_SECONDS, in_background=True)
    sessions.listed()
    return ReaderStore(sessions, ZoneRecords(), most_seconds)
