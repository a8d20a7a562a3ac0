"""`verify`: what differs between the reports and the table is found, named, and nothing else is."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import happybase
import pytest
from cli import ENTRY_POINT, Loader
from f1hbase.cli.scan_progress import make_scan_display
from hbase_server import LocalHBase, free_ports
from replay_server import ReplayServer
from samples import END, START
from tables import source_identities

from f1hbase.cli.options import Settings, defaults
from f1hbase.destinations.hbase import HBaseSink
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.coverage import Status, UnitState
from f1hbase.model.units import ALL_TIME, CHECKSUM_MODULUS, Answer, Scope, Unit, Window, slice_time
from f1hbase.operations.verify.reconcile import Difference, FamilyCount, Kind, Reconciliation
from f1hbase.operations.verify.report import Depth, ScopeResult, Verification, verdict, verify_json, verify_lines
from f1hbase.operations.verify.row_counter import rows_in
from f1hbase.operations.verify.run import verify
from f1hbase.operations.verify.sample import Sample
from f1hbase.operations.verify.scope import RequestedScope, requested_scopes
from f1hbase.state.hbase.reports import HBaseReports
from f1hbase.stores.hbase.codec import Row, checksum
from f1hbase.stores.hbase.connector import HBaseConnector, find_gateways
from f1hbase.stores.hbase.schema import Tables, ensure_tables

_COMMANDS = ENTRY_POINT.parent / "scripts" / "bin"
_YEAR = 2025
_PREFIX = "verify"
_RACE = Scope(2024, 1240, 9558)
_LATER = END + timedelta(days=9)
_Cells = dict[bytes, bytes]


# --- one load, damaged by hand ---


@dataclass
class Loaded:
    """A good table: two sessions of a simulated weekend, and where they came from."""

    loader: Loader
    settings: Settings
    api: ReplayServer
    connection: happybase.Connection
    folder: Path

    def table(self, name: str) -> happybase.Table:
        return self.connection.table(f"{_PREFIX}_f1_{name}")

    def keys(self, name: str, pattern: str, family: str) -> list[bytes]:
        """The keys of the rows that match a pattern and have cells in a family, in order."""
        rows = self.table(name).scan(columns=[family.encode()], batch_size=5000)
        return [key for key, _ in rows if re.fullmatch(pattern, key.decode())]

    @contextmanager
    def changed(self, name: str, key: bytes) -> Iterator[happybase.Table]:
        """Let a row be changed, and put it back as it was."""
        table = self.table(name)
        before: _Cells = table.row(key)
        try:
            yield table
        finally:
            table.delete(key)
            if before:
                table.put(key, before)

    def differences(self, depth: Depth | None = None, **settings: object) -> list[Difference]:
        return verify(replace(self.settings, **settings), None, depth).differences  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def loaded(hbase: LocalHBase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    folder = tmp_path_factory.mktemp("verify")
    arguments = ["--meetings", "1", "--sessions", "practice,race", "--minutes", "1", "--drivers", "3"]
    subprocess.run(
        [sys.executable, "-m", "simulator", "make", str(folder / "api"), "--year", str(_YEAR), *arguments],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    with ReplayServer(folder / "api") as api:
        environment = {
            "F1HBASE_HBASE_HOST": hbase.host,
            "F1HBASE_HBASE_PORT": str(hbase.port),
            "F1HBASE_API_URL": api.url,
            "F1HBASE_TABLE_PREFIX": _PREFIX,
            "F1HBASE_WINDOW": "30s",
            "XDG_STATE_HOME": str(folder / "state"),
        }
        loader = Loader(folder, environment)
        loader.run("--year", str(_YEAR))
        settings = defaults(
            hbase_host=hbase.host, hbase_port=hbase.port, table_prefix=_PREFIX, api_url=api.url,
            patience=timedelta(0), max_retries=0,
        )  # fmt: skip
        connection = happybase.Connection(hbase.host, hbase.port)
        try:
            yield Loaded(loader, settings, api, connection, folder)
        finally:
            connection.close()


def _a_car_row(loaded: Loaded) -> bytes:
    """A row in the midst of a driver's samples."""
    keys = loaded.keys("data", r".*#\d+#2025-.*", "car")
    driver = keys[len(keys) // 2].rpartition(b"#")[0] + b"#"
    mine = [key for key in keys if key.startswith(driver)]
    return mine[len(mine) // 2]


def _unit_of(loaded: Loaded, car_row: bytes) -> str:
    """The name of the unit that a car row belongs to, found without any code of `verify`."""
    *scope, driver, date = car_row.decode().split("#")
    moment = datetime.fromisoformat(date)
    for key in loaded.keys("reports", rf"unit#{'#'.join(scope)}#car_data#{driver}#.*", "meta"):
        start, end = key.decode().split("#")[-2:]
        if (start == "-" or datetime.fromisoformat(start) <= moment) and (
            end == "-" or moment < datetime.fromisoformat(end)
        ):
            return f"car_data session {scope[2]} driver {driver} {start} to {end}"
    raise AssertionError(car_row)


@pytest.mark.hbase
@pytest.mark.parametrize("depth", [[], ["--deep"]])
def test_a_good_table_is_told_so_with_the_rows_of_each_endpoint(loaded: Loaded, depth: list[str]) -> None:
    found = json.loads(loaded.loader.run("verify", "--json", *depth))
    assert (found["ok"], found["deep"], found["differences"]) == (True, bool(depth), [])
    rows: dict[str, int] = {}
    for session in found["sessions"]:
        for name, endpoint in session["endpoints"].items():
            family = ENDPOINTS[name].family
            rows[family] = rows.get(family, 0) + endpoint["found"]
            assert endpoint["reported"] == endpoint["found"]
    assert {family: number for family, number in rows.items() if number} == source_identities(loaded.folder / "api")
    assert found["found"] == found["reported"] == sum(rows.values())


@pytest.mark.hbase
def test_a_deleted_row_is_found_and_told_for_people(loaded: Loaded) -> None:
    row = _a_car_row(loaded)
    session = row.decode().split("#")[2]
    with loaded.changed("data", row) as table:
        table.delete(row, columns=[b"car"])
        output = loaded.loader.run("verify", exit_code=1)
        assert loaded.differences(session_key=(int(session),), endpoint=("laps",)) == []
    assert re.search(rf"{re.escape(_unit_of(loaded, row))}: 1 of \d+ rows is missing", output)
    assert re.search(rf"{session}  .* 1 DIFFERENCE\n +car_data .* 1 DIFFERENCE\n", output)
    assert "NOT AS IT SHOULD BE: 1 difference in 1 of 2 sessions" in output.splitlines()[-1]
    assert "load --refresh" in output


@pytest.mark.hbase
def test_a_unit_whose_line_is_gone_is_found_with_the_rows_that_it_spoke_of(loaded: Loaded) -> None:
    line = loaded.keys("reports", r"unit#.*#location#\d+#.*#-", "meta")[0]
    rows = int(loaded.table("reports").row(line)[b"stats:rows"])
    session, driver, start = re.findall(r"#(\d+)#location#(\d+)#(.*)#-", line.decode())[0]
    with loaded.changed("reports", line) as table:
        table.delete(line)
        (difference,) = loaded.differences()
    assert difference.kind is Kind.NEVER
    assert difference.found == rows > 0
    assert str(difference).startswith(f"location session {session} driver {driver} {start} to -: ")


@pytest.mark.hbase
def test_a_session_of_which_every_line_is_gone_is_found(loaded: Loaded) -> None:
    row = _a_car_row(loaded)
    scope = "#".join(row.decode().split("#")[:3])
    lines = loaded.keys("reports", rf"unit#{scope}#.*", "meta")
    table = loaded.table("reports")
    before = dict(table.rows(lines))
    for line in lines:
        table.delete(line)
    try:
        found = loaded.differences()
    finally:
        for line, cells in before.items():
            table.put(line, cells)
    # Nobody is known to have driven, so the samples of all are one.
    assert {difference.kind for difference in found} == {Kind.NEVER}
    assert {difference.endpoint for difference in found} == {name for name in ENDPOINTS if name != "meetings"}
    assert sum(difference.found or 0 for difference in found) == sum(
        int(cells.get(b"stats:rows", b"0")) for cells in before.values()
    )


@pytest.mark.hbase
@pytest.mark.parametrize(
    ("family", "change", "kind", "text"),
    [
        ("car", (r"\+00:00", "1+00:00"), Kind.EXTRA_ROWS, r"1 row too many: [\d,]+ where the reports say [\d,]+"),
        ("car", (r"#\d+#2025", "#99#2025"), Kind.STRAY, r"driver 99: no unit of the reports speaks of 1 row, such as"),
        ("car", (r"#2025-", "#0#2025-"), Kind.KEYS, "no endpoint makes such row keys in the family 'car': 1 row"),
        ("laps", (r"#2025-.*", "#99"), Kind.EXTRA_ROWS, "laps session .*: 1 row too many"),
        ("car", (r"^2025#\d+#\d+", "2025#1#2"), Kind.STRAY, "car_data session 2 .*no unit of the reports speaks of"),
        ("laps", (r"(#\d+)#\d+#2025-.*", r"\1"), Kind.KEYS, "session .*: its own row has cells of laps"),
        ("laps", (r".*", "laps of honour"), Kind.KEYS, "the row b'laps of honour' is none that f1hbase makes"),
    ],
)  # fmt: skip
def test_a_row_too_many_is_found_wherever_it_is(
    loaded: Loaded, family: str, change: tuple[str, str], kind: Kind, text: str
) -> None:
    key = re.sub(*change, _a_car_row(loaded).decode(), count=1).encode()
    with loaded.changed("data", key) as table:
        table.put(key, {f"{family}:{'rpm' if family == 'car' else 'st_speed'}".encode(): b"1"})
        (difference,) = loaded.differences()
    assert difference.kind is kind
    assert re.search(text, str(difference))


@pytest.mark.hbase
@pytest.mark.parametrize("change", ["changed", "deleted", "added"])
def test_a_cell_that_is_not_as_it_was_stored_is_found_by_deep_alone(loaded: Loaded, change: str) -> None:
    row = _a_car_row(loaded)
    with loaded.changed("data", row) as table:
        if change == "deleted":
            table.delete(row, columns=[b"car:rpm"])
        else:
            table.put(row, {b"car:rpm" if change == "changed" else b"car:boost": b"15001"})
        assert loaded.differences() == []
        (difference,) = loaded.differences(Depth(deep=True))
    assert difference.kind is Kind.CELLS
    assert str(difference).startswith(f"{_unit_of(loaded, row)}: the cells of its ")


@pytest.mark.hbase
@pytest.mark.parametrize(
    ("status", "kind", "text"),
    [
        ("failed", Kind.FAILED, r"laps session \d+: failed: HTTP 503: later; [1-9]\d* rows of it in the table"),
        ("partial", Kind.PARTIAL, r"laps session \d+: fetched while it was still going on"),
    ],
)
def test_a_unit_that_is_not_done_is_named_with_the_reason(loaded: Loaded, status: str, kind: Kind, text: str) -> None:
    line = loaded.keys("reports", r"unit#.*#laps#.*", "meta")[-1]
    with loaded.changed("reports", line) as table:
        table.put(line, {b"meta:status": status.encode(), b"errors:last": b"HTTP 503: later"})
        (difference,) = loaded.differences()
    assert difference.kind is kind
    assert re.search(text, str(difference))


@pytest.mark.hbase
def test_a_session_that_a_run_asked_for_and_of_which_nothing_is_there_is_named_once(loaded: Loaded) -> None:
    (run,) = loaded.keys("reports", "run#.*", "meta")
    asked = loaded.table("reports").row(run)[b"meta:sessions"]
    meeting = asked.decode().partition(",")[0].rpartition("#")[0]
    with loaded.changed("reports", run) as table:
        table.put(run, {b"meta:sessions": asked + f",{meeting}#77777".encode()})
        (difference,) = loaded.differences()
    assert difference.kind is Kind.NOTHING
    name = run.decode().removeprefix("run#")
    assert str(difference) == f"session 77777: asked for by run {name}, and nothing of it is loaded"


@pytest.mark.hbase
def test_units_are_compared_with_the_api_cell_by_cell(loaded: Loaded) -> None:
    rows = loaded.keys("data", r".*#weather#.*", "weather")
    scope = rows[0].partition(b"#weather")[0]
    changed, deleted = (key for key in rows[:2])
    added = scope + b"#weather#2025-01-01T00:00:00+00:00"
    one = {"session_key": (int(scope.split(b"#")[2]),), "endpoint": ("weather",)}
    assert loaded.differences(Depth(against_api=3), **one) == []
    with loaded.changed("data", changed) as table, loaded.changed("data", deleted), loaded.changed("data", added):
        humidity = table.row(changed)[b"weather:humidity"]
        table.put(changed, {b"weather:humidity": b"101"})
        table.delete(deleted)
        table.put(added, {b"weather:humidity": b"50"})
        # As many rows as the reports say, so only a comparison of the cells can tell.
        (difference,) = loaded.differences(Depth(against_api=3), **one)
    assert difference.kind is Kind.API
    assert "1 missing, 1 not in the API, 1 differing" in str(difference)
    assert set(difference.examples) == {
        f"row {changed.decode()} has weather:humidity = 101 (API: {humidity.decode()})",
        f"row {deleted.decode()} is not in the table",
        f"row {added.decode()} is not in the API",
    }


@pytest.mark.hbase
def test_a_unit_that_the_api_does_not_give_now_is_named(loaded: Loaded) -> None:
    loaded.api.faults(fail={"weather": 500})
    try:
        found = loaded.differences(Depth(against_api=1), endpoint=("weather",))
    finally:
        loaded.api.faults(fail={})
    assert [difference.kind for difference in found] == [Kind.API]
    assert re.search(r"weather session \d+: cannot be compared with the API: HTTP 500", str(found[0]))


@pytest.mark.hbase
def test_who_is_loading_now_is_said(loaded: Loaded) -> None:
    _, year, meeting, *_ = loaded.keys("reports", r"unit#.*", "meta")[0].decode().split("#")
    row = f"lease#{year}#{meeting}".encode()
    until = datetime.now(UTC) + timedelta(minutes=2)
    lease = {"run": "r7", "host": "elsewhere", "holders": [{"pid": 1, "began": 0.0}], "until": until.isoformat()}
    with loaded.changed("reports", row) as table:
        table.put(row, {b"meta:lease": json.dumps(lease).encode()})
        output = loaded.loader.run("verify", "--meeting-key", meeting, "--endpoint", "laps")
    assert re.search(rf"loading: meeting {meeting} by run r7 .*; differences may be due to that", output)


@pytest.mark.hbase
def test_row_counter_counts_the_whole_table(
    hbase: LocalHBase, table_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = defaults(hbase_host=hbase.host, hbase_port=hbase.port, table_prefix=table_prefix)
    connector = HBaseConnector(find_gateways(settings.gateways))
    tables = Tables(table_prefix)
    ensure_tables(connector, tables)
    pits = [{"meeting_key": 1240, "session_key": 9558, "driver_number": 44, "lap_number": lap} for lap in range(7)]
    outcome = HBaseSink(connector, tables, "r").store(Answer(Unit("pit", _RACE), _LATER, pits))
    HBaseReports(connector, tables.reports).write_units("r", [replace(outcome, rows=8)])
    for name, value in (hbase.environment | {"PATH": f"{_COMMANDS}{os.pathsep}{os.environ['PATH']}"}).items():
        monkeypatch.setenv(name, value)
    (difference,) = verify(settings, None, Depth(row_counter=True)).differences
    assert str(difference) == "the whole table: RowCounter finds 7 rows in the family 'pit', the reports say 8"
    connector.close()


@pytest.mark.hbase
@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["--hbase-port", "{unused}"], 3, "cannot connect to the Thrift gateway"),
        (["--against-api", "1", "--api-url", "http://127.0.0.1:{unused}/v1", "--patience", "0"], 3, "no connection"),
        (["--session-key", "999"], 1, "neither 'verify_f1_reports' nor 'verify_f1_data' knows anything of --session"),
        (["--row-counter"], 2, "needs the command 'hbase', which is not on the PATH"),
        (["--row-counter", "--year", "2025"], 2, "--row-counter counts the whole table"),
    ],
)  # fmt: skip
def test_what_cannot_be_verified_gets_one_clear_line(
    loaded: Loaded, arguments: list[str], exit_code: int, message: str
) -> None:
    unused = str(free_ports(1)[0])
    loader = Loader(loaded.folder, loaded.loader.environment | {"PATH": str(loaded.folder)})
    output = loader.run("verify", *(text.replace("{unused}", unused) for text in arguments), exit_code=exit_code)
    assert message in output
    assert "Traceback" not in output


