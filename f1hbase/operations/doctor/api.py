"""Looks at the API with one request: whether it answers, its limits, whether a session closes it, its clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from f1hbase.errors import F1HBaseError
from f1hbase.model.rates import Limits
from f1hbase.model.text import count
from f1hbase.model.times import lenient_time
from f1hbase.operations.doctor.base import Check, Grade, failed
from f1hbase.pipeline.load import run_async
from f1hbase.sources.http.errors import SessionLiveError, SlowDownError
from f1hbase.sources.http.limiter import pause_info
from f1hbase.sources.openf1.query import FIRST_YEAR, Query
from f1hbase.sources.openf1.source import OpenF1Options, Probe, probe_api, shared_path, with_patience

_SKEW_WARNING_SECONDS = 5.0
_SKEW_FAILURE_SECONDS = 60.0

_SLOW_SECONDS = 10.0
LONGEST_ANSWER_SECONDS = 30.0
"""How long to wait for an answer."""

LONGEST_TURN_SECONDS = 75.0
"""How long to wait for a turn within an API's limits: a minute is the longest window that OpenF1 has."""

_CLOSED_AROUND = timedelta(minutes=30)
"""From how long before a session to how long after it the free API is closed (OpenF1's documentation)."""
_AHEAD = timedelta(hours=12)
"""How far ahead sessions are looked for; a season takes the free API longer than that to load."""


def check_api(options: OpenF1Options) -> Iterator[Check]:
    """Ask the API once, for its sessions, and say what that tells: whether it is there, open, and what time it has."""
    options = with_patience(options, LONGEST_ANSWER_SECONDS)
    pause, too_long = judge_pause(shared_path(options))
    if pause is not None:
        yield pause
    if too_long:
        yield Check(Grade.SKIP, "API", "not asked, as all requests are paused")
        yield from _not_asked()
        return
    query = Query("sessions", (f"year>={FIRST_YEAR}",))
    try:
        probe = run_async(probe_api(options, query, LONGEST_TURN_SECONDS))
    except TimeoutError:
        found = f"no turn within {LONGEST_TURN_SECONDS:.0f} s: other processes use up {options.limits}, or all wait"
        yield Check(
            Grade.WARN, "API", found, "nothing to do if another load is meant to run; else look for its process"
        )
        yield from _not_asked()
        return
    except F1HBaseError as error:
        yield failed("API", error, "see 'state folder' above")
        yield from _not_asked()
        return
    yield judge_answer(options.api_url, probe)
    yield judge_limits(options.limits, probe.spent)
    yield judge_sessions(probe, datetime.now(UTC), free=options.credentials is None)
    yield judge_clock(probe)


def judge_pause(shared: Path) -> tuple[Check | None, bool]:
    """Return what to say of a pause of all requests, if there is one, and whether it is too long to wait for.

    Args:
        shared: The file through which processes share a host's limits.
    """
    try:
        pause = pause_info(shared)
    except (OSError, F1HBaseError):
        pause = None  # what is wrong with the file is said when it is to be written
    if pause is None:
        return None, False
    said = Check(Grade.WARN, "pause", f"all requests are {pause}", "wait, or end it: doctor --end-pause")
    return said, (pause.until - datetime.now(UTC)).total_seconds() > LONGEST_TURN_SECONDS


def _not_asked() -> Iterator[Check]:
    return (Check(Grade.SKIP, name, "the API was not asked") for name in ("limits", "live session", "clock"))


