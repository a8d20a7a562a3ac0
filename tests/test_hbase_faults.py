"""What the connection to a real HBase survives when gateways, connections and tables fail."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import happybase
import pytest
from cli import Loader
from forwarder import Forwarder
from hbase_server import HOST, LocalHBase, free_ports
from Hbase_thrift import IllegalArgument
from replay_server import ReplayServer
from tables import rows_by_family, scan, source_identities, values

from f1hbase.errors import StoreError, UnreachableError
from f1hbase.stores.hbase import connector as connector_module
from f1hbase.stores.hbase.connector import (
    KEYS_ONLY,
    ONE_CELL_KEYS_ONLY,
    Gateway,
    HBaseConnector,
    find_gateway,
    find_gateways,
)
from f1hbase.stores.hbase.frames import RowMutation
from f1hbase.stores.hbase.schema import Tables, ensure_tables
from f1hbase.values import hosts, split_hosts

pytestmark = pytest.mark.hbase

_REST = 31.0
"""After so many seconds a gateway that failed has rested."""


class Clock:
    """The connector's clock: the real one, that a test can put forward."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self._ahead

    def advance(self, seconds: float) -> None:
        self._ahead += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(connector_module, "monotonic", clock)
    return clock


@pytest.fixture(scope="module")
def tables(hbase: LocalHBase) -> Tables:
    """Tables that the tests of this module share: each writes rows of its own, see `row`."""
    tables = Tables("faults")
    connector = HBaseConnector([find_gateway(hbase.host, hbase.port)])
    ensure_tables(connector, tables)
    connector.close()
    return tables


@pytest.fixture
def row(request: pytest.FixtureRequest) -> bytes:
    """What the keys of this test's rows begin with."""
    name: str = request.node.name
    return f"{name}#".encode()


@pytest.fixture
def gateway(hbase: LocalHBase) -> Gateway:
    """The one that is really there."""
    return find_gateway(hbase.host, hbase.port)


@pytest.fixture
def ways(hbase: LocalHBase) -> Iterator[tuple[Forwarder, Forwarder]]:
    """Two ways to the gateway, which look like two gateways of one HBase."""
    with Forwarder(hbase.port) as first, Forwarder(hbase.port) as second:
        yield first, second


MakeConnector = Callable[..., HBaseConnector]


@pytest.fixture
def connect(ways: tuple[Forwarder, Forwarder], gateway: Gateway) -> Iterator[MakeConnector]:
    """Makes connectors to both ways, or to the first alone."""
    gateways = [Gateway(HOST, way.port, gateway.dialect) for way in ways]
    made: list[HBaseConnector] = []

    def connect(patience: float = 60.0, *, several: bool = True, **arguments: float) -> HBaseConnector:
        made.append(HBaseConnector(gateways if several else gateways[:1], patience, **arguments))  # type: ignore[arg-type]
        return made[-1]

    yield connect
    for connector in made:
        connector.close()


@pytest.fixture
def direct(gateway: Gateway) -> Iterator[HBaseConnector]:
    """A connector that nothing is done to."""
    connector = HBaseConnector([gateway], patience=60)
    yield connector
    connector.close()


def _rows(row: bytes, count: int, value: bytes = b"1") -> list[RowMutation]:
    return [RowMutation(row + b"%04d" % number, {b"car:speed": value, b"car:rpm": value}) for number in range(count)]


def _keys(mutations: list[RowMutation]) -> list[bytes]:
    return [mutation.key for mutation in mutations]


def _used(ways: tuple[Forwarder, Forwarder], action: Callable[[], object]) -> list[bool]:
    """Which of the ways were used by an action."""
    before = [way.received for way in ways]
    action()
    return [way.received > earlier for way, earlier in zip(ways, before, strict=True)]


# Several gateways


def test_without_a_failure_the_preferred_gateway_alone_is_used_so_that_workers_spread(
    connect: MakeConnector, ways: tuple[Forwarder, Forwarder], tables: Tables, row: bytes
) -> None:
    for preferred, expected in enumerate([[True, False], [False, True], [True, False]]):
        connector = connect(preferred=preferred)
        for _ in range(3):
            assert _used(ways, lambda c=connector: c.put(tables.data, _rows(row, 2))) == expected  # type: ignore[misc]


