"""Jolpica for tests: a simulated history in a server of the test's own, and what a source makes of it."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from aiohttp import web
from serving import in_thread

from f1hbase.model.catalog import HISTORY_ENDPOINTS
from f1hbase.model.rates import Rate
from f1hbase.model.units import Scope, Unit, race_scope, season_scope
from f1hbase.sources.jolpica.source import JolpicaOptions, JolpicaSource, open_source
from simulator.history import History, Season
from simulator.history_server import HistoryFaults, HistoryLog, create_history


@asynccontextmanager
async def serving(
    history: History,
    faults: HistoryFaults | None = None,
    log: HistoryLog | None = None,
    rates: tuple[Rate, ...] = (),
) -> AsyncIterator[str]:
    """Serve a history, and yield its address."""
    runner = web.AppRunner(create_history(history, rates, faults, log), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/ergast/f1"
    finally:
        await runner.cleanup()


@contextmanager
def serving_in_thread(
    history: History, faults: HistoryFaults | None = None, log: HistoryLog | None = None
) -> Iterator[str]:
    """Serve a history from a thread, for a loader of another process."""
    with in_thread(serving(history, faults, log)) as url:
        yield url


@asynccontextmanager
async def opened(
    history: History,
    faults: HistoryFaults | None = None,
    log: HistoryLog | None = None,
    *,
    patience: float = 5.0,
    rates: tuple[Rate, ...] = (),
    **options: Any,
) -> AsyncIterator[JolpicaSource]:
    """Yield the source over a history."""
    async with serving(history, faults, log, rates) as url:
        settings = JolpicaOptions(url, **{"max_retries": 3, "retry_delay": 0.001, **options})
        async with open_source(settings, patience) as source:
            yield source


class CountingLog(HistoryLog):
    """A log that says when so many requests have come."""

    def __init__(self, requests: int) -> None:
        super().__init__()
        self.number = requests
        self.reached = threading.Event()
        self.requests = _Counted(self.reached, requests)


class _Counted(list[str]):
    def __init__(self, reached: threading.Event, number: int) -> None:
        super().__init__()
        self._reached = reached
        self._number = number

    def append(self, one: str) -> None:
        super().append(one)
        if len(self) >= self._number:
            self._reached.set()


def units_of(season: Season, *names: str) -> list[Unit]:
    """Return the units of a season and its races, of some endpoints or of all but those that come with the plan."""
    units = []
    for name, endpoint in HISTORY_ENDPOINTS.items():
        if name in (names or HISTORY_ENDPOINTS):
            scopes: list[Scope] = [season_scope(season.year)]
            if not endpoint.of_meeting:
                scopes = [race_scope(season.year, number) for number in range(1, season.rounds + 1)]
            units += [Unit(name, scope) for scope in scopes]
    return units


def entries_of(season: Season) -> dict[str, int]:
    """Return how many entries a season has, by endpoint, counted where the simulator keeps them."""
    races = season.races
    after = [number for number, race in enumerate(races, 1) if race.results]
    return {
        "seasons": 1,
        "races": len(races),
        "season_circuits": len(season.circuits),
        "season_drivers": len(season.drivers),
        "season_constructors": len(season.constructors),
        "finishing_status": len(season.statuses),
        "results": sum(len(race.results) for race in races),
        "sprint_results": sum(len(race.sprint) for race in races),
        "qualifying_results": sum(len(race.qualifying) for race in races),
        "driver_standings": sum(len(season.driver_standings(number)) for number in after),
        "constructor_standings": sum(len(season.constructor_standings(number)) for number in after),
        "pit_stops": sum(len(race.pit_stops) for race in races),
        "lap_times": sum(len(timings) for race in races for timings in race.laps),
    }
