"""Tables loaded by the version before: units of samples by driver, lines without epoch and source. Rolled back here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hbase_server import LocalHBase
from installation import Installation, loader_for
from tables import values

from f1hbase.model.outcomes import Status
from f1hbase.model.units import Scope
from f1hbase.operations.rollback.base import Target

pytestmark = pytest.mark.hbase

_HERE = "2024#1240#9558"
_SESSION = Scope(2024, 1240, 9558)
_DRIVERS = (44, 63)
_MIDDLE = "2024-07-05T11:45:00+00:00"
_EARLY, _LATE = "2024-07-05T11:31:02.123000+00:00", "2024-07-05T11:52:07.456000+00:00"
_CAR_RUN, _OTHER_RUN, _LATER_RUN = (f"202411{day}T120000.000000Z-abcdef" for day in ("01", "02", "03"))

Table = dict[bytes, dict[bytes, bytes]]


def _line(run: str, rows: int, day: str) -> dict[bytes, bytes]:
    """The cells that the version before wrote for a unit that was stored."""
    cells = {
        "meta:status": "done", "meta:run": run, "meta:fetched": f"2024-11-{day}T12:00:01+00:00",
        "meta:drivers": json.dumps(list(_DRIVERS)), "stats:records": rows, "stats:rows": rows, "stats:duplicates": 0,
        "stats:quarantined": 0, "stats:bytes": 1234, "stats:attempts": 1, "stats:seconds": "0.123",
        "stats:checksum": f"{rows:016x}",
    }  # fmt: skip
    return {column.encode(): str(value).encode() for column, value in cells.items()}


def _tables() -> tuple[Table, Table]:
    """What the version before left of a session of two drivers, loaded by two runs."""
    data: Table = {_HERE.encode(): {b"session:location": b"Silverstone"}}
    reports: Table = {}
    for driver in _DRIVERS:
        for date in (_EARLY, _LATE):
            # car_data and location of the same moment are one row.
            data[f"{_HERE}#{driver}#{date}".encode()] = {b"car:rpm": b"10500", b"location:x": b"-12"}
        data[f"{_HERE}#{driver}".encode()] = {b"driver:last_name": b"Hamilton"}
        data[f"{_HERE}#{driver}#1".encode()] = {b"laps:lap_duration": b"91.2"}
        for window in (f"-#{_MIDDLE}", f"{_MIDDLE}#-"):
            for endpoint, run, day in (("car_data", _CAR_RUN, "01"), ("location", _OTHER_RUN, "02")):
                reports[f"unit#{_HERE}#{endpoint}#{driver}#{window}".encode()] = _line(run, 1, day)
    for endpoint, rows in (("sessions", 1), ("drivers", 2), ("laps", 2)):
        reports[f"unit#{_HERE}#{endpoint}#-#-#-".encode()] = _line(_OTHER_RUN, rows, "02")
    reports[f"unit#{_HERE}#drivers#-#-#-".encode()][b"meta:entrants"] = b"[44,63]"
    for run, day in ((_CAR_RUN, "01"), (_OTHER_RUN, "02")):
        reports[f"run#{run}".encode()] = {
            b"meta:start": f"2024-11-{day}T12:00:00+00:00".encode(),
            b"meta:end": f"2024-11-{day}T12:10:00+00:00".encode(),
            b"meta:sessions": _HERE.encode(),
        }
    lease = {"run": _OTHER_RUN, "host": "loader", "holders": [], "until": "2024-11-02T12:10:00+00:00"}
    reports[b"lease#2024#1240"] = {b"meta:lease": json.dumps(lease, separators=(",", ":")).encode()}
    return data, reports


@pytest.fixture
def earlier(hbase: LocalHBase, table_prefix: str, tmp_path: Path) -> Installation:
    """These tables."""
    tables = Installation(hbase, table_prefix, loader_for(hbase, table_prefix, tmp_path, {}))
    tables.create()
    for name, rows in zip(("f1_data", "f1_reports"), _tables(), strict=True):
        tables.put(name, rows)
    return tables


def _without_family(cells: Table, family: str, part: str = "") -> Table:
    lead = f"{family}:".encode()
    rest = {
        key: {c: v for c, v in columns.items() if part.encode() not in key or not c.startswith(lead)}
        for key, columns in cells.items()
    }
    return {key: columns for key, columns in rest.items() if columns}


def _standing(tables: Installation) -> dict[tuple[str, int | None], set[Status]]:
    """How the units of the session stand, by endpoint and driver."""
    found: dict[tuple[str, int | None], set[Status]] = {}
    for state in tables.states(_SESSION):
        found.setdefault((state.endpoint, state.driver), set()).add(state.status)
    return found


def test_a_session_that_the_version_before_loaded_goes_without_a_trace(earlier: Installation) -> None:
    described = earlier.roll_back(Target(sessions=[9558]))
    assert "11 units, 0 records in quarantine" in described
    assert "13 rows: car_data 4, location 4, drivers 2, laps 2, sessions 1" in described
    assert earlier.data == {}
    reports = values(earlier.reports)
    assert not [key for key in reports if key.startswith(b"unit#")]
    assert {cells[b"meta:sessions"] for key, cells in reports.items() if key.startswith(b"run#")} == {b""}
    assert json.loads(reports[b"lease#2024#1240"][b"meta:epochs"])["sessions"] == {"9558": 1}


def test_a_run_of_the_version_before_goes_and_what_other_runs_stored_stays_and_counts(earlier: Installation) -> None:
    data, reports = _tables()
    earlier.roll_back(Target(_CAR_RUN))
    assert values(earlier.data) == _without_family(data, "car")
    after = values(earlier.reports)
    units = {key for key in after if key.startswith(b"unit#")}
    assert units == {key for key in reports if key.startswith(b"unit#") and b"#car_data#" not in key}
    assert f"run#{_CAR_RUN}".encode() not in after
    assert {status for some in _standing(earlier).values() for status in some} == {Status.DONE}
    # A worker of the version before that slept writes lines without an epoch: they count for nothing.
    earlier.put("f1_reports", {key: cells for key, cells in reports.items() if b"#car_data#" in key})
    assert _standing(earlier)["car_data", 44] == {Status.FAILED}


def _load_later_for_all_drivers(tables: Installation) -> None:
    """Write what this version does when the latter half of car_data is refreshed."""
    line = _line(_LATER_RUN, 2, "03") | {b"meta:epoch": b"0", b"meta:source": b"openf1"}
    tables.put("f1_reports", {f"unit#{_HERE}#car_data#-#{_MIDDLE}#-".encode(): line})
    tables.put("f1_reports", {f"run#{_LATER_RUN}".encode(): {b"meta:end": b"2024-11-03T12:10:00+00:00"}})


def test_rows_that_this_version_has_stored_since_for_all_drivers_are_not_the_earlier_run_s(
    earlier: Installation,
) -> None:
    _load_later_for_all_drivers(earlier)
    earlier.roll_back(Target(_CAR_RUN))
    assert values(earlier.data) == _without_family(_tables()[0], "car", _EARLY)
    assert _standing(earlier)["car_data", None] == {Status.DONE}


def test_units_by_driver_whose_rows_a_run_for_all_drivers_wrote_over_fail_with_it(earlier: Installation) -> None:
    _load_later_for_all_drivers(earlier)
    described = earlier.roll_back(Target(_LATER_RUN))
    assert "2 units of earlier runs speak of rows that this run wrote over" in described
    assert values(earlier.data) == _without_family(_tables()[0], "car", _LATE)
    standing = _standing(earlier)
    assert ("car_data", None) not in standing
    assert standing["car_data", 44] == standing["car_data", 63] == {Status.DONE, Status.FAILED}
    assert standing["location", 44] == {Status.DONE}
