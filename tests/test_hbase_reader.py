"""Reading HBase back: the gateway's answers byte by byte, and a real HBase key range by key range."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import happybase
import pytest
from hbase_server import LocalHBase
from Hbase_thrift import Hbase, IllegalArgument, TCell, TRowResult
from Hbase_thrift import IOError as HBaseIOError
from hypothesis import given
from hypothesis import strategies as st
from samples import sample
from stored_weekend import SESSION_ENDPOINTS, YEAR, alike, hbase_options, load, records, scopes, weekend
from thriftpy2.protocol.binary import TBinaryProtocol
from thriftpy2.thrift import TMessageType
from thriftpy2.transport import TMemoryBuffer

import f1hbase
from f1hbase.errors import F1HBaseError
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.columns import SampleColumns
from f1hbase.model.units import Scope, Unit, Window
from f1hbase.sources.hbase import HBaseReader, HBaseSourceRecipe, connections_for, key_range
from f1hbase.sources.hbase_rows import expected_columns
from f1hbase.stores.hbase import scans
from f1hbase.stores.hbase.answers import AnswerReader, OtherRow, RefusedError, Rows, merged, scanner_get_list, value_of
from f1hbase.stores.hbase.codec import encode
from f1hbase.stores.hbase.connector import HBaseConnector, find_gateways
from f1hbase.stores.hbase.frames import RowMutation
from f1hbase.stores.hbase.schema import Tables

Cells = dict[bytes, bytes]

# --- the gateway's answers ---


def message(kind: int, content: Any) -> bytes:
    """Return a message of `scannerGetList` as Thrift writes it."""
    memory: Any = TMemoryBuffer()  # type: ignore[no-untyped-call]
    protocol: Any = TBinaryProtocol(memory, decode_response=False)  # type: ignore[no-untyped-call]
    protocol.write_message_begin("scannerGetList", kind, 0)
    protocol.write_struct(content)
    protocol.write_message_end()
    return bytes(memory.getvalue())


def answer(**result: Any) -> bytes:
    """Return an answer to `scannerGetList`."""
    return message(TMessageType.REPLY, Hbase.scannerGetList_result(**result))


def rows_answer(rows: list[tuple[bytes, Cells]]) -> bytes:
    # As the gateway does, with the cells in the order of their names.
    return answer(
        success=[
            TRowResult(row=key, columns={name: TCell(value=cells[name], timestamp=7) for name in sorted(cells)})
            for key, cells in rows
        ]
    )


def read(columns: tuple[bytes, ...], pieces: Iterator[bytes]) -> list[tuple[bytes, Cells]]:
    """Return the rows that come in pieces."""
    reader = AnswerReader(columns)
    rows: list[tuple[bytes, Cells]] = []
    for piece in pieces:
        assert not reader.is_complete
        for run in reader.feed(piece):
            if isinstance(run, OtherRow):
                rows.append((run.key, dict(run.cells)))
                continue
            for key, *values in zip(run.keys, *run.columns, strict=True):
                cells = {name: value_of(value) for name, value in zip(columns, values, strict=True)}
                rows.append((key, {name: value for name, value in cells.items() if value is not None}))
    assert reader.is_complete
    return rows


def test_pieces_of_columns_are_put_together() -> None:
    one, two = Rows([b"a"], [[b"1"], [b""]]), Rows([b"b", b"c"], [[b"2", b"3"], [b"x", b"y"]])
    other = OtherRow(b"d", {})
    assert merged([one, two, other, other, one]) == [
        Rows([b"a", b"b", b"c"], [[b"1", b"2", b"3"], [b"", b"x", b"y"]]), other, other, one,
    ]  # fmt: skip


def cut(data: bytes, places: list[int]) -> Iterator[bytes]:
    edges = [0, *sorted({place % len(data) for place in places} - {0}), len(data)]
    return (data[start:end] for start, end in pairwise(edges))


_COLUMNS = (b"car:brake", b"car:rpm", b"car:", b"car:x.y")
_values = st.sampled_from([
    b"", b"0", b"13470", "Pérez".encode(), b"\n", b"a\x00\x0b\x00\x01\x00\x00\x00\x01x",
    b"\x0a\x00\x02" + b"7" * 8 + b"\x00",
    b"\x00", b"y" * 300, b"z" * 70_000,
]) | st.binary(max_size=20)  # fmt: skip
_cells = st.dictionaries(
    st.sampled_from([*_COLUMNS, b"car:unknown", b"car:a\x00\x0b\x00\x01"]), _values, min_size=1, max_size=6
)
_keys = st.sampled_from([b"2025#1#2#44#2025-03-14T10:00:00+00:00", b"k", b"\x00\x0b\x00\x01"]) | st.binary(max_size=9)


@given(st.lists(st.tuples(_keys, _cells), max_size=8), st.lists(st.integers(0), max_size=5))
def test_an_answer_is_read_as_it_was_written_however_it_is_cut(rows: list[Any], places: list[int]) -> None:
    assert read(_COLUMNS, cut(rows_answer(rows), places)) == rows


def test_an_answer_of_usual_rows_is_read_as_columns() -> None:
    rows = [(b"key%d" % number, {b"car:rpm": b"%d" % number, b"car:brake": b"0"}) for number in range(100)]
    reader = AnswerReader([b"car:rpm", b"car:brake", b"car:drs"])
    runs = reader.feed(rows_answer(rows))
    assert all(isinstance(run, Rows) for run in runs)
    assert sum(len(run.keys) for run in runs if isinstance(run, Rows)) == 100
    assert reader.last_key == b"key99"


@pytest.mark.parametrize(
    ("result", "field"), [({"io": HBaseIOError(message=b"gone")}, 1), ({"ia": IllegalArgument(message=b"gone")}, 2)]
)
def test_an_exception_is_one(result: dict[str, Any], field: int) -> None:
    with pytest.raises(RefusedError, match="gone") as refused:
        AnswerReader([b"car:rpm"]).feed(answer(**result))
    assert refused.value.field == field


@pytest.mark.parametrize("garbage", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x82\x41\x00\x0escannerGetList\x00"])
def test_what_is_no_answer_is_refused(garbage: bytes) -> None:
    with pytest.raises(ValueError, match="gateway"):
        AnswerReader([b"car:rpm"]).feed(garbage)


def test_the_call_is_what_thriftpy2_writes() -> None:
    wanted = message(TMessageType.CALL, Hbase.scannerGetList_args(id=12, nbRows=5000))
    assert scanner_get_list(12, 5000) == wanted


def test_a_value_of_another_length_is_noticed() -> None:
    with pytest.raises(ValueError, match="length"):
        value_of(b"\x00\x00\x00\x02abc")


# --- key ranges ---


@given(st.sampled_from(list(ENDPOINTS.values())), st.sampled_from([1, 10, 100]))
def test_the_key_of_a_record_is_in_the_range_of_its_endpoint_and_driver_alone(endpoint: Any, driver: int) -> None:
    scope = Scope(2024, 1240, None if endpoint.of_meeting else 9558)
    changes = {"driver_number": driver} if endpoint.by_driver else {}
    key = encode(endpoint, 2024, sample(endpoint.name, **changes)).key
    for other in (1, 10, 100, None):
        start, stop = key_range(endpoint, scope, other if endpoint.by_driver else None, Window())
        assert (start <= key < stop) == (not endpoint.by_driver or other in (driver, None))
    start, stop = key_range(endpoint, Scope(2024, 1241, scope.session_key and 955), None, Window())
    assert not start <= key < stop


@given(
    st.datetimes(datetime(2024, 1, 1), datetime(2024, 1, 2)),
    st.datetimes(datetime(2024, 1, 1), datetime(2024, 1, 2)),
)
def test_times_are_in_the_range_of_their_window(moment: datetime, edge: datetime) -> None:
    moment, edge = moment.replace(tzinfo=UTC), edge.replace(tzinfo=UTC)
    endpoint, scope = ENDPOINTS["car_data"], Scope(2024, 1240, 9558)
    key = encode(endpoint, 2024, sample("car_data", date=moment.isoformat())).key
    for window in (Window(edge), Window(None, edge), Window(edge, edge + timedelta(hours=1))):
        start, stop = key_range(endpoint, scope, 44, window)
        assert (start <= key < stop) == (moment in window)


def test_the_processes_of_a_load_together_open_no_more_connections_than_a_gateway_serves() -> None:
    assert all(processes * connections_for(processes, 1) <= 12 for processes in range(1, 13))


def test_loading_the_tables_into_themselves_is_refused() -> None:
    with pytest.raises(F1HBaseError, match="into themselves"):
        f1hbase.load(source="hbase", to="hbase", hbase_host="127.0.0.1", hbase_port=1)


# --- a real HBase ---


def open_reader(hbase: LocalHBase, prefix: str, connections: int = 4) -> HBaseReader:
    gateways = find_gateways([(hbase.host, hbase.port)], hbase.transport, hbase.protocol)
    return HBaseSourceRecipe(gateways, Tables(prefix), 1, 60.0).reader(5.0, connections)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weekend(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def stored(hbase: LocalHBase, files: Path) -> str:
    load(files, **hbase_options(hbase, "reader"))
    return "reader"


@pytest.mark.hbase
def test_every_record_of_every_endpoint_comes_back(hbase: LocalHBase, stored: str, files: Path) -> None:
    reader = open_reader(hbase, stored)
    try:
        assert alike(reader.sessions()) == alike(records(files, "sessions"))
        assert alike(reader.meetings()) == alike(records(files, "meetings"))
        for scope in scopes(files):
            for endpoint in SESSION_ENDPOINTS:
                parts = list(reader.read(Unit(endpoint, scope)))
                found = alike(record for part in parts for record in part)
                assert found == alike(records(files, endpoint, session_key=scope.session_key)), endpoint
                assert all(isinstance(part, SampleColumns) == ENDPOINTS[endpoint].sampled for part in parts)
    finally:
        reader.close()


@pytest.mark.hbase
@pytest.mark.parametrize("connections", [1, 4])
def test_a_driver_and_a_window_are_a_range_of_keys(
    hbase: LocalHBase, stored: str, files: Path, connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scans, "ROWS_A_CALL", 100)  # so that a range takes several calls
    scope = scopes(files)[-1]
    whole = records(files, "car_data", session_key=scope.session_key)
    dates = sorted(record["date"] for record in whole)
    start, end = (datetime.fromisoformat(dates[len(dates) * part // 10]) for part in (3, 8))
    driver = whole[0]["driver_number"]
    reader = open_reader(hbase, stored, connections)
    try:
        for mine, window in ((driver, Window(start, end)), (None, Window(start, end)), (driver, Window(end))):
            found = [r for part in reader.read(Unit("car_data", scope, mine, window)) for r in part]
            wanted = [
                record
                for record in whole
                if mine in (None, record["driver_number"]) and datetime.fromisoformat(record["date"]) in window
            ]
            assert alike(found) == alike(wanted)
            assert found == sorted(found, key=lambda record: (record["driver_number"], record["date"]))
    finally:
        reader.close()


@pytest.mark.hbase
def test_only_the_rows_that_are_asked_for_are_read(
    hbase: LocalHBase, stored: str, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_rows = 0
    feed = AnswerReader.feed

    def counting(self: AnswerReader, data: bytes) -> list[Any]:
        nonlocal read_rows
        runs = feed(self, data)
        read_rows += sum(len(run.keys) if isinstance(run, Rows) else 1 for run in runs)
        return runs

    monkeypatch.setattr(AnswerReader, "feed", counting)
    scope = scopes(files)[0]
    reader = open_reader(hbase, stored)
    try:
        date = datetime.fromisoformat(records(files, "car_data", session_key=scope.session_key)[99]["date"])
        window = Window(date, date + timedelta(seconds=10))
        found = sum(map(len, reader.read(Unit("car_data", scope, None, window))))
    finally:
        reader.close()
    assert read_rows == found > 0


@pytest.mark.hbase
def test_unusual_records_come_back_as_they_were(hbase: LocalHBase, table_prefix: str) -> None:
    unusual = {
        "car_data": [sample("car_data", speed=None), sample("car_data", driver_number=1, speed=1.0, unheard="of\n")],
        "intervals": [sample("intervals", gap_to_leader=None, interval=None), sample("intervals", driver_number=1)],
        "race_control": [
            sample("race_control", message="two\nlines", flag=7),
            sample("race_control", message="周冠宇"),
        ],
        "team_radio": [sample("team_radio", recording_url="https://example.org/" + "x" * 70_000)],
        "championship_drivers": [sample("championship_drivers")],
        "championship_teams": [sample("championship_teams", team_name="A # % team")],
        "drivers": [sample("drivers", driver_number=number) for number in (1, 10, 100)],
        "laps": [sample("laps"), sample("laps", lap_number=13, segments_sector_1=None, lap_duration="1")],
        "pit": [sample("pit", lap_number=12)],
    }
    gateways = find_gateways([(hbase.host, hbase.port)])
    connector = HBaseConnector(gateways, 5.0)
    tables = Tables(table_prefix)
    connector.create_table(tables.data, tables.families[tables.data], {})
    for name, some in unusual.items():
        rows = [encode(ENDPOINTS[name], 2024, record) for record in some]
        connector.put(tables.data, [RowMutation(*row) for row in rows])
    reader = open_reader(hbase, table_prefix)
    scope = Scope(2024, 1240, 9558)
    try:
        for name, some in unusual.items():
            assert alike(r for part in reader.read(Unit(name, scope)) for r in part) == alike(some), name
        (record,) = (r for part in reader.read(Unit("drivers", scope, 10)) for r in part)
        assert record["driver_number"] == 10
        connector.put(tables.data, [RowMutation(b"2024#1240#9558#44#noon#tea", {b"car:rpm": b"1"})])
        with pytest.raises(F1HBaseError, match=r"noon#tea.* cannot be read"):
            list(reader.read(Unit("car_data", scope)))
    finally:
        reader.close()
        connector.close()


@pytest.mark.hbase
def test_a_table_that_is_deleted_while_it_is_read_is_named(
    hbase: LocalHBase, table_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scans, "ROWS_A_CALL", 10)
    monkeypatch.setattr(scans, "_CHUNKS_AHEAD", 1)
    tables = Tables(table_prefix)
    connector = HBaseConnector(find_gateways([(hbase.host, hbase.port)]), 5.0)
    connector.create_table(tables.data, tables.families[tables.data], {})
    start = datetime(2024, 7, 7, 14, 0, tzinfo=UTC)
    moments = [(start + timedelta(seconds=number)).isoformat() for number in range(200)]
    for driver in (1, 44):
        rows = [
            encode(ENDPOINTS["car_data"], 2024, sample("car_data", date=at, driver_number=driver)) for at in moments
        ]
        connector.put(tables.data, [RowMutation(*row) for row in rows])
    connector.close()
    reader = open_reader(hbase, table_prefix)
    try:
        parts = reader.read(Unit("car_data", Scope(2024, 1240, 9558)))
        assert len(next(parts)) == 10
        connection = happybase.Connection(hbase.host, hbase.port)
        connection.delete_table(tables.data, disable=True)
        connection.close()
        with pytest.raises(F1HBaseError, match=f"'{tables.data}' (does not exist|is disabled)"):
            list(parts)
    finally:
        reader.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("scan")]


@pytest.mark.hbase
def test_a_landing_zone_filled_from_hbase_holds_the_same(
    hbase: LocalHBase, stored: str, files: Path, tmp_path: Path
) -> None:
    result = f1hbase.load(source="hbase", to=tmp_path / "zone", year=YEAR, processes=1, **hbase_options(hbase, stored))
    assert result.exit_code == 0, result.overall.failures
    zone = f1hbase.open(tmp_path / "zone")
    for scope in scopes(files):
        assert scope.session_key is not None
        for endpoint in SESSION_ENDPOINTS:
            found = zone.session(scope.session_key).read(endpoint)
            assert found.num_rows == len(records(files, endpoint, session_key=scope.session_key))


@pytest.mark.hbase
def test_a_framed_and_compact_gateway_is_read_as_well(hbase: LocalHBase, stored: str, files: Path) -> None:
    scope = scopes(files)[-1]
    wanted = alike(records(files, "car_data", session_key=scope.session_key))
    before = hbase.transport, hbase.protocol
    try:
        for transport, protocol in (("framed", "binary"), ("framed", "compact")):
            hbase.stop_gateway()
            hbase.start_gateway(transport=transport, protocol=protocol)
            reader = open_reader(hbase, stored)
            try:
                assert alike(r for part in reader.read(Unit("car_data", scope)) for r in part) == wanted
            finally:
                reader.close()
    finally:
        hbase.stop_gateway()
        hbase.start_gateway(transport=before[0], protocol=before[1])


def test_the_expected_columns_are_those_that_are_written() -> None:
    for name, endpoint in ENDPOINTS.items():
        assert set(encode(endpoint, 2024, sample(name)).cells) <= set(expected_columns(name))