# --- what the reports claim, and what is counted ---


def state(
    endpoint: str = "car_data",
    rows: int = 0,
    *,
    driver: int | None = None,
    window: Window = ALL_TIME,
    status: Status = Status.DONE,
    fetched: datetime = _LATER,
    drivers: frozenset[int] = frozenset(),
    checksum: int | None = None,
) -> UnitState:
    stats = {"rows": float(rows)}
    return UnitState(_RACE.prefix, endpoint, driver, window, status, drivers, stats, fetched=fetched, checksum=checksum)


def reconciliation(
    *states: UnitState, asked: list[RequestedScope] | None = None, endpoint: str = "car_data"
) -> Reconciliation:
    return Reconciliation(ENDPOINTS[endpoint], _RACE, states, asked or [])


def count(book: Reconciliation, *keys: str, cells: _Cells | None = None) -> Reconciliation:
    """Count rows: what follows the session in their keys."""
    family = FamilyCount([book], len(_RACE.prefix))
    for key in keys:
        family.add(f"{_RACE.prefix}#{key}".encode(), cells)
    assert family.foreign is None
    return book


def sample(driver: int, minutes: float) -> str:
    return f"{driver}#{(START + timedelta(minutes=minutes)).isoformat()}"


def told(book: Reconciliation, *, deep: bool = False) -> list[tuple[Kind, int | None, int | None]]:
    return [(one.kind, one.expected, one.found) for one in book.differences(deep=deep)]


