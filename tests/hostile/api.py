"""An API that answers in the right form, in a wrong one, or breaks the rules of HTTP; on the loopback interface."""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any
from urllib.parse import parse_qsl

from .answers import RECORDS, Record, hostile_body

TOKEN = "T0KEN-of-the-hostile-api"
PASSWORD = "hunter2-hunter2"
"""What must never be shown."""

_MOST_BYTES = 400_000_000


@dataclass
class Answer:
    """The bytes that are sent: the status line and headers, and the body in pieces."""

    head: bytes
    body: Iterable[bytes] = ()


@dataclass
class HostileApi:
    """What is asked, and what is answered.

    Attributes:
        url: Where it is.
        other: The address of another server, to which redirects lead; see `strayed`.
        attack: Makes an answer of a question instead of the right one, where it returns something.
        served: Digests of the bodies that were sent whole, and as what they claim to be.
        strayed: Requests that came to the other server.
        ended: Set when the server ends, for those that wait for ever.
        right: What a question that is not attacked is answered with, by its path and query; OpenF1's records without.
    """

    url: str = ""
    other: str = ""
    attack: Callable[[HostileApi, str, list[Record]], Answer | None] = lambda *_: None
    served: set[str] = field(default_factory=set)
    strayed: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    right: Callable[[HostileApi, str], Answer] | None = None

    def whole(self, body: bytes, status: str = "200 OK", content_type: str = "application/json", *more: str) -> Answer:
        """Return an answer that keeps the rules, and remember that it was sent."""
        self.served.add(hashlib.md5(body, usedforsecurity=False).hexdigest())
        return Answer(head(status, f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *more), [body])


def head(status: str, *headers: str) -> bytes:
    """Return a status line and headers."""
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "Connection: close", "", ""]).encode()


@contextmanager
def hostile_api(
    attack: Callable[[HostileApi, str, list[Record]], Answer | None],
    right: Callable[[HostileApi, str], Answer] | None = None,
) -> Iterator[HostileApi]:
    """Serve during a block; an attack on another service than OpenF1 is told the whole path, and no records."""
    api = HostileApi(attack=attack, right=right)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if api.right is not None:
                self._send(api.attack(api, self.path, []) or api.right(api, self.path))
                return
            path, _, query = self.path.partition("?")
            endpoint = path.rpartition("/")[2]
            found = [record for record in RECORDS.get(endpoint, []) if _matches(record, query)]
            self._send(api.attack(api, endpoint, found) or _right(api, found, query))

        def do_POST(self) -> None:
            self._send(
                api.whole(json.dumps({"access_token": TOKEN, "token_type": "bearer", "expires_in": 3600}).encode())
            )

        def _send(self, answer: Answer) -> None:
            self.close_connection = True
            try:
                self.wfile.write(answer.head)
                for piece in answer.body:
                    self.wfile.write(piece)
            except OSError:
                pass  # the client has had enough

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    class Other(Handler):
        def do_GET(self) -> None:
            api.strayed.append(self.path)
            self._send(Answer(head("404 Not Found", "Content-Length: 31"), [b'{"detail": "No results found."}']))

    servers = [_Server(("127.0.0.1", 0), handler) for handler in (Handler, Other)]
    threads = [threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    api.url, api.other = (f"http://127.0.0.1:{server.server_address[1]}/v1" for server in servers)
    try:
        yield api
    finally:
        api.ended.set()
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: Any) -> None:
        """Say nothing: clients break connections off here, as they should."""


def _matches(record: Record, query: str) -> bool:
    wanted: dict[str, set[str]] = {}
    for name, value in parse_qsl(query):
        if name in {"session_key", "meeting_key", "driver_number", "year"}:
            wanted.setdefault(name, set()).add(value)
    return all(str(record.get(name)) in values for name, values in wanted.items())


def _right(api: HostileApi, found: list[Record], query: str) -> Answer:
    if not found:
        return api.whole(b'{"detail": "No results found."}', "404 Not Found")
    if "csv=true" in query:
        names = sorted(found[0])
        lines = [",".join(names), *(",".join(str(one[name]).replace("T", " ", 1) for name in names) for one in found)]
        return api.whole(("\n".join(lines) + "\n").encode(), content_type="text/csv")
    return api.whole(json.dumps(found).encode())


# --- attacks on the form of an answer ---


def hostile_content(random: Random, api: HostileApi, endpoint: str, found: list[Record]) -> Answer:
    """Return an answer that keeps the rules of HTTP and says something odd."""
    _, body = hostile_body(random, endpoint, found)
    content_type = random.choice(("application/json",) * 4 + ("text/csv", "text/html", "image/png", "x" * 500))
    return api.whole(body, content_type=content_type)


def hostile_transport(random: Random, api: HostileApi, found: list[Record]) -> Answer:
    """Return an answer that breaks the rules of HTTP, or stretches them."""
    return hostile_way(random, api, json.dumps(found or RECORDS["laps"]).encode())


def hostile_way(random: Random, api: HostileApi, body: bytes) -> Answer:
    """Return an answer with a body that breaks the rules of HTTP, or stretches them."""
    api.served.add(hashlib.md5(body, usedforsecurity=False).hexdigest())  # some may be read to the right end
    return random.choice(_TRANSPORTS)(random, api, body)


