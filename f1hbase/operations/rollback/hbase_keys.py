"""How a rollback finds its way in HBase's tables: by seeking from key to key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from f1hbase.model.units import SEPARATOR, Scope
from f1hbase.stores.hbase.connector import ONE_CELL_KEYS_ONLY, HBaseConnector

HASH = SEPARATOR.encode()
AFTER_HASH = bytes([HASH[0] + 1])
"""`x#...` sorts before `x` and this, and what a longer number than `x` begins sorts after it."""

_MEETING = re.compile(rb"\d+#\d+(?![^#])")


@dataclass(frozen=True, slots=True)
class KeyReader:
    """Reads keys.

    Attributes:
        connector: The connection to use.
    """

    connector: HBaseConnector

    def first(
        self,
        table: str,
        prefix: bytes,
        start: bytes | None = None,
        columns: Sequence[bytes] | None = None,
        row_filter: bytes = ONE_CELL_KEYS_ONLY,
    ) -> bytes | None:
        """Return the first key with a prefix, from `start` on; a seek, however many rows there are."""
        rows = self.connector.stream(table, prefix, start=start, columns=columns, row_filter=row_filter, chunk=1)
        return next((key for key, _ in rows), None)

    def below(
        self, table: str, prefix: str, columns: Sequence[bytes] | None = None, row_filter: bytes | None = None
    ) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
        """Yield the rows below `{prefix}#`."""
        return self.connector.stream(table, f"{prefix}{SEPARATOR}".encode(), columns=columns, row_filter=row_filter)

    def keys(self, table: str, prefix: str) -> Iterator[bytes]:
        """Yield the key that is the prefix itself, if there is such a row, and those below it."""
        if self.first(table, prefix.encode()) == prefix.encode():
            yield prefix.encode()
        for key, _ in self.below(table, prefix, row_filter=ONE_CELL_KEYS_ONLY):
            yield key

    def times(self, table: str, prefix: str, family: bytes) -> Iterator[tuple[bytes, int]]:
        """Yield the same keys, if they have cells in a family, and when the first of those counts as made."""
        stream, columns = self.connector.stream_times, [family]
        # The prefix itself is the first of all keys that begin with it.
        rows = stream(table, prefix.encode(), columns=columns, row_filter=ONE_CELL_KEYS_ONLY, chunk=1)
        first = next(rows, None)
        del rows  # and with it the scanner
        if first is not None and first[0] == prefix.encode():
            yield first
        yield from stream(table, f"{prefix}{SEPARATOR}".encode(), columns=columns, row_filter=ONE_CELL_KEYS_ONLY)

    def times_left(self, table: str, keys: Sequence[bytes], family: bytes) -> Iterator[tuple[bytes, int]]:
        """Yield those of some keys, in order, that still have cells in a family, and when the latest was made."""
        wanted = set(keys)
        left = self.connector.stream_times(table, b"", start=keys[0], stop=keys[-1] + b"\0", columns=[family])
        yield from (row for row in left if row[0] in wanted)

    def meetings(self, table: str, word: bytes, columns: Sequence[bytes] | None = None) -> Iterator[bytes]:
        """Yield each `{year}#{meeting_key}` that keys go on with after a word, by seeking from one to the next."""
        position = word
        while (key := self.first(table, word, position, columns)) is not None:
            match = _MEETING.match(key, len(word))
            if match is not None:
                yield match[0]
            position = key + b"\0" if match is None else word + match[0] + AFTER_HASH


def meeting_in(key: bytes, word: bytes) -> str | None:
    """Return the `{year}#{meeting_key}` that a key consists of after a word; None if it does not."""
    match = _MEETING.fullmatch(key, len(word))
    return None if match is None else match[0].decode()


def scope_of(prefix: str) -> Scope:
    """Return a session, or a meeting where there is none or `-` for it, by `{year}#{meeting_key}[#{session_key}]`."""
    year, meeting, *session = prefix.split(SEPARATOR)
    return Scope(int(year), int(meeting), int(session[0]) if session and session != ["-"] else None)


def encoded(families: Iterable[str]) -> list[bytes]:
    """Return names of families as HBase has them, in order."""
    return sorted(family.encode() for family in families)