def judge_answer(url: str, probe: Probe) -> Check:
    """Say whether the API answers, as OpenF1 does, and how fast."""
    error, took = probe.error, f"{probe.seconds:.1f} s"
    if isinstance(error, SessionLiveError):
        return Check(Grade.OK, "API", f"{url} answers in {took}, but is closed now")
    if isinstance(error, SlowDownError):
        fix = "wait a minute; what else uses OpenF1 from this address?"
        return Check(Grade.WARN, "API", f"{url} answers in {took}: too many requests from this address", fix)
    if error is not None:
        fix = f"check the network, HTTPS_PROXY and --api-url (OpenF1's ends in /v1), or try: curl -sS {url}/sessions"
        return Check(Grade.FAIL, "API", f"{url}: {error}", fix)
    if not probe.records:
        found = f"{url} answers in {took}, but has no session since {FIRST_YEAR}"
        return Check(Grade.WARN, "API", found, "is it the right --api-url?")
    if not all(isinstance(record, dict) and "session_key" in record for record in probe.records):
        found = f"{url} answers in {took}, but not with sessions as OpenF1 has them"
        return Check(Grade.FAIL, "API", found, "check --api-url: OpenF1's is https://api.openf1.org/v1")
    if probe.seconds > _SLOW_SECONDS:
        fix = "nothing to do: slow queries are asked for in parts; it may be better at another hour"
        return Check(Grade.WARN, "API", f"{url} is slow: {took} for its list of sessions", fix)
    return Check(Grade.OK, "API", f"{url} lists {count(len(probe.records), 'session')} in {took}")


def judge_limits(limits: Limits, spent: Sequence[int]) -> Check:
    """Say which limits hold, and what of them was left before the doctor asked."""
    if not limits.requests:
        return Check(Grade.OK, "limits", "none for this address; --rate sets some")
    left = (f"{max(0, rate.limit - used)} of {rate}" for rate, used in zip(limits.requests, spent, strict=True))
    return Check(Grade.OK, "limits", f"{limits}, shared by all processes; free now: {', '.join(left)}")


def judge_sessions(probe: Probe, now: datetime, *, free: bool) -> Check:
    """Say whether a session closes the API to free use, now or within the next hours.

    Args:
        probe: Brought the list of sessions.
        now: The present.
        free: Whether the API is used without a subscription.
    """
    name, fix = "live session", "nothing to do: load waits while it is closed; or use a subscription"
    if isinstance(probe.error, SessionLiveError):
        return Check(Grade.WARN, name, "one is on: the free API is closed until half an hour after it", fix)
    if probe.error is not None:
        return Check(Grade.SKIP, name, "the API did not list its sessions")
    coming = sorted(_closings(probe.records, now))
    if not coming:
        return Check(Grade.OK, name, f"none now, nor within {_AHEAD.total_seconds() / 3600:.0f} hours")
    begin, end, what = coming[0]
    when = f"from {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"
    if not free:
        return Check(Grade.OK, name, f"{what} closes the free API {when}, but not to a subscription")
    others = f", and {count(len(coming) - 1, 'session')} after it" if len(coming) > 1 else ""
    return Check(Grade.WARN, name, f"{what} closes the free API {when}{others}", fix)


def judge_clock(probe: Probe) -> Check:
    """Compare this machine's clock with the API's, which says the time to the second."""
    if probe.server_time is None:
        return Check(Grade.SKIP, "clock", "the API does not say what time it is")
    # Its second had begun somewhere in the second before, and the answer took half of its time to come.
    there = probe.server_time + timedelta(seconds=0.5 + probe.seconds / 2)
    skew = (probe.local_time - there).total_seconds()
    uncertain = 0.5 + probe.seconds / 2
    off = max(0.0, abs(skew) - uncertain)
    found = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the API's"
    fix = "set it: sudo timedatectl set-ntp true (or sudo chronyc makestep); sessions and leases go by it"
    if off > _SKEW_FAILURE_SECONDS:
        return Check(Grade.FAIL, "clock", found, fix)
    if off > _SKEW_WARNING_SECONDS:
        return Check(Grade.WARN, "clock", found, fix)
    return Check(Grade.OK, "clock", f"that of the API, within {max(1.0, abs(skew)):.0f} s")


def _closings(records: Iterable[Any], now: datetime) -> Iterator[tuple[datetime, datetime, str]]:
    """Yield when sessions of now and the next hours close the free API, and which."""
    for record in records:
        if not isinstance(record, dict) or record.get("is_cancelled"):
            continue
        begin, end = (lenient_time(record.get(edge)) for edge in ("date_start", "date_end"))
        if begin is None or end is None:
            continue
        begin, end = begin - _CLOSED_AROUND, end + _CLOSED_AROUND
        if begin - now <= _AHEAD and now < end:
            yield begin, end, f"{record.get('location')}, {record.get('session_name')}"
