"""Serves a history as Jolpica does: pages of 100 entries at the most, its limits, and failures on purpose."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from aiohttp import web

from f1hbase.model.rates import Rate
from simulator.history import Entry, History, Race, Season
from simulator.limits import SlidingWindows

_PATH = "/ergast/f1"
_USUAL_LIMIT, _MOST = 30, 100

KINDS: Mapping[str, str] = {
    "500": "a page with status 500",
    "503": "a text with status 503",
    "429": "status 429 without Retry-After",
    "page": "a page with status 200",
    "cut": "half of the answer, and the connection is closed",
    "other": "JSON that is no answer of Jolpica's, with status 200",
}
"""The faults that a request can meet, and what each one is."""


@dataclass
class HistoryFaults:
    """What goes wrong.

    Attributes:
        left: For each end of a path how often it meets which fault yet: `{"results": ("503", 2)}`.
        down: Whether every connection is closed without an answer.
        changes: For each path how often a correction comes between its pages yet, and how many entries that adds (or,
            if negative, takes away at the beginning).
    """

    left: dict[str, tuple[str, int]] = field(default_factory=dict)
    down: bool = False
    changes: dict[str, tuple[int, int]] = field(default_factory=dict)

    def meets(self, path: str) -> str | None:
        """Return the fault that a request for a path meets, and count it."""
        for end, (kind, times) in self.left.items():
            if path.endswith(end) and times > 0:
                self.left[end] = (kind, times - 1)
                return kind
        return None


@dataclass
class HistoryLog:
    """What was asked for.

    Attributes:
        requests: Each path with its query, in order of arrival, those that were refused included.
        statuses: How often each status was answered.
    """

    requests: list[str] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)


def create_history(
    history: History,
    rates: Sequence[Rate] = (),
    faults: HistoryFaults | None = None,
    log: HistoryLog | None = None,
) -> web.Application:
    """Return an application that serves a history below `/ergast/f1`.

    Args:
        history: What there is.
        rates: How many requests are answered; more are a 429.
        faults: What goes wrong.
        log: Is told what is asked for.
    """
    faults = faults or HistoryFaults()
    log = log or HistoryLog()
    windows = SlidingWindows(rates)
    answer = _Answers(history, faults)

    async def serve(request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"].strip("/").removesuffix(".json")
        log.requests.append(f"{path}?{request.query_string}")
        response = await _served(request, path)
        log.statuses[response.status] += 1
        return response

    async def _served(request: web.Request, path: str) -> web.StreamResponse:
        if faults.down:
            return _closed(request)
        wait = windows.admit()
        if wait > 0:
            words = {"detail": f"Request was throttled. Expected available in {math.ceil(wait)} seconds."}
            return web.json_response(words, status=429)
        fault = faults.meets(path)
        if fault is not None and fault != "cut":
            return _fault(fault)
        try:
            content = answer.of(path, _whole(request, "limit", _USUAL_LIMIT), _whole(request, "offset", 0), request.url)
        except KeyError:
            return web.json_response({"detail": "Not found."}, status=404)
        if fault == "cut":
            return await _cut(request, content)
        return content

    app = web.Application()
    app.router.add_get(f"{_PATH}/{{path:.*}}", serve)
    return app


class _Answers:
    """Makes answers."""

    def __init__(self, history: History, faults: HistoryFaults) -> None:
        self._history = history
        self._faults = faults

    def of(self, path: str, limit: int, offset: int, url: Any) -> web.Response:
        """Return the answer to a path.

        Raises:
            KeyError: If there is no such path.
        """
        table, rows, criteria = self._rows(path.split("/"))
        rows = self._changed(path, rows, offset)
        limit = min(limit or _USUAL_LIMIT, _MOST)
        page = rows[offset : offset + limit]
        content = {
            "xmlns": "", "series": "f1", "url": str(url.with_query(None)), "limit": str(limit), "offset": str(offset),
            "total": str(len(rows)), table: {**criteria, **_TABLES[table](page)},
        }  # fmt: skip
        return web.json_response({"MRData": content})

    def _changed(self, path: str, rows: list[Any], offset: int) -> list[Any]:
        """Return the entries as they are once a correction has come between two pages."""
        times, number = self._faults.changes.get(path, (0, 0))
        if not offset or times <= 0:
            return rows
        self._faults.changes[path] = (times - 1, number)
        return rows[-number:] if number < 0 else [*rows, *rows[:number]]

    def _rows(self, parts: Sequence[str]) -> tuple[str, list[Any], Entry]:
        if parts == ["seasons"]:
            return "SeasonTable", [self._history.season(year).entry for year in self._history.years], {}
        if parts == ["races"]:
            every = [race for year in self._history.years for race in self._history.season(year).races]
            return "RaceTable", [(race.entry, None, None) for race in every], {}
        season = self._history.current if parts[0] == "current" else self._history.season(_number(parts[0]))
        criteria: Entry = {"season": str(season.year)}
        rest = list(parts[1:])
        number: int | None = None
        if rest and (rest[0] == "last" or rest[0].isdecimal()):
            number = season.last_held if rest[0] == "last" else int(rest[0])
            criteria["round"] = str(number)
            rest.pop(0)
        (name,) = rest or ("",)
        return *_of_season(season, name, number), criteria


def _of_season(season: Season, name: str, number: int | None) -> tuple[str, list[Any]]:
    races = season.races if number is None else season.races[number - 1 : number]
    if name in _OF_RACE:
        kind, of = _OF_RACE[name]
        if kind in {"Laps", "PitStops"} and number is None:
            raise KeyError(name)
        return "RaceTable", [(race.entry, kind, entry) for race in races for entry in of(race)]
    if name in {"races", ""}:
        return "RaceTable", [(race.entry, None, None) for race in races]
    if name in {"driverstandings", "constructorstandings"}:
        after = season.last_held if number is None else number
        held = bool(after) and after <= len(season.races) and bool(season.races[after - 1].results)
        if name == "driverstandings":
            kind, some = "DriverStandings", season.driver_standings(after) if held else []
        else:
            kind, some = "ConstructorStandings", season.constructor_standings(after) if held else []
        return "StandingsTable", [(str(season.year), str(after), kind, entry) for entry in some]
    lists = {
        "circuits": ("CircuitTable", season.circuits), "drivers": ("DriverTable", season.drivers),
        "constructors": ("ConstructorTable", season.constructors), "status": ("StatusTable", season.statuses),
        "seasons": ("SeasonTable", [season.entry]),
    }  # fmt: skip
    table, entries = lists[name]
    return table, list(entries)


def _laps(race: Race) -> Iterator[Entry]:
    for number, timings in enumerate(race.laps, 1):
        yield from ({"number": str(number), **timing} for timing in timings)


_OF_RACE: Mapping[str, tuple[str, Callable[[Race], Any]]] = {
    "results": ("Results", lambda race: race.results),
    "sprint": ("SprintResults", lambda race: race.sprint),
    "qualifying": ("QualifyingResults", lambda race: race.qualifying),
    "pitstops": ("PitStops", lambda race: race.pit_stops),
    "laps": ("Laps", _laps),
}


def _race_table(page: Sequence[tuple[Entry, str | None, Entry | None]]) -> Entry:
    """Return a page of entries as the races that they are of."""
    races = []
    for _, group in groupby(page, key=lambda row: (row[0]["season"], row[0]["round"])):
        mine = list(group)
        entry, kind, _ = mine[0]
        if kind is None:
            races.append(entry)
        else:
            own = {name: entry[name] for name in entry if name[0].islower() or name == "Circuit"}
            rows = [row[2] for row in mine if row[2] is not None]
            races.append({**own, kind: _by_lap(rows) if kind == "Laps" else rows})
    return {"Races": races}


def _by_lap(rows: Sequence[Entry]) -> list[Entry]:
    return [
        {"number": number, "Timings": [{k: v for k, v in row.items() if k != "number"} for row in timings]}
        for number, timings in groupby(rows, key=lambda row: row["number"])
    ]


def _standings_table(page: Sequence[tuple[str, str, str, Entry]]) -> Entry:
    if not page:
        return {"StandingsLists": []}
    season, number, kind, _ = page[0]
    return {
        "round": number,
        "StandingsLists": [{"season": season, "round": number, kind: [entry for *_, entry in page]}],
    }


_TABLES: Mapping[str, Callable[[Sequence[Any]], Entry]] = {
    "RaceTable": _race_table,
    "StandingsTable": _standings_table,
    "SeasonTable": lambda page: {"Seasons": list(page)},
    "CircuitTable": lambda page: {"Circuits": list(page)},
    "DriverTable": lambda page: {"Drivers": list(page)},
    "ConstructorTable": lambda page: {"Constructors": list(page)},
    "StatusTable": lambda page: {"Status": list(page)},
}


def _number(text: str) -> int:
    if not text.isdecimal():
        raise KeyError(text)
    return int(text)


def _whole(request: web.Request, name: str, otherwise: int) -> int:
    text = request.query.get(name, "")
    return int(text) if text.isdecimal() else otherwise


def _fault(kind: str) -> web.Response:
    if kind == "429":
        return web.json_response({"detail": "Request was throttled."}, status=429)
    if kind == "503":
        return web.Response(status=503, text="upstream request timeout")
    if kind == "other":
        return web.json_response({"detail": "hello"})
    status = 500 if kind == "500" else 200
    return web.Response(status=status, text="<html><body>An error occurred</body></html>", content_type="text/html")


async def _cut(request: web.Request, content: web.Response) -> web.StreamResponse:
    body = content.body
    assert isinstance(body, bytes)
    response = web.StreamResponse(headers={"Content-Length": str(len(body)), "Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    return _closed(request)


def _closed(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.close()
    return web.Response()


async def run_history(app: web.Application, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve until cancelled.

    Args:
        app: The application.
        host: The address to listen at.
        port: The port; 0 takes a free one.
        ready: Is told the address, when it listens.
    """
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        ready(f"http://{host}:{runner.addresses[0][1]}{_PATH}")
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
