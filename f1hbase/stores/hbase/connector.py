"""The connection to HBase's Thrift gateways: finds their dialect, puts, scans, and tries again when HBase is away."""

from __future__ import annotations

import logging
import socket
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, NamedTuple, TypeVar

import happybase
import tenacity
from Hbase_thrift import AlreadyExists, IllegalArgument, Mutation, TScan
from Hbase_thrift import IOError as HBaseIOError
from thriftpy2.protocol.exc import TProtocolException
from thriftpy2.thrift import TApplicationException
from thriftpy2.transport import TTransportException

from f1hbase.errors import StoreError, UnreachableError
from f1hbase.metrics import names
from f1hbase.metrics.meter import METER
from f1hbase.stores.hbase.frames import Changes, Frame, frame_writer
from f1hbase.stores.hbase.shell import disabled

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")

USUAL_THREADS = 16
"""How many connections a gateway serves, unless told otherwise (`hbase.thrift.minWorkerThreads`); the next one waits
for an end of another, as more threads are made only when a thousand wait."""

OTHER_CONNECTIONS = 4
"""How many connections the parent of a load needs, and a status now and then."""

_DETECT_SECONDS = 5.0
"""How long one dialect may take to answer; a gateway in good health takes milliseconds."""

CALL_SECONDS = 60.0
"""How long one call may take. HBase's own client inside the gateway tries longer (149 s with a disabled table,
measured), but what it has not done by now is better asked for again, perhaps of another gateway."""

_CONNECT_SECONDS = 10.0
"""How long a gateway may take to accept a connection; one whose host is gone does not even refuse it."""

_REST_SECONDS = 30.0
"""How long a gateway that failed is left alone when there are others; twice as long each further time."""

_LONGEST_REST_SECONDS = 600.0

_LONGEST_WAIT_SECONDS = 30.0

_SAID_EVERY_SECONDS = 60.0
"""How often an outage is spoken of on the screen, however many calls of a process are tried again meanwhile."""

_TRANSIENT = (TTransportException, TProtocolException, TApplicationException, OSError, HBaseIOError)
_REFUSALS = ("TableNotFoundException", "NoSuchColumnFamilyException", "AccessDeniedException")
"""Java exceptions inside an IOError that waiting does not cure."""

KEYS_ONLY = b"KeyOnlyFilter()"
"""For `HBaseConnector.stream`: every cell, without its value."""

ONE_CELL_KEYS_ONLY = b"FirstKeyOnlyFilter() AND KeyOnlyFilter()"
"""For `HBaseConnector.stream`: one cell a row, without its value; what it takes to see which rows there are."""


class Dialect(NamedTuple):
    """What a Thrift server speaks."""

    transport: str
    protocol: str


DIALECTS = (
    Dialect("buffered", "binary"),
    Dialect("framed", "compact"),
    Dialect("framed", "binary"),
    Dialect("buffered", "compact"),
)
"""Every dialect, the usual ones first: plain HBase speaks buffered and binary, EMR's examples framed and compact."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where a Thrift gateway is and what it speaks."""

    host: str
    port: int
    dialect: Dialect

    def __str__(self) -> str:
        return f"{self.host}:{self.port} ({self.dialect.transport}, {self.dialect.protocol})"