def test_puts_go_on_through_another_gateway_and_come_back_when_the_first_has_rested(
    connect: MakeConnector, ways: tuple[Forwarder, Forwarder], tables: Tables, row: bytes, clock: Clock
) -> None:
    connector, rows = connect(), iter(_rows(row, 6))

    def put() -> None:
        connector.put(tables.data, [next(rows)])

    assert _used(ways, put) == [True, False]
    ways[0].stop()
    assert _used(ways, put) == [False, True]
    ways[0].start()
    assert _used(ways, put) == [False, True], "it rests"
    clock.advance(_REST)
    assert _used(ways, put) == [True, False]
    ways[0].stop()
    assert _used(ways, put) == [False, True]
    clock.advance(_REST)
    assert _used(ways, put) == [False, True], "tried, and not up yet"
    assert [key for key, _ in connector.scan(tables.data, row)] == _keys(_rows(row, 6))


def test_a_gateway_that_rests_is_used_before_its_time_when_all_others_fail(
    connect: MakeConnector, ways: tuple[Forwarder, Forwarder], tables: Tables, row: bytes, clock: Clock
) -> None:
    connector = connect()
    ways[0].stop()
    connector.put(tables.data, _rows(row, 1))
    ways[0].start()
    ways[1].stop()
    started = time.monotonic()
    assert _used(ways, lambda: connector.put(tables.data, _rows(row, 2))) == [True, False]
    assert time.monotonic() - started < _REST
    assert len(connector.scan(tables.data, row)) == 2


