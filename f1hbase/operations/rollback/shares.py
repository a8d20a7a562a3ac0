"""What of a session is a run's, and what is others'; knows no store.

Windows of other lengths, or other drivers, make units of other runs that speak of the same rows. What such a unit has
stored later stays. Where the run came later, it wrote over the rows: they are deleted, and the earlier unit counts as
failed, so that it is asked for again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from f1hbase.model.catalog import Endpoint
from f1hbase.model.coverage import subtract
from f1hbase.model.outcomes import Status, UnitState
from f1hbase.model.samples import Record
from f1hbase.model.times import parse_time
from f1hbase.model.units import ALL_TIME, Scope, Window

BEING_ROLLED_BACK = "being rolled back"
"""The error of a unit whose rows may be deleted already; its other cells stay, so that it is found again."""


@dataclass(frozen=True, slots=True)
class Line:
    """A unit's line in the reports.

    Attributes:
        key: Its key.
        state: What it says.
    """

    key: str
    state: UnitState


@dataclass(frozen=True, slots=True)
class Share:
    """What a run has loaded of a session (or of a meeting as such), and what others have.

    Attributes:
        scope: The session.
        mine: The run's lines, as they were written.
        others: All others, those of an older epoch as failed.
    """

    scope: Scope
    mine: Sequence[Line]
    others: Sequence[Line]

    def overwritten(self) -> Iterator[Line]:
        """Yield the units of others that have rows which this run wrote over."""
        for other in self.others:
            if other.state.status is not Status.FAILED and any(
                _overlap(mine.state, other.state) and not _keeps(other.state, mine.state) for mine in self.mine
            ):
                yield other

    def rows_of(self, endpoint: Endpoint) -> OwnRows:
        """Return which rows of an endpoint are the run's."""
        mine, others = (
            [line.state for line in lines if line.state.endpoint == endpoint.name] for lines in (self.mine, self.others)
        )
        return OwnRows(mine, others)


class OwnRows:
    """Which rows of an endpoint in a session are those of some units, and not of others that have stored them later.

    Args:
        mine: The units.
        others: All other units of the endpoint and session.
    """

    def __init__(self, mine: Sequence[UnitState], others: Sequence[UnitState]) -> None:
        self._mine = mine
        self._others = others
        self._windows: dict[int | None, list[Window]] = {}

    @property
    def drivers(self) -> frozenset[int] | None:
        """The drivers whose rows they are; None if they may be anybody's."""
        drivers = {unit.driver for unit in self._mine}
        return None if None in drivers else frozenset(driver for driver in drivers if driver is not None)

    def hold(self, record: Record) -> bool:
        """Return whether a record, of which the fields in its key suffice, is one of the units'."""
        windows = self._of_driver(record.get("driver_number"))
        if windows == [ALL_TIME]:
            return True
        try:
            moment = parse_time(record["date"])
        except (KeyError, ValueError):
            return False  # without a time, nobody can say whether it is another unit's
        return any(moment in window for window in windows)

    def _of_driver(self, driver: int | None) -> list[Window]:
        if driver not in self._windows:
            pieces = [
                piece
                for unit in self._mine
                if unit.driver in {None, driver}
                for piece in subtract(
                    unit.window,
                    [other.window for other in self._others if other.driver in {None, driver} and _keeps(other, unit)],
                )
            ]
            self._windows[driver] = pieces if subtract(ALL_TIME, pieces) else [ALL_TIME]
        return self._windows[driver]


def _overlap(one: UnitState, other: UnitState) -> bool:
    """Return whether two units of a session speak of the same rows."""
    if one.endpoint != other.endpoint or not (one.driver == other.driver or None in {one.driver, other.driver}):
        return False
    return one.window.overlaps(other.window)


def _keeps(other: UnitState, unit: UnitState) -> bool:
    """Return whether the rows that both units speak of are another's: it is stored, and this one not, or earlier."""
    if other.status is Status.FAILED:
        return False
    if unit.status is Status.FAILED and unit.error != BEING_ROLLED_BACK:
        return True
    return other.fetched is not None and unit.fetched is not None and other.fetched > unit.fetched
