"""The counts of a run, and of one meeting in it; knows nothing of how they are shown."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field, replace

from f1hbase.metrics import names
from f1hbase.metrics.meter import Meter
from f1hbase.model.coverage import subtract
from f1hbase.model.outcomes import Outcome
from f1hbase.model.units import Unit, Window


@dataclass(slots=True)
class Tally:
    """The counts of a run, or of one meeting in it.

    Attributes:
        meter: The same by endpoint, and what the workers have measured besides; only of the whole run.
    """

    planned: int = 0
    stored: int = 0
    records: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    quarantined: int = 0
    bytes: int = 0
    requests: int = 0
    retries: int = 0
    failures: dict[Unit, str] = field(default_factory=dict)
    sessions: set[str] = field(default_factory=set)
    meter: Meter | None = field(default=None, repr=False, compare=False)
    _left: dict[Unit, list[Window]] = field(default_factory=dict, repr=False)  # of failures of which a part is stored

    @property
    def failed(self) -> int:
        """How many units have failed and were not loaded by a second try."""
        return len(self.failures)

    @property
    def ended(self) -> int:
        """How many units are stored or have failed."""
        return self.stored + self.failed

    @property
    def all_rows(self) -> int:
        """The rows of all endpoints."""
        return self.rows.total()

    def add(self, outcome: Outcome) -> None:
        """Count one unit."""
        self.bytes += outcome.stats.bytes
        self.requests += outcome.stats.requests
        self.retries += outcome.stats.retries
        self._measure(outcome)
        if outcome.error is not None:
            # Thousands of units may fail for the same reason, which each has sent in words of its own.
            self.failures[outcome.unit] = sys.intern(outcome.error)
            self._left.pop(outcome.unit, None)
            return
        self.quarantined += outcome.quarantined
        self._settle_failures(outcome.unit)
        self.stored += 1
        self.records += outcome.records
        self.duplicates += outcome.duplicates
        self.rows[outcome.unit.endpoint] += outcome.rows
        if outcome.unit.scope.session_key is not None:
            self.sessions.add(outcome.unit.scope.prefix)

    def _measure(self, outcome: Outcome) -> None:
        if self.meter is None:
            return
        endpoint = outcome.unit.endpoint
        self.meter.count(names.UNITS, 1, endpoint, "stored" if outcome.error is None else "failed")
        self.meter.count(names.BYTES, outcome.stats.bytes, endpoint)
        if outcome.error is None:
            self.meter.count(names.RECORDS, outcome.records, endpoint)
            self.meter.count(names.ROWS, outcome.rows, endpoint)
            self.meter.count(names.DUPLICATES, outcome.duplicates, endpoint)
            self.meter.count(names.QUARANTINED, outcome.quarantined, endpoint)

    def _settle_failures(self, stored: Unit) -> None:
        """Take away the failures of which all is stored by now; a second try may cut windows of other lengths."""
        if not self.failures:
            return
        for unit in [unit for unit in self.failures if replace(unit, window=stored.window) == stored]:
            before = self._left.pop(unit, [unit.window])
            left = [piece for window in before for piece in subtract(window, [stored.window])]
            if not left:
                del self.failures[unit]
            elif left != [unit.window]:
                self._left[unit] = left
