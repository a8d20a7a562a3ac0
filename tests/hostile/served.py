"""`serve` as the one that is attacked: odd questions, paths and headers, and connections that ask nothing."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from random import Random
from time import monotonic

from .answers import RECORDS, SESSION_KEY
from .cases import Case

_MOST_SECONDS = 10.0
_GOOD = f"/v1/laps?session_key={SESSION_KEY}"

_TARGETS = (
    "/../../../../etc/passwd",
    "/v1/../../etc/passwd",
    "/v1/%2e%2e/%2e%2e/etc/passwd",
    "/pages/static/../../../../etc/passwd",
    "/pages/static/%2e%2e%2f%2e%2e%2f%2e%2e%2fetc/passwd",
    "//etc/passwd",
    "/v1/laps%00",
    "/v1/" + "a" * 20_000,
    "/" * 5_000,
    "/v1/meetings?" + "&".join(f"year={number}" for number in range(5_000)),
    "*",
    "http://evil.example/v1/laps",
    "/v1/laps?session_key=" + "9" * 5_000,
    "/v1/laps?session_key=latest&lap_number>=" + "9" * 400,
    "/v1/car_data?date>=9999-12-31T23:59:59&date<0001-01-01",
    "/v1/car_data?date>=2025-13-45",
    "/v1/laps?lap_duration<nan",
    "/v1/laps?lap_duration<1e999",
    "/v1/laps?x=%0d%0aX-Made:%20yes",
    "/v1/laps?csv=%ff%fe",
    "/v1/laps?<>=",
    "/v1/laps?session_key=-0",
    "/v1/laps?driver_number=%00",
    "/v1/laps?driver_number=%1b[2J",
    "/v1/laps?__class__=1",
    "/v1/nothing?session_key=1",
    "/pages/sessions/../../x",
    "/pages/sessions/" + "9" * 400,
    "/pages/sessions/<script>alert(1)</script>",
    "/docs?x=<script>",
    "/v1/laps?team_name=" + "%F0%9F%8F%8E" * 2_000,
    "/v1/laps?session_key=70001&" + "driver_number=1&" * 3_000,
    "/\x00",
    "/\xff",
)
_HEADERS = (
    "Host: evil.example",
    "Host: 127.0.0.1\r\nHost: evil.example",
    "Host: ",
    "X-A: " + "x" * 100_000,
    "Content-Length: -1",
    "Content-Length: 99999999999999999999",
    "Transfer-Encoding: chunked\r\nContent-Length: 5",
    "Origin: null",
    "Range: bytes=0-" + "9" * 50,
    "If-None-Match: " + '"x",' * 5_000,
    "Accept-Encoding: gzip, gzip, br;q=1e999",
    "Authorization: Bearer " + "x" * 5_000,
    "Expect: 100-continue",
    "Upgrade: websocket\r\nConnection: Upgrade",
    "\x1b[2J: 1",
    "Cookie: " + "a=b;" * 5_000,
    "Connection: keep-alive",
    "X-A: \x00",
)
_METHODS = (
    "GET",
    "GET",
    "GET",
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "PRI",
    "get",
    "\x00",
    "X" * 9_000,
)


def served(random: Random, seed: int) -> Case:
    """A server over a folder, which gets odd requests and is then asked a usual one."""
    case = Case(seed, "requests", exit_codes=frozenset({0}))

    def prepare(work: Path, _: Path) -> None:
        (work / "data").mkdir()
        for name, records in RECORDS.items():
            lines = "".join(json.dumps(record) + "\n" for record in records)
            (work / "data" / f"{name}.jsonl").write_text(lines, encoding="utf-8")

    case.prepare = prepare
    case.commands = (("serve", "--from", "./data", "--port", "0"),)
    case.asked_for = frozenset({"data"})

    def talk(host: str, port: int) -> Iterator[str]:
        with ExitStack() as idle:
            for _ in range(random.choice((0, 50, 300))):  # they begin a request and do not end it
                one = idle.enter_context(socket.create_connection((host, port), 5))
                with suppress(OSError):
                    one.sendall(random.choice((b"", b"G", b"GET /v1/laps HTTP/1.1\r\nHost: x\r\nX-A: ")))
            for _ in range(25):
                request = _request(random)
                answer = _asked(host, port, request)
                if b"<pre>Traceback (most recent call last):\nValueError: No results\n</pre>" in answer:
                    continue  # OpenF1's own words for a CSV answer without records, on purpose
                if b"root:" in answer or b"Traceback" in answer or b"\nX-Made" in answer or b'File "' in answer:
                    yield f"{request[:200]!r} is answered with {answer[:500]!r}"
                if b" 500 " in answer[:20]:
                    yield f"{request[:200]!r} is a 500: {answer[-300:]!r}"
            began = monotonic()
            answer = _asked(
                host, port, f"GET {_GOOD} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode()
            )
            if b" 200 " not in answer[:20] or monotonic() - began > _MOST_SECONDS:
                yield f"after that a usual question is answered with {answer[:200]!r} in {monotonic() - began:.1f} s"

    case.talk = talk
    return case


def _request(random: Random) -> bytes:
    if random.random() < 0.1:
        return random.choice(
            (random.randbytes(500), b"\r\n" * 500, b"\x16\x03\x01" + random.randbytes(100), b"GET\r\n\r\n")
        )
    target, method = random.choice(_TARGETS), random.choice(_METHODS)
    headers = [random.choice(_HEADERS)] if random.random() < 0.6 else []
    if not any(header.startswith("Host") for header in headers):
        headers.append("Host: 127.0.0.1")
    if random.random() < 0.7:
        target = random.choice((target, target.replace("/v1/laps", "/v1/car_data"), target + "&csv=true"))
    version = random.choice(("1.1", "1.1", "1.1", "1.0", "9.9", "2.0"))
    lines = [f"{method} {target} HTTP/{version}", *headers, "Connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1", "replace") + random.choice((b"", b"", b"x" * 100_000))


def _asked(host: str, port: int, request: bytes) -> bytes:
    """Return what a request is answered with, as far as it comes within some seconds."""
    answer = b""
    with suppress(OSError), socket.create_connection((host, port), 3) as connection:
        connection.settimeout(3)
        with suppress(OSError):
            connection.sendall(request)
        while len(answer) < 10_000_000:
            piece = connection.recv(65_536)
            if not piece:
                break
            answer += piece
    return answer
