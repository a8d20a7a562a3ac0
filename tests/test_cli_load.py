"""The main job as a user runs it: the entry point, a replay server, a real HBase."""

from __future__ import annotations

import gzip
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import happybase
import psutil
import pytest
from cli import Loader
from hbase_server import LocalHBase, free_ports
from replay_server import ReplayServer
from tables import rows_by_family, scan, source_identities, source_records, values

from f1hbase.model.catalog import ENDPOINTS
from f1hbase.stores.hbase.codec import decode, encode

pytestmark = pytest.mark.hbase

_YEAR = 2025


@pytest.fixture(scope="module")
def weekend(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two simulated meetings of a practice and a race each, a minute long, with three drivers."""
    folder = tmp_path_factory.mktemp("weekend")
    arguments = ["--meetings", "2", "--sessions", "practice,race", "--minutes", "1", "--drivers", "3"]
    subprocess.run(
        [sys.executable, "-m", "simulator", "make", str(folder), "--year", str(_YEAR), *arguments],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def api(weekend: Path) -> Iterator[ReplayServer]:
    with ReplayServer(weekend) as server:
        yield server


MakeLoader = Callable[[str], Loader]


@pytest.fixture
def loader_for(hbase: LocalHBase, table_prefix: str, tmp_path: Path) -> MakeLoader:
    """Makes a loader for an API address, with tables of its own."""

    def make(url: str) -> Loader:
        return Loader(
            tmp_path,
            {
                "F1HBASE_HBASE_HOST": hbase.host,
                "F1HBASE_HBASE_PORT": str(hbase.port),
                "F1HBASE_API_URL": url,
                "F1HBASE_TABLE_PREFIX": table_prefix,
                "F1HBASE_RETRY_DELAY": "0",
                "F1HBASE_WINDOW": "30s",
                "XDG_STATE_HOME": str(tmp_path / "state"),
            },
        )

    return make


@pytest.fixture
def loader(loader_for: MakeLoader, api: ReplayServer) -> Loader:
    return loader_for(api.url)


def _requests_of(api: ReplayServer, before: int) -> list[str]:
    return [entry["path"].rpartition("/")[2] for entry in api.log()[before:] if entry["path"].startswith("/v1/")]


def test_every_record_of_every_endpoint_arrives(
    loader: Loader, weekend: Path, hbase: LocalHBase, table_prefix: str
) -> None:
    output = loader.run("--year", str(_YEAR))

    table = scan(hbase.port, f"{table_prefix}_f1_data")
    assert rows_by_family(table) == source_identities(weekend)
    stored = values(table)
    for name, record in source_records(weekend):
        key, _ = encode(ENDPOINTS[name], _YEAR, record)
        decoded = decode(ENDPOINTS[name], key, stored[key])
        assert {k: v for k, v in decoded.items() if v is not None} == {k: v for k, v in record.items() if v is not None}
    assert "all that was asked for is loaded" in output
    total = sum(1 for _ in source_records(weekend))
    assert f"records: {total:,}" in output


def test_a_second_run_asks_for_the_plan_alone_and_changes_nothing(
    loader: Loader, api: ReplayServer, hbase: LocalHBase, table_prefix: str
) -> None:
    loader.run("--year", str(_YEAR))
    first = scan(hbase.port, f"{table_prefix}_f1_data")
    before = len(api.log())

    loader.run("--year", str(_YEAR))

    assert sorted(_requests_of(api, before)) == ["meetings", "sessions"]
    assert scan(hbase.port, f"{table_prefix}_f1_data") == first, "timestamps included"


def test_another_window_size_and_more_processes_ask_for_nothing_anew(loader: Loader, api: ReplayServer) -> None:
    loader.run("--year", str(_YEAR))
    before = len(api.log())
    loader.run("--year", str(_YEAR), "--window", "37s", "--processes", "3")
    assert sorted(_requests_of(api, before)) == ["meetings", "sessions"]


def test_what_a_first_run_left_out_is_all_that_a_second_one_asks_for(
    loader: Loader, api: ReplayServer, weekend: Path, hbase: LocalHBase, table_prefix: str
) -> None:
    driver = min(record["driver_number"] for name, record in source_records(weekend) if name == "drivers")
    loader.run("--year", str(_YEAR), "--endpoint", "car_data", "--endpoint", "laps", "--driver", str(driver))
    before = len(api.log())

    loader.run("--year", str(_YEAR))

    again = [entry["query"] for entry in api.log()[before:] if entry["path"].endswith("/car_data")]
    assert again
    assert not [query for query in again if f"driver_number={driver}&" in query]
    assert rows_by_family(scan(hbase.port, f"{table_prefix}_f1_data")) == source_identities(weekend)


def test_a_dry_run_and_a_plan_touch_nothing(loader: Loader, hbase: LocalHBase, table_prefix: str) -> None:
    for arguments in (["plan", "--year", str(_YEAR)], ["--year", str(_YEAR), "--dry-run"]):
        assert re.search(r"4 sessions, \d+ units in (about )?\d+ requests", loader.run(*arguments))
    connection = happybase.Connection(hbase.host, hbase.port)
    assert not [name for name in connection.tables() if name.decode().startswith(f"{table_prefix}_")]
    connection.close()
    assert not (loader.folder / "populate.log").exists()


def test_the_plan_is_what_load_then_asks_for(loader: Loader, api: ReplayServer) -> None:
    loader.run("--year", str(_YEAR), "--endpoint", "drivers")
    planned = re.search(r"4 sessions, ([\d,]+) units in ([\d,]+) requests", loader.run("plan", "--year", str(_YEAR)))
    assert planned is not None
    before = len(api.log())
    loader.run("--year", str(_YEAR))
    made = len(_requests_of(api, before)) - 2  # the plan of the load itself
    assert made == int(planned[2].replace(",", ""))


def test_status_shows_what_is_loaded(loader: Loader, weekend: Path) -> None:
    loader.run("--year", str(_YEAR))
    total = sum(source_identities(weekend).values())
    status = loader.run("status")
    assert f"{total:,} rows, " in status
    assert "0 units failed; 0 records in quarantine" in status
    report = json.loads(loader.run("status", "--json"))
    assert sum(sum(session["rows"].values()) for session in report["sessions"]) == total
    assert report["runs"][0]["meta"]["exit"] == "0"


def test_a_record_without_its_key_is_put_in_quarantine_and_the_rest_is_loaded(
    loader_for: MakeLoader, weekend: Path, tmp_path: Path, hbase: LocalHBase, table_prefix: str
) -> None:
    folder = tmp_path / "spoilt"
    session = next(path.parent for path in weekend.rglob("laps.jsonl.gz"))
    folder.mkdir()
    for name in ("meetings", "sessions", "drivers", "laps"):
        source = next(
            path for path in (session / f"{name}.jsonl.gz", session.parent / f"{name}.jsonl.gz") if path.exists()
        )
        (folder / f"{name}.jsonl").write_bytes(gzip.decompress(source.read_bytes()))
    laps = (folder / "laps.jsonl").read_text(encoding="utf-8").splitlines()
    spoilt = json.loads(laps[0]) | {"lap_number": None}
    (folder / "laps.jsonl").write_text("\n".join([*laps, json.dumps(spoilt)]) + "\n", encoding="utf-8")

    with ReplayServer(folder) as api:
        output = loader_for(api.url).run("--endpoint", "laps", exit_code=1)

    assert "1 record went to quarantine" in output
    assert re.search(
        r"\[ERROR\] .* a record of laps session \d+ goes to quarantine: the key field .lap_number. is missing", output
    )
    reports = values(scan(hbase.port, f"{table_prefix}_f1_reports"))
    key = next(key for key in reports if key.startswith(b"quarantine#"))
    assert json.loads(reports[key][b"meta:record"]) == spoilt
    assert b"lap_number" in reports[key][b"errors:reason"]
    assert len(scan(hbase.port, f"{table_prefix}_f1_data")) == len(laps)


def test_refresh_deletes_the_cell_of_a_field_that_has_become_null(
    loader_for: MakeLoader, weekend: Path, tmp_path: Path, hbase: LocalHBase, table_prefix: str
) -> None:
    records = {name: record for name, record in source_records(weekend) if name in {"meetings", "sessions", "weather"}}
    folder = tmp_path / "changed"
    folder.mkdir()

    def serve_and_load(weather: dict[str, object], *arguments: str) -> dict[bytes, bytes]:
        for name, record in (records | {"weather": weather}).items():
            (folder / f"{name}.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
        with ReplayServer(folder) as api:
            loader_for(api.url).run("--endpoint", "weather", *arguments)
        (row,) = values(scan(hbase.port, f"{table_prefix}_f1_data")).values()
        return row

    weather = dict(records["weather"])
    weather["session_key"] = records["sessions"]["session_key"]
    weather["meeting_key"] = records["sessions"]["meeting_key"]
    assert b"weather:humidity" in serve_and_load(weather)
    changed = weather | {"humidity": None, "rainfall": 1}
    assert serve_and_load(changed, "--refresh")[b"weather:rainfall"] == b"1"
    assert b"weather:humidity" not in serve_and_load(changed)


def test_a_killed_worker_is_replaced_by_one_that_goes_on(
    loader_for: MakeLoader, weekend: Path, hbase: LocalHBase, table_prefix: str
) -> None:
    with ReplayServer(weekend, "--rate", "60/s") as api:
        loader = loader_for(api.url)
        with loader.start("--year", str(_YEAR), "--rate", "50/s") as process:
            assert process.stdout is not None
            output = _read_until(process, "(meeting ", times=2)
            victim = _workers(process)[0]
            victim.kill()
            output += process.stdout.read()
        assert process.returncode == 0, output
        assert re.search(r"its process ended by signal SIGKILL .* a new one goes on in 1 s \(1 of 3\)", output)
        assert json.loads(loader.run("status", "--json"))["runs"][0]["stats"]["restarts"] == "1"
    assert rows_by_family(scan(hbase.port, f"{table_prefix}_f1_data")) == source_identities(weekend)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_load_keeps_what_is_done_leaves_no_process_and_goes_on_later(
    loader_for: MakeLoader, weekend: Path, hbase: LocalHBase, table_prefix: str, number: signal.Signals
) -> None:
    with ReplayServer(weekend) as api:
        loader = loader_for(api.url)
        with loader.start("--year", str(_YEAR), "--rate", "50/s") as process:
            assert process.stdout is not None
            _read_until(process, "(meeting ", times=2)
            workers = _workers(process)
            process.send_signal(number)
            output = process.stdout.read()
        assert process.returncode == 130, output
        assert not [worker for worker in workers if worker.is_running()]
        run = json.loads(loader.run("status", "--json"))["runs"][0]
        assert run["meta"]["exit"] == "130"

        loader.run("--year", str(_YEAR))
    assert rows_by_family(scan(hbase.port, f"{table_prefix}_f1_data")) == source_identities(weekend)


def test_an_endpoint_that_always_fails_is_named_and_asked_again_by_the_next_run(
    loader_for: MakeLoader, weekend: Path
) -> None:
    wanted = ["--year", str(_YEAR), "--endpoint", "weather", "--endpoint", "laps"]
    with ReplayServer(weekend, "--fail", "laps=500") as api:
        output = loader_for(api.url).run(*wanted, "--max-retries", "1", exit_code=1)
    assert re.search(r"\[ERROR\] .* - not loaded: laps session \d+: HTTP 500", output)
    assert "trying once more" in output
    with ReplayServer(weekend) as api:
        loader = loader_for(api.url)
        assert "failed: laps session" in loader.run("status")
        loader.run(*wanted)
        assert {path for path in _requests_of(api, 0) if path in {"laps", "weather"}} == {"laps"}
        assert "0 units failed" in loader.run("status")


def test_the_dialect_of_the_gateway_is_found(
    loader: Loader, weekend: Path, hbase: LocalHBase, table_prefix: str
) -> None:
    hbase.stop_gateway()
    hbase.start_gateway(transport="framed", protocol="compact")
    try:
        loader.run("--year", str(_YEAR), "--endpoint", "laps")
        table = scan(hbase.port, f"{table_prefix}_f1_data", transport="framed", protocol="compact")
        assert rows_by_family(table)["laps"] == source_identities(weekend)["laps"]
    finally:
        hbase.stop_gateway()
        hbase.start_gateway(transport="buffered", protocol="binary")


def test_a_table_that_lacks_a_family_is_refused_with_the_command_that_adds_it(
    loader: Loader, hbase: LocalHBase, table_prefix: str
) -> None:
    connection = happybase.Connection(hbase.host, hbase.port)
    families: dict[str, dict[str, str]] = {
        endpoint.family: {} for endpoint in ENDPOINTS.values() if endpoint.name not in {"pit", "weather"}
    }
    connection.create_table(f"{table_prefix}_f1_data", families)
    output = loader.run("--year", str(_YEAR), exit_code=2)
    alteration = (
        rf"alter '{table_prefix}_f1_data', {{NAME => 'pit', [^}}]*VERSIONS => 1\b[^}}]*}}, {{NAME => 'weather', "
    )
    assert re.search(alteration, output)
    assert len(connection.table(f"{table_prefix}_f1_data").families()) == len(families), "nothing was changed"
    connection.close()


def test_tables_get_one_version_and_the_block_cache(loader: Loader, hbase: LocalHBase, table_prefix: str) -> None:
    loader.run("--year", str(_YEAR), "--endpoint", "meetings")
    connection = happybase.Connection(hbase.host, hbase.port)
    for table in (f"{table_prefix}_f1_data", f"{table_prefix}_f1_reports"):
        for family in connection.table(table).families().values():
            assert family["max_versions"] == 1
            assert family["block_cache_enabled"]
    connection.close()


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["--hbase-port", "{unused}"], 3, r"cannot connect to the Thrift gateway at .*:{unused} \(connection refused"),
        (["--hbase-port", "{api}"], 3, "does not answer in any Thrift dialect"),
        (["--hbase-protocol", "compact", "--hbase-transport", "buffered"], 3, "Leave out --hbase-transport"),
        (["--api-url", "http://127.0.0.1:{unused}/v1", "--patience", "0"], 3, r"no connection \(connection refused"),
        (["--api-url", "http://127.0.0.1:{api}"], 3, "The address of OpenF1 ends in /v1"),
        (["--meeting-key", "999999"], 2, "has no session for --meeting-key 999999"),
        (["--year", "2024"], 2, "has no session for --year 2024"),
        (["--year", "1999"], 2, "no data before 2023"),
        (["--date", "2024-13-01"], 2, "'2024-13-01' is not a date; write it as YYYY-MM-DD"),
        (["--processes", "-1"], 2, "'--processes': -1 is not in the range"),
        (["--log-file", "no/such/folder.log"], 2, "cannot write the log file 'no/such/folder.log': no such file"),
        (["--rate", "fast"], 2, "'fast'"),
        (["--mode", "year"], 2, "--mode year needs the season"),
        (["status"], 1, "nothing has been loaded yet"),
    ],
)  # fmt: skip
def test_wrong_use_gets_one_clear_line(
    loader: Loader, api: ReplayServer, arguments: list[str], exit_code: int, message: str
) -> None:
    places = {"unused": str(free_ports(1)[0]), "api": re.findall(r":(\d+)/", api.url)[0]}

    def fill(text: str) -> str:
        return re.sub(r"\{(\w+)\}", lambda place: places[place[1]], text)

    output = loader.run(*map(fill, arguments), exit_code=exit_code)
    assert re.search(fill(message), output), output
    assert "Traceback" not in output


def test_the_log_file_has_every_request_and_greps_by_level(loader: Loader, api: ReplayServer) -> None:
    before = len(api.log())
    output = loader.run("--year", str(_YEAR), "--endpoint", "laps")
    requests = _requests_of(api, before)
    lines = loader.log.splitlines()
    assert all(re.match(r"\[[A-Z]+\] \d{4}-\d\d-\d\d \d\d:\d\d:\d\d - ", line) for line in lines)
    assert len([line for line in lines if line.startswith("[DEBUG]") and " bytes" in line]) == len(requests)
    assert "\r" not in output
    assert "\x1b" not in output


def _workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The worker processes, not multiprocessing's own helper."""
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if any("spawn_main" in word for word in child.cmdline())]


