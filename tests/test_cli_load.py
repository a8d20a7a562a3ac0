"""The main job as a user runs it: the entry point, a replay server, a real HBase."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import happybase
import pytest
from cli import Loader, loader_of, read_until, workers
from hbase_server import LocalHBase, free_ports
from replay_server import ReplayServer, asked
from tables import reports, rows_by_family, scan, source_identities, source_records, values
from weekend import YEAR, simulate

from f1hbase.model.catalog import ENDPOINTS
from f1hbase.stores.hbase.codec import decode, encode

pytestmark = pytest.mark.hbase


@pytest.fixture(scope="module")
def weekend(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two simulated meetings of a practice and a race each, a minute long, with three drivers."""
    return simulate(tmp_path_factory.mktemp("weekend"))


@pytest.fixture(scope="module")
def api(weekend: Path) -> Iterator[ReplayServer]:
    with ReplayServer(weekend) as server:
        yield server


MakeLoader = Callable[[str], Loader]


@pytest.fixture
def loader_for(hbase: LocalHBase, table_prefix: str, tmp_path: Path) -> MakeLoader:
    """Makes a loader for an API address, with tables of its own."""

    return lambda url: loader_of(hbase, tmp_path, url, table_prefix)


@pytest.fixture
def loader(loader_for: MakeLoader, api: ReplayServer) -> Loader:
    return loader_for(api.url)


@pytest.mark.parametrize("window", ["auto", "20s"])
def test_every_record_of_every_endpoint_arrives(
    loader: Loader, weekend: Path, hbase: LocalHBase, table_prefix: str, window: str
) -> None:
    output = loader.run("--year", str(YEAR), "--window", window)

    table = scan(hbase.port, f"{table_prefix}_f1_data")
    assert rows_by_family(table) == source_identities(weekend)
    stored = values(table)
    for name, record in source_records(weekend):
        key, _ = encode(ENDPOINTS[name], YEAR, record)
        decoded = decode(ENDPOINTS[name], key, stored[key])
        assert {k: v for k, v in decoded.items() if v is not None} == {k: v for k, v in record.items() if v is not None}
    assert "all that was asked for is loaded" in output
    total = sum(1 for _ in source_records(weekend))
    assert f"records: {total:,}" in output


def test_a_second_run_asks_for_the_plan_alone_and_changes_nothing(
    loader: Loader, api: ReplayServer, hbase: LocalHBase, table_prefix: str
) -> None:
    loader.run("--year", str(YEAR))
    first = scan(hbase.port, f"{table_prefix}_f1_data")
    before = len(api.log())

    loader.run("--year", str(YEAR))

    assert sorted(asked(api, before)) == ["meetings", "sessions"]
    assert scan(hbase.port, f"{table_prefix}_f1_data") == first, "timestamps included"


@pytest.mark.parametrize(("first", "second"), [("auto", "15s"), ("15s", "auto"), ("15s", "37s")])
def test_another_window_size_and_more_processes_ask_for_nothing_anew(
    loader: Loader, api: ReplayServer, first: str, second: str
) -> None:
    loader.run("--year", str(YEAR), "--window", first)
    before = len(api.log())
    loader.run("--year", str(YEAR), "--window", second, "--processes", "3")
    assert sorted(asked(api, before)) == ["meetings", "sessions"]


def test_one_request_asks_for_all_sessions_of_a_meeting_and_one_for_each_window_of_all_cars(
    loader: Loader, api: ReplayServer, weekend: Path, hbase: LocalHBase, table_prefix: str
) -> None:
    keys = {record["session_key"] for name, record in source_records(weekend) if name == "sessions"}
    before = len(api.log())
    output = loader.run("--year", str(YEAR))

    log = [entry for entry in api.log()[before:] if entry["path"].startswith("/v1/")]
    queries = [entry["query"] for entry in log if entry["path"].endswith("/laps")]
    assert [query.count("session_key=") for query in queries] == [2, 2]
    assert {int(key) for query in queries for key in re.findall(r"session_key=(\d+)", query)} == keys
    assert not [entry for entry in log if "driver_number" in entry["query"]]
    samples = [entry for entry in log if entry["path"].endswith(("/car_data", "/location"))]
    units = [key.split("#") for key in reports(hbase.port, table_prefix, "unit")]
    windows = [unit for unit in units if unit[4] in {"car_data", "location"}]
    assert len(samples) == len(windows), "one request is one unit"
    assert {driver for *_, driver, _start, _end in windows} == {"-"}
    assert len(samples) <= 2 * 2 * len(keys), "before the first answer, cars are taken to be on track for 20 minutes"
    assert f"requests: {len(log):,}, 0 of them retries" in output, "planning included"


