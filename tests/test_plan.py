"""Which sessions a load means, which units they are made of, and what of them remains."""

from __future__ import annotations

import logging
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from samples import END, HOUR, START, a_scope, a_selection, sample

from f1hbase.errors import NothingToLoadError
from f1hbase.model.answers import RequestStats
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.coverage import status_of
from f1hbase.model.outcomes import Status, UnitState
from f1hbase.model.plans import MeetingPlan, Plan, SessionPlan
from f1hbase.model.units import ALL_TIME, Unit, Window
from f1hbase.pipeline.plan import make_plan, selected
from f1hbase.pipeline.remaining import Remaining
from f1hbase.sources.http.answers import HttpAnswer
from f1hbase.sources.openf1.query import Query
from f1hbase.sources.openf1.source import OpenF1Options, OpenF1Source

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

    async def ask(self, query: Query) -> tuple[list[Any], HttpAnswer, RequestStats]:
        self.queries.append(query)
        url = f"http://api.test/v1/{query}"
        answer = HttpAnswer(200, "application/json", b"[]", NOW, NOW, url)
        return self.answer(query), answer, RequestStats(1, 0, 2)

    def answer(self, query: Query) -> list[Any]:
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


async def a_plan(api: Api | None = None, now: datetime = NOW, **options: Any) -> Plan:
    """Return a plan; a key or year given alone is a mode of its own, as on the command line."""
    if "mode" not in options and options:
        options["mode"] = "year" if set(options) == {"year"} else "manual"
    queue: Any = api or Api(four_seasons())
    source = OpenF1Source(queue, OpenF1Options("http://api.test/v1"))
    return await make_plan(source, a_selection(**options), now)


async def planned(api: Api | None = None, now: datetime = NOW, **options: Any) -> list[int]:
    """Return the keys of the sessions that were asked for, in the order of the plan."""
    return [session.scope.session_key or 0 for session in selected(await a_plan(api, now, **options))]


