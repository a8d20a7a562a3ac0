"""How long a window one request asks for: all time exactly once whatever is learnt, and few requests of a good size.

Times and sizes are of sessions in memory; nothing is asked.
"""

from __future__ import annotations

import gzip
import json
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import accumulate, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import END, REAL, START, a_meeting, a_scope, a_selection, needs_real_records, sample

from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.coverage import subtract, union
from f1hbase.model.plans import MeetingPlan, SessionPlan
from f1hbase.model.samples import Samples
from f1hbase.model.units import ALL_TIME, Scope, Unit, Window, slice_time
from f1hbase.pipeline.plan import session_scope
from f1hbase.pipeline.remaining import Remaining
from f1hbase.serve.csvform import to_csv
from f1hbase.sources.openf1.requests import RequestBatch, batch_of, split
from f1hbase.sources.openf1.sizing import Pace, Packer, Sizes, cut_beforehand, window_seconds
from f1hbase.sources.openf1.source import OpenF1Options, expected_requests

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
BUDGET = 4_000_000

RACE = a_scope(kind="Race")
PRACTICE = a_scope(9550, kind="Practice", date_start=START - 2 * HOUR, date_end=START - HOUR)
CAR, LOCATION = Unit("car_data", RACE), Unit("location", RACE)

instants = st.builds(
    lambda minutes, microseconds: START + minutes * MINUTE + timedelta(microseconds=microseconds),
    st.integers(-200, 400),
    st.sampled_from([0, 1, -1, 999_999, 1_000_000]),
)


@st.composite
def windows(draw: st.DrawFn) -> Window:
    """Draw a window that is not empty, each side of which may be open."""
    start, end = sorted((draw(instants), draw(instants)))
    end = end if start < end else start + MINUTE
    return Window(draw(st.sampled_from([start, None])), draw(st.sampled_from([end, None])))


scopes = st.sampled_from(
    [
        RACE, PRACTICE, a_scope(date_end=None), a_scope(date_start=None), a_scope(date_start=None, date_end=None),
        a_scope(date_end=START), a_scope(date_end=START - HOUR), a_scope(cancelled=True),
        a_scope(date_end=START + 9 * HOUR), a_scope(date_start=START + timedelta(microseconds=500_001)),
    ]
)  # fmt: skip

steps = st.none() | st.sampled_from([15 * MINUTE, 7 * MINUTE, HOUR, 90 * SECOND])

events = st.lists(st.sampled_from(["answer", "answer", "too much", "put back", "slow"]), min_size=1, max_size=8)
"""What becomes of the requests, over and over."""

some_examples = settings(max_examples=50)


def put_all(units: Sequence[Unit], sizes: Sizes, happens: Sequence[str], rates: Sequence[int]) -> list[RequestBatch]:
    """Return the requests that were answered in the end, after what happens to each try.

    Args:
        units: What to fetch.
        sizes: What is known of sizes.
        happens: What becomes of each try, over and over.
        rates: How many bytes a second of each answer's window has, over and over.
    """
    packer = Packer(units, sizes)
    answered: list[RequestBatch] = []
    turn = 0
    while packer:
        batch = packer.take()
        what = happens[turn % len(happens)]
        size = int(rates[turn % len(rates)] * window_seconds(batch.window, batch.scope))
        turn += 1
        assert turn < 5_000, "there is no end of requests"
        parts = split(batch, MINUTE if what == "slow" else SECOND) if turn < 60 else []
        if what == "put back" and turn < 60:
            packer.put_back([batch])
        elif what in {"too much", "slow"} and parts:
            sizes.shrink(batch)
            packer.put_back(parts)
        else:
            sizes.learn(batch, size)
            answered.append(batch)
    return answered


def in_order(found: Sequence[Window]) -> list[Window]:
    return sorted(found, key=lambda window: window.start or datetime.min.replace(tzinfo=UTC))


# --- all time exactly once ---


