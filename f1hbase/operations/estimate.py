"""What a load would take: units and requests, rows and bytes, and how long that is at the API's limits."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count as numbers
from itertools import groupby, islice
from typing import Any

from f1hbase.cli.options import Settings
from f1hbase.errors import UnreachableError
from f1hbase.model.catalog import ENDPOINTS, Slicing
from f1hbase.model.coverage import UnitState
from f1hbase.model.rates import Rate, with_margin
from f1hbase.model.text import count, duration, size
from f1hbase.model.units import MeetingPlan, Scope, Unit, Window
from f1hbase.pipeline.plan import USUAL_DRIVERS, Remaining, goes_on
from f1hbase.state.hbase.brief import all_described, measured_units
from f1hbase.state.hbase.reports import HBaseReports
from f1hbase.stores.hbase.connector import HBaseConnector, find_gateways
from f1hbase.stores.hbase.schema import Tables

_log = logging.getLogger(__name__)

_WINDOW_SECONDS = 900.0
"""The usual length of a window, by which the work of a session is counted."""

_USUAL_SESSION_SECONDS = 3600.0
"""How long a session is of which nothing is known yet: practice and qualifying are scheduled for an hour."""

_ROWS_PER_HOUR = 3_350 * 4
_BYTES_PER_ROW = 633_000 / 3_350
"""Of a driver on track, 3,350 records = 633 KB of JSON in 15 minutes (DESIGN.md, Facts about the API). Six hours of it,
twenty drivers and both endpoints are the 3.2 million that a race weekend is said to have there."""

_CSV_SHARE = 1 / 2.6
"""The size of an answer in CSV, which `--window auto` asks for, beside the same in JSON (DESIGN.md)."""

_ROWS_OF_RACE = {"intervals": 36_000}
"""What else of a session is worth counting, as long as nothing is loaded to learn from (DESIGN.md)."""

_MOST_UNITS = 20_000
"""From how many units is learnt, at most: about a quarter of a season."""

_PATIENCE_SECONDS = 10.0


def session_seconds(scope: Scope) -> float:
    """Return how long a session is, as it is scheduled."""
    if scope.date_start is None or scope.date_end is None or scope.date_end <= scope.date_start:
        return _USUAL_SESSION_SECONDS
    return (scope.date_end - scope.date_start).total_seconds()


def window_seconds(window: Window, scope: Scope) -> float:
    """Return how much of a session is in a window; an open side reaches as far as the session does."""
    if scope.date_start is None or scope.date_end is None or scope.date_end <= scope.date_start:
        if window.start is None or window.end is None:
            return _WINDOW_SECONDS if window.start or window.end else _USUAL_SESSION_SECONDS
        return (window.end - window.start).total_seconds()
    start = scope.date_start if window.start is None else max(window.start, scope.date_start)
    end = scope.date_end if window.end is None else min(window.end, scope.date_end)
    return max(0.0, (end - start).total_seconds())


def usual_requests(window: Window, scope: Scope) -> float:
    """Return how many requests a window takes for one driver, as a share of those for all of the session.

    >>> race = Scope(2024, 1240, 9558, datetime(2024, 7, 7, 14), datetime(2024, 7, 7, 16))
    >>> usual_requests(Window(None, datetime(2024, 7, 7, 14, 15)), race)
    1.0
    >>> usual_requests(Window(), race)
    8.0
    """
    seconds = session_seconds(scope)
    return math.ceil(seconds / _WINDOW_SECONDS) * min(1.0, window_seconds(window, scope) / seconds)


@dataclass(frozen=True, slots=True)
class CostModel:
    """What is learnt from the sessions already loaded; without any, what is known of OpenF1.

    Attributes:
        units: From how many units it is learnt.
        rows_per_hour: The rows of one driver in an hour of session, by endpoint cut into windows and by kind of
            session, with the kind "" for all kinds together.
        rows_per_unit: The rows of a session, by other endpoint and kind of session.
        bytes_per_row: The size of a row in an answer, by endpoint.
        requests_per_hour: With `--window auto`, how many requests an hour of one driver takes; None if unknown.
        drivers: How many drivers a session has.
    """

    units: int = 0
    rows_per_hour: Mapping[tuple[str, str], float] = field(default_factory=dict)
    rows_per_unit: Mapping[tuple[str, str], float] = field(default_factory=dict)
    bytes_per_row: Mapping[str, float] = field(default_factory=dict)
    requests_per_hour: float | None = None
    drivers: int = USUAL_DRIVERS

    def rows(self, unit: Unit) -> float:
        """Return how many rows to expect of a unit."""
        name, kind = unit.endpoint, _kind(unit.scope)
        if unit.scope.cancelled and not ENDPOINTS[name].keyed_by_year:
            return 0.0
        if ENDPOINTS[name].slicing is Slicing.WINDOWS:
            drivers = self.drivers if unit.driver is None else 1
            usual = self.rows_per_hour.get((name, ""), _ROWS_PER_HOUR)
            per_hour = self.rows_per_hour.get((name, kind), usual)
            return drivers * window_seconds(unit.window, unit.scope) / 3600 * per_hour
        rows = self.rows_per_unit.get((name, kind), _ROWS_OF_RACE.get(name, 0) if kind == "Race" else 0)
        return rows / self.drivers if unit.driver is not None else rows

    def bytes(self, unit: Unit, *, as_csv: bool) -> float:
        """Return how many bytes the answer to a unit has."""
        usual = _BYTES_PER_ROW * (_CSV_SHARE if as_csv and ENDPOINTS[unit.endpoint].numeric else 1.0)
        return self.rows(unit) * self.bytes_per_row.get(unit.endpoint, usual)

    def lines(self) -> Iterator[str]:
        """Yield what the estimates rest on, for people."""
        if not self.units:
            yield "~ is an estimate: every car on track all the time, 3,350 records or 633 KB"
            yield "  of JSON in 15 minutes. What is learnt from loaded sessions replaces it."
            return
        yield f"~ is an estimate, learnt from {count(self.units, 'unit')} already loaded."
        for (name, kind), rows in self.rows_per_hour.items():
            if not kind:
                size_of = f", {self.bytes_per_row[name]:.0f} bytes each" if name in self.bytes_per_row else ""
                yield f"  {name}: {rows:,.0f} rows of a driver in an hour{size_of}"


def _kind(scope: Scope) -> str:
    """Return what kind of session it is, such as `Practice` or `Race`."""
    return scope.name.rpartition(", ")[2].rstrip(" 0123456789")


class _Sums:
    """What units add up to."""

    def __init__(self) -> None:
        self.units = 0
        self.rows = 0.0
        self.hours = 0.0


def learn(
    states: Iterable[UnitState], known: Mapping[str, Scope], auto_runs: Collection[str], *, auto: bool
) -> CostModel:
    """Learn from units that are stored.

    Args:
        states: The units, with rows, bytes, attempts and run.
        known: The sessions they are of, with their dates; units of others teach nothing, nor do those of sessions
            that were cancelled.
        auto_runs: The runs that loaded with `--window auto`, whose answers were CSV and carried several units.
        auto: Whether the forecast is for such a load; bytes and requests are learnt only from those of its kind.
    """
    sums: dict[tuple[str, str], _Sums] = defaultdict(_Sums)
    sizes: dict[str, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    units = 0
    requests = auto_hours = 0.0
    for state in states:
        scope, endpoint = known.get(state.scope_prefix), ENDPOINTS.get(state.endpoint)
        if scope is None or scope.cancelled or endpoint is None:
            continue
        is_cut = endpoint.slicing is Slicing.WINDOWS
        if is_cut != (state.driver is not None):
            continue  # of all drivers where each has units, or of one only
        units += 1
        rows = state.stats.get("rows", 0.0)
        hours = window_seconds(state.window, scope) / 3600 if is_cut else 0.0
        for kind in {"", _kind(scope)}:
            sum_ = sums[endpoint.name, kind]
            sum_.units += 1
            sum_.rows += rows
            sum_.hours += hours
        if (state.run in auto_runs) == auto:
            size_before, rows_before = sizes[endpoint.name]
            sizes[endpoint.name] = (size_before + state.stats.get("bytes", 0.0), rows_before + rows)
            if is_cut:
                requests += state.stats.get("attempts", 0.0)
                auto_hours += hours
    entrants = sums.get(("drivers", ""), _Sums())
    return CostModel(
        units=units,
        rows_per_hour={key: sum_.rows / sum_.hours for key, sum_ in sums.items() if sum_.hours},
        rows_per_unit={key: sum_.rows / sum_.units for key, sum_ in sums.items() if not sum_.hours},
        bytes_per_row={name: size_ / rows for name, (size_, rows) in sizes.items() if rows},
        requests_per_hour=requests / auto_hours if auto and auto_hours and requests else None,
        drivers=round(entrants.rows / entrants.units) if entrants.rows else USUAL_DRIVERS,
    )


@dataclass(frozen=True, slots=True)
class SessionEstimate:
    """What loading a session (or what is of a meeting as such) would take.

    Attributes:
        units: How many units are missing.
        requests: How many requests that takes, without those that fail or are cut smaller.
        rows: How many rows to expect, always an estimate.
        bytes: How many bytes to receive, always an estimate.
        estimated: Whether units and requests are estimates: the drivers are not known yet, or sizes matter.
    """

    scope: Scope
    units: int
    requests: int
    rows: int
    bytes: int
    estimated: bool


@dataclass(frozen=True, slots=True)
class Estimate:
    """A forecast for each session, those of a meeting after what is of the meeting as such, and what it rests on.

    Attributes:
        rates: The API's limits.
    """

    forecasts: Sequence[SessionEstimate]
    costs: CostModel
    rates: Sequence[Rate]

    @property
    def sessions(self) -> list[SessionEstimate]:
        """The sessions."""
        return [item for item in self.forecasts if item.scope.session_key is not None]

    @property
    def total(self) -> SessionEstimate:
        """Everything together."""
        return SessionEstimate(
            scope=Scope(0, 0, None),
            units=sum(item.units for item in self.forecasts),
            requests=sum(item.requests for item in self.forecasts),
            rows=sum(item.rows for item in self.forecasts),
            bytes=sum(item.bytes for item in self.forecasts),
            estimated=any(item.estimated for item in self.forecasts),
        )

    @property
    def seconds(self) -> float | None:
        """How long the requests take at the least; None without limits."""
        return seconds_at(self.rates, self.total.requests)


def seconds_at(rates: Sequence[Rate], requests: float) -> float | None:
    """Return in how many seconds so many requests can be sent, as the limiter lets them; None without limits."""
    if not rates:
        return None
    return max(max(0, math.ceil(requests) - 1) // rate.limit * rate.seconds for rate in with_margin(rates))


def forecast(plan: Sequence[MeetingPlan], settings: Settings, rates: Sequence[Rate] = ()) -> Estimate:
    """Return what is missing of each session; touches nothing, and does without HBase when it is not there."""
    try:
        connector = HBaseConnector(
            find_gateways(settings.gateways, settings.hbase_transport, settings.hbase_protocol), _PATIENCE_SECONDS
        )
        tables = set(connector.tables())
    except UnreachableError as error:
        _log.warning("%s The plan is made as if nothing were loaded.", error)
        return Estimate(list(_forecasts(plan, None, settings, CostModel())), CostModel(), rates)
    names = Tables(settings.table_prefix)
    reports = HBaseReports(connector, names.reports) if names.reports in tables else None
    costs = CostModel()
    if reports is not None and names.data in tables:
        auto_runs = {run.run_id for run in reports.runs() if run.meta.get("window") == ""}
        units = measured_units(connector, names.reports, _MOST_UNITS)
        now = datetime.now(UTC)
        planned = {session.scope.prefix: session.scope for meeting in plan for session in meeting.sessions}
        # What of a session that goes on is stored says little of what it will be.
        known = {
            prefix: scope
            for prefix, scope in (planned | all_described(connector, names.data)).items()
            if not goes_on(scope, now)
        }
        costs = learn(units, known, auto_runs, auto=settings.window is None)
    estimate = Estimate(list(_forecasts(plan, reports, settings, costs)), costs, rates)
    connector.close()
    return estimate


def _forecasts(
    plan: Sequence[MeetingPlan], reports: HBaseReports | None, settings: Settings, costs: CostModel
) -> Iterator[SessionEstimate]:
    now = datetime.now(UTC)
    auto = settings.window is None
    for meeting in plan:
        states = [] if reports is None else [s for scope in meeting.scopes for s in reports.unit_states(scope)]
        remaining = Remaining(meeting, states, settings, now)
        first = remaining.first()
        # The records of meetings and sessions come with the plan.
        own = [unit for unit in first if unit.scope == meeting.scope]
        yield SessionEstimate(meeting.scope, len(own), 0, len(own), 0, estimated=False)
        for session in meeting.sessions:
            scope = session.scope
            all_known = remaining.knows_all_drivers(scope) or bool(settings.drivers)
            windows = remaining.windows(scope, supposed_drivers(scope, remaining, costs))
            mine = [unit for unit in first if unit.scope == scope]
            scouting = scope in remaining.without_drivers()
            units = [*mine, *windows]
            yield SessionEstimate(
                scope,
                units=len(units),
                requests=sum(unit.endpoint != "sessions" for unit in mine)
                + scouting
                + _requests(windows, settings, costs),
                rows=round(sum(map(costs.rows, units))),
                bytes=round(sum(costs.bytes(unit, as_csv=auto) for unit in units)),
                estimated=bool(windows) and (auto or not all_known),
            )


def supposed_drivers(scope: Scope, remaining: Remaining, costs: CostModel) -> list[int]:
    """Return numbers for the drivers that a load will find beside those known, if it has yet to ask who drove."""
    known = remaining.drivers(scope)
    if scope.cancelled or remaining.knows_all_drivers(scope):
        return []
    others = (number for number in numbers() if number not in known)
    return list(islice(others, max(0, costs.drivers - len(known))))


def _requests(windows: Sequence[Unit], settings: Settings, costs: CostModel) -> int:
    if settings.window is None and costs.requests_per_hour is not None:
        hours = sum(window_seconds(unit.window, unit.scope) for unit in windows) / 3600
        return math.ceil(hours * costs.requests_per_hour)
    from f1hbase.sources.openf1.source import (
        expected_requests,  # which brings an HTTP client that `status` has no use for
    )

    return expected_requests(windows, settings)


# --- for machines ---


def forecast_json(estimate: Estimate) -> dict[str, Any]:
    """Return everything in JSON's types; rows and bytes are always estimates."""
    seconds = estimate.seconds
    return {
        "sessions": [
            {
                "year": item.scope.year,
                "meeting_key": item.scope.meeting_key,
                "session_key": item.scope.session_key,
                "name": item.scope.name,
                "date_start": None if item.scope.date_start is None else item.scope.date_start.isoformat(),
                "cancelled": item.scope.cancelled,
                **_numbers(item),
            }
            for item in estimate.sessions
        ],
        "total": {"sessions": len(estimate.sessions), **_numbers(estimate.total)},
        "limits": [str(rate) for rate in estimate.rates],
        "seconds_at_limits": None if seconds is None else round(seconds, 1),
        "learnt_from_units": estimate.costs.units,
    }