def test_a_row_counts_for_the_unit_of_its_driver_and_time() -> None:
    middle = START + timedelta(minutes=30)
    book = reconciliation(
        state(rows=1, driver=1, window=Window(None, middle)),
        state(rows=1, driver=1, window=Window(middle, None)),
        state(rows=3, driver=44, window=Window(None, middle)),
        state(rows=0, driver=44, window=Window(middle, None)),
    )
    count(book, sample(1, -60), sample(1, 30), sample(44, 0), sample(44, 29.99), sample(44, 10))
    assert told(book) == []
    count(book, sample(44, 30))
    assert told(book) == [(Kind.EXTRA_ROWS, 0, 1)]


def test_keys_that_differ_in_spelling_alone_are_none_of_ours() -> None:
    book = reconciliation(state(driver=4))
    family = FamilyCount([book], len(_RACE.prefix))
    moment = "2024-07-07T14:00:00+00:00"
    strange = [f"4#{moment}#1", f"04#{moment}", "4", "4#a#b", f"four#{moment}", "", "#"]
    for key in (f"4#{moment}", *strange):
        family.add(f"{_RACE.prefix}#{key}".encode())
    assert family.foreign is not None
    assert (family.foreign.rows, book.rows) == (len(strange), 1)


@pytest.mark.parametrize(
    ("endpoint", "key"),
    [
        ("sessions", ""), ("drivers", "44"), ("championship_drivers", "44"), ("laps", "44#3"), ("stints", "44#stint#2"),
        ("championship_teams", "championship_teams#Red Bull%23Racing"), ("weather", "weather#2024-07-07T14:00:00"),
        ("race_control", "race_control#2024-07-07T14:00:00#686dcdf5"), ("overtakes", "overtakes#2024-07-07T14:00#1#44"),
        ("team_radio", "44#2024-07-07T14:00:00"),
    ],
)  # fmt: skip
def test_every_shape_of_key_is_known_to_its_endpoint_alone(endpoint: str, key: str) -> None:
    full = f"{_RACE.prefix}#{key}".rstrip("#").encode()
    books = {name: reconciliation(state(name), endpoint=name) for name in ENDPOINTS if name != "meetings"}
    family = [book for name, book in books.items() if ENDPOINTS[name].family == ENDPOINTS[endpoint].family]
    FamilyCount(family, len(_RACE.prefix)).add(full)
    assert [name for name, book in books.items() if book.rows] == [endpoint]


