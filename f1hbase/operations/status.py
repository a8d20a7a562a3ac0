"""What is loaded, what failed and why, and how long the rest takes, by season, meeting and session."""

from __future__ import annotations

import math
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby, pairwise
from typing import Any, TextIO

from f1hbase.cli.options import Settings
from f1hbase.errors import F1HBaseError, UnreachableError
from f1hbase.model.catalog import ENDPOINTS, Endpoint, Slicing
from f1hbase.model.coverage import Coverage, Status, UnitState, subtract
from f1hbase.model.rates import Rate
from f1hbase.model.text import count, duration
from f1hbase.model.units import ALL_TIME, Scope, Unit, Window, parse_time
from f1hbase.operations.estimate import seconds_at, usual_requests
from f1hbase.operations.verify.scope import RequestedScope, expected_drivers, known_drivers, requested_scopes
from f1hbase.pipeline.plan import USUAL_DRIVERS
from f1hbase.state.hbase.brief import all_described, endpoints_of, parse_scope, units_in_brief, units_since
from f1hbase.state.hbase.leases import lease_of
from f1hbase.state.hbase.reports import HBaseReports, RunState
from f1hbase.stores.hbase.codec import SEPARATOR
from f1hbase.stores.hbase.connector import HBaseConnector, find_gateways
from f1hbase.stores.hbase.schema import Tables

_DONE = (Status.DONE, Status.PROVISIONAL)
_LONG_AGO = datetime.min.replace(tzinfo=UTC)

_PACE_SPAN = timedelta(minutes=5)
"""The time over which the pace of a running load is taken."""

_LINES_WITHOUT_FOLDING = 30
"""With more sessions than this, those of meetings that are complete are told in one line."""

_SHOWN_REASONS = 20
_WATCH_SECONDS = 5.0
_PATIENCE_SECONDS = 10.0


@dataclass(slots=True)
class ScopeStatus:
    """How a session (or a meeting as such, with session key None) stands; without any key, what belongs to none.

    Attributes:
        name: What people call it, as far as its own row in the table says it.
        date_start: When it begins, as far as that row says it.
        units: How many units there are of each status; failures that a later run made good are not counted.
        rows: The rows stored, by endpoint.
        quarantined: How many records are in quarantine, by endpoint.
        failures: Each unit that failed, with the reason.
        asked: What was asked for, counted in requests: a unit, or a driver's quarter of an hour of car or location
            data, is one.
        left: What of that is not done.
    """

    year: int | None
    meeting_key: int | None
    session_key: int | None
    name: str = ""
    date_start: datetime | None = None
    units: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    quarantined: dict[str, int] = field(default_factory=dict)
    failures: list[tuple[str, str]] = field(default_factory=list)
    asked: float = 0.0
    left: float = 0.0

    @property
    def place(self) -> tuple[str, ...]:
        """Year, meeting and session as text, with `-` for what is not known."""
        return tuple("-" if key is None else str(key) for key in (self.year, self.meeting_key, self.session_key))

    def as_json(self) -> dict[str, Any]:
        """Return it in JSON's types."""
        return {
            "year": self.year,
            "meeting_key": self.meeting_key,
            "session_key": self.session_key,
            "name": self.name,
            "date_start": None if self.date_start is None else self.date_start.isoformat(),
            "percent_done": _percent(self.asked, self.left),
            "units": dict(self.units),
            "rows": dict(self.rows),
            "quarantined": self.quarantined,
            "failures": [{"unit": unit, "reason": reason} for unit, reason in self.failures],
        }


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a load goes: what it has done in the last minutes, counted in requests, and how long that took.

    Attributes:
        done: What was done.
        seconds: In how many seconds.
    """

    done: float
    seconds: float

    @property
    def per_minute(self) -> float:
        """What is done in a minute."""
        return 60 * self.done / self.seconds if self.seconds > 0 else 0.0


@dataclass(slots=True)
class Overview:
    """Everything that `status` tells.

    Attributes:
        scopes: The meetings and sessions, in the order of their keys.
        runs: The runs, the latest first.
        loading: Who loads now, and which meetings.
        pace: How fast that goes; None while nobody loads, or has only begun.
        rates: The API's limits.
    """

    scopes: list[ScopeStatus]
    runs: list[RunState] = field(default_factory=list)
    loading: dict[str, list[int]] = field(default_factory=dict)
    pace: Pace | None = None
    rates: Sequence[Rate] = ()

    @property
    def left(self) -> float:
        """What is not done of what was asked for, counted in requests."""
        return sum(scope.left for scope in self.scopes)

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes: at the pace of the run that loads now, otherwise at the API's limits."""
        if not self.left:
            return 0.0
        if self.pace is not None and self.pace.done:
            return self.left / self.pace.per_minute * 60
        return seconds_at(self.rates, self.left)