def test_what_a_first_run_left_out_is_asked_for_by_a_second_one(
    loader: Loader, api: ReplayServer, weekend: Path, hbase: LocalHBase, table_prefix: str
) -> None:
    driver = min(record["driver_number"] for name, record in source_records(weekend) if name == "drivers")
    loader.run("--year", str(YEAR), "--endpoint", "car_data", "--endpoint", "laps", "--driver", str(driver))
    units = [key.split("#") for key in reports(hbase.port, table_prefix, "unit")]
    assert {driver for *_, driver, _start, _end in units} == {str(driver)}
    before = len(api.log())
    loader.run("--year", str(YEAR), "--endpoint", "car_data", "--endpoint", "laps", "--driver", str(driver))
    assert sorted(asked(api, before)) == ["meetings", "sessions"]

    loader.run("--year", str(YEAR))

    again = [entry["query"] for entry in api.log()[before:] if entry["path"].endswith("/car_data")]
    assert again
    assert not [query for query in again if "driver_number" in query], "cars that no list names are asked for as well"
    assert rows_by_family(scan(hbase.port, f"{table_prefix}_f1_data")) == source_identities(weekend)
    before = len(api.log())
    loader.run("--year", str(YEAR))
    assert sorted(asked(api, before)) == ["meetings", "sessions"]


def test_each_driver_by_himself_is_not_all_that_drove(
    loader: Loader, api: ReplayServer, weekend: Path, hbase: LocalHBase, table_prefix: str
) -> None:
    wanted = ["--year", str(YEAR), "--endpoint", "car_data"]
    drivers = {str(record["driver_number"]) for name, record in source_records(weekend) if name == "drivers"}
    loader.run(*wanted, *(word for driver in sorted(drivers) for word in ("--driver", driver)))
    first = scan(hbase.port, f"{table_prefix}_f1_data")
    before = len(api.log())
    loader.run(*wanted)
    assert "car_data" in asked(api, before), "others may have driven"
    assert values(scan(hbase.port, f"{table_prefix}_f1_data")) == values(first)
    before = len(api.log())
    loader.run(*wanted)
    assert sorted(asked(api, before)) == ["meetings", "sessions"]


def test_a_dry_run_and_a_plan_touch_nothing(loader: Loader, hbase: LocalHBase, table_prefix: str) -> None:
    for arguments in (["plan", "--year", str(YEAR)], ["--year", str(YEAR), "--dry-run"]):
        assert re.search(r"4 sessions, \d+ units in (about )?\d+ requests", loader.run(*arguments))
    connection = happybase.Connection(hbase.host, hbase.port)
    assert not [name for name in connection.tables() if name.decode().startswith(f"{table_prefix}_")]
    connection.close()
    assert not (loader.folder / "populate.log").exists()


def test_the_plan_is_what_load_then_asks_for(loader: Loader, api: ReplayServer) -> None:
    wanted = ["--year", str(YEAR), "--window", "20s"]
    loader.run(*wanted, "--endpoint", "drivers")
    planned = re.search(r"4 sessions, [\d,]+ units in ([\d,]+) requests", loader.run("plan", *wanted))
    assert planned is not None
    before = len(api.log())
    loader.run(*wanted)
    made = len(asked(api, before)) - 2  # the plan of the load itself
    assert made == int(planned[1].replace(",", ""))


def test_with_full_windows_no_more_is_asked_for_than_planned(loader: Loader, api: ReplayServer) -> None:
    planned = re.search(r"4 sessions, [\d,]+ units in about ([\d,]+) requests", loader.run("plan", "--year", str(YEAR)))
    assert planned is not None
    before = len(api.log())
    loader.run("--year", str(YEAR))
    assert len(asked(api, before)) - 2 <= int(planned[1].replace(",", ""))


def test_status_shows_what_is_loaded(loader: Loader, weekend: Path) -> None:
    loader.run("--year", str(YEAR))
    total = sum(source_identities(weekend).values())
    status = loader.run("status")
    assert f"{total:,} rows, " in status
    assert "0 units failed; 0 records in quarantine" in status
    report = json.loads(loader.run("status", "--json"))
    assert sum(sum(session["rows"].values()) for session in report["sessions"]) == total
    assert report["runs"][0]["meta"]["exit"] == "0"