def test_rows_of_the_other_endpoint_of_a_family_are_passed_over_when_only_one_is_asked_about() -> None:
    family = FamilyCount(
        [reconciliation(state("championship_drivers"), endpoint="championship_drivers")],
        len(_RACE.prefix), [ENDPOINTS["championship_teams"]],
    )  # fmt: skip
    family.add(f"{_RACE.prefix}#championship_teams#Mercedes".encode())
    assert family.foreign is None
    assert family.reconciliations[0].rows == 0


@pytest.mark.parametrize("seconds", [5.0, 5.001, 600.0])
def test_a_gap_above_five_seconds_is_information_and_no_difference(seconds: float) -> None:
    book = count(
        reconciliation(state(rows=3, driver=44), state(rows=1, driver=7)),
        sample(44, 0), sample(44, 1 / 60), sample(44, 1 / 60 + seconds / 60), sample(7, 90),
    )  # fmt: skip
    assert told(book) == []
    gaps = [(44, START + timedelta(seconds=1), seconds)] if seconds > 5 else []
    assert [(gap.driver, gap.after, gap.seconds) for gap in book.longest_gaps] == gaps
    assert book.gaps == len(gaps)


def test_the_longest_of_many_gaps_are_kept() -> None:
    moments = [sum(range(6, 6 + length)) / 60 for length in range(40)]
    book = count(reconciliation(state(rows=40, driver=44)), *(sample(44, minutes) for minutes in moments))
    assert book.gaps == 39
    assert sorted(gap.seconds for gap in book.longest_gaps) == [float(n) for n in range(35, 45)]