def find_gateway(host: str, port: int, transport: str = "auto", protocol: str = "auto") -> Gateway:
    """Find the dialect of the gateway by asking it for its tables in each one that may be meant.

    Raises:
        UnreachableError: If nothing listens there, it is no Thrift gateway, or HBase behind it does not answer;
            says which.
    """
    candidates = [
        dialect
        for dialect in DIALECTS
        if transport in {"auto", dialect.transport} and protocol in {"auto", dialect.protocol}
    ]
    for dialect in candidates:
        gateway = Gateway(host, port, dialect)
        try:
            connection = _connect(gateway, _DETECT_SECONDS)
        except (TTransportException, OSError) as error:
            raise UnreachableError(
                f"HBase: cannot connect to the Thrift gateway at {host}:{port} ({_reason(error)}). Start it "
                "(scripts/local_hbase.sh start, or on EMR: sudo systemctl start hbase-thrift), "
                "or name another with --hbase-host and --hbase-port."
            ) from error
        try:
            connection.tables()
        except HBaseIOError as error:
            raise UnreachableError(
                f"HBase: the Thrift gateway at {host}:{port} answers, but HBase behind it does not: "
                f"{_java_message(error)}"
            ) from error
        except Exception as error:  # noqa: BLE001 - a wrong dialect fails in any way that garbage can
            _log.debug("the gateway at %s does not speak %s: %s", f"{host}:{port}", dialect, _reason(error))
        else:
            return gateway
        finally:
            connection.close()
    asked = "any Thrift dialect" if len(candidates) == len(DIALECTS) else " or ".join(map("/".join, candidates))
    fix = (
        "Is it the port of HBase's Thrift 1 gateway (9090, not the web pages or ZooKeeper), and is HBase up?"
        if len(candidates) == len(DIALECTS)
        else "Leave out --hbase-transport and --hbase-protocol to have the dialect found."
    )
    raise UnreachableError(f"HBase: what listens at {host}:{port} does not answer in {asked}. {fix}")


def find_gateways(
    addresses: Sequence[tuple[str, int]], transport: str = "auto", protocol: str = "auto"
) -> tuple[Gateway, ...]:
    """Find the dialect of several gateways of one HBase.

    One that is down now is taken to speak as the first that answers does, and may come back later.

    Raises:
        UnreachableError: If none answers; the reason is the first one's.
    """
    found: dict[tuple[str, int], Gateway] = {}
    failures: dict[tuple[str, int], UnreachableError] = {}
    for address in addresses:
        try:
            found[address] = find_gateway(*address, transport, protocol)
        except UnreachableError as error:
            failures[address] = error
    if not found:
        raise next(iter(failures.values()))
    dialect = next(iter(found.values())).dialect
    for failure in failures.values():
        _log.warning("%s The others are used meanwhile.", failure)
    return tuple(found.get(address) or Gateway(*address, dialect) for address in addresses)


class _Rotation:
    """Which gateway to use: the preferred one, or while it rests after a failure, the next that does not.

    Args:
        gateways: All of them, at least one.
        preferred: The place of the one to use while it works; counted round and round.
    """

    def __init__(self, gateways: Sequence[Gateway], preferred: int) -> None:
        first = preferred % len(gateways)
        self._gateways = [*gateways[first:], *gateways[:first]]
        self._rests_until: dict[Gateway, float] = {}
        self._rests: dict[Gateway, float] = {}

    def choose(self) -> Gateway:
        """Return the gateway to use now; when all rest, the one that has rested longest."""
        now = monotonic()
        for gateway in self._gateways:
            if self._rests_until.get(gateway, now) <= now:
                return gateway
        return min(self._gateways, key=lambda gateway: self._rests_until[gateway])

    def failed(self, gateway: Gateway) -> None:
        """Leave a gateway alone for a while, longer each time: finding out that one hangs takes a minute."""
        rest = min(self._rests.get(gateway, _REST_SECONDS / 2) * 2, _LONGEST_REST_SECONDS)
        self._rests[gateway] = rest
        self._rests_until[gateway] = monotonic() + rest

    def worked(self, gateway: Gateway) -> None:
        """Trust a gateway again."""
        self._rests.pop(gateway, None)


