"""Files of this machine, opened and read with an end: no pipe or device is waited for, no line is endless.

The one home of that for folders of JSON lines, recordings and `serve`; `Objects` has the same of landing zones.
"""

from __future__ import annotations

import gzip
import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO, cast

from f1hbase.stores.files.packing import LONGEST_LINE_BYTES

NO_FILE = "it is a pipe or a device. Remove it"
"""What is said of what is no regular file, nor a link to one."""

_GZIP = b"\x1f\x8b"
_SKIPPED_BYTES = 1 << 20

READ_ERRORS = (OSError, EOFError, zlib.error)
"""What reading a file that may be gzip raises where it is damaged or cut off."""


class NoFileError(OSError):
    """What would be waited for, or read, for ever: a pipe, a device, or a link to one."""

    def __str__(self) -> str:
        return NO_FILE


class LongLineError(ValueError):
    """A line that is longer than any."""


def is_no_file(mode: int) -> bool:
    """Return whether what has this mode (`st_mode`) is neither a file nor a folder: a pipe, a socket, a device."""
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def open_file(path: Path) -> BinaryIO:
    """Open a file for reading, without waiting.

    Raises:
        NoFileError: If it is a pipe or a device.
        OSError: If it cannot be opened.
    """
    # Opening a pipe waits for whoever writes into it, unless told not to.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if is_no_file(os.fstat(descriptor).st_mode):
            raise NoFileError
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def unpacked(file: BinaryIO, *, is_gzip: bool | None = None) -> BinaryIO:
    """Return what a file holds, unpacked; closing the one is not closing the other.

    Args:
        file: The file.
        is_gzip: Whether it is gzip; None to go by its first bytes.

    Raises:
        OSError: If it cannot be read.
    """
    if is_gzip is None:
        is_gzip = file.read(len(_GZIP)) == _GZIP
        file.seek(0)
    return cast(BinaryIO, gzip.GzipFile(fileobj=file)) if is_gzip else file


def lines_of(file: IO[bytes], where: object) -> Iterator[bytes]:
    """Yield the lines of a file.

    Raises:
        LongLineError: If one is longer than `LONGEST_LINE_BYTES`; names it.
    """
    for number, line in enumerate(cut_lines(file), 1):
        if len(line) > LONGEST_LINE_BYTES:
            raise LongLineError(f"'{where}', line {number}, has more than {LONGEST_LINE_BYTES:,} bytes")
        yield line


def cut_lines(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of a file; of one that is too long the beginning, which is longer than `LONGEST_LINE_BYTES`."""
    while line := file.readline(LONGEST_LINE_BYTES + 1):
        yield line
        part = line
        while len(part) > _SKIPPED_BYTES and not part.endswith(b"\n"):
            part = file.readline(_SKIPPED_BYTES + 1)  # of which nothing is kept