def test_rows_that_were_fetched_again_with_other_windows_are_compared_with_the_later_units_alone() -> None:
    quarters, hours = (slice_time(START, END, timedelta(minutes=minutes)) for minutes in (15, 60))
    first = [state(rows=7, driver=44, window=window, fetched=END) for window in quarters]
    again = [state(rows=rows, driver=44, window=window) for rows, window in zip((1, 2), hours, strict=True)]
    book = count(reconciliation(*first, *again), sample(44, 1), sample(44, 61), sample(44, 62))
    assert (told(book), book.reported, book.units) == ([], 3, {"done": 2})


def test_a_unit_that_was_fetched_again_in_part_is_not_compared_but_named() -> None:
    whole = state(rows=9, driver=44, fetched=END)
    late = state(rows=1, driver=44, window=Window(END, None))
    book = count(reconciliation(whole, late), sample(44, 1), sample(44, 500))
    assert told(book) == []
    assert book.units == {"done": 2, "unchecked": 1}
    assert not book.is_exact
    assert told(count(book, sample(44, 501))) == [(Kind.EXTRA_ROWS, 1, 2)]


def test_a_unit_of_all_drivers_is_unchecked_when_one_of_them_was_fetched_again() -> None:
    laps = state("laps", rows=5, fetched=END)
    book = reconciliation(laps, state("laps", rows=2, driver=44), endpoint="laps")
    assert told(count(book, "44#1", "44#2", "7#1")) == []
    assert book.units == {"done": 2, "unchecked": 1}
    everyone = reconciliation(state("laps", rows=2, driver=44, fetched=END), state("laps", rows=3), endpoint="laps")
    assert told(count(everyone, "44#1", "44#2", "7#1")) == []
    assert everyone.units == {"done": 1}