def _read_until(process: subprocess.Popen[str], text: str, *, times: int) -> str:
    assert process.stdout is not None
    output = ""
    while output.count(text) < times:
        line = process.stdout.readline()
        assert line, f"it ended early: {output}"
        output += line
    return output


def test_a_load_that_cannot_find_out_who_drove_says_so_and_the_next_one_asks_again(
    loader_for: MakeLoader, weekend: Path, hbase: LocalHBase, table_prefix: str
) -> None:
    wanted = ["--year", str(_YEAR), "--endpoint", "pit", "--endpoint", "car_data"]
    with ReplayServer(weekend, "--fail", "drivers") as api:
        output = loader_for(api.url).run(*wanted, "--max-retries", "0", exit_code=1)
    assert "not loaded: drivers session" in output
    with ReplayServer(weekend) as api:
        loader_for(api.url).run(*wanted)
    loaded = rows_by_family(scan(hbase.port, f"{table_prefix}_f1_data"))
    expected = source_identities(weekend)
    assert loaded == {family: expected[family] for family in ("pit", "car")}, "and nothing else"


def _first_records(weekend: Path, *endpoints: str) -> dict[str, list[dict[str, object]]]:
    """The records of the first session that has all of the endpoints, with those of its meeting and itself."""
    (session, *_) = sorted(path.parent for path in weekend.rglob(f"{endpoints[0]}.jsonl.gz"))
    records: dict[str, list[dict[str, object]]] = {
        name: [record for one, record in source_records(session) if one == name] for name in (*endpoints, "sessions")
    }
    place = next(iter(records.values()))[0]
    for name, key in (("sessions", "session_key"), ("meetings", "meeting_key")):
        records[name] = [record for one, record in source_records(weekend) if one == name and record[key] == place[key]]
    return records


