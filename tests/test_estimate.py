"""What a load is said to take before it begins, and what of that is learnt from what is loaded already."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from samples import END, START, a_meeting, a_scope, sample

from f1hbase.composition import object_store
from f1hbase.config import Config, Settings, resolve
from f1hbase.destinations.files import FilesRecipe
from f1hbase.errors import UnreachableError
from f1hbase.model.answers import Listing
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.footprints import Footprint
from f1hbase.model.outcomes import RunState, Status, UnitState
from f1hbase.model.plans import MeetingPlan, Plan, Selection, SessionPlan
from f1hbase.model.rates import parse_limits, parse_rates
from f1hbase.model.text import size
from f1hbase.model.units import ALL_TIME, Scope, Unit, Window, slice_time
from f1hbase.operations.estimate.costs import CostModel, learn
from f1hbase.operations.estimate.forecast import Estimate, SessionEstimate, estimate_load
from f1hbase.operations.estimate.limits import seconds_at
from f1hbase.operations.estimate.lines import estimate_json, estimate_lines
from f1hbase.operations.status.base import StateView
from f1hbase.operations.status.judging import weight, window_seconds
from f1hbase.sources.base import AskedByRequest
from f1hbase.sources.openf1.recipe import OpenF1Recipe, recipe
from f1hbase.stores.files.urls import parse_location

RACE = a_scope(name="British Grand Prix, Race", kind="Race")
QUARTER = timedelta(minutes=15)
AN_HOUR = 20 * 3.7 * 3600


def openf1(**settings: object) -> OpenF1Recipe:
    return recipe(Config(Settings(**settings)))  # type: ignore[arg-type]


def state(endpoint: str, window: Window = ALL_TIME, driver: int | None = None, **stats: float) -> UnitState:
    run = "sized" if stats.pop("sized", 1) else "fixed"
    return UnitState(RACE.prefix, endpoint, driver, window, Status.DONE, stats=stats, run=run)


def learnt(*states: UnitState) -> CostModel:
    return learn(states, {RACE.prefix: RACE}, {"sized"})


# --- how much of a session is in a window ---


def test_the_windows_of_a_session_weigh_together_what_the_session_does() -> None:
    windows = slice_time(START, END, QUARTER)
    assert [window_seconds(window, RACE) for window in windows] == [900.0] * 8
    assert (
        sum(weight(Unit("car_data", RACE, None, window)) for window in windows) == weight(Unit("car_data", RACE)) == 8
    )


def test_a_window_beside_its_session_has_nothing_and_one_across_its_end_what_is_inside() -> None:
    assert window_seconds(Window(END, None), RACE) == 0
    assert window_seconds(Window(END - QUARTER, END + QUARTER), RACE) == 900


# --- what is known before anything is loaded ---


def test_twenty_cars_make_3_7_records_a_second_at_the_most() -> None:
    assert CostModel().rows(Unit("car_data", RACE)) == pytest.approx(2 * AN_HOUR)
    assert CostModel().rows(Unit("car_data", RACE, 44)) == pytest.approx(2 * AN_HOUR / 20)
    assert CostModel().bytes(Unit("car_data", RACE), openf1()) == pytest.approx(2 * AN_HOUR * 65)
    assert CostModel().bytes(Unit("car_data", RACE), None) == 0, "where no API is asked nothing is received"
    assert "the most there" in "".join(CostModel().lines())


def weekend() -> list[Scope]:
    lengths = {"Practice 1": 1, "Practice 2": 1, "Practice 3": 1, "Qualifying": 1, "Race": 2}
    return [
        replace(
            RACE, session_key=key, name=f"GP, {name}", kind=name.split()[0], date_end=START + timedelta(hours=hours)
        )
        for key, (name, hours) in enumerate(lengths.items(), 1)
    ]


def test_a_race_weekend_has_the_3_2_million_records_that_it_is_known_to_have() -> None:
    units = [Unit(name, scope) for name in ("car_data", "location") for scope in weekend()]
    assert sum(map(CostModel().rows, units)) == pytest.approx(3_200_000, rel=0.01)


def test_a_day_of_tests_has_a_third_of_what_twenty_cars_would_make() -> None:
    day = replace(RACE, kind="Practice", date_end=START + timedelta(hours=9))
    assert CostModel().rows(Unit("car_data", day)) == pytest.approx(755_919, rel=0.03)
    of_others = learnt(state("car_data", rows=2 * AN_HOUR))
    assert of_others.rows(Unit("car_data", day)) == pytest.approx(755_919, rel=0.03), "a race says nothing of it"


def test_a_weekend_takes_less_than_a_hundred_requests_and_a_season_little_more_than_an_hour() -> None:
    names = [name for name, endpoint in ENDPOINTS.items() if not endpoint.keyed_by_year]
    requests = CostModel().requests([Unit(name, scope) for scope in weekend() for name in names], openf1())
    assert 80 < requests <= 91
    seconds = seconds_at(parse_rates("3/s,30/m"), 24 * requests)
    assert seconds is not None
    assert seconds < 75 * 60


# --- what is learnt ---


def test_rows_and_bytes_are_learnt_by_hour_with_the_open_windows_at_their_length() -> None:
    first, second, *_ = slice_time(START, END, QUARTER)
    costs = learnt(
        state("car_data", first, rows=20_000, bytes=1_000_000),
        state("car_data", second, rows=40_000, bytes=2_600_000),
    )
    assert costs.rows(Unit("car_data", RACE)) == 60_000 / 0.5 * 2
    assert costs.bytes(Unit("car_data", RACE), openf1()) == 240_000 * 60
    assert costs.rows(Unit("location", RACE)) == pytest.approx(2 * AN_HOUR), "of which nothing is known"
    assert any("car_data: 120,000 rows of all cars in an hour, 60 bytes each" in line for line in costs.lines())


def test_a_session_that_was_loaded_by_driver_teaches_what_all_cars_make_if_all_were_loaded() -> None:
    drivers = [state("car_data", driver=number, rows=10_000, bytes=1_000_000) for number in range(20)]
    assert learnt(*drivers).rows(Unit("car_data", RACE)) == 200_000
    assert learnt(*drivers[:2]).rows(Unit("car_data", RACE)) == pytest.approx(2 * AN_HOUR), "two say nothing of all"


def test_a_kind_of_session_goes_by_its_own_kind_and_others_by_all_of_them() -> None:
    practice = replace(RACE, session_key=1, name="British Grand Prix, Practice 1", kind="Practice")
    known = {RACE.prefix: RACE, practice.prefix: practice}
    units = [
        state("intervals", rows=30_000),
        replace(state("intervals", rows=0), scope_prefix=practice.prefix),
        state("car_data", rows=20_000),
        replace(state("car_data", rows=4_000), scope_prefix=practice.prefix),
    ]
    costs = learn(units, known, ())
    other = replace(practice, name="Monaco Grand Prix, Practice 3")
    assert costs.rows(Unit("intervals", RACE)) == 30_000
    assert costs.rows(Unit("intervals", other)) == 0
    assert costs.rows(Unit("car_data", other)) == 4_000
    assert costs.rows(Unit("car_data", replace(RACE, name="Monaco Grand Prix, Qualifying"))) == 12_000


def test_requests_are_learnt_from_loads_that_sized_them_and_only_where_a_load_would() -> None:
    quiet = [state(name, rows=20_000, attempts=4) for name in ("car_data", "location")]
    units = [Unit("car_data", RACE), Unit("location", RACE), Unit("laps", RACE)]
    most = openf1().requests(units)
    assert learnt(*quiet).requests(units, openf1()) == 4 + 4 + 1 < most
    assert learnt(*(replace(one, run="fixed") for one in quiet)).requests(units, openf1()) == most
    fixed = openf1(window=QUARTER)
    assert learnt(*quiet).requests(units, fixed) == fixed.requests(units) == 8 + 8 + 1
    slow = [state(name, rows=20_000, attempts=400) for name in ("car_data", "location")]
    assert learnt(*slow).requests(units, openf1()) == most, "never more than full cars would take"
    assert learnt(*quiet).requests(units, None) == 0


def test_a_cancelled_session_is_expected_to_have_no_rows_and_teaches_nothing() -> None:
    cancelled = replace(RACE, cancelled=True)
    costs = learnt(state("laps", rows=900))
    assert costs.rows(Unit("laps", RACE)) == 900
    assert costs.rows(Unit("laps", cancelled)) == 0
    assert CostModel().rows(Unit("intervals", cancelled)) == 0
    assert CostModel().rows(Unit("car_data", cancelled)) == 0
    assert learn([state("laps", rows=0)], {RACE.prefix: cancelled}, ()) == CostModel()


def test_units_of_sessions_that_nobody_knows_and_failures_teach_nothing() -> None:
    assert learn([state("car_data", rows=1_000)], {}, ()) == CostModel()
    assert learnt(replace(state("laps", rows=900), status=Status.FAILED)) == CostModel()


# --- at the limits ---


@pytest.mark.parametrize(
    ("rates", "requests", "seconds"),
    [("none", 1000, None), ("3/s,30/m", 30, 11.25), ("30/m", 31, 60.6), ("3/s,30/m", 300, 9 * 60.6), ("30/m", 0, 0)],
)
def test_the_time_is_what_the_limiter_takes(rates: str, requests: int, seconds: float | None) -> None:
    assert seconds_at(parse_rates(rates), requests) == (None if seconds is None else pytest.approx(seconds))


# --- the estimate as a whole ---


class View:
    """What a destination remembers of one session."""

    name = home = "memory"

    def __init__(self, *states: UnitState) -> None:
        self._states = states
        self.closed = False

    def absent(self) -> str | None:
        return None

    def runs(self) -> list[RunState]:
        return [RunState("sized", {"window": ""}), RunState("fixed", {"window": "900s"})]

    def scopes(self) -> dict[str, Scope]:
        return {RACE.prefix: RACE}

    def unit_states(self, scope: Scope) -> list[UnitState]:
        return [state for state in self._states if state.scope_prefix == scope.prefix]

    def measured(self, most: int) -> Iterator[UnitState]:
        return iter(self._states[:most])

    def close(self) -> None:
        self.closed = True


def a_plan(meeting: MeetingPlan | None = None) -> Plan:
    meeting = meeting or a_meeting(kind="Race")
    return Plan([meeting], [], Listing("openf1", [], [], meeting.asked_at))


def away() -> StateView:
    raise UnreachableError("HBase does not answer.")


def estimated(
    *views: View, selection: Selection | None = None, meeting: MeetingPlan | None = None, limits: str = "3/s,30/m"
) -> Estimate:
    opened: list[Any] = [partial(lambda view: view, view) for view in views] or [away]
    source = openf1(rate=parse_limits(limits))
    return estimate_load(a_plan(meeting), selection or Selection(), source, opened)


@pytest.fixture
def estimate() -> Estimate:
    """Of one session of two hours of which nothing is loaded, with no HBase there."""
    return estimated()


def test_without_hbase_the_plan_is_made_as_if_nothing_were_loaded(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "f1hbase"):
        estimate = estimated()
    assert "HBase does not answer. The plan is made as if nothing were loaded there." in caplog.text
    (session,) = estimate.sessions
    assert (session.units, estimate.units) == (17, 18), "one for each endpoint; the meeting has one"
    # The records of meetings and sessions come with the plan; intervals of a race are cut in two.
    assert estimate.all_requests == 11 + 10 + 13 + 2
    assert session.rows == pytest.approx(4 * AN_HOUR + 36_000, rel=0.001)
    assert not estimate.exact


def test_what_is_loaded_is_not_asked_for_and_what_any_destination_lacks_is() -> None:
    done = [replace(state(name), fetched=END + timedelta(days=90)) for name in ENDPOINTS]
    done.append(replace(done[0], scope_prefix=RACE.meeting.prefix))
    full, empty = View(*done), View()
    nothing = estimated(full)
    assert (nothing.units, nothing.all_requests, nothing.seconds) == (0, 0, 0)
    assert list(estimate_lines(nothing))[1] == "1240 2024 Silverstone Grand Prix: 1 session, nothing left to load"
    assert estimated(full, empty).units == 18
    assert full.closed
    assert empty.closed


def test_what_is_due_again_of_other_sessions_of_the_season_is_counted() -> None:
    meeting = a_meeting(kind="Race")
    earlier = Scope(
        2024, 1240, 1, START - timedelta(days=30), END - timedelta(days=30), "GP, Practice 1", kind="Practice"
    )
    record = sample("sessions", session_key=1)
    meeting = replace(
        meeting, sessions=(SessionPlan(earlier, record), *meeting.sessions), sessions_to_settle=frozenset({1})
    )
    early = END - timedelta(days=30)
    provisional = [
        UnitState(earlier.prefix, name, None, ALL_TIME, Status.PROVISIONAL, stats={"rows": 5.0}, fetched=early)
        for name in ("laps", "weather")
    ]
    estimate = estimated(View(*provisional), meeting=meeting)
    assert [part.scope.session_key for part in estimate.sessions] == [9558]
    assert [(part.scope.session_key, part.units) for part in estimate.settling] == [(1, 2)]
    lines = list(estimate_lines(estimate))
    assert "of which due again: 2 units of 1 other session" in lines
    assert any("1 Practice 1" in line and "due again" in line for line in lines)
    assert estimate_json(estimate)["due_again"][0]["session_key"] == 1


def test_the_lines_fit_into_80_columns_and_say_how_long_it_takes(estimate: Estimate) -> None:
    lines = list(estimate_lines(estimate))
    assert max(map(len, lines)) <= 90
    assert max(map(len, lines[:3])) <= 80
    assert lines[1].split()[-1] == "~36"
    assert lines[2].split()[-4:] == ["17", "~1,101,600", "~76", "MB"]
    assert "1 session, 18 units in about 36 requests" in lines
    assert "at least 61 s at the source's limits (3/s,30/m)" in lines


def test_where_requests_are_exact_they_have_no_sign() -> None:
    exact = estimated(selection=Selection(endpoints=("laps", "pit")))
    lines = list(estimate_lines(exact))
    assert exact.exact
    assert "1 session, 2 units in 2 requests" in lines
    assert lines[1].split()[-1] == "2"


def test_where_nothing_says_how_many_rows_there_will_be_none_are_foretold() -> None:
    def numbers(costs: CostModel, **changes: object) -> list[str]:
        part = SessionEstimate(replace(RACE, **changes), 3, 0, 0)  # type: ignore[arg-type]
        meeting = SessionEstimate(RACE.meeting, 0, 0, 0)
        return list(estimate_lines(Estimate([meeting, part], {(2024, 1240): 3}, costs)))[2].split()[-2:]

    assert numbers(CostModel()) == ["?", "?"]
    assert numbers(CostModel(units=1)) == ["0", "0"]
    assert numbers(CostModel(), cancelled=True) == ["0", "0"]


def test_where_the_limits_make_nobody_wait_they_are_not_spoken_of() -> None:
    few = Estimate([SessionEstimate(RACE, 1, 0, 0)], {(2024, 1240): 1}, CostModel(), parse_limits("3/s,30/m"))
    assert not [line for line in estimate_lines(few) if "limits" in line]


def test_a_limit_of_bytes_is_reckoned_with_only_where_there_is_one() -> None:
    without, with_one = estimated(), estimated(limits="3/s,30/m,4MB/10s")
    assert without.seconds_by_bytes is None
    assert without.seconds == with_one.seconds
    assert with_one.seconds_by_bytes == pytest.approx(with_one.bytes / 400_000)
    assert "at least 3 min with the limit of bytes (4MB/10.0s)" in list(estimate_lines(with_one))
    assert not [line for line in estimate_lines(without) if "limit of bytes" in line]


def test_a_source_without_requests_takes_none_and_no_time() -> None:
    assert not isinstance(object(), AskedByRequest)
    estimate = estimate_load(a_plan(), Selection(), object(), [away])
    assert (estimate.all_requests, estimate.bytes, estimate.seconds) == (0, 0, None)
    assert estimate.rows > 1_000_000
    assert "1 session, 18 units" in list(estimate_lines(estimate))


def taken_by(layout: str) -> Footprint:
    """What a session of two hours takes in an empty zone."""
    zone: Any = FilesRecipe(parse_location("s3://bucket/f1"), layout)
    (taken,) = estimate_load(a_plan(), Selection(), openf1(), [away], stores=[zone]).footprints
    return taken


def test_a_zone_takes_an_object_for_each_answer_and_manifest_and_a_layout_with_files_two_more() -> None:
    estimate = estimated()
    units, dated, extractor = (taken_by(layout) for layout in ("units", "dated", "extractor"))
    sampled = estimate.all_requests - 13 - 2
    # Answers, sessions' and meetings' included; a manifest for each unit, of samples for each answer.
    least = estimate.all_requests + 2 + estimate.units - 2 + sampled
    assert least <= units.objects <= least + 15
    assert dated.objects == units.objects
    assert extractor.objects == units.objects + 2 * 18
    assert extractor.puts > extractor.objects, "large files are written in parts"


def test_a_zone_of_packed_answers_takes_a_tenth_of_the_same_as_json() -> None:
    units, dated, extractor = (taken_by(layout).bytes for layout in ("units", "dated", "extractor"))
    assert 7 < units / estimated().rows < 9, "bytes a record, as in the zone of a real test day"
    assert 10 < dated / units < 30
    assert units + dated < extractor < 2 * (units + dated)


def test_what_a_zone_takes_is_said_with_what_that_costs() -> None:
    zone: Any = FilesRecipe(parse_location("s3://bucket/f1"), "extractor")
    estimate = estimate_load(a_plan(), Selection(), openf1(), [away], stores=[zone])
    (taken,) = estimate.footprints
    lines = list(estimate_lines(estimate))
    begins = next(number for number, line in enumerate(lines) if line.startswith("in 's3://bucket/f1': about "))
    assert lines[begins].endswith(f" in {taken.objects} objects, {taken.puts} PUT requests;")
    assert lines[begins + 1].endswith("(us-east-1, prices of 2025-01)")
    (zone_json,) = estimate_json(estimate)["landing_zones"]
    assert zone_json["dollars_a_month"] == pytest.approx(taken.bytes / 2**30 * 0.023, abs=1e-4)
    assert zone_json["dollars_once"] == pytest.approx(taken.puts * 0.005 / 1000, abs=1e-4)


def test_a_plan_asks_hbase_nothing_but_what_is_loaded_there() -> None:
    """Nor does it need it: a gateway that is away is one warning."""
    config = resolve({"hbase_port": 9}, names=(), environment={})
    assert object_store(config, "hbase") is None
    assert object_store(config, "s3://bucket/f1") is not None


def test_a_zone_that_has_all_takes_nothing_more() -> None:
    done = [replace(state(name), fetched=END + timedelta(days=90)) for name in ENDPOINTS]
    full = View(*done, replace(done[0], scope_prefix=RACE.meeting.prefix))
    places: Any = [FilesRecipe(parse_location(f"s3://bucket/{name}")) for name in ("full", "empty")]
    views: list[Any] = [lambda: full, away]
    estimate = estimate_load(a_plan(), Selection(), openf1(), views, stores=places)
    has_all, has_nothing = estimate.footprints
    assert (has_all.bytes, has_all.objects) == (0, 0)
    assert has_nothing.objects > 50
    assert not [line for line in estimate_lines(estimate) if "bucket/full" in line]


def test_the_same_is_there_as_json(estimate: Estimate) -> None:
    content = json.loads(json.dumps(estimate_json(estimate)))
    assert content["total"] == {
        "sessions": 1, "units": 18, "requests": 36, "requests_are_an_estimate": True,
        "expected_rows": estimate.rows, "expected_bytes": estimate.bytes,
    }  # fmt: skip
    assert content["sessions"][0]["session_key"] == 9558
    assert datetime.fromisoformat(content["sessions"][0]["date_start"]) == START
    assert (content["limits"], content["seconds_at_limits"]) == (["3/s", "30/m"], 60.6)


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (633_000, "633 KB"), (1_230_000, "1.2 MB"), (61e9, "61 GB"), (2e12, "2.0 TB")]
)
def test_bytes_are_told_in_a_unit_of_their_size(number: float, text: str) -> None:
    assert size(number) == text
