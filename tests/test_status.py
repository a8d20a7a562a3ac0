"""What `status` makes of the reports."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hbase_server import LocalHBase
from samples import END, START, sample

from f1hbase.cli.options import defaults
from f1hbase.errors import F1HBaseError, UnreachableError
from f1hbase.model.catalog import ENDPOINTS, Slicing
from f1hbase.model.coverage import Status, UnitState
from f1hbase.model.rates import parse_rates
from f1hbase.model.units import ALL_TIME, Outcome, Scope, Unit, Window, slice_time
from f1hbase.operations.status import (
    Overview,
    Pace,
    ScopeStatus,
    StatusReader,
    read_status,
    status_json,
    status_lines,
    watch,
)
from f1hbase.state.hbase.brief import units_in_brief
from f1hbase.state.hbase.reports import HBaseReports, RunState
from f1hbase.stores.hbase.codec import encode
from f1hbase.stores.hbase.connector import HBaseConnector, find_gateways
from f1hbase.stores.hbase.frames import RowMutation
from f1hbase.stores.hbase.schema import Tables, ensure_tables

RACE = "2024#1240#9558"


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


def one(*states: UnitState, runs: Sequence[RunState] = (), known: Mapping[str, Scope] | None = None) -> ScopeStatus:
    """Return how the only session stands."""
    (scope,) = (scope for scope in read_status(states, {}, runs, known) if scope.session_key is not None)
    return scope


def lines_of(scopes: list[ScopeStatus], *runs: RunState, **values: Any) -> list[str]:
    return list(status_lines(Overview(scopes, list(runs), **values)))


def test_nothing_loaded_is_no_session_and_is_said() -> None:
    assert read_status([], {}) == []
    assert lines_of([]) == ["Nothing is loaded yet."]


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
    found = read_status([state(prefix=prefix) for prefix in prefixes], {})
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
    meeting, race = read_status([state()], {(RACE, "laps"): 2, ("2024#1240#-", "meetings"): 1})
    assert (meeting.session_key, meeting.quarantined) == (None, {"meetings": 1})
    assert (race.session_key, race.quarantined) == (9558, {"laps": 2})


# --- for people ---


def scopes() -> list[ScopeStatus]:
    states = [
        state("meetings", rows=1, prefix="2023#1140#-"),
        state("laps", rows=1_234_567),
        state("pit", Status.FAILED, error="HTTP 503: no"),
    ]
    return read_status(states, {(RACE, "laps"): 2})


def test_there_is_a_line_for_each_season_meeting_and_session_and_a_heading_for_each_season() -> None:
    lines = lines_of(scopes())
    assert [line.split() for line in lines[:7]] == [
        ["season", "done", "rows", "failed", "quarantine"],
        ["2023:", "1", "meeting,", "0", "sessions", "100", "%", "1", "-", "-"],
        ["1140", "100", "%", "1", "-", "-"],
        ["season", "done", "rows", "failed", "quarantine"],
        ["2024:", "1", "meeting,", "1", "session", "50.0", "%", "1,234,567", "1", "2"],
        ["1240", "50.0", "%", "1,234,567", "1", "2"],
        ["9558", "50.0", "%", "1,234,567", "1", "2"],
    ]
    assert {len(line) for line in lines[:7]} == {80}, "the columns stand below each other"


def test_every_failure_is_named_with_its_reason_and_quarantine_with_the_rows_to_look_at() -> None:
    lines = lines_of(scopes())
    total = next(line for line in lines if "records in quarantine" in line)
    assert total.startswith("1,234,568 rows")
    assert "1 units failed; 2 records in quarantine" in total
    assert "failed: pit session 9558: HTTP 503: no" in lines
    assert any("2 records of laps" in line and "quarantine#2024#1240#9558#laps#" in line for line in lines)


@pytest.mark.parametrize(
    ("run", "told"),
    [
        (
            RunState("r1", {"start": "S", "end": "E", "exit": "1"}, {"rows": "7", "seconds": "2.0"}),
            ["last run: r1", "  begun S, ended E with exit code 1", "  7 rows in 2.0 s"],
        ),
        (RunState("r1", {"start": "S"}), ["last run: r1", "  begun S, has not ended, or was killed"]),
    ],
)
def test_the_last_run_is_told_last_and_whether_it_was_killed(run: RunState, told: list[str]) -> None:
    assert lines_of(scopes(), run, RunState("r0"))[-len(told) :] == told


def test_a_run_that_holds_a_lease_is_told_as_running_with_what_it_loads() -> None:
    lines = lines_of(scopes(), RunState("r1", {"start": "S"}), loading={"run r1 (process 7 on h)": [1240, 1241]})
    assert "loading now: meetings 1240, 1241 by run r1 (process 7 on h)" in lines
    assert lines[-1] == "  begun S, is running"


def test_units_with_the_same_reason_are_told_in_one_line_with_an_example_and_the_mend() -> None:
    failures = [state("car_data", Status.FAILED, driver=driver, error="HTTP 504: slow") for driver in range(1, 13)]
    lines = lines_of(read_status([*failures, state("pit", Status.FAILED, error="HTTP 503: no")], {}))
    assert "failed: car_data session 9558 driver 1, and 11 units more: HTTP 504: slow" in lines
    assert "failed: pit session 9558: HTTP 503: no" in lines
    assert len([line for line in lines if line.startswith("failed:")]) == 2
    assert [line for line in lines if "mend: run the same load again" in line]


def test_many_sessions_are_folded_where_their_meeting_is_complete_and_shown_where_it_is_not() -> None:
    prefixes = [f"2024#{meeting}#{meeting * 10 + session}" for meeting in range(100, 124) for session in range(5)]
    states = [state(prefix=prefix, rows=10) for prefix in prefixes]
    states += [state("pit", Status.FAILED, prefix=prefixes[-1], error="HTTP 503: no")]
    lines = lines_of(read_status(states, {}))
    assert lines[1].split() == ["2024:", "24", "meetings,", "120", "sessions", "99.1", "%", "1,200", "1", "-"]
    shown = [line.split()[0] for line in lines if line.startswith("    ")]
    assert shown == ["1230", "1231", "1232", "1233", "1234"]
    assert any("--meeting-key K" in line for line in lines)
    assert len(lines) < 40


# --- how much is done ---


WHOLE = Scope(2024, 1240, 9558, START, END, "Silverstone, Race")
CARS_ONLY = RunState("r1", {"sessions": RACE, "endpoint": "car_data", "driver": "44,63"})
QUARTERS = slice_time(START, END, timedelta(minutes=15))


def done_of(*states: UnitState, run: RunState = CARS_ONLY) -> float | None:
    content = one(*states, runs=[run], known={RACE: WHOLE}).as_json()
    percent: float | None = content["percent_done"]
    return percent


def quarters(driver: int, count: int = 8) -> list[UnitState]:
    return [state("car_data", driver=driver, window=window) for window in QUARTERS[:count]]


def test_done_is_the_time_that_is_stored_of_what_was_asked_for() -> None:
    assert done_of() == 0
    assert done_of(*quarters(44, 1)) == 6.2, "an open window counts from the start of the session, rounded down"
    assert done_of(*quarters(44)) == 50
    assert done_of(*quarters(44), *quarters(63)) == 100


def test_what_failed_is_not_done_and_windows_that_overlap_count_once() -> None:
    last = QUARTERS[-1]
    failed = state("car_data", Status.FAILED, driver=63, window=last, error="HTTP 500")
    assert done_of(*quarters(44), *quarters(63, 7), failed) == 93.7
    hour = state("car_data", driver=63, window=Window(None, START + timedelta(hours=1)))
    assert done_of(*quarters(44), *quarters(63, 4), hour) == 75


def test_only_all_is_100_percent() -> None:
    tail = state("car_data", driver=63, window=Window(QUARTERS[-1].start, END + timedelta(minutes=5)))
    assert done_of(*quarters(44), *quarters(63, 7), tail) == 99.9, "samples come after the end of the session, too"


def test_a_unit_of_all_drivers_is_done_for_each_one() -> None:
    assert done_of(state("car_data")) == 100


def test_a_session_without_drivers_is_expected_to_have_as_many_as_usual() -> None:
    everything = RunState("r1", {"sessions": RACE})
    others = [state(name) for name, endpoint in ENDPOINTS.items() if endpoint.slicing is Slicing.SESSION]
    assert done_of(*others, run=everything) == 4.4, "15 requests of 15 + 2 endpoints x 20 drivers x 8 windows"
    seen = [replace(one, drivers=frozenset({44, 63})) for one in others]
    assert done_of(*seen, run=everything) == 31.9, "15 of 15 + 2 x 2 x 8"


def test_a_session_that_was_asked_for_is_shown_before_anything_of_it_is_loaded() -> None:
    meeting, race = read_status([], {}, [RunState("r1", {"sessions": RACE})], {RACE: WHOLE})
    assert (meeting.session_key, race.session_key) == (None, 9558)
    assert (race.name, race.rows.total()) == ("Silverstone, Race", 0)


# --- what is left ---


def overview(**values: Any) -> Overview:
    return Overview(read_status(quarters(44), {}, [CARS_ONLY], {RACE: WHOLE}), [CARS_ONLY], **values)


def test_the_time_left_is_that_of_the_limits_while_nobody_loads() -> None:
    alone = overview(rates=parse_rates("4/m"))
    assert (alone.left, alone.seconds_left) == (8, 60.6), "the meeting's own record comes with the plan"
    assert list(status_lines(alone))[-4:-2] == [
        "left: about 8 requests with windows of 15 minutes", "  at least 61 s at the API's limits (4/m)",
    ]  # fmt: skip


def test_the_time_left_goes_by_the_pace_of_the_load_that_runs() -> None:
    running = overview(rates=parse_rates("4/m"), loading={"run r1 (process 7 on h)": [1240]}, pace=Pace(4, 120))
    assert running.seconds_left == 240
    assert "  about 4 min at 2.0 a minute, as in the last minutes" in status_lines(running)


def test_nothing_is_left_when_all_is_done() -> None:
    scopes = read_status([*quarters(44), *quarters(63)], {}, [CARS_ONLY], {RACE: WHOLE})
    assert "left: nothing of what was asked for" in lines_of(scopes)


# --- in place ---


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_watching_shows_it_again_in_the_same_place_until_it_is_interrupted() -> None:
    terminal = Terminal()
    seen: list[float] = []

    def sleep(seconds: float) -> None:
        seen.append(seconds)
        if len(seen) == 2:
            raise KeyboardInterrupt

    watch(overview, terminal, sleep=sleep)
    first, second = terminal.getvalue().split("\x1b[H")[1:]
    assert first.endswith("\x1b[J")
    # It fills the 80 columns: clearing what comes after it would take its last letter away.
    assert second.splitlines()[1] == f"{'season':<38}{'done':>8}{'rows':>14}{'failed':>8}{'quarantine':>12}"
    assert second.splitlines()[0].endswith("ends\x1b[K")
    assert min(seen) >= 5


def test_watching_goes_on_when_hbase_is_away_for_a_while() -> None:
    terminal = Terminal()
    answers: Iterator[Overview | None] = iter([None, overview()])

    def read() -> Overview:
        answer = next(answers)
        if answer is None:
            raise UnreachableError("HBase does not answer")
        return answer

    def sleep(_: float) -> None:
        if "season" in terminal.getvalue():
            raise KeyboardInterrupt

    watch(read, terminal, sleep=sleep)
    assert "HBase does not answer" in terminal.getvalue()


def test_on_a_low_terminal_the_middle_is_left_out_and_the_sums_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((80, 24)))
    states = [state(prefix=f"2024#{meeting}#{meeting}", rows=1) for meeting in range(100, 160)]
    terminal = Terminal()

    def end(_: float) -> None:
        raise KeyboardInterrupt

    watch(lambda: Overview(read_status(states, {})), terminal, sleep=end)
    shown = terminal.getvalue().splitlines()
    assert len(shown) == 24, "23 lines, and what clears the rest"
    assert any("lines more" in line for line in shown)
    assert any(line.startswith("60 rows, 0 units failed") for line in shown)


# --- for machines ---


def test_the_same_is_there_as_json() -> None:
    run = RunState("r1", {"start": "S"}, {"rows": "7"}, {"HTTP 503": "1"})
    content = json.loads(json.dumps(status_json(Overview(scopes(), [run]))))
    assert content["sessions"][1] == {
        "year": 2024,
        "meeting_key": 1240,
        "session_key": 9558,
        "name": "",
        "date_start": None,
        "percent_done": 50.0,
        "units": {"done": 1, "failed": 1},
        "rows": {"laps": 1_234_567},
        "quarantined": {"laps": 2},
        "failures": [{"unit": "pit session 9558", "reason": "HTTP 503: no"}],
    }
    assert content["sessions"][0]["session_key"] is None
    assert (content["requests_left"], content["seconds_left"], content["loading"]) == (1, None, [])
    assert content["runs"] == [
        {"run_id": "r1", "meta": {"start": "S"}, "stats": {"rows": "7"}, "errors": {"HTTP 503": "1"}}
    ]


# --- from the tables ---


@pytest.mark.hbase
def test_what_is_read_in_brief_is_what_the_reports_say(hbase: LocalHBase, table_prefix: str) -> None:
    connector = HBaseConnector(find_gateways([(hbase.host, hbase.port)]))
    tables = Tables(table_prefix)
    ensure_tables(connector, tables)
    reports = HBaseReports(connector, tables.reports)
    late = END + timedelta(days=9)
    everybody = frozenset({44, 63})
    outcomes = [
        *(Outcome(Unit("car_data", WHOLE, 44, window), late, rows=100) for window in QUARTERS),
        *(Outcome(Unit("car_data", WHOLE, 63, window), late, rows=100) for window in QUARTERS[:6]),
        Outcome(Unit("car_data", WHOLE, 63, QUARTERS[6]), late, error="HTTP 500: slow"),
        Outcome(Unit("car_data", WHOLE, 63, QUARTERS[7]), END + timedelta(hours=1), rows=7),
        *(Outcome(Unit("car_data", WHOLE, 1, window), late) for window in (QUARTERS[0], QUARTERS[2])),
        Outcome(Unit("drivers", WHOLE), late, rows=2, drivers=everybody, entrants=everybody),
        Outcome(Unit("laps", WHOLE), late, rows=0),
    ]
    reports.write_units("r1", outcomes)
    reports.write_units("r2", [Outcome(Unit("laps", WHOLE), late, error="HTTP 404: gone")])
    connector.put(tables.reports, [RowMutation(b"unit#nonsense", {b"stats:rows": b"9"})])
    row = encode(ENDPOINTS["sessions"], 2024, sample("sessions"))
    connector.put(tables.data, [RowMutation(row.key, row.cells)])
    reports.write_run(RunState("r1", {"start": START.isoformat(), "sessions": RACE, "endpoint": "car_data,laps"}))

    second = HBaseConnector(find_gateways([(hbase.host, hbase.port)]))
    brief = units_in_brief(connector, second, tables.reports)
    assert len(brief) == 8, "windows that are done and follow each other are one"
    (by_brief,) = read_status(brief, {})
    (by_all,) = read_status(reports.unit_states(WHOLE), {})
    assert by_brief == by_all
    for halves in (["2024#1240#-", RACE], [RACE, "2025#1"], ["2023#1"]):
        assert units_in_brief(connector, second, tables.reports, halves) == brief, "however they are halved"
    second.close()
    assert by_brief.units == {"done": 17, "failed": 2, "provisional": 1}
    assert by_brief.rows == {"car_data": 1407, "drivers": 2}

    settings = defaults(hbase_host=hbase.host, hbase_port=hbase.port, table_prefix=table_prefix)
    meeting, race = StatusReader(settings).read().scopes
    assert (race.name, race.date_start) == ("Silverstone, Race", START)
    assert race.as_json()["percent_done"] == 69.2, (
        "of 8 windows of three drivers, laps and drivers, a window and laps fail, and six windows are not there"
    )
    (only,) = StatusReader(replace(settings, session_key=(9558,))).read().scopes
    assert only == race
    with pytest.raises(F1HBaseError, match="knows nothing of --session-key 1; "):
        StatusReader(replace(settings, session_key=(1,))).read()
    assert meeting.session_key is None
    connector.close()