async def to_settle(api: Api | None = None, now: datetime = NOW, **options: Any) -> set[int]:
    """Return the keys of the sessions of which only what is due again is loaded."""
    plan = await a_plan(api, now, **options)
    found = {key for meeting in plan.meetings for key in meeting.sessions_to_settle}
    assert found == {s.scope.session_key for m in plan.meetings for s in m.sessions} - {
        session.scope.session_key for session in selected(plan)
    }
    return found


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
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "is missing or no whole number"),
        (10**300, "is none that there can be"),
        (-1, "is none that there can be"),
    ],
)
async def test_a_session_without_its_keys_is_named_and_does_not_keep_the_others_from_loading(
    field: str, value: int | None, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    bad = a_session(2, 1, "2024-05-02T12:00") | {field: value}

    class Odd(Api):
        def answer(self, query: Query) -> list[Any]:
            found = [a_session(1, 1, "2024-05-01T12:00"), bad, "x"]
            return found if query.endpoint == "sessions" else [sample("meetings", meeting_key=1)]

    plan = await a_plan(Odd([]))
    assert [session.scope.session_key for session in plan.meetings[0].sessions] == [1]
    assert caplog.text.count("cannot be loaded") == 2
    assert list(plan.unusable) == [
        (bad, f"its {field} {reason}"), ("x", "it is not an object"),
    ]  # fmt: skip


LISTED_TWICE = a_session(1, 1, "2024-05-01T12:00"), a_session(1, 1, "2024-05-01T12:00", gmt_offset="02:00:00")


@pytest.mark.parametrize("order", [1, -1])
async def test_of_a_session_listed_twice_with_other_values_the_same_one_stands_whatever_the_order(order: int) -> None:
    plan = await a_plan(Api(list(LISTED_TWICE[::order])))
    assert [session.record for meeting in plan.meetings for session in meeting.sessions] == [LISTED_TWICE[1]]
    ((aside, reason),) = plan.unusable
    assert aside == LISTED_TWICE[0]
    assert "session 1 is listed twice, with other values" in reason


async def test_a_session_listed_twice_with_the_same_values_is_one() -> None:
    plan = await a_plan(Api([LISTED_TWICE[0], dict(LISTED_TWICE[0])]))
    assert plan.session_count == 1
    assert plan.unusable == []


@pytest.mark.parametrize("order", [1, -1])
async def test_of_a_meeting_listed_twice_the_same_one_stands_whatever_the_order(order: int) -> None:
    meetings = [sample("meetings", meeting_key=12, location=place) for place in ("Yas Marina", "Abu Dhabi")][::order]
    plan = await a_plan(Api(four_seasons(), meetings), session_key=(22,))
    assert plan.meetings[0].record == sample("meetings", meeting_key=12, location="Yas Marina")


@pytest.mark.parametrize("key", [None, [12], {"is": 12}, "12"], ids=str)
async def test_a_meeting_without_a_key_is_passed_over(key: Any) -> None:
    class Odd(Api):
        def answer(self, query: Query) -> list[Any]:
            odd = [sample("meetings", meeting_key=key), None, 5]
            return [*odd, *super().answer(query)] if query.endpoint == "meetings" else super().answer(query)

    plan = await a_plan(Odd(four_seasons()), session_key=(22,))
    assert plan.meetings[0].record is not None


async def test_a_session_whose_end_cannot_be_is_taken_to_last_12_hours_and_that_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for end in ("2034-12-08T14:00:00+00:00", "2024-12-08T12:00:00+00:00", "9999-12-31T23:00:00+00:00", "soon"):
        caplog.clear()
        plan = await a_plan(Api([a_session(22, 12, "2024-12-08T13:00", date_end=end)]))
        scope = plan.meetings[0].sessions[0].scope
        assert scope.date_end is None
        assert scope.over_at == datetime(2024, 12, 9, 1, tzinfo=UTC)
        assert ("which cannot be" in caplog.text) == (end[:4] in {"2034", "2024"})


# --- meetings ---


async def test_sessions_of_one_meeting_are_one_piece_of_the_plan_with_the_meetings_own_record() -> None:
    plan = (await a_plan()).meetings
    assert [meeting.scope.prefix for meeting in plan] == ["2023#11#-", "2024#12#-", "2025#13#-"]
    assert [len(meeting.sessions) for meeting in plan] == [2, 2, 1]
    for meeting in plan:
        assert meeting.record is not None
        assert meeting.record["meeting_key"] == meeting.scope.meeting_key
        assert meeting.asked_at == NOW


async def test_a_session_of_the_plan_knows_its_times_and_its_name() -> None:
    plan = (await a_plan(session_key=(22,))).meetings
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

    plan = (await a_plan(Api(sessions, meetings), year=(2024,))).meetings

    assert plan[0].scope.prefix == "2023#1#-"
    assert plan[0].sessions[0].scope.prefix == "2023#1#1"


async def test_a_meeting_that_the_api_does_not_have_is_said_and_its_sessions_are_loaded_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    plan = (await a_plan(Api(four_seasons(), []), session_key=(22,))).meetings
    assert plan[0].record is None
    assert plan[0].sessions[0].scope.prefix == "2024#12#22"
    assert "not the meeting itself" in caplog.text


async def test_a_cancelled_session_is_asked_for_what_there_is_of_it() -> None:
    (meeting,) = (await a_plan(Api([a_session(1, 1, "2024-05-01T12:00", is_cancelled=True)]))).meetings
    assert meeting.sessions[0].scope.cancelled
    assert {unit.endpoint for unit in Remaining(meeting, [[]], a_selection(), NOW).units()} == set(ENDPOINTS)


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
    plan = (await a_plan(Api(four_seasons(), []), session_key=(22,))).meetings
    assert "meetings" in {unit.endpoint for unit in Remaining(plan[0], [[]], a_selection(), NOW).units()}


async def test_a_plan_says_what_kind_each_session_is_and_keeps_what_it_was_made_from() -> None:
    plan = await a_plan(Api([a_session(1, 1, "2024-05-01T12:00", session_type="Qualifying")]))
    assert plan.meetings[0].sessions[0].scope.kind == "Qualifying"
    assert set(plan.listing.answers) == {"sessions", "meetings"}
    assert plan.listing.answers["sessions"].request == "sessions?year>=2023"
    assert plan.listing.stats == RequestStats(2, 0, 4)


async def test_the_end_of_a_meeting_is_its_own_or_that_of_its_last_session() -> None:
    (own,) = (await a_plan(session_key=(22,))).meetings
    assert own.scope.date_end == END
    (last,) = (await a_plan(Api(four_seasons(), []), meeting_key=(12,))).meetings
    assert last.scope.date_end == datetime(2024, 12, 8, 14, tzinfo=UTC)


# --- what is settled besides ---


async def test_latest_settles_the_other_sessions_of_its_season_that_have_begun() -> None:
    sessions = [*four_seasons(), a_session(31, 13, "2025-05-23T13:00"), a_session(30, 10, "2025-03-23T13:00")]
    api = Api(sessions)
    assert await planned(api, mode="latest", num_sessions=1) == [33]
    assert await to_settle(api, mode="latest", num_sessions=1) == {31, 30}
    assert await to_settle(api, mode="latest", num_sessions=4) == {21}, "of each season that it touches"


async def test_a_year_and_everything_have_no_sessions_beside_those_asked_for() -> None:
    assert await to_settle(year=(2024,)) == set()
    assert await to_settle() == set()


async def test_latest_of_a_year_settles_the_rest_of_the_year() -> None:
    assert await to_settle(mode="latest", num_sessions=1, year=(2023,)) == {11}


async def test_a_cancelled_session_that_is_none_of_the_latest_is_settled_like_any_other() -> None:
    sessions = [*four_seasons(), a_session(90, 13, "2025-05-30T13:00", is_cancelled=True)]
    assert await to_settle(Api(sessions), mode="latest", num_sessions=1) == {90}


@pytest.mark.parametrize("options", [{"session_key": (22,)}, {"meeting_key": (13,)}, {"date": (date(2024, 12, 8),)}])
async def test_what_is_named_by_a_key_or_a_date_settles_nothing_else_whatever_a_source_lists(
    options: dict[str, Any],
) -> None:
    class ListsAll(Api):
        def answer(self, query: Query) -> list[Any]:
            return self.records[query.endpoint]

    assert await to_settle(ListsAll(four_seasons()), **options) == set()
    assert len(await planned(ListsAll(four_seasons()), **options)) == 1


async def test_latest_1_each_night_leaves_nothing_provisional_for_ever() -> None:
    """A weekend of three sessions, loaded each night by `latest 1`."""
    days = ["2025-05-23T13:00", "2025-05-24T14:00", "2025-05-25T13:00"]
    api = Api([a_session(number, 13, day) for number, day in enumerate(days, 31)])
    stored: dict[str, UnitState] = {}
    asked: dict[str, list[datetime]] = {}
    for night in range(1, 40):
        now = datetime(2025, 5, 23, 22, tzinfo=UTC) + timedelta(days=night - 1)
        plan = await a_plan(api, now, mode="latest", num_sessions=1, endpoints=("laps", "session_result"))
        for meeting in plan.meetings:
            for unit in Remaining(
                meeting, [stored.values()], a_selection(endpoints=("laps", "session_result")), now
            ).units():
                status = status_of(unit, now)
                stored[unit.key] = UnitState(
                    unit.scope.prefix, unit.endpoint, None, unit.window, status, stats={"records": 9.0}, fetched=now
                )
                asked.setdefault(unit.key, []).append(now)
    assert {key.split("#")[3] for key in stored} == {"31", "32", "33"}
    assert {state.status for state in stored.values()} == {Status.DONE}
    for key, times in asked.items():
        end = datetime.fromisoformat(days[int(key.split("#")[3]) - 31]).replace(tzinfo=UTC) + HOUR
        after = timedelta(days=14 if "session_result" in key else 2)
        assert len(times) == 2, "once at once, and once more when it has settled"
        assert end + after <= times[1] < end + after + timedelta(days=1)


# --- units ---

SESSION = a_scope(9558)
PRACTICE = a_scope(9550, name="British Grand Prix, Practice 1")
MEETING = MeetingPlan(
    a_scope(None),
    sample("meetings"),
    (SessionPlan(PRACTICE, sample("sessions", session_key=9550)), SessionPlan(SESSION, sample("sessions"))),
    NOW,
)


def units(
    states: Iterable[UnitState] = (),
    *,
    meeting: MeetingPlan = MEETING,
    now: datetime = NOW,
    refresh: str = "",
    **options: Any,
) -> list[Unit]:
    """Return what remains of a meeting."""
    return Remaining(meeting, [states], a_selection(**options), now, refresh).units()


def test_each_endpoint_is_one_unit_a_session_and_the_meeting_is_one() -> None:
    wanted = [Unit("meetings", MEETING.scope)]
    wanted += [Unit(name, scope) for name in ENDPOINTS if name != "meetings" for scope in (PRACTICE, SESSION)]
    assert sorted(units(), key=str) == sorted(wanted, key=str)


def test_small_endpoints_come_first_and_samples_last() -> None:
    order = list(dict.fromkeys(unit.endpoint for unit in units()))
    assert order == list(ENDPOINTS)
    assert order[-2:] == ["car_data", "location"]


def test_samples_are_asked_for_of_all_drivers_at_once_whoever_is_known() -> None:
    known = [done(Unit("drivers", SESSION), 1, 44)]
    for states in ([], known):
        found = [unit for unit in units(states) if ENDPOINTS[unit.endpoint].sampled and unit.scope == SESSION]
        assert found == [Unit("car_data", SESSION), Unit("location", SESSION)]


def test_a_chosen_driver_narrows_the_endpoints_that_have_records_by_driver_and_no_others() -> None:
    drivers = {unit.endpoint: unit.driver for unit in units(driver=44)}
    whole = {"meetings", "sessions", "championship_teams", "weather", "race_control", "overtakes"}
    assert {endpoint for endpoint, driver in drivers.items() if driver is None} == whole
    assert set(drivers.values()) == {None, 44}


def test_two_chosen_drivers_are_two_units() -> None:
    found = units(drivers=(1, 44), endpoint="car_data")
    assert {(unit.scope, unit.driver) for unit in found} == {(s, d) for s in (PRACTICE, SESSION) for d in (44, 1)}


def test_a_chosen_endpoint_is_the_only_one() -> None:
    assert {unit.endpoint for unit in units(endpoints=("laps", "pit"))} == {"laps", "pit"}


# --- what remains ---


def done(unit: Unit, *drivers: int, status: Status = Status.DONE, run: str = "") -> UnitState:
    return UnitState(
        unit.scope.prefix, unit.endpoint, unit.driver, unit.window, status, frozenset(drivers), fetched=NOW, run=run,
        stats={"records": 3.0},
    )  # fmt: skip


def everything(**options: Any) -> list[UnitState]:
    return [done(unit, *((1, 44) if ENDPOINTS[unit.endpoint].by_driver else ())) for unit in units(**options)]


def test_when_all_is_done_nothing_remains() -> None:
    assert units(everything()) == []


def test_a_unit_that_failed_remains_and_nothing_else() -> None:
    for endpoint in ENDPOINTS:
        states = everything()
        failed = next(state for state in states if state.endpoint == endpoint)
        states[states.index(failed)] = replace(failed, status=Status.FAILED)
        (left,) = units(states)
        assert (left.endpoint, left.scope.prefix, left.window) == (endpoint, failed.scope_prefix, ALL_TIME)


def test_with_refresh_all_remains_though_it_is_done() -> None:
    assert units(everything(), refresh="this-run") == units()


def test_a_refresh_asks_once_for_what_its_own_run_has_stored() -> None:
    states = [replace(state, run="this-run") for state in everything()]
    assert units(states, refresh="this-run") == []
    assert units(states, refresh="another-run") == units()


def test_after_a_run_for_one_driver_a_run_for_another_asks_for_that_one() -> None:
    states = everything(driver=44, endpoints=("car_data", "laps"))
    assert {unit.driver for unit in units(states, driver=1, endpoints=("car_data", "laps"))} == {1}
    assert units(states, driver=44, endpoints=("car_data", "laps")) == []


def test_after_a_run_for_one_driver_a_run_for_all_asks_for_all() -> None:
    states = everything(driver=44, endpoint="car_data")
    assert units(states, endpoint="car_data") == [Unit("car_data", PRACTICE), Unit("car_data", SESSION)]


def test_after_a_run_for_all_drivers_a_run_for_one_asks_for_nothing() -> None:
    assert units(everything(), driver=63) == []


def test_of_a_session_that_goes_on_the_samples_to_come_are_left_to_later_runs_which_go_on_from_there() -> None:
    one = replace(MEETING, sessions=MEETING.sessions[1:])
    states: list[UnitState] = []
    before: datetime | None = None
    for minutes in (0, 14, 15, 119):
        now = START + timedelta(minutes=minutes)
        left = units(states, meeting=one, now=now, endpoint="car_data")
        assert left == [Unit("car_data", SESSION, None, Window(before, now))]
        states += [replace(done(unit, status=status_of(unit, now)), fetched=now) for unit in left]
        assert states[-1].status is Status.PROVISIONAL
        assert units(states, meeting=one, now=now, endpoint="car_data") == []
        before = now
    for now in (END, END + HOUR):
        assert units(states, meeting=one, now=now, endpoint="car_data") == [
            Unit("car_data", SESSION, None, Window(before, None))
        ]


def test_of_a_session_that_goes_on_what_has_no_windows_is_partial_and_remains() -> None:
    now = START + HOUR
    unit = Unit("laps", SESSION)
    states = [done(unit, status=status_of(unit, now))]
    assert states[0].status is Status.PARTIAL
    for later in (now, END, NOW):
        assert unit in units(states, now=later, endpoint="laps")