class StatusReader:
    """Reads how an installation stands, again and again on one connection.

    Args:
        settings: Where HBase is, and which years, meetings and sessions; by default all.
        rates: The API's limits.

    Raises:
        F1HBaseError: If there are no reports.
    """

    def __init__(self, settings: Settings, rates: Sequence[Rate] = ()) -> None:
        gateways = find_gateways(settings.gateways, settings.hbase_transport, settings.hbase_protocol)
        self._settings = settings
        self._rates = rates
        self._connector = HBaseConnector(gateways, _PATIENCE_SECONDS)
        self._second = HBaseConnector(gateways, _PATIENCE_SECONDS, preferred=1)
        self._tables = Tables(settings.table_prefix)
        self._reports = HBaseReports(self._connector, self._tables.reports)
        self._reports.check_there()

    def read(self) -> Overview:
        """Return how everything stands now.

        Raises:
            F1HBaseError: If a year or key was given of which nothing is known, or HBase does not answer.
        """
        runs = self._reports.runs()
        there = self._tables.data in self._connector.tables()
        known = all_described(self._connector, self._tables.data) if there else {}
        states = units_in_brief(self._connector, self._second, self._tables.reports, known)
        scopes = read_status(states, self._reports.quarantined(), runs, known)
        loading, pace = self._loading(runs, known)
        return Overview(self._selected(scopes), runs, loading, pace, self._rates)

    def _loading(
        self, runs: Sequence[RunState], known: Mapping[str, Scope]
    ) -> tuple[dict[str, list[int]], Pace | None]:
        """Return who loads now, and how fast."""
        loading: dict[str, list[int]] = defaultdict(list)
        for meeting in leased(self._connector, self._tables.reports):
            lease = lease_of(self._connector, self._tables.reports, meeting)
            if lease is not None:
                loading[str(lease)].append(meeting.meeting_key)
        if not loading:
            return {}, None
        now = datetime.now(UTC)
        began = max((moment for run in runs[:1] if (moment := _moment(run.meta.get("start")))), default=_LONG_AGO)
        since = max(began, now - _PACE_SPAN)
        fetched = units_since(self._connector, self._tables.reports, since)
        done = sum(_weight(state, known.get(state.scope_prefix)) for state in fetched)
        return dict(loading), Pace(done, (now - since).total_seconds())

    def _selected(self, scopes: Sequence[ScopeStatus]) -> list[ScopeStatus]:
        wanted = [scope for scope in scopes if self._settings.chooses(scope)]
        unknown = self._settings.unmet(wanted)
        if unknown:
            raise F1HBaseError(
                f"'{self._tables.reports}' knows nothing of {', '.join(unknown)}; 'status' alone shows all it knows."
            )
        return wanted


def leased(connector: HBaseConnector, table: str) -> Iterator[Scope]:
    """Yield the meetings that are or were being loaded: those that have a lease, however old."""
    for key, _ in connector.scan(table, f"lease{SEPARATOR}".encode()):
        scope = parse_scope(f"{key.decode(errors='replace').partition(SEPARATOR)[2]}{SEPARATOR}-")
        if scope is not None:
            yield scope


