"""What a load would take, for people and for machines."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from f1hbase.model.catalog import TIMING
from f1hbase.model.footprints import Footprint
from f1hbase.model.text import count, duration, size
from f1hbase.operations.estimate.forecast import SPARK_PAYS_FROM_ROWS, Estimate, SessionEstimate
from f1hbase.operations.estimate.prices import S3_STANDARD

_LAYOUT = "{:<27}{:<16}{:>9}{:>9}{:>11}{:>8}"
_NAME = 52
"""The width of what stands before the requests of a meeting, which its sessions share."""


def estimate_json(estimate: Estimate) -> dict[str, Any]:
    """Return everything in JSON's types; rows and bytes are always estimates."""
    seconds, by_bytes = estimate.seconds, estimate.seconds_by_bytes
    return {
        "sessions": [_session_json(part) for part in estimate.sessions],
        "due_again": [_session_json(part) for part in estimate.settling],
        "total": {
            "sessions": len(estimate.sessions),
            "units": estimate.units,
            "requests": estimate.all_requests,
            "requests_are_an_estimate": not estimate.exact,
            "expected_rows": estimate.rows,
            "expected_bytes": estimate.bytes,
        },
        "limits": [str(rate) for rate in (*estimate.limits.requests, *estimate.limits.bytes)],
        "seconds_at_limits": None if seconds is None else round(seconds, 1),
        "seconds_with_limit_of_bytes": None if by_bytes is None else round(by_bytes, 1),
        "learnt_from_units": estimate.costs.units,
        "landing_zones": [_footprint_json(taken) for taken in estimate.footprints],
        "quickest_engine": estimate.engine,
    }


def _footprint_json(taken: Footprint) -> dict[str, Any]:
    prices = S3_STANDARD
    return {
        "place": taken.place,
        "expected_bytes": taken.bytes,
        "objects": taken.objects,
        "put_requests": taken.puts,
        "dollars_a_month": round(prices.month(taken), 4),
        "dollars_once": round(prices.once(taken), 4),
        "prices": {
            "of": prices.service, "region": prices.region, "date": prices.date, "gb_month": prices.gb_month,
            "thousand_puts": prices.thousand_puts,
        },
    }  # fmt: skip


def _session_json(part: SessionEstimate) -> dict[str, Any]:
    scope = part.scope
    return {
        "year": scope.year,
        "meeting_key": scope.meeting_key,
        "session_key": scope.session_key,
        "name": scope.name,
        "date_start": None if scope.date_start is None else scope.date_start.isoformat(),
        "cancelled": scope.cancelled,
        "units": part.units,
        "expected_rows": part.rows,
        "expected_bytes": part.bytes,
    }


def estimate_lines(estimate: Estimate) -> Iterator[str]:
    """Yield everything for people, at most 80 columns wide but for names."""
    about = "" if estimate.exact else "~"
    yield _LAYOUT.format("session", "begins (UTC)", "units", "requests", "rows", "bytes")
    for key, one in groupby(estimate.parts, key=lambda part: (part.scope.year, part.scope.meeting_key)):
        meeting, *sessions = one
        shown = [part for part in sessions if not part.settles or part.units]
        missing = any(part.units for part in sessions)
        if not shown:
            continue
        name = f"{meeting.scope.meeting_key} {meeting.scope.name}"
        if not missing and not meeting.units:
            yield f"{name}: {count(len(shown), 'session')}, nothing left to load"
            continue
        requests = estimate.requests.get(key, 0)
        yield f"{name[:_NAME]:<{_NAME}}{f'{about}{requests:,}':>9}"
        yield from (_line(part, estimate) for part in shown)
    yield ""
    seconds, requests = estimate.seconds, estimate.all_requests
    in_requests = "" if not requests else f" in {'' if estimate.exact else 'about '}{count(requests, 'request')}"
    yield f"{count(len(estimate.sessions), 'session')}, {count(estimate.units, 'unit')}{in_requests}"
    if settling := estimate.settling:
        units = count(sum(part.units for part in settling), "unit")
        yield f"of which due again: {units} of {count(len(settling), 'other session')}"
    if estimate.rows:
        receive = f", about {size(estimate.bytes)} to receive" if estimate.bytes else ""
        yield f"about {count(estimate.rows, 'row')}{receive}"
    if seconds:
        yield f"at least {duration(seconds)} at the source's limits ({','.join(map(str, estimate.limits.requests))})"
    if estimate.seconds_by_bytes:
        limit = ",".join(map(str, estimate.limits.bytes))
        yield f"at least {duration(estimate.seconds_by_bytes)} with the limit of bytes ({limit})"
    for taken in estimate.footprints:
        yield from _footprint_lines(taken)
    if estimate.in_bulk and estimate.rows:
        compared = "more" if estimate.engine == "spark" else "fewer"
        yield f"--engine {estimate.engine} is quicker: {compared} than {SPARK_PAYS_FROM_ROWS:,} rows (docs/cluster.md)"
    if estimate.rows:
        measured = any(part.scope.dataset is TIMING for part in estimate.parts)
        yield from estimate.costs.lines(measured=measured)


def _footprint_lines(taken: Footprint) -> Iterator[str]:
    if not taken.bytes:
        return
    prices = S3_STANDARD
    yield (
        f"in '{taken.place}': about {size(taken.bytes)} in {count(taken.objects, 'object')}, "
        f"{count(taken.puts, 'PUT request')};"
    )
    month, once = _dollars(prices.month(taken)), _dollars(prices.once(taken))
    where = f"{prices.region}, prices of {prices.date}"
    yield f"  on {prices.service} {month} a month, and {once} once for the requests ({where})"


def _dollars(amount: float) -> str:
    return f"${amount:,.2f}" if amount >= 0.01 else "less than $0.01"


def _line(part: SessionEstimate, estimate: Estimate) -> str:
    scope = part.scope
    begins = f"{scope.date_start:%Y-%m-%d %H:%M}" if scope.date_start else "?"
    # Of small endpoints nobody knows how many rows they have before some are loaded.
    unknown = part.units and not scope.cancelled and not estimate.costs.units
    none = "?" if unknown else "0"
    return _LAYOUT.format(
        f"  {scope.session_key} {scope.name.rpartition(', ')[2]}"[:26],
        "cancelled" if scope.cancelled else "due again" if part.settles else begins,
        f"{part.units:,}",
        "",
        f"~{part.rows:,}" if part.rows else none,
        f"~{size(part.bytes)}" if part.bytes else none,
    )
