"""What `status` makes of the reports."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from samples import END, START

from f1hbase.coverage import Status, UnitState
from f1hbase.hbase.reports import HBaseReports, RunState
from f1hbase.status import ScopeStatus, read_status, status_json, status_lines
from f1hbase.units import ALL_TIME, Window, slice_time

RACE = "2024#1240#9558"


class Remembered(HBaseReports):
    """Reports that are handed in instead of read from a table."""

    def __init__(self, *states: UnitState, quarantine: dict[tuple[str, str], int] | None = None) -> None:
        self._units = list(states)
        self._quarantine = quarantine or {}

    def all_unit_states(self) -> list[UnitState]:
        return self._units

    def quarantined(self) -> dict[tuple[str, str], int]:
        return self._quarantine


def state(
    endpoint: str = "laps",
    status: Status = Status.DONE,
    rows: int = 0,
    *,
    prefix: str = RACE,
    driver: int | None = None,
    window: Window = ALL_TIME,
    error: str | None = None,
) -> UnitState:
    return UnitState(prefix, endpoint, driver, window, status, stats={"rows": float(rows)}, error=error)


def one(*states: UnitState) -> ScopeStatus:
    (scope,) = read_status(Remembered(*states))
    return scope


def test_nothing_loaded_is_no_session_and_is_said() -> None:
    assert read_status(Remembered()) == []
    assert list(status_lines([], [])) == ["Nothing is loaded yet."]


def test_the_units_of_a_session_are_counted_by_how_they_stand_and_its_rows_by_endpoint() -> None:
    scope = one(
        state("laps", rows=900),
        state("car_data", rows=10, driver=1, window=Window(None, START)),
        state("car_data", Status.PROVISIONAL, rows=5, driver=1, window=Window(START, None)),
        state("weather", Status.PARTIAL, rows=3),
        state("pit", Status.FAILED, error="HTTP 503: no"),
    )
    assert (scope.year, scope.meeting_key, scope.session_key) == (2024, 1240, 9558)
    assert scope.units == {"done": 2, "provisional": 1, "partial": 1, "failed": 1}
    assert scope.rows == {"laps": 900, "car_data": 15, "weather": 3}
    assert scope.failures == [("pit session 9558", "HTTP 503: no")]


def test_sessions_come_in_the_order_of_their_numbers_and_a_meeting_before_its_sessions() -> None:
    prefixes = ["2024#1240#9558", "2023#99#1000", "2024#1240#-", "2024#1240#999", "2023#1140#7000"]
    found = read_status(Remembered(*(state(prefix=prefix) for prefix in prefixes)))
    assert [(scope.year, scope.meeting_key, scope.session_key) for scope in found] == [
        (2023, 99, 1000), (2023, 1140, 7000), (2024, 1240, None), (2024, 1240, 999), (2024, 1240, 9558),
    ]  # fmt: skip


def test_a_failure_that_other_windows_have_made_good_is_no_failure() -> None:
    failed = state("car_data", Status.FAILED, driver=44, error="HTTP 504")
    halves = [
        state("car_data", driver=44, window=Window(None, START)),
        state("car_data", driver=44, window=Window(START, None)),
    ]
    assert one(failed, *halves).failures == []
    assert one(failed, *halves).units == {"done": 2}
    assert one(failed, halves[0]).failures == [("car_data session 9558 driver 44", "HTTP 504")]


def test_a_failure_for_one_driver_that_a_unit_of_all_drivers_has_made_good_is_no_failure() -> None:
    assert one(state("laps", Status.FAILED, driver=44), state("laps")).failures == []


def test_a_failure_without_a_reason_is_shown_all_the_same() -> None:
    assert one(state(status=Status.FAILED)).failures == [("laps session 9558", "no reason known")]


def test_rows_that_were_loaded_again_with_another_window_size_are_counted_once() -> None:
    quarters, hours = (slice_time(START, END, timedelta(minutes=minutes)) for minutes in (15, 60))
    first = [state("car_data", Status.PROVISIONAL, rows=100, driver=44, window=window) for window in quarters]
    again = [state("car_data", rows=400, driver=44, window=window) for window in hours]
    scope = one(*first, *again)
    assert scope.rows == {"car_data": 800}


def test_what_was_provisional_and_has_been_asked_for_once_more_is_no_longer_shown_as_provisional() -> None:
    again = [state("car_data", driver=44, window=window) for window in slice_time(START, END, timedelta(hours=1))]
    assert one(state("car_data", Status.PROVISIONAL, driver=44), *again).units == {"done": 2}


def test_records_in_quarantine_are_counted_even_if_nothing_else_of_their_session_is_known() -> None:
    reports = Remembered(state(), quarantine={(RACE, "laps"): 2, ("2024#1240#-", "meetings"): 1})
    meeting, race = read_status(reports)
    assert (meeting.session_key, meeting.quarantined) == (None, {"meetings": 1})
    assert (race.session_key, race.quarantined) == (9558, {"laps": 2})


# --- for people ---


def scopes() -> list[ScopeStatus]:
    states = [
        state("meetings", rows=1, prefix="2023#1140#-"),
        state("laps", rows=1_234_567),
        state("pit", Status.FAILED, error="HTTP 503: no"),
    ]
    return read_status(Remembered(*states, quarantine={(RACE, "laps"): 2}))


def test_there_is_a_line_for_each_session_and_a_heading_for_each_season() -> None:
    lines = list(status_lines(scopes(), []))
    assert [line.split() for line in lines[:4]] == [
        ["season", "meeting", "session", "done", "provisional", "partial", "failed", "rows"],
        ["2023", "1140", "-", "1", "0", "0", "0", "1"],
        ["season", "meeting", "session", "done", "provisional", "partial", "failed", "rows"],
        ["2024", "1240", "9558", "1", "0", "0", "1", "1,234,567"],
    ]
    assert len({len(line) for line in lines[:4]}) == 1, "the columns stand below each other"


def test_every_failure_is_named_with_its_reason_and_quarantine_with_the_rows_to_look_at() -> None:
    lines = list(status_lines(scopes(), []))
    total = next(line for line in lines if "records in quarantine" in line)
    assert total.startswith("1,234,568 rows")
    assert "1 units failed; 2 records in quarantine" in total
    assert "failed: pit session 9558: HTTP 503: no" in lines
    assert any("2 records of laps" in line and "quarantine#2024#1240#9558#laps#" in line for line in lines)


@pytest.mark.parametrize(
    ("run", "line"),
    [
        (
            RunState("r1", {"start": "S", "end": "E", "exit": "1"}, {"rows": "7", "seconds": "2.0"}),
            "last run: r1, begun S, ended E with exit code 1; 7 rows in 2.0 s",
        ),
        (RunState("r1", {"start": "S"}), "last run: r1, begun S, has not ended, or was killed"),
    ],
)
def test_the_last_run_is_told_last_and_whether_it_was_killed(run: RunState, line: str) -> None:
    assert list(status_lines(scopes(), [run, RunState("r0")]))[-1] == line


# --- for machines ---


def test_the_same_is_there_as_json() -> None:
    run = RunState("r1", {"start": "S"}, {"rows": "7"}, {"HTTP 503": "1"})
    content = json.loads(json.dumps(status_json(scopes(), [run])))
    assert content["sessions"][1] == {
        "year": 2024,
        "meeting_key": 1240,
        "session_key": 9558,
        "units": {"done": 1, "failed": 1},
        "rows": {"laps": 1_234_567},
        "quarantined": {"laps": 2},
        "failures": [{"unit": "pit session 9558", "reason": "HTTP 503: no"}],
    }
    assert content["sessions"][0]["session_key"] is None
    assert content["runs"] == [
        {"run_id": "r1", "meta": {"start": "S"}, "stats": {"rows": "7"}, "errors": {"HTTP 503": "1"}}
    ]
