"""Tables as the version before this one wrote them: samples by driver and window, lines without epoch and source.

The lines are copied from a table that that version's own loader had made.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import happybase
from weekend import YEAR, Records

from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.records import check
from f1hbase.stores.hbase.codec import checksum, encode

_RUN = "20251201T120000.000000Z-0ab1cd"
_FETCHED = "2025-12-01T12:00:00.000000+00:00"
_SAMPLED = {"car_data", "location"}


def write(
    port: int, prefix: str, records: Records, *, left_out: Sequence[str] = (), failed: Sequence[str] = (),
    session_drivers: bool = False,
) -> None:  # fmt: skip
    """Write records of one session, and the lines of their units, into tables that exist.

    Args:
        port: The gateway's.
        prefix: Of the tables.
        records: By endpoint; all that the API has.
        left_out: Ends of the keys of units that are not loaded yet.
        failed: Ends of the keys of units that have failed.
        session_drivers: Whether the drivers of the session were asked for without being stored.
    """
    connection = happybase.Connection("127.0.0.1", port)
    try:
        data, reports = (connection.table(f"{prefix}_{name}") for name in ("f1_data", "f1_reports"))
        reports.put(f"run#{_RUN}".encode(), {b"meta:start": _FETCHED.encode(), b"meta:exit": b"1"})
        everybody = sorted({record["driver_number"] for record in records.get("drivers", [])})
        for key, endpoint, mine in units_of(records):
            if key.endswith(tuple(left_out)):
                continue
            if key.endswith(tuple(failed)):
                reports.put(key.encode(), _line("failed", {b"errors:last": b"HTTP 503: upstream request timeout"}))
                continue
            total = 0
            for record in mine:
                row = encode(ENDPOINTS[endpoint], YEAR, check(ENDPOINTS[endpoint], YEAR, record))
                data.put(row.key, dict(row.cells))
                total += checksum(row)
            drivers = sorted({record["driver_number"] for record in mine if record.get("driver_number") is not None})
            cells = {
                b"meta:drivers": json.dumps([] if endpoint == "race_control" else drivers).encode(),
                b"stats:checksum": b"%016x" % (total % 2**64),
            }
            cells |= {f"stats:{name}".encode(): b"%d" % len(mine) for name in ("records", "rows")}
            cells |= {f"stats:{name}".encode(): b"0" for name in ("duplicates", "quarantined", "bytes")}
            cells |= {b"stats:attempts": b"1", b"stats:seconds": b"0.030"}
            if session_drivers and endpoint in _SAMPLED:
                cells[b"meta:entrants"] = json.dumps(everybody).encode()
            reports.put(key.encode(), _line("done", cells))
    finally:
        connection.close()


def units_of(records: Records) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    """Yield the key of each unit's line, its endpoint, and its records."""
    (session,) = records["sessions"]
    meeting_key, session_key = session["meeting_key"], session["session_key"]
    middle = datetime.fromisoformat(session["date_start"]) + timedelta(seconds=30)
    for endpoint, mine in records.items():
        place = "-" if endpoint == "meetings" else session_key
        begin = f"unit#{YEAR}#{meeting_key}#{place}#{endpoint}"
        if endpoint not in _SAMPLED:
            yield f"{begin}#-#-#-", endpoint, mine
            continue
        by_driver: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for record in mine:
            by_driver[record["driver_number"]].append(record)
        for driver, his in sorted(by_driver.items()):
            for early, window in ((True, f"-#{middle.isoformat()}"), (False, f"{middle.isoformat()}#-")):
                part = [one for one in his if (datetime.fromisoformat(one["date"]) < middle) == early]
                yield f"{begin}#{driver}#{window}", endpoint, part


def _line(status: str, cells: dict[bytes, bytes]) -> dict[bytes, bytes]:
    return {b"meta:status": status.encode(), b"meta:run": _RUN.encode(), b"meta:fetched": _FETCHED.encode()} | cells