@some_examples
@given(
    scopes, st.sampled_from(["car_data", "location"]), windows() | st.just(ALL_TIME), steps, events,
    st.lists(st.integers(0, 20_000), min_size=1, max_size=6), st.sampled_from([1_000_000, BUDGET]),
)  # fmt: skip
def test_the_windows_of_a_unit_are_its_time_exactly_once_whatever_was_learnt_shrunk_or_put_back(
    scope: Scope,
    endpoint: str,
    window: Window,
    step: timedelta | None,
    happens: list[str],
    rates: list[int],
    budget: int,
) -> None:
    unit = Unit(endpoint, scope, None, window)
    answered = put_all([unit], Sizes(budget, step), happens, rates)
    assert {(batch.units[0].endpoint, batch.units[0].scope, batch.units[0].driver) for batch in answered} == {
        (endpoint, scope, None)
    }
    assert all(batch.units == (replace(unit, window=batch.window),) for batch in answered), "one request is one unit"
    found = in_order([batch.window for batch in answered])
    assert (found[0].start, found[-1].end) == (window.start, window.end)
    for before, after in pairwise(found):
        assert before.end is not None
        assert before.end == after.start
    assert all(one.start is None or one.end is None or one.start < one.end for one in found)


@some_examples
@given(scopes, st.lists(windows(), max_size=3), events, instants)
def test_of_a_session_that_is_stored_in_part_the_rest_is_asked_for_exactly_once(
    scope: Scope, done: list[Window], happens: list[str], moment: datetime
) -> None:
    units = [
        Unit(name, scope, None, left) for name in ("car_data", "location") for left in subtract(ALL_TIME, union(done))
    ]
    answered = put_all(units, Sizes(BUDGET), happens, [5_000, 0])
    for endpoint in ("car_data", "location"):
        found = [one for one in answered if one.endpoint.name == endpoint and moment in one.window]
        assert len(found) == (not any(moment in window for window in done))


@some_examples
@given(st.sampled_from([RACE, PRACTICE, a_scope(date_end=None)]), steps, events)
def test_the_first_window_of_a_session_is_open_at_its_left_and_the_last_at_its_right(
    scope: Scope, step: timedelta | None, happens: list[str]
) -> None:
    found = in_order([one.window for one in put_all([Unit("car_data", scope)], Sizes(BUDGET, step), happens, [5_000])])
    assert found[0].start is None
    assert found[-1].end is None
    assert not any(window.is_closed for window in (found[0], found[-1]))
    assert all(window.is_closed for window in found[1:-1])


def test_edges_are_whole_seconds_so_that_dates_compare_as_text() -> None:
    scope = a_scope(date_start=START + timedelta(microseconds=500_001))
    answered = put_all([Unit("car_data", scope)], Sizes(BUDGET), ["answer"], [4_333, 17])
    assert len(answered) > 3
    assert all(batch.window.end is None or batch.window.end.microsecond == 0 for batch in answered)


# --- fixed windows ---


@pytest.mark.parametrize("step", [15 * MINUTE, 7 * MINUTE, HOUR, 3 * HOUR])
def test_fixed_windows_are_those_of_the_session_whatever_was_learnt(step: timedelta) -> None:
    answered = put_all([CAR, LOCATION], Sizes(BUDGET, step), ["answer"], [10**5, 0])
    for endpoint in ("car_data", "location"):
        assert [b.window for b in answered if b.endpoint.name == endpoint] == slice_time(START, END, step)


def test_a_rest_is_cut_at_the_edges_of_the_fixed_windows() -> None:
    left = Window(START + 20 * MINUTE, START + 50 * MINUTE)
    answered = put_all([replace(CAR, window=left)], Sizes(BUDGET, 15 * MINUTE), ["answer"], [0])
    edges = [20, 30, 45, 50]
    assert [b.window for b in answered] == [Window(START + a * MINUTE, START + b * MINUTE) for a, b in pairwise(edges)]


def test_a_session_without_an_end_has_fixed_windows_up_to_the_latest_that_it_may_end() -> None:
    scope = a_scope(date_end=None)
    answered = put_all([Unit("car_data", scope)], Sizes(BUDGET, HOUR), ["answer"], [0])
    assert [b.window for b in answered] == slice_time(START, START + 12 * HOUR, HOUR)


def test_many_short_fixed_windows_take_no_longer_each() -> None:
    scope = a_scope(date_end=START + 12 * HOUR)
    assert len(put_all([Unit("car_data", scope)], Sizes(BUDGET, 10 * SECOND), ["answer"], [0])) == 12 * 360


# --- sessions without sensible times ---


@pytest.mark.parametrize("step", [None, 15 * MINUTE])
@pytest.mark.parametrize(
    "times", [{"date_start": None}, {"date_start": None, "date_end": None}, {"cancelled": True}], ids=str
)
def test_what_has_no_time_to_cut_by_or_was_called_off_is_asked_for_at_once(
    times: dict[str, Any], step: timedelta | None
) -> None:
    (batch,) = put_all([Unit("car_data", a_scope(**times))], Sizes(BUDGET, step), ["answer"], [0])
    assert batch.window == ALL_TIME


