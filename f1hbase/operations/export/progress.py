"""What an export tells whoever shows how far it is; the plainest way is a line a minute in the log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from f1hbase.levels import PROGRESS
from f1hbase.model.text import count

_log = logging.getLogger(__name__)

_LINE_SECONDS = 60.0


class Counter(Protocol):
    """Shows how far it is to write rows, one part (a session, a meeting) after the other."""

    def begin(self, name: str, expected: int) -> None:
        """The next part begins.

        Args:
            name: What people call it.
            expected: About how many rows it has; 0 where that is not known.
        """

    def count(self, rows: int) -> None:
        """So many more rows of it are done."""

    def close(self) -> None:
        """All parts are done, or the work ends early."""


MakeCounter = Callable[[int, str], Counter]
"""Makes a counter of so many parts; the text says what is done to the rows, such as `exported`."""


class LineCounter:
    """A line a minute; see `Counter`.

    Args:
        parts: How many parts there are.
        done: What is done to the rows.
    """

    def __init__(self, parts: int, done: str) -> None:
        self._parts = parts
        self._what = done
        self._begun = self._rows = self._last_rows = 0
        self._last = monotonic()

    def begin(self, name: str, expected: int) -> None:
        """Count the part."""
        self._begun += 1

    def count(self, rows: int) -> None:
        """Count the rows, and write a line when a minute has passed."""
        self._rows += rows
        now = monotonic()
        if now - self._last < _LINE_SECONDS:
            return
        rate = (self._rows - self._last_rows) / (now - self._last)
        self._last, self._last_rows = now, self._rows
        _log.log(
            PROGRESS, "part %d of %d, %s %s, %s rows/s",
            self._begun, self._parts, count(self._rows, "row"), self._what, f"{rate:,.0f}",
        )  # fmt: skip

    def close(self) -> None:
        """Nothing to take away."""
