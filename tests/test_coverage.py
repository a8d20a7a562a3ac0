"""What is done is not asked for again, what is not done is, and what may have changed since is asked for once more."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import END, HOUR, START, WEEK, a_scope, a_selection, sample

from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.coverage import Coverage, is_due, settles_at, status_of
from f1hbase.model.outcomes import Status, UnitState
from f1hbase.model.plans import MeetingPlan, SessionPlan
from f1hbase.model.units import ALL_TIME, Scope, Unit, Window, slice_time
from f1hbase.pipeline.remaining import Remaining

MINUTE = timedelta(minutes=1)
QUARTER = 15 * MINUTE
DAY = timedelta(days=1)
MOMENT = timedelta(microseconds=1)
SETTLED = END + 2 * DAY
LATER = END + 365 * DAY
"""When nothing is due any more."""

SETTLES_IN_14_DAYS = {"session_result", "starting_grid", "championship_drivers", "championship_teams"}
RACE = a_scope(kind="Race")
PRACTICE = a_scope(9550, kind="Practice")

offsets = st.integers(-300, 600).map(lambda minutes: START + minutes * MINUTE)
edges = st.none() | offsets


@st.composite
def windows(draw: st.DrawFn) -> Window:
    """Draw a window that is not empty."""
    start, end = draw(edges), draw(edges)
    if start is not None and end is not None and end <= start:
        start, end = end, start + MINUTE
    return Window(start, end)


def state(
    window: Window = ALL_TIME,
    driver: int | None = None,
    status: Status = Status.DONE,
    endpoint: str = "car_data",
    scope: Scope = RACE,
    fetched: datetime | None = LATER,
    **others: Any,
) -> UnitState:
    """Return a stored unit, of which nothing is due any more unless told otherwise."""
    stats = {"records": 5.0}
    return UnitState(scope.prefix, endpoint, driver, window, status, fetched=fetched, **({"stats": stats} | others))


def missing(
    states: list[UnitState],
    window: Window = ALL_TIME,
    driver: int | None = None,
    now: datetime = LATER,
    endpoint: str = "car_data",
) -> list[Window]:
    unit = Unit(endpoint, RACE, driver, window)
    parts = Coverage(RACE, states, now).missing(unit)
    assert all((part.endpoint, part.scope, part.driver) == (endpoint, RACE, driver) for part in parts)
    return [part.window for part in parts]


HALF = Window(None, START + HOUR)
OTHER_HALF = Window(START + HOUR, None)


# --- what is done ---


def test_nothing_done_means_that_all_is_missing() -> None:
    assert missing([]) == [ALL_TIME]


def test_what_is_done_is_not_missing() -> None:
    assert missing([state()]) == []


def test_what_is_done_without_a_driver_covers_every_driver() -> None:
    assert missing([state()], driver=1) == []
    assert missing([state()], driver=None) == []


def test_what_is_done_for_one_driver_covers_no_other_and_not_all_together() -> None:
    assert missing([state(driver=44)], driver=44) == []
    assert missing([state(driver=44)], driver=4) == [ALL_TIME]
    assert missing([state(driver=44)], driver=None) == [ALL_TIME]


def test_what_is_done_for_the_driver_and_for_all_drivers_adds_up() -> None:
    assert missing([state(HALF, driver=44), state(OTHER_HALF, driver=None)], driver=44) == []


def test_a_run_with_a_larger_window_asks_only_for_what_is_missing() -> None:
    done = slice_time(START, END, QUARTER)
    del done[2]
    states = [state(window) for window in done]
    larger = [part for window in slice_time(START, END, HOUR) for part in missing(states, window)]
    assert larger == [Window(START + 2 * QUARTER, START + 3 * QUARTER)]
    assert missing(states) == larger


def test_a_run_with_a_smaller_window_asks_only_for_what_is_missing() -> None:
    smaller = [part for window in slice_time(START, END, QUARTER) for part in missing([state(HALF)], window)]
    assert smaller == slice_time(START, END, QUARTER)[4:]


@pytest.mark.parametrize("status", [Status.FAILED, Status.PARTIAL])
def test_what_failed_or_is_partial_is_missing(status: Status) -> None:
    assert missing([state(status=status)], now=END) == [ALL_TIME]
    assert missing([state(status=status)]) == [ALL_TIME]


def test_a_failure_does_not_undo_what_is_done_otherwise() -> None:
    assert missing([state(HALF), state(status=Status.FAILED)]) == [OTHER_HALF]


def test_the_same_endpoint_of_another_session_or_another_endpoint_of_this_one_is_no_cover() -> None:
    others = [state(scope=a_scope(9557)), state(scope=a_scope(None)), state(endpoint="location")]
    assert missing(others) == [ALL_TIME]


@given(
    st.lists(st.builds(state, windows(), st.sampled_from([None, 1, 44]), st.sampled_from(Status)), max_size=6),
    windows(),
    offsets,
)
def test_a_moment_is_missing_if_no_unit_that_counts_has_it(
    states: list[UnitState], asked: Window, moment: datetime
) -> None:
    counts = {Status.DONE, Status.PROVISIONAL}
    has = any(s.status in counts and s.driver in {None, 44} and moment in s.window for s in states)
    found = [window for window in missing(states, asked, 44) if moment in window]
    assert len(found) == (moment in asked and not has)


# --- units of earlier versions, by driver ---


def by_driver(*drivers: int, endpoint: str = "car_data", left_out: tuple[int, int] | None = None) -> list[UnitState]:
    """Return what an earlier version has stored: a unit a driver and window, but for window n of a driver."""
    return [
        state(window, driver, endpoint=endpoint)
        for driver in drivers
        for number, window in enumerate(slice_time(START, END, QUARTER))
        if (driver, number) != left_out
    ]


LISTED = state(endpoint="drivers", drivers=frozenset({1, 44}))


def test_units_by_driver_together_cover_the_drivers_that_are_known() -> None:
    assert missing([*by_driver(1, 44), LISTED]) == []
    assert missing([*by_driver(1), LISTED]) == [ALL_TIME]
    assert missing(by_driver(1, 44)) == [ALL_TIME], "who else there was is not known"


def test_what_one_driver_lacks_is_asked_for_without_a_driver() -> None:
    quarter = slice_time(START, END, QUARTER)[3]
    assert missing([*by_driver(1, 44, left_out=(44, 3)), LISTED]) == [quarter]
    assert missing([*by_driver(1, 44, left_out=(44, 3)), LISTED], driver=1) == []


def test_everybody_whom_a_line_of_an_earlier_version_names_is_known() -> None:
    told = [replace(one, session_drivers=frozenset({1, 44})) for one in by_driver(1, 44)]
    assert missing(told) == []
    told = [replace(one, session_drivers=frozenset({1, 44, 63})) for one in by_driver(1, 44)]
    assert missing(told) == [ALL_TIME]


def test_a_driver_seen_anywhere_in_the_session_is_known() -> None:
    lap = state(endpoint="laps", drivers=frozenset({1, 44, 63}))
    assert missing([*by_driver(1, 44), LISTED, lap]) == [ALL_TIME]


def test_units_by_driver_cover_no_endpoint_whose_records_are_not_by_driver() -> None:
    assert missing([*by_driver(1, 44), LISTED], endpoint="weather") == [ALL_TIME]


def test_of_samples_that_were_loaded_by_driver_it_is_said_that_no_other_car_was_asked_for() -> None:
    old = [*by_driver(1, 44), *by_driver(1, 44, endpoint="location"), LISTED]
    assert Coverage(RACE, old, LATER).covers_known_drivers_only
    whole = [state(endpoint=name) for name in ("car_data", "location")]
    assert not Coverage(RACE, [*old, *whole], LATER).covers_known_drivers_only
    assert not Coverage(RACE, [*whole, LISTED], LATER).covers_known_drivers_only
    assert not Coverage(RACE, [], LATER).covers_known_drivers_only


# --- which way of storing: decided by overlap ---


def test_only_a_unit_that_overlaps_a_stored_one_may_have_records_in_the_table() -> None:
    coverage = Coverage(RACE, [state(HALF), state(endpoint="laps", driver=44)], LATER)

    def overlaps(endpoint: str, window: Window = ALL_TIME, driver: int | None = None) -> bool:
        return coverage.overlaps_stored(Unit(endpoint, RACE, driver, window))

    assert overlaps("car_data")
    assert overlaps("car_data", HALF, driver=1)
    assert not overlaps("car_data", OTHER_HALF), "beside it, and no more"
    assert not overlaps("location")
    assert overlaps("laps")
    assert overlaps("laps", driver=44)
    assert not overlaps("laps", driver=1)


@pytest.mark.parametrize("status", Status)
def test_what_is_in_the_table_is_there_however_its_unit_stands(status: Status) -> None:
    one = state(status=status, checksum=7, fetched=END)
    assert Coverage(RACE, [one], LATER).overlaps_stored(Unit("car_data", RACE))


def test_of_a_unit_that_has_only_ever_failed_nothing_is_in_the_table() -> None:
    failed = state(status=Status.FAILED, stats={}, error="HTTP 500")
    assert not Coverage(RACE, [failed], LATER).overlaps_stored(Unit("car_data", RACE))


# --- how a unit stands when it is stored ---


@pytest.mark.parametrize(
    ("fetched", "window", "status"),
    [
        (START + HOUR, ALL_TIME, Status.PARTIAL),
        (START + HOUR, Window(START, None), Status.PARTIAL),
        (START + HOUR, Window(START, START + HOUR + QUARTER), Status.PARTIAL),
        (START + HOUR, Window(START, START + HOUR), Status.PROVISIONAL),
        (END - MINUTE, ALL_TIME, Status.PARTIAL),
        (END, ALL_TIME, Status.PROVISIONAL),
        (END + DAY, ALL_TIME, Status.PROVISIONAL),
        (SETTLED - MINUTE, Window(START, START + HOUR), Status.PROVISIONAL),
        (SETTLED, ALL_TIME, Status.DONE),
        (SETTLED + WEEK, Window(START, None), Status.DONE),
    ],
)
def test_a_unit_is_done_for_good_only_once_nothing_of_it_can_still_come(
    fetched: datetime, window: Window, status: Status
) -> None:
    assert status_of(Unit("car_data", a_scope(), None, window), fetched) is status


def test_a_unit_of_a_session_without_any_date_is_done_so_that_it_is_not_asked_for_at_every_run() -> None:
    assert status_of(Unit("laps", a_scope(date_start=None, date_end=None)), START) is Status.DONE


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_results_settle_14_days_after_a_session_and_all_else_after_48_hours(endpoint: str) -> None:
    after = 14 * DAY if endpoint in SETTLES_IN_14_DAYS else 2 * DAY
    unit = Unit(endpoint, RACE)
    assert settles_at(endpoint, RACE) == END + after
    assert status_of(unit, END + after - MOMENT) is Status.PROVISIONAL
    assert status_of(unit, END + after) is Status.DONE


def test_a_session_without_an_end_settles_from_the_latest_that_it_may_have_ended() -> None:
    assert settles_at("laps", a_scope(date_end=None)) == START + timedelta(hours=12) + 2 * DAY
    assert settles_at("laps", a_scope(date_start=None, date_end=None)) is None


# --- asked for once more ---


@pytest.mark.parametrize("endpoint", [name for name in ENDPOINTS if name != "meetings"])
@pytest.mark.parametrize("status", [Status.DONE, Status.PROVISIONAL])
def test_what_was_fetched_before_it_had_settled_is_asked_for_once_more_whatever_its_line_says(
    endpoint: str, status: Status
) -> None:
    settled = END + (14 * DAY if endpoint in SETTLES_IN_14_DAYS else 2 * DAY)
    early = [state(endpoint=endpoint, status=status, fetched=settled - MOMENT)]
    assert missing(early, now=settled - MOMENT, endpoint=endpoint) == []
    assert missing(early, now=settled, endpoint=endpoint) == [ALL_TIME]
    late = [state(endpoint=endpoint, status=status, fetched=settled)]
    for now in (settled, settled + MINUTE, END + 100 * DAY):
        assert missing(late, now=now, endpoint=endpoint) == []


def test_a_line_that_does_not_say_when_it_was_fetched_is_judged_by_its_status() -> None:
    assert missing([state(fetched=None)]) == []
    assert missing([state(fetched=None, status=Status.PROVISIONAL)], now=SETTLED - MOMENT) == []
    assert missing([state(fetched=None, status=Status.PROVISIONAL)], now=SETTLED) == [ALL_TIME]


def empty(endpoint: str, fetched: datetime, scope: Scope = RACE) -> list[UnitState]:
    return [state(endpoint=endpoint, fetched=fetched, scope=scope, stats={"records": 0.0, "rows": 0.0})]


@pytest.mark.parametrize("endpoint", ["car_data", "session_result", "laps", "drivers", "championship_teams"])
def test_an_endpoint_without_any_record_that_should_have_some_is_asked_for_again_after_2_14_and_60_days(
    endpoint: str,
) -> None:
    def is_asked_for(fetched: timedelta, now: timedelta) -> bool:
        return missing(empty(endpoint, END + fetched), now=END + now, endpoint=endpoint) == [ALL_TIME]

    for before, after in ((HOUR, 2 * DAY), (3 * DAY, 14 * DAY), (15 * DAY, 60 * DAY)):
        assert not is_asked_for(before, after - MOMENT)
        assert is_asked_for(before, after)
        assert not is_asked_for(after, after), "once"
    assert is_asked_for(HOUR, 90 * DAY)
    assert not is_asked_for(61 * DAY, 1000 * DAY)


@pytest.mark.parametrize(
    ("endpoint", "scope"),
    [("team_radio", RACE), ("starting_grid", RACE), ("pit", PRACTICE), ("intervals", PRACTICE),
     ("championship_drivers", PRACTICE), ("car_data", a_scope(kind="Race", cancelled=True)), ("car_data", a_scope())],
    ids=str,
)  # fmt: skip
def test_an_endpoint_that_may_well_have_no_record_is_not_asked_for_again_because_it_has_none(
    endpoint: str, scope: Scope
) -> None:
    states = empty(endpoint, END + 20 * DAY, scope)
    assert Coverage(scope, states, END + 90 * DAY).missing(Unit(endpoint, scope)) == []


def test_an_endpoint_with_a_record_in_any_of_its_windows_is_not_empty() -> None:
    quiet = [replace(one, window=HALF) for one in empty("car_data", END + 3 * DAY)]
    assert missing([*quiet, state(OTHER_HALF, fetched=END + 3 * DAY)], now=END + 90 * DAY) == []
    both = [*quiet, *(replace(one, window=OTHER_HALF) for one in quiet)]
    assert missing(both, now=END + 90 * DAY) == [ALL_TIME]


def test_a_unit_is_due_by_when_it_was_fetched_and_is_not_due_of_a_session_without_dates() -> None:
    one = state(endpoint="laps", fetched=END)
    assert is_due(one, RACE, SETTLED, empty=False)
    assert not is_due(one, RACE, SETTLED - MOMENT, empty=True)
    assert not is_due(one, a_scope(date_start=None, date_end=None), LATER, empty=True)


def test_a_partial_unit_remains_while_the_session_goes_on_and_afterwards() -> None:
    now = START + HOUR
    unit = Unit("laps", RACE)
    one = state(endpoint="laps", status=status_of(unit, now), fetched=now)
    assert one.status is Status.PARTIAL
    for later in (now, now + MINUTE, END, LATER):
        assert missing([one], now=later, endpoint="laps") == [ALL_TIME]


# --- sessions of which only what is due is loaded ---

MEETING = MeetingPlan(
    a_scope(None, kind=""),
    sample("meetings"),
    (SessionPlan(PRACTICE, sample("sessions", session_key=9550)), SessionPlan(RACE, sample("sessions"))),
    LATER,
    frozenset({9550}),
)


def units(
    *states: list[UnitState], meeting: MeetingPlan = MEETING, now: datetime = LATER, refresh: str = "", **choices: Any
) -> list[Unit]:
    return Remaining(meeting, states, a_selection(**choices), now, refresh).units()


def early(endpoint: str = "laps", **changes: Any) -> UnitState:
    """Return a unit of the practice that was fetched before it had settled."""
    return state(endpoint=endpoint, scope=PRACTICE, **({"fetched": END + HOUR} | changes))


def test_of_a_session_that_was_not_asked_for_only_what_is_due_remains() -> None:
    left = units([early(), state(endpoint="pit", scope=PRACTICE)], endpoints=("laps", "pit", "weather"))
    assert [unit for unit in left if unit.scope == PRACTICE] == [Unit("laps", PRACTICE)]
    assert [unit.endpoint for unit in left if unit.scope == RACE] == ["laps", "pit", "weather"]


def test_what_was_never_loaded_or_failed_of_such_a_session_is_left_alone() -> None:
    failed = early(status=Status.FAILED, stats={}, error="HTTP 500")
    assert units([failed], meeting=replace(MEETING, sessions_to_settle=frozenset({9550, 9558}))) == []


def test_what_is_due_remains_by_the_windows_and_drivers_it_was_stored_with_as_one_piece_where_they_meet() -> None:
    quarters = slice_time(START, END, QUARTER)
    stored = [early("car_data", window=window) for window in (quarters[0], quarters[1], quarters[4])]
    stored.append(early("car_data", window=quarters[6], driver=44))
    left = units(stored, endpoints=("car_data",), meeting=replace(MEETING, sessions_to_settle=frozenset({9550, 9558})))
    assert left == [
        Unit("car_data", PRACTICE, None, Window(None, quarters[1].end)),
        Unit("car_data", PRACTICE, None, quarters[4]),
        Unit("car_data", PRACTICE, 44, quarters[6]),
    ]


def test_only_the_endpoints_and_drivers_asked_for_are_settled() -> None:
    stored = [early("laps", driver=1), early("laps", driver=44), early("pit", driver=44)]
    settle = replace(MEETING, sessions_to_settle=frozenset({9550, 9558}))
    assert units(stored, meeting=settle, endpoint="laps", driver=44) == [Unit("laps", PRACTICE, 44)]


def test_the_meeting_itself_is_settled_when_none_of_its_sessions_was_asked_for() -> None:
    one = state(endpoint="meetings", scope=MEETING.scope, fetched=END + HOUR)
    settle = replace(MEETING, sessions_to_settle=frozenset({9550, 9558}))
    assert units([one], meeting=settle, endpoint="meetings") == [Unit("meetings", MEETING.scope)]
    assert units([replace(one, fetched=LATER)], meeting=settle, endpoint="meetings") == []
    assert units([], meeting=settle, endpoint="meetings") == []


def test_what_is_due_is_settled_with_refresh_too_and_once() -> None:
    settle = replace(MEETING, sessions_to_settle=frozenset({9550, 9558}))
    stored = [early(run="an-earlier-run")]
    assert units(stored, meeting=settle, refresh="this-run", endpoint="laps") == [Unit("laps", PRACTICE)]
    again = [early(run="this-run", fetched=LATER)]
    assert units(again, meeting=settle, refresh="this-run", endpoint="laps") == []


# --- two destinations ---


def test_a_unit_remains_if_any_destination_lacks_it_and_is_stored_where_it_is_lacking() -> None:
    done = [state(HALF, scope=RACE)]
    both = Remaining(MEETING, [done, []], a_selection(endpoint="car_data"), LATER)
    (whole,) = [unit for unit in both.units() if unit.scope == RACE]
    assert whole.window == ALL_TIME
    assert both.lacking(replace(whole, window=HALF)) == [False, True]
    assert both.lacking(whole) == [True, True]
    assert [both.may_be_stored(n, replace(whole, window=OTHER_HALF)) for n in (0, 1)] == [False, False]
    assert [both.may_be_stored(n, whole) for n in (0, 1)] == [True, False]


def test_what_both_destinations_have_does_not_remain() -> None:
    done = [state(endpoint="laps", scope=RACE)]
    assert [unit for unit in units(done, done, endpoint="laps") if unit.scope == RACE] == []


@given(st.lists(windows(), max_size=4), st.lists(windows(), max_size=4), offsets)
def test_with_two_destinations_a_moment_remains_if_either_lacks_it(
    one: list[Window], other: list[Window], moment: datetime
) -> None:
    left = units([state(window) for window in one], [state(window) for window in other], endpoint="car_data")
    found = [unit for unit in left if unit.scope == RACE and moment in unit.window]
    has = any(moment in window for window in one) and any(moment in window for window in other)
    assert len(found) == (not has)