def test_a_session_whose_end_is_years_off_takes_no_more_requests_than_twelve_hours() -> None:
    record = sample("sessions", date_end="2034-07-07T16:00:00+00:00")
    scope = session_scope(2024, record)
    assert scope.over_at == START + 12 * HOUR
    for step in (None, 15 * MINUTE):
        answered = put_all([Unit("car_data", scope), Unit("location", scope)], Sizes(BUDGET, step), ["answer"], [0])
        assert len(answered) <= 2 * 50
        assert answered[-1].window.end is None, "what comes later all the same is asked for, too"


def test_of_a_session_that_goes_on_nothing_is_asked_for_after_now() -> None:
    for minutes in (0, 1, 14, 61, 119):
        now = START + minutes * MINUTE + timedelta(microseconds=5)
        meeting = MeetingPlan(a_scope(None), None, (SessionPlan(RACE, sample("sessions")),), now)
        left = Remaining(meeting, [[]], a_selection(endpoints=("car_data", "location")), now).units()
        answered = put_all(left, Sizes(BUDGET), ["answer"], [5_000])
        for endpoint in ("car_data", "location"):
            found = in_order([b.window for b in answered if b.endpoint.name == endpoint])
            assert (found[0].start, found[-1].end) == (None, now.replace(microsecond=0))
        other = Remaining(meeting, [[]], a_selection(endpoint="laps"), now).units()
        assert other == [Unit("laps", RACE)], "what has no windows is asked for as it is by now"


def test_one_driver_is_asked_for_in_windows_of_his_own() -> None:
    unit = replace(CAR, driver=44)
    answered = put_all([unit], Sizes(BUDGET), ["answer"], [300])
    assert len(answered) <= 2
    assert union(batch.window for batch in answered) == [ALL_TIME]
    assert {batch.units[0].driver for batch in answered} == {44}


# --- what is learnt ---

answers = st.lists(st.tuples(st.floats(1.0, 5_000.0), st.integers(0, 10**8)), min_size=1, max_size=30)


@given(answers)
def test_a_window_is_at_most_twice_as_long_as_any_that_has_been_answered(answers: list[tuple[float, int]]) -> None:
    pace = Pace(BUDGET)
    for number, (seconds, size) in enumerate(answers, 1):
        pace.learn(seconds, size)
        assert pace.seconds() <= 2 * max(seconds for seconds, _ in answers[:number])


@given(answers, st.floats(1e3, 1e8))
def test_a_window_as_busy_as_the_last_one_stays_below_the_budget(
    answers: list[tuple[float, int]], budget: float
) -> None:
    pace = Pace(budget)
    for seconds, size in answers:
        pace.learn(seconds, size)
        assert pace.seconds() * (size / seconds) <= budget


@given(answers, st.floats(2.0, 5_000.0))
def test_after_a_request_that_was_too_much_none_is_longer_than_its_half(
    answers: list[tuple[float, int]], seconds: float
) -> None:
    pace = Pace(BUDGET)
    for one in answers:
        pace.learn(*one)
    pace.shrink(seconds)
    assert 0 < pace.seconds() <= seconds / 2
    pace.shrink(4 * seconds)
    assert pace.seconds() <= seconds / 2, "a shorter one has been too much already"


@given(answers)
def test_no_window_is_so_long_that_all_cars_that_ever_were_would_fill_more_than_9_mb(
    answers: list[tuple[float, int]],
) -> None:
    pace = Pace(BUDGET)
    for one in answers:
        pace.learn(*one)
        assert pace.seconds() * 22 * 3.9 * 66 <= 9_000_001


def test_the_first_window_is_as_long_as_twenty_cars_on_track_take_to_fill_it() -> None:
    # 20 cars x 3.7 records a second x 65 bytes of CSV: DESIGN.md, Units.
    assert Pace(BUDGET).seconds() * 20 * 3.7 * 65 == pytest.approx(0.9 * BUDGET)


def test_after_a_quiet_hour_windows_grow_and_after_a_busy_answer_they_shrink_at_once() -> None:
    pace = Pace(BUDGET)
    pace.learn(600.0, 3_000_000)
    usual = pace.seconds()
    for _ in range(3):
        pace.learn(600.0, 0)
    assert pace.seconds() > 1.5 * usual
    pace.learn(600.0, 6_000_000)
    assert pace.seconds() == pytest.approx(usual / 2)


