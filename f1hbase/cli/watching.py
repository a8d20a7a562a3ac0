"""Shows lines on a terminal again and again in the same place (`status --watch`); knows not what they say."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TextIO

from f1hbase.errors import UnreachableError
from f1hbase.model.text import safe

_WATCH_SECONDS = 5.0


def watch(
    read: Callable[[], Iterable[str]], terminal: TextIO, *, sleep: Callable[[float], object] = time.sleep
) -> None:
    """Show it again and again, until Ctrl-C.

    Args:
        read: Returns the lines; the store may be away.
        terminal: Where to show them.
        sleep: Waits for so many seconds.
    """
    with suppress(KeyboardInterrupt):
        while True:
            began = time.monotonic()
            try:
                lines = [safe(line) for line in read()]
            except UnreachableError as error:
                lines = [safe(str(error)), "Looking again."]
            took = time.monotonic() - began
            columns, height = shutil.get_terminal_size()
            shown = [f"{datetime.now(UTC):%H:%M:%S} UTC, Ctrl-C ends", *_fitted(lines, height - 2)]
            # Each line's rest is cleared as it is written, and then all below: clearing first would flicker. A line
            # that fills the terminal has no rest: what many terminals would clear is its last character.
            text = "".join(f"{_cut(line, columns)}\n" if len(line) >= columns else f"{line}\x1b[K\n" for line in shown)
            terminal.write(f"\x1b[H{text}\x1b[J")
            terminal.flush()
            # Reading must not be most of what the store has to do.
            sleep(max(_WATCH_SECONDS, 4 * took))


def _cut(line: str, columns: int) -> str:
    return line if len(line) <= columns else f"{line[: columns - 1]}…"


def _fitted(lines: Sequence[str], height: int) -> Sequence[str]:
    """Leave out lines of the middle, so that the sums at the end stay in sight."""
    if len(lines) <= height:
        return lines
    tail = min(2 * height // 3, len(lines) - lines.index("") if "" in lines else 1)
    head = max(0, height - tail - 1)
    return [
        *lines[:head],
        f"... {len(lines) - head - tail} lines more; status without --watch shows all",
        *lines[-tail:],
    ]
