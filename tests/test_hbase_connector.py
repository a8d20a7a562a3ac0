"""The connection to a real HBase: what it survives, what it refuses, and how it speaks of both."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import happybase
import pytest
from hbase_server import LocalHBase, free_ports
from tables import scan, values

from f1hbase.destinations.hbase import HBaseSink
from f1hbase.errors import SchemaError, StoreError, UnreachableError
from f1hbase.model.catalog import DATA_FAMILIES, REPORT_FAMILIES
from f1hbase.model.coverage import Status
from f1hbase.model.units import Answer, Outcome, Scope, Unit, Window
from f1hbase.pipeline.worker import connections_for
from f1hbase.state.hbase.reports import HBaseReports, RunState, new_run_id
from f1hbase.stores.hbase import frames
from f1hbase.stores.hbase.connector import OTHER_CONNECTIONS, USUAL_THREADS, Gateway, HBaseConnector, find_gateway
from f1hbase.stores.hbase.frames import RowMutation
from f1hbase.stores.hbase.schema import Tables, ensure_tables

pytestmark = pytest.mark.hbase

_START = datetime(2024, 7, 5, 11, 30, tzinfo=UTC)
_SCOPE = Scope(2024, 1240, 9551, _START, _START + timedelta(hours=1), "a practice")


@pytest.fixture
def gateway(hbase: LocalHBase) -> Gateway:
    return find_gateway(hbase.host, hbase.port)


@pytest.fixture
def connector(gateway: Gateway) -> Iterator[HBaseConnector]:
    connector = HBaseConnector([gateway], patience=60)
    yield connector
    connector.close()


@pytest.fixture
def tables(connector: HBaseConnector, table_prefix: str) -> Tables:
    tables = Tables(table_prefix)
    ensure_tables(connector, tables)
    return tables


def _rows(count: int, value: bytes = b"1") -> Iterator[RowMutation]:
    for number in range(count):
        yield RowMutation(b"row%06d" % number, {b"car:speed": value, b"car:rpm": value})


def test_absent_tables_are_created_and_existing_ones_left_alone(connector: HBaseConnector, table_prefix: str) -> None:
    tables = Tables(table_prefix)
    assert ensure_tables(connector, tables) == [tables.data, tables.reports]
    connector.put(tables.data, _rows(1))
    assert ensure_tables(connector, tables) == []
    assert connector.families(tables.data) == set(DATA_FAMILIES)
    assert connector.families(tables.reports) == set(REPORT_FAMILIES)
    assert connector.scan(tables.data, b"row") == [(b"row000000", {b"car:speed": b"1", b"car:rpm": b"1"})]


def test_a_missing_family_is_named(connector: HBaseConnector, hbase: LocalHBase, table_prefix: str) -> None:
    connection = happybase.Connection(hbase.host, hbase.port)
    connection.create_table(f"{table_prefix}_f1_reports", {"meta": {}, "stats": {}})
    connection.close()
    with pytest.raises(SchemaError, match="lacks the column family errors"):
        ensure_tables(connector, Tables(table_prefix))


@pytest.mark.parametrize("collect", [list, iter])
def test_puts_larger_than_a_call_takes_arrive_whole(
    connector: HBaseConnector,
    tables: Tables,
    hbase: LocalHBase,
    monkeypatch: pytest.MonkeyPatch,
    collect: Callable[[Iterable[RowMutation]], Iterable[RowMutation]],
) -> None:
    monkeypatch.setattr(frames, "FRAME_BYTES", 1000)
    connector.put(tables.data, collect(_rows(321)))
    expected = {mutation.key: dict(mutation.cells) for mutation in _rows(321)}
    assert values(scan(hbase.port, tables.data)) == expected


def test_threads_take_turns_with_a_connection(connector: HBaseConnector, tables: Tables) -> None:
    def put_and_read(thread: int) -> list[bytes]:
        rows = [RowMutation(b"%d#%04d" % (thread, number), {b"car:speed": b"%d" % number}) for number in range(300)]
        for row in rows:
            connector.put(tables.data, [row])
        return [key for key, _ in connector.stream(tables.data, b"%d#" % thread, chunk=7)]

    with ThreadPoolExecutor(4) as pool:
        for thread, keys in enumerate(pool.map(put_and_read, range(4))):
            assert keys == [b"%d#%04d" % (thread, number) for number in range(300)]


@pytest.mark.parametrize(
    ("processes", "gateways", "connections"), [(1, 1, 5), (2, 1, 3), (3, 1, 2), (4, 1, 2), (6, 1, 2), (7, 1, 1),
                                               (10, 1, 1), (10, 2, 2), (10, 9, 2), (50, 1, 1)],
)  # fmt: skip
def test_all_workers_together_open_no_more_connections_than_gateways_usually_serve(
    processes: int, gateways: int, connections: int
) -> None:
    assert connections_for(processes, gateways) == connections
    room = USUAL_THREADS * gateways - OTHER_CONNECTIONS
    assert processes * connections <= room or connections == 1


def test_a_put_survives_a_gateway_that_was_killed_and_started_again(
    connector: HBaseConnector, tables: Tables, hbase: LocalHBase
) -> None:
    connector.put(tables.data, _rows(1))
    hbase.kill_gateway()
    returned = threading.Thread(target=hbase.start_gateway)
    returned.start()
    connector.put(tables.data, _rows(50))
    returned.join()
    assert len(connector.scan(tables.data, b"row")) == 50


def test_a_connection_closed_by_the_server_is_opened_again_without_a_warning(
    connector: HBaseConnector, tables: Tables, hbase: LocalHBase, caplog: pytest.LogCaptureFixture
) -> None:
    connector.put(tables.data, _rows(1))
    # What the server does to a connection that idled: it closes its end.
    hbase.stop_gateway()
    hbase.start_gateway()
    with caplog.at_level(logging.WARNING, "f1hbase"):
        connector.put(tables.data, _rows(2))
    assert not caplog.records
    assert len(connector.scan(tables.data, b"row")) == 2


def test_patience_ends(gateway: Gateway) -> None:
    nobody = Gateway(gateway.host, free_ports(1)[0], gateway.dialect)
    with pytest.raises(UnreachableError, match="connection refused"):
        HBaseConnector([nobody], patience=0).tables()


def test_no_call_is_tried_again_after_stop(gateway: Gateway) -> None:
    stop = threading.Event()
    stop.set()
    nobody = Gateway(gateway.host, free_ports(1)[0], gateway.dialect)
    with pytest.raises(UnreachableError):
        HBaseConnector([nobody], patience=3600, stop=stop).tables()


def test_what_waiting_does_not_mend_is_refused_at_once(connector: HBaseConnector, tables: Tables) -> None:
    with pytest.raises(StoreError, match="nosuchfamily"):
        connector.put(tables.data, [RowMutation(b"row", {b"nosuchfamily:x": b"1"})])
    connector.put(tables.data, _rows(1))


def _laps(*numbers: int | None, **changes: object) -> list[dict[str, object]]:
    return [
        {"meeting_key": 1240, "session_key": 9551, "driver_number": 1, "lap_number": n, "lap_duration": 90.5} | changes
        for n in numbers
    ]


def _store(
    connector: HBaseConnector, tables: Tables, records: list[dict[str, object]], *, again: bool = False
) -> Outcome:
    answer = Answer(Unit("laps", _SCOPE), asked_at=_START + timedelta(days=9), records=records, bytes=7, requests=1)
    return HBaseSink(connector, tables, "a-run").store(answer, again=again)


def test_an_outcome_counts_rows_duplicates_and_quarantine(connector: HBaseConnector, tables: Tables) -> None:
    outcome = _store(connector, tables, _laps(1, 2, None) + _laps(2, lap_duration=91.0))
    assert (outcome.records, outcome.rows, outcome.duplicates, outcome.quarantined) == (4, 2, 1, 1)
    assert outcome.drivers == {1}
    stored = dict(connector.scan(tables.data, b"2024#"))
    assert stored[b"2024#1240#9551#1#2"] == {b"laps:lap_duration": b"91.0"}, "the later wins"


def test_the_later_of_two_records_wins_cell_by_cell(connector: HBaseConnector, tables: Tables) -> None:
    _store(connector, tables, _laps(1, st_speed=300) + _laps(1, lap_duration=None, i1_speed=250))
    ((_, cells),) = connector.scan(tables.data, b"2024#")
    assert cells == {b"laps:lap_duration": b"90.5", b"laps:st_speed": b"300", b"laps:i1_speed": b"250"}


def test_what_a_later_record_puts_is_not_deleted_for_an_earlier_one_that_lacks_it(
    connector: HBaseConnector, tables: Tables
) -> None:
    records = _laps(1, lap_duration=None, i1_speed=250) + _laps(1, i1_speed=250)
    _store(connector, tables, records, again=True)
    ((_, cells),) = connector.scan(tables.data, b"2024#")
    assert cells == {b"laps:lap_duration": b"90.5", b"laps:i1_speed": b"250"}


def test_the_checksum_does_not_depend_on_the_order_of_the_records(connector: HBaseConnector, tables: Tables) -> None:
    records = _laps(*range(1, 30))
    assert _store(connector, tables, records).checksum == _store(connector, tables, records[::-1]).checksum
    assert _store(connector, tables, records).checksum != _store(connector, tables, records[1:]).checksum


def test_reports_remember_how_units_ended(connector: HBaseConnector, tables: Tables) -> None:
    reports = HBaseReports(connector, tables.reports)
    window = Window(None, _START + timedelta(minutes=15))
    unit = Unit("car_data", _SCOPE, 44, window)
    later = _START + timedelta(days=9)
    failed = Outcome(unit, later, error="HTTP 500: no luck")
    reports.write_units("run-1", [failed, Outcome(Unit("laps", _SCOPE), later, rows=3, drivers=frozenset({1, 44}))])

    by_endpoint = {state.endpoint: state for state in reports.unit_states(_SCOPE)}
    assert by_endpoint["car_data"].status is Status.FAILED
    assert by_endpoint["car_data"].error == "HTTP 500: no luck"
    assert (by_endpoint["car_data"].driver, by_endpoint["car_data"].window) == (44, window)
    assert by_endpoint["laps"].drivers == {1, 44}
    assert by_endpoint["laps"].stats["rows"] == 3

    reports.write_units("run-2", [Outcome(unit, later, rows=9)])
    again = {state.endpoint: state for state in reports.unit_states(_SCOPE)}["car_data"]
    assert (again.status, again.error, again.stats["rows"]) == (Status.DONE, None, 9)


def test_reports_of_one_session_are_not_those_of_another(connector: HBaseConnector, tables: Tables) -> None:
    reports = HBaseReports(connector, tables.reports)
    other = Scope(2024, 1240, 95510)
    reports.write_units("run", [Outcome(Unit("laps", scope), _START) for scope in (_SCOPE, other)])
    assert [state.scope_prefix for state in reports.unit_states(_SCOPE)] == [_SCOPE.prefix]
    assert [state.scope_prefix for state in reports.unit_states(other)] == [other.prefix]


def test_a_report_that_cannot_be_read_counts_as_not_loaded(
    connector: HBaseConnector, tables: Tables, caplog: pytest.LogCaptureFixture
) -> None:
    reports = HBaseReports(connector, tables.reports)
    reports.write_units("run", [Outcome(Unit("laps", _SCOPE), _START)])
    key = Unit("laps", _SCOPE).key.encode()
    connector.put(tables.reports, [RowMutation(key, {b"meta:status": b"whatever"})])
    with caplog.at_level(logging.WARNING, "f1hbase"):
        assert reports.unit_states(_SCOPE) == []
    assert "counts as not loaded" in caplog.text


def test_runs_are_listed_latest_first(connector: HBaseConnector, tables: Tables) -> None:
    reports = HBaseReports(connector, tables.reports)
    ids = [new_run_id(_START + timedelta(microseconds=n)) for n in range(3)]
    for run_id in ids:
        reports.write_run(RunState(run_id, meta={"start": "now"}))
    reports.write_run(RunState(ids[0], stats={"rows": "5"}))
    runs = reports.runs()
    assert [run.run_id for run in runs] == ids[::-1]
    assert runs[-1] == RunState(ids[0], {"start": "now"}, {"rows": "5"}, {})
