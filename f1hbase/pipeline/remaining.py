"""What of a meeting is still to be loaded, and into which destinations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from f1hbase.model.catalog import ALL_ENDPOINTS
from f1hbase.model.coverage import Coverage, subtract, union
from f1hbase.model.outcomes import STORED, UnitState
from f1hbase.model.plans import MeetingPlan, Selection
from f1hbase.model.units import ALL_TIME, Scope, Unit, Window


class Remaining:
    """What of a meeting is still to be loaded.

    Args:
        meeting: What was asked for.
        states: The units known of its sessions, in each destination.
        selection: The endpoints and drivers asked for.
        now: The present.
        keeps_answers: For each destination whether it is one that is loaded from again: what lists the sessions goes
            there whatever is asked for, as without it nobody would know what there is; it costs no request.
        refresh: The run in which all remains that it has not stored itself; empty where what is done counts.
    """

    def __init__(
        self,
        meeting: MeetingPlan,
        states: Sequence[Iterable[UnitState]],
        selection: Selection,
        now: datetime,
        refresh: str = "",
        keeps_answers: Sequence[bool] = (),
    ) -> None:
        self._meeting = meeting
        self._dataset = meeting.scope.dataset
        self._keeps_answers = keeps_answers or [False] * len(states)
        self._selection = selection
        self._now = now
        self._refresh = refresh
        self._states: list[dict[Unit, UnitState]] = []
        self._stored: list[dict[Scope, Coverage]] = []
        self._done: list[dict[Scope, Coverage]] = []
        for some in states:
            known = list(some)
            self._states.append(_by_unit(known, meeting.scopes))
            done = [state for state in known if state.run == refresh] if refresh else known
            self._stored.append({scope: Coverage(scope, known, now) for scope in meeting.scopes})
            self._done.append({scope: Coverage(scope, done, now) for scope in meeting.scopes})

    def units(self) -> list[Unit]:
        """Return what is missing in any destination; of samples as spans of time that a source may cut smaller."""
        missing: list[Unit] = []
        for unit in self._requested():
            pieces = [
                piece
                for place, done in enumerate(self._done)
                if self._wants(place, unit.endpoint)
                for piece in done[unit.scope].missing(unit)
            ]
            windows = union(piece.window for piece in pieces) if pieces else []
            missing += [replace(unit, window=window) for window in self._begun(unit, windows)]
        return missing

    def lacking(self, unit: Unit) -> list[bool]:
        """Return for each destination whether it lacks any of a unit."""
        return [
            self._wants(place, unit.endpoint) and bool(done[unit.scope].missing(unit))
            for place, done in enumerate(self._done)
        ]

    def _wants(self, place: int, endpoint: str) -> bool:
        return endpoint in self._selection.endpoints or (
            self._keeps_answers[place] and endpoint in self._dataset.listing
        )

    def may_be_stored(self, destination: int, unit: Unit) -> bool:
        """Return whether records of a unit may be in a destination already, so that what has become null must go."""
        return self._stored[destination][unit.scope].overlaps_stored(unit)

    def validators(self, source: str) -> dict[Unit, str]:
        """Return what units were made of that are stored from a source wherever they are lacking now.

        They are lacking as they are to be asked for once more; nothing, if all is to be loaded again.
        """
        if self._refresh:
            return {}
        found: dict[Unit, str] = {}
        for unit in {unit for states in self._states for unit, state in states.items() if state.validator}:
            places = [place for place, lacking in enumerate(self.lacking(unit)) if lacking]
            states = [self._states[place].get(unit) for place in places]
            stored = [state for state in states if state is not None and state.status in STORED]
            made_of = {(state.source, state.validator) for state in stored}
            if places and len(stored) == len(places) and len(made_of) == 1:
                ((name, validator),) = made_of
                if name == source and validator:
                    found[unit] = validator
        return found

    def _requested(self) -> Iterator[Unit]:
        """Yield the units that the selection means, small endpoints first; of some sessions only what is due again."""
        listing = self._dataset.listing if any(self._keeps_answers) else ()
        for name in dict.fromkeys((*listing, *self._selection.endpoints)):
            endpoint = ALL_ENDPOINTS[name]
            if endpoint.dataset is not self._dataset:
                continue
            drivers: Sequence[int | None] = (None,)
            if endpoint.by_driver and self._selection.drivers:
                drivers = self._selection.drivers
            for scope in [self._meeting.scope] if endpoint.of_meeting else self._meeting.scopes[1:]:
                if self._only_settles(scope):
                    yield from self._due(name, scope)
                else:
                    yield from (Unit(name, scope, driver) for driver in drivers)

    def _only_settles(self, scope: Scope) -> bool:
        if scope.session_key is None:
            return len(self._meeting.sessions_to_settle) == len(self._meeting.sessions)
        return scope.session_key in self._meeting.sessions_to_settle

    def _due(self, endpoint: str, scope: Scope) -> Iterator[Unit]:
        due: dict[int | None, list[Window]] = {}
        # Of all that is stored: with refresh, what is done is only what this run has stored itself.
        for stored in self._stored:
            for state in stored[scope].due(endpoint):
                if not self._selection.drivers or state.driver in self._selection.drivers or state.driver is None:
                    due.setdefault(state.driver, []).append(state.window)
        for driver, windows in due.items():
            yield from (Unit(endpoint, scope, driver, window) for window in union(windows))

    def _begun(self, unit: Unit, windows: list[Window]) -> list[Window]:
        """Return windows but for the time to come, while a session goes on: samples of that are left to a later run."""
        if not ALL_ENDPOINTS[unit.endpoint].sampled or not unit.scope.goes_on(self._now):
            return windows
        to_come = Window(self._now.replace(microsecond=0), None)
        return [piece for window in windows for piece in subtract(window, [to_come]) if piece != ALL_TIME]


def _by_unit(states: Iterable[UnitState], scopes: Iterable[Scope]) -> dict[Unit, UnitState]:
    """Return states by what was asked for."""
    scope_of = {scope.prefix: scope for scope in scopes}
    return {
        Unit(state.endpoint, scope_of[state.scope_prefix], state.driver, state.window): state
        for state in states
        if state.scope_prefix in scope_of
    }
