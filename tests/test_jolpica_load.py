"""`load --from jolpica` as a user runs it, into a real HBase and into landing zones, killed and run again."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from cli import Loader, loader_of
from faults.kill_history import history_loader, kill_and_resume, standings_differ
from hbase_server import LocalHBase
from history_api import entries_of, serving_in_thread
from replay_server import ReplayServer
from tables import reports, rows_by_family, scan, values
from weekend import simulate

from f1hbase.model.catalog import HISTORY_ENDPOINTS
from simulator.history import History, Scale
from simulator.history_server import HistoryFaults

pytestmark = pytest.mark.hbase

_YEARS = range(1996, 1999)
_HISTORY = History(7, Scale(cars=6, laps=3, rounds=3, first=_YEARS[0], last=_YEARS[-1]))

Rows = dict[bytes, dict[bytes, bytes]]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving_in_thread(_HISTORY) as address:
        yield address


@pytest.fixture(scope="module")
def truth(hbase: LocalHBase, url: str, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """What an undisturbed load makes of all seasons."""
    loader = history_loader(hbase, tmp_path_factory.mktemp("truth"), url, "historytruth")
    loader.run("load", "--from", "jolpica")
    return _table(hbase, "historytruth")


def _table(hbase: LocalHBase, prefix: str) -> Rows:
    return values(scan(hbase.port, f"{prefix}_f1_history"))


def _expected(history: History) -> dict[str, int]:
    """Return how many rows each family has, counted where the simulator keeps its entries."""
    counts: Counter[str] = Counter()
    for year in history.years:
        for name, number in entries_of(history.season(year)).items():
            counts[HISTORY_ENDPOINTS[name].family] += number
    return dict(+counts)


def test_all_seasons_are_in_the_table(hbase: LocalHBase, truth: Rows) -> None:
    cells = scan(hbase.port, "historytruth_f1_history")
    assert rows_by_family(cells) == _expected(_HISTORY)


@pytest.mark.parametrize("seed", [1])
def test_killed_anywhere_and_run_again_the_table_is_the_same(
    hbase: LocalHBase, truth: Rows, tmp_path: Path, table_prefix: str, seed: int
) -> None:
    killed = kill_and_resume(hbase, tmp_path, _HISTORY, table_prefix, seed, kills=1)
    assert killed
    assert _table(hbase, table_prefix) == truth


def test_the_standings_after_the_last_race_are_the_sum_of_the_points(truth: Rows) -> None:
    assert standings_differ(truth, _YEARS, excluded={1997}) == []


def test_what_was_loaded_is_verified_rolled_back_and_loaded_again(
    hbase: LocalHBase, url: str, tmp_path: Path, table_prefix: str
) -> None:
    loader = history_loader(hbase, tmp_path, url, table_prefix)
    loader.run("load", "--from", "jolpica", "--year", "1996", "--year", "1997")
    before = _table(hbase, table_prefix)
    assert "OK:" in loader.run("verify", "--deep")
    assert "199702" in loader.run("status")

    loader.run("rollback", "--session-key", "199702", "--yes")
    left = _table(hbase, table_prefix)
    assert left == {key: cells for key, cells in before.items() if not (key + b"#").startswith(b"1997#2#")}
    assert "OK:" in loader.run("verify"), "what is rolled back on purpose is not missed"

    assert "all that was asked for is loaded" in loader.run("load", "--from", "jolpica", "--year", "1997")
    assert _table(hbase, table_prefix) == before

    run = min(reports(hbase.port, table_prefix, "run")).partition("#")[2]
    loader.run("rollback", "--run", run, "--yes")
    assert {key.split(b"#")[:2] == [b"1997", b"2"] for key in _table(hbase, table_prefix)} == {True}


def test_a_damaged_cell_is_found(hbase: LocalHBase, url: str, tmp_path: Path, table_prefix: str) -> None:
    import happybase

    loader = history_loader(hbase, tmp_path, url, table_prefix)
    loader.run("load", "--from", "jolpica", "--session-key", "199601", "--endpoint", "results")
    key = next(iter(_table(hbase, table_prefix)))
    connection = happybase.Connection("127.0.0.1", hbase.port)
    try:
        connection.table(f"{table_prefix}_f1_history").put(key, {b"raceresult:points": b"99"})
    finally:
        connection.close()
    assert "are not those that were stored" in loader.run("verify", "--deep", exit_code=1)


def test_races_that_openf1_has_too_bear_its_keys(hbase: LocalHBase, tmp_path: Path, table_prefix: str) -> None:
    simulate(tmp_path / "weekends", meetings=2)
    with ReplayServer(tmp_path / "weekends") as api:
        loader = loader_of(hbase, tmp_path / "work", api.url, table_prefix)
        loader.run("load", "--endpoint", "sessions")
        sessions = [
            {column.decode(): value.decode() for column, value in cells.items()} | {"key": key.decode()}
            for key, cells in values(scan(hbase.port, f"{table_prefix}_f1_data")).items()
        ]
    # Jolpica's races are on the days of OpenF1's.
    races = [one for one in sessions if one.get("session:session_name") == "Race"]
    history = History(1, Scale(cars=4, laps=2, rounds=3, first=2024, last=2025))
    for race, made in zip(races, history.season(2025).races, strict=False):
        day, time = race["session:date_start"].split("T")
        made.entry["date"], made.entry["time"] = day, f"{time[:8]}Z"
    with serving_in_thread(history) as url:
        history_loader(hbase, tmp_path / "work", url, table_prefix).run("load", "--from", "jolpica", "--year", "2025")
    stored = _table(hbase, table_prefix)
    joined = [
        f"2025#{stored[key][b'race:openf1_meeting_key'].decode()}#{stored[key][b'race:openf1_session_key'].decode()}"
        for key in (b"2025#1", b"2025#2")
    ]
    assert joined == [race["key"] for race in races]
    assert b"race:openf1_meeting_key" not in stored[b"2025#3"]


@pytest.mark.parametrize("layout", ["units", "extractor", "dated"])
def test_a_landing_zone_of_each_layout_holds_what_hbase_does(
    hbase: LocalHBase, url: str, truth: Rows, tmp_path: Path, table_prefix: str, layout: str
) -> None:
    loader = history_loader(hbase, tmp_path, url, table_prefix)
    zone = str(tmp_path / "zone")
    loader.run("load", "--from", "jolpica", "--year", "1997", "--to", zone, "--layout", layout)
    assert "OK:" in loader.run("verify", "--to", zone, "--deep")
    loader.run("load", "--from", zone, "--to", "hbase")
    assert _table(hbase, table_prefix) == {key: cells for key, cells in truth.items() if key.startswith(b"1997")}
    if layout == "dated":
        answers = sorted(Path(zone).glob("raw/*/jolpica/*.json"))
        assert len(answers) > 10
        assert all("MRData" in json.loads(answer.read_bytes()) for answer in answers), "byte for byte"


def test_answers_by_date_that_nothing_describes_are_loaded_and_what_lacks_a_page_is_named(
    hbase: LocalHBase, url: str, truth: Rows, tmp_path: Path, table_prefix: str
) -> None:
    loader = history_loader(hbase, tmp_path, url, table_prefix)
    zone, bare = tmp_path / "zone", tmp_path / "bare"
    loader.run("load", "--from", "jolpica", "--year", "1997", "--to", str(zone), "--layout", "dated")
    shutil.copytree(zone / "raw", bare / "raw")  # neither _f1hbase.json nor _state/
    loader.run("load", "--from", str(bare), "--to", "hbase")
    assert _table(hbase, table_prefix) == {key: cells for key, cells in truth.items() if key.startswith(b"1997")}

    # Of the results the first page alone, as if there were another one.
    for path in bare.rglob("*.json"):
        content = json.loads(path.read_bytes())["MRData"]
        if content["url"].rstrip("/").endswith("1997/results"):
            path.write_text(json.dumps({"MRData": content | {"total": str(int(content["total"]) + 1)}}))
    printed = loader.run("load", "--from", str(bare), "--to", "hbase", "--refresh", exit_code=None)
    assert re.search(r"of \d+ entries of '.*1997/results' in '.*bare' only the first \d+ are there", printed)
    assert "MRData" not in printed


def test_a_limit_that_is_refused_an_outage_and_a_change_between_pages_lose_nothing(
    hbase: LocalHBase, truth: Rows, tmp_path: Path, table_prefix: str
) -> None:
    faults = HistoryFaults(left={"results": ("503", 2), "laps": ("cut", 2), "drivers": ("page", 1)})
    with serving_in_thread(_HISTORY, faults) as url:
        loader = history_loader(hbase, tmp_path, url, table_prefix)
        loader.run("load", "--from", "jolpica", "--year", "1996")
    assert _table(hbase, table_prefix) == {key: cells for key, cells in truth.items() if key.startswith(b"1996")}


def test_a_wrong_word_is_one_line_with_the_way_out(url: str, tmp_path: Path) -> None:
    loader = Loader(tmp_path, {"F1HBASE_JOLPICA_URL": url, "XDG_STATE_HOME": str(tmp_path / "state")})
    mistakes: Mapping[str, tuple[str, ...]] = {
        "jolpica has no such records. It has seasons": ("--endpoint", "laps"),
        "the first season of Formula 1 was 1950": ("--year", "1949"),
        "Jolpica names drivers by words": ("--driver", "44"),
        "its fifth race the session key 199105": ("--session-key", "199899"),
    }
    for words, arguments in mistakes.items():
        output = loader.run("plan", "--from", "jolpica", "--to", str(tmp_path / "zone"), *arguments, exit_code=2)
        assert words in output
        assert "Traceback" not in output
    assert "openf1 has no such records" in loader.run("plan", "--endpoint", "results", exit_code=2)


def test_plan_says_requests_and_hours_at_the_limits(url: str, tmp_path: Path) -> None:
    loader = Loader(tmp_path, {"F1HBASE_JOLPICA_URL": url, "XDG_STATE_HOME": str(tmp_path / "state")})
    output = loader.run("plan", "--from", "jolpica", "--to", str(tmp_path / "zone"), "--rate", "4/s,500/h")
    assert "9 sessions" in output
    assert re.search(r"in about [\d,]+ requests", output)
    assert "at the source's limits (4/s,500/h)" in output
    assert "by what races usually have" in output