def test_what_was_too_much_in_a_slow_hour_is_tried_again_later() -> None:
    pace = Pace(BUDGET)
    before = pace.seconds()
    pace.learn(before, int(0.9 * BUDGET))
    for _ in range(5):
        pace.shrink(pace.seconds())
    assert pace.seconds() <= before / 32
    for _ in range(120):
        pace.learn(pace.seconds(), int(pace.seconds() * 4_810))
    assert pace.seconds() == pytest.approx(before, rel=0.01)


def test_what_was_too_much_of_one_endpoint_or_one_driver_says_nothing_of_another() -> None:
    sizes = Sizes(BUDGET)
    before = sizes.next_window(LOCATION)
    sizes.shrink(batch_of(replace(CAR, window=Window(START, START + MINUTE))))
    sizes.learn(batch_of(replace(LOCATION, driver=44, window=Window(START, START + HOUR))), 100)
    assert sizes.next_window(LOCATION) == before
    assert window_seconds(sizes.next_window(CAR), RACE) <= 30 + 5 * 60


def test_an_open_window_is_taken_to_begin_5_minutes_before_the_session_and_to_end_15_after_it() -> None:
    assert window_seconds(Window(None, START + HOUR), RACE) == 3600 + 5 * 60
    assert window_seconds(Window(END - HOUR, None), RACE) == 3600 + 15 * 60
    assert window_seconds(Window(END + HOUR, None), RACE) == 15 * 60


# --- intervals ---


def test_the_intervals_of_a_race_are_cut_beforehand_where_more_than_the_budget_is_expected() -> None:
    one = Unit("intervals", RACE)
    parts = cut_beforehand(one, BUDGET)
    assert [part.window for part in parts] == [Window(None, START + HOUR + SECOND), Window(START + HOUR + SECOND, None)]
    assert cut_beforehand(one, 10 * BUDGET) == [one]
    for other in (
        Unit("intervals", PRACTICE),
        replace(one, driver=44),
        Unit("laps", RACE),
        replace(one, window=parts[0].window),
    ):
        assert cut_beforehand(other, BUDGET) == [other]


# --- one request for the sessions of a meeting ---


def weekend() -> tuple[list[Scope], MeetingPlan]:
    """Return the five sessions of a weekend, of real lengths."""
    found = []
    for number, (kind, hours) in enumerate(
        [("Practice", 1), ("Practice", 1), ("Practice", 1), ("Qualifying", 1), ("Race", 2)]
    ):
        start = START + number * 24 * HOUR
        found.append(a_scope(9550 + number, kind=kind, date_start=start, date_end=start + hours * HOUR))
    meeting = a_meeting()
    return found, replace(meeting, sessions=tuple(SessionPlan(scope, sample("sessions")) for scope in found))


def remaining_of(meeting: MeetingPlan) -> list[Unit]:
    """Return what is to be asked for: all but what came with the plan."""
    units = Remaining(meeting, [[]], a_selection(), END + 30 * 24 * HOUR).units()
    return [unit for unit in units if unit.endpoint not in {"meetings", "sessions"}]


def test_each_endpoint_without_windows_is_one_request_for_all_sessions_of_a_meeting() -> None:
    found, meeting = weekend()
    packer = Packer(remaining_of(meeting), Sizes(BUDGET))
    shared: Counter[str] = Counter()
    alone: Counter[str] = Counter()
    while packer:
        batch = packer.take()
        if len(batch.units) > 1:
            assert [unit.scope for unit in batch.units] == found
            assert {unit.endpoint for unit in batch.units} == {batch.endpoint.name}
            assert batch.query().filters == tuple(f"session_key={scope.session_key}" for scope in found)
            shared[batch.endpoint.name] += 1
        else:
            alone[batch.endpoint.name] += 1
    by_themselves = {"intervals", "car_data", "location"}
    assert shared == Counter(set(ENDPOINTS) - {"meetings", "sessions"} - by_themselves)
    assert set(alone) == by_themselves
    assert alone["intervals"] == 6


def test_sessions_of_two_meetings_and_units_of_two_drivers_share_no_request() -> None:
    units = [Unit("laps", scope, driver) for scope in (RACE, a_scope(1, meeting_key=7)) for driver in (1, 44)]
    packer = Packer(units, Sizes(BUDGET))
    found = []
    while packer:
        found.append(packer.take().units)
    assert found == [(unit,) for unit in units]


