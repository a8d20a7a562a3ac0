"""A Thrift gateway that speaks the protocol and lies: values of the right types, and odd in every other way."""

from __future__ import annotations

import socket
from contextlib import suppress
from random import Random
from typing import Any

import happybase  # noqa: F401 - makes the module Hbase_thrift
from Hbase_thrift import Hbase, IllegalArgument
from Hbase_thrift import IOError as HBaseIOError
from thriftpy2.protocol import TBinaryProtocol
from thriftpy2.thrift import TProcessor, TType
from thriftpy2.transport import TBufferedTransport, TSocket

from f1hbase.model.catalog import ALL_ENDPOINTS

from .answers import FORGED, HOSTILE_TEXTS, MEETING_KEY, SESSION_KEY
from .api import PASSWORD
from .cases import USUAL, Case

_FAMILIES = sorted({endpoint.family for endpoint in ALL_ENDPOINTS.values()} | {"meta", "stats", "errors"})
_SCOPE = f"2025#{MEETING_KEY}#{SESSION_KEY}"
_ROWS = (
    f"unit#{_SCOPE}#laps#-#-#-",
    f"unit#{_SCOPE}#car_data#-#-#-",
    f"{_SCOPE}#1#1",
    f"lease#2025#{MEETING_KEY}",
    "run#x",
    f"quarantine#{_SCOPE}#laps#x",
    "unit#",
    "",
    "\x00",
    "\xff" * 9,
    "unit#" + "9" * 5_000 + "#1#1#laps#-#-#-",
    FORGED,
)
_COLUMNS = tuple(
    f"{family}:{name}"
    for family in ("meta", "stats", "errors", "laps")
    for name in (
        "status",
        "run",
        "window_end",
        "rows",
        "epochs",
        "checksum",
        "x",
        "",
        "last",
        "holder",
        "until",
        "drivers",
    )
)
_VALUES = (
    "done",
    "failed",
    "",
    "0",
    "-1",
    "9" * 5_000,
    "1e999",
    "[",
    "{}",
    "null",
    "\xff",
    "2025-03-09T13:00:00+00:00",
)
_MOST_LISTS = 20
"""How often a scanner gives rows: no reader can tell a table without end from a long one."""


def liar(random: Random, seed: int) -> Case:
    """A gateway that answers each call, in the right types, with what is odd."""
    honesty = random.choice((0.0, 0.5, 0.9, 0.98))
    case = Case(seed, f"{honesty:.0%} right", gateway=_Liar(Random(f"{seed} calls"), honesty).talk, at_once=True)
    where = ("--hbase-host", "127.0.0.1", "--hbase-port", "{gateway}")
    short = ("--patience", "2s", "--hbase-timeout", "1s")
    commands = (
        (*USUAL, "--to", "hbase", *where, *short),
        ("status", *where),
        ("verify", *where, *short),
        ("doctor", *where),
        ("export", "--from", "hbase", "--to", "./tables", "--format", "jsonl", *where, *short),
        ("rollback", "--session-key", str(SESSION_KEY), "--yes", *where, *short),
    )
    case.commands = tuple(random.sample(commands, 2))
    case.asked_for = frozenset({"tables"})
    return case


class _Liar:
    """Answers calls of any method with values of the types that it returns.

    Args:
        random: Chooses.
        honesty: The share of calls that are answered as by an empty HBase with all tables.
    """

    def __init__(self, random: Random, honesty: float) -> None:
        self._random = random
        self._honesty = honesty
        self._lists: dict[int, int] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *arguments: self._answer(name, arguments)

    def talk(self, connection: socket.socket) -> None:
        """Answer what comes over a connection, to its end."""
        handle: Any = TSocket()  # type: ignore[no-untyped-call]
        handle.set_handle(connection)
        protocol = TBinaryProtocol(TBufferedTransport(handle))  # type: ignore[no-untyped-call]
        processor = TProcessor(Hbase, self)
        with suppress(Exception):  # whatever a client sends that is none of this dialect
            while True:
                processor.process(protocol, protocol)

    def _answer(self, method: str, arguments: tuple[Any, ...]) -> Any:
        random = self._random
        if random.random() < self._honesty:
            return self._right(method)
        if random.random() < 0.2:
            words = f"java.lang.Exception: no {PASSWORD} \x1b[2J\n\tat org.apache.X(X.java:1)\n{FORGED}"
            raise random.choice(
                (HBaseIOError(message=words), IllegalArgument(message=random.choice(HOSTILE_TEXTS)[:9_999]))
            )
        if method == "scannerGetList":
            scanner = arguments[0]
            self._lists[scanner] = self._lists.get(scanner, 0) + 1
            if self._lists[scanner] > _MOST_LISTS:
                return []
        spec = getattr(Hbase, f"{method}_result").thrift_spec.get(0)
        return None if spec is None else self._value(spec[0], spec[2] if len(spec) > 3 else None)

    def _right(self, method: str) -> Any:
        if method == "getTableNames":
            return [b"f1_data", b"f1_reports"]
        if method == "getColumnDescriptors":
            from Hbase_thrift import ColumnDescriptor

            return {
                f"{name}:".encode(): ColumnDescriptor(name=f"{name}:".encode(), maxVersions=1) for name in _FAMILIES
            }
        spec = getattr(Hbase, f"{method}_result").thrift_spec.get(0)
        empty: dict[int, Any] = {
            TType.LIST: [],
            TType.MAP: {},
            TType.BOOL: True,
            TType.I32: 1,
            TType.I64: 1,
            TType.STRING: b"",
        }
        return None if spec is None else empty.get(spec[0])

    def _value(self, kind: int, of: Any) -> Any:
        random = self._random
        if kind in {TType.STRING, TType.BINARY}:
            return self._text()
        if kind == TType.BOOL:
            return random.random() < 0.5
        if kind in {TType.BYTE, TType.I16, TType.I32, TType.I64}:
            bits = {TType.BYTE: 7, TType.I16: 15, TType.I32: 31}.get(kind, 63)
            return random.choice((0, 1, -1, 2**bits - 1, -(2**bits)))
        if kind in {TType.LIST, TType.SET}:
            item, inner = of if isinstance(of, tuple) else (of, None)
            return [self._value(item, inner) for _ in range(random.choice((0, 1, 3, 200)))]
        if kind == TType.MAP:
            (key, key_of), (item, item_of) = (one if isinstance(one, tuple) else (one, None) for one in of)
            return {self._value(key, key_of): self._value(item, item_of) for _ in range(random.choice((0, 1, 5)))}
        if kind == TType.STRUCT:
            made = of()
            for spec in of.thrift_spec.values():
                if random.random() < 0.9:
                    setattr(made, spec[1], self._value(spec[0], spec[2] if len(spec) > 3 else None))
            return made
        return None

    def _text(self) -> bytes:
        of = self._random.choice(
            (_ROWS, _COLUMNS, _VALUES, tuple(f"{name}:" for name in _FAMILIES), ("f1_data", "f1_reports"))
        )
        if self._random.random() < 0.1:
            of = HOSTILE_TEXTS
        return self._random.choice(of)[:9_999].encode("utf-8", "surrogatepass")
