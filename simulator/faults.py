"""Failures on purpose: the server's answers, spoilt as the real API and the way to it spoil them.

Faults at random depend on the seed, the query and how often it was asked before, not on the order in which
clients arrive: four processes that ask the same questions meet the same faults as one. Every kind but
``foreign`` is one that a client survives by asking again.

>>> dice = Dice(FaultSettings(share=0.5, seed=7, kinds=("504", "cut")))
>>> [dice.throw("GET /v1/laps?session_key=9159").kind for _ in range(6)]
[None, None, '504', '504', None, '504']
"""

import asyncio
import csv
import io
import json
import random
import re
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from email.utils import formatdate
from math import ceil, inf
from typing import Any, NamedTuple, Self
from urllib.parse import unquote_plus

from aiohttp import web
from aiohttp.typedefs import Handler

from f1hbase.model.catalog import ENDPOINTS
from f1hbase.serve.query import Condition, parse_query
from f1hbase.serve.times import instant, isoformat

KINDS = {
    "500": "an HTML page with status 500",
    "502": "plain text with status 502",
    "503": "plain text with status 503",
    "504": "plain text with status 504: upstream request timeout",
    "cut": "200 with the first half of the body, and a Content-Length that says just that",
    "broken": "200 with the whole Content-Length, then half the body and the end of the connection",
    "html": "200 with an HTML page",
    "object": "200 with a JSON object where a list belongs",
    "closed": "the connection is closed without an answer",
    "reset": "the connection is reset (RST) without an answer",
    "silent": "no answer until the client gives up",
    "429": "429 with Retry-After in seconds",
    "429-date": "429 with Retry-After as an HTTP date",
    "429-bare": "429 without Retry-After",
    "foreign": "200 with one more record, outside what was asked; never unless named",
}
DEFAULT_KINDS = tuple(kind for kind in KINDS if kind != "foreign")

LOCKED = "Live F1 session in progress. Access is restricted to authenticated users until the session ends."