@contextmanager
def _serve(folder: Path, records: dict[str, list[dict[str, object]]]) -> Iterator[ReplayServer]:
    folder.mkdir(exist_ok=True)
    for name, lines in records.items():
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    with ReplayServer(folder) as api:
        yield api


@pytest.fixture
def one_session(weekend: Path, tmp_path: Path) -> Iterator[ReplayServer]:
    with _serve(tmp_path / "one-session", _first_records(weekend, "car_data", "drivers")) as api:
        yield api


def test_a_second_run_for_car_data_alone_asks_for_the_plan_alone(
    loader_for: MakeLoader, one_session: ReplayServer, hbase: LocalHBase, table_prefix: str
) -> None:
    loader = loader_for(one_session.url)
    loader.run("--endpoint", "car_data")
    before = len(one_session.log())
    loader.run("--endpoint", "car_data")
    assert sorted(_requests_of(one_session, before)) == ["meetings", "sessions"]
    loaded = rows_by_family(scan(hbase.port, f"{table_prefix}_f1_data"))
    assert loaded.keys() == {"car"}, "who drove is asked for, and not stored"


def test_who_drove_is_remembered_even_if_nothing_else_was_left_to_load(
    loader_for: MakeLoader, one_session: ReplayServer, weekend: Path
) -> None:
    loader = loader_for(one_session.url)
    drivers = {str(record["driver_number"]) for name, record in source_records(weekend) if name == "drivers"}
    loader.run("--endpoint", "car_data", *(word for driver in drivers for word in ("--driver", driver)))
    loader.run("--endpoint", "car_data")
    before = len(one_session.log())
    loader.run("--endpoint", "car_data")
    assert sorted(_requests_of(one_session, before)) == ["meetings", "sessions"]


