"""Which sessions a run loads, which units they are made of, and what of them remains."""

from __future__ import annotations

import logging
import operator
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from samples import END, START, a_scope, sample

from f1hbase.cli.options import Settings, defaults
from f1hbase.errors import NothingToLoadError
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.coverage import Status, UnitState, status_of
from f1hbase.model.units import ALL_TIME, MeetingPlan, Query, SessionPlan, Unit, slice_time
from f1hbase.pipeline.plan import Remaining, first_units, make_plan, window_units

NOW = datetime(2025, 6, 1, tzinfo=UTC)
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt,
}  # fmt: skip
_FILTER = re.compile(r"(\w+)(>=|<=|=|>|<)(.+)")


class Api:
    """The two endpoints that a plan is made from, with the API's rules for filters, in memory."""

    def __init__(self, sessions: list[dict[str, Any]], meetings: list[dict[str, Any]] | None = None) -> None:
        keys = sorted({record["meeting_key"]: record["year"] for record in sessions if "year" in record}.items())
        self.records: dict[str, list[Any]] = {
            "sessions": sessions,
            "meetings": [sample("meetings", meeting_key=key, year=year, date_end=END.isoformat()) for key, year in keys]
            if meetings is None
            else meetings,
        }
        self.queries: list[Query] = []

    async def ask(self, query: Query) -> list[Any]:
        self.queries.append(query)
        alternatives: dict[str, list[Callable[[Any], bool]]] = {}
        for text in query.filters:
            match = _FILTER.fullmatch(text)
            assert match, f"the API does not understand {text}"
            field, sign, value = match.groups()
            alternatives.setdefault(f"{field}{sign}", []).append(_test(field, sign, value))
        # Repeating field=v means or; everything else means and.
        return [
            record
            for record in self.records[query.endpoint]
            if all(any(test(record) for test in tests) for tests in alternatives.values())
        ]


def _test(field: str, sign: str, value: str) -> Callable[[Any], bool]:
    if field.startswith("date"):
        wanted: Any = datetime.fromisoformat(value).replace(tzinfo=UTC)
        return lambda record: _OPERATORS[sign](datetime.fromisoformat(record[field]).astimezone(UTC), wanted)
    return lambda record: _OPERATORS[sign](record[field], int(value))


def a_session(key: int, meeting: int, start: str, **changes: Any) -> dict[str, Any]:
    begin = datetime.fromisoformat(start).replace(tzinfo=UTC)
    times = {"date_start": begin.isoformat(), "date_end": (begin + timedelta(hours=1)).isoformat()}
    return sample("sessions", session_key=key, meeting_key=meeting, year=begin.year, **(times | changes))


def four_seasons() -> list[dict[str, Any]]:
    """Sessions of 2023 to 2025 that have begun and two that have not, in no order."""
    return [
        a_session(33, 13, "2025-05-25T13:00", session_name="Race"),
        a_session(11, 11, "2023-03-03T11:30", session_name="Practice 1"),
        a_session(12, 11, "2023-03-05T15:00", session_name="Race"),
        a_session(21, 12, "2024-12-07T23:30", session_name="Qualifying"),
        a_session(22, 12, "2024-12-08T13:00", session_name="Race"),
        a_session(34, 14, "2025-06-01T13:00", session_name="Race"),
        a_session(41, 15, "2026-03-08T04:00", session_name="Race"),
    ]


async def planned(api: Api | None = None, now: datetime = NOW, **options: Any) -> list[int]:
    """Return the session keys of a plan, in its order."""
    plan, _ = await make_plan((api or Api(four_seasons())).ask, defaults(**options), now)
    return [session.scope.session_key or 0 for meeting in plan for session in meeting.sessions]


