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
from samples import samples_of
from tables import scan, values

from f1hbase.destinations.base import Batch
from f1hbase.destinations.hbase import HBaseWriter, connections_for
from f1hbase.errors import SchemaError, StoreError, UnreachableError
from f1hbase.model.catalog import DATA_FAMILIES, ENDPOINTS
from f1hbase.model.outcomes import Outcome, Quarantined, Receipt, RunState, Status
from f1hbase.model.records import digest, raw_json
from f1hbase.model.units import Scope, Unit, Window
from f1hbase.operations.status.judging import judge
from f1hbase.state.base import new_run_id, quarantine_key
from f1hbase.state.hbase.brief import units_in_brief
from f1hbase.state.hbase.cells import EPOCHS_CELL, lease_row, unit_mutation
from f1hbase.state.hbase.reports import HBaseReports
from f1hbase.stores.hbase import frames
from f1hbase.stores.hbase.connector import OTHER_CONNECTIONS, USUAL_THREADS, Gateway, HBaseConnector, find_gateway
from f1hbase.stores.hbase.frames import RowMutation
from f1hbase.stores.hbase.schema import REPORT_FAMILIES, Tables, ensure_tables

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


def test_what_waiting_does_not_fix_is_refused_at_once(connector: HBaseConnector, tables: Tables) -> None:
    with pytest.raises(StoreError, match="nosuchfamily"):
        connector.put(tables.data, [RowMutation(b"row", {b"nosuchfamily:x": b"1"})])
    connector.put(tables.data, _rows(1))


# --- what is written ---

_ALL = frozenset(ENDPOINTS["laps"].fields)


def _lap(number: int, **changes: object) -> dict[str, object]:
    record = {"meeting_key": 1240, "session_key": 9551, "driver_number": 1, "lap_number": number, "lap_duration": 90.5}
    return record | changes


def _store(
    connector: HBaseConnector, tables: Tables, *records: dict[str, object], overwrite: bool = False,
    knows: frozenset[str] = _ALL,
) -> Receipt:  # fmt: skip
    batch = Batch(Unit("laps", _SCOPE), records, knows=knows, overwrite=overwrite)
    return HBaseWriter(connector, tables.data).write(batch)


def test_a_receipt_counts_the_rows(connector: HBaseConnector, tables: Tables) -> None:
    receipt = _store(connector, tables, _lap(1), _lap(2, lap_duration=91.0))
    assert (receipt.rows, receipt.error) == (2, None)
    assert dict(connector.scan(tables.data, b"2024#")) == {
        b"2024#1240#9551#1#1": {b"laps:lap_duration": b"90.5"},
        b"2024#1240#9551#1#2": {b"laps:lap_duration": b"91.0"},
    }


def test_the_checksum_does_not_depend_on_the_order_of_the_records(connector: HBaseConnector, tables: Tables) -> None:
    records = [_lap(number) for number in range(1, 30)]
    whole = _store(connector, tables, *records)
    assert whole.checksum == _store(connector, tables, *records[::-1]).checksum
    assert whole.checksum != _store(connector, tables, *records[1:]).checksum
    parts = _store(connector, tables, *records[:9]) + _store(connector, tables, *records[9:])
    assert (parts.rows, parts.checksum) == (29, whole.checksum)


def test_storing_over_deletes_what_has_become_null_and_storing_anew_deletes_nothing(
    connector: HBaseConnector, tables: Tables
) -> None:
    def cells() -> dict[bytes, bytes]:
        ((_, found),) = connector.scan(tables.data, b"2024#")
        return dict(found)

    _store(connector, tables, _lap(1, st_speed=300))
    _store(connector, tables, _lap(1, i1_speed=250))
    assert set(cells()) == {b"laps:lap_duration", b"laps:st_speed", b"laps:i1_speed"}
    _store(connector, tables, _lap(1, lap_duration=None, i2_speed=7), overwrite=True)
    assert cells() == {b"laps:i2_speed": b"7"}


def test_a_source_deletes_no_cell_of_a_field_that_it_does_not_know(connector: HBaseConnector, tables: Tables) -> None:
    _store(connector, tables, _lap(1, st_speed=300, i1_speed=250))
    _store(connector, tables, _lap(1), overwrite=True, knows=frozenset({"lap_duration", "i1_speed"}))
    ((_, cells),) = connector.scan(tables.data, b"2024#")
    assert cells == {b"laps:lap_duration": b"90.5", b"laps:st_speed": b"300"}
    _store(connector, tables, _lap(1), overwrite=True, knows=frozenset())
    assert connector.scan(tables.data, b"2024#")[0][1] == cells


