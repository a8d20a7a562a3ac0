"""The seam towards those who watch: an exporter shows what a run measures, and can neither slow nor fail it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from f1hbase.metrics.meter import Measurements

Read = Callable[[], Measurements]
"""Returns a copy of all that was measured so far; any thread may call it."""


class Exporter(Protocol):
    """Shows what a run measures while it goes on."""

    def start(self, read: Read) -> None:
        """Begin, in threads of its own.

        Raises:
            F1HBaseError: If it cannot begin at all, by a mistake of the settings; says which and what to do.
        """

    def close(self) -> None:
        """Show the last figures and end, within a few seconds whatever the receiver does; raises nothing."""
