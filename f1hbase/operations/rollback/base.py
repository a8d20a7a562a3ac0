"""What a rollback is: what is meant, how much that is, and what each kind of store can do about it; knows no store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from f1hbase.errors import F1HBaseError
from f1hbase.model.text import count
from f1hbase.model.units import SEPARATOR, Scope
from f1hbase.operations.rollback.progress import DeletionDisplay, DeletionLines

_SHOWN_SESSIONS = 20


class NothingToRollBackError(F1HBaseError):
    """There is no such run, session or meeting."""

    exit_code = 2


class BeingLoadedError(F1HBaseError):
    """Somebody loads what is to be rolled back."""


@dataclass(frozen=True, slots=True)
class Target:
    """What to roll back: a run, or sessions, or meetings; one of the three."""

    run: str = ""
    sessions: Sequence[int] = ()
    meetings: Sequence[int] = ()

    def __str__(self) -> str:
        if self.run:
            return f"run {self.run}"
        keys = self.sessions or self.meetings
        return f"{'session' if self.sessions else 'meeting'}{'s' * (len(keys) > 1)} {', '.join(map(str, keys))}"


@dataclass(slots=True)
class Extent:
    """How much is to be deleted, as far as the reports know.

    Attributes:
        meetings: The meetings concerned.
        units: How many units there are of each session, by scope prefix.
        rows: How many rows they stored, by scope prefix and endpoint.
        quarantined: How many records are in quarantine.
        notes: What else to know before it is deleted.
    """

    meetings: set[Scope] = field(default_factory=set)
    units: Counter[str] = field(default_factory=Counter)
    rows: Counter[tuple[str, str]] = field(default_factory=Counter)
    quarantined: int = 0
    notes: list[str] = field(default_factory=list)

    def add(self, prefix: str, endpoint: str, rows: float) -> None:
        """Count a unit."""
        self.units[prefix] += 1
        self.rows[prefix, endpoint] += int(rows)

    def lines(self) -> Iterator[str]:
        """Yield it for people."""
        by_session, by_endpoint = Counter[str](), Counter[str]()
        for (prefix, endpoint), rows in self.rows.items():
            by_session[prefix] += rows
            by_endpoint[endpoint] += rows
        layout = "{:<6}{:>8}{:>9}{:>8}{:>13}"
        if self.units:
            yield layout.format("season", "meeting", "session", "units", "rows")
        for prefix in islice(sorted(self.units), _SHOWN_SESSIONS):
            yield layout.format(*prefix.split(SEPARATOR), f"{self.units[prefix]:,}", f"{by_session[prefix]:,}")
        if len(self.units) > _SHOWN_SESSIONS:
            yield f"... and {count(len(self.units) - _SHOWN_SESSIONS, 'session')} more"
        yield f"{count(self.units.total(), 'unit')}, {count(self.quarantined, 'record')} in quarantine"
        endpoints = ", ".join(f"{name} {rows:,}" for name, rows in by_endpoint.most_common() if rows)
        yield f"{count(by_endpoint.total(), 'row')}{f': {endpoints}' if endpoints else ''}"
        yield from self.notes


class Rollback(Protocol):
    """What is to be deleted in one store, once it has been found; nothing is deleted before `carry_out`."""

    @property
    def extent(self) -> Extent:
        """How much it is."""

    def describe(self) -> Iterator[str]:
        """Yield what will be deleted, for people."""

    def refuse_if_being_loaded(self) -> None:
        """Refuse to delete what somebody writes at the same time.

        Raises:
            BeingLoadedError: Naming who does.
        """

    def carry_out(self, show: Callable[[int], DeletionDisplay] = DeletionLines) -> None:
        """Delete it; what a failure or a kill leaves, a load loads again or the same rollback deletes.

        Args:
            show: Makes what shows how it goes, given how many rows are expected.

        Raises:
            BeingLoadedError: If somebody has begun to load it.
            UnreachableError: If the store is away longer than patience lasts.
        """

    def close(self) -> None:
        """Close all connections."""