def read_status(
    states: Iterable[UnitState],
    quarantined: Mapping[tuple[str, str], int],
    runs: Sequence[RunState] = (),
    known: Mapping[str, Scope] | None = None,
) -> list[ScopeStatus]:
    """Return how each session and meeting stands, in the order of the keys.

    Args:
        states: Every unit of the reports.
        quarantined: How many records are in quarantine, by scope prefix and endpoint.
        runs: What was asked for.
        known: Names and dates, by scope prefix.
    """
    by_scope: dict[str, list[UnitState]] = defaultdict(list)
    for state in states:
        by_scope[state.scope_prefix].append(state)
    aside: dict[str, dict[str, int]] = defaultdict(dict)
    for (prefix, endpoint), number in quarantined.items():
        aside[prefix][endpoint] = number
    asked = requested_scopes((run.run_id, run.meta) for run in runs)
    prefixes = sorted(
        {*by_scope, *aside, *asked}, key=lambda prefix: [_number(part) or 0 for part in prefix.split(SEPARATOR)]
    )
    found = []
    for prefix in prefixes:
        scope = (known or {}).get(prefix) or parse_scope(prefix)
        if scope is None:
            found.append(ScopeStatus(None, None, None, quarantined=aside[prefix]))
            continue
        found.append(_scope_status(scope, by_scope[prefix], asked.get(prefix, ()), aside[prefix]))
    return found


def _scope_status(
    scope: Scope, states: Sequence[UnitState], wanted: Sequence[RequestedScope], quarantined: dict[str, int]
) -> ScopeStatus:
    result = ScopeStatus(
        scope.year, scope.meeting_key, scope.session_key, scope.name, scope.date_start, quarantined=quarantined
    )
    by_endpoint: dict[str, list[UnitState]] = defaultdict(list)
    for state in states:
        by_endpoint[state.endpoint].append(state)
    for mine in by_endpoint.values():
        for state in _standing(scope, mine):
            if state.status is Status.FAILED:
                unit = Unit(state.endpoint, scope, state.driver, state.window)
                result.failures.append((str(unit), state.error or "no reason known"))
            else:
                result.rows[state.endpoint] += int(state.stats.get("rows", 0))
            result.units[state.status.value] += int(state.stats.get("units", 1))
    everybody = UnitState(scope.prefix, "", None, ALL_TIME, Status.DONE, known_drivers(scope, _telling(states)))
    for endpoint in endpoints_of(scope):
        asked, left = _share(endpoint, scope, by_endpoint.get(endpoint.name, []), everybody, wanted)
        result.asked += asked
        result.left += left
    return result


def _share(
    endpoint: Endpoint, scope: Scope, mine: Sequence[UnitState], everybody: UnitState, wanted: Sequence[RequestedScope]
) -> tuple[float, float]:
    """Return what was asked for of an endpoint, and what of it is left, counted in requests."""
    done: dict[int | None, list[Window]] = defaultdict(list)
    for state in mine:
        if state.status in _DONE:
            done[state.driver].append(state.window)
    asked = left = 0.0
    expected = expected_drivers(endpoint, scope, [*_telling(mine), everybody], wanted)
    # What failed was asked for, whatever else is known of that.
    failed = {state.driver for state in mine if state.status is Status.FAILED}
    for driver in expected | (failed - {None} if expected else failed):
        windows = [*done[None], *done[driver]] if driver is not None else done[None]
        missing = _missing(windows)
        if endpoint.slicing is not Slicing.WINDOWS:
            asked += 1
            left += bool(missing)
            continue
        # Nobody is known yet to have driven: as many as usual will have.
        drivers = USUAL_DRIVERS if driver is None and not windows else 1
        asked += drivers * usual_requests(ALL_TIME, scope)
        # However short, what is missing is missing.
        left += drivers * sum(max(usual_requests(piece, scope), 0.01) for piece in missing)
    return asked, left


def _telling(states: Iterable[UnitState]) -> list[UnitState]:
    """Return one unit of those that say the same of who drove, as the windows of a driver do."""
    telling = {(state.endpoint, state.driver, state.status, state.drivers, state.entrants): state for state in states}
    return list(telling.values())


def _missing(windows: list[Window]) -> list[Window]:
    """Return what is left of all time; the usual case, windows in order and without a gap, is seen at once."""
    ends_meet = all(one.end is not None and one.end == other.start for one, other in pairwise(windows))
    if windows and windows[0].start is None and windows[-1].end is None and ends_meet:
        return []
    return subtract(ALL_TIME, windows)


