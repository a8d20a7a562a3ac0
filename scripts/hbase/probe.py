"""What local_hbase.sh asks of the network. Standard library alone: HBase may be there before a .venv is.

probe.py taken PORT...
    prints those ports of 127.0.0.1 that something holds already.
probe.py tables PORT buffered|framed binary|compact
    prints the names of the tables, one a line, once HBase truly answers: the gateway takes the calls, the
    master knows the tables, the region server serves hbase:meta. Otherwise it exits with 1 and says why.
"""

from __future__ import annotations

import socket
import struct
import sys
from typing import Protocol

HOST = "127.0.0.1"
TIMEOUT = 5.0
"""Seconds a read may take; an HBase that is up answers within milliseconds."""


class Wire(Protocol):
    """The part of a Thrift protocol that a call with string arguments and a list for an answer needs."""

    def request(self, method: bytes, arguments: tuple[bytes, ...]) -> bytes:
        """Encode a call whose arguments, numbered from 1, are strings."""
        ...

    def answer(self, stream: Stream) -> int:
        """Read an answer up to its list's first item and return the number of items."""
        ...

    def size(self, stream: Stream) -> int:
        """Read the length of a string."""
        ...


class Stream:
    """A connection that gives exactly as many bytes as are asked for."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((HOST, port), TIMEOUT)
        self._file = self._socket.makefile("rb")

    def write(self, data: bytes) -> None:
        """Send all of it."""
        self._socket.sendall(data)

    def read(self, size: int) -> bytes:
        """Return exactly that many bytes, or raise ``ConnectionError`` when the other side has closed."""
        data = self._file.read(size)
        if len(data) < size:
            raise ConnectionError("the gateway closed the connection: other transport or protocol?")
        return data


class _Binary(Wire):
    """Thrift's binary protocol, strict."""

    def request(self, method: bytes, arguments: tuple[bytes, ...]) -> bytes:
        fields = [struct.pack(">bhi", 11, i, len(a)) + a for i, a in enumerate(arguments, 1)]
        head = struct.pack(">HHi", 0x8001, 1, len(method)) + method + bytes(4)
        return head + b"".join(fields) + b"\0"

    def answer(self, stream: Stream) -> int:
        version, kind, length = struct.unpack(">HHi", stream.read(8))
        check(version == 0x8001 and kind == 2)
        stream.read(length + 4)
        check(stream.read(3) == b"\x0f\0\0")
        stream.read(1)
        return self.size(stream)

    def size(self, stream: Stream) -> int:
        return int.from_bytes(stream.read(4), "big")


class _Compact(Wire):
    """Thrift's compact protocol."""

    def request(self, method: bytes, arguments: tuple[bytes, ...]) -> bytes:
        # Every length here is below 128, where a varint is the number itself.
        fields = [bytes([0x18, len(a)]) + a for a in arguments]
        return bytes([0x82, 0x21, 0, len(method)]) + method + b"".join(fields) + b"\0"

    def answer(self, stream: Stream) -> int:
        check(stream.read(2) == b"\x82\x41")
        self.size(stream)
        stream.read(self.size(stream))
        check(stream.read(2) == b"\x09\0")
        count = stream.read(1)[0] >> 4
        return count if count < 15 else self.size(stream)

    def size(self, stream: Stream) -> int:
        number = shift = 0
        while True:
            byte = stream.read(1)[0]
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number


def check(expected: bool) -> None:
    """Refuse an answer that is not a result: an exception of HBase, or another protocol."""
    if not expected:
        raise ConnectionError("the gateway did not answer with a result")


def table_names(port: int, *, framed: bool, wire: Wire) -> list[str]:
    """Ask for the tables and for a row of hbase:meta, and return the tables' names."""

    def call(method: bytes, *arguments: bytes) -> tuple[Stream, int]:
        stream = Stream(port)
        message = wire.request(method, arguments)
        stream.write((len(message).to_bytes(4, "big") if framed else b"") + message)
        if framed:
            stream.read(4)
        return stream, wire.answer(stream)

    stream, count = call(b"getTableNames")
    names = [stream.read(wire.size(stream)).decode() for _ in range(count)]
    call(b"getRow", b"hbase:meta", b"a row that is not there")
    return names


def is_taken(port: int) -> bool:
    """Tell whether a server could not listen on the port: something answers there or holds it."""
    with socket.socket() as client:
        client.settimeout(1)
        if client.connect_ex((HOST, port)) == 0:
            return True
    with socket.socket() as server:
        # As Java does it: connections that are only winding down do not count.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((HOST, port))
        except OSError:
            return True
    return False


def main(command: str, *arguments: str) -> None:
    """Carry out the command that the module's docstring describes."""
    if command == "taken":
        lines = [port for port in arguments if is_taken(int(port))]
        sys.stdout.writelines(f"{line}\n" for line in lines)
        return
    port, transport, protocol = arguments
    wire = _Compact() if protocol == "compact" else _Binary()
    try:
        lines = table_names(int(port), framed=transport == "framed", wire=wire)
    except OSError as error:
        sys.exit(f"{HOST}:{port} ({transport}, {protocol}): {error}")
    sys.stdout.writelines(f"{line}\n" for line in lines)


if __name__ == "__main__":
    main(*sys.argv[1:])
