"""How far a verification is: a bar on a terminal, a line a minute elsewhere."""

from __future__ import annotations

import logging
from time import monotonic
from typing import NoReturn, Protocol

from tqdm import tqdm

from f1hbase.cli.progress import terminal
from f1hbase.levels import PROGRESS
from f1hbase.model.units import Scope

_log = logging.getLogger(__name__)

_LINE_SECONDS = 60.0


class ScanDisplay(Protocol):
    """Shows how far a scan is."""

    def begin(self, scope: Scope, rows: int) -> None:
        """The next session has about so many rows."""

    def count(self, rows: int) -> None:
        """So many more have been counted."""

    def close(self) -> None:
        """All are counted."""


def make_scan_display(scopes: int) -> ScanDisplay:
    """Return a bar on a terminal and lines elsewhere."""
    return _Bar(scopes) if terminal().isatty() else _Lines(scopes)


class _Bar:
    def __init__(self, scopes: int) -> None:
        self._scopes = scopes
        self._begun = 0
        self._bar: tqdm[NoReturn] = tqdm(
            total=0, leave=False, file=terminal(), dynamic_ncols=True, unit=" rows", unit_scale=True,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} rows, {rate_fmt}",
        )  # fmt: skip

    def begin(self, scope: Scope, rows: int) -> None:
        self._begun += 1
        self._bar.reset(rows)
        name = scope.name or scope.prefix
        self._bar.set_description_str(f"{self._begun}/{self._scopes} {name[:28]:<28}")

    def count(self, rows: int) -> None:
        self._bar.total = max(self._bar.total or 0, self._bar.n + rows)
        self._bar.update(rows)

    def close(self) -> None:
        self._bar.close()


class _Lines:
    def __init__(self, scopes: int) -> None:
        self._scopes = scopes
        self._begun = 0
        self._rows = self._last_rows = 0
        self._last = monotonic()

    def begin(self, scope: Scope, rows: int) -> None:
        self._begun += 1
        self._say_when_due()

    def count(self, rows: int) -> None:
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
            PROGRESS, "session %d of %d, %s rows counted, %s rows/s",
            self._begun, self._scopes, f"{self._rows:,}", f"{rate:,.0f}",
        )  # fmt: skip
