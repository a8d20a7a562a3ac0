"""How an installation stands, for people and for machines; reads nothing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from f1hbase.model.catalog import RESULTS_SETTLE_AFTER, SETTLES_AFTER
from f1hbase.model.coverage import EMPTY_IS_ASKED_AGAIN_AFTER
from f1hbase.model.outcomes import RunState
from f1hbase.model.text import count, duration
from f1hbase.model.times import lenient_time
from f1hbase.model.units import SEPARATOR
from f1hbase.operations.status.judging import ScopeStatus, percent
from f1hbase.operations.status.reading import Overview
from f1hbase.state.live import ENDED, STOPPED, Heartbeat

_LINES_WITHOUT_FOLDING = 30
"""With more sessions than this, those of meetings that are complete are told in one line."""

_SHOWN_REASONS = 20
_LAYOUT = "{:<38}{:>8}{:>14}{:>8}{:>12}"


def status_json(overview: Overview) -> dict[str, Any]:
    """Return everything in JSON's types."""
    left = overview.seconds_left
    return {
        "percent_done": percent(sum(scope.asked for scope in overview.scopes), overview.left),
        "requests_left": overview.requests_left,
        "seconds_left": None if left is None else round(left),
        "loading": [{"by": who, "meeting_keys": meetings} for who, meetings in overview.loading.items()],
        "live": [_live_json(beat, datetime.now(UTC)) for beat in overview.live],
        "requests_per_minute": None if overview.pace is None else round(overview.pace.requests_per_minute, 1),
        "sessions": [scope.as_json() for scope in overview.scopes],
        "runs": [
            {"run_id": run.run_id, "meta": dict(run.meta), "stats": dict(run.stats), "errors": dict(run.errors)}
            for run in overview.runs
        ],
    }


def status_lines(overview: Overview) -> Iterator[str]:
    """Yield everything for people, at most 80 columns wide but for names and reasons."""
    scopes = [scope for scope in overview.scopes if scope.year is not None]
    if not scopes and not overview.live:
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
    yield from _live(overview.live, datetime.now(UTC))
    yield from _time_left(overview)
    if overview.runs:
        yield from _last_run(overview.runs[0], overview.loading)


def _line(name: str, scopes: Sequence[ScopeStatus]) -> str:
    failed = sum(len(scope.failures) for scope in scopes)
    aside = sum(sum(scope.quarantined.values()) for scope in scopes)
    rows = sum(scope.rows.total() for scope in scopes)
    share = percent(sum(scope.asked for scope in scopes), sum(scope.left for scope in scopes))
    done = "-" if share is None else "100 %" if share == 100 else f"{share:.1f} %"
    numbers = (f"{number:,}" if number else "-" for number in (failed, aside))
    return _LAYOUT.format(name[:38], done, f"{rows:,}", *numbers)


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
        total.update(
            rows=scope.rows.total(), quarantined=sum(scope.quarantined.values()), due=scope.due, empty=len(scope.empty),
            known_drivers_only=scope.known_drivers_only,
        )  # fmt: skip
    yield (
        f"{count(total['rows'], 'row')}, {count(total['failed'], 'unit')} failed; "
        f"{count(total['quarantined'], 'record')} in quarantine"
    )
    yield "(Rows of each column family: records of one instant or lap share one in HBase.)"
    hours, days = SETTLES_AFTER.total_seconds() / 3600, RESULTS_SETTLE_AFTER.days
    if total["provisional"]:
        units = count(total["provisional"], "unit")
        yield f"{units} provisional: fetched less than {hours:.0f} hours after the session"
        yield f"  (results and championships: {days} days), and asked for once more after that."
    if total["due"]:
        yield f"  {count(total['due'], 'unit')} of them due now: the next load of their season asks again."
    if total["partial"]:
        yield f"{count(total['partial'], 'unit')} partial: fetched while the session was going on; 'load' asks again."
    if total["empty"]:
        first, *others = (str(after.days) for after in EMPTY_IS_ASKED_AGAIN_AFTER)
        yield f"{count(total['empty'], 'endpoint')} without any record, though such sessions have some: asked for again"
        yield f"  {', '.join([first, *others[:-1]])} and {others[-1]} days after the session."
    if total["known_drivers_only"]:
        number = count(total["known_drivers_only"], "session")
        yield f"cars that no list names: not asked for in {number}, loaded by driver by an earlier"
        yield "  version; load --refresh asks for all cars."


