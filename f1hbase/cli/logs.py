"""Log lines: `[ERROR] 2024-01-15 10:30:18 - what happened`, in colour on a terminal, plain in the log file."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TextIO

from colorama import Fore, Style
from tqdm import tqdm

from f1hbase.errors import SetupError
from f1hbase.levels import PROGRESS, STATS, SUCCESS

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
    """One line a message; the level in colour if wanted."""

    def __init__(self, *, colour: bool = False) -> None:
        super().__init__("%(message)s", "%Y-%m-%d %H:%M:%S")
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        level = f"[{record.levelname}]"
        if self._colour:
            level = f"{_COLOURS.get(record.levelno, '')}{level}{Style.RESET_ALL}"
        return f"{level} {self.formatTime(record, self.datefmt)} - {super().format(record)}"


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
            logging.getLogger(__name__).warning("cannot write the log file '%s': %s", self.baseFilename, reason)


def wants_colour(stream: TextIO) -> bool:
    """Return whether lines on this stream are coloured: on a terminal, unless NO_COLOR is set."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def set_up_logging(stream: TextIO, log_file: Path | None, *, quiet: bool = False, verbose: bool = False) -> None:
    """Send what `f1hbase` logs to the screen and everything to the log file.

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
    if log_file is not None:
        try:
            file = _FileHandler(log_file, encoding="utf-8")
        except OSError as error:
            raise SetupError(
                f"cannot write the log file '{log_file}': {(error.strerror or str(error)).lower()}. "
                "Name another with --log-file."
            ) from error
        file.setFormatter(LineFormatter())
        root.addHandler(file)