def _weight(state: UnitState, scope: Scope | None) -> float:
    if ENDPOINTS[state.endpoint].slicing is not Slicing.WINDOWS:
        return 1.0
    scope = scope or parse_scope(state.scope_prefix)
    return 1.0 if scope is None else usual_requests(state.window, scope)


def _standing(scope: Scope, states: Sequence[UnitState]) -> Iterator[UnitState]:
    """Yield the units of an endpoint but for those whose records others hold as well, and failures made good.

    Where no two speak of the same, which is nearly always, all stand.
    """
    by_driver: dict[int | None, list[UnitState]] = defaultdict(list)
    for state in states:
        by_driver[state.driver].append(state)
    groups: Iterable[Sequence[UnitState]] = by_driver.values()
    if None in by_driver and len(by_driver) > 1:
        groups = [states]
    for group in groups:
        yield from group if _are_apart(group) else _standing_among(scope, group)


def _are_apart(states: Sequence[UnitState]) -> bool:
    """Return whether no two units, of one driver or of all at once, overlap."""
    if len({state.driver for state in states}) > 1:
        return False
    windows = sorted((state.window for state in states), key=lambda window: window.start or _LONG_AGO)
    return all(
        one.end is not None and other.start is not None and one.end <= other.start for one, other in pairwise(windows)
    )


def _standing_among(scope: Scope, states: Sequence[UnitState]) -> Iterator[UnitState]:
    now = datetime.now(UTC)
    coverage = Coverage(scope, states, now)
    standing: list[UnitState] = []
    for state in sorted(states, key=_breadth, reverse=True):
        unit = Unit(state.endpoint, scope, state.driver, state.window)
        if state.status not in _DONE:
            if coverage.missing(unit):
                yield state
        elif Coverage(scope, standing, now).missing(unit):
            yield state
            standing.append(state)


def _breadth(state: UnitState) -> tuple[bool, bool, float]:
    """What sorts units so that a unit comes after those that may hold all of its records."""
    start, end = state.window.start, state.window.end
    seconds = (end - start).total_seconds() if start is not None and end is not None else math.inf
    return state.status is Status.DONE, state.driver is None, seconds


def _number(component: str) -> int | None:
    return int(component) if component.isdecimal() else None


def _moment(text: str | None) -> datetime | None:
    try:
        return None if text is None else parse_time(text)
    except ValueError:
        return None


# --- for machines ---


def status_json(overview: Overview) -> dict[str, Any]:
    """Return everything in JSON's types."""
    left = overview.seconds_left
    return {
        "percent_done": _percent(sum(scope.asked for scope in overview.scopes), overview.left),
        "requests_left": math.ceil(overview.left),
        "seconds_left": None if left is None else round(left),
        "loading": [{"by": who, "meeting_keys": meetings} for who, meetings in overview.loading.items()],
        "requests_per_minute": None if overview.pace is None else round(overview.pace.per_minute, 1),
        "sessions": [scope.as_json() for scope in overview.scopes],
        "runs": [
            {
                "run_id": run.run_id,
                "meta": dict(run.meta),
                "stats": dict(run.stats),
                "errors": dict(run.errors),
            }
            for run in overview.runs
        ],
    }


# --- for people ---

_LAYOUT = "{:<38}{:>8}{:>14}{:>8}{:>12}"


def status_lines(overview: Overview) -> Iterator[str]:
    """Yield everything for people, at most 80 columns wide but for names and reasons."""
    scopes = [scope for scope in overview.scopes if scope.year is not None]
    if not scopes:
        yield "Nothing is loaded yet."
    folds = sum(scope.session_key is not None for scope in scopes) > _LINES_WITHOUT_FOLDING
    folded = False
    for _, season in groupby(scopes, key=lambda scope: scope.year):
        in_season = list(season)
        yield _LAYOUT.format("season", "done", "rows", "failed", "quarantine")
        yield _line(_season_name(in_season), in_season)
        for _, one in groupby(in_season, key=lambda scope: scope.meeting_key):
            meeting = list(one)
            yield _line(f"  {_meeting_name(meeting)}", meeting)
            if folds and _is_complete(meeting):
                folded = True
                continue
            yield from (_line(f"    {_session_name(scope)}", [scope]) for scope in meeting if scope.session_key)
    if scopes:
        yield ""
        yield from _totals(overview)
    if folded:
        yield "Complete meetings are shown without their sessions; --meeting-key K shows them."
    yield from _trouble(overview.scopes)
    yield from _time_left(overview)
    if overview.runs:
        yield from _last_run(overview.runs[0], overview.loading)


