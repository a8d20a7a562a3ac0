"""`verify`: what differs between the reports and the table is found, named, and nothing else is."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import happybase
import pytest
from cli import ENTRY_POINT, Loader
from hbase_server import LocalHBase, free_ports
from replay_server import ReplayServer
from samples import END, WEEK
from tables import source_identities
from verifying import differences, settings_of, simulate

from f1hbase.config import Config
from f1hbase.destinations.base import Batch
from f1hbase.destinations.hbase import HBaseWriter
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.outcomes import Outcome
from f1hbase.model.units import Scope, Unit
from f1hbase.operations.verify.base import Depth
from f1hbase.operations.verify.differences import Difference, Kind
from f1hbase.state.hbase.reports import HBaseReports
from f1hbase.stores.hbase.connector import HBaseConnector, find_gateways
from f1hbase.stores.hbase.schema import Tables, ensure_tables

_COMMANDS = ENTRY_POINT.parent / "scripts" / "bin"
_YEAR = 2025
_PREFIX = "verify"
_RACE = Scope(2024, 1240, 9558)
_LATER = END + WEEK
_Cells = dict[bytes, bytes]


# --- one load, damaged by hand ---


@dataclass
class Loaded:
    """A good table: two sessions of a simulated weekend, and where they came from."""

    loader: Loader
    config: Config
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
            _restore(table, key, before)

    def differences(self, depth: Depth | None = None, **selection: Any) -> list[Difference]:
        return differences(self.config, depth or Depth(), **selection)


def _restore(table: happybase.Table, key: bytes, cells: _Cells) -> None:
    """Make a row what it was. A deletion hides what is put in its millisecond, so that is put until it is seen."""
    added = table.row(key).keys() - cells.keys()
    if added:
        table.delete(key, columns=[*added])
    while table.row(key) != cells:
        table.put(key, cells)


@pytest.fixture(scope="module")
def loaded(hbase: LocalHBase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    folder = tmp_path_factory.mktemp("verify")
    simulate(folder / "api", _YEAR, "--sessions", "practice,race", "--minutes", "1", "--drivers", "3")
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
        config = settings_of(hbase, table_prefix=_PREFIX, api_url=api.url)
        connection = happybase.Connection(hbase.host, hbase.port)
        try:
            yield Loaded(loader, config, api, connection, folder)
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
    *scope, _, date = car_row.decode().split("#")
    moment = datetime.fromisoformat(date)
    for key in loaded.keys("reports", rf"unit#{'#'.join(scope)}#car_data#-#.*", "meta"):
        start, end = key.decode().split("#")[-2:]
        if (start == "-" or datetime.fromisoformat(start) <= moment) and (
            end == "-" or moment < datetime.fromisoformat(end)
        ):
            return f"car_data session {scope[2]} {start} to {end}"
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
    line = loaded.keys("reports", r"unit#.*#location#-#.*#-", "meta")[0]
    rows = int(loaded.table("reports").row(line)[b"stats:rows"])
    session, start = re.findall(r"#(\d+)#location#-#(.*)#-", line.decode())[0]
    with loaded.changed("reports", line) as table:
        table.delete(line)
        (difference,) = loaded.differences()
    assert difference.kind is Kind.NEVER
    assert difference.found == rows > 0
    assert str(difference).startswith(f"location session {session} {start} to -: ")


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
        ("car", (r"#\d+#2025", "#99#2025"), Kind.EXTRA_ROWS, r"car_data session .* to .*: 1 row too many"),
        ("car", (r"#2025-", "#0#2025-"), Kind.FOREIGN, "no endpoint makes such row keys in the family 'car': 1 row"),
        ("laps", (r"#2025-.*", "#99"), Kind.EXTRA_ROWS, "laps session .*: 1 row too many"),
        ("car", (r"^2025#\d+#\d+", "2025#1#2"), Kind.STRAY, "car_data session 2 .*no unit of the reports speaks of"),
        ("laps", (r"(#\d+)#\d+#2025-.*", r"\1"), Kind.FOREIGN, "session .*: its own row has cells of laps"),
        ("laps", (r".*", "laps of honour"), Kind.FOREIGN, "the row b'laps of honour' is none that f1hbase makes"),
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
        ("failed", Kind.FAILED, r"laps session \d+: failed: HTTP 503: later; [1-9]\d* rows of it stored"),
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
def test_a_line_that_was_written_after_a_rollback_counts_as_failed(loaded: Loaded) -> None:
    _, year, meeting, session, *_ = loaded.keys("reports", r"unit#.*#laps#.*", "meta")[-1].decode().split("#")
    row = f"lease#{year}#{meeting}".encode()
    with loaded.changed("reports", row) as table:
        table.put(row, {b"meta:epochs": json.dumps({"sessions": {session: 1}, "deleted_at": 0}).encode()})
        (difference,) = loaded.differences(session_key=session, endpoint="laps")
    assert difference.kind is Kind.FAILED
    assert re.search(r"laps session \d+: failed: rolled back; [1-9]\d* rows of it stored", str(difference))


@pytest.mark.hbase
def test_a_run_is_expected_to_have_loaded_no_more_than_the_sessions_that_it_names(loaded: Loaded) -> None:
    """A run also stores again what is due in other sessions, of which it did not ask for anything else."""
    (run,) = loaded.keys("reports", "run#.*", "meta")
    (pits,) = (key for key in loaded.keys("reports", r"unit#.*#pit#.*", "meta") if b"#70001#" in key)
    cells = loaded.table("reports").row(run)
    race = next(one for one in cells[b"meta:sessions"].decode().split(",") if not one.endswith("#70001"))
    with loaded.changed("reports", run) as table, loaded.changed("reports", pits):
        table.delete(pits)
        assert [one.kind for one in loaded.differences(session_key=70001)] == [Kind.NEVER]
        table.put(run, {b"meta:sessions": race.encode()})
        assert {one.kind for one in loaded.differences(session_key=70001)} <= {Kind.STRAY}
        # The rows of the first versions do not say which sessions they meant.
        table.delete(run, columns=[b"meta:sessions"])
        assert [one.kind for one in loaded.differences(session_key=70001)] == [Kind.NEVER]


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
    assert loaded.differences(Depth(against_source=3), **one) == []
    with loaded.changed("data", changed) as table, loaded.changed("data", deleted), loaded.changed("data", added):
        humidity = table.row(changed)[b"weather:humidity"]
        table.put(changed, {b"weather:humidity": b"101"})
        table.delete(deleted)
        table.put(added, {b"weather:humidity": b"50"})
        # As many rows as the reports say, so only a comparison of the cells can tell.
        (difference,) = loaded.differences(Depth(against_source=3), **one)
    assert difference.kind is Kind.SOURCE
    assert "1 missing, 1 not in openf1, 1 differing" in str(difference)
    assert set(difference.examples) == {
        f"row {changed.decode()} has weather:humidity = 101 (openf1: {humidity.decode()})",
        f"row {deleted.decode()} is not stored",
        f"row {added.decode()} is not in openf1",
    }


@pytest.mark.hbase
def test_a_unit_that_the_api_does_not_give_now_is_named(loaded: Loaded) -> None:
    loaded.api.faults(fail={"weather": 500})
    try:
        found = loaded.differences(Depth(against_source=1), endpoint=("weather",))
    finally:
        loaded.api.faults(fail={})
    assert [difference.kind for difference in found] == [Kind.SOURCE], [*map(str, found)]
    assert re.search(r"weather session \d+: cannot be compared with openf1: HTTP 500", str(found[0]))


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
    config = settings_of(hbase, table_prefix=table_prefix)
    connector = HBaseConnector(find_gateways(config.settings.gateways))
    tables = Tables(table_prefix)
    ensure_tables(connector, tables)
    pits = [{"meeting_key": 1240, "session_key": 9558, "driver_number": 44, "lap_number": lap} for lap in range(7)]
    unit = Unit("pit", _RACE)
    receipt = HBaseWriter(connector, tables.data).write(Batch(unit, pits))
    outcome = Outcome(unit, _LATER, "openf1", len(pits), receipt=replace(receipt, rows=8))
    HBaseReports(connector, tables.reports).write_units("r", [outcome])
    for name, value in (hbase.environment | {"PATH": f"{_COMMANDS}{os.pathsep}{os.environ['PATH']}"}).items():
        monkeypatch.setenv(name, value)
    (difference,) = differences(config, Depth(row_counter=True))
    assert str(difference) == "RowCounter finds 7 rows in the family 'pit', the reports say 8"
    connector.close()


@pytest.mark.hbase
@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["--hbase-port", "{unused}"], 3, "cannot connect to the Thrift gateway"),
        (["--against-api", "1", "--api-url", "http://127.0.0.1:{unused}/v1", "--patience", "0"], 3, "no connection"),
        (["--session-key", "999"], 1, "'verify_f1_reports') has nothing of --session-key 999"),
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
