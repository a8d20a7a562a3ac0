"""Windows of time: every sample belongs to exactly one, and what is taken away of one leaves the rest of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from samples import END, START, a_scope

from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.coverage import subtract, union
from f1hbase.model.times import lenient_time, parse_time
from f1hbase.model.units import (
    ALL_TIME,
    LARGEST_KEY,
    Unit,
    Window,
    endpoints_of,
    parse_scope,
    parse_unit_key,
    slice_time,
)

MINUTE = timedelta(minutes=1)
QUARTER = 15 * MINUTE

offsets = st.integers(-300, 600).map(lambda minutes: START + minutes * MINUTE)
moments = offsets | st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))
edges = st.none() | offsets
steps = st.integers(1, 300).map(lambda minutes: minutes * MINUTE)


@st.composite
def windows(draw: st.DrawFn) -> Window:
    """Draw a window that is not empty."""
    start, end = draw(edges), draw(edges)
    if start is not None and end is not None and end <= start:
        start, end = end, start + MINUTE
    return Window(start, end)


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


@pytest.mark.parametrize(
    "value",
    [None, 5, True, [], {}, "", "yesterday", "2024-07-07T25:00:00", "9999-12-31T23:59:59-14:00",
     "0001-01-01T00:00:00+14:00", "9000-01-01T00:00:00"],
    ids=repr,
)  # fmt: skip
def test_what_spells_no_time_of_a_session_is_none(value: object) -> None:
    assert lenient_time(value) is None
    assert lenient_time("2024-07-07T16:00:00+02:00") == START


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
def test_what_is_left_is_what_was_asked_for_and_is_not_done(
    asked: Window, done: list[Window], moment: datetime
) -> None:
    left = subtract(asked, done)
    wanted = moment in asked and not any(moment in window for window in done)
    assert holding(left, moment) == wanted


@given(windows(), st.lists(windows(), max_size=5))
def test_what_is_left_is_in_order_of_time_and_holds_no_empty_window(asked: Window, done: list[Window]) -> None:
    left = subtract(asked, done)
    assert all(window.start is None or window.end is None or window.start < window.end for window in left[1:-1])
    ends = [window.end for window in left[:-1]]
    starts = [window.start for window in left[1:]]
    assert all(end is not None and start is not None and end <= start for end, start in zip(ends, starts, strict=True))


@given(windows(), steps)
def test_once_every_window_of_a_session_is_done_nothing_is_left_whatever_is_asked_for(
    asked: Window, step: timedelta
) -> None:
    assert subtract(asked, slice_time(START, END, step)) == []


@given(st.lists(windows(), max_size=6), offsets | moments)
def test_a_union_is_the_same_time_in_windows_that_neither_meet_nor_overlap(
    found: list[Window], moment: datetime
) -> None:
    together = union(found)
    assert holding(together, moment) == any(moment in window for window in found)
    for before, after in pairwise(together):
        assert before.end is not None
        assert after.start is not None
        assert before.end < after.start


@given(windows(), windows(), offsets)
def test_windows_overlap_if_and_only_if_a_moment_is_in_both(one: Window, other: Window, moment: datetime) -> None:
    if moment in one and moment in other:
        assert one.overlaps(other)
    assert one.overlaps(other) == other.overlaps(one)
    if Window() != one and not one.overlaps(other):
        assert subtract(one, [other]) == [one]


# --- a session and a meeting as such ---


@given(st.integers(1900, 9999), st.integers(0, LARGEST_KEY), st.none() | st.integers(0, LARGEST_KEY))
def test_the_prefix_of_a_scope_can_be_taken_apart_again(year: int, meeting: int, session: int | None) -> None:
    scope = a_scope(session, year=year, meeting_key=meeting)
    found = parse_scope(scope.prefix)
    assert found is not None
    assert (found.year, found.meeting_key, found.session_key) == (year, meeting, session)


@pytest.mark.parametrize("text", ["", "2024#1240", "2024#1240#9558#1", "2024#x#1", "-#-#-", "2024#-#1", "2024#01#1"])
def test_what_is_no_prefix_of_a_scope_is_none(text: str) -> None:
    assert parse_scope(text) is None


def test_a_meeting_has_the_endpoint_of_meetings_alone_and_a_session_all_others() -> None:
    assert [endpoint.name for endpoint in endpoints_of(a_scope(None))] == ["meetings"]
    assert [endpoint.name for endpoint in endpoints_of(a_scope())] == [name for name in ENDPOINTS if name != "meetings"]


def test_a_session_goes_on_from_its_start_to_its_end_and_without_an_end_for_twelve_hours() -> None:
    moment = timedelta(microseconds=1)
    for scope, end in ((a_scope(), END), (a_scope(date_end=None), START + timedelta(hours=12))):
        assert scope.over_at == end
        assert [scope.goes_on(now) for now in (START - moment, START, end - moment, end)] == [False, True, True, False]
    assert not a_scope(cancelled=True).goes_on(START)
    assert not a_scope(date_start=None, date_end=None).goes_on(START)