def _trouble(scopes: Sequence[ScopeStatus]) -> Iterator[str]:
    """Yield why units failed and what is in quarantine, what has the same reason in one line, and what to do."""
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
        yield f"failed: {count(len(reasons) - _SHOWN_REASONS, 'more reason')}; --json has them all"
    if reasons:
        yield "  fix: run the same load again; it asks for what failed, not for what is done."
    for endpoint, places in aside.items():
        number = sum(scope.quarantined[endpoint] for scope in places)
        where = f"quarantine{SEPARATOR}{SEPARATOR.join(places[0].place)}{SEPARATOR}{endpoint}{SEPARATOR}..."
        such = "" if len(places) == 1 else f" in {len(places)} sessions"
        yield f"quarantine: {count(number, 'record')} of {endpoint}{such}: {where} in the reports says why"
    if aside:
        yield "  fix: load --refresh for these sessions, once the source has corrected the records."


def _live_json(beat: Heartbeat, now: datetime) -> dict[str, Any]:
    return {
        "session": beat.scope_prefix,
        "instance": beat.instance,
        "state": beat.state,
        "stopped": beat.has_stopped(now),
        "at": beat.at.isoformat(),
        "meta": dict(beat.meta),
        "stats": dict(beat.stats),
        "error": beat.error or None,
    }


def _live(beats: Sequence[Heartbeat], now: datetime) -> Iterator[str]:
    """Yield a line for each live instance: how it stands, and how far it is behind."""
    for beat in beats:
        silent = max(0.0, (now - beat.at).total_seconds())
        name = f"live: session {beat.scope_prefix.rpartition(SEPARATOR)[2]}, instance {beat.instance}"
        rows = f"{count(int(beat.stats.get('rows', 0)), 'row')}"
        if beat.has_stopped(now):
            yield f"{name}: NO HEARTBEAT for {duration(silent)} ({rows}): has it stopped? Start it again"
            continue
        if beat.state in {ENDED, STOPPED}:
            yield f"{name}: {beat.state} {duration(silent)} ago, {rows}"
            continue
        waiting = beat.stats.get("waiting_bytes", 0.0)
        lag = max(beat.stats.get("lag", 0.0), beat.stats.get("latency_p50", 0.0))
        behind = f", {waiting / 1e6:.1f} MB wait" if waiting >= 100_000 else ""
        yield f"{name}: {beat.state}, {rows}, {lag:.2f} s behind{behind}"
        if beat.error:
            yield f"  {beat.error}"


def _time_left(overview: Overview) -> Iterator[str]:
    for who, meetings in overview.loading.items():
        shown = ", ".join(map(str, meetings[:6])) + (", ..." if len(meetings) > 6 else "")
        yield f"loading now: meeting{'s' if len(meetings) > 1 else ''} {shown} by {who}"
    if not overview.left:
        if overview.scopes:
            yield "left: nothing of what was asked for"
        return
    requests, seconds = overview.requests_left, overview.seconds_left
    missing = [unit for scope in overview.scopes for unit in scope.missing]
    sessions = count(len({unit.scope for unit in missing}), "session")
    yield f"left: about {count(requests, 'request')}, of {sessions}" if requests else f"left: some of {sessions}"
    if overview.pace is not None and overview.pace.done and seconds is not None:
        rate = overview.pace.requests_per_minute
        pace = f" ({rate:.1f} requests a minute)" if rate else ""
        yield f"  about {duration(seconds)} at the pace of the last minutes{pace}"
    elif seconds:
        yield f"  at least {duration(seconds)} at the source's limits ({','.join(map(str, overview.limits.requests))})"


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
    yield f"  {count(rows, 'row')} in {duration(seconds)}"


def _shown(text: str | None) -> str:
    moment = lenient_time(text)
    return str(text) if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"
