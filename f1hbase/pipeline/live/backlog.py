"""What came and is not stored yet: in a private file, and up to a limit in memory as well; knows no record.

Who puts waits for no store. What is in the file outlives the process, however that ends: it is stored by the next one
that opens it. It is not synchronised with the disk, so the end of the machine may take the last seconds with it.
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
"""How much of it is in memory; a race has some 60 KB of records a second."""

_MEMORY_WITHOUT_DISK_BYTES = 256_000_000
"""How much is kept in memory when the file cannot be written; then the oldest is given up."""

_MAGIC = b"f1hbase1"
_HEADER = struct.Struct(">8sQ")  # the sign of such a file, and up to where it was stored
_ITEM = struct.Struct(">II")  # length and CRC of an item


class Backlog:
    """A queue of bytes; one thread puts and one takes.

    Args:
        path: The file.
        memory: How many bytes are in memory at the most; what is behind them is read from the file.

    Attributes:
        given_up: How many items were lost, as neither disk nor memory had room.
    """

    def __init__(self, path: Path, memory: int = MEMORY_BYTES) -> None:
        self._path = path
        self._most = memory
        self._changed = threading.Condition()
        self._memory: deque[bytes] = deque()
        self._memory_bytes = 0
        self._unwritten: deque[bytes] = deque()
        """What the file had no room for; comes after all that is in it."""
        self._unwritten_bytes = 0
        self._taken: list[bytes] = []
        self._taken_until: int | None = None
        self._file: int | None = None
        # Up to where it is stored; up to where it was taken or is in memory; its end.
        self._read = self._next = self._end = _HEADER.size
        self._said = False
        self.given_up = 0
        self._open(path)

    @property
    def waiting_bytes(self) -> int:
        """How many bytes are not stored."""
        with self._changed:
            return self._end - self._read + self._unwritten_bytes + self._taken_unwritten

    @property
    def disk_bytes(self) -> int:
        """How many bytes of them are on disk alone."""
        with self._changed:
            return self._end - self._next

    def put(self, item: bytes) -> None:
        """Add an item; never waits for who takes."""
        with self._changed:
            size = _ITEM.size + len(item)
            if self._unwritten or not self._append(item):
                self._keep_unwritten(item)
            elif self._next == self._end - size and self._memory_bytes + size <= self._most:
                self._memory.append(item)
                self._memory_bytes += size
                self._next = self._end
            self._changed.notify()

    def take(self, most: int, timeout: float) -> Sequence[bytes]:
        """Return the next items, of so many bytes about, once there are some; call `done` when they are stored.

        Args:
            most: How many bytes.
            timeout: How long to wait for the first one, in seconds; none may come.
        """
        with self._changed:
            if not self._taken:
                if self._read == self._end and not self._unwritten:
                    self._changed.wait(timeout)
                if self._memory:
                    self._take_from_memory(most)
                elif self._next < self._end:
                    self._take_from_disk(most)
                else:
                    self._take_unwritten(most)
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
            rest = [*self._taken, *self._unwritten] if self._taken_until is None else [*self._unwritten]
            self.given_up += sum(not self._append(item) for item in rest)
            self._taken, self._unwritten = [], deque()
            if self._file is None:
                return
            if self._read == self._end:
                self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None

    @property
    def _taken_unwritten(self) -> int:
        return sum(map(len, self._taken)) if self._taken_until is None else 0

    def _keep_unwritten(self, item: bytes) -> None:
        self._unwritten.append(item)
        self._unwritten_bytes += len(item)
        while self._unwritten_bytes > _MEMORY_WITHOUT_DISK_BYTES:
            self._unwritten_bytes -= len(self._unwritten.popleft())
            self.given_up += 1

    def _open(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            header = os.pread(self._file, _HEADER.size, 0)
            if len(header) == _HEADER.size and _HEADER.unpack(header)[0] == _MAGIC:
                self._read = self._next = max(_HEADER.size, _HEADER.unpack(header)[1])
                # A last item that a kill has cut off is none.
                self._end = self._read + sum(_ITEM.size + len(item) for item in self._on_disk(self._read))
                os.ftruncate(self._file, self._end)
            else:
                os.ftruncate(self._file, 0)
                os.pwrite(self._file, _HEADER.pack(_MAGIC, _HEADER.size), 0)
        except OSError as error:
            _log.error("'%s' cannot be used (%s): what is not stored waits in memory alone", path, error.strerror)
            self._file = None

    def _append(self, item: bytes) -> bool:
        if self._file is None:
            return False
        data = _ITEM.pack(len(item), zlib.crc32(item)) + item
        try:
            if os.pwrite(self._file, data, self._end) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            if not self._said:
                self._said = True
                _log.error("'%s' cannot be written (%s): what comes now waits in memory", self._path, error.strerror)
            return False
        self._said = False
        self._end += len(data)
        return True

    def _take_from_memory(self, most: int) -> None:
        position, size = self._read, 0
        while self._memory and size < most:
            item = self._memory.popleft()
            self._memory_bytes -= _ITEM.size + len(item)
            self._taken.append(item)
            position += _ITEM.size + len(item)
            size += len(item)
        self._taken_until = position

    def _take_from_disk(self, most: int) -> None:
        size = 0
        for item in self._on_disk(self._next):
            self._taken.append(item)
            self._next += _ITEM.size + len(item)
            size += len(item)
            if size >= most:
                break
        if not size:  # the disk has changed it
            _log.error("'%s' is damaged: %d bytes of it are given up", self._path, self._end - self._next)
            self.given_up += 1
            self._advance(self._end)
            return
        self._taken_until = self._next

    def _take_unwritten(self, most: int) -> None:
        size = 0
        while self._unwritten and size < most:
            item = self._unwritten.popleft()
            self._unwritten_bytes -= len(item)
            self._taken.append(item)
            size += len(item)

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
        if self._read == self._end:
            self._read = self._next = self._end = _HEADER.size
            os.ftruncate(self._file, _HEADER.size)
        os.pwrite(self._file, _HEADER.pack(_MAGIC, self._read), 0)


def wait_until_empty(backlog: Backlog, seconds: float) -> bool:
    """Wait until all is stored, so many seconds at the most; return whether it is."""
    until = time.monotonic() + seconds
    while backlog.waiting_bytes:
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True