def test_all_units_of_an_endpoint_and_session_can_be_taken_away_and_no_others() -> None:
    found, meeting = weekend()
    units = remaining_of(meeting)
    for endpoint in ("laps", "car_data", "intervals"):
        packer = Packer(units, Sizes(BUDGET))
        removed = packer.remove(endpoint, found[4])
        assert {(unit.endpoint, unit.scope) for unit in removed} == {(endpoint, found[4])}
        rest: list[Unit] = []
        while packer:
            rest += packer.take().units
        assert not any((unit.endpoint, unit.scope) == (endpoint, found[4]) for unit in rest)
        assert {(u.endpoint, u.scope) for u in [*removed, *rest]} == {(u.endpoint, u.scope) for u in units}
        assert packer.remove(endpoint, found[4]) == []


def test_the_location_of_a_session_comes_after_its_car_data_and_before_the_next_session() -> None:
    found, meeting = weekend()
    packer = Packer(remaining_of(meeting), Sizes(BUDGET))
    order = []
    while packer:
        batch = packer.take()
        if batch.endpoint.sampled:
            order.append((batch.scope, batch.endpoint.name))
    wanted = [(scope, name) for scope in found for name in ("car_data", "location")]
    assert list(dict.fromkeys(order)) == wanted
    assert [one for one, _ in pairwise([*order, None]) if one != _] == wanted


# --- how many requests, and how large the answers ---


@dataclass
class Day:
    """How large the answers of a session are: by endpoint the instants of samples in order, how many, and how large."""

    dates: dict[str, list[str]] = field(default_factory=dict)
    numbers: dict[str, list[int]] = field(default_factory=dict)
    sums: dict[str, list[int]] = field(default_factory=dict)

    def add(self, endpoint: str, samples: list[tuple[str, int, int]]) -> None:
        """Add the samples of an endpoint: date, how many, bytes of all of them."""
        samples.sort()
        self.dates[endpoint] = [date for date, _, _ in samples]
        self.numbers[endpoint] = [number for _, number, _ in samples]
        self.sums[endpoint] = [0, *accumulate(size for _, _, size in samples)]

    def _span(self, batch: RequestBatch) -> tuple[int, int]:
        dates = self.dates[batch.endpoint.name]
        start, end = (None if edge is None else edge.isoformat() for edge in (batch.window.start, batch.window.end))
        first = 0 if start is None else bisect_left(dates, start)
        return first, len(dates) if end is None else bisect_left(dates, end)

    def size(self, batch: RequestBatch) -> int:
        """Return how many bytes an answer has."""
        (start, end), sums = self._span(batch), self.sums[batch.endpoint.name]
        return 60 + sums[end] - sums[start]

    def samples(self, batch: RequestBatch) -> Samples:
        """Return the samples of an answer, of which only the dates are true."""
        (start, end), name = self._span(batch), batch.endpoint.name
        rows: list[Any] = []
        for date, number in zip(self.dates[name][start:end], self.numbers[name][start:end], strict=True):
            rows += [(0, 0, 0, date)] * number
        return Samples(batch.endpoint, rows)


def fetch(units: Sequence[Unit], sizes: Sizes, days: dict[Scope, Day], under_way: int) -> tuple[int, list[int]]:
    """Return how many requests units take, and the sizes of the answers of car_data and location."""
    packer = Packer(units, sizes)
    number, found = 0, []
    waiting: deque[RequestBatch] = deque()
    while packer or waiting:
        if packer and len(waiting) < under_way:
            batch = packer.take()
            number += 1
            if batch.endpoint.sampled:
                waiting.append(batch)
            continue
        batch = waiting.popleft()
        day = days[batch.scope]
        sizes.count(batch, day.samples(batch))
        found.append(day.size(batch))
        sizes.learn(batch, found[-1])
    return number, found


def check_sizes(found: list[int]) -> None:
    assert max(found) <= 9_000_000
    assert sum(size <= 4_500_000 for size in found) >= 0.95 * len(found)


