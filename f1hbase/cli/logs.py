"""Log lines: `[ERROR] 2024-01-15 10:30:18 - what happened`, in colour on a terminal, plain in the log file.

What a record says is made one harmless line by the formatter, wherever its text comes from.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from colorama import Fore, Style
from tqdm import tqdm

from f1hbase.credentials import redacted
from f1hbase.errors import SetupError
from f1hbase.levels import PROGRESS, STATS, SUCCESS
from f1hbase.model.text import safe

_log = logging.getLogger(__name__)

_LONGEST_MESSAGE = 4_000
"""How many characters of a message are written: the longest of our own, which names every endpoint, has some 800."""

_COLOURS = {
    logging.DEBUG: Style.DIM,
    logging.INFO: Fore.CYAN,
    STATS: Fore.MAGENTA,
    PROGRESS: Fore.BLUE,
    SUCCESS: Fore.GREEN,
    logging.WARNING: Fore.YELLOW,
    logging.ERROR: Fore.RED,
    logging.CRITICAL: Fore.RED,
}


class LineFormatter(logging.Formatter):
    """One line a message, without control characters and secrets; the level in colour if wanted."""

    def __init__(self, *, colour: bool = False) -> None:
        super().__init__("%(message)s", "%Y-%m-%d %H:%M:%S")
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and indented below it those of a stack trace if the record has one."""
        level = f"[{record.levelname}]"
        if self._colour:
            level = f"{_COLOURS.get(record.levelno, '')}{level}{Style.RESET_ALL}"
        message = safe(redacted(record.getMessage()), _LONGEST_MESSAGE)
        lines = [f"{level} {self.formatTime(record, self.datefmt)} - {message}"]
        if record.exc_info:
            lines += [f"  {safe(redacted(line))}" for line in self.formatException(record.exc_info).split("\n")]
        return "\n".join(lines)


class ConsoleHandler(logging.Handler):
    """Writes lines above the progress bars, if there are any."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self.setFormatter(LineFormatter(colour=wants_colour(stream)))

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        try:
            tqdm.write(self.format(record), file=self._stream)
            self._stream.flush()
        except (OSError, ValueError):
            # The terminal is gone, or the disk under the redirected output is full: the load goes on.
            self.handleError(record)


class _FileHandler(logging.FileHandler):
    """Says once on the screen when the file cannot be written any more; the load goes on."""

    _complained = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        error = sys.exc_info()[1]
        if not self._complained:
            self._complained = True
            reason = error.strerror if isinstance(error, OSError) else error
            _log.warning("cannot write the log file '%s': %s", self.baseFilename, reason)


def wants_colour(stream: TextIO) -> bool:
    """Return whether lines on this stream are coloured: on a terminal, unless NO_COLOR is set."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def set_up_logging(stream: TextIO, log_file: Path | None, *, quiet: bool = False, verbose: bool = False) -> None:
    """Send what `f1hbase` logs to the screen and everything to the log file.

    Where the screen is the log file (`nohup ... > populate.log 2>&1 &`), each line is written once.

    Args:
        stream: The screen.
        log_file: Everything is appended here, with the requests; None for no file.
        quiet: Only warnings and errors on the screen.
        verbose: The requests on the screen, too.

    Raises:
        SetupError: If the file cannot be opened for appending.
    """
    # A full disk under the log must not stop a load, nor print a stack trace for each line.
    logging.raiseExceptions = False
    root = logging.getLogger("f1hbase")
    root.setLevel(logging.DEBUG)
    root.propagate = False
    console = ConsoleHandler(stream)
    console.setLevel(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)
    root.handlers = [console]
    if log_file is None:
        return
    try:
        with _reader_of(log_file):
            file = _FileHandler(log_file, encoding="utf-8")
    except OSError as error:
        raise SetupError(
            f"cannot write the log file '{log_file}': {(error.strerror or str(error)).lower()}. "
            "Name another with --log-file."
        ) from error
    file.setFormatter(LineFormatter())
    opened = file.stream
    assert opened is not None
    shared = [one for one in (stream, sys.stderr) if _is_same_file(one, opened)]
    for one in shared:
        _append(one)
    if stream not in shared:
        root.handlers = [console, file]
        if shared:
            _log.info("standard error goes into the log file '%s', too", log_file)
    elif stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
        root.handlers = [file]
        _log.info("the output goes into the log file '%s': each line is written once, also those of requests", log_file)
    else:
        file.close()  # the terminal or pipe itself was named, such as /dev/stdout


@contextmanager
def _reader_of(path: Path) -> Iterator[None]:
    """Hold a pipe open during a block, so that opening it does not wait; nothing for any other file.

    Raises:
        OSError: If it is a pipe that nobody reads.
    """
    if not path.is_fifo():
        yield
        return
    try:
        held = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(error.errno, "it is a pipe that nobody reads") from error
        raise
    try:
        yield
    finally:
        os.close(held)


def _is_same_file(stream: TextIO, file: TextIO) -> bool:
    """Return whether two streams write to the same file, whatever names it was opened by."""
    try:
        return os.path.sameopenfile(stream.fileno(), file.fileno())
    except (OSError, ValueError):  # closed, or no file at all
        return False


def _append(stream: TextIO) -> None:
    """Let a stream write at the end of its file, wherever that is by then.

    A shell's `>` leaves it where the stream itself has stopped writing, and so on top of what others have written.
    """
    stream.flush()
    flags = fcntl.fcntl(stream.fileno(), fcntl.F_GETFL)
    fcntl.fcntl(stream.fileno(), fcntl.F_SETFL, flags | os.O_APPEND)
