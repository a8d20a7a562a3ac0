"""The leases of a run in each of its destinations: two loads never write the same meeting into one place at a time."""

from __future__ import annotations

from collections.abc import Sequence

from f1hbase.errors import F1HBaseError
from f1hbase.model.units import Scope
from f1hbase.state.base import Epochs, Leases


class AllLeases:
    """Leases of several places, held all or none; see `f1hbase.state.base.Leases`.

    They are taken in the order of the places' names, whatever order they were given in, so that of two loads into the
    same places one has all and the other waits with none.

    Args:
        places: The name of each place and the leases there, in the order of the destinations.
    """

    def __init__(self, places: Sequence[tuple[str, Leases]]) -> None:
        self._places = [leases for _, leases in places]
        self._in_order = [leases for _, leases in sorted(places, key=lambda place: place[0])]

    def take(self, meeting: Scope) -> str | None:
        """Take the lease of a meeting in each place; return who else holds one, None when all are ours now."""
        taken: list[Leases] = []
        try:
            for leases in self._in_order:
                other = leases.take(meeting)
                if other is not None:
                    self._give_back(taken, meeting)
                    return other
                taken.append(leases)
        except F1HBaseError:
            self._give_back(taken, meeting)
            raise
        return None

    def epochs(self, meeting: Scope) -> list[Epochs]:
        """Return the epochs of a meeting whose leases are held, of each destination, as they were when it was taken."""
        return [leases.epochs(meeting) for leases in self._places]

    def name_worker(self, meeting: Scope, pid: int) -> None:
        """Say which process loads the meeting, so that it counts as held while that one lives."""
        for leases in self._places:
            leases.name_worker(meeting, pid)

    def give_back(self, meeting: Scope) -> None:
        """Let others load the meeting, in each place that can be told of it.

        Raises:
            F1HBaseError: If one cannot; the lease there then ends with this process, or runs out.
        """
        failure = self._give_back(self._places, meeting)
        if failure is not None:
            raise failure

    def lost(self, meeting: Scope) -> bool:
        """Return whether a lease that was taken is held no longer in one of the places."""
        return any(leases.lost(meeting) for leases in self._places)

    def renew(self) -> None:
        """Make all leases that are held last longer; any thread may call it."""
        failure: F1HBaseError | None = None
        for leases in self._places:
            try:
                leases.renew()
            except F1HBaseError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    @staticmethod
    def _give_back(places: list[Leases], meeting: Scope) -> F1HBaseError | None:
        failure: F1HBaseError | None = None
        for leases in places:
            try:
                leases.give_back(meeting)
            except F1HBaseError as error:
                failure = failure or error
        return failure
