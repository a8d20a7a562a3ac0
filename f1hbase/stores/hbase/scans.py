"""Scans by key range over connections of their own, several at once; knows no endpoint.

A gateway answers one call of a connection at a time, and works on the next one only when it is asked for it: several
ranges at once keep it, and the region servers behind it, busy while this process decodes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from queue import Empty, Full, LifoQueue, Queue
from time import monotonic
from typing import Any, NamedTuple, TypeVar

import happybase  # noqa: F401 - makes the module Hbase_thrift
from Hbase_thrift import IllegalArgument, TScan
from Hbase_thrift import IOError as HBaseIOError
from thriftpy2.protocol.exc import TProtocolException
from thriftpy2.thrift import TApplicationException

from f1hbase.stores.hbase.answers import AnswerReader, OtherRow, RefusedError, Run, merged, scanner_get_list
from f1hbase.stores.hbase.connector import CALL_SECONDS, ONE_CELL_KEYS_ONLY, Gateway, HBaseConnector, _check, sound_rows

_Made = TypeVar("_Made")

CONNECTIONS = 4
"""How many ranges are read at the same time; more are no faster (docs/reading.md)."""

ROWS_A_CALL = 1_500
"""How many rows one call brings: 0.4 MB of car_data. With 5,000 it is no faster, and takes 40 MB more (measured)."""

_CHUNKS_AHEAD = 12
"""How many answers of each range are read ahead of the one that is being used."""

_RECEIVE_BYTES = 1 << 18

_IDLE_SECONDS = 45.0
"""A connection that idled so long is opened anew: a gateway closes it after 60 s, which shows only when it is used."""

_STOP_LOOK_SECONDS = 0.2


class KeyRange(NamedTuple):
    """The row keys from one, up to and without another."""

    start: bytes
    stop: bytes


class ScanConnector(HBaseConnector):
    """A connection that reads ranges of rows; see `HBaseConnector`."""

    used_at = 0.0
    """When it was last given back, by the monotonic clock in seconds."""

    def rows(self, table: str, keys: KeyRange, columns: Sequence[bytes]) -> Iterator[list[Run]]:
        """Yield the rows of a range that have a cell in the family of some columns, in the order of their keys.

        A failure in between is followed by going on after the last row.

        Args:
            table: The table to read.
            keys: The range.
            columns: The columns that are expected, all of one family, as `family:qualifier`; others are read as well.

        Raises:
            StoreError: If HBase refuses: the table is gone, or disabled for longer than patience lasts.
            UnreachableError: If HBase is away longer than patience lasts.
        """
        position = keys.start
        scan = TScan(stopRow=keys.stop, columns=[columns[0].partition(b":")[0]], caching=ROWS_A_CALL)
        opened: Any = None  # the connection on which the scanner is open
        scanner = 0

        def more(connection: Any) -> tuple[list[Run], bytes]:
            nonlocal opened, scanner
            if opened is not connection:
                scan.startRow = position
                scanner = _checked(connection, table, lambda: _open(connection, table, scan))
                opened = connection
            try:
                return _checked(connection, table, lambda: self._next_rows(connection, scanner, columns, ROWS_A_CALL))
            except IllegalArgument:
                # The gateway has forgotten the scanner: nobody asked it for anything for a minute.
                opened = None
                return more(connection)
            except BaseException:
                opened = None
                self.close()  # the rest of an answer may be on its way
                raise

        try:
            while True:
                runs, last_key = self._call(more, table)
                if not runs:
                    return
                position = last_key + b"\0"
                yield runs
        finally:
            if opened is not None and opened is self._connection:
                with suppress(Exception):
                    opened.client.scannerClose(scanner)

    def some_rows(
        self, table: str, keys: KeyRange, columns: Sequence[bytes], most: int
    ) -> tuple[list[Run], KeyRange | None]:
        """Return the first rows of a range, and the range of the others; None if there are none.

        Nothing stays open between two calls, so whoever takes long over the rows holds no connection.

        Args:
            table: The table to read.
            keys: The range.
            columns: The columns that are expected, as of `rows`.
            most: How many rows.

        Raises:
            StoreError, UnreachableError: As `rows`.
        """
        scan = TScan(startRow=keys.start, stopRow=keys.stop, columns=[columns[0].partition(b":")[0]], caching=most)

        def ask(connection: Any) -> tuple[list[Run], bytes]:
            scanner = _checked(connection, table, lambda: _open(connection, table, scan))
            try:
                found = _checked(connection, table, lambda: self._next_rows(connection, scanner, columns, most))
            except BaseException:
                self.close()  # the rest of an answer may be on its way
                raise
            connection.client.scannerClose(scanner)
            return found

        runs, last_key = self._call(ask, table)
        if count_rows(runs) < most:
            return runs, None
        return runs, KeyRange(last_key + b"\0", keys.stop)

    def next_key(self, table: str, keys: KeyRange, family: bytes) -> bytes | None:
        """Return the first key of a range of which there is a row with a cell in a family; None if there is none."""
        scan = TScan(
            startRow=keys.start, stopRow=keys.stop, columns=[family], caching=1, filterString=ONE_CELL_KEYS_ONLY
        )

        def ask(connection: Any) -> bytes | None:
            scanner = _checked(connection, table, lambda: _open(connection, table, scan))
            found = sound_rows(connection.client.scannerGetList(scanner, 1), b"", [family])
            connection.client.scannerClose(scanner)
            return found[0].row if found else None

        return self._call(ask, table)

    def _next_rows(self, connection: Any, scanner: int, columns: Sequence[bytes], most: int) -> tuple[list[Run], bytes]:
        if self._gateway.dialect.protocol != "binary":
            family = columns[0].partition(b":")[0]
            found = sound_rows(connection.client.scannerGetList(scanner, most), b"", [family])
            others = [OtherRow(one.row, {name: cell.value for name, cell in one.columns.items()}) for one in found]
            return list(others), others[-1].key if others else b""
        framed = self._gateway.dialect.transport == "framed"
        call = scanner_get_list(scanner, most)
        # Between two calls nothing is in the transport's buffers.
        connection.transport.sock.sendall((len(call).to_bytes(4, "big") if framed else b"") + call)
        reader = AnswerReader(columns)
        runs: list[Run] = []
        try:
            for data in _received(connection.transport.sock, framed=framed):
                runs += reader.feed(data)
                if reader.is_complete:
                    break
        except RefusedError as refusal:
            kinds = {1: HBaseIOError, 2: IllegalArgument}
            if refusal.field in kinds:
                raise kinds[refusal.field](message=refusal.message) from None
            raise TApplicationException(0, str(refusal)) from None
        except ValueError as error:
            raise TProtocolException(TProtocolException.INVALID_DATA, str(error)) from error  # type: ignore[no-untyped-call]
        return merged(runs), reader.last_key


class Scanner:
    """Reads several ranges of rows at once.

    Args:
        gateways: From `find_gateways`.
        patience: How long HBase may be away, in seconds.
        connections: How many ranges at the same time, a connection each, opened when it is needed.
        call_timeout: How long one call may take, in seconds.
    """

    def __init__(
        self,
        gateways: Sequence[Gateway],
        patience: float,
        *,
        connections: int = CONNECTIONS,
        call_timeout: float = CALL_SECONDS,
    ) -> None:
        self._stop = threading.Event()
        self.connections = connections
        self._all = [
            ScanConnector(gateways, patience, self._stop, preferred=number, call_timeout=call_timeout)
            for number in range(connections)
        ]
        # The last one given back is taken first: its connection is open.
        self._free: LifoQueue[ScanConnector] = LifoQueue()
        for connector in reversed(self._all):
            self._free.put(connector)

    @contextmanager
    def connector(self) -> Iterator[ScanConnector]:
        """Lend a connection for a while; waits until one is free."""
        connector = self._free.get()
        try:
            if monotonic() - connector.used_at > _IDLE_SECONDS:
                connector.close()
            yield connector
        finally:
            connector.used_at = monotonic()
            self._free.put(connector)

    def read(
        self,
        table: str,
        ranges: Sequence[tuple[KeyRange, Sequence[bytes]]],
        make: Callable[[int, list[Run]], _Made],
    ) -> Iterator[_Made]:
        """Yield what is made of the rows of some ranges, one range after the other, each in the order of its keys.

        Args:
            table: The table.
            ranges: Each range, and the columns that are expected in it.
            make: Makes something of some rows of a range, which it is given the number of; called in other threads.

        Raises:
            StoreError, UnreachableError: As `ScanConnector.rows`; and what `make` raises.
        """
        if len(ranges) < 2 or self.connections < 2:
            for number, (keys, columns) in enumerate(ranges):
                with self.connector() as connector:
                    for runs in connector.rows(table, keys, columns):
                        yield make(number, runs)
            return
        yield from self._read_at_once(table, ranges, make)

    def _read_at_once(
        self,
        table: str,
        ranges: Sequence[tuple[KeyRange, Sequence[bytes]]],
        make: Callable[[int, list[Run]], _Made],
    ) -> Iterator[_Made]:
        ended = threading.Event()
        queues: list[Queue[tuple[_Made | None, BaseException | None]]] = [Queue(_CHUNKS_AHEAD) for _ in ranges]

        def put(number: int, item: tuple[_Made | None, BaseException | None]) -> bool:
            while not ended.is_set():
                with suppress(Full):
                    queues[number].put(item, timeout=_STOP_LOOK_SECONDS)
                    return True
            return False

        def work(number: int) -> None:
            keys, columns = ranges[number]
            try:
                if ended.is_set():
                    return
                with self.connector() as connector:
                    for runs in connector.rows(table, keys, columns):
                        if not put(number, (make(number, runs), None)):
                            return
            except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
                put(number, (None, error))
            else:
                put(number, (None, None))

        with ThreadPoolExecutor(self.connections, "scan") as threads:
            try:
                for number in range(len(ranges)):
                    threads.submit(work, number)
                for queue in queues:
                    while True:
                        made, error = queue.get()
                        if error is not None:
                            raise error
                        if made is None:
                            break
                        yield made
            finally:
                ended.set()
                for queue in queues:
                    with suppress(Empty):
                        while True:
                            queue.get_nowait()

    def stop(self) -> None:
        """Close the connections that nobody uses, and let calls that are under way end, but not be tried again."""
        self._stop.set()
        free: list[ScanConnector] = []
        with suppress(Empty):
            while True:
                free.append(self._free.get_nowait())
        for connector in free:
            connector.close()
            self._free.put(connector)

    def close(self) -> None:
        """Close all connections; what reads through them meanwhile fails."""
        self._stop.set()
        for connector in self._all:
            connector.close()


def count_rows(runs: Sequence[Run]) -> int:
    """Return how many rows there are in some runs."""
    return sum(1 if isinstance(run, OtherRow) else len(run.keys) for run in runs)


def _open(connection: Any, table: str, scan: Any) -> int:
    scanner: int = connection.client.scannerOpenWithScan(table.encode(), scan, {})
    return scanner


def _checked(connection: Any, table: str, call: Callable[[], _Made]) -> _Made:
    """Make a call; if HBase fails and the table is gone, say so."""
    try:
        return call()
    except HBaseIOError:
        _check(connection, table)
        raise


def _received(sock: Any, *, framed: bool) -> Iterator[bytes]:
    left = None if not framed else int.from_bytes(_exactly(sock, 4), "big")
    while left is None or left > 0:
        data = sock.recv(_RECEIVE_BYTES if left is None else min(left, _RECEIVE_BYTES))
        if not data:
            raise ConnectionResetError("the gateway closed the connection")
        if left is not None:
            left -= len(data)
        yield data


def _exactly(sock: Any, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            raise ConnectionResetError("the gateway closed the connection")
        data += part
    return data