def hostile_status(random: Random, api: HostileApi) -> Answer:
    """Return a refusal or a failure; its words repeat the secrets of who asked, and command a terminal."""
    status = random.choice(
        (400, 401, 403, 404, 408, 413, 418, 422, 429, 429, 500, 500, 502, 503, 504, 299, 204, 206, 999)
    )
    waits = ("0", "1", "-5", "86400", "9" * 50, "soon", "Fri, 31 Dec 9999 23:59:59 GMT", "\x01", "1e9")
    words = (
        f"no {PASSWORD} for Bearer {TOKEN} \x1b[2J \x07 \r\n[SUCCESS] 2024-01-01 00:00:00 - all is loaded\n".encode()
    )
    text = random.choice((words, b"", b"x" * 100_000, json.dumps({"detail": words.decode()}).encode(), b"\xff\xfe"))
    headers = [f"Retry-After: {random.choice(waits)}"] if random.random() < 0.5 else []
    headers += [f"Date: {random.choice(waits)}"] if random.random() < 0.3 else []
    return Answer(head(f"{status} {'x' * 40}", f"Content-Length: {len(text)}", *headers), [text])


def _bomb(random: Random, api: HostileApi, body: bytes) -> Answer:
    def pieces() -> Iterator[bytes]:
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        filling = random.choice((b" ", b"[", b'{"a":1},')) * 1_000_000
        yield packer.compress(b"[")
        for _ in range(random.choice((5, 100))):
            yield packer.compress(filling)
        yield packer.flush()

    return Answer(head("200 OK", "Content-Type: application/json", "Content-Encoding: gzip"), pieces())


def _endless(random: Random, api: HostileApi, body: bytes) -> Answer:
    def pieces() -> Iterator[bytes]:
        piece = random.choice((b" ", b"x", body[:-1] + b",")) * 100_000
        piece = piece[:100_000]
        for _ in range(_MOST_BYTES // len(piece)):
            yield piece

    return Answer(head("200 OK", "Content-Type: application/json"), pieces())


def _dripping(random: Random, api: HostileApi, body: bytes) -> Answer:
    def pieces() -> Iterator[bytes]:
        for byte in body:
            yield bytes([byte])
            if api.ended.wait(0.5):
                return

    return Answer(head("200 OK", "Content-Type: application/json", f"Content-Length: {len(body)}"), pieces())


def _hanging(random: Random, api: HostileApi, body: bytes) -> Answer:
    def pieces() -> Iterator[bytes]:
        api.ended.wait()
        yield b""

    return Answer(random.choice((b"", b"HTTP/1.1 200 OK\r\n", head("200 OK", "Content-Length: 9"))), pieces())


def _closing(random: Random, api: HostileApi, body: bytes) -> Answer:
    return Answer(
        random.choice((b"", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nContent-Le", head("200 OK", "Content-Length: 9")))
    )


def _length(random: Random, api: HostileApi, body: bytes) -> Answer:
    length = random.choice((f"{len(body) + 5}", f"{len(body) // 2}", "-1", "9" * 30, "x", "1, 2"))
    return Answer(head("200 OK", "Content-Type: application/json", f"Content-Length: {length}"), [body])


def _chunks(random: Random, api: HostileApi, body: bytes) -> Answer:
    size = random.choice((b"%x" % len(body), b"ffffffffffffffffffff", b"-1", b"zz", b"", b"5;" + b"x" * 50_000))
    return Answer(head("200 OK", "Transfer-Encoding: chunked"), [size + b"\r\n" + body + b"\r\n"])


def _headers(random: Random, api: HostileApi, body: bytes) -> Answer:
    more = random.choice(
        (["X-A: " + "x" * 100_000], [f"X-{n}: 1" for n in range(20_000)], ["X-A: \x1b[2J\x00"], ["broken"])
    )
    return Answer(head("200 OK", f"Content-Length: {len(body)}", *more), [body])


def _garbage(random: Random, api: HostileApi, body: bytes) -> Answer:
    return Answer(random.randbytes(random.choice((1, 100, 100_000))))


def _encoding(random: Random, api: HostileApi, body: bytes) -> Answer:
    packed = gzip.compress(body)
    cut = random.choice((packed[:20], packed[:-4], packed[:-4] + b"abcd", body, b"", packed[:30] + b"\x00" * 30))
    name = random.choice(("gzip", "gzip", "gzip", "deflate", "br", "zstd", "gzip, gzip", "no such\x1b[2J"))
    return Answer(head("200 OK", f"Content-Encoding: {name}", f"Content-Length: {len(cut)}"), [cut])


def _redirect(random: Random, api: HostileApi, body: bytes) -> Answer:
    there = random.choice((
        api.other + "/laps", api.other.replace("127.0.0.1", "localhost"), api.url + "/laps", "/v1/laps", "",
        "file:///etc/passwd",
        "http://[::1", "//", "gopher://x", "http://127.0.0.1:1/", "\x1b[2J", f"http://u:{PASSWORD}@127.0.0.1:1/",
        "x" * 9_000,
    ))  # fmt: skip
    status = random.choice(("301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent", "300 Many"))
    return Answer(head(status, f"Location: {there}", "Content-Length: 0"))


_TRANSPORTS: tuple[Callable[[Random, HostileApi, bytes], Answer], ...] = (
    _bomb, _endless, _dripping, _hanging, _closing, _length, _chunks, _headers, _garbage, _encoding, _redirect,
)  # fmt: skip
