"""How many rows, bytes and requests a unit takes: learnt from what is loaded, or what is known of Formula 1."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from f1hbase.model.catalog import ALL_ENDPOINTS, RACE
from f1hbase.model.outcomes import STORED, UnitState
from f1hbase.model.text import count
from f1hbase.model.units import Scope, Unit
from f1hbase.operations.status.judging import session_seconds, window_seconds
from f1hbase.sources.base import AskedByRequest

_DRIVERS = 20
_MOST_ROWS_PER_HOUR = _DRIVERS * 3.7 * 3600
"""Of car_data or location: twenty cars at 3.7 records a second (measured on real sessions), all the time. Six hours of
both are the 3.2 million records of a race weekend."""

_TEST_DAY_SECONDS = 3 * 3600.0
_TEST_DAY_SHARE = 0.32
"""A session of more than three hours is a day of tests, when few cars are out at a time: one of nine hours had 755,919
records of car_data, a third of what twenty cars would have made."""

_ROWS_OF_RACE = {"intervals": 36_000}
"""What else of a session is worth counting before anything is loaded to learn from."""

_LEAST_DRIVERS = 15
"""Of how many drivers there must be units, of a session loaded by driver, to learn from it what all cars make."""


@dataclass(frozen=True, slots=True)
class CostModel:
    """What is learnt from the sessions already loaded; without any, what is known of Formula 1.

    Attributes:
        units: From how many units it is learnt.
        rows_per_hour: The rows of all cars in an hour of session, by sampled endpoint and kind of session, with the
            kind "" for all kinds together.
        rows_per_unit: The rows of a session, by other endpoint and kind of session.
        bytes_per_row: The size of a row in an answer, by endpoint.
        requests_per_hour: How many requests an hour of a sampled endpoint takes where requests are sized by earlier
            answers, by endpoint and kind of session.
    """

    units: int = 0
    rows_per_hour: Mapping[tuple[str, str], float] = field(default_factory=dict)
    rows_per_unit: Mapping[tuple[str, str], float] = field(default_factory=dict)
    bytes_per_row: Mapping[str, float] = field(default_factory=dict)
    requests_per_hour: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def rows(self, unit: Unit) -> float:
        """Return how many rows to expect of a unit."""
        name, kind, scope = unit.endpoint, unit.scope.kind, unit.scope
        if scope.cancelled and name not in scope.dataset.listing:
            return 0.0
        share = 1.0 if unit.driver is None else 1 / _DRIVERS
        if ALL_ENDPOINTS[name].sampled:
            is_test_day = session_seconds(scope) > _TEST_DAY_SECONDS
            usual = _MOST_ROWS_PER_HOUR * (_TEST_DAY_SHARE if is_test_day else 1.0)
            if not is_test_day:  # of which the usual sessions say nothing
                usual = self.rows_per_hour.get((name, ""), usual)
            per_hour = self.rows_per_hour.get((name, _kind(scope)), usual)
            return window_seconds(unit.window, scope) / 3600 * per_hour * share
        if scope.year < ALL_ENDPOINTS[name].first_year:
            return 0.0
        unknown = ALL_ENDPOINTS[name].usual_records or (_ROWS_OF_RACE.get(name, 0) if kind == RACE else 0)
        return self.rows_per_unit.get((name, _kind(scope)), unknown) * share

    def bytes(self, unit: Unit, source: AskedByRequest | None) -> float:
        """Return how many bytes to receive for a unit; none where no API is asked."""
        if source is None:
            return 0.0
        per_row = self.bytes_per_row.get(unit.endpoint)
        return self.rows(unit) * (source.bytes_per_record(unit.endpoint) if per_row is None else per_row)

    def requests(self, units: Sequence[Unit], source: AskedByRequest | None) -> int:
        """Return how many requests units take; none where no API is asked."""
        if source is None:
            return 0
        most = source.requests(units)
        if not source.learns_sizes or not self.requests_per_hour:
            return most
        spans = [unit for unit in units if ALL_ENDPOINTS[unit.endpoint].sampled]
        others = [unit for unit in units if not ALL_ENDPOINTS[unit.endpoint].sampled]
        learnt = sum(self._requests(unit, source) for unit in spans)
        return min(most, source.requests(others) + math.ceil(learnt))

    def _requests(self, unit: Unit, source: AskedByRequest) -> float:
        per_hour = self.requests_per_hour.get((unit.endpoint, _kind(unit.scope)))
        if per_hour is None or unit.driver is not None:
            return source.requests([unit])
        return max(1.0, per_hour * window_seconds(unit.window, unit.scope) / 3600)

    def lines(self, *, measured: bool = True) -> Iterator[str]:
        """Yield what the estimates rest on, for people.

        Args:
            measured: Whether there are sessions with samples among what is estimated.
        """
        if not self.units and not measured:
            yield "~ is an estimate, by what races usually have. What is learnt from loaded ones replaces it."
            return
        if not self.units:
            yield "~ is an estimate: twenty cars at 3.7 records a second each all the time, the most there"
            yield "  can be (of a day of tests a third). What is learnt from loaded sessions replaces it."
            return
        yield f"~ is an estimate, learnt from {count(self.units, 'unit')} already loaded."
        for (name, kind), rows in self.rows_per_hour.items():
            if not kind:
                size_of = f", {self.bytes_per_row[name]:.0f} bytes each" if name in self.bytes_per_row else ""
                yield f"  {name}: {rows:,.0f} rows of all cars in an hour{size_of}"


@dataclass(slots=True)
class _Sums:
    """What the units of an endpoint add up to, in one session or in all of a kind."""

    units: int = 0
    rows: float = 0.0
    hours: float = 0.0
    requests: float = 0.0

    def add(self, other: _Sums) -> None:
        self.units += other.units
        self.rows += other.rows
        self.hours += other.hours
        self.requests += other.requests


def learn(states: Iterable[UnitState], known: Mapping[str, Scope], sized_runs: Collection[str]) -> CostModel:
    """Learn from units that are stored.

    Args:
        states: The units, with rows, bytes, attempts and run.
        known: The sessions they are of, with their dates; units of others teach nothing, nor do those of sessions
            that were cancelled.
        sized_runs: The runs whose requests were sized by earlier answers; requests are learnt from those alone.
    """
    by_session: dict[tuple[str, str], dict[int | None, _Sums]] = defaultdict(lambda: defaultdict(_Sums))
    sizes: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    units = 0
    for state in states:
        scope, endpoint = known.get(state.scope_prefix), ALL_ENDPOINTS.get(state.endpoint)
        if scope is None or scope.cancelled or endpoint is None or state.status not in STORED:
            continue
        if state.driver is not None and not endpoint.sampled:
            continue  # of one driver where there are usually all
        units += 1
        rows = state.stats.get("rows", 0.0)
        hours = window_seconds(state.window, scope) / 3600 if endpoint.sampled else 0.0
        requests = state.stats.get("attempts", 0.0) if state.run in sized_runs else math.nan
        by_session[endpoint.name, scope.prefix][state.driver].add(_Sums(1, rows, hours, requests))
        if size := state.stats.get("bytes", 0.0):
            sizes[endpoint.name][0] += size
            sizes[endpoint.name][1] += rows
    by_kind: dict[tuple[str, str], _Sums] = defaultdict(_Sums)
    for (name, prefix), by_driver in by_session.items():
        whole = _of_all_cars(by_driver)
        if whole is not None:
            for kind in {"", _kind(known[prefix])}:
                by_kind[name, kind].add(whole)
    sampled = {key: sums for key, sums in by_kind.items() if sums.hours}
    return CostModel(
        units=units,
        rows_per_hour={key: sums.rows / sums.hours for key, sums in sampled.items()},
        rows_per_unit={key: sums.rows / sums.units for key, sums in by_kind.items() if not sums.hours},
        bytes_per_row={name: size / rows for name, (size, rows) in sizes.items() if rows},
        requests_per_hour={key: sums.requests / sums.hours for key, sums in sampled.items() if sums.requests > 0},
    )


def _of_all_cars(by_driver: Mapping[int | None, _Sums]) -> _Sums | None:
    """Return what all cars of a session made; None if only some were asked for."""
    if None in by_driver:
        return by_driver[None]
    if len(by_driver) < _LEAST_DRIVERS:
        return None
    every = list(by_driver.values())
    return _Sums(1, sum(one.rows for one in every), max(one.hours for one in every), math.nan)


def _kind(scope: Scope) -> str:
    """Return what sessions of a kind have in common: their name without its number, such as `Practice` or `Sprint`."""
    name = scope.name.rpartition(", ")[2].rstrip(" 0123456789")
    return f"{name}, long" if session_seconds(scope) > _TEST_DAY_SECONDS else name
