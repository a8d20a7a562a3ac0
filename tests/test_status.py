"""What `status` makes of the reports."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cli import Loader
from hbase_server import LocalHBase
from replay_server import ReplayServer
from samples import END, START, sample

from f1hbase.cli.watching import watch
from f1hbase.errors import F1HBaseError, UnreachableError
from f1hbase.model.answers import RequestStats
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.outcomes import Outcome, Receipt, RunState, Status, UnitState
from f1hbase.model.plans import Selection
from f1hbase.model.rates import Limits, parse_limits
from f1hbase.model.units import ALL_TIME, Scope, Unit, Window, slice_time
from f1hbase.operations.status import (
    Overview,
    Pace,
    ScopeStatus,
    StatusReader,
    judge,
    status_json,
    status_lines,
)
from f1hbase.operations.status.base import AnyStateView
from f1hbase.state.base import Epochs
from f1hbase.state.hbase.brief import HBaseView, units_in_brief
from f1hbase.state.hbase.cells import EPOCHS_CELL, LEASE_CELL, lease_row
from f1hbase.state.hbase.reports import HBaseReports, epochs_text
from f1hbase.stores.hbase.codec import encode
from f1hbase.stores.hbase.connector import HBaseConnector, find_gateways
from f1hbase.stores.hbase.frames import RowMutation
from f1hbase.stores.hbase.schema import Tables, ensure_tables

RACE = "2024#1240#9558"
LATER = END + timedelta(days=90)


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
    (scope,) = (scope for scope in judge(states, {}, runs, known, LATER) if scope.session_key is not None)
    return scope


def lines_of(scopes: list[ScopeStatus], *runs: RunState, **values: Any) -> list[str]:
    return list(status_lines(Overview(scopes, list(runs), **values)))


def test_nothing_loaded_is_no_session_and_is_said() -> None:
    assert judge([], {}) == []
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
    found = judge([state(prefix=prefix) for prefix in prefixes], {})
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
    meeting, race = judge([state()], {(RACE, "laps"): 2, ("2024#1240#-", "meetings"): 1})
    assert (meeting.session_key, meeting.quarantined) == (None, {"meetings": 1})
    assert (race.session_key, race.quarantined) == (9558, {"laps": 2})


# --- for people ---


def scopes() -> list[ScopeStatus]:
    states = [
        state("meetings", rows=1, prefix="2023#1140#-"),
        state("laps", rows=1_234_567),
        state("pit", Status.FAILED, error="HTTP 503: no"),
    ]
    return judge(states, {(RACE, "laps"): 2})


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
    assert "1 unit failed; 2 records in quarantine" in total
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


def test_units_with_the_same_reason_are_told_in_one_line_with_an_example_and_the_fix() -> None:
    failures = [state("car_data", Status.FAILED, driver=driver, error="HTTP 504: slow") for driver in range(1, 13)]
    lines = lines_of(judge([*failures, state("pit", Status.FAILED, error="HTTP 503: no")], {}))
    assert "failed: car_data session 9558 driver 1, and 11 units more: HTTP 504: slow" in lines
    assert "failed: pit session 9558: HTTP 503: no" in lines
    assert len([line for line in lines if line.startswith("failed:")]) == 2
    assert [line for line in lines if "fix: run the same load again" in line]


def test_many_sessions_are_folded_where_their_meeting_is_complete_and_shown_where_it_is_not() -> None:
    prefixes = [f"2024#{meeting}#{meeting * 10 + session}" for meeting in range(100, 124) for session in range(5)]
    states = [state(prefix=prefix, rows=10) for prefix in prefixes]
    states += [state("pit", Status.FAILED, prefix=prefixes[-1], error="HTTP 503: no")]
    lines = lines_of(judge(states, {}))
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
    done = done_of(*quarters(44), *quarters(63, 7), tail)
    assert done is not None
    assert 98 < done < 100, "samples come after the end of the session, too"


def test_a_unit_of_all_drivers_is_done_for_each_one() -> None:
    assert done_of(state("car_data")) == 100


EVERYTHING = RunState("r1", {"sessions": RACE})
OTHERS = [state(name) for name, endpoint in ENDPOINTS.items() if not endpoint.sampled and not endpoint.of_meeting]


def test_the_samples_of_all_cars_are_most_of_a_session() -> None:
    windows = [state("car_data", window=window) for window in QUARTERS[:4]]
    assert done_of(*OTHERS, run=EVERYTHING) == 15.7, "15 shared answers of 15 and 2 x 8 full ones"
    assert done_of(*OTHERS, *windows, run=EVERYTHING) == 36.8
    everything = [*OTHERS, state("car_data"), state("location")]
    assert done_of(*everything, run=EVERYTHING) == 100


def test_what_was_loaded_by_driver_counts_for_the_drivers_that_are_known_and_is_said() -> None:
    known = replace(state("drivers"), drivers=frozenset({44, 63}))
    by_driver = [state(name, driver=driver) for name in ("car_data", "location") for driver in (44, 63)]
    session = [one for one in OTHERS if one.endpoint != "drivers"] + [known]
    assert done_of(*session, *by_driver, run=EVERYTHING) == 100
    scope = one(*session, *by_driver, runs=[EVERYTHING], known={RACE: WHOLE})
    assert scope.known_drivers_only
    assert any(line.startswith("cars that no list names: not asked for in 1 session") for line in lines_of([scope]))
    assert done_of(*session, *by_driver[:-1], run=EVERYTHING) != 100
    every = [*session, state("car_data"), state("location")]
    assert not one(*every, runs=[EVERYTHING], known={RACE: WHOLE}).known_drivers_only


def test_a_load_of_some_drivers_says_nothing_of_unknown_cars() -> None:
    assert not one(*quarters(44), *quarters(63), runs=[CARS_ONLY], known={RACE: WHOLE}).known_drivers_only


def test_what_is_due_again_and_what_is_empty_is_counted_and_explained() -> None:
    race = replace(WHOLE, kind="Race")
    units = [
        replace(state("laps", Status.PROVISIONAL, rows=5), fetched=END + timedelta(hours=1)),
        replace(state("session_result", Status.PROVISIONAL, rows=5), fetched=END + timedelta(hours=1)),
        state("weather"),
    ]
    soon, _ = (judge(units, {}, [], {RACE: race}, END + after)[0] for after in (timedelta(days=3), timedelta(days=61)))
    assert (soon.units["provisional"], soon.due, soon.empty) == (2, 1, ["weather"])
    text = "\n".join(lines_of([soon]))
    assert "2 units provisional: fetched less than 48 hours after the session" in text
    assert "(results and championships: 14 days)" in text
    assert "1 unit of them due now" in text
    assert "1 endpoint without any record" in text
    assert "2, 14 and 60 days after the session" in text
    (late,) = judge(units, {}, [], {RACE: race}, END + timedelta(days=61))
    assert late.empty == [], "it is not asked for again"


def test_a_session_that_was_asked_for_is_shown_before_anything_of_it_is_loaded() -> None:
    meeting, race = judge([], {}, [RunState("r1", {"sessions": RACE})], {RACE: WHOLE})
    assert (meeting.session_key, race.session_key) == (None, 9558)
    assert (race.name, race.rows.total()) == ("Silverstone, Race", 0)


# --- what is left ---


class Source:
    """A source with limits that needs two requests for each span of time."""

    learns_sizes = False

    def __init__(self, rates: str) -> None:
        self.limits: Limits = parse_limits(rates)

    def requests(self, units: Collection[Unit]) -> int:
        return 2 * len(units)

    def bytes_per_record(self, endpoint: str) -> float:
        return 1.0


def overview(**values: Any) -> Overview:
    scopes = judge(quarters(44), {}, [CARS_ONLY], {RACE: WHOLE}, LATER)
    return Overview(scopes, [CARS_ONLY], **values)


def test_the_time_left_is_that_of_the_limits_while_nobody_loads() -> None:
    alone = overview(limits=parse_limits("4/m"), requests_left=8)
    assert alone.seconds_left == 60.6
    assert list(status_lines(alone))[-4:-2] == [
        "left: about 8 requests, of 1 session", "  at least 61 s at the source's limits (4/m)",
    ]  # fmt: skip


def test_the_time_left_goes_by_the_pace_of_the_load_that_runs() -> None:
    running = overview(
        limits=parse_limits("4/m"), requests_left=8, loading={"run r1 (process 7 on h)": [1240]}, pace=Pace(0.1, 5, 120)
    )
    assert running.seconds_left == 480, "0.4 of 0.8 answers of the usual size are left"
    assert "  about 8 min at the pace of the last minutes (2.5 requests a minute)" in status_lines(running)


def test_nothing_is_left_when_all_is_done() -> None:
    scopes = judge([*quarters(44), *quarters(63)], {}, [CARS_ONLY], {RACE: WHOLE}, LATER)
    assert "left: nothing of what was asked for" in lines_of(scopes)


def test_limits_are_spoken_of_only_where_they_make_somebody_wait() -> None:
    def said(requests: int, rates: str) -> list[str]:
        scopes = [ScopeStatus(2024, 1240, 9558, asked=400, left=requests)]
        lines = status_lines(Overview(scopes, limits=parse_limits(rates), requests_left=requests))
        return [line for line in lines if "limits" in line]

    assert said(300, "3/s,30/m") == ["  at least 9 min at the source's limits (3/s,30/m)"]
    assert said(3, "3/s,30/m") == said(0, "3/s,30/m") == said(300, "none") == []


# --- from any state ---


class Memory:
    """A state of three dicts: `State`, `Runs` and `StateIndex`, as far as status asks."""

    def __init__(self, states: Sequence[UnitState], runs: Sequence[RunState]) -> None:
        self._states, self._runs = states, runs

    def runs(self) -> list[RunState]:
        return list(self._runs)

    def unit_scopes(self) -> list[str]:
        return sorted({state.scope_prefix for state in self._states})

    def unit_states(self, scope: Scope) -> list[UnitState]:
        return [state for state in self._states if state.scope_prefix == scope.prefix]

    def quarantine_counts(self) -> dict[tuple[str, str], int]:
        return {}

    def holders(self) -> Iterator[tuple[Scope, str]]:
        yield Scope(2024, 1240, None), "run r1 (process 7 on h)"


class Records:
    """A reader of one session."""

    home = "memory"

    def sessions(self) -> list[dict[str, Any]]:
        return [sample("sessions"), sample("sessions", session_key=None)]

    def meetings(self) -> list[dict[str, Any]]:
        return [sample("meetings")]


def test_any_state_can_be_read_session_by_session_with_names_from_its_own_records() -> None:
    fetched = [replace(one, fetched=LATER, stats={"rows": 5.0, "attempts": 1.0}) for one in quarters(44)]
    view = AnyStateView("memory", Memory(fetched, [CARS_ONLY]), Records())  # type: ignore[arg-type]
    found = StatusReader(view, Selection(session_key=(9558,)), lambda: Source("4/m")).read()
    (race,) = found.scopes
    assert (race.name, race.date_start, race.rows["car_data"]) == ("British Grand Prix, Race", START, 40)
    assert (found.requests_left, found.seconds_left is not None) == (2, True)
    assert found.loading == {"run r1 (process 7 on h)": [1240]}
    with pytest.raises(F1HBaseError, match="'memory' knows nothing of --session-key 1; "):
        StatusReader(view, Selection(session_key=(1,))).read()
    empty = AnyStateView("memory", Memory([], []))  # type: ignore[arg-type]
    with pytest.raises(F1HBaseError, match="nothing has been loaded yet"):
        StatusReader(empty, Selection())


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

    watch(lambda: status_lines(overview()), terminal, sleep=sleep)
    first, second = terminal.getvalue().split("\x1b[H")[1:]
    assert first.endswith("\x1b[J")
    # It fills the 80 columns: clearing what comes after it would take its last letter away.
    assert second.splitlines()[1] == f"{'season':<38}{'done':>8}{'rows':>14}{'failed':>8}{'quarantine':>12}"
    assert second.splitlines()[0].endswith("ends\x1b[K")
    assert min(seen) >= 5


def test_watching_goes_on_when_hbase_is_away_for_a_while() -> None:
    terminal = Terminal()
    answers: Iterator[Overview | None] = iter([None, overview()])

    def read() -> Iterator[str]:
        answer = next(answers)
        if answer is None:
            raise UnreachableError("HBase does not answer")
        return status_lines(answer)

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

    watch(lambda: lines_of(judge(states, {})), terminal, sleep=end)
    shown = terminal.getvalue().splitlines()
    assert len(shown) == 24, "23 lines, and what clears the rest"
    assert any("lines more" in line for line in shown)
    assert any(line.startswith("60 rows, 0 units failed") for line in shown)


def test_a_name_in_what_is_shown_in_place_cannot_command_the_terminal() -> None:
    terminal = Terminal()

    def end(_: float) -> None:
        raise KeyboardInterrupt

    watch(lambda: ["\x1b[2J[SUCCESS]\nforged"], terminal, sleep=end)
    assert r"\x1b[2J[SUCCESS]\nforged" in terminal.getvalue()
    assert "\x1b[2J" not in terminal.getvalue()


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
        "units_due_again": 0,
        "endpoints_without_records": [],
        "unknown_cars_asked_for": True,
        "rows": {"laps": 1_234_567},
        "quarantined": {"laps": 2},
        "failures": [{"unit": "pit session 9558", "reason": "HTTP 503: no"}],
    }
    assert content["sessions"][0]["session_key"] is None
    assert (content["requests_left"], content["seconds_left"], content["loading"]) == (None, None, [])
    assert content["runs"] == [
        {"run_id": "r1", "meta": {"start": "S"}, "stats": {"rows": "7"}, "errors": {"HTTP 503": "1"}}
    ]


def test_status_and_plan_read_a_landing_zone_as_they_read_hbase(tmp_path: Path) -> None:
    make = ["-m", "simulator", "make", str(tmp_path / "api"), "--minutes", "1", "--drivers", "2", "--sessions", "race"]
    subprocess.run([sys.executable, *make], check=True, stdout=subprocess.DEVNULL)
    with ReplayServer(tmp_path / "api") as api:
        (tmp_path / "work").mkdir()
        loader = Loader(tmp_path / "work", {"F1HBASE_API_URL": api.url, "XDG_STATE_HOME": str(tmp_path / "state")})
        assert "no folder './zone'" in loader.run("status", "--to", "./zone", exit_code=2)
        before = json.loads(loader.run("plan", "--json", "--to", "./zone").partition("{\n")[2].join(["{", ""]))
        loader.run("load", "--to", "./zone")
        content = json.loads(loader.run("status", "--json", "--to", "./zone"))
        after = loader.run("plan", "--to", "./zone")
    assert before["total"]["units"] > 0
    assert content["percent_done"] == 100
    (race,) = (one for one in content["sessions"] if one["session_key"] is not None)
    assert race["rows"]["car_data"] > 0
    assert race["name"].endswith(", Race")
    assert "1 session, nothing left to load" in after


# --- from the tables ---


def an_outcome(endpoint: str, driver: int | None = None, window: Window = ALL_TIME, **values: Any) -> Outcome:
    receipt = Receipt(values.pop("rows", 0))
    moment = values.pop("at", END + timedelta(days=90))
    return Outcome(Unit(endpoint, WHOLE, driver, window), moment, receipt=receipt, **values)


@pytest.mark.hbase
def test_what_is_read_in_brief_is_what_the_reports_say(hbase: LocalHBase, table_prefix: str) -> None:
    gateways = find_gateways([(hbase.host, hbase.port)])
    connector = HBaseConnector(gateways)
    tables = Tables(table_prefix)
    view = HBaseView(gateways, tables)
    with pytest.raises(F1HBaseError, match=f"there is no table '{tables.reports}': nothing has been loaded yet"):
        StatusReader(view, Selection())
    ensure_tables(connector, tables)
    reports = HBaseReports(connector, tables.reports)
    outcomes = [
        *(an_outcome("location", None, window, rows=900) for window in QUARTERS[:5]),
        *(an_outcome("car_data", 44, window, rows=100) for window in QUARTERS),
        *(an_outcome("car_data", 63, window, rows=100) for window in QUARTERS[:6]),
        an_outcome("car_data", 63, QUARTERS[6], error="HTTP 500: slow"),
        an_outcome("car_data", 63, QUARTERS[7], at=END + timedelta(hours=1), rows=7),
        *(an_outcome("car_data", 1, window) for window in (QUARTERS[0], QUARTERS[2])),
        an_outcome("drivers", rows=2, drivers=frozenset({44, 63})),
        an_outcome("laps"),
    ]
    reports.write_units("r1", outcomes)
    reports.write_units("r2", [an_outcome("laps", error="HTTP 404: gone")])
    connector.put(tables.reports, [RowMutation(b"unit#nonsense", {b"stats:rows": b"9"})])
    row = encode(ENDPOINTS["sessions"], 2024, sample("sessions"))
    connector.put(tables.data, [RowMutation(row.key, row.cells)])
    reports.write_run(
        RunState("r1", {"start": START.isoformat(), "sessions": RACE, "endpoint": "car_data,laps,location"})
    )

    second = HBaseConnector(gateways)
    brief = units_in_brief(connector, second, tables.reports)
    assert len(brief) == 9, "windows that are done and follow each other are one"
    (by_brief,) = judge(brief, {})
    (by_all,) = judge(reports.unit_states(WHOLE), {})
    assert by_brief == by_all
    for halves in (["2024#1240#-", RACE], [RACE, "2025#1"], ["2023#1"]):
        assert units_in_brief(connector, second, tables.reports, halves) == brief, "however they are halved"
    second.close()
    assert by_brief.units == {"done": 22, "failed": 2, "provisional": 1}
    assert by_brief.rows == {"car_data": 1407, "drivers": 2, "location": 4500}

    (race,) = StatusReader(view, Selection()).read().scopes
    assert (race.name, race.date_start) == ("Silverstone, Race", START)
    (only,) = StatusReader(view, Selection(session_key=(9558,)), lambda: Source("none")).read().scopes
    assert only == race
    with pytest.raises(F1HBaseError, match="knows nothing of --session-key 1; "):
        StatusReader(view, Selection(session_key=(1,))).read()

    # What a load has done in the last minutes, by its requests.
    now = datetime.now(UTC)
    reports.write_units("r3", [an_outcome("pit", at=now, stats=RequestStats(3))])
    assert [(one.endpoint, one.stats["attempts"]) for one in view.fetched_since(now)] == [("pit", 3)]
    assert {one.endpoint for one in view.measured(100)} == {"location", "car_data", "drivers", "laps", "pit"}

    # Lines of an older epoch count for nothing.
    epochs = epochs_text(Epochs({"9558": 1}))
    connector.put(tables.reports, [RowMutation(lease_row(WHOLE.meeting), {EPOCHS_CELL: epochs, LEASE_CELL: b"?"})])
    reports.write_units("r4", [an_outcome("weather", rows=5, epoch=1)])
    (rolled_back,) = StatusReader(view, Selection(session_key=(9558,))).read().scopes
    assert rolled_back.rows == {"weather": 5}
    assert rolled_back.units == {"done": 1, "failed": 26}
    view.close()
    connector.close()
