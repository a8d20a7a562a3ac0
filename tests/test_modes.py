"""What each way to choose means: the sessions that are loaded, what plan says of them before, what is left out."""

from __future__ import annotations

import gzip
import json
import re
import time
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import happybase
import pytest
from cli import Loader
from hbase_server import LocalHBase
from replay_server import ReplayServer
from tables import FAMILY, source_records

import f1hbase
from simulator import Plan, simulate

pytestmark = pytest.mark.hbase

_PREFIX = "modes"
_LAST_YEAR = ("practice", "practice", "qualifying", "race")
_THIS_YEAR = ("practice", "race")

# Three meetings of 2024, of which the qualifying of the last was cancelled, and three of 2025, of which the last is
# moved to the present: its practice has begun 20 minutes ago, and its race is tomorrow.
_FIRST_RACE, _CANCELLED, _LAST_RACE_OF_2024 = 69004, 69011, 69012
_GOING_ON, _TO_COME = 70005, 70006
_BEGUN = [*range(69001, 69013), *range(70001, 70006)]
_DRIVER = 1

Request = tuple[str, tuple[int, ...]]
"""The endpoint of a request, and the sessions it asks for."""

_OF_EVERY_PLAN = ("meetings", "sessions")
_PLAN: list[Request] = [(endpoint, ()) for endpoint in _OF_EVERY_PLAN]
"""What plan and load ask for to know what there is; plan does not count these two among the requests of a load."""


class Season(NamedTuple):
    """The API of all tests here, and a loader into the tables of all tests here.

    A case takes an endpoint of its own, so that it finds nothing of it loaded, whichever came before.
    """

    folder: Path
    api: ReplayServer
    loader: Loader
    hbase: LocalHBase
    first_load: Load


@dataclass(frozen=True)
class Load:
    """What a load printed, and what it asked the API for.

    Attributes:
        requests: The endpoint and the sessions (none: the plan's own requests) of each request.
    """

    output: str
    requests: list[Request]

    @property
    def of_sessions(self) -> list[Request]:
        """The requests but for those with which every load finds out which sessions there are."""
        assert sorted(request for request in self.requests if not request[1]) == _PLAN
        return [request for request in self.requests if request[1]]

    @property
    def asked(self) -> list[tuple[str, int]]:
        """The endpoint and session of each that was asked for, however many shared a request."""
        return sorted((endpoint, session) for endpoint, sessions in self.of_sessions for session in sessions)


def _load(loader: Loader, api: ReplayServer, *arguments: str) -> Load:
    before = len(api.log())
    output = loader.run(*arguments)
    return Load(output, _requests(api, before))


def _requests(api: ReplayServer, before: int) -> list[Request]:
    found: list[Request] = []
    for entry in api.log()[before:]:
        if entry["path"].startswith("/v1/"):
            endpoint, filters = entry["path"].rpartition("/")[2], parse_qs(entry["query"])
            keys = [] if endpoint in _OF_EVERY_PLAN else filters["session_key"]
            found.append((endpoint, tuple(sorted(map(int, keys)))))
    return found


def _plan(season: Season, *arguments: str) -> tuple[dict[str, Any], str]:
    """Return what plan says, for machines, and the lines before that; it sends two requests."""
    before = len(season.api.log())
    output = season.loader.run("plan", "--json", *arguments)
    assert sorted(_requests(season.api, before)) == _PLAN
    lines, brace, content = output.partition("{\n")
    return json.loads(brace + content), lines