@pytest.fixture(autouse=True)
def _log_reaches_caplog(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that ran the command line may have switched this off."""
    monkeypatch.setattr(logging.getLogger("f1hbase"), "propagate", True)


# --- which sessions ---


async def test_without_any_option_every_session_that_has_begun_is_loaded_in_order_of_time() -> None:
    assert await planned() == [11, 12, 21, 22, 33]
    assert await planned(mode="all") == [11, 12, 21, 22, 33]


async def test_latest_means_the_latest_sessions_that_have_begun() -> None:
    assert await planned(mode="latest", num_sessions=1) == [33]
    assert await planned(mode="latest", num_sessions=2) == [22, 33]
    assert await planned(mode="latest", num_sessions=99) == [11, 12, 21, 22, 33]


async def test_latest_of_a_year_means_the_latest_of_that_year() -> None:
    assert await planned(mode="latest", num_sessions=1, year=(2023,)) == [12]


async def test_a_year_means_its_sessions_and_several_years_mean_those_of_each() -> None:
    assert await planned(mode="year", year=(2024,)) == [21, 22]
    assert await planned(year=(2023, 2025)) == [11, 12, 33]


async def test_a_meeting_key_means_all_sessions_of_the_meeting() -> None:
    assert await planned(meeting_key=(11,)) == [11, 12]
    assert await planned(mode="manual", meeting_key=(13, 12)) == [21, 22, 33]


async def test_a_session_key_means_that_session_alone() -> None:
    assert await planned(session_key=(21,)) == [21]
    assert await planned(mode="manual", session_key=(33, 11)) == [11, 33]


async def test_a_date_means_the_sessions_that_begin_on_that_day_in_utc() -> None:
    assert await planned(date=(date(2024, 12, 7),)) == [21]
    assert await planned(date=(date(2024, 12, 8),)) == [22]
    assert await planned(mode="manual", date=(date(2024, 12, 8), date(2023, 3, 3))) == [11, 22]


async def test_a_session_that_begins_before_midnight_in_utc_belongs_to_that_day_whatever_its_zone() -> None:
    api = Api([a_session(1, 1, "2024-11-23T06:00", date_start="2024-11-24T01:00:00+02:00")])
    assert await planned(api, date=(date(2024, 11, 23),)) == [1]


async def test_options_given_together_must_all_hold() -> None:
    assert await planned(meeting_key=(12,), year=(2024,)) == [21, 22]
    assert await planned(meeting_key=(12,), date=(date(2024, 12, 8),)) == [22]


@pytest.mark.parametrize(
    "options",
    [
        {}, {"mode": "latest"}, {"year": (2023, 2024)}, {"meeting_key": (11, 12)}, {"session_key": (11, 12, 21)},
        {"date": (date(2023, 3, 3), date(2024, 12, 8))},
    ],
    ids=str,
)  # fmt: skip
async def test_a_plan_takes_two_requests_however_many_sessions_there_are(options: dict[str, Any]) -> None:
    api = Api(four_seasons())
    await planned(api, **options)
    assert [query.endpoint for query in api.queries] == ["sessions", "meetings"]


async def test_a_plan_of_many_meetings_takes_two_short_requests_too() -> None:
    api = Api([a_session(key, key, "2024-05-01T12:00") for key in range(1, 250)])
    assert await planned(api) == list(range(1, 250))
    assert len(api.queries) == 2
    assert all(len(str(query)) < 8000 for query in api.queries)


# --- what cannot be loaded ---


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"session_key": (11, 777)}, "--session-key 777"),
        ({"meeting_key": (888, 777)}, "--meeting-key 777, --meeting-key 888"),
        ({"year": (2022,)}, "--year 2022"),
        ({"year": (2024, 2031)}, "--year 2031"),
        ({"date": (date(2024, 12, 9),)}, "--date 2024-12-09"),
        ({"date": (date(2024, 12, 8), date(2024, 12, 25))}, "--date 2024-12-25"),
    ],
)
async def test_a_key_year_or_date_that_the_api_does_not_have_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(NothingToLoadError, match=f"no session for {named}[. ]") as refused:
        await planned(**options)
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == 2


async def test_what_no_session_has_at_once_is_said_to_be_asked_for_together() -> None:
    with pytest.raises(NothingToLoadError, match="all options together"):
        await planned(year=(2024,), meeting_key=(11,))


async def test_an_api_without_sessions_is_said_to_have_none() -> None:
    with pytest.raises(NothingToLoadError, match="lists no sessions at all"):
        await planned(Api([]))


async def test_a_session_that_has_not_begun_is_left_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "f1hbase"):
        assert await planned(session_key=(33, 34)) == [33]
    assert "session 34" in caplog.text
    assert "has not begun" in caplog.text
    assert "session 33" not in caplog.text


async def test_a_session_counts_as_begun_from_its_first_moment() -> None:
    start = datetime(2025, 6, 1, 13, tzinfo=UTC)
    assert await planned(now=start, session_key=(33, 34)) == [33, 34]
    assert await planned(now=start - timedelta(microseconds=1), session_key=(33, 34)) == [33]


async def test_if_nothing_asked_for_has_begun_that_is_said_once_with_the_first_start(
    caplog: pytest.LogCaptureFixture,
) -> None:
    one = r"^session 41 \(Silverstone, Race\) has not begun \(it starts 2026-03-08 04:00 UTC\)\. Load it after that\.$"
    with pytest.raises(NothingToLoadError, match=one):
        await planned(year=(2026,))
    several = r"^none of the 2 sessions asked for has begun; the first, session 34 \(.*\), starts 2025-06-01 13:00 UTC"
    with pytest.raises(NothingToLoadError, match=several):
        await planned(session_key=(41, 34))
    assert "left out" not in caplog.text


async def test_of_a_year_that_is_not_over_the_sessions_to_come_are_told_in_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sessions = [*four_seasons(), a_session(35, 14, "2025-06-07T13:00")]
    with caplog.at_level(logging.INFO, "f1hbase"):
        assert await planned(Api(sessions), year=(2024, 2025)) == [21, 22, 33]
    (line,) = [record.getMessage() for record in caplog.records if "to come" in record.getMessage()]
    assert line.startswith("2 sessions of 2025 to come are left out; the first, session 34 (")
    assert line.endswith("begins 2025-06-01 13:00 UTC")


async def test_in_the_winter_break_the_latest_sessions_are_the_last_that_ended() -> None:
    winter = datetime(2026, 1, 15, tzinfo=UTC)
    assert await planned(mode="latest", num_sessions=2, now=winter) == [33, 34]


@pytest.mark.parametrize("end", ["2025-06-01T15:00", None])
async def test_a_session_that_goes_on_is_loaded_and_said_to_be_unfinished(
    end: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    running = four_seasons()[5] | {"date_end": None if end is None else f"{end}:00+00:00"}
    now = datetime(2025, 6, 1, 14, tzinfo=UTC)
    assert await planned(Api([running]), now=now) == [34]
    until = " until 2025-06-01 15:00 UTC" if end else ""
    assert f"session 34 (Silverstone, Race) is going on{until}: what there is of it by now is loaded" in caplog.text
    caplog.clear()
    await planned(Api([running]), now=now + timedelta(hours=12))
    assert "going on" not in caplog.text


async def test_a_session_without_a_start_is_not_overlooked() -> None:
    assert await planned(Api([a_session(1, 1, "2024-05-01T12:00", date_start=None)]), session_key=(1,)) == [1]


@pytest.mark.parametrize("field", ["meeting_key", "session_key", "year"])
async def test_a_session_without_its_keys_is_named_and_does_not_keep_the_others_from_loading(
    field: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def ask(query: Query) -> list[Any]:
        found = [a_session(1, 1, "2024-05-01T12:00"), a_session(2, 1, "2024-05-02T12:00") | {field: None}, "x"]
        return found if query.endpoint == "sessions" else [sample("meetings", meeting_key=1)]

    plan, unusable = await make_plan(ask, defaults(), NOW)
    assert [session.scope.session_key for session in plan[0].sessions] == [1]
    assert caplog.text.count("cannot be loaded") == 2
    assert len(unusable) == 2
    assert "x" in unusable


# --- meetings ---


async def test_sessions_of_one_meeting_are_one_piece_of_the_plan_with_the_meetings_own_record() -> None:
    plan, _ = await make_plan(Api(four_seasons()).ask, defaults(), NOW)
    assert [meeting.scope.prefix for meeting in plan] == ["2023#11#-", "2024#12#-", "2025#13#-"]
    assert [len(meeting.sessions) for meeting in plan] == [2, 2, 1]
    for meeting in plan:
        assert meeting.record is not None
        assert meeting.record["meeting_key"] == meeting.scope.meeting_key
        assert meeting.asked_at == NOW


async def test_a_session_of_the_plan_knows_its_times_and_its_name() -> None:
    plan, _ = await make_plan(Api(four_seasons()).ask, defaults(session_key=(22,)), NOW)
    scope = plan[0].sessions[0].scope
    assert scope.date_start == datetime(2024, 12, 8, 13, tzinfo=UTC)
    assert scope.date_end == datetime(2024, 12, 8, 14, tzinfo=UTC)
    assert scope.name == "British Grand Prix, Race"
    assert scope.prefix == "2024#12#22"


@pytest.mark.parametrize("others", [0, 10])
async def test_the_year_of_every_key_is_the_meetings_however_many_meetings_are_asked_for(others: int) -> None:
    sessions = [a_session(1, 1, "2024-01-01T12:00")]
    sessions += [a_session(key, key, "2024-05-01T12:00") for key in range(2, 2 + others)]
    meetings = [sample("meetings", meeting_key=record["meeting_key"], year=record["year"]) for record in sessions]
    meetings[0]["year"] = 2023

    plan, _ = await make_plan(Api(sessions, meetings).ask, defaults(year=(2024,)), NOW)

    assert plan[0].scope.prefix == "2023#1#-"
    assert plan[0].sessions[0].scope.prefix == "2023#1#1"


async def test_a_meeting_that_the_api_does_not_have_is_said_and_its_sessions_are_loaded_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    plan, _ = await make_plan(Api(four_seasons(), []).ask, defaults(session_key=(22,)), NOW)
    assert plan[0].record is None
    assert plan[0].sessions[0].scope.prefix == "2024#12#22"
    assert "not the meeting itself" in caplog.text


async def test_a_cancelled_session_is_asked_for_what_there_is_of_it_but_cut_into_windows_only_if_anybody_drove() -> (
    None
):
    session = a_session(1, 1, "2024-05-01T12:00", is_cancelled=True)
    plan, _ = await make_plan(Api([session]).ask, defaults(), NOW)
    scope = plan[0].sessions[0].scope
    assert scope.cancelled
    assert {unit.endpoint for unit in first_units(plan[0], defaults())} == set(ENDPOINTS) - {"car_data", "location"}
    assert list(window_units(scope, (), defaults())) == []
    assert {unit.driver for unit in window_units(scope, {1, 44}, defaults())} == {1, 44}


async def test_a_cancelled_session_is_none_of_the_latest_and_named_if_it_would_have_been(
    caplog: pytest.LogCaptureFixture,
) -> None:
    late, early = (a_session(key, 13, day, is_cancelled=True) for key, day in ((90, "2025-05-30"), (91, "2023-03-04")))
    with caplog.at_level(logging.INFO, "f1hbase"):
        assert await planned(Api([*four_seasons(), late, early]), mode="latest", num_sessions=2) == [22, 33]
    assert "the latest 2 of 5 sessions that have begun" in caplog.text
    assert "session 90 (Silverstone, Race) was cancelled and is none of the latest" in caplog.text
    assert "session 91" not in caplog.text


async def test_if_all_were_cancelled_there_is_no_latest_and_a_way_to_load_what_there_is() -> None:
    cancelled = Api([a_session(90, 13, "2025-05-30T13:00", is_cancelled=True)])
    with pytest.raises(
        NothingToLoadError, match=r"all that should have begun .* was cancelled.* Leave out --mode latest"
    ):
        await planned(cancelled, mode="latest", meeting_key=(13,))
    assert await planned(cancelled, meeting_key=(13,)) == [90]


async def test_a_meeting_without_a_record_has_its_unit_all_the_same_as_there_is_nothing_to_store() -> None:
    plan, _ = await make_plan(Api(four_seasons(), []).ask, defaults(session_key=(22,)), NOW)
    assert "meetings" in {unit.endpoint for unit in first_units(plan[0], defaults())}


# --- units ---

SESSION = a_scope(9558)
PRACTICE = a_scope(9550, name="British Grand Prix, Practice 1")
MEETING = MeetingPlan(
    a_scope(None),
    sample("meetings"),
    (SessionPlan(PRACTICE, sample("sessions", session_key=9550)), SessionPlan(SESSION, sample("sessions"))),
    NOW,
)
WINDOWED = ["car_data", "location"]
QUARTERS = slice_time(START, END, timedelta(minutes=15))


def test_all_but_car_data_and_location_are_one_unit_a_session_and_the_meeting_is_one() -> None:
    units = list(first_units(MEETING, defaults()))
    a_session = [name for name in ENDPOINTS if name not in {*WINDOWED, "meetings"}]
    wanted = [Unit("meetings", MEETING.scope)]
    wanted += [Unit(name, scope) for name in a_session for scope in (PRACTICE, SESSION)]
    assert sorted(units, key=str) == sorted(wanted, key=str)


def test_car_data_and_location_are_cut_by_driver_and_window() -> None:
    units = list(window_units(SESSION, {44, 1}, defaults()))
    assert len(units) == len(set(units)) == 2 * 2 * 8
    assert set(units) == {
        Unit(name, SESSION, driver, window) for name in WINDOWED for driver in (1, 44) for window in QUARTERS
    }


def test_the_window_can_be_chosen() -> None:
    units = list(window_units(SESSION, {44}, defaults(window=timedelta(hours=1), endpoint=("car_data",))))
    assert [unit.window for unit in units] == slice_time(START, END, timedelta(hours=1))


def test_without_known_drivers_each_window_is_one_unit_for_all_of_them() -> None:
    units = list(window_units(SESSION, (), defaults(endpoint=("location",))))
    assert units == [Unit("location", SESSION, None, window) for window in QUARTERS]


def test_a_chosen_driver_is_asked_for_whether_known_or_not() -> None:
    for known in ((), {1}, {1, 44}):
        assert {unit.driver for unit in window_units(SESSION, known, defaults(driver=(44,)))} == {44}


def test_a_chosen_driver_narrows_the_endpoints_that_have_records_by_driver_and_no_others() -> None:
    drivers = {unit.endpoint: unit.driver for unit in first_units(MEETING, defaults(driver=(44,)))}
    whole = {"meetings", "sessions", "championship_teams", "weather", "race_control", "overtakes"}
    assert {endpoint for endpoint, driver in drivers.items() if driver is None} == whole
    assert set(drivers.values()) == {None, 44}


def test_two_chosen_drivers_are_two_units() -> None:
    units = list(first_units(MEETING, defaults(driver=(44, 1), endpoint=("laps",))))
    assert {(unit.scope, unit.driver) for unit in units} == {(s, d) for s in (PRACTICE, SESSION) for d in (44, 1)}


def test_a_chosen_endpoint_is_the_only_one() -> None:
    assert {unit.endpoint for unit in first_units(MEETING, defaults(endpoint=("laps", "pit")))} == {"laps", "pit"}
    assert list(window_units(SESSION, {44}, defaults(endpoint=("laps",)))) == []
    assert {unit.endpoint for unit in window_units(SESSION, {44}, defaults(endpoint=("location",)))} == {"location"}


# --- what remains ---


def done(unit: Unit, *drivers: int, status: Status = Status.DONE) -> UnitState:
    return UnitState(unit.scope.prefix, unit.endpoint, unit.driver, unit.window, status, frozenset(drivers))


def remaining(states: list[UnitState], **options: Any) -> Remaining:
    return Remaining(MEETING, states, defaults(**options), NOW)


def everything(drivers: set[int], settings: Settings | None = None) -> list[UnitState]:
    settings = settings or defaults()
    units = list(first_units(MEETING, settings))
    for session in MEETING.sessions:
        units += window_units(session.scope, drivers, settings)
    return [done(unit, *(drivers if ENDPOINTS[unit.endpoint].by_driver else ())) for unit in units]


def test_at_first_all_remains() -> None:
    assert remaining([]).first() == list(first_units(MEETING, defaults()))
    assert remaining([]).windows(SESSION, {44}) == list(window_units(SESSION, {44}, defaults()))
    assert not remaining([]).nothing()


def test_when_all_is_done_nothing_remains() -> None:
    rest = remaining(everything({1, 44}))
    assert rest.nothing()
    assert rest.first() == []
    assert rest.windows(SESSION) == []


def test_a_unit_that_failed_remains_and_nothing_else() -> None:
    for endpoint in ENDPOINTS:
        states = everything({1, 44})
        index = next(i for i, state in enumerate(states) if state.endpoint == endpoint)
        failed = states.pop(index)
        rest = remaining([*states, done(unit_of(failed), status=Status.FAILED)])
        left = rest.first() + [unit for scope in (PRACTICE, SESSION) for unit in rest.windows(scope)]
        assert left == [unit_of(failed)]
        assert not rest.nothing()


def unit_of(state: UnitState) -> Unit:
    scope = next(scope for scope in MEETING.scopes if scope.prefix == state.scope_prefix)
    return Unit(state.endpoint, scope, state.driver, state.window)


def test_with_refresh_all_remains_though_it_is_done() -> None:
    rest = remaining(everything({1, 44}), refresh=True)
    assert rest.first() == list(first_units(MEETING, defaults()))
    assert rest.windows(SESSION) == list(window_units(SESSION, {1, 44}, defaults()))
    assert not rest.nothing()


def test_a_refresh_asks_once_for_what_its_own_run_has_stored() -> None:
    states = [replace(state, run="this-run") for state in everything({1, 44})]
    meeting = Remaining(MEETING, states, defaults(refresh=True), NOW, "this-run")
    assert meeting.nothing()
    assert not Remaining(MEETING, states, defaults(refresh=True), NOW, "another-run").nothing()


def test_another_window_size_asks_only_for_what_is_missing() -> None:
    rest = remaining(everything({1, 44}), window=timedelta(minutes=7))
    assert rest.nothing()


def test_the_drivers_that_what_is_stored_has_named_are_known_in_a_later_run() -> None:
    rest = remaining([done(Unit("drivers", SESSION), 1, 44)])
    assert rest.drivers(SESSION) == {1, 44}
    assert rest.drivers(PRACTICE) == frozenset()
    assert {unit.driver for unit in rest.windows(SESSION)} == {1, 44}
    assert {unit.driver for unit in rest.windows(PRACTICE)} == {None}


def test_drivers_found_in_this_run_are_added_to_those_known_from_earlier() -> None:
    rest = remaining([done(Unit("drivers", SESSION), 1)])
    assert {unit.driver for unit in rest.windows(SESSION, [44])} == {1, 44}


def test_after_a_run_for_one_driver_a_run_for_another_asks_for_that_one() -> None:
    states = everything({44}, defaults(driver=(44,), endpoint=("car_data", "laps")))
    rest = remaining(states, driver=(1,), endpoint=("car_data", "laps"))
    assert {unit.driver for unit in [*rest.first(), *rest.windows(SESSION)]} == {1}


def test_after_a_run_for_one_driver_a_run_for_all_does_not_take_it_for_the_only_one() -> None:
    states = everything({44}, defaults(driver=(44,), endpoint=("car_data",)))
    rest = remaining(states, endpoint=("car_data",))
    assert not rest.nothing()
    assert SESSION in rest.without_drivers(), "who else drove is asked"


@pytest.mark.parametrize("endpoint", ["team_radio", "pit", "overtakes"])
def test_the_drivers_of_an_endpoint_that_has_not_records_of_every_driver_are_not_taken_for_all(endpoint: str) -> None:
    states = [done(Unit(endpoint, scope), *((1, 44) if ENDPOINTS[endpoint].by_driver else ())) for scope in
              (PRACTICE, SESSION)]  # fmt: skip
    rest = remaining(states, endpoint=(endpoint, "car_data"))
    assert SESSION in rest.without_drivers(), "who else drove is asked"


def test_of_a_session_that_goes_on_the_windows_to_come_are_left_to_later_runs_and_the_present_one_remains() -> None:
    for minutes, begun in ((0, 1), (14, 1), (15, 2), (119, 8), (180, 8)):
        now = START + timedelta(minutes=minutes)
        one = MeetingPlan(MEETING.scope, MEETING.record, MEETING.sessions[1:], now)
        wanted = defaults(endpoint=("car_data",), driver=(44,))
        left = Remaining(one, [], wanted, now).windows(SESSION)
        assert [unit.window for unit in left] == QUARTERS[:begun]
        states = [done(unit, status=status_of(unit, now)) for unit in left]
        rest = Remaining(one, states, wanted, now)
        # The last window is open: it is over when the session is.
        assert [unit.window for unit in rest.windows(SESSION)] == (QUARTERS[begun - 1 : begun] if now < END else [])
        assert rest.nothing() == (now >= END)


def test_what_is_done_for_all_drivers_at_once_need_not_be_done_for_each() -> None:
    states = [done(Unit(name, SESSION, None, ALL_TIME), 1, 44) for name in WINDOWED]
    assert remaining(states).windows(SESSION, [1, 44, 63]) == []


def test_what_is_provisional_remains_from_48_hours_after_the_session() -> None:
    states = [done(Unit("laps", SESSION), status=Status.PROVISIONAL)]
    for now, left in ((END + timedelta(hours=47), []), (END + timedelta(hours=48), [Unit("laps", SESSION)])):
        one = MeetingPlan(MEETING.scope, MEETING.record, MEETING.sessions[1:], NOW)
        assert Remaining(one, states, defaults(endpoint=("laps",)), now).first() == left
