"""Windows of time: every sample belongs to one, what is done is not asked for again, what is not done is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from samples import END, HOUR, START, WEEK, a_scope

from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.coverage import Coverage, Status, UnitState, status_of, subtract
from f1hbase.model.units import ALL_TIME, SETTLED_AFTER, Unit, Window, parse_time, parse_unit_key, slice_time

MINUTE = timedelta(minutes=1)
QUARTER = 15 * MINUTE
SETTLED = END + SETTLED_AFTER

offsets = st.integers(-300, 600).map(lambda minutes: START + minutes * MINUTE)
moments = offsets | st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))
edges = st.none() | offsets
steps = st.integers(1, 300).map(lambda minutes: minutes * MINUTE)


@st.composite
def windows(draw: st.DrawFn) -> Window:
    start, end = draw(edges), draw(edges)
    return Window(end, start) if start is not None and end is not None and end < start else Window(start, end)


def holding(found: list[Window], moment: datetime) -> int:
    return sum(moment in window for window in found)


# --- cutting a session ---


@given(moments, st.integers(0, 700), steps)
@example(START - 12 * MINUTE, 120, QUARTER)
@example(END + 12 * MINUTE, 120, QUARTER)
def test_every_moment_before_in_and_after_a_session_is_in_exactly_one_window(
    moment: datetime, minutes: int, step: timedelta
) -> None:
    assert holding(slice_time(START, START + minutes * MINUTE, step), moment) == 1


@given(st.integers(1, 700), steps)
def test_each_inner_edge_of_a_session_is_in_the_window_that_it_begins(minutes: int, step: timedelta) -> None:
    found = slice_time(START, START + minutes * MINUTE, step)
    for before, after in pairwise(found):
        assert before.end == after.start
        assert before.end is not None
        assert before.end not in before
        assert before.end in after


@given(st.integers(1, 700), st.integers(1, 300))
def test_a_session_has_as_many_windows_as_cover_it(minutes: int, step: int) -> None:
    assert len(slice_time(START, START + minutes * MINUTE, step * MINUTE)) == -(-minutes // step)


def test_a_session_of_two_hours_has_eight_windows_of_15_minutes() -> None:
    found = slice_time(START, END, QUARTER)
    assert len(found) == 8
    assert found[0] == Window(None, START + QUARTER)
    assert found[1] == Window(START + QUARTER, START + 2 * QUARTER)
    assert found[-1] == Window(END - QUARTER, None)


def test_a_session_that_does_not_fill_its_last_window_has_one_more() -> None:
    assert len(slice_time(START, END + MINUTE, QUARTER)) == 9
    assert len(slice_time(START, END - MINUTE, QUARTER)) == 8


@pytest.mark.parametrize(("start", "end"), [(None, END), (START, None), (None, None), (END, START), (START, START)])
def test_a_session_without_a_sensible_start_and_end_is_one_window(start: datetime, end: datetime) -> None:
    assert slice_time(start, end, QUARTER) == [ALL_TIME]


def test_a_time_without_a_zone_is_utc_and_any_other_is_turned_into_it() -> None:
    assert parse_time("2024-07-07T14:00:00") == START
    assert parse_time("2024-07-07T15:00:00+01:00") == START
    assert parse_time("2024-07-07T15:00:00+01:00").utcoffset() == timedelta(0)
    assert parse_time("2024-07-07T14:00:00Z") == START


# --- the key of a unit in the reports ---


@given(
    st.sampled_from(sorted(ENDPOINTS)),
    st.integers(0) | st.none(),
    st.integers(0) | st.none(),
    windows() | st.builds(Window, moments, moments),
)
def test_the_key_of_a_unit_can_be_taken_apart_again(
    endpoint: str, session_key: int | None, driver: int | None, window: Window
) -> None:
    scope = a_scope(session_key)
    key = Unit(endpoint, scope, driver, window).key
    assert parse_unit_key(key) == (scope.prefix, endpoint, driver, window)


@pytest.mark.parametrize(
    ("unit", "key"),
    [
        (Unit("meetings", a_scope(None)), "unit#2024#1240#-#meetings#-#-#-"),
        (Unit("laps", a_scope(9558)), "unit#2024#1240#9558#laps#-#-#-"),
        (Unit("laps", a_scope(9558), 44), "unit#2024#1240#9558#laps#44#-#-"),
        (
            Unit("car_data", a_scope(9558), 44, Window(START, END)),
            "unit#2024#1240#9558#car_data#44#2024-07-07T14:00:00+00:00#2024-07-07T16:00:00+00:00",
        ),
    ],
)
def test_the_key_of_a_unit_reads_like_this(unit: Unit, key: str) -> None:
    assert unit.key == key


@pytest.mark.parametrize(
    "key",
    ["", "run#1", "unit#2024#1240#9558#laps#-#-", "unit#2024#1240#9558#laps#-#-#-#-", "unit#2024#1240#9558#laps#x#-#-",
     "unit#2024#1240#9558#laps#-#yesterday#-"],
)  # fmt: skip
def test_what_is_not_the_key_of_a_unit_is_refused(key: str) -> None:
    with pytest.raises(ValueError):
        parse_unit_key(key)


# --- taking away what is done ---


@given(windows(), st.lists(windows(), max_size=5), offsets | moments)
def test_what_is_left_is_what_was_wished_for_and_is_not_done(
    wish: Window, done: list[Window], moment: datetime
) -> None:
    left = subtract(wish, done)
    wanted = moment in wish and not any(moment in window for window in done)
    assert holding(left, moment) == wanted


@given(windows(), st.lists(windows(), max_size=5))
def test_what_is_left_is_in_order_of_time_and_holds_no_empty_window(wish: Window, done: list[Window]) -> None:
    left = subtract(wish, done)
    assert all(window.start is None or window.end is None or window.start < window.end for window in left[1:-1])
    ends = [window.end for window in left[:-1]]
    starts = [window.start for window in left[1:]]
    assert all(end is not None and start is not None and end <= start for end, start in zip(ends, starts, strict=True))


@given(windows(), steps)
def test_once_every_window_of_a_session_is_done_nothing_is_left_whatever_is_wished_for(
    wish: Window, step: timedelta
) -> None:
    assert subtract(wish, slice_time(START, END, step)) == []


# --- what is done ---


def state(
    window: Window = ALL_TIME,
    driver: int | None = 44,
    status: Status = Status.DONE,
    endpoint: str = "car_data",
    prefix: str = "2024#1240#9558",
) -> UnitState:
    return UnitState(prefix, endpoint, driver, window, status)


def missing(
    states: list[UnitState], window: Window = ALL_TIME, driver: int | None = 44, now: datetime = SETTLED
) -> list[Window]:
    unit = Unit("car_data", a_scope(), driver, window)
    parts = Coverage(a_scope(), states, now).missing(unit)
    assert all((part.endpoint, part.scope, part.driver) == ("car_data", a_scope(), driver) for part in parts)
    return [part.window for part in parts]


HALF = Window(None, START + HOUR)
OTHER_HALF = Window(START + HOUR, None)


def test_nothing_done_means_that_all_is_missing() -> None:
    assert missing([]) == [ALL_TIME]


def test_what_is_done_is_not_missing() -> None:
    assert missing([state()]) == []


def test_what_is_done_without_a_driver_covers_every_driver() -> None:
    assert missing([state(driver=None)], driver=1) == []
    assert missing([state(driver=None)], driver=None) == []


def test_what_is_done_for_one_driver_covers_no_other_and_not_all_together() -> None:
    assert missing([state(driver=44)], driver=4) == [ALL_TIME]
    assert missing([state(driver=44)], driver=None) == [ALL_TIME]


def test_what_is_done_for_the_driver_and_for_all_drivers_adds_up() -> None:
    assert missing([state(HALF, driver=44), state(OTHER_HALF, driver=None)]) == []


def test_a_run_with_a_larger_window_asks_only_for_what_is_missing() -> None:
    done = slice_time(START, END, QUARTER)
    del done[2]
    states = [state(window) for window in done]
    larger = [part for window in slice_time(START, END, HOUR) for part in missing(states, window)]
    assert larger == [Window(START + 2 * QUARTER, START + 3 * QUARTER)]


def test_a_run_with_a_smaller_window_asks_only_for_what_is_missing() -> None:
    smaller = [part for window in slice_time(START, END, QUARTER) for part in missing([state(HALF)], window)]
    assert smaller == slice_time(START, END, QUARTER)[4:]


@pytest.mark.parametrize("status", [Status.FAILED, Status.PARTIAL])
def test_what_failed_or_is_partial_is_missing(status: Status) -> None:
    assert missing([state(status=status)], now=END) == [ALL_TIME]
    assert missing([state(status=status)], now=SETTLED) == [ALL_TIME]


def test_a_failure_does_not_undo_what_is_done_otherwise() -> None:
    assert missing([state(HALF), state(status=Status.FAILED)]) == [OTHER_HALF]


def test_what_is_provisional_counts_until_48_hours_after_the_end_and_is_then_asked_for_once_more() -> None:
    provisional = [state(status=Status.PROVISIONAL)]
    assert timedelta(hours=48) == SETTLED - END
    assert missing(provisional, now=SETTLED - timedelta(microseconds=1)) == []
    assert missing(provisional, now=SETTLED) == [ALL_TIME]
    assert missing([*provisional, state()], now=SETTLED + WEEK) == []


def test_the_same_endpoint_of_another_session_or_another_endpoint_of_this_one_is_no_cover() -> None:
    assert missing([state(prefix="2024#1240#9557"), state(prefix="2024#1240#-"), state(endpoint="location")]) == [
        ALL_TIME
    ]


@given(
    st.lists(st.builds(state, windows(), st.sampled_from([None, 1, 44]), st.sampled_from(Status)), max_size=6),
    windows(),
    offsets,
)
def test_a_moment_is_missing_if_no_unit_that_counts_has_it(
    states: list[UnitState], wish: Window, moment: datetime
) -> None:
    counts = {Status.DONE, Status.PROVISIONAL}
    has = any(s.status in counts and s.driver in {None, 44} and moment in s.window for s in states)
    assert holding(missing(states, wish, 44, now=END), moment) == (moment in wish and not has)


# --- how a unit stands ---


@pytest.mark.parametrize(
    ("fetched", "window", "status"),
    [
        (START + HOUR, ALL_TIME, Status.PARTIAL),
        (START + HOUR, Window(START, None), Status.PARTIAL),
        (START + HOUR, Window(START, START + HOUR + QUARTER), Status.PARTIAL),
        (START + HOUR, Window(START, START + HOUR), Status.PROVISIONAL),
        (END - MINUTE, ALL_TIME, Status.PARTIAL),
        (END, ALL_TIME, Status.PROVISIONAL),
        (END + WEEK / 7, ALL_TIME, Status.PROVISIONAL),
        (SETTLED - MINUTE, Window(START, START + HOUR), Status.PROVISIONAL),
        (SETTLED, ALL_TIME, Status.DONE),
        (SETTLED + WEEK, Window(START, None), Status.DONE),
    ],
)
def test_a_unit_is_done_for_good_only_once_nothing_of_it_can_still_come(
    fetched: datetime, window: Window, status: Status
) -> None:
    assert status_of(Unit("car_data", a_scope(), 44, window), fetched) is status


def test_a_unit_of_a_session_without_any_date_is_done_so_that_it_is_not_asked_for_at_every_run() -> None:
    assert status_of(Unit("laps", a_scope(date_start=None, date_end=None)), START) is Status.DONE