def _line(name: str, scopes: Sequence[ScopeStatus]) -> str:
    failed = sum(len(scope.failures) for scope in scopes)
    aside = sum(sum(scope.quarantined.values()) for scope in scopes)
    rows = sum(scope.rows.total() for scope in scopes)
    percent = _percent(sum(scope.asked for scope in scopes), sum(scope.left for scope in scopes))
    done = "-" if percent is None else "100 %" if percent == 100 else f"{percent:.1f} %"
    numbers = (f"{number:,}" if number else "-" for number in (failed, aside))
    return _LAYOUT.format(name[:38], done, f"{rows:,}", *numbers)


def _percent(asked: float, left: float) -> float | None:
    """Return how much is done, rounded down, so that 100 means all; None if nothing was asked for."""
    if asked <= 0:
        return None
    return 100.0 if left <= 0 else max(0.0, min(99.9, math.floor(1000 * (1 - left / asked)) / 10))


def _season_name(scopes: Sequence[ScopeStatus]) -> str:
    meetings = len({scope.meeting_key for scope in scopes})
    sessions = sum(scope.session_key is not None for scope in scopes)
    return f"{scopes[0].year}: {count(meetings, 'meeting')}, {count(sessions, 'session')}"


def _meeting_name(scopes: Sequence[ScopeStatus]) -> str:
    name = next((scope.name for scope in scopes if scope.session_key is None and scope.name), "")
    return f"{scopes[0].meeting_key} {name}".rstrip()


def _session_name(scope: ScopeStatus) -> str:
    name = scope.name.rpartition(", ")[2]
    begins = "" if scope.date_start is None else f"{scope.date_start.astimezone(UTC):%m-%d %H:%M}"
    return f"{f'{scope.session_key} {name}'[:22]:<22} {begins}".rstrip()


def _is_complete(scopes: Iterable[ScopeStatus]) -> bool:
    return not any(scope.left or scope.failures or scope.quarantined for scope in scopes)


def _totals(overview: Overview) -> Iterator[str]:
    total: Counter[str] = Counter()
    for scope in overview.scopes:
        total.update(scope.units)
        total.update(rows=scope.rows.total(), quarantined=sum(scope.quarantined.values()))
    yield f"{total['rows']:,} rows, {total['failed']:,} units failed; {total['quarantined']:,} records in quarantine"
    yield "(Rows of each column family: records of one instant or lap share one in HBase.)"
    if total["provisional"]:
        yield f"{count(total['provisional'], 'unit')} provisional: fetched less than 48 hours after the session,"
        yield "  and asked for once more by the first load after that."
    if total["partial"]:
        yield f"{count(total['partial'], 'unit')} partial: fetched while the session was going on; 'load' asks again."


def _trouble(scopes: Sequence[ScopeStatus]) -> Iterator[str]:
    """Yield why units failed and what is in quarantine, what has the same reason in one line, and what mends it."""
    reasons: dict[str, list[str]] = defaultdict(list)
    aside: dict[str, list[ScopeStatus]] = defaultdict(list)
    for scope in scopes:
        for unit, reason in scope.failures:
            reasons[reason].append(unit)
        for endpoint in scope.quarantined:
            aside[endpoint].append(scope)
    by_number = sorted(reasons.items(), key=lambda item: -len(item[1]))
    for reason, units in by_number[:_SHOWN_REASONS]:
        more = f", and {count(len(units) - 1, 'unit')} more" if len(units) > 1 else ""
        yield f"failed: {units[0]}{more}: {reason}"
    if len(reasons) > _SHOWN_REASONS:
        yield f"failed: {len(reasons) - _SHOWN_REASONS:,} more reasons; --json has them all"
    if reasons:
        yield "  mend: run the same load again; it asks for what failed, not for what is done."
    for endpoint, places in aside.items():
        number = sum(scope.quarantined[endpoint] for scope in places)
        where = f"quarantine{SEPARATOR}{SEPARATOR.join(places[0].place)}{SEPARATOR}{endpoint}{SEPARATOR}..."
        such = "" if len(places) == 1 else f" in {len(places)} sessions"
        yield f"quarantine: {number:,} records of {endpoint}{such}: rows {where} of the reports say why"
    if aside:
        yield "  mend: load --refresh for these sessions, once the API has mended the records."