def test_windows_loaded_for_nobody_are_gone_once_each_known_driver_has_been_loaded() -> None:
    nobody = state(fetched=END)
    laps = state("laps", rows=1, drivers=frozenset({44}))
    book = reconciliation(nobody, laps, state(rows=1, driver=44))
    assert told(count(book, sample(44, 1))) == []
    assert book.units == {"done": 1}
    assert told(count(book, sample(99, 1))) == [(Kind.STRAY, 0, 1)]
    interrupted = state(fetched=END, window=Window(None, START))
    assert told(count(reconciliation(interrupted, laps, state(rows=1, driver=44)), sample(44, 1))) == []


def test_a_failure_is_told_unless_other_windows_made_it_good() -> None:
    failed = state(driver=44, status=Status.FAILED)
    halves = [state(driver=44, window=window) for window in (Window(None, START), Window(START, None))]
    assert told(reconciliation(failed, *halves)) == []
    assert told(count(reconciliation(failed, halves[0]), sample(44, 1))) == [(Kind.FAILED, None, 1)]


def test_a_failure_to_find_out_who_drove_is_made_good_by_asking_again_without_storing() -> None:
    failed = state("drivers", status=Status.FAILED)
    windows = replace(state(driver=44), entrants=frozenset({44}))
    asked = [RequestedScope("r", ["car_data"])]
    assert told(reconciliation(failed, windows, asked=asked, endpoint="drivers")) == []
    assert told(reconciliation(failed, state(driver=44), asked=asked, endpoint="drivers")) == [(Kind.FAILED, None, 0)]
    wanted = [RequestedScope("r", ["drivers", "car_data"])]
    assert told(reconciliation(failed, windows, asked=wanted, endpoint="drivers")) == [(Kind.FAILED, None, 0)]