def test_a_session_cancelled_before_anybody_drove_is_asked_about_once(
    loader_for: MakeLoader, weekend: Path, tmp_path: Path
) -> None:
    records = _first_records(weekend, "laps")
    cancelled = {"sessions": [records["sessions"][0] | {"is_cancelled": True}], "meetings": records["meetings"]}
    with _serve(tmp_path / "cancelled", cancelled) as api:
        loader_for(api.url).run("--endpoint", "car_data")
        before = len(api.log())
        loader_for(api.url).run("--endpoint", "car_data")
        assert sorted(_requests_of(api, before)) == ["meetings", "sessions"]


def test_a_refresh_of_car_data_asks_again_who_drove(
    loader_for: MakeLoader, weekend: Path, tmp_path: Path, hbase: LocalHBase, table_prefix: str
) -> None:
    records = _first_records(weekend, "car_data", "drivers")
    with _serve(tmp_path / "forgetful", records | {"drivers": records["drivers"][1:]}) as api:
        loader_for(api.url).run("--endpoint", "car_data")
    with _serve(tmp_path / "mended", records) as api:
        loader_for(api.url).run("--endpoint", "car_data", "--refresh")
    loaded = scan(hbase.port, f"{table_prefix}_f1_data")
    assert {int(key.split(b"#")[3]) for key in loaded} == {record["driver_number"] for record in records["drivers"]}
    assert len(loaded) == len(records["car_data"])