def test_a_killed_worker_is_replaced_by_one_that_goes_on(
    loader_for: MakeLoader, weekend: Path, hbase: LocalHBase, table_prefix: str
) -> None:
    with ReplayServer(weekend) as api:
        loader = loader_for(api.url)
        with loader.start("--year", str(YEAR), "--window", "10s", "--rate", "20/s") as process:
            assert process.stdout is not None
            output = read_until(process, "(meeting ", times=2)
            victim = workers(process)[0]
            victim.kill()
            output += process.stdout.read()
        assert process.returncode == 0, output
        assert re.search(r"its process ended by signal SIGKILL .* a new one goes on in 1 s \(1 of 3\)", output)
        (run,) = reports(hbase.port, table_prefix, "run").values()
        assert run["stats:restarts"] == "1"
    assert rows_by_family(scan(hbase.port, f"{table_prefix}_f1_data")) == source_identities(weekend)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_load_keeps_what_is_done_leaves_no_process_and_goes_on_later(
    loader_for: MakeLoader, weekend: Path, hbase: LocalHBase, table_prefix: str, number: signal.Signals
) -> None:
    with ReplayServer(weekend) as api:
        loader = loader_for(api.url)
        with loader.start("--year", str(YEAR), "--window", "10s", "--rate", "20/s") as process:
            assert process.stdout is not None
            read_until(process, "(meeting ", times=2)
            started = workers(process)
            process.send_signal(number)
            output = process.stdout.read()
        assert process.returncode == 130, output
        assert not [worker for worker in started if worker.is_running()]
        (run,) = reports(hbase.port, table_prefix, "run").values()
        assert run["meta:exit"] == "130"

        loader.run("--year", str(YEAR))
    assert rows_by_family(scan(hbase.port, f"{table_prefix}_f1_data")) == source_identities(weekend)


def test_an_endpoint_that_always_fails_is_named_and_asked_again_by_the_next_run(
    loader_for: MakeLoader, weekend: Path
) -> None:
    wanted = ["--year", str(YEAR), "--endpoint", "weather", "--endpoint", "laps"]
    with ReplayServer(weekend, "--fail", "laps=500") as api:
        output = loader_for(api.url).run(*wanted, "--max-retries", "1", exit_code=1)
    assert re.search(r"\[ERROR\] .* - not loaded: laps session \d+: HTTP 500", output)
    assert "trying once more" in output
    with ReplayServer(weekend) as api:
        loader = loader_for(api.url)
        assert "failed: laps session" in loader.run("status")
        loader.run(*wanted)
        assert {path for path in asked(api) if path in {"laps", "weather"}} == {"laps"}
        assert "0 units failed" in loader.run("status")


def test_the_dialect_of_the_gateway_is_found(
    loader: Loader, weekend: Path, hbase: LocalHBase, table_prefix: str
) -> None:
    hbase.stop_gateway()
    hbase.start_gateway(transport="framed", protocol="compact")
    try:
        loader.run("--year", str(YEAR), "--endpoint", "laps")
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
    output = loader.run("--year", str(YEAR), exit_code=2)
    alteration = (
        rf"alter '{table_prefix}_f1_data', {{NAME => 'pit', [^}}]*VERSIONS => 1\b[^}}]*}}, {{NAME => 'weather', "
    )
    assert re.search(alteration, output)
    assert len(connection.table(f"{table_prefix}_f1_data").families()) == len(families), "nothing was changed"
    connection.close()


def test_tables_get_one_version_and_the_block_cache(loader: Loader, hbase: LocalHBase, table_prefix: str) -> None:
    loader.run("--year", str(YEAR), "--endpoint", "meetings")
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


def test_the_log_file_has_every_request_and_greps_by_level(loader: Loader, api: ReplayServer, weekend: Path) -> None:
    before = len(api.log())
    output = loader.run("--year", str(YEAR), "--endpoint", "laps")
    requests = asked(api, before)
    lines = loader.log.splitlines()
    assert all(re.match(r"\[[A-Z]+\] \d{4}-\d\d-\d\d \d\d:\d\d:\d\d - ", line) for line in lines)
    of_requests = [line for line in lines if line.startswith("[DEBUG]") and " bytes, " in line]
    assert len(of_requests) == len(requests)
    assert all(re.search(r": [\d,]+ records, [\d,]+ bytes, \d+\.\d\d s$", line) for line in of_requests)
    laps = sum(
        int(re.findall(r"([\d,]+) records", line)[0].replace(",", "")) for line in of_requests if "laps?" in line
    )
    assert laps == sum(1 for name, _ in source_records(weekend) if name == "laps")
    assert "\r" not in output
    assert "\x1b" not in output