@cache
def real_day() -> tuple[Scope, Day]:
    """Return the sizes of a real test day of nine hours as CSV."""
    folder, day = REAL / "meeting-1304-testing-day1", Day()
    with gzip.open(folder / "sessions.jsonl.gz") as lines:
        record = json.loads(next(iter(lines)))
    for endpoint in ("car_data", "location"):
        records = []
        with gzip.open(folder / f"{endpoint}.jsonl.gz") as lines:
            first = next(iter(lines))
            header = to_csv([json.loads(first)]).index(b"\n") + 1
            # Names and punctuation are the same in each line.
            around = len(first.rstrip()) - (len(to_csv([json.loads(first)])) - header)
            records.append((first[9:41].decode(), 1, len(first.rstrip()) - around))
            records += [(line[9:41].decode(), 1, len(line) - 1 - around) for line in lines]
        day.add(endpoint, records)
    return session_scope(record["year"], record), day


@needs_real_records
@pytest.mark.parametrize("under_way", [1, 3])
def test_a_real_test_day_takes_at_most_70_requests_of_which_95_in_100_bring_at_most_4_5_mb(under_way: int) -> None:
    scope, day = real_day()
    assert (len(day.dates["car_data"]), len(day.dates["location"])) == (755_919, 1_073_602)
    meeting = replace(a_meeting(), sessions=(SessionPlan(scope, sample("sessions")),))
    number, found = fetch(remaining_of(meeting), Sizes(BUDGET), {scope: day}, under_way)
    assert number + 2 <= 70, "with the two of the plan"
    check_sizes(found)


def simulated(scope: Scope, cars: Callable[[float], int], rate: float = 3.7, size: int = 65) -> Day:
    """Return a session with so many cars on track so many seconds after its start; of places there are some more."""
    day = Day()
    begin, end = scope.date_start, scope.date_end
    assert begin is not None
    assert end is not None
    seconds = range(int((end - begin).total_seconds()) + 12 * 60)
    for endpoint, often, large in (("car_data", rate, size), ("location", 1.14 * rate, min(size, 61))):
        samples = [(second, round(often * cars(second))) for second in seconds]
        day.add(
            endpoint, [((begin + s * SECOND).isoformat(), number, number * large) for s, number in samples if number]
        )
    return day


def on_track(scope: Scope) -> Callable[[float], int]:
    """Return how many of twenty cars are on track: all in a race, else for two thirds of the time; afterwards few."""
    assert scope.date_start is not None
    assert scope.date_end is not None
    length = (scope.date_end - scope.date_start).total_seconds()

    def cars(second: float) -> int:
        if second > length:
            return 4
        return 20 if scope.kind == "Race" or second % 900 < 600 else 4

    return cars


@pytest.mark.parametrize("under_way", [1, 3])
def test_a_weekend_of_five_sessions_of_twenty_cars_takes_at_most_100_requests(under_way: int) -> None:
    found, meeting = weekend()
    days = {scope: simulated(scope, on_track(scope)) for scope in found}
    number, sizes = fetch(remaining_of(meeting), Sizes(BUDGET), days, under_way)
    assert number + 2 <= 100
    check_sizes(sizes)


def never_stopping(scope: Scope) -> Callable[[float], int]:
    """Return that all of twenty cars are on track until five minutes after the end."""
    assert scope.date_start is not None
    assert scope.date_end is not None
    length = (scope.date_end - scope.date_start).total_seconds()
    return lambda second: 20 if second < length + 5 * 60 else 2


@pytest.mark.parametrize("under_way", [1, 3])
def test_the_answers_of_sessions_in_which_nobody_ever_stops_are_not_larger(under_way: int) -> None:
    found, meeting = weekend()
    days = {scope: simulated(scope, never_stopping(scope)) for scope in found}
    number, sizes = fetch(remaining_of(meeting), Sizes(BUDGET), days, under_way)
    assert number + 2 <= 100
    check_sizes(sizes)


def test_a_season_of_24_weekends_is_estimated_at_2200_requests_at_the_most() -> None:
    _, meeting = weekend()
    requests = expected_requests(remaining_of(meeting), OpenF1Options())
    assert 24 * requests + 2 <= 2_200


def test_cars_that_come_out_after_a_quiet_hour_do_not_make_an_answer_too_large() -> None:
    scope = a_scope(date_end=START + 4 * HOUR)
    day = simulated(scope, lambda second: 22 if second >= 2 * 3600 else 0, rate=3.9, size=66)
    for under_way in (1, 3):
        _, found = fetch([Unit("car_data", scope), Unit("location", scope)], Sizes(BUDGET), {scope: day}, under_way)
        assert max(found) <= 9_000_000