def test_samples_are_the_same_rows_on_the_fast_way_and_on_the_careful_one(
    connector: HBaseConnector, tables: Tables
) -> None:
    car = {"meeting_key": 1240, "session_key": 9551, "driver_number": 1, "date": "2024-07-05T11:30:00+00:00"}
    numbers = {"brake": 0, "drs": 8, "n_gear": 7, "rpm": 11_000, "speed": 300, "throttle": 99}
    found = []
    for overwrite, rpm in ((False, 1), (True, None), (False, 2)):
        samples = samples_of([car | numbers | {"rpm": rpm}])
        batch = Batch(Unit("car_data", _SCOPE), samples, knows=ENDPOINTS["car_data"].known, overwrite=overwrite)
        receipt = HBaseWriter(connector, tables.data).write(batch)
        ((_, cells),) = connector.scan(tables.data, b"2024#")
        found.append((receipt.rows, cells.get(b"car:rpm"), len(cells)))
    assert found == [(1, b"1", 6), (1, None, 5), (1, b"2", 6)]


def test_an_old_sign_on_a_field_that_is_no_text_goes_when_its_row_is_stored_on_either_way(
    connector: HBaseConnector, tables: Tables
) -> None:
    message = {"meeting_key": 1240, "session_key": 9551, "date": "2024-07-05T11:30:00+00:00", "qualifying_phase": 1}
    for overwrite in (False, True):
        batch = Batch(
            Unit("race_control", _SCOPE), [message], knows=ENDPOINTS["race_control"].known, overwrite=overwrite
        )
        writer = HBaseWriter(connector, tables.data)
        writer.write(batch)
        ((key, _),) = connector.scan(tables.data, b"2024#")
        sign = b"racecontrol:qualifying_phase%json"
        connector.put(tables.data, [RowMutation(key, {sign: b""})])
        assert sign in connector.scan(tables.data, b"2024#")[0][1]
        writer.write(batch)
        assert connector.scan(tables.data, b"2024#") == [(key, {b"racecontrol:qualifying_phase": b"1"})]


def test_what_hbase_refuses_is_a_receipt_with_its_reason(connector: HBaseConnector, table_prefix: str) -> None:
    batch = Batch(Unit("laps", _SCOPE), [_lap(1)])
    receipt = HBaseWriter(connector, f"{table_prefix}_nothing_of_that_name").write(batch)
    assert receipt.error is not None
    assert receipt.rows == 0


# --- reports ---

_LATER = _START + timedelta(days=30)


def test_reports_remember_how_units_ended(connector: HBaseConnector, tables: Tables) -> None:
    reports = HBaseReports(connector, tables.reports)
    window = Window(None, _START + timedelta(minutes=15))
    unit = Unit("car_data", _SCOPE, 44, window)
    failed = Outcome(unit, _LATER, error="HTTP 500: no luck")
    laps = Outcome(Unit("laps", _SCOPE), _LATER, "openf1", receipt=Receipt(3, 2**64 - 1), drivers=frozenset({1, 44}))
    reports.write_units("run-1", [failed, laps])

    by_endpoint = {state.endpoint: state for state in reports.unit_states(_SCOPE)}
    assert by_endpoint["car_data"].status is Status.FAILED
    assert by_endpoint["car_data"].error == "HTTP 500: no luck"
    assert (by_endpoint["car_data"].driver, by_endpoint["car_data"].window) == (44, window)
    assert by_endpoint["laps"].drivers == {1, 44}
    assert by_endpoint["laps"].stats["rows"] == 3
    laps_state = by_endpoint["laps"]
    assert (laps_state.source, laps_state.fetched, laps_state.run) == ("openf1", _LATER, "run-1")
    assert laps_state.checksum == 2**64 - 1
    assert (laps_state.was_stored, by_endpoint["car_data"].was_stored) == (True, False)

    reports.write_units("run-2", [Outcome(unit, _LATER, receipt=Receipt(9, 1))])
    again = {state.endpoint: state for state in reports.unit_states(_SCOPE)}["car_data"]
    assert (again.status, again.error, again.stats["rows"]) == (Status.DONE, None, 9)


def test_a_failure_leaves_what_an_earlier_success_has_counted(connector: HBaseConnector, tables: Tables) -> None:
    reports = HBaseReports(connector, tables.reports)
    unit = Unit("laps", _SCOPE)
    reports.write_units("run-1", [Outcome(unit, _LATER, receipt=Receipt(3, 7))])
    reports.write_units("run-2", [Outcome(unit, _LATER, error="HTTP 500: no luck")])
    (state,) = reports.unit_states(_SCOPE)
    assert (state.status, state.error, state.stats["rows"]) == (Status.FAILED, "HTTP 500: no luck", 3)
    assert state.was_stored, "so that what it has become null since is deleted when it is stored again"


def test_a_line_of_an_epoch_before_the_last_rollback_counts_as_failed(
    connector: HBaseConnector, tables: Tables
) -> None:
    reports = HBaseReports(connector, tables.reports)
    other = Scope(2024, 1240, 9552)
    lines = [Outcome(Unit("laps", scope), _LATER, receipt=Receipt(3, 7)) for scope in (_SCOPE, other)]
    reports.write_units("run", lines)
    epochs = b'{"sessions":{"9551":2},"deleted_at":1720000000000}'
    connector.put(tables.reports, [RowMutation(lease_row(_SCOPE.meeting), {EPOCHS_CELL: epochs})])
    assert [state.status for state in reports.unit_states(_SCOPE)] == [Status.FAILED]
    assert [state.status for state in reports.unit_states(other)] == [Status.DONE]
    reports.write_units("run", [Outcome(Unit("laps", _SCOPE), _LATER, receipt=Receipt(3, 7), epoch=2)])
    assert [state.status for state in reports.unit_states(_SCOPE)] == [Status.DONE]