def test_who_drove_is_asked_for_again_when_all_else_is_done_and_then_nothing_has_failed(
    loader_for: MakeLoader, weekend: Path
) -> None:
    with ReplayServer(weekend, "--fail", "drivers") as api:
        loader = loader_for(api.url)
        wanted = ["--year", str(_YEAR), "--endpoint", "car_data", "--max-retries", "0"]
        with loader.start(*wanted) as process:
            output = _read_until(process, "trying once more", times=1)
            api.faults(fail={})
            assert process.stdout is not None
            output += process.stdout.read()
        assert process.returncode == 0, output
        assert "0 units failed" in loader.run("status")


def test_what_a_refresh_finds_mended_leaves_quarantine_and_what_is_still_bad_stays(
    loader_for: MakeLoader, weekend: Path, tmp_path: Path, hbase: LocalHBase, table_prefix: str
) -> None:
    records = _first_records(weekend, "laps")
    laps = records["laps"]
    bad, worse = laps[0] | {"lap_number": None}, laps[1] | {"lap_number": "two"}

    def load(laps: list[dict[str, object]], *arguments: str, exit_code: int) -> dict[bytes, dict[bytes, bytes]]:
        with _serve(tmp_path / "spoilt", records | {"laps": laps}) as api:
            output = loader_for(api.url).run("--endpoint", "laps", *arguments, exit_code=exit_code)
        assert ("went to quarantine" in output) == bool(exit_code)
        reports = values(scan(hbase.port, f"{table_prefix}_f1_reports"))
        return {key: cells for key, cells in reports.items() if key.startswith(b"quarantine#")}

    first = load([bad, worse, *laps[2:]], exit_code=1)
    (run,) = {cells[b"meta:run"] for cells in first.values()}
    session = records["sessions"][0]
    unit = f"unit#{_YEAR}#{session['meeting_key']}#{session['session_key']}#laps#-#-#-"
    assert [cells[b"meta:unit"].decode() for cells in first.values()] == [unit, unit]
    assert "quarantine: 2 records of laps" in loader_for("http://127.0.0.1:1/v1").run("status")
    second = load([laps[0], worse, *laps[2:]], "--refresh", exit_code=1)
    (left,) = second.values()
    assert json.loads(left[b"meta:record"]) == worse
    assert left[b"meta:run"] > run
    assert load(laps, "--refresh", exit_code=0) == {}
    assert len(scan(hbase.port, f"{table_prefix}_f1_data")) == len(laps)
