"""What one sees of a deletion on a terminal: a bar."""

from __future__ import annotations

from typing import NoReturn, TextIO

from tqdm import tqdm

from f1hbase.operations.rollback.progress import DeletionDisplay, DeletionLines


def make_deletion_display(expected: int, stream: TextIO) -> DeletionDisplay:
    """Return a bar on a terminal and lines elsewhere, for so many rows."""
    return DeletionBar(expected, stream) if stream.isatty() else DeletionLines(expected)


class DeletionBar:
    """tqdm's bar.

    Args:
        expected: How many rows there are, as far as the reports know.
        stream: The terminal.
    """

    def __init__(self, expected: int, stream: TextIO) -> None:
        self._expected = expected
        self._bar: tqdm[NoReturn] = tqdm(
            desc="deleting", total=expected, unit=" rows", unit_scale=True, file=stream, dynamic_ncols=True,
            leave=False,
        )  # fmt: skip

    def deleted(self, rows: int) -> None:
        """Move the bar."""
        self._bar.total = max(self._expected, rows)
        self._bar.update(rows - self._bar.n)

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()
