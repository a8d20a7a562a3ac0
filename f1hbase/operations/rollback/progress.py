"""How a deletion goes: what whoever shows it is told, and the plainest of them, a line a minute in the log."""

from __future__ import annotations

import logging
from time import monotonic
from typing import Protocol

from f1hbase.levels import PROGRESS

_log = logging.getLogger(__name__)

_LINE_SECONDS = 60.0


class DeletionDisplay(Protocol):
    """Shows how many rows are deleted."""

    def deleted(self, rows: int) -> None:
        """So many rows are deleted by now."""

    def close(self) -> None:
        """The deletion is over."""


class DeletionLines:
    """A line a minute, for a log file or a pipe.

    Args:
        expected: How many rows there are, as far as the reports know.
    """

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._started = self._last = monotonic()

    def deleted(self, rows: int) -> None:
        """Write a line when a minute has passed."""
        now = monotonic()
        if now - self._last >= _LINE_SECONDS:
            self._last = now
            _log.log(
                PROGRESS, "%s of about %s rows deleted, %s rows/s",
                f"{rows:,}", f"{self._expected:,}", f"{rows / (now - self._started):,.0f}",
            )  # fmt: skip

    def close(self) -> None:
        """Nothing to take away."""
