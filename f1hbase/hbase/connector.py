"""The connection to HBase's Thrift gateway: finds its dialect, puts, scans, and tries again when HBase is away."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

import happybase
import tenacity
from Hbase_thrift import AlreadyExists, IllegalArgument
from Hbase_thrift import IOError as HBaseIOError
from thriftpy2.protocol.exc import TProtocolException
from thriftpy2.thrift import TApplicationException
from thriftpy2.transport import TTransportException

from f1hbase.errors import StoreError, UnreachableError

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")

_DETECT_SECONDS = 5.0
"""How long one dialect may take to answer; a gateway in good health takes milliseconds."""

_CALL_SECONDS = 60.0
"""How long one call may take. HBase's own client inside the gateway retries a moving region for about as long."""

_LONGEST_WAIT_SECONDS = 30.0

BATCH_CELLS = 24_000
"""How many cells one call puts. Measured with six cells a row: batches of 1,000 cells 9 to 20 thousand rows a second,
of 24,000 cells 25 thousand, larger ones no more (DESIGN.md, Facts about HBase from Python)."""

BATCH_BYTES = 1_000_000
"""How many bytes of keys, columns and values one call puts: a framed gateway refuses frames above 2 MB unless told
otherwise (`hbase.regionserver.thrift.framed.max_frame_size_in_mb`), and Thrift adds about 20 bytes a cell."""

_TRANSIENT = (TTransportException, TProtocolException, TApplicationException, OSError, HBaseIOError)
_REFUSALS = ("TableNotFoundException", "NoSuchColumnFamilyException", "AccessDeniedException")
"""Java exceptions inside an IOError that waiting does not mend."""


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


class RowMutation(NamedTuple):
    """What changes in one row: cells by `family:qualifier` that are put, and columns that are deleted."""

    key: bytes
    cells: Mapping[bytes, bytes]
    deletes: Sequence[bytes] = ()


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
    mend = (
        "Is it the port of HBase's Thrift 1 gateway (9090, not the web pages or ZooKeeper), and is HBase up?"
        if len(candidates) == len(DIALECTS)
        else "Leave out --hbase-transport and --hbase-protocol to have the dialect found."
    )
    raise UnreachableError(f"HBase: what listens at {host}:{port} does not answer in {asked}. {mend}")


class HBaseConnector:
    """A connection that survives: each call is tried again, on a new connection, until HBase answers or patience ends.

    Not for use by several threads at once.

    Args:
        gateway: From `find_gateway`.
        patience: How long HBase may be away before a call fails, in seconds.
        stop: When set, no call is tried again.
    """

    def __init__(self, gateway: Gateway, patience: float = 1800.0, stop: threading.Event | None = None) -> None:
        self._gateway = gateway
        self._connection: Any = None
        self._stop = stop or threading.Event()
        self._retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_is_transient),
            stop=tenacity.stop_any(tenacity.stop_before_delay(patience), tenacity.stop_when_event_set(self._stop)),
            wait=tenacity.wait_random_exponential(multiplier=0.5, max=_LONGEST_WAIT_SECONDS),
            sleep=tenacity.sleep_using_event(self._stop),
            before_sleep=self._reconnect_later,
            reraise=True,
        )

    def tables(self) -> list[str]:
        """Return the names of all tables."""
        return self._call(lambda c: [name.decode() for name in c.tables()])

    def families(self, table: str) -> set[str]:
        """Return the column families of a table."""
        return self._call(lambda c: {name.decode().rstrip(":") for name in c.table(table).families()})

    def create_table(self, table: str, families: Iterable[str], options: Mapping[str, object]) -> bool:
        """Create a table, each family with the same options; False if somebody else was faster."""
        names = list(families)
        try:
            self._call(lambda c: c.create_table(table, {name: dict(options) for name in names}))
        except AlreadyExists:
            return False
        return True

    def put(self, table: str, mutations: Iterable[RowMutation]) -> None:
        """Send mutations, in as few calls as is good; on return they are in HBase's write-ahead log.

        Raises:
            StoreError: If HBase refuses them.
            UnreachableError: If HBase stays away longer than patience lasts.
        """
        for batch in _batches(mutations):
            self._call(partial(_send, table=table, mutations=batch))

    def scan(
        self, table: str, prefix: bytes, columns: Sequence[bytes] | None = None
    ) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """Return all rows whose key begins with a prefix, in the order of their keys."""
        return self._call(lambda c: list(c.table(table).scan(row_prefix=prefix, columns=columns, batch_size=1000)))

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._connection is not None:
            try:
                self._connection.close()
            except OSError as error:
                _log.debug("closing the connection to HBase: %s", error)
            self._connection = None

    def _call(self, use: Callable[[Any], _Result]) -> _Result:
        def attempt() -> _Result:
            if self._connection is None:
                self._connection = _connect(self._gateway, _CALL_SECONDS)
            return use(self._connection)

        try:
            return self._retrying(attempt)
        except _TRANSIENT as error:
            self.close()
            if isinstance(error, HBaseIOError) and not _is_transient(error):
                raise StoreError(f"HBase refuses: {_java_message(error)}") from error
            raise UnreachableError(f"HBase at {self._gateway} does not answer: {_reason(error)}") from error
        except IllegalArgument as error:
            raise StoreError(f"HBase refuses: {_java_message(error)}") from error

    def _reconnect_later(self, state: tenacity.RetryCallState) -> None:
        # After any failure the state of the connection is unknown: half an answer may still be on its way.
        self.close()
        error = state.outcome.exception() if state.outcome else None
        wait = state.next_action.sleep if state.next_action else 0.0
        # A gateway closes a connection that idled for 60 s: the first failure is daily business.
        level = logging.DEBUG if state.attempt_number == 1 else logging.WARNING
        _log.log(
            level, "HBase at %s: %s; trying again in %.1f s (attempt %d)",
            self._gateway, _reason(error), wait, state.attempt_number + 1,
        )  # fmt: skip


def _connect(gateway: Gateway, seconds: float) -> Any:
    return happybase.Connection(
        gateway.host, gateway.port, timeout=int(seconds * 1000),
        transport=gateway.dialect.transport, protocol=gateway.dialect.protocol,
    )  # fmt: skip


def _batches(mutations: Iterable[RowMutation]) -> Iterator[list[RowMutation]]:
    """Cut mutations into what one call takes; a row is never cut."""
    batch: list[RowMutation] = []
    cells = size = 0
    for mutation in mutations:
        columns = len(mutation.cells) + len(mutation.deletes)
        row_size = len(mutation.key) + sum(map(len, mutation.cells)) + sum(map(len, mutation.cells.values()))
        if batch and (cells + columns > BATCH_CELLS or size + row_size > BATCH_BYTES):
            yield batch
            batch, cells, size = [], 0, 0
        batch.append(mutation)
        cells += columns
        size += row_size
    if batch:
        yield batch


def _send(connection: Any, *, table: str, mutations: Iterable[RowMutation]) -> None:
    # Made anew for each try: a happybase batch belongs to its connection.
    batch = connection.table(table).batch()
    for key, cells, deletes in mutations:
        batch.put(key, cells)
        if deletes:
            batch.delete(key, deletes)
    batch.send()


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
    # thriftpy2 replaces the socket's own error, which says why, by one that does not.
    if isinstance(error, TTransportException) and isinstance(error.__context__, OSError):
        error = error.__context__
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    message = getattr(error, "message", None) or str(error)
    return str(message) or type(error).__name__