@pytest.fixture(scope="module")
def season(hbase: LocalHBase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Season]:
    """Two seasons, of which one load has taken the drivers."""
    folder = tmp_path_factory.mktemp("modes")
    few = Plan(minutes=1, drivers=2, meetings=3)
    list(simulate(folder / "2024", replace(few, year=2024, sessions=_LAST_YEAR)))
    list(simulate(folder / "2025", replace(few, year=2025, sessions=_THIS_YEAR)))
    _call_off(folder, _CANCELLED)
    now = datetime.now(UTC).replace(microsecond=0)
    _move(folder, _GOING_ON, now - timedelta(minutes=20), now + timedelta(hours=2))
    _move(folder, _TO_COME, now + timedelta(days=1), now + timedelta(days=1, hours=2), driven=False)
    with ReplayServer(folder) as api:
        environment = {
            "F1HBASE_HBASE_HOST": hbase.host,
            "F1HBASE_HBASE_PORT": str(hbase.port),
            "F1HBASE_API_URL": api.url,
            "F1HBASE_TABLE_PREFIX": _PREFIX,
            "F1HBASE_RETRY_DELAY": "0",
            "XDG_STATE_HOME": str(folder / "state"),
        }
        (folder / "work").mkdir()
        loader = Loader(folder / "work", environment)
        yield Season(folder, api, loader, hbase, _load(loader, api, "--mode", "all", "--endpoint", "drivers"))


def _folder(season: Path, session: int) -> Path:
    (folder,) = season.rglob(f"session-{session}-*")
    return folder


def _rewrite(path: Path, change: dict[str, Any], by: timedelta = timedelta()) -> None:
    lines = []
    for line in gzip.decompress(path.read_bytes()).splitlines():
        record = json.loads(line)
        for name in ("date", "date_start"):
            if record.get(name):
                record[name] = (datetime.fromisoformat(record[name]) + by).isoformat()
        lines.append(json.dumps(record | change) + "\n")
    path.write_bytes(gzip.compress("".join(lines).encode()))


def _spare_only_the_session(folder: Path) -> None:
    for path in folder.glob("*.jsonl.gz"):
        if not path.name.startswith("sessions."):
            path.unlink()


def _call_off(season: Path, session: int) -> None:
    folder = _folder(season, session)
    _spare_only_the_session(folder)
    _rewrite(folder / "sessions.jsonl.gz", {"is_cancelled": True})


def _move(season: Path, session: int, start: datetime, end: datetime, *, driven: bool = True) -> None:
    """Let a session begin at another time, its records with it; the meeting ends with it."""
    folder = _folder(season, session)
    if not driven:
        _spare_only_the_session(folder)
    ((_, record),) = [found for found in source_records(folder) if found[0] == "sessions"]
    by = start - datetime.fromisoformat(record["date_start"])
    for path in folder.glob("*.jsonl.gz"):
        _rewrite(path, {"date_end": end.isoformat()} if path.name.startswith("sessions.") else {}, by)
    _rewrite(folder.parent / "meetings.jsonl.gz", {"date_end": end.isoformat()})


def _day(season: Season, session: int) -> str:
    ((_, record),) = [found for found in source_records(_folder(season.folder, session)) if found[0] == "sessions"]
    return str(record["date_start"][:10])


def _stored(season: Season, endpoint: str) -> Counter[int]:
    """Return how many rows of an endpoint the table has, by session."""
    connection = happybase.Connection(season.hbase.host, season.hbase.port)
    rows = connection.table(f"{_PREFIX}_f1_data").scan(
        columns=[FAMILY.get(endpoint, endpoint)], filter="KeyOnlyFilter()"
    )
    sessions = Counter(int(key.split(b"#")[2]) for key, _ in rows)
    connection.close()
    return sessions


def _served(season: Season, endpoint: str, sessions: Collection[int], driver: int | None = None) -> Counter[int]:
    """Return how many records the API has of an endpoint, by session."""
    return Counter(
        record["session_key"]
        for session in sessions
        for name, record in source_records(_folder(season.folder, session))
        if name == endpoint and driver in {None, record.get("driver_number")}
    )


# --- which sessions each mode means ---


class Case(NamedTuple):
    """Options, with `{NNNNN}` for the day of a session, an endpoint of this case's own, and what they mean."""

    options: str
    endpoint: str
    sessions: list[int]
    said: str = ""
    driver: int | None = None