class _Spoken:
    """When this process has last spoken of each gateway that does not answer; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[Gateway, float] = {}

    def is_due(self, gateway: Gateway) -> bool:
        """Return whether to speak of it now: at once, and then every minute."""
        now = monotonic()
        with self._lock:
            if now - self._last.get(gateway, -_SAID_EVERY_SECONDS) < _SAID_EVERY_SECONDS:
                return False
            self._last[gateway] = now
            return True


_spoken = _Spoken()


class HBaseConnector:
    """A connection that survives: each call is tried again, on a new connection, until HBase answers or patience ends.

    Several threads may use it; their calls take turns.

    Args:
        gateways: From `find_gateways`; without a failure only the preferred one is used.
        patience: How long HBase may be away before a call fails, in seconds; counted from the first failure after
            which nothing worked any more.
        stop: When set, no call is tried again.
        put_timeout: How long a put may be tried again before it fails, in seconds; by default as long as
            patience lasts.
        preferred: Which gateway to use while it works, counted round and round, so that workers spread over them.
        call_timeout: How long one call may take, in seconds.
    """

    def __init__(
        self,
        gateways: Sequence[Gateway],
        patience: float = 1800.0,
        stop: threading.Event | None = None,
        *,
        put_timeout: float | None = None,
        preferred: int = 0,
        call_timeout: float = CALL_SECONDS,
    ) -> None:
        self._turn = threading.RLock()
        self._calling = False
        self._rotation = _Rotation(gateways, preferred)
        self._gateways = len(set(gateways))
        self._gateway = self._rotation.choose()
        self._connection: Any = None
        self._fresh = True  # nothing has worked on this connection yet
        self._failing_since: dict[str, float] = {}  # by table: one may be disabled while the other works
        self._stop = stop or threading.Event()
        self._patience = patience
        self._call_timeout = call_timeout
        self._put_timeout = patience if put_timeout is None else put_timeout

    def tables(self) -> list[str]:
        """Return the names of all tables."""
        return self._call(lambda c: [name.decode(errors="backslashreplace") for name in c.tables()])

    def families(self, table: str) -> set[str]:
        """Return the column families of a table."""
        found = self._call(lambda c: list(c.table(table).families()))
        return {name.decode(errors="backslashreplace").rstrip(":") for name in found}

    def create_table(self, table: str, families: Iterable[str], options: Mapping[str, object]) -> bool:
        """Create a table, each family with the same options; False if somebody else was faster."""
        names = list(families)
        try:
            self._call(lambda c: c.create_table(table, {name: dict(options) for name in names}))
        except AlreadyExists:
            return False
        return True

    def put(self, table: str, changes: Changes, *, timestamp: int | None = None) -> None:
        """Change rows, in as few calls as is good; on return the changes are in HBase's write-ahead log.

        A deleted column without a qualifier (`car`) is the whole family of the row.

        Args:
            table: The table to change.
            changes: The changes; each row once.
            timestamp: When they count as made, in milliseconds since 1970; by default when HBase gets them. A deletion
                spares what was put later, however late it arrives itself.

        Raises:
            StoreError: If HBase refuses them, or has not taken them within the put timeout.
            UnreachableError: If HBase stays away longer than patience lasts.
        """
        frames = frame_writer(self._gateway.dialect.protocol).frames(table, changes, timestamp)
        # Changes that are yet to be made may come from reading through this very connection.
        ahead = isinstance(changes, Collection)
        frame = next(frames, None)
        while frame is not None:
            following = self._put(table, frame, timestamp, frames if ahead else iter(()))
            frame = following or next(frames, None)

    def _put(self, table: str, frame: Frame, timestamp: int | None, upcoming: Iterator[Frame]) -> Frame | None:
        """Make one call, and write the next one while HBase is at it; return that one."""
        following: Frame | None = None
        tried = False

        def attempt(connection: Any) -> None:
            nonlocal following, frame, tried
            if tried:
                # With a table that is disabled the gateway tries for minutes, longer than a call may take.
                _check(connection, table)
            tried = True
            protocol = self._gateway.dialect.protocol
            if protocol != frame.protocol:  # another gateway's
                (frame,) = frame_writer(protocol).frames(table, frame.changes, timestamp, largest=sys.maxsize)
            _send(connection, frame)
            following = following or next(upcoming, None)
            try:
                _receive(connection, frame)
            except HBaseIOError:
                _check(connection, table)
                raise

        with self._turn:
            began = monotonic()
            try:
                self._call(attempt, table, timeout=self._put_timeout)
            except BaseException:
                self.close()  # an answer may be on its way, which the next call would take for its own
                raise
            METER.observe(names.PUT_SECONDS, monotonic() - began, table)
        return following

    def put_if(self, table: str, row: bytes, column: bytes, expected: bytes | None, value: bytes) -> bool:
        """Put one cell if it holds what is expected (None: nothing), in one step that nobody can come between.

        Returns:
            Whether the cell holds the value now because of this call.
        """
        mutation = Mutation(isDelete=False, column=column, value=value, writeToWAL=True)
        if self._call(lambda c: c.client.checkAndPut(table.encode(), row, column, expected, mutation, {}), table):
            return True
        # The answer to an earlier try may have been lost on its way.
        return self.get(table, row, column) == value

    def get(self, table: str, row: bytes, column: bytes) -> bytes | None:
        """Return what a cell holds; None where there is none."""
        cell = self._cell(table, row, column)
        return None if cell is None else bytes(cell.value)

    def timestamp(self, table: str, row: bytes, column: bytes) -> int | None:
        """Return when a cell was put, in milliseconds since 1970 by its server; None where there is none."""
        cell = self._cell(table, row, column)
        return None if cell is None else int(cell.timestamp)

    def _cell(self, table: str, row: bytes, column: bytes) -> Any:
        """Return a cell as Thrift has it; None where there is none."""

        def ask(c: Any) -> Any:
            found = sound_rows(c.client.getRowWithColumns(table.encode(), row, [column], {}), row, [column])
            return found[0].columns[column] if found else None

        return self._call(ask, table)

    def scan(
        self, table: str, prefix: bytes, columns: Sequence[bytes] | None = None
    ) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """Return all rows whose key begins with a prefix, in the order of their keys."""
        return list(self.stream(table, prefix, columns=columns, chunk=1000))

    def stream(
        self,
        table: str,
        prefix: bytes = b"",
        *,
        start: bytes | None = None,
        columns: Sequence[bytes] | None = None,
        row_filter: bytes | None = None,
        chunk: int = 5000,
    ) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
        """Yield the rows whose key begins with a prefix, in the order of their keys, without holding them all.

        After a failure in between it goes on after the last row.

        Args:
            table: The table to read.
            prefix: What the keys begin with.
            start: The key to begin at, if not with the prefix.
            columns: Families (`car`) or columns (`car:rpm`); by default all.
            row_filter: A filter in HBase's filter language, such as `KEYS_ONLY`.
            chunk: How many rows one call brings.
        """
        for row in self._rows(table, prefix, start=start, columns=columns, row_filter=row_filter, chunk=chunk):
            yield row.row, {column: cell.value for column, cell in row.columns.items()}

    def stream_times(
        self,
        table: str,
        prefix: bytes,
        *,
        start: bytes | None = None,
        stop: bytes | None = None,
        columns: Sequence[bytes] | None = None,
        row_filter: bytes = KEYS_ONLY,
        chunk: int = 5000,
    ) -> Iterator[tuple[bytes, int]]:
        """Yield the keys with a prefix as `stream` does, and when the latest cell that is read of each counts as made.

        That is in milliseconds since 1970: the server's time, or what the writer has said. `stop` is the first key
        that is not wanted, if not the one after the prefix.
        """
        for row in self._rows(
            table, prefix, start=start, stop=stop, columns=columns, row_filter=row_filter, chunk=chunk
        ):
            yield row.row, max(cell.timestamp for cell in row.columns.values())

    def _rows(
        self,
        table: str,
        prefix: bytes,
        *,
        start: bytes | None = None,
        stop: bytes | None = None,
        columns: Sequence[bytes] | None = None,
        row_filter: bytes | None = None,
        chunk: int = 5000,
    ) -> Iterator[Any]:
        """Yield the rows that `stream` means, as Thrift has them."""
        position = prefix if start is None else start
        scan = TScan(stopRow=stop or _after_prefix(prefix), columns=columns, caching=chunk, filterString=row_filter)
        connection: Any = None  # on which the scanner is open
        scanner = 0

        def more(c: Any) -> list[Any]:
            nonlocal connection, scanner
            if connection is not c:
                scan.startRow = position
                scanner = c.client.scannerOpenWithScan(table.encode(), scan, {})
                connection = c
            try:
                return sound_rows(c.client.scannerGetList(scanner, chunk), prefix, columns or ())
            except IllegalArgument:
                # The gateway has forgotten the scanner: nobody asked it for anything for a minute.
                connection = None
                return more(c)
            except BaseException:
                connection = None
                raise

        try:
            while rows := self._call(more, table):
                position = rows[-1].row + b"\0"
                yield from rows
        finally:
            if connection is not None:
                self._close_scanner(connection, scanner)

    def _close_scanner(self, connection: Any, scanner: int) -> None:
        """Close a scanner, unless the connection is in use: open, it costs the gateway memory for a minute.

        To wait for the connection is not possible: this runs wherever a generator happens to be collected.
        """
        if not self._turn.acquire(blocking=False):
            return
        try:
            if connection is self._connection and not self._calling:
                connection.client.scannerClose(scanner)
        except IllegalArgument:
            pass  # the gateway has forgotten it
        except (*_TRANSIENT, AssertionError):  # the latter is thriftpy2's for a socket that it has closed
            self.close()  # half an answer may still be on its way
        finally:
            self._turn.release()

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._connection is not None:
            try:
                self._connection.close()
            except OSError as error:
                _log.debug("closing the connection to HBase: %s", error)
            self._connection = None

    def _call(self, use: Callable[[Any], _Result], table: str = "", *, timeout: float | None = None) -> _Result:
        """Use the connection until that succeeds; `table` is the one whose failures are counted together."""

        def attempt() -> _Result:
            result = use(self._connected())
            if self._fresh:
                self._fresh = False
                self._rotation.worked(self._gateway)
            self._failing_since.pop(table, None)
            return result

        late = idled = False
        failed_at: float | None = None
        tried: set[Gateway] = set()

        def out_of_patience(upcoming_sleep: float) -> bool:
            since = self._failing_since.get(table)
            return since is not None and monotonic() + upcoming_sleep - since >= self._patience

        def after_failure(_: tenacity.RetryCallState) -> None:
            nonlocal idled, failed_at
            failed_at = monotonic() if failed_at is None else failed_at
            # A gateway closes a connection that idled for 60 s; only one that never worked speaks against it.
            idled = self._connection is not None and not self._fresh
            if not idled:
                tried.add(self._gateway)
                self._failing_since.setdefault(table, monotonic())
                self._rotation.failed(self._gateway)
            # The state of the connection is unknown after any failure: half an answer may still be on its way.
            self.close()

        def give_up(state: tenacity.RetryCallState) -> bool:
            nonlocal late
            seconds = (state.seconds_since_start or 0.0) + state.upcoming_sleep
            if self._stop.is_set():
                return True
            if idled or len(tried) < self._gateways:
                return False  # another one may be there
            if out_of_patience(state.upcoming_sleep):
                return True
            late = timeout is not None and seconds >= timeout
            return late

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_is_transient),
            stop=give_up,
            wait=tenacity.wait_random_exponential(multiplier=0.5, max=_LONGEST_WAIT_SECONDS),
            sleep=tenacity.sleep_using_event(self._stop),
            before_sleep=self._say_trying_again,
            after=after_failure,
            reraise=True,
        )
        try:
            with self._turn:
                self._calling = True
                try:
                    return retrying(attempt)
                finally:
                    self._calling = False
                    if failed_at is not None:
                        METER.count(names.WAIT_SECONDS, monotonic() - failed_at, "hbase")
        except _TRANSIENT as error:
            if isinstance(error, HBaseIOError) and not _is_transient(error):
                raise StoreError(f"HBase refuses: {_java_message(error)}") from error
            if late:
                raise StoreError(f"HBase has not taken it in {timeout:g} s: {_reason(error)}") from error
            raise UnreachableError(f"HBase at {self._gateway} does not answer: {_reason(error)}") from error
        except IllegalArgument as error:
            raise StoreError(f"HBase refuses: {_java_message(error)}") from error

    def _connected(self) -> Any:
        """Return the connection; moves to another gateway when this one rests, and back when it has rested."""
        if self._connection is not None and self._gateways > 1 and self._rotation.choose() != self._gateway:
            self.close()
        if self._connection is None:
            self._gateway = self._rotation.choose()
            self._fresh = True
            self._connection = _connect(self._gateway, self._call_timeout)
        return self._connection

    def _say_trying_again(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        wait = state.next_action.sleep if state.next_action else 0.0
        is_outage = state.attempt_number > 1 and _spoken.is_due(self._gateway)
        level = logging.WARNING if is_outage else logging.DEBUG
        _log.log(
            level, "HBase at %s: %s; trying again in %.1f s (attempt %d)",
            self._gateway, _reason(error), wait, state.attempt_number + 1,
        )  # fmt: skip


def _connect(gateway: Gateway, seconds: float) -> Any:
    # happybase has one time limit for connecting and for answering; a host that is gone should not take the longer one.
    try:
        socket.create_connection((gateway.host, gateway.port), min(seconds, _CONNECT_SECONDS)).close()
    except OSError as error:
        raise TTransportException(TTransportException.NOT_OPEN, str(error)) from error
    return happybase.Connection(
        gateway.host, gateway.port, timeout=int(seconds * 1000),
        transport=gateway.dialect.transport, protocol=gateway.dialect.protocol,
    )  # fmt: skip


def sound_rows(rows: Iterable[Any], prefix: bytes, columns: Collection[bytes]) -> list[Any]:
    """Return rows as Thrift has them, if they are such as HBase can have sent.

    Args:
        rows: The rows of an answer.
        prefix: What their keys begin with.
        columns: The families (`car`) and columns (`car:rpm`) that were asked for; none: all.

    Raises:
        TProtocolException: If a row has no key, no cells, or what was not asked for: so answers what is no HBase.
    """
    found = list(rows)
    for row in found:
        if not row.row or not row.row.startswith(prefix) or not row.columns:
            raise _garbage("a row without a key or cells, or one that was not asked for")
        for column, cell in row.columns.items():
            if cell.value is None or cell.timestamp is None:
                raise _garbage("a cell without a value or a time")
            if columns and column not in columns and column.partition(b":")[0] not in columns:
                raise _garbage("a column that was not asked for")
    return found


def _garbage(what: str) -> TProtocolException:
    message = f"it answers what HBase does not: {what}"
    return TProtocolException(TProtocolException.INVALID_DATA, message)  # type: ignore[no-untyped-call]


def _after_prefix(prefix: bytes) -> bytes | None:
    """Return the first key after all those that begin with a prefix; None where that is the end of the table."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None


