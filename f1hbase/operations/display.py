"""What a scan tells whoever shows how it goes, and the plainest of them: a line a minute in the log."""

from __future__ import annotations

import logging
from time import monotonic
from typing import Protocol

from f1hbase.levels import PROGRESS
from f1hbase.model.text import count

_log = logging.getLogger(__name__)

_LINE_SECONDS = 60.0


class ScanDisplay(Protocol):
    """Shows how far a scan of several sessions is."""

    def begin(self, name: str, rows: int) -> None:
        """The next session has about so many rows."""

    def count(self, rows: int) -> None:
        """So many more have been passed."""

    def close(self) -> None:
        """All are passed."""


class ScanLines:
    """A line a minute, for a log file or a pipe.

    Args:
        sessions: How many sessions there are.
        done: What is done with rows, such as `counted`.
    """

    def __init__(self, sessions: int, done: str = "counted") -> None:
        self._sessions = sessions
        self._done = done
        self._begun = 0
        self._rows = self._last_rows = 0
        self._last = monotonic()

    def begin(self, name: str, rows: int) -> None:
        """Count the session."""
        self._begun += 1
        self._say_when_due()

    def count(self, rows: int) -> None:
        """Count the rows, and write a line when a minute has passed."""
        self._rows += rows
        self._say_when_due()

    def close(self) -> None:
        """Nothing to take away."""

    def _say_when_due(self) -> None:
        now = monotonic()
        if now - self._last < _LINE_SECONDS:
            return
        rate = (self._rows - self._last_rows) / (now - self._last)
        self._last, self._last_rows = now, self._rows
        _log.log(
            PROGRESS, "session %d of %d, %s %s, %s rows/s",
            self._begun, self._sessions, count(self._rows, "row"), self._done, f"{rate:,.0f}",
        )  # fmt: skip