_HELD = [session for session in _BEGUN if session != _CANCELLED]
_CASES = {
    "latest N": Case("--mode latest --num-sessions 2", "laps", [70004, 70005], "latest 2 of 16 sessions", _DRIVER),
    "latest": Case("--mode latest", "weather", _HELD[-10:], r"session 69011 \(.* was cancelled and is none"),
    "year": Case("--mode year --year 2024", "race_control", _BEGUN[:12], "69011 .* was cancelled; what there is"),
    "days": Case("--mode manual --date {69002} --date {69012}", "team_radio", [69002, 69003, 69012]),
    "meeting": Case("--meeting-key 7001", "stints", [70001, 70002], "", _DRIVER),
}  # fmt: skip


@pytest.mark.parametrize("case", _CASES.values(), ids=_CASES)
def test_what_a_mode_means_is_loaded_with_the_requests_that_plan_foretells(season: Season, case: Case) -> None:
    days = re.sub(r"\{(\d+)\}", lambda place: _day(season, int(place[1])), case.options)
    drivers = [] if case.driver is None else ["--driver", str(case.driver)]
    arguments = [*days.split(), "--endpoint", case.endpoint, *drivers]

    planned, lines = _plan(season, *arguments)
    load = _load(season.loader, season.api, *arguments)

    assert [session["session_key"] for session in planned["sessions"]] == case.sessions
    assert planned["total"]["requests"] == len(load.of_sessions)
    assert not planned["total"]["requests_are_an_estimate"]
    assert load.asked == [(case.endpoint, session) for session in case.sessions]
    assert len(load.of_sessions) == len({session_meeting(session) for session in case.sessions})
    assert _stored(season, case.endpoint) == _served(season, case.endpoint, case.sessions, case.driver)
    assert re.search(case.said, lines)
    assert re.search(case.said, load.output)


def session_meeting(session: int) -> int:
    """Return which meeting a session is of: those of 2024 have four, those of 2025 two."""
    year, number = divmod(session - 1, 1000)
    return year * 100 + number // (4 if year == 69 else 2)


def test_all_means_every_session_that_has_begun(season: Season) -> None:
    assert season.first_load.asked == [("drivers", session) for session in _BEGUN]
    assert _stored(season, "drivers") == _served(season, "drivers", _HELD)
    assert str(_TO_COME) not in season.first_load.output, "all means those that have begun, so nothing is left out"


def test_the_file_can_choose_days_as_the_command_line_does(season: Season) -> None:
    days = f'mode = "manual"\ndate = [{_day(season, 69005)}, "{_day(season, 70002)}"]\nendpoint = "session_result"\n'
    file = season.loader.folder / "days.toml"
    file.write_text(days, encoding="utf-8")
    planned, _ = _plan(season, "--config", str(file))
    load = _load(season.loader, season.api, "--config", str(file))
    assert load.asked == [("session_result", session) for session in (69005, 70002)]
    assert planned["total"]["requests"] == 2