def _time_left(overview: Overview) -> Iterator[str]:
    for who, meetings in overview.loading.items():
        shown = ", ".join(map(str, meetings[:6])) + (", ..." if len(meetings) > 6 else "")
        yield f"loading now: meeting{'s' if len(meetings) > 1 else ''} {shown} by {who}"
    if not overview.left:
        if overview.scopes:
            yield "left: nothing of what was asked for"
        return
    yield f"left: about {count(math.ceil(overview.left), 'request')} with windows of 15 minutes"
    seconds = overview.seconds_left
    if overview.pace is not None and overview.pace.done and seconds is not None:
        yield f"  about {duration(seconds)} at {overview.pace.per_minute:.1f} a minute, as in the last minutes"
    elif seconds:
        yield f"  at least {duration(seconds)} at the API's limits ({','.join(map(str, overview.rates))})"


def _last_run(run: RunState, loading: Iterable[str]) -> Iterator[str]:
    end = run.meta.get("end")
    if end:
        how = f"ended {_shown(end)} with exit code {run.meta.get('exit')}"
    elif any(f"run {run.run_id} " in who for who in loading):
        how = "is running"
    else:
        how = "has not ended, or was killed"
    yield f"last run: {run.run_id}"
    yield f"  begun {_shown(run.meta.get('start'))}, {how}"
    try:
        rows, seconds = int(run.stats["rows"]), float(run.stats["seconds"])
    except (KeyError, ValueError):
        return
    yield f"  {rows:,} rows in {duration(seconds)}"


def _shown(text: str | None) -> str:
    moment = _moment(text)
    return str(text) if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def watch(read: Callable[[], Overview], terminal: TextIO, *, sleep: Callable[[float], object] = time.sleep) -> None:
    """Show it again and again in the same place, until Ctrl-C.

    Args:
        read: Reads how it stands.
        terminal: Where to show it.
        sleep: Waits for so many seconds.
    """
    with suppress(KeyboardInterrupt):
        while True:
            began = time.monotonic()
            try:
                lines = list(status_lines(read()))
            except UnreachableError as error:
                lines = [str(error), "Looking again."]
            took = time.monotonic() - began
            columns, height = shutil.get_terminal_size()
            shown = [f"{datetime.now(UTC):%H:%M:%S} UTC, Ctrl-C ends", *_fitted(lines, height - 2)]
            # Each line's rest is cleared as it is written, and then all below: clearing first would flicker. A line
            # that fills the terminal has no rest: what many terminals would clear is its last character.
            text = "".join(f"{_cut(line, columns)}\n" if len(line) >= columns else f"{line}\x1b[K\n" for line in shown)
            terminal.write(f"\x1b[H{text}\x1b[J")
            terminal.flush()
            # Reading must not be most of what HBase has to do.
            sleep(max(_WATCH_SECONDS, 4 * took))


def _cut(line: str, columns: int) -> str:
    return line if len(line) <= columns else f"{line[: columns - 1]}…"


def _fitted(lines: Sequence[str], height: int) -> Sequence[str]:
    """Leave out lines of the middle, so that the sums at the end stay in sight."""
    if len(lines) <= height:
        return lines
    tail = min(2 * height // 3, len(lines) - lines.index("") if "" in lines else 1)
    head = max(0, height - tail - 1)
    return [
        *lines[:head],
        f"... {len(lines) - head - tail} lines more; status without --watch shows all",
        *lines[-tail:],
    ]
