"""What one request asks for: parts that together are the whole, and records that were asked for, or none at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from samples import END, HOUR, START, a_scope, sample, samples_of

from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.samples import Samples, samples_of_json
from f1hbase.model.times import parse_time
from f1hbase.model.units import ALL_TIME, Unit, Window
from f1hbase.sources.http.errors import WrongAnswerError
from f1hbase.sources.openf1.query import api_time
from f1hbase.sources.openf1.requests import (
    EVERYBODY,
    Checked,
    DriverRange,
    RequestBatch,
    batch_of,
    share_out,
    split,
)

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
SCOPE = a_scope()
QUALIFYING = a_scope(9557)
DRIVERS = (1, 4, 44)
UNDATED_BY_DRIVER = [one.name for one in ENDPOINTS.values() if one.by_driver and one.time_field is None]

some_examples = settings(max_examples=40)

minutes = st.integers(-90, 240).map(lambda count: START + count * MINUTE)
instants = st.builds(
    lambda minute, microseconds: minute + timedelta(microseconds=microseconds),
    minutes,
    st.sampled_from([0, 1, -1, 500_000, 999_999, 1_000_000]) | st.integers(-(10**9), 10**9),
)


@st.composite
def windows(draw: st.DrawFn, edges: st.SearchStrategy[datetime] = minutes) -> Window:
    """Draw a window that is not empty, each side of which may be open."""
    start, end = sorted((draw(edges), draw(edges)))
    end = end if start < end else start + MINUTE
    return Window(draw(st.sampled_from([start, None])), draw(st.sampled_from([end, None])))


def holding(batches: Iterable[RequestBatch], moment: datetime) -> int:
    return sum(moment in batch.window for batch in batches)


# --- what is asked ---


def test_a_request_names_sessions_driver_range_and_time() -> None:
    assert str(batch_of(Unit("meetings", a_scope(None)))) == "meetings?meeting_key=1240"
    assert str(batch_of(Unit("laps", SCOPE, 44))) == "laps?session_key=9558&driver_number=44"
    window = Window(START, END)
    assert batch_of(Unit("car_data", SCOPE, None, window)).query().filters == (
        "session_key=9558", "date>=2024-07-07T14:00:00", "date<2024-07-07T16:00:00",
    )  # fmt: skip
    shared = RequestBatch((Unit("laps", QUALIFYING), Unit("laps", SCOPE)), drivers=DriverRange(25, 50))
    assert shared.query().filters == ("session_key=9557", "session_key=9558", "driver_number>=25", "driver_number<50")


@given(instants)
def test_a_time_is_asked_for_in_utc_without_a_zone(moment: datetime) -> None:
    for hours in (0, 5.75, -3):
        there = moment.astimezone(timezone(timedelta(hours=hours)))
        assert parse_time(api_time(there)) == moment
        assert "+" not in api_time(there)


# --- halving what is too much ---


@given(windows(instants), instants)
@example(ALL_TIME, START - HOUR)
@example(ALL_TIME, END + HOUR)
def test_each_moment_of_a_window_is_in_exactly_one_part_and_no_other_is(window: Window, moment: datetime) -> None:
    parts = split(batch_of(Unit("car_data", SCOPE, 44, window)))
    edges = [edge for part in parts for edge in (part.window.start, part.window.end) if edge is not None]
    for each in (moment, *edges, *(edge - timedelta(microseconds=1) for edge in edges)):
        assert holding(parts, each) == (each in window if parts else 0)


@given(windows(instants))
def test_every_part_of_a_dated_endpoint_is_smaller_than_the_whole_and_a_unit_of_its_own(window: Window) -> None:
    for part in split(batch_of(Unit("car_data", SCOPE, 44, window))):
        assert part.window != window
        assert part.units == (Unit("car_data", SCOPE, 44, part.window),)
        assert not part.is_part
        assert part.window.start is None or part.window.end is None or part.window.start < part.window.end


@given(minutes, st.integers(1, 300), st.sampled_from([0, 1, 999_999]))
def test_a_window_can_be_halved_down_to_one_second_and_no_further(start: datetime, seconds: int, more: int) -> None:
    window = Window(start, start + timedelta(seconds=seconds, microseconds=more))
    whole = [batch_of(Unit("intervals", SCOPE, None, window))]
    smallest: list[RequestBatch] = []
    while whole:
        batch = whole.pop()
        parts = split(batch)
        whole += parts
        smallest += [] if parts else [batch]
    spans = sorted(
        (batch.window.start, batch.window.end) for batch in smallest if batch.window.start and batch.window.end
    )
    assert [end for _, end in spans[:-1]] == [begin for begin, _ in spans[1:]]
    assert (spans[0][0], spans[-1][1]) == (window.start, window.end)
    assert all(SECOND <= end - begin < 2 * SECOND for begin, end in spans)


def test_an_open_window_is_first_closed_one_hour_out_and_the_rest_stays_open() -> None:
    def parts_of(window: Window, **scope: Any) -> list[Window]:
        return [part.window for part in split(batch_of(Unit("weather", a_scope(**scope), None, window)))]

    before, after = START - HOUR, END + HOUR
    assert parts_of(ALL_TIME) == [Window(None, before), Window(before, after), Window(after, None)]
    assert parts_of(Window(END, None)) == [Window(END, END + HOUR), Window(END + HOUR, None)]
    assert parts_of(Window(None, START)) == [Window(None, START - HOUR), Window(START - HOUR, START)]
    assert parts_of(ALL_TIME, date_start=None, date_end=None) == []


def test_an_open_side_is_not_followed_for_ever() -> None:
    part = batch_of(Unit("weather", SCOPE, None, Window(END, None)))
    number = 0
    while parts := split(part):
        part, number = parts[-1], number + 1
        assert part.window.end is None
        assert number < 30
    assert number >= 20


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_request_for_several_sessions_is_cut_into_one_each_first(endpoint: str) -> None:
    units = (Unit(endpoint, QUALIFYING), Unit(endpoint, SCOPE))
    assert split(RequestBatch(units)) == [batch_of(unit) for unit in units]


# --- ranges of drivers ---


def leaves(batch: RequestBatch) -> list[RequestBatch]:
    """Return the parts that cannot be cut any more."""
    parts = split(batch)
    return [leaf for part in parts for leaf in leaves(part)] if parts else [batch]


@given(st.integers(0, 10**6) | st.integers(0, 1_100), st.data())
def test_each_driver_is_in_exactly_one_range_however_far_they_are_halved(driver: int, data: st.DataObject) -> None:
    ranges = [EVERYBODY]
    for _ in range(data.draw(st.integers(0, 12))):
        one = data.draw(st.sampled_from(ranges))
        halves = one.halves()
        if halves:
            ranges.remove(one)
            ranges += halves
        assert sum(driver in one for one in ranges) == 1


@pytest.mark.parametrize("endpoint", UNDATED_BY_DRIVER)
def test_what_has_no_dates_is_cut_by_ranges_of_drivers_which_are_parts_of_the_one_unit(endpoint: str) -> None:
    unit = Unit(endpoint, SCOPE)
    parts = split(batch_of(unit))
    assert [part.units for part in parts] == [(unit,), (unit,)]
    assert all(part.is_part and part.window == ALL_TIME for part in parts)
    assert [part.query().filters[1:] for part in parts] == [("driver_number<50",), ("driver_number>=50",)]


def test_of_all_drivers_each_up_to_999_can_be_asked_for_alone_and_all_above_together() -> None:
    found = leaves(batch_of(Unit("laps", SCOPE)))
    assert found[-1].drivers == DriverRange(1_000, None)
    assert {part.drivers.high for part in found[:-1]} == set(range(1, 1_001))
    assert all(part.drivers.high == (part.drivers.low or 0) + 1 for part in found[:-1])


def test_the_upper_half_of_the_usual_numbers_is_reached_by_one_cut_more() -> None:
    above = split(batch_of(Unit("laps", SCOPE)))[1]
    assert [part.drivers for part in split(above)] == [DriverRange(50, 100), DriverRange(100, None)]


def test_the_records_of_one_driver_cannot_be_cut() -> None:
    assert split(batch_of(Unit("laps", SCOPE, 44))) == []
    assert split(replace(batch_of(Unit("laps", SCOPE)), drivers=DriverRange(44, 45))) == []


@pytest.mark.parametrize("endpoint", ["meetings", "sessions", "championship_teams"])
def test_what_has_neither_dates_nor_drivers_cannot_be_cut(endpoint: str) -> None:
    assert split(batch_of(Unit(endpoint, SCOPE))) == []


# --- records that were not asked for ---


def spellings(moment: datetime) -> list[str]:
    """Return ways to write a moment; the API has been seen to use the first, but any may come."""
    utc = moment.isoformat()
    texts = [utc, utc.replace("+00:00", "Z"), utc.replace("T", " "), utc.replace("+00:00", ""), utc.lower()]
    texts += [moment.astimezone(timezone(timedelta(minutes=zone))).isoformat() for zone in (330, -210, 845)]
    texts += [moment.isoformat(timespec="microseconds"), moment.strftime("%Y%m%dT%H%M%S.%f+0000")]
    if moment.microsecond % 1000 == 0:
        texts.append(moment.isoformat(timespec="milliseconds"))
    return [text for text in texts if parse_time(text) == moment]


@st.composite
def moments_near(draw: st.DrawFn, window: Window) -> datetime:
    """Draw a moment about the edges of a window."""
    edges = [edge for edge in (window.start, window.end) if edge is not None]
    moment = draw(st.sampled_from(edges or [START]))
    steps = st.sampled_from([0, 0, 1, -1, 400_000, -400_000]) | st.integers(-(10**8), 10**8)
    return moment + timedelta(microseconds=draw(steps))


def record_of(driver: Any, date: Any, **changes: Any) -> dict[str, Any]:
    return {"meeting_key": 1240, "session_key": 9558, "driver_number": driver, "date": date, **changes}


def checked(batch: RequestBatch, records: Sequence[Any]) -> list[Any]:
    """Return the records of an answer, one by one."""
    return [record for some in Checked(batch, [records]) for record in some]


def all_of(by_unit: Mapping[Unit, Sequence[Any]]) -> list[Any]:
    return [record for records in by_unit.values() for record in records]


@some_examples
@given(windows(instants), st.data())
def test_a_record_of_a_time_that_was_not_asked_for_is_never_data(window: Window, data: st.DataObject) -> None:
    batch = batch_of(Unit("car_data", SCOPE, None, window))
    moment = data.draw(moments_near(window))
    record = record_of(44, data.draw(st.sampled_from(spellings(moment))))
    if moment in window:
        assert checked(batch, [record]) == [record]
    else:
        with pytest.raises(WrongAnswerError, match=r"outside of"):
            checked(batch, [record])


@some_examples
@given(windows(minutes | instants), st.sampled_from([None, 44]), st.data())
def test_samples_are_refused_where_the_same_records_are(
    window: Window, driver: int | None, data: st.DataObject
) -> None:
    batch = batch_of(Unit("car_data", SCOPE, driver, window))
    numbers = dict.fromkeys(ENDPOINTS["car_data"].fields[4:], 1)
    dates = moments_near(window).map(datetime.isoformat)
    inside = moments_near(window).filter(window.__contains__).map(datetime.isoformat)
    one = st.builds(record_of, st.just(44), inside)
    odd = st.builds(record_of, st.sampled_from(DRIVERS), dates, session_key=st.sampled_from([9558, 9558, 9559]))
    found = data.draw(st.lists(one, max_size=8)) + data.draw(st.lists(odd, max_size=1))
    samples = samples_of_json(ENDPOINTS["car_data"], json.dumps([record | numbers for record in found]).encode())
    assert samples is not None

    def outcome(records: Sequence[Any]) -> Any:
        try:
            return [list(some) for some in Checked(batch, [records])]
        except WrongAnswerError:
            return WrongAnswerError

    assert outcome(samples) == outcome(list(samples))


def a_car(date: str) -> dict[str, Any]:
    return sample("car_data", date=date)


@pytest.mark.parametrize("wrong", ["2024-07-07T13:59:59.9+00:00", "2024-07-07T14:30:00+00:00"])
def test_one_sample_outside_on_either_side_spoils_the_answer(wrong: str) -> None:
    batch = batch_of(Unit("car_data", SCOPE, 44, Window(START, START + 30 * MINUTE)))
    inside = "2024-07-07T14:00:00+00:00", "2024-07-07T14:29:59.999999+00:00"
    assert len(checked(batch, samples_of([a_car(date) for date in inside]))) == 2
    with pytest.raises(WrongAnswerError, match="outside of"):
        checked(batch, samples_of([a_car(date) for date in (inside[0], wrong, inside[1])]))


def test_an_edge_within_a_second_parts_the_samples_of_it() -> None:
    dates = "2024-07-07T14:00:09.4+00:00", "2024-07-07T14:00:09.5+00:00"
    edge = START + timedelta(seconds=9.5)
    for window, good, bad in ((Window(START, edge), *dates), (Window(edge, END), *dates[::-1])):
        batch = batch_of(Unit("car_data", SCOPE, None, window))
        assert len(checked(batch, samples_of([a_car(good)]))) == 1
        with pytest.raises(WrongAnswerError):
            checked(batch, samples_of([a_car(bad)]))


@pytest.mark.parametrize("date", ["2024-07-07T14:15+00:00", "2024-W27-7T14:15:00+00:00"])
def test_a_date_in_a_shorter_or_odder_iso_spelling_is_the_moment_that_it_says(date: str) -> None:
    edge = START + 15 * MINUTE
    assert parse_time(date) == edge
    assert checked(batch_of(Unit("car_data", SCOPE, None, Window(edge, None))), [record_of(44, date)])
    with pytest.raises(WrongAnswerError):
        checked(batch_of(Unit("car_data", SCOPE, None, Window(None, edge))), [record_of(44, date)])


ONE = batch_of(Unit("position", SCOPE, 44, Window(START, END)))
SHARED = RequestBatch((Unit("position", SCOPE, 44), Unit("position", QUALIFYING, 44)))
IN_TIME = (START + MINUTE).isoformat()


@pytest.mark.parametrize(
    "wrong",
    [{"driver_number": 4}, {"driver_number": -1}, {"meeting_key": 1241}, {"session_key": 9559},
     {"date": (START - SECOND).isoformat()}, {"date": END.isoformat()}],
    ids=str,
)  # fmt: skip
def test_one_record_that_was_not_asked_for_spoils_the_answer(wrong: dict[str, Any]) -> None:
    good = record_of(44, IN_TIME)
    with pytest.raises(WrongAnswerError):
        checked(ONE, [good, {**good, **wrong}])
    if "date" not in wrong:
        with pytest.raises(WrongAnswerError):
            share_out(SHARED, [[good, {**good, **wrong}]])


@pytest.mark.parametrize("driver", [24, 50, 1_000])
def test_a_driver_out_of_the_range_asked_for_spoils_the_answer(driver: int) -> None:
    batch = replace(batch_of(Unit("laps", SCOPE)), drivers=DriverRange(25, 50), is_part=True)
    assert checked(batch, [sample("laps", driver_number=25), sample("laps", driver_number=49)])
    with pytest.raises(WrongAnswerError, match=f"driver {driver}, who was not asked for"):
        checked(batch, [sample("laps", driver_number=driver)])


@pytest.mark.parametrize("number", ["44", [44], {"is": 44}, True], ids=str)
def test_a_driver_number_that_is_no_number_is_left_to_quarantine(number: Any) -> None:
    for found in (
        checked(ONE, [record_of(number, IN_TIME)]),
        all_of(share_out(SHARED, [[record_of(number, IN_TIME)]])),
    ):
        assert found == [record_of(number, IN_TIME)]


@pytest.mark.parametrize(
    "record",
    [{}, None, 3, "text", [], {"date": IN_TIME}, {"driver_number": 44}, record_of(None, IN_TIME), record_of(44, None),
     record_of(44, ""), record_of(44, "yesterday"), record_of(44, 5), record_of(44, IN_TIME, session_key=None),
     record_of(44, IN_TIME, session_key="9557"), record_of(44, "not a timeT+00:00")],
    ids=repr,
)  # fmt: skip
def test_a_record_that_says_too_little_is_somebodys_all_the_same(record: Any) -> None:
    assert checked(ONE, [record]) == [record]
    assert all_of(share_out(SHARED, [[record]])) == [record]


def test_a_wrong_record_is_noticed_before_the_slice_that_it_came_in_is_handed_on() -> None:
    good, bad = samples_of([a_car(IN_TIME)]), samples_of([a_car(IN_TIME), a_car(END.isoformat())])
    slices = iter(Checked(batch_of(Unit("car_data", SCOPE, None, Window(START, END))), [good, bad]))
    assert isinstance(next(slices), Samples)
    with pytest.raises(WrongAnswerError):
        next(slices)


# --- sharing out ---


def test_the_records_of_several_sessions_are_shared_out_and_each_has_an_entry() -> None:
    units = tuple(Unit("laps", scope) for scope in (QUALIFYING, SCOPE, a_scope(9556)))
    laps = [sample("laps", session_key=key, lap_number=n) for n, key in enumerate([9558, 9557, 9558])]
    shares = share_out(RequestBatch(units), [laps[:1], laps[1:]])
    assert list(shares) == list(units)
    assert [shares[unit] for unit in units] == [[laps[1]], [laps[0], laps[2]], []]


@some_examples
@given(st.lists(st.sampled_from([9556, 9557, 9558]), max_size=20), st.integers(1, 5))
def test_each_record_is_of_the_session_that_it_names(keys: list[int], size: int) -> None:
    units = tuple(Unit("laps", a_scope(key)) for key in (9558, 9556, 9557))
    laps = [sample("laps", session_key=key, lap_number=number) for number, key in enumerate(keys)]
    shares = share_out(RequestBatch(units), [laps[n : n + size] for n in range(0, len(laps), size)])
    for unit in units:
        assert shares[unit] == [one for one in laps if one["session_key"] == unit.scope.session_key]


@pytest.mark.parametrize("key", [9559, -1, 0])
def test_a_record_of_a_session_that_was_not_asked_for_spoils_the_answer(key: int) -> None:
    with pytest.raises(WrongAnswerError, match=f"session_key {key}, which was not asked for"):
        share_out(SHARED, [[record_of(44, IN_TIME)], [record_of(44, IN_TIME, session_key=key)]])


def test_a_date_in_an_endpoint_that_is_not_asked_for_by_date_does_not_matter() -> None:
    record = record_of(44, "2020-01-01T00:00:00+00:00", lap_number=3)
    assert checked(batch_of(Unit("pit", SCOPE)), [record]) == [record]


def test_the_records_of_a_meeting_need_no_session() -> None:
    meeting = batch_of(Unit("meetings", a_scope(None)))
    assert checked(meeting, [{"meeting_key": 1240}]) == [{"meeting_key": 1240}]
    with pytest.raises(WrongAnswerError, match="meeting_key 7, not 1240"):
        checked(meeting, [{"meeting_key": 7}])