def test_python_loads_the_latest_in_the_same_words(season: Season, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in season.loader.environment.items():
        monkeypatch.setenv(name, value)
    before = len(season.api.log())
    result = f1hbase.load(mode="latest", num_sessions=2, endpoint="starting_grid")
    assert (result.exit_code, result.overall.sessions) == (0, {"2025#7002#70004", "2025#7003#70005"})
    wanted = [*_PLAN, ("starting_grid", (70004,)), ("starting_grid", (70005,))]
    assert sorted(_requests(season.api, before)) == wanted


# --- what plan knows ---


def test_plan_is_exact_for_a_whole_session_and_learns_from_it_what_a_like_one_will_be(season: Season) -> None:
    whole = ["--session-key", str(_FIRST_RACE), "--window", "30s"]
    planned, _ = _plan(season, *whole)
    load = _load(season.loader, season.api, *whole)
    assert planned["total"]["requests"] == len(load.of_sessions)
    requests = Counter(endpoint for endpoint, _ in load.of_sessions)
    assert (requests["car_data"], requests["location"]) == (2, 2), "of a minute of session, all drivers at once"

    endpoints = ["car_data", "location", "intervals"]
    options = [word for endpoint in endpoints for word in ("--endpoint", endpoint)]
    told = season.loader.run("plan", "--session-key", str(_LAST_RACE_OF_2024), *options)
    expected = re.search(r"^about ([\d,]+) rows, about .* to receive$", told, re.MULTILINE)
    assert expected, told
    actual = sum(_served(season, endpoint, [_LAST_RACE_OF_2024]).total() for endpoint in endpoints)
    assert int(expected[1].replace(",", "")) == pytest.approx(actual, rel=0.1)
    assert re.search(rf"{_LAST_RACE_OF_2024} Race .* 3 +~{expected[1]} +~", told)
    assert "~ is an estimate, learnt from" in told


# --- what is left out, and what goes on ---


def test_what_may_still_grow_is_not_done_and_asked_for_again(season: Season) -> None:
    wanted = ["--meeting-key", "7003", "--driver", str(_DRIVER), "--endpoint", "car_data", "--endpoint", "pit"]
    planned, lines = _plan(season, *wanted)
    first = _load(season.loader, season.api, *wanted)
    # Samples are asked for up to the present second, so that two loads within one have nothing between them.
    loaded = int(time.time())
    while int(time.time()) == loaded:
        time.sleep(0.01)
    second = _load(season.loader, season.api, *wanted)

    # All of the time up to now, and the second time from then on.
    asked = [("car_data", _GOING_ON), ("pit", _GOING_ON)]
    assert sorted(set(first.asked)) == sorted(set(second.asked)) == asked
    assert planned["total"]["units"] == 2
    for output in (lines, first.output, second.output):
        assert re.search(r"\[WARNING\] .* session 70005 \(.*, Practice 1\) is going on until .* UTC: what", output)
        assert re.search(r"\[WARNING\] .* session 70006 .* not begun \(.*\) and is left out; a load after that", output)
    for output in (first.output, second.output):
        assert re.search(r"all that there was is loaded; session 70005 .* still going on: load again after", output)
    assert set(_statuses(season, "car_data")) <= {"provisional", "partial"}
    assert _statuses(season, "pit") == ["partial"]
    served = _served(season, "car_data", [_GOING_ON], _DRIVER)
    assert _stored(season, "car_data")[_GOING_ON] == served[_GOING_ON]


def _statuses(season: Season, endpoint: str) -> list[str]:
    """Return the status of the units of the session that goes on, in order of time (the key of an open side is -)."""
    connection = happybase.Connection(season.hbase.host, season.hbase.port)
    prefix = f"unit#2025#7003#{_GOING_ON}#{endpoint}#".encode()
    rows = connection.table(f"{_PREFIX}_f1_reports").scan(row_prefix=prefix, columns=["meta:status"])
    found = [cells[b"meta:status"].decode() for _, cells in rows]
    connection.close()
    return found


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        ("plan --session-key 70006", 2, r"\[ERROR\] .* session 70006 \(.*, Race\) has not begun .*Load it after that"),
        ("--year 2023", 2, r"no session for --year 2023\. It has the seasons since 2023; http.*/sessions lists"),
        ("--session-key 70002 --endpoint pit --driver 99", 0,
         r"\[WARNING\] .* no record of driver 99 in pit of these sessions; the endpoint 'drivers' lists those"),
    ],
)  # fmt: skip
def test_what_is_left_out_is_named_with_the_way_out(
    season: Season, arguments: str, exit_code: int, message: str
) -> None:
    output = season.loader.run(*arguments.split(), exit_code=exit_code)
    assert re.search(message, output), output
