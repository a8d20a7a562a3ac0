"""Jolpica as a source: every entry of every page once, whatever happens while the pages are read."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from archive_server import Loaded, load, scopes
from faults.kill_history import standings_differ
from history_api import entries_of, opened, units_of
from samples import a_scope

from f1hbase.config import resolve
from f1hbase.model.catalog import HISTORY_ENDPOINTS
from f1hbase.model.ergast import BadPageError, read_page
from f1hbase.model.history import as_listed
from f1hbase.model.rates import Rate, parse_limits
from f1hbase.model.samples import Record
from f1hbase.model.units import Unit, race_scope
from f1hbase.sources.jolpica.questions import questions_of
from f1hbase.sources.jolpica.recipe import recipe as jolpica_recipe
from f1hbase.sources.jolpica.source import JolpicaOptions, open_source
from f1hbase.sources.openf1.recipe import recipe as openf1_recipe
from f1hbase.stores.hbase.codec import decode, encode
from simulator.history import History, Scale, Season
from simulator.history_server import KINDS, HistoryFaults, HistoryLog

_SMALL = Scale(cars=8, laps=4, rounds=5)


@pytest.fixture(autouse=True)
def _state_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def _counts(loaded: Loaded) -> dict[str, int]:
    return {name: len(records) for name, records in loaded.records.items()}


@pytest.mark.parametrize("year", [1950, 1955, 1975, 1996, 1997, 2007, 2024])
async def test_every_entry_of_a_season_becomes_a_record(year: int) -> None:
    history = History(scale=_SMALL)
    async with opened(history) as source:
        loaded = await load(source, units_of(history.season(year)))
    assert loaded.errors == {}
    assert loaded.quarantined == []
    assert _counts(loaded) == entries_of(history.season(year))


async def test_a_record_survives_the_way_through_hbase() -> None:
    history = History(scale=_SMALL)
    async with opened(history) as source:
        loaded = await load(source, [unit for year in (1955, 2024) for unit in units_of(history.season(year))])
    for name, endpoint in HISTORY_ENDPOINTS.items():
        for record in loaded.of(name):
            row = encode(endpoint, record["season"], record)
            known: Record = dict.fromkeys(endpoint.fields)
            assert decode(endpoint, row.key, row.cells) == known | record
            assert record.keys() <= endpoint.known


async def test_the_standings_after_the_last_race_are_the_sum_of_the_points_since_1991() -> None:
    history = History(scale=Scale(cars=8, laps=2, rounds=6))
    names = ("results", "sprint_results", "driver_standings", "constructor_standings")
    rows: dict[bytes, dict[bytes, bytes]] = defaultdict(dict)
    async with opened(history) as source:
        for year in history.years:
            loaded = await load(source, units_of(history.season(year), *names))
            for name in names:
                for record in loaded.of(name):
                    row = encode(HISTORY_ENDPOINTS[name], year, record)
                    rows[row.key] |= row.cells
    assert standings_differ(rows, range(1991, 2025), excluded={1997, 2007}) == []
    assert len(standings_differ(rows, range(1958, 1991))) > 30, "before, only the best results counted"


async def test_row_keys_begin_with_season_and_round() -> None:
    history = History(scale=_SMALL)
    season = history.season(1955)
    async with opened(history) as source:
        loaded = await load(source, units_of(season, "results", "races", "seasons", "season_drivers"))
    first = season.races[2].results[0]
    number = "-" if first["number"] == "None" else first["number"]
    keys = {
        name: {encode(HISTORY_ENDPOINTS[name], 1955, record).key.decode() for record in loaded.of(name)}
        for name in loaded.records
    }
    assert keys["seasons"] == {"1955"}
    assert keys["races"] == {f"1955#{number}" for number in range(1, 6)}
    assert f"1955#3#{first['Driver']['driverId']}#{number}" in keys["results"]
    assert f"1955#driver#{season.drivers[0]['driverId']}" in keys["season_drivers"]


async def test_who_shares_a_car_or_drives_two_has_a_row_for_each() -> None:
    history = History(scale=_SMALL)
    async with opened(history) as source:
        loaded = await load(source, [Unit("results", race_scope(1955, 1))])
    results = loaded.of("results")
    drivers = [record["driver_id"] for record in results]
    numbers = [record["number"] for record in results if "number" in record]
    assert len(results) == len(history.season(1955).races[0].results)
    assert len(set(drivers)) < len(drivers), "somebody drove two cars"
    assert len(set(numbers)) < len(numbers), "two drivers shared a car"
    assert len(numbers) < len(results), "a car has no number"


async def test_a_whole_season_takes_a_request_for_each_hundred_entries() -> None:
    history, log = History(scale=Scale(cars=20, laps=2, rounds=16)), HistoryLog()
    async with opened(history, log=log) as source:
        loaded = await load(source, units_of(history.season(2012), "results"))
    assert _counts(loaded) == {"results": 320}
    assert log.requests == [f"2012/results?limit=100&offset={offset}" for offset in (0, 100, 200, 300)]


async def test_one_race_is_asked_for_alone() -> None:
    history, log = History(scale=_SMALL), HistoryLog()
    async with opened(history, log=log) as source:
        loaded = await load(source, [Unit("results", race_scope(2012, 3))])
    assert log.requests == ["2012/3/results?limit=100&offset=0"]
    assert {record["round"] for record in loaded.of("results")} == {3}


async def test_what_a_season_cannot_have_is_not_asked_for() -> None:
    history, log = History(scale=_SMALL), HistoryLog()
    names = ("lap_times", "pit_stops", "sprint_results", "constructor_standings")
    async with opened(history, log=log) as source:
        loaded = await load(source, units_of(history.season(1957), *names))
    assert log.requests == []
    assert sum(_counts(loaded).values()) == 0
    assert {answer.unit.endpoint for answer in loaded.answers} == {*names}, "answered all the same"


@pytest.mark.parametrize("added", [3, -1])
async def test_pages_that_change_while_they_are_read_are_read_again(added: int) -> None:
    history = History(scale=Scale(cars=8, laps=40, rounds=2))
    faults, log = HistoryFaults(changes={"2001/1/laps": (1, added)}), HistoryLog()
    async with opened(history, faults, log) as source:
        loaded = await load(source, [Unit("lap_times", race_scope(2001, 1))])
    assert loaded.errors == {}
    assert _counts(loaded)["lap_times"] == sum(map(len, history.season(2001).races[0].laps)) > 200
    assert log.requests.count("2001/1/laps?limit=100&offset=0") == 2


async def test_pages_that_change_each_time_are_a_failure() -> None:
    history = History(scale=Scale(cars=8, laps=40, rounds=2))
    async with opened(history, HistoryFaults(changes={"2001/1/laps": (99, -1)})) as source:
        loaded = await load(source, [Unit("lap_times", race_scope(2001, 1))])
    (reason,) = loaded.errors.values()
    assert "changed each of 4 times that it was read" in reason
    assert _counts(loaded) == {"lap_times": 0}


async def test_an_entry_that_comes_twice_in_every_reading_is_a_duplicate() -> None:
    history = History(scale=_SMALL)
    race = history.season(2012).races[0]
    race.results.append(dict(race.results[0]))
    async with opened(history) as source:
        loaded = await load(source, [Unit("results", race_scope(2012, 1))])
    assert loaded.errors == {}
    assert _counts(loaded) == {"results": len(race.results) - 1}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "429"])
async def test_a_failed_request_is_sent_again(kind: str) -> None:
    history = History(scale=_SMALL)
    async with opened(history, HistoryFaults(left={"results": (kind, 2)})) as source:
        loaded = await load(source, units_of(history.season(2012), "results"))
    assert loaded.errors == {}
    assert _counts(loaded) == {"results": entries_of(history.season(2012))["results"]}


@pytest.mark.parametrize(
    ("race", "said"),
    [
        ({"season": "../../x", "round": "-1"}, "season ../../x"),
        ({"season": "1990", "round": "1"}, "season 1990"),
        ({"season": "1991", "round": "-1"}, "round -1"),
        ({"season": "1991", "round": "1e9"}, "round 1e9"),
    ],
)
@pytest.mark.parametrize("units", [1, 5])
async def test_an_answer_of_another_season_or_race_fails_its_units(race: Record, said: str, units: int) -> None:
    races = [race | {"Results": [{"number": "1"}]}]
    page = {"limit": "100", "offset": "0", "total": "1", "RaceTable": {"Races": races}}

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"MRData": page})

    app = web.Application()
    app.router.add_get("/{anything:.*}", answer)
    async with TestServer(app) as server:
        options = JolpicaOptions(str(server.make_url("/")), max_retries=1, retry_delay=0.001)
        async with open_source(options, 5.0) as source:
            loaded = await load(source, [Unit("results", race_scope(1991, number + 1)) for number in range(units)])
    assert loaded.of("results") == []
    assert len(loaded.errors) == units
    assert all(said in error for error in loaded.errors.values())


async def test_what_fails_for_good_is_a_failure_of_its_units_alone() -> None:
    history = History(scale=_SMALL)
    async with opened(history, HistoryFaults(left={"results": ("500", 99)})) as source:
        loaded = await load(source, units_of(history.season(2012), "results", "season_drivers"))
    assert len(loaded.errors) == 5
    assert all("HTTP 500" in reason for reason in loaded.errors.values())
    assert _counts(loaded)["season_drivers"] == entries_of(history.season(2012))["season_drivers"]


async def test_within_the_limits_nothing_is_refused() -> None:
    history, log = History(scale=_SMALL), HistoryLog()
    # Requests that were let through apart may arrive together on a busy machine.
    server = (Rate(40, 1.0),)
    async with opened(history, log=log, rates=server, limits=parse_limits("25/s")) as source:
        loaded = await load(source, units_of(history.season(2012)))
    assert len(log.requests) > 25
    assert set(log.statuses) == {200}
    assert _counts(loaded) == entries_of(history.season(2012))


async def test_the_latest_race_is_the_last_one_with_results() -> None:
    # The last three of five races have none, though their dates have passed.
    history, log = History(scale=_SMALL, held=2), HistoryLog()
    async with opened(history, log=log) as source:
        latest = await scopes(source, mode="latest", num_sessions=1)
        several = await scopes(source, mode="latest", num_sessions=4)
    assert latest[-1].prefix == "2024#202400#202402"
    assert len(log.requests) < 10
    assert [scope.round for scope in several][-4:] == [4, 5, 1, 2]


async def test_a_race_without_results_has_none_and_is_asked_for_again() -> None:
    history = History(scale=_SMALL, held=2)
    async with opened(history) as source:
        (race,) = await scopes(source, mode="manual", session_key=(202404,))
        loaded = await load(source, [Unit("results", race), Unit("driver_standings", race)])
    assert race.kind == "Race", "by which an empty answer is known to be none of the last word"
    assert loaded.errors == {}
    assert _counts(loaded) == {"results": 0, "driver_standings": 0}


async def test_races_before_1970_have_a_day_that_lasts_from_midnight_to_midnight() -> None:
    history = History(scale=_SMALL)
    async with opened(history) as source:
        races = await scopes(source, mode="year", year=(1950,))
    assert [race.round for race in races] == [1, 2, 3, 4, 5]
    for race, made in zip(races, history.season(1950).races, strict=True):
        assert race.date_start is not None
        assert race.date_end is not None
        assert race.date_start.isoformat() == f"{made.entry['date']}T00:00:00+00:00"
        assert (race.date_end - race.date_start).days == 1


def test_questions_are_as_few_as_can_be() -> None:
    season = Season(1, 2024, Scale())
    by_season = questions_of(units_of(season, "results"))
    by_race = questions_of(units_of(season, "lap_times"))
    few = questions_of(units_of(season, "results")[:2])
    assert [question.path for question in by_season] == ["2024/results"]
    assert [question.path for question in by_race] == [f"2024/{number}/laps" for number in range(1, 25)]
    assert [question.path for question in few] == ["2024/results"] or len(few) == 2
    assert sum(question.pages for question in few) <= 2


@pytest.mark.parametrize(
    "body",
    [
        b'{"MRData": {"limit": "30", "offset": "0", "total": "0"}}',
        b'{"MRData": {"limit": "30", "offset": "0", "total": "0", "OtherTable": {}}}',
        b'{"MRData": {"limit": 1e999, "offset": "0", "total": "0", "RaceTable": {"Races": []}}}',
        b'{"MRData": {"limit": "0", "offset": "0", "total": "5", "RaceTable": {"Races": []}}}',
        b'{"MRData": {"limit": "30", "offset": "0", "total": "-5", "RaceTable": {"Races": []}}}',
        b'{"MRData": {"limit": "30", "offset": "0", "total": 0.5, "RaceTable": {"Races": []}}}',
        '{"MRData": {"limit": "30", "offset": "\u0660", "total": "0", "RaceTable": {"Races": []}}}'.encode(),
        b'{"MRData": ' + b"[" * 100_000,
        b'{"MRData": {"limit": "30", "offset": "0", "total": "1", "RaceTable": {"Races": [{"Results": 5}]}}}',
    ],
)
def test_a_page_of_another_form_is_none(body: bytes) -> None:
    with pytest.raises(BadPageError):
        read_page(body)


@pytest.mark.parametrize("day", ["9999-12-31", "0001-01-01", "x", None, 5])
def test_a_race_on_a_day_that_has_no_next_one_is_listed_without_dates(day: object) -> None:
    listed = as_listed({"season": 2025, "round": 1, "date": day, "time": "13:00:00Z"})
    assert (listed["date_start"] is None) == (day != "0001-01-01")


def test_each_source_counts_the_requests_of_its_own_units_alone() -> None:
    """What is missing of Jolpica's is asked about where OpenF1 is the default, and the other way round."""
    config = resolve({})
    own, other = Unit("pit_stops", race_scope(2025, 1)), Unit("laps", a_scope())
    assert [recipe.requests([own]) for recipe in (openf1_recipe(config), jolpica_recipe(config))] == [0, 1]
    assert [recipe.requests([other]) for recipe in (openf1_recipe(config), jolpica_recipe(config))] == [1, 0]