def _numbers(item: SessionEstimate) -> dict[str, Any]:
    return {
        "units": item.units,
        "requests": item.requests,
        "units_and_requests_are_estimates": item.estimated,
        "expected_rows": item.rows,
        "expected_bytes": item.bytes,
    }


# --- for people ---

_LAYOUT = "{:<27}{:<16}{:>9}{:>9}{:>11}{:>8}"


def forecast_lines(estimate: Estimate) -> Iterator[str]:
    """Yield everything for people, at most 80 columns wide but for names."""
    yield _LAYOUT.format("session", "begins (UTC)", "units", "requests", "rows", "bytes")
    for _, one in groupby(estimate.forecasts, key=lambda item: (item.scope.year, item.scope.meeting_key)):
        meeting, *sessions = one
        missing = any(item.units for item in sessions)
        loaded = "" if missing or meeting.units else f": {count(len(sessions), 'session')}, nothing left to load"
        yield f"{meeting.scope.meeting_key} {meeting.scope.name}{loaded}"
        if not loaded:
            yield from (_line(item, estimate.costs) for item in sessions)
    total = estimate.total
    about = "about " if total.estimated else ""
    yield ""
    yield (
        f"{count(len(estimate.sessions), 'session')}, {about}{total.units:,} units "
        f"in {about}{total.requests:,} requests"
    )
    if total.rows:
        yield f"about {count(total.rows, 'row')}, about {size(total.bytes)} to receive"
    seconds = estimate.seconds
    if seconds:
        yield f"at least {duration(seconds)} at the API's limits ({','.join(map(str, estimate.rates))})"
    if total.rows:
        yield from estimate.costs.lines()
    if total.estimated:
        yield f"Units and requests suppose {estimate.costs.drivers} drivers where it is not known who drove."


def _line(item: SessionEstimate, costs: CostModel) -> str:
    scope = item.scope
    begins = f"{scope.date_start:%Y-%m-%d %H:%M}" if scope.date_start else "?"
    about = "~" if item.estimated else ""
    # Of small endpoints nobody knows how many rows they have before some are loaded.
    unknown = item.units and not scope.cancelled and not costs.units
    none = "?" if unknown else "0"
    return _LAYOUT.format(
        f"  {scope.session_key} {scope.name.rpartition(', ')[2]}"[:26],
        "cancelled" if scope.cancelled else begins,
        f"{about}{item.units:,}",
        f"{about}{item.requests:,}",
        f"~{item.rows:,}" if item.rows else none,
        f"~{size(item.bytes)}" if item.bytes else none,
    )
