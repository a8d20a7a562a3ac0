"""What came and is not stored yet: in memory up to a limit, beyond it in a private file; knows no record.

Who puts never waits. What is in the file outlives the process: it is stored by the next one that opens it.
"""

from __future__ import annotations

import errno
import logging
import os
import struct
import threading
import time
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

_log = logging.getLogger(__name__)

MEMORY_BYTES = 16_000_000
"""How much waits in memory before the file is used; a race has some 60 KB of records a second."""

_MEMORY_WITHOUT_DISK_BYTES = 256_000_000
"""How much is kept in memory when the file cannot be written; then the oldest is given up."""

_MAGIC = b"f1hbase1"
_HEADER = struct.Struct(">8sQ")  # the sign of such a file, and how far it was stored
_ITEM = struct.Struct(">II")  # length and CRC of an item


class Backlog:
    """A queue of bytes; one thread puts and one takes.

    Args:
        path: The file; None to keep all in memory.
        memory: How many bytes wait in memory at the most.

    Attributes:
        given_up: How many items were lost, as neither memory nor disk had room.
    """

    def __init__(self, path: Path | None, memory: int = MEMORY_BYTES) -> None:
        self._path = path
        self._most = memory
        self._changed = threading.Condition()
        self._memory: deque[bytes] = deque()
        self._memory_bytes = 0
        self._taken: list[bytes] = []
        self._taken_until: int | None = None
        self._file: int | None = None
        self._read = self._end = _HEADER.size
        self._said = False
        self.given_up = 0
        if path is not None:
            self._open(path)

    @property
    def waiting_bytes(self) -> int:
        """How many bytes wait, in memory and on disk."""
        with self._changed:
            return self._memory_bytes + sum(map(len, self._taken)) + self._disk_bytes

    @property
    def disk_bytes(self) -> int:
        """How many bytes wait on disk."""
        with self._changed:
            return self._disk_bytes

    def put(self, item: bytes) -> None:
        """Add an item; never waits for room."""
        with self._changed:
            # In order: while the file has something, it is the end of the queue.
            if self._disk_bytes or (self._memory_bytes + len(item) > self._most and self._file is not None):
                if not self._spool(item):
                    self._remember(item)
            else:
                self._remember(item)
            self._changed.notify()

    def take(self, most: int, timeout: float) -> Sequence[bytes]:
        """Return the next items, of so many bytes about, once there are some; call `done` when they are stored.

        Args:
            most: How many bytes.
            timeout: How long to wait for the first one, in seconds; none may come.
        """
        with self._changed:
            if not self._taken:
                if not self._memory and not self._disk_bytes:
                    self._changed.wait(timeout)
                size = 0
                while self._memory and size < most:
                    item = self._memory.popleft()
                    self._memory_bytes -= len(item)
                    self._taken.append(item)
                    size += len(item)
                if not self._taken and self._disk_bytes:
                    self._take_from_disk(most)
            return self._taken

    def done(self) -> None:
        """Forget what was taken: it is stored."""
        with self._changed:
            self._taken = []
            if self._taken_until is not None:
                self._advance(self._taken_until)
                self._taken_until = None

    def close(self) -> None:
        """Leave what is not stored in the file, for who opens it next; without anything the file is deleted."""
        with self._changed:
            rest = [] if self._taken_until is not None else [*self._taken]
            rest += self._memory
            if self._file is None:
                self.given_up += len(rest)
                return
            assert self._path is not None
            if rest or self._disk_bytes:
                self._rewrite([*rest, *self._on_disk(self._read)])
            else:
                self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None

    @property
    def _disk_bytes(self) -> int:
        return self._end - self._read

    def _remember(self, item: bytes) -> None:
        self._memory.append(item)
        self._memory_bytes += len(item)
        while self._memory_bytes > _MEMORY_WITHOUT_DISK_BYTES:
            self._memory_bytes -= len(self._memory.popleft())
            self.given_up += 1

    def _open(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            header = os.pread(self._file, _HEADER.size, 0)
            if len(header) == _HEADER.size and _HEADER.unpack(header)[0] == _MAGIC:
                self._read = max(_HEADER.size, _HEADER.unpack(header)[1])
                # A last item that a kill has cut off is none.
                self._end = self._read + sum(_ITEM.size + len(item) for item in self._on_disk(self._read))
                os.ftruncate(self._file, self._end)
            else:
                os.ftruncate(self._file, 0)
                os.pwrite(self._file, _HEADER.pack(_MAGIC, _HEADER.size), 0)
        except OSError as error:
            _log.error("'%s' cannot be used (%s): what is not stored waits in memory alone", path, error.strerror)
            self._file = None

    def _spool(self, item: bytes) -> bool:
        if self._file is None:
            return False
        data = _ITEM.pack(len(item), zlib.crc32(item)) + item
        try:
            written = os.pwrite(self._file, data, self._end)
            if written < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            if not self._said:
                self._said = True
                _log.error("'%s' cannot be written (%s): what comes now waits in memory", self._path, error.strerror)
            return False
        self._said = False
        self._end += len(data)
        return True

    def _take_from_disk(self, most: int) -> None:
        position, size = self._read, 0
        for item in self._on_disk(self._read):
            self._taken.append(item)
            position += _ITEM.size + len(item)
            size += len(item)
            if size >= most:
                break
        self._taken_until = position

    def _on_disk(self, position: int) -> Iterator[bytes]:
        assert self._file is not None
        while True:
            head = os.pread(self._file, _ITEM.size, position)
            if len(head) < _ITEM.size:
                return
            length, crc = _ITEM.unpack(head)
            item = os.pread(self._file, length, position + _ITEM.size)
            if len(item) < length or zlib.crc32(item) != crc:
                return
            yield item
            position += _ITEM.size + length

    def _advance(self, position: int) -> None:
        assert self._file is not None
        self._read = position
        if not self._disk_bytes:
            self._read = self._end = _HEADER.size
            os.ftruncate(self._file, _HEADER.size)
        os.pwrite(self._file, _HEADER.pack(_MAGIC, self._read), 0)

    def _rewrite(self, items: Sequence[bytes]) -> None:
        """Put a file with some items in the place of the one that is there."""
        assert self._path is not None
        fresh = self._path.with_suffix(f".{os.getpid()}.new")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
            file.write(_HEADER.pack(_MAGIC, _HEADER.size))
            for item in items:
                file.write(_ITEM.pack(len(item), zlib.crc32(item)) + item)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)


def wait_until_empty(backlog: Backlog, seconds: float) -> bool:
    """Wait until all is stored, so many seconds at the most; return whether it is."""
    until = time.monotonic() + seconds
    while backlog.waiting_bytes:
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True