def test_a_provisional_unit_is_as_good_as_a_done_one_and_shown() -> None:
    book = count(reconciliation(state(rows=1, driver=44, status=Status.PROVISIONAL)), sample(44, 1))
    assert (told(book), book.units) == ([], {"provisional": 1})


# --- what should be there ---


def test_windows_never_done_are_named_for_all_drivers_that_lack_them_at_once() -> None:
    laps = state("laps", drivers=frozenset({4, 44}))
    head = Window(None, START)
    book = reconciliation(
        laps, *(state(driver=driver, window=head) for driver in (4, 44)), asked=[RequestedScope("r", ["car_data"])]
    )
    (difference,) = book.differences()
    assert str(difference) == f"car_data session 9558 drivers 4, 44 {Window(START, None)}: never loaded"


@pytest.mark.parametrize(
    ("wish", "drivers"),
    [
        (RequestedScope("r", ["car_data"]), [(4, 44)]),
        (RequestedScope("r", ["car_data"], (44,)), [(44,)]),
        (RequestedScope("r", ["car_data"], (99,)), [(99,)]),
        (RequestedScope("r", ["location"]), []),
    ],
)
def test_what_a_run_asked_for_is_expected_for_the_drivers_it_asked_for(
    wish: RequestedScope, drivers: list[tuple[int, ...]]
) -> None:
    book = reconciliation(state("drivers", drivers=frozenset({4, 44})), asked=[wish])
    assert [difference.drivers for difference in book.differences()] == drivers


def test_what_was_asked_for_by_driver_is_expected_by_driver_where_there_are_any() -> None:
    asked = [RequestedScope("r", ["laps", "weather"], (4, 44))]
    (laps,) = reconciliation(asked=asked, endpoint="laps").differences()
    (weather,) = reconciliation(asked=asked, endpoint="weather").differences()
    assert (laps.drivers, weather.drivers) == ((4, 44), ())


def test_a_driver_of_whom_only_some_is_loaded_is_expected_whole() -> None:
    assert told(reconciliation(state(driver=44, window=Window(START, END)))) == [(Kind.NEVER, None, 0)] * 2


def test_nobody_is_expected_to_have_driven_in_a_session_that_was_cancelled() -> None:
    asked = [RequestedScope("r", ["car_data", "laps"])]
    cancelled = replace(_RACE, cancelled=True)
    assert list(Reconciliation(ENDPOINTS["car_data"], cancelled, [], asked).differences()) == []
    assert told(reconciliation(asked=asked)) == [(Kind.NEVER, None, 0)]
    assert [d.kind for d in Reconciliation(ENDPOINTS["laps"], cancelled, [], asked).differences()] == [Kind.NEVER]


def test_the_settings_of_a_run_say_what_it_asked_for_of_each_session_and_its_meeting() -> None:
    meta = {"endpoint": "laps,pit", "driver": "44,4", "sessions": "2024#1240#9558,2024#1240#9559"}
    asked = requested_scopes(
        [("r1", meta), ("r2", {"endpoint": "", "driver": "", "sessions": "2024#1240#9558"}), ("r0", {})]
    )
    assert sorted(asked) == ["2024#1240#-", "2024#1240#9558", "2024#1240#9559"]
    first, second = asked["2024#1240#9558"]
    assert first == RequestedScope("r1", ("laps", "pit"), (4, 44))
    assert second == RequestedScope("r2", tuple(ENDPOINTS))


# --- cells ---


