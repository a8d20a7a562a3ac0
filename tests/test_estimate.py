"""What a load is said to take before it begins, and what of that is learnt from what is loaded already."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from hbase_server import free_ports
from samples import END, START, a_meeting, a_scope

from f1hbase.cli.options import defaults
from f1hbase.model.coverage import Status, UnitState
from f1hbase.model.rates import parse_rates
from f1hbase.model.text import size
from f1hbase.model.units import ALL_TIME, Scope, Unit, Window, slice_time
from f1hbase.operations.estimate import (
    CostModel,
    Estimate,
    SessionEstimate,
    forecast,
    forecast_json,
    forecast_lines,
    learn,
    seconds_at,
    supposed_drivers,
    usual_requests,
    window_seconds,
)
from f1hbase.operations.status import Overview, ScopeStatus, status_lines
from f1hbase.pipeline.plan import Remaining

RACE = a_scope(name="British Grand Prix, Race")
QUARTER = timedelta(minutes=15)


def state(endpoint: str, window: Window = ALL_TIME, driver: int | None = None, **stats: float) -> UnitState:
    run = "auto" if stats.pop("auto", 0) else "plain"
    return UnitState(RACE.prefix, endpoint, driver, window, Status.DONE, stats=stats, run=run)


def learnt(*states: UnitState, auto: bool = False) -> CostModel:
    return learn(states, {RACE.prefix: RACE}, {"auto"}, auto=auto)


# --- the weight of windows ---


def test_the_windows_of_a_session_weigh_together_what_the_session_does() -> None:
    windows = slice_time(START, END, QUARTER)
    assert [window_seconds(window, RACE) for window in windows] == [900.0] * 8
    assert sum(usual_requests(window, RACE) for window in windows) == usual_requests(ALL_TIME, RACE) == 8


def test_a_window_beside_its_session_weighs_nothing_and_one_across_its_end_what_is_inside() -> None:
    assert window_seconds(Window(END, None), RACE) == 0
    assert window_seconds(Window(END - QUARTER, END + QUARTER), RACE) == 900


def test_a_session_shorter_than_a_window_takes_a_request_all_the_same() -> None:
    assert usual_requests(ALL_TIME, replace(RACE, date_end=START + timedelta(minutes=1))) == 1


# --- what is learnt ---


def test_without_experience_a_driver_on_track_makes_3350_records_of_189_bytes_in_15_minutes() -> None:
    unit = Unit("car_data", RACE, 44, slice_time(START, END, QUARTER)[3])
    assert CostModel().rows(unit) == 3_350
    assert CostModel().bytes(unit, as_csv=False) == pytest.approx(633_000)
    assert CostModel().bytes(unit, as_csv=True) == pytest.approx(633_000 / 2.6)
    assert "3,350 records or 633 KB" in "".join(CostModel().lines())


def test_without_experience_a_race_weekend_has_the_millions_of_rows_that_it_is_known_to_have() -> None:
    hours = [1, 1, 1, 1, 2]
    scopes = [replace(RACE, date_end=START + timedelta(hours=length)) for length in hours]
    units = [Unit(name, scope) for name in ("car_data", "location") for scope in scopes]
    assert sum(map(CostModel().rows, units)) == pytest.approx(3_200_000, rel=0.01)


def test_rows_and_bytes_are_learnt_by_driver_and_hour_with_the_open_windows_at_their_length() -> None:
    first, second, *_ = slice_time(START, END, QUARTER)
    costs = learnt(
        state("car_data", first, 44, rows=1_000, bytes=100_000),
        state("car_data", second, 44, rows=3_000, bytes=500_000),
    )
    assert costs.rows(Unit("car_data", RACE, 1)) == 4_000 / 0.5 * 2
    assert costs.bytes(Unit("car_data", RACE, 1), as_csv=False) == 16_000 * 150
    assert costs.rows(Unit("location", RACE, 1, first)) == 3_350, "of which nothing is known"
    assert any("car_data: 8,000 rows of a driver in an hour, 150 bytes each" in line for line in costs.lines())


def test_a_kind_of_session_goes_by_its_own_kind_and_others_by_all_of_them() -> None:
    practice = replace(RACE, session_key=1, name="British Grand Prix, Practice 1")
    known = {RACE.prefix: RACE, practice.prefix: practice}
    units = [
        state("intervals", rows=30_000),
        replace(state("intervals", rows=0), scope_prefix=practice.prefix),
        state("car_data", driver=44, rows=20_000),
        replace(state("car_data", driver=44, rows=4_000), scope_prefix=practice.prefix),
    ]
    costs = learn(units, known, (), auto=False)
    other = replace(practice, name="Monaco Grand Prix, Practice 3")
    assert costs.rows(Unit("intervals", RACE)) == 30_000
    assert costs.rows(Unit("intervals", other)) == 0
    assert costs.rows(Unit("car_data", other, 1)) == 4_000
    assert costs.rows(Unit("car_data", replace(RACE, name="Monaco Grand Prix, Qualifying"), 1)) == 12_000


def test_what_a_load_with_large_requests_took_is_learnt_for_its_like_only() -> None:
    both = [
        state("car_data", driver=44, rows=1_000, bytes=200_000, attempts=8),
        state("car_data", driver=1, rows=1_000, bytes=50_000, attempts=1, auto=1),
    ]
    assert learnt(*both).requests_per_hour is None
    assert learnt(*both).bytes_per_row == {"car_data": 200}
    assert learnt(*both, auto=True).requests_per_hour == 0.5
    assert learnt(*both, auto=True).bytes_per_row == {"car_data": 50}


def test_how_many_drive_is_learnt_from_who_drove() -> None:
    other = replace(RACE, session_key=1)
    unknown = Unit("car_data", other, None, slice_time(START, END, QUARTER)[3])
    assert learnt(state("drivers", rows=22)).drivers == 22
    assert learnt(state("drivers", rows=22)).rows(unknown) == 22 * 3_350
    assert learnt(state("laps", rows=900)).drivers == 20
    assert learnt(state("drivers", driver=44, rows=1)).drivers == 20, "asked for one says nothing of the others"


def test_a_cancelled_session_is_expected_to_have_no_rows_and_teaches_nothing() -> None:
    cancelled = replace(RACE, cancelled=True)
    costs = learnt(state("laps", rows=900), state("drivers", rows=20))
    assert costs.rows(Unit("laps", RACE)) == 900
    assert costs.rows(Unit("laps", cancelled)) == 0
    assert CostModel().rows(Unit("intervals", cancelled)) == 0
    assert CostModel().rows(Unit("car_data", cancelled, 44)) == 0
    assert learn([state("laps", rows=0)], {RACE.prefix: cancelled}, (), auto=False) == CostModel()


def test_units_of_sessions_that_nobody_knows_teach_nothing() -> None:
    assert learn([state("car_data", driver=44, rows=1_000)], {}, (), auto=False) == CostModel()


# --- who drove ---


def test_drivers_of_whom_some_endpoint_has_records_are_not_taken_for_all() -> None:
    def supposed(*states: UnitState, cancelled: bool = False, usual: int = 20) -> list[int]:
        meeting = a_meeting(cancelled=cancelled)
        scope = meeting.sessions[0].scope
        return supposed_drivers(
            scope, Remaining(meeting, states, defaults(), meeting.asked_at), CostModel(drivers=usual)
        )

    one = replace(state("laps", driver=3), drivers=frozenset([3]))
    assert len(supposed()) == 20
    assert len(supposed(one)) == 19
    assert 3 not in supposed(one)
    assert len(supposed(one, usual=22)) == 21
    assert supposed(one, replace(state("drivers"), drivers=frozenset([3]))) == [], "somebody said who drove"
    assert supposed(one, cancelled=True) == []


# --- at the limits ---


@pytest.mark.parametrize(
    ("rates", "requests", "seconds"),
    [("none", 1000, None), ("3/s,30/m", 30, 11.25), ("30/m", 31, 60.6), ("3/s,30/m", 300, 9 * 60.6), ("30/m", 0, 0)],
)
def test_the_time_is_what_the_limiter_takes(rates: str, requests: int, seconds: float | None) -> None:
    assert seconds_at(parse_rates(rates), requests) == (None if seconds is None else pytest.approx(seconds))


# --- the forecast as a whole ---


@pytest.fixture
def estimate() -> Estimate:
    """Of one session of two hours of which nothing is loaded, with no HBase there."""
    (port,) = free_ports(1)
    return forecast([a_meeting()], defaults(hbase_host="127.0.0.1", hbase_port=port), parse_rates("3/s,30/m"))


def test_without_hbase_the_forecast_is_made_as_if_nothing_were_loaded(estimate: Estimate) -> None:
    (session,) = estimate.sessions
    endpoints_by_session, drivers, windows = 14, 20, 8
    # The records of meetings and sessions come with the plan.
    assert estimate.total.units == 2 + endpoints_by_session + 2 * drivers * windows
    assert session.requests == estimate.total.requests == endpoints_by_session + 2 * drivers * windows
    assert session.rows == 2 * drivers * windows * 3_350 + 36_000
    assert session.estimated


def test_what_is_an_estimate_has_its_sign_and_what_is_exact_has_none(estimate: Estimate) -> None:
    lines = list(forecast_lines(estimate))
    assert lines[2].split()[-5:] == ["~335", "~334", "~1,108,000", "~209", "MB"]
    assert "1 session, about 336 units in about 334 requests" in lines
    assert any("20 drivers where it is not known who drove" in line for line in lines)
    exact = replace(estimate, forecasts=[replace(item, estimated=False) for item in estimate.forecasts])
    assert list(forecast_lines(exact))[2].split()[-5:] == ["335", "334", "~1,108,000", "~209", "MB"]
    assert "1 session, 336 units in 334 requests" in forecast_lines(exact)


def test_the_lines_fit_into_80_columns_and_say_how_long_it_takes(estimate: Estimate) -> None:
    lines = list(forecast_lines(estimate))
    assert max(map(len, lines)) <= 80
    assert "at least 11 min at the API's limits (3/s,30/m)" in lines


def test_where_nothing_tells_how_many_rows_there_will_be_none_are_foretold(estimate: Estimate) -> None:
    meeting, session = (replace(item, rows=0, bytes=0) for item in estimate.forecasts)

    def numbers(session: SessionEstimate, costs: CostModel) -> list[str]:
        lines = list(forecast_lines(replace(estimate, forecasts=[meeting, session], costs=costs)))
        return lines[2].split()[-2:]

    assert numbers(session, CostModel()) == ["?", "?"]
    assert numbers(session, CostModel(units=1)) == ["0", "0"]
    cancelled = replace(session, scope=replace(session.scope, cancelled=True))
    assert numbers(cancelled, CostModel()) == ["0", "0"]


def test_where_the_limits_make_nobody_wait_they_are_not_spoken_of(estimate: Estimate) -> None:
    few = [replace(item, requests=1) for item in estimate.sessions]
    assert not [line for line in forecast_lines(replace(estimate, forecasts=few)) if "limits" in line]


def test_status_speaks_of_the_limits_only_where_they_make_somebody_wait() -> None:
    def said(left: float, rates: str) -> list[str]:
        scopes = [ScopeStatus(2024, 1240, 9558, asked=400, left=left)]
        return [line for line in status_lines(Overview(scopes, rates=parse_rates(rates))) if "limits" in line]

    assert said(300, "3/s,30/m") == ["  at least 9 min at the API's limits (3/s,30/m)"]
    assert said(3, "3/s,30/m") == said(0, "3/s,30/m") == said(300, "none") == []


def test_a_meeting_of_which_nothing_is_left_takes_one_line() -> None:
    meeting = Scope(2024, 1240, None, name="2024 British Grand Prix")
    nothing = [SessionEstimate(scope, 0, 0, 0, 0, estimated=False) for scope in (meeting, RACE)]
    lines = list(forecast_lines(Estimate(nothing, CostModel(), ())))
    assert lines[1] == "1240 2024 British Grand Prix: 1 session, nothing left to load"
    assert "1 session, 0 units in 0 requests" in lines


def test_the_same_is_there_as_json(estimate: Estimate) -> None:
    content = json.loads(json.dumps(forecast_json(estimate)))
    assert content["total"] == {
        "sessions": 1, "units": 336, "requests": 334, "units_and_requests_are_estimates": True,
        "expected_rows": 1_108_001, "expected_bytes": content["sessions"][0]["expected_bytes"],
    }  # fmt: skip
    assert content["sessions"][0]["session_key"] == 9558
    assert (content["limits"], content["seconds_at_limits"]) == (["3/s", "30/m"], 666.6)


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (633_000, "633 KB"), (1_230_000, "1.2 MB"), (61e9, "61 GB"), (2e12, "2.0 TB")]
)
def test_bytes_are_told_in_a_unit_of_their_size(number: float, text: str) -> None:
    assert size(number) == text