_TEXTS = {
    502: "Bad Gateway",
    503: "upstream connect error or disconnect/reset before headers",
    504: "upstream request timeout",
}
_DETAILS = {401: "Not authenticated", 404: "No results found.", 429: "Rate limit exceeded"}
_SPAN = re.compile(r"(\d+)(s?)-(\d+)(s?)")
_SECOND = 1_000_000  # microseconds, of which instants are made
_LOOK_SECONDS = 0.1
_LINGER_NONE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class LockOut:
    """From when to when a live session keeps everyone out who has no token, both ends included.

    Counted in requests (the first is number 1), or in ``seconds`` since the server's start.

    >>> LockOut.parse("20-60").holds(number=60, elapsed=3.5)
    True
    >>> str(LockOut.parse("20s-60s"))
    '20s-60s'
    """

    first: float = 0
    last: float = inf
    seconds: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the lock-out that ``20-60`` (requests) or ``20s-60s`` (seconds) names, else raise ``ValueError``."""
        match = _SPAN.fullmatch(text.strip())
        if match is None or match[2] != match[4] or int(match[1]) > int(match[3]):
            raise ValueError(f"'lock_out' is FROM-TO in requests (20-60) or in seconds (20s-60s), got {text!r}")
        return cls(int(match[1]), int(match[3]), bool(match[2]))

    def holds(self, number: int, elapsed: float) -> bool:
        """Tell whether request ``number``, ``elapsed`` seconds after the start, meets a closed door."""
        return self.first <= (elapsed if self.seconds else number) <= self.last

    def __str__(self) -> str:
        unit = "s" if self.seconds else ""
        return f"{self.first:g}{unit}-{self.last:g}{unit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultSettings:
    """What is to go wrong. Raises ``ValueError`` or ``TypeError``, with the name in quotes, for what makes no sense."""

    share: float = 0.0
    """Of the requests, how many are answered with a fault: 0 to 1."""
    seed: int = 1
    kinds: tuple[str, ...] = DEFAULT_KINDS
    in_a_row: int = 2
    """No query has more faults one after the other than these."""
    retry_after: int = 1
    """Seconds that a 429 asks to wait."""
    silence: float = 600.0
    """Seconds until the server closes a connection that it does not answer."""
    fail: Mapping[str, int] = field(default_factory=dict)
    """Endpoints that have no other answer than this status."""
    lock_out: LockOut | None = None
    down: bool = False
    """Every connection is closed without an answer."""

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"'share' must be from 0 to 1, got {self.share}")
        for kind in self.kinds:
            if kind not in KINDS:
                raise ValueError(f"'kinds' are {', '.join(KINDS)}; got {kind!r}")
        for name in ("in_a_row", "retry_after", "silence"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name!r} must not be negative, got {getattr(self, name)}")
        for endpoint, status in self.fail.items():
            if endpoint not in ENDPOINTS:
                raise ValueError(f"'fail' names no endpoint of the API: {endpoint!r}")
            if not isinstance(status, int) or not 400 <= status <= 599:
                raise ValueError(f"'fail' needs a status from 400 to 599 for {endpoint}, got {status!r}")

    def changed(self, changes: object) -> Self:
        """Return the settings with what a JSON object says otherwise; see `FaultSettings.shown` for its form."""
        if not isinstance(changes, dict):
            raise TypeError("the changes must be a JSON object")
        values: dict[str, Any] = dict(changes)
        for name, value in values.items():
            wanted = _TYPES.get(name)
            if wanted is None:
                raise ValueError(f"{name!r} is none of the settings {', '.join(_TYPES)}")
            if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
                raise TypeError(f"{name!r} cannot be {value!r}")
        if "kinds" in values:
            values["kinds"] = tuple(values["kinds"])
        if "lock_out" in values:
            wish = values["lock_out"]
            values["lock_out"] = LockOut.parse(wish) if isinstance(wish, str) else LockOut() if wish else None
        return replace(self, **values)

    def shown(self) -> dict[str, Any]:
        """Return the settings as JSON values: ``lock_out`` as ``false``, ``true`` (for ever) or its text."""
        door = self.lock_out
        text: bool | str = False if door is None else True if door == LockOut() else str(door)
        return {**{one.name: getattr(self, one.name) for one in fields(self)}, "lock_out": text}


_TYPES: dict[str, tuple[type, ...]] = {
    "share": (int, float),
    "seed": (int,),
    "kinds": (list,),
    "in_a_row": (int,),
    "retry_after": (int,),
    "silence": (int, float),
    "fail": (dict,),
    "lock_out": (bool, str, type(None)),
    "down": (bool,),
}


class Throw(NamedTuple):
    """What is dealt to one request: a kind or none, and the randomness that is left for it."""

    kind: str | None
    rng: random.Random


class Dice:
    """Decides for each request whether it meets a fault, and which, by seed, query and how often it was asked."""

    def __init__(self, settings: FaultSettings) -> None:
        self.settings = settings
        self._asked: Counter[str] = Counter()
        self._row: Counter[str] = Counter()

    def throw(self, query: str) -> Throw:
        """Return what the query, asked once more, is dealt."""
        settings = self.settings
        self._asked[query] += 1
        rng = random.Random(f"{settings.seed}\n{self._asked[query]}\n{query}")  # noqa: S311
        if not settings.kinds or rng.random() >= settings.share or self._row[query] >= settings.in_a_row:
            self._row[query] = 0
            return Throw(None, rng)
        self._row[query] += 1
        return Throw(rng.choice(settings.kinds), rng)


class Faults:
    """The middleware that deals the faults, and ``/_faults``, which shows and changes them while it does.

    It lets the API answer first, so that a request that meets a fault counts against the API's rates like any
    other; what the API itself refuses (401, 429) is no one else's fault and stays. It leaves the name of what
    was dealt in ``request["fault"]``: a kind, or ``fail``, ``lock-out`` or ``down``.
    """

    def __init__(self, settings: FaultSettings | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._dice = Dice(settings or FaultSettings())
        self._clock = clock
        self._begin = clock()
        self._requests = 0
        self._dealt: Counter[str] = Counter()

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer a request: as the API does, or not."""
        if request.path == "/_faults":
            return await self._control(request)
        if request.path.startswith("/_"):
            return await handler(request)
        if self._dice.settings.down:
            self._note(request, "down")
            return _hang_up(request)
        if not request.path.startswith("/v1/"):
            return await handler(request)
        self._requests += 1
        number, elapsed = self._requests, self._clock() - self._begin
        response = await handler(request)
        settings = self._dice.settings
        if response.status in {401, 429}:
            return response
        if settings.lock_out and not request.get("trusted") and settings.lock_out.holds(number, elapsed):
            self._note(request, "lock-out")
            return web.json_response({"detail": LOCKED}, status=401)
        if (status := settings.fail.get(request.match_info.get("endpoint", "").lower())) is not None:
            self._note(request, "fail")
            return error_answer(status)
        kind, rng = self._dice.throw(f"{request.method} {unquote_plus(request.raw_path)}")
        if kind is None:
            return response
        return await self._spoil(kind, rng, request, response)

    async def _spoil(
        self, kind: str, rng: random.Random, request: web.Request, response: web.StreamResponse
    ) -> web.StreamResponse:
        """Return what comes instead of a response; itself where it cannot be spoilt in that way."""
        body, headers = await _body(response), {"Content-Type": response.headers["Content-Type"]}
        if kind == "foreign":
            more = add_foreign(body, request.raw_path.partition("?")[2], rng) if response.status == 200 else None
            if more is None:
                return response
            body = more
        self._note(request, kind)
        wait = self._dice.settings.retry_after
        match kind:
            case "foreign":
                return web.Response(body=body, headers=headers)
            case "cut":
                return web.Response(body=cut(body), headers=headers)
            case "broken":
                return await _break_off(request, body, headers)
            case "html":
                return error_answer(500, as_status=200)
            case "object":
                return web.json_response({"message": "The service is temporarily unavailable."})
            case "closed":
                return _hang_up(request)
            case "reset":
                return _reset(request)
            case "silent":
                await self._keep_silent(request)
                return _hang_up(request)
            case "429":
                return error_answer(429, {"Retry-After": str(wait)})
            case "429-date":
                # A date has whole seconds: the next one, so that the wait is never shorter than was meant.
                return error_answer(429, {"Retry-After": formatdate(ceil(time.time()) + wait, usegmt=True)})
            case "429-bare":
                return error_answer(429)
            case _:
                return error_answer(int(kind))

    async def _keep_silent(self, request: web.Request) -> None:
        end = self._clock() + self._dice.settings.silence
        # aiohttp does not tell a handler that its client has gone: it must look.
        while request.transport is not None and self._clock() < end:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_SECONDS)

    async def _control(self, request: web.Request) -> web.Response:
        if request.method == "POST":
            try:
                settings = self._dice.settings.changed(changes := await request.json())
            except (ValueError, TypeError) as error:
                return web.json_response({"detail": str(error)}, status=422)
            if "seed" in changes:  # the same one, too: a test can have its faults once more from the start
                self._dice = Dice(settings)
            self._dice.settings = settings
        shown = self._dice.settings.shown()
        return web.json_response({**shown, "dealt": dict(self._dealt), "requests": self._requests})

    def _note(self, request: web.Request, fault: str) -> None:
        request["fault"] = fault
        self._dealt[fault] += 1