def test_the_checksum_of_a_unit_is_that_of_its_rows_in_any_order() -> None:
    keys = [sample(44, 1), sample(44, 2)]
    cells = {b"car:rpm": b"11000"}
    rows = [Row(f"{_RACE.prefix}#{key}".encode(), cells) for key in keys]
    total = sum(map(checksum, rows)) % CHECKSUM_MODULUS
    good = reconciliation(state(rows=2, driver=44, checksum=total))
    assert told(count(good, *reversed(keys), cells=cells), deep=True) == []
    bad = reconciliation(state(rows=2, driver=44, checksum=total))
    assert told(count(bad, *keys, cells={b"car:rpm": b"11001"}), deep=True) == [(Kind.CELLS, 2, 2)]
    assert told(bad) == []


# --- the sample ---


def test_the_same_seed_chooses_the_same_units_and_none_that_was_replaced() -> None:
    windows = slice_time(START, END, timedelta(minutes=5))
    old = [state(driver=44, window=window, fetched=END) for window in slice_time(START, END, timedelta(hours=1))]
    book = reconciliation(*old, *(state(driver=44, window=window) for window in windows))

    def choose(size: int, seed: int) -> list[Unit]:
        chosen = Sample(size, seed)
        chosen.offer(_RACE, book)
        return chosen.units

    assert {unit.window for unit in choose(100, 1)} == set(windows)
    assert choose(3, 1) == choose(3, 1)
    assert len({tuple(choose(3, seed)) for seed in range(20)}) > 10


# --- for people and machines ---


def _result(*differences: Difference) -> Verification:
    return Verification(Depth(), [ScopeResult(_RACE, {}, {"laps": 2}, len(differences))], list(differences))


def test_only_the_first_differences_are_shown_and_the_rest_counted() -> None:
    many = [Difference(Kind.FAILED, f"failed: {number}", _RACE, "laps") for number in range(60)]
    lines = list(verify_lines(_result(*many)))
    assert "60 differences:" in lines
    assert "  laps session 9558: failed: 49" in lines
    assert "  laps session 9558: failed: 50" not in lines
    assert "  and 10 more; --json has all" in lines
    assert len(verify_json(_result(*many))["differences"]) == 60
    assert verdict(_result(*many)).startswith("NOT AS IT SHOULD BE: 60 differences in 1 of 1 session")


def test_what_is_in_quarantine_is_told_and_no_difference() -> None:
    result = _result()
    assert any("quarantine: 2 records" in line for line in verify_lines(result))
    assert verdict(result).startswith("OK: ")


def test_nothing_loaded_is_neither_good_nor_bad() -> None:
    assert verdict(Verification(Depth())) == "nothing is loaded yet"


def test_every_kind_of_difference_is_told_with_what_to_do() -> None:
    for kind in Kind:
        lines = list(verify_lines(_result(Difference(kind, "wrong", _RACE, "laps"))))
        assert any(line.startswith(f"  {kind.value}: ") for line in lines[lines.index("what to do:") :])


def test_a_long_scan_says_once_a_minute_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: said.append(record.getMessage()))
    logger = logging.getLogger("f1hbase.cli.scan_progress")
    logger.addHandler(handler)
    monkeypatch.setattr(logger, "level", logging.INFO)
    seconds = iter([0.0, 1.0, 30.0, 61.0, 90.0])
    monkeypatch.setattr("f1hbase.cli.scan_progress.monotonic", lambda: next(seconds))
    try:
        display = make_scan_display(3)
        display.begin(_RACE, 10_000)
        for _ in range(3):
            display.count(3050)
        display.close()
    finally:
        logger.removeHandler(handler)
    assert said == ["session 1 of 3, 6,100 rows counted, 100 rows/s"]


# --- RowCounter ---


@pytest.mark.parametrize(
    ("output", "rows"),
    [
        ("INFO mapreduce.Job: Counters: 30\n\torg...RowCounterMapper$Counters\n\t\tROWS=1234\n\tFile Input\n", 1234),
        ("INFO mapreduce.Job: Counters: 29\n\tFile Input\n\t\tBytes Read=0\n", 0),
    ],
)
def test_the_count_is_read_from_what_row_counter_prints(output: str, rows: int) -> None:
    assert rows_in(output) == rows