def _send(connection: Any, frame: Frame) -> None:
    connection.transport.write(frame.data)
    connection.transport.flush()


def _receive(connection: Any, frame: Frame) -> None:
    connection.client._recv(frame.call)


def _check(connection: Any, table: str) -> None:
    """Raise an error that says so if a table is gone, or disabled; HBase's says "Failed 1 action" at best."""
    name = table.encode()
    if name not in connection.tables():
        raise StoreError(f"HBase refuses: the table '{table}' does not exist any more")
    if not connection.is_table_enabled(name):
        raise HBaseIOError(disabled(table))


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, HBaseIOError):
        return not any(refusal in _java_message(error, whole=True) for refusal in _REFUSALS)
    return isinstance(error, _TRANSIENT)


def _java_message(error: Any, *, whole: bool = False) -> str:
    """The message of an error that came over Thrift, which is a Java stack trace: its first line, or all of it."""
    message = error.message
    text = message.decode(errors="replace") if isinstance(message, bytes) else str(message)
    return text if whole else text.strip().partition("\n")[0]


def _reason(error: BaseException | None) -> str:
    if isinstance(error, HBaseIOError):
        return _java_message(error)
    # Neither happybase nor thriftpy2 says why; the socket's own error does.
    if isinstance(error, TTransportException) and isinstance(error.__context__, OSError):
        error = error.__context__
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    message = getattr(error, "message", None) or str(error)
    return str(message) or type(error).__name__
