"""Which records leave quarantine when their units are stored again without them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from f1hbase.model.coverage import subtract
from f1hbase.model.outcomes import Quarantined
from f1hbase.model.units import Scope, Unit, Window, parse_unit_key
from f1hbase.state.base import State, quarantine_key


@dataclass(slots=True)
class _Endpoint:
    """What was in quarantine of an endpoint and session when its first unit was stored again.

    Attributes:
        earlier: The keys, by the driver and window of the unit that they came with.
        stored: What has been stored again since, by driver.
        bad: The keys that have been found bad again.
    """

    earlier: dict[tuple[int | None, Window], set[str]] = field(default_factory=dict)
    stored: dict[int | None, list[Window]] = field(default_factory=dict)
    bad: set[str] = field(default_factory=set)

    def release(self, unit: Unit) -> set[str]:
        """Return what is good by now that all of a unit is stored again."""
        self.stored.setdefault(unit.driver, []).append(unit.window)
        everybody = self.stored.get(None, [])
        over = [
            (driver, window)
            for driver, window in self.earlier
            if not subtract(window, [*everybody, *(self.stored.get(driver, []) if driver is not None else [])])
        ]
        return {key for place in over for key in self.earlier.pop(place)} - self.bad


class QuarantineIndex:
    """What one destination has in quarantine, read when the first unit of an endpoint and session is stored again.

    Args:
        state: The destination's.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._endpoints: dict[tuple[Scope, str], _Endpoint] = {}

    def release(self, unit: Unit, still_bad: Collection[Quarantined]) -> None:
        """Delete the records whose units have been stored again, this one being the last, without them.

        Their units may have had other windows or drivers than those of now.
        """
        where = (unit.scope, unit.endpoint)
        if where not in self._endpoints:
            found = self._endpoints[where] = _Endpoint()
            for key, unit_key in self._state.quarantined(unit.scope, unit.endpoint):
                _, _, driver, window = parse_unit_key(unit_key)
                found.earlier.setdefault((driver, window), set()).add(key)
        endpoint = self._endpoints[where]
        endpoint.bad |= {quarantine_key(record) for record in still_bad}
        good = endpoint.release(unit)
        if good:
            self._state.delete_quarantine(good)