def error_answer(status: int, headers: Mapping[str, str] | None = None, as_status: int | None = None) -> web.Response:
    """Return an error as the API words it: HTML for 500, text for 502 to 504, JSON with ``detail`` for others."""
    if status == 500:
        page = "<html><head><title>500</title></head><body><h1>Internal Server Error</h1></body></html>"
        return web.Response(status=as_status or status, text=page, content_type="text/html", headers=headers)
    if status in _TEXTS:
        return web.Response(status=status, text=_TEXTS[status], headers=headers)
    return web.json_response({"detail": _DETAILS.get(status, "Bad request")}, status=status, headers=headers)


def cut(body: bytes) -> bytes:
    """Return the first half, at least a byte of it: JSON that is none, CSV whose last line has no end.

    >>> cut(b'[{"a":1},{"a":2}]'), cut(b"a\\r\\n1\\r\\n")
    (b'[{"a":1}', b'a')
    """
    # A CSV cut after a line's end would be whole, and nobody could tell.
    return body[: max(1, len(body) // 2)].rstrip(b"\r\n")


def add_foreign(body: bytes, raw_query: str, rng: random.Random) -> bytes | None:
    """Return the JSON or CSV body with one more record: one of its own, but with a field outside what was asked.

    None when there is no record, or when the query says nothing that a record could miss.
    """
    query = parse_query(raw_query, lambda _field: 0)
    text = body.decode()
    records: list[dict[str, Any]] = (
        list(csv.DictReader(io.StringIO(text, newline=""))) if query.csv else json.loads(text)
    )
    if not records:
        return None
    choices = sorted(query.conditions.items(), key=lambda one: one[0])
    rng.shuffle(choices)
    for name, condition in choices:
        record = records[rng.randrange(len(records))]
        value = _outside(record.get(name), condition)
        if value is None:
            continue
        if query.csv and isinstance(value, str):
            value = value.replace("T", " ", 1)
        records.insert(rng.randrange(len(records) + 1), {**record, name: value})
        if not query.csv:
            return json.dumps(records, separators=(",", ":"), ensure_ascii=False).encode()
        out = io.StringIO()
        writer = csv.DictWriter(out, list(records[0]))
        writer.writeheader()
        writer.writerows(records)
        return out.getvalue().encode()
    return None


def _outside(value: object, condition: Condition) -> int | str | None:
    """Return a whole number or a date, as ``value`` is one, that does not fulfil the condition; otherwise None."""
    filters = condition.filters
    candidates: Iterable[int | str]
    if isinstance(value, int) or (isinstance(value, str) and value.isdigit()):
        numbers = [int(one.number) for one in filters if one.number is not None]
        candidates = (int(value) + 1000, *(number + step for number in numbers for step in (1, -1)))
    elif isinstance(value, str) and _is_date(value):
        spans = [one.span for one in filters if one.span is not None]
        candidates = [isoformat(moment) for begin, end in spans for moment in (end + _SECOND, begin - _SECOND)]
    else:
        return None
    return next((one for one in candidates if not condition.matches(one)), None)


def _is_date(text: str) -> bool:
    try:
        instant(text)
    except ValueError:
        return False
    return True


async def _body(response: web.StreamResponse) -> bytes:
    if not isinstance(response, web.Response) or response.body is None:
        return b""
    return response.body if isinstance(response.body, bytes) else await response.body.as_bytes()


async def _break_off(request: web.Request, body: bytes, headers: Mapping[str, str]) -> web.StreamResponse:
    response = web.StreamResponse(headers=headers)
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    _hang_up(request)
    return response


def _hang_up(request: web.Request) -> web.Response:
    """Close the connection; the response returned has nowhere to go, and is for the log: status 0."""
    if request.transport is not None:
        request.transport.close()
    return web.Response(status=0)


def _reset(request: web.Request) -> web.Response:
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
        request.transport.abort()
    return web.Response(status=0)