def test_lines_of_earlier_versions_are_read(connector: HBaseConnector, tables: Tables) -> None:
    """They have neither source nor epoch, and some name everybody who drove."""
    line = unit_mutation("run", Outcome(Unit("car_data", _SCOPE, 44), _LATER, receipt=Receipt(3, 7)))
    new = {b"meta:source", b"meta:epoch"}
    old = {column: value for column, value in line.cells.items() if column not in new} | {b"meta:entrants": b"[1, 44]"}
    connector.put(tables.reports, [RowMutation(line.key, old)])
    (state,) = HBaseReports(connector, tables.reports).unit_states(_SCOPE)
    assert (state.source, state.status, state.driver) == ("", Status.DONE, 44)
    assert state.session_drivers == frozenset({1, 44})


def test_quarantine_keeps_a_record_once_with_its_unit_until_it_is_deleted(
    connector: HBaseConnector, tables: Tables
) -> None:
    reports = HBaseReports(connector, tables.reports)
    unit = Unit("laps", _SCOPE)

    def aside(record: object) -> Quarantined:
        return Quarantined(
            _SCOPE.prefix, "laps", raw_json(record), digest(record), "identity: \udc80", _LATER, unit.key
        )  # fmt: skip

    found = [aside(_lap(1)), aside(dict(reversed(_lap(1).items()))), aside({"a": float("nan")})]
    reports.put_quarantine("run", found)
    keys = {quarantine_key(record) for record in found}
    assert len(keys) == 2
    assert dict(reports.quarantined(_SCOPE, "laps")) == dict.fromkeys(keys, unit.key)
    assert reports.quarantine_counts() == {(_SCOPE.prefix, "laps"): 2}
    reports.delete_quarantine([quarantine_key(found[0])])
    assert [key for key, _ in reports.quarantined(_SCOPE, "laps")] == [quarantine_key(found[2])]


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


_ODD_CELLS: list[dict[bytes, bytes]] = [
    {b"stats:rows": b"1e999"},
    {b"stats:rows": b"\xff"},
    {b"meta:drivers": b"5"},
    {b"meta:drivers": b'["1", {}]'},
    {b"meta:drivers": b"[" * 100_000},
    {b"meta:fetched": b"0001-01-01T00:00:00+14:00"},
]
_ODD_KEYS = [
    b"unit#2024#1240#9558#an_endpoint_to_come#-#-#-",
    b"unit#\xff",
    b"unit#2024#1240#" + b"9" * 5000 + b"#laps#-#-#-",
    b"unit#2024#1240#9558#laps#-#0001-01-01T00:00:00+14:00#-",
    b"run#\xff",
    b"quarantine#\xff",
    b"quarantine#x",
]


def test_rows_that_nobody_of_this_version_wrote_are_passed_over_and_named(
    connector: HBaseConnector, tables: Tables, caplog: pytest.LogCaptureFixture
) -> None:
    reports = HBaseReports(connector, tables.reports)
    odd = [Unit("laps", Scope(2024, 1240, 9600 + number)) for number in range(len(_ODD_CELLS))]
    reports.write_units("run", [Outcome(unit, _START) for unit in (Unit("laps", _SCOPE), *odd)])
    mutations = [RowMutation(unit.key.encode(), cells) for unit, cells in zip(odd, _ODD_CELLS, strict=True)]
    cells = {b"meta:status": b"done", b"stats:rows": b"1", b"meta:record": b"\xff", b"meta:found": b"x"}
    connector.put(tables.reports, [*mutations, *(RowMutation(key, cells) for key in _ODD_KEYS)])
    with caplog.at_level(logging.WARNING, "f1hbase"):
        assert len(reports.unit_states(_SCOPE)) == 1
        assert all(reports.unit_states(unit.scope) == [] for unit in odd)
        brief = units_in_brief(connector, connector, tables.reports)
        runs, counts = reports.runs(), reports.quarantine_counts()
        assert judge(brief, counts, runs)
    # The time alone is not read in brief.
    assert {state.scope_prefix for state in brief if len(state.scope_prefix) < 100} == {
        _SCOPE.prefix,
        odd[-1].scope.prefix,
    }
    assert [run.run_id for run in runs] == ["\\xff"]
    assert counts == {}
    assert "an_endpoint_to_come" in caplog.text


def test_runs_are_listed_latest_first(connector: HBaseConnector, tables: Tables) -> None:
    reports = HBaseReports(connector, tables.reports)
    ids = [new_run_id(_START + timedelta(microseconds=n)) for n in range(3)]
    for run_id in ids:
        reports.write_run(RunState(run_id, meta={"start": "now"}))
    reports.write_run(RunState(ids[0], stats={"rows": "5"}))
    runs = reports.runs()
    assert [run.run_id for run in runs] == ids[::-1]
    assert runs[-1] == RunState(ids[0], {"start": "now"}, {"rows": "5"}, {})