def test_a_connection_that_idled_and_was_closed_does_not_count_against_its_gateway(
    connect: MakeConnector,
    ways: tuple[Forwarder, Forwarder],
    tables: Tables,
    row: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    connector = connect()
    connector.put(tables.data, _rows(row, 1))
    ways[0].cut()
    with caplog.at_level(logging.WARNING, "f1hbase"):
        assert _used(ways, lambda: connector.put(tables.data, _rows(row, 2))) == [True, False]
    assert not caplog.records


def test_a_gateway_that_accepts_and_never_answers_is_left_for_another(
    connect: MakeConnector, ways: tuple[Forwarder, Forwarder], tables: Tables, row: bytes
) -> None:
    connector = connect(call_timeout=1.0)
    connector.put(tables.data, _rows(row, 1))
    ways[0].hold()
    connector.put(tables.data, _rows(row, 3))
    assert _used(ways, lambda: connector.put(tables.data, _rows(row, 4))) == [False, True]
    assert len(connector.scan(tables.data, row)) == 4


def test_an_outage_of_all_gateways_ends_a_call_when_patience_does_and_the_connector_goes_on_later(
    connect: MakeConnector, ways: tuple[Forwarder, Forwarder], tables: Tables, row: bytes
) -> None:
    connector = connect(patience=0.5)
    for way in ways:
        way.stop()
    with pytest.raises(UnreachableError, match=rf"{HOST}:\d+ .* does not answer: connection refused"):
        connector.put(tables.data, _rows(row, 1))
    ways[1].start()
    connector.put(tables.data, _rows(row, 2))
    assert len(connector.scan(tables.data, row)) == 2


def test_a_put_whose_answer_was_lost_is_done_again_and_arrives_once(
    connect: MakeConnector, ways: tuple[Forwarder, Forwarder], tables: Tables, row: bytes
) -> None:
    connector = connect()
    ways[0].lose_answers()
    connector.put(tables.data, _rows(row, 30))
    assert [key for key, _ in connector.scan(tables.data, row)] == _keys(_rows(row, 30))


def test_a_gateway_that_is_down_at_the_start_is_taken_to_speak_as_the_others_and_used_when_it_is_back(
    ways: tuple[Forwarder, Forwarder], caplog: pytest.LogCaptureFixture
) -> None:
    ways[0].stop()
    with caplog.at_level(logging.WARNING, "f1hbase"):
        found = find_gateways([(HOST, way.port) for way in ways])
    assert [found_gateway.port for found_gateway in found] == [way.port for way in ways]
    assert found[0].dialect == found[1].dialect
    assert re.search(rf"{HOST}:{ways[0].port} \(connection refused.* The others are used meanwhile", caplog.text)
    ways[0].start()
    connector = HBaseConnector(found)
    assert _used(ways, connector.tables) == [True, False]
    connector.close()


# What is disabled, gone, or was away long ago


@pytest.fixture
def disabled(hbase: LocalHBase, tables: Tables) -> Iterator[Callable[[], None]]:
    """Disables `f1_data` until it is called, or until the test ends."""
    connection = happybase.Connection(hbase.host, hbase.port)
    connection.disable_table(tables.data)

    def enable() -> None:
        if not connection.is_table_enabled(tables.data):
            connection.enable_table(tables.data)

    yield enable
    enable()
    connection.close()


def test_a_disabled_table_fails_the_unit_when_the_put_has_timed_out_and_says_how_to_enable_it(
    gateway: Gateway, tables: Tables, row: bytes, disabled: Callable[[], None]
) -> None:
    # The gateway tries for minutes before it says what is wrong; nobody waits so long for one call.
    connector = HBaseConnector([gateway], patience=3600, put_timeout=2.0, call_timeout=1.0)
    with pytest.raises(StoreError) as raised:
        connector.put(tables.data, _rows(row, 1))
    disabled()
    connector.put(tables.data, _rows(row, 2))
    connector.close()
    assert str(raised.value) == (
        f"HBase has not taken it in 2 s: the table '{tables.data}' is disabled; in hbase shell: enable '{tables.data}'"
    )


@pytest.mark.usefixtures("disabled")
def test_patience_with_a_disabled_table_ends_whatever_works_meanwhile(
    gateway: Gateway, tables: Tables, row: bytes, clock: Clock
) -> None:
    connector = HBaseConnector([gateway], patience=3600, put_timeout=0.2, call_timeout=1.5)
    report = [RowMutation(row, {b"meta:x": b"1"})]
    with pytest.raises(StoreError, match=r"has not taken it in 0.2 s"):
        connector.put(tables.data, _rows(row, 1))
    connector.put(tables.reports, report)
    clock.advance(3000)
    with pytest.raises(StoreError, match=r"has not taken it in 0.2 s"):
        connector.put(tables.data, _rows(row, 1))
    connector.put(tables.reports, report)
    clock.advance(700)
    with pytest.raises(UnreachableError):
        connector.put(tables.data, _rows(row, 1))
    connector.put(tables.reports, report)
    connector.close()


def test_a_table_that_vanished_is_refused_at_once_and_the_others_are_not(
    hbase: LocalHBase, gateway: Gateway, tables: Tables, row: bytes, table_prefix: str
) -> None:
    gone = Tables(table_prefix).data
    connector = HBaseConnector([gateway], patience=3600)
    connector.create_table(gone, ["car"], {})
    connector.put(gone, _rows(row, 1))
    connection = happybase.Connection(hbase.host, hbase.port)
    connection.delete_table(gone, disable=True)
    connection.close()
    with pytest.raises(StoreError, match=f"HBase refuses: the table '{gone}' does not exist any more"):
        connector.put(gone, _rows(row, 1))
    with pytest.raises(StoreError, match="TableNotFoundException"):
        list(connector.stream(gone))
    connector.put(tables.data, _rows(row, 1))
    connector.close()


def test_each_outage_is_waited_for_as_long_as_patience_lasts(
    connect: MakeConnector, ways: tuple[Forwarder, Forwarder], tables: Tables, row: bytes, clock: Clock
) -> None:
    connector = connect(patience=60, several=False, put_timeout=0.1)
    for _ in range(2):
        ways[0].stop()
        with pytest.raises(StoreError, match=r"has not taken it in 0.1 s"):
            connector.put(tables.data, _rows(row, 1))
        ways[0].start()
        connector.put(tables.data, _rows(row, 1))
        clock.advance(600)


def test_a_connection_closed_after_a_long_pause_is_no_outage_even_if_there_was_one_before_the_pause(
    connect: MakeConnector, ways: tuple[Forwarder, Forwarder], tables: Tables, row: bytes, clock: Clock
) -> None:
    connector = connect(patience=60, several=False, put_timeout=0.1)
    ways[0].stop()
    with pytest.raises(StoreError, match=r"has not taken it in 0.1 s: connection refused"):
        connector.put(tables.data, _rows(row, 1))
    ways[0].start()
    connector.get(tables.reports, row, b"meta:x")  # HBase is back; nobody has anything to put for ten minutes
    clock.advance(600)
    ways[0].cut()
    connector.put(tables.data, _rows(row, 1))


def test_a_call_without_patience_is_tried_again_when_its_connection_was_closed_while_it_idled(
    connect: MakeConnector, ways: tuple[Forwarder, Forwarder], tables: Tables, row: bytes
) -> None:
    connector = connect(patience=0, several=False)
    connector.put(tables.data, _rows(row, 1))
    ways[0].cut()
    connector.put(tables.data, _rows(row, 2))


# Scans that go on


@pytest.mark.parametrize("chunk", [1, 7, 100, 5000])
def test_a_stream_that_is_cut_goes_on_after_its_last_row(
    connect: MakeConnector, ways: tuple[Forwarder, Forwarder], tables: Tables, row: bytes, direct: HBaseConnector,
    chunk: int,
) -> None:  # fmt: skip
    rows = _rows(row, 100)
    direct.put(tables.data, rows)
    got = []
    for key, cells in connect().stream(tables.data, row, chunk=chunk):
        got.append((key, cells))
        if len(got) % 25 == 10:
            ways[0].cut()
    assert got == [(mutation.key, mutation.cells) for mutation in rows]


def test_a_stream_goes_on_through_another_gateway_and_back(
    connect: MakeConnector,
    ways: tuple[Forwarder, Forwarder],
    tables: Tables,
    row: bytes,
    direct: HBaseConnector,
    clock: Clock,
) -> None:
    direct.put(tables.data, _rows(row, 30))
    stream = connect().stream(tables.data, row, chunk=2)
    got = [next(stream)[0] for _ in range(10)]
    ways[0].stop()
    assert _used(ways, lambda: got.extend(next(stream)[0] for _ in range(10))) == [False, True]
    ways[0].start()
    clock.advance(_REST)
    assert _used(ways, lambda: got.extend(key for key, _ in stream)) == [True, False]
    assert got == _keys(_rows(row, 30))


def test_a_stream_goes_on_when_the_gateway_has_forgotten_it(
    hbase: LocalHBase, direct: HBaseConnector, tables: Tables, row: bytes
) -> None:
    direct.put(tables.data, _rows(row, 30))
    stream = direct.stream(tables.data, row, chunk=4)
    got = [next(stream)[0] for _ in range(10)]
    # What the gateway does to one that was not asked for a minute.
    _close_scanner_before(hbase, tables.data, row)
    assert [*got, *(key for key, _ in stream)] == _keys(_rows(row, 30))


def _close_scanner_before(hbase: LocalHBase, table: str, row: bytes) -> None:
    """Close the scanner that was opened last on the gateway, which counts them."""
    connection = happybase.Connection(hbase.host, hbase.port)
    try:
        mine = connection.client.scannerOpen(table.encode(), row, [], {})
        connection.client.scannerClose(mine)
        connection.client.scannerClose(mine - 1)
    finally:
        connection.close()


def test_other_calls_between_the_rows_of_a_stream_do_not_disturb_it(
    connect: MakeConnector, ways: tuple[Forwarder, Forwarder], tables: Tables, row: bytes
) -> None:
    connector = connect()
    connector.put(tables.data, _rows(row, 20))
    got = []
    for key, _ in connector.stream(tables.data, row, chunk=3):
        got.append(key)
        if len(got) == 5:
            ways[0].cut()
        connector.put(tables.data, [RowMutation(key, {}, [b"car"])])
    assert got == _keys(_rows(row, 20))
    assert connector.scan(tables.data, row) == []


def test_a_stream_that_is_left_early_leaves_no_scanner_and_no_error(
    connect: MakeConnector, ways: tuple[Forwarder, Forwarder], tables: Tables, row: bytes, hbase: LocalHBase
) -> None:
    connector = connect()
    connector.put(tables.data, _rows(row, 20))
    stream = connector.stream(tables.data, row, chunk=3)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    with pytest.raises(IllegalArgument, match="scanner ID is invalid"):
        _close_scanner_before(hbase, tables.data, row)
    stream = connector.stream(tables.data, row, chunk=3)
    next(stream)
    ways[0].cut()
    stream.close()  # type: ignore[attr-defined]
    assert len(connector.scan(tables.data, row)) == 20


def test_a_stream_begins_with_its_prefix_whatever_bytes_that_has(
    direct: HBaseConnector, tables: Tables, row: bytes
) -> None:
    ends = [bytes(end) for length in (0, 1, 2, 3) for end in product(b"\x00a\xfe\xff", repeat=length)]
    # The last rows of the whole table, after which nothing can end.
    direct.put(
        tables.data, [RowMutation(begin + end, {b"car:x": b"1"}) for begin in (row, b"\xff\xff") for end in ends]
    )
    for begin in (row, b"\xff\xff"):
        for prefix in (begin + end for end in ends if len(end) < 3):
            expected = sorted(begin + end for end in ends if (begin + end).startswith(prefix))
            assert [key for key, _ in direct.stream(tables.data, prefix, chunk=1000)] == expected
            assert [key for key, _ in direct.scan(tables.data, prefix)] == expected


def test_a_stream_without_a_prefix_is_the_whole_table_and_one_of_nothing_is_empty(
    direct: HBaseConnector, tables: Tables, row: bytes, hbase: LocalHBase
) -> None:
    direct.put(tables.data, _rows(row, 20))
    assert dict(direct.stream(tables.data, chunk=9)) == values(scan(hbase.port, tables.data))
    assert list(direct.stream(tables.data, row + b"nothing")) == []
    assert [key for key, _ in direct.stream(tables.data, row, start=row + b"0018")] == _keys(_rows(row, 20))[18:]


def test_a_stream_brings_what_its_columns_and_filter_let_through(
    direct: HBaseConnector, tables: Tables, row: bytes
) -> None:
    key = row + b"1"
    direct.put(tables.data, [RowMutation(key, {b"car:rpm": b"9", b"car:speed": b"8", b"laps:x": b"7"})])
    direct.put(tables.data, [RowMutation(row + b"2", {b"laps:x": b"7"})])

    def read(**arguments: object) -> dict[bytes, dict[bytes, bytes]]:
        return dict(direct.stream(tables.data, row, **arguments))  # type: ignore[arg-type]

    assert read(columns=[b"car"]) == {key: {b"car:rpm": b"9", b"car:speed": b"8"}}
    assert read(columns=[b"car:speed"]) == {key: {b"car:speed": b"8"}}
    assert read(columns=[b"car"], row_filter=KEYS_ONLY) == {key: {b"car:rpm": b"", b"car:speed": b""}}
    assert read(row_filter=ONE_CELL_KEYS_ONLY) == {key: {b"car:rpm": b""}, row + b"2": {b"laps:x": b""}}


# One step that nobody can come between


def test_a_cell_is_put_only_if_it_holds_what_is_expected(direct: HBaseConnector, tables: Tables, row: bytes) -> None:
    def put_if(expected: bytes | None, value: bytes) -> tuple[bool, bytes | None]:
        done = direct.put_if(tables.reports, row, b"meta:x", expected, value)
        return done, direct.get(tables.reports, row, b"meta:x")

    assert put_if(b"one", b"two") == (False, None)
    assert put_if(None, b"one") == (True, b"one")
    assert put_if(None, b"two") == (False, b"one")
    assert put_if(b"two", b"three") == (False, b"one")
    assert put_if(b"one", b"two") == (True, b"two")


def test_a_conditional_put_whose_answer_was_lost_knows_that_it_was_done(
    connect: MakeConnector, ways: tuple[Forwarder, Forwarder], tables: Tables, row: bytes
) -> None:
    connector = connect()
    assert connector.put_if(tables.reports, row, b"meta:x", None, b"one")
    ways[0].lose_answers()
    assert connector.put_if(tables.reports, row, b"meta:x", b"one", b"two")
    ways[0].lose_answers()
    assert not connector.put_if(tables.reports, row, b"meta:x", b"one", b"three")
    assert connector.get(tables.reports, row, b"meta:x") == b"two"


def test_of_many_conditional_puts_at_once_one_is_done(
    gateway: Gateway, direct: HBaseConnector, tables: Tables, row: bytes
) -> None:
    begin = threading.Barrier(6)
    done: list[bytes] = []

    def put(value: bytes) -> None:
        connector = HBaseConnector([gateway])
        begin.wait()
        if connector.put_if(tables.reports, row, b"meta:x", None, value):
            done.append(value)
        connector.close()

    threads = [threading.Thread(target=put, args=(b"%d" % number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [direct.get(tables.reports, row, b"meta:x")]


# Through the command line


@pytest.fixture(scope="module")
def practice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated practice of a minute with two drivers."""
    folder = tmp_path_factory.mktemp("practice")
    arguments = ["--sessions", "practice", "--minutes", "1", "--drivers", "2"]
    subprocess.run(
        [sys.executable, "-m", "simulator", "make", str(folder), *arguments],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return folder


def _loader(folder: Path, url: str, table_prefix: str, ports: list[int]) -> Loader:
    return Loader(
        folder,
        {
            "F1HBASE_HBASE_HOST": ",".join(f"{HOST}:{port}" for port in ports),
            "F1HBASE_API_URL": url,
            "F1HBASE_TABLE_PREFIX": table_prefix,
            "XDG_STATE_HOME": str(folder / "state"),
        },
    )


def test_a_load_does_without_the_gateway_that_is_down_and_says_so(
    hbase: LocalHBase, practice: Path, tmp_path: Path, table_prefix: str
) -> None:
    (down,) = free_ports(1)
    with ReplayServer(practice) as api:
        output = _loader(tmp_path, api.url, table_prefix, [down, hbase.port]).run()
    warning = rf"\[WARNING\] .* cannot connect to the Thrift gateway at {HOST}:{down} \(connection refused\)"
    assert re.search(warning + r".* The others are used meanwhile\.", output)
    assert rows_by_family(scan(hbase.port, f"{table_prefix}_f1_data")) == source_identities(practice)


def test_a_load_ends_with_3_and_names_the_first_gateway_when_none_is_up(
    hbase: LocalHBase, tmp_path: Path, table_prefix: str
) -> None:
    ports = free_ports(2)
    output = _loader(tmp_path, "http://127.0.0.1:1/v1", table_prefix, ports).run(exit_code=3)
    assert f"cannot connect to the Thrift gateway at {HOST}:{ports[0]} (connection refused)" in output
    assert str(ports[1]) not in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a", [("a", None)]),
        ("a,b:9091", [("a", None), ("b", 9091)]),
        (" a , b:1 ,a", [("a", None), ("b", 1)]),
        ("10.0.0.1:65535", [("10.0.0.1", 65535)]),
    ],
)
def test_hosts_are_taken_apart_each_once(text: str, found: list[tuple[str, int | None]]) -> None:
    assert split_hosts(hosts(text)) == found


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "''"), ("a,,b", "''"), ("a,", "''"), (":9090", "':9090'"), ("a b", "'a b'"), ("http://a", "'http"),
        ("me@a", "'me@a'"), ("a:", "''"), ("a:0", "'0'"), ("a:65536", "'65536'"), ("a:x", "'x'"), ("a:-1", "'-1'"),
        ("b,a:9090/v1", "'9090/v1'"), ("a:٣", "'٣'"),
    ],
)  # fmt: skip
def test_what_is_no_host_is_named(text: str, part: str) -> None:
    with pytest.raises(ValueError, match=re.escape(part)) as raised:
        hosts(text)
    assert "write a host, a host:port, or several with commas" in str(raised.value)
