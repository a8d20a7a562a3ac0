"""A stand-in of F1's hub: SignalR Core over a websocket, by the JSON protocol, and the archive beside it.

`OPTIONS` or `POST /signalrcore/negotiate` gives the cookie of the load balancer, without which a connection is not
found again; `Subscribe` is answered with the merged state of the topics so far, then come `feed` messages, and pings.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, NamedTuple

import msgspec
from aiohttp import WSMsgType, web

from simulator.live.faults import ENDINGS, HUB_KINDS, Dice, FeedFaults
from simulator.live.player import Played, Player
from simulator.livetiming_server import ArchiveFaults, ArchiveLog, create_archive

RESTRICTED = frozenset({"CarData.z", "Position.z", "ChampionshipPrediction", "PitStop", "DriverRaceInfo"})
"""The topics that only who has a token gets."""

COOKIE = "AWSALBCORS"
PATH = "/signalrcore"

_END = "\x1e"
_LATEST_PROTOCOL = 2
"""ASP.NET's hub accepts every version up to its own; signalrcore asks for 0 after a negotiation of version 0."""

_HANDSHAKE_SECONDS = 15.0
_CLOSING_SECONDS = 1.0
"""How long a client may take to answer a close frame."""

_MOST_WAITING = 1_000
"""So many frames wait for a connection when the player waits for its listeners (speed 0)."""
_MOST_BEHIND = 100_000
"""Whoever is further behind otherwise is cut off: the hub cannot wait."""
_MOST_AT_ONCE = 64
"""So many messages are sent in one websocket frame at the most, if they are due."""
_GARBAGE = "\x00\x01{this is no JSON"
_LINGER_NONE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSettings:
    """How the hub behaves.

    Attributes:
        token: The only token that is good; None takes any. Who has none gets no `RESTRICTED` topics.
        token_seconds: After so many seconds the token is good no more: its connections are closed, new ones refused.
        faults: What goes wrong with messages.
        refuses: One of `HUB_KINDS`: what it does instead of its work; None for its work.
        refusals: How many connections or negotiations meet that; None for all.
        archive_at_once: Whether the session's files are in the archive before it is over.
        ping_seconds: How often a connection gets a ping; 15 as of ASP.NET.
    """

    token: str | None = field(default=None, repr=False)
    token_seconds: float | None = None
    faults: FeedFaults = field(default_factory=FeedFaults)
    refuses: str | None = None
    refusals: int | None = None
    archive_at_once: bool = False
    ping_seconds: float = 15.0

    def __post_init__(self) -> None:
        if self.refuses is not None and self.refuses not in HUB_KINDS:
            raise ValueError(f"{self.refuses!r} is not one of {', '.join(HUB_KINDS)}")


@dataclass
class ConnectionLog:
    """A connection, for who looks at the hub.

    Attributes:
        number: Which one, from 1.
        topics: What it subscribed to and gets.
        authorised: Whether it came with a token.
        sent: How many `feed` messages were handed to it.
        faults: What these met: the number of the message, and the kind.
        ended: Why it ended; None while it lasts.
    """

    number: int
    agent: str
    authorised: bool
    topics: list[str] = field(default_factory=list)
    sent: int = 0
    faults: list[tuple[int, str]] = field(default_factory=list)
    ended: str | None = None


class Hub:
    """The hub and the archive over a player; `app` serves both.

    Args:
        player: Plays the session; run by who made it.
        settings: How the hub behaves.
        archive_faults: What goes wrong with files of the archive.
        archive_log: Gets what is asked of the archive.
    """

    def __init__(
        self,
        player: Player,
        settings: HubSettings | None = None,
        archive_faults: ArchiveFaults | None = None,
        archive_log: ArchiveLog | None = None,
    ) -> None:
        self.player = player
        self.settings = settings or HubSettings()
        self.log: list[ConnectionLog] = []
        self._dice = Dice(self.settings.faults)
        self._negotiated: dict[str, str] = {}
        self._cookies: set[str] = set()
        self._connections: dict[int, _Connection] = {}
        self._refusals = self.settings.refusals
        self._token_until: float | None = None
        self.app = create_archive(player.script.archive, archive_faults, archive_log, hidden=self._hidden)
        self.app.router.add_route("OPTIONS", f"{PATH}/negotiate", self._pre_negotiate)
        self.app.router.add_post(f"{PATH}/negotiate", self._negotiate)
        self.app.router.add_get(PATH, self._connect)
        self.app.router.add_get("/_live", self._show)
        self.app.router.add_post("/_live", self._control)
        self.app.cleanup_ctx.append(self._background)
        self.app.on_shutdown.append(self._shutdown)

    def cut(self, kind: str = "drop", number: int | None = None) -> int:
        """End a connection (or all), as a fault of that kind does, and return how many."""
        chosen = [one for one in self._connections.values() if number in {None, one.log.number}]
        for connection in chosen:
            connection.end(kind)
        return len(chosen)

    def expire(self) -> None:
        """Let the token end now: its connections are closed, new ones refused."""
        self._token_until = asyncio.get_running_loop().time()
        for connection in tuple(self._connections.values()):
            if connection.log.authorised:
                connection.goodbye("the token has ended")

    async def _background(self, app: web.Application) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._flush())]
        if self.settings.token_seconds is not None:
            tasks.append(asyncio.create_task(self._expire_after(self.settings.token_seconds)))
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _shutdown(self, app: web.Application) -> None:
        for connection in tuple(self._connections.values()):
            connection.goodbye("the hub ends")

    async def _flush(self) -> None:
        await self.player.over.wait()
        for connection in tuple(self._connections.values()):
            await connection.flush()

    async def _expire_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.expire()

    def _hidden(self, path: str) -> bool:
        """Return whether a file of the archive is not there yet: those of the session, until it is over."""
        if self.settings.archive_at_once or self.player.over.is_set():
            return False
        return path.startswith(self.player.script.context.path)

    def _refused(self, *kinds: str) -> str | None:
        """Return what the hub does instead of its work, if it is one of some kinds, and count it."""
        if self.settings.refuses not in kinds or self._refusals == 0:
            return None
        if self._refusals is not None:
            self._refusals -= 1
        return self.settings.refuses

    def _token_is_good(self, token: str) -> bool:
        now = asyncio.get_running_loop().time()
        if self._token_until is not None and now >= self._token_until:
            return False
        return self.settings.token is None or hmac.compare_digest(token.encode(), self.settings.token.encode())

    def _authorised(self, request: web.Request) -> bool:
        """Return whether a request has a good token.

        Raises:
            web.HTTPUnauthorized: If it has a bad one.
        """
        token = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        token = token or request.query.get("access_token", "")
        if token and not self._token_is_good(token):
            raise web.HTTPUnauthorized(text="the token is not accepted")
        return bool(token)

    async def _pre_negotiate(self, request: web.Request) -> web.Response:
        return self._with_cookie(web.Response(), request)

    async def _negotiate(self, request: web.Request) -> web.Response:
        refused = self._refused("refuse", "denied")
        if refused is not None:
            return web.Response(status=503 if refused == "refuse" else 401, text="not now")
        self._authorised(request)
        identifier = secrets.token_urlsafe(16)
        answer = {
            "negotiateVersion": int(request.query.get("negotiateVersion", "0") == "1"),
            "connectionId": identifier,
            "connectionToken": identifier,
            "availableTransports": [{"transport": "WebSockets", "transferFormats": ["Text", "Binary"]}],
        }
        response = self._with_cookie(web.json_response(answer), request)
        self._negotiated[identifier] = response.cookies[COOKIE].value
        return response

    def _with_cookie(self, response: web.Response, request: web.Request) -> web.Response:
        cookie = request.cookies.get(COOKIE, "")
        if cookie not in self._cookies:
            cookie = secrets.token_urlsafe(24)
            self._cookies.add(cookie)
        response.set_cookie(COOKIE, cookie, path="/")
        return response

    async def _connect(self, request: web.Request) -> web.StreamResponse:
        authorised = self._authorised(request)
        identifier = request.query.get("id")
        if identifier is not None and self._negotiated.get(identifier) != request.cookies.get(COOKIE, ""):
            # Another node of the load balancer, which knows nothing of the negotiation.
            raise web.HTTPNotFound(text="No Connection with that ID: it, or its cookie, is of no negotiation here")
        socket = web.WebSocketResponse(timeout=_CLOSING_SECONDS, max_msg_size=1_000_000)
        await socket.prepare(request)
        log = ConnectionLog(len(self.log) + 1, request.headers.get("User-Agent", ""), authorised)
        self.log.append(log)
        refused = self._refused("silent", "close", "garbage", "mute")
        if refused == "close":
            await socket.close()
        elif await self._handshake(socket, refused):
            connection = _Connection(socket, request, log, self)
            self._connections[log.number] = connection
            try:
                await connection.run(mute=refused == "mute")
            finally:
                connection.leave("the client left")
                del self._connections[log.number]
        log.ended = log.ended or "the handshake failed"
        return socket

    async def _handshake(self, socket: web.WebSocketResponse, refused: str | None) -> bool:
        try:
            text = await asyncio.wait_for(socket.receive_str(), _HANDSHAKE_SECONDS)
            asked = msgspec.json.decode(text.partition(_END)[0])
        except (TimeoutError, TypeError, msgspec.MsgspecError):
            return False
        if refused == "silent":
            async for _ in socket:
                continue
            return False
        if refused == "garbage":
            await socket.send_str(_GARBAGE + _END)
            return False
        version = asked.get("version") if isinstance(asked, dict) and asked.get("protocol") == "json" else None
        if not isinstance(version, int) or version > _LATEST_PROTOCOL:
            await socket.send_str('{"error":"the protocol is not supported"}' + _END)
            return False
        await socket.send_str("{}" + _END)
        return True

    async def _show(self, request: web.Request) -> web.Response:
        state = {
            "position": self.player.position,
            "messages": len(self.player.script.lines),
            "seconds": self.player.since,
            "over": self.player.over.is_set(),
            "session_key": self.player.script.context.session_key,
            "connections": self.log,
        }
        return web.Response(body=msgspec.json.encode(state), content_type="application/json")

    async def _control(self, request: web.Request) -> web.Response:
        """Do what a JSON object asks for: `start`, `hold`, `cut` (a connection's number or "all") with `kind`."""
        try:
            asked = msgspec.json.decode(await request.read(), type=dict[str, Any])
            answer = self._do(asked)
        except (msgspec.MsgspecError, ValueError, TypeError) as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response(answer)

    def _do(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        unknown = asked.keys() - {"start", "hold", "cut", "kind", "expire"}
        if unknown:
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
        done: dict[str, Any] = {}
        if asked.get("start"):
            self.player.start()
        if "hold" in asked:
            self.player.hold(int(asked["hold"]))
        if asked.get("expire"):
            self.expire()
        if "cut" in asked:
            kind = str(asked.get("kind", "drop"))
            if kind not in ENDINGS:
                raise ValueError(f"'kind' is not one of {', '.join(sorted(ENDINGS))}")
            done["cut"] = self.cut(kind, None if asked["cut"] == "all" else int(asked["cut"]))
        return done


class _End(NamedTuple):
    """The end of a connection, behind what still comes before it."""

    kind: str
    frame: str


class _Connection:
    """A client after the handshake: what it asks for, and what waits to be sent to it."""

    def __init__(self, socket: web.WebSocketResponse, request: web.Request, log: ConnectionLog, hub: Hub) -> None:
        self.log = log
        self._socket = socket
        self._request = request
        self._hub = hub
        self._player = hub.player
        self._waits = not hub.player.timing.speed
        self._queue: asyncio.Queue[str | _End] = asyncio.Queue(_MOST_WAITING if self._waits else _MOST_BEHIND)
        self._topics: frozenset[str] = frozenset()
        self._after: list[str] = []
        self._late: list[tuple[float, int, str]] = []
        self._order = count()
        self._subscribed = False
        self._gone = False

    async def run(self, *, mute: bool) -> None:
        """Serve the client until either end is over."""
        tasks = [asyncio.create_task(work) for work in (self._receive(mute=mute), self._send(), self._ping())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.leave("the client left")
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def leave(self, reason: str) -> None:
        """Take no more messages."""
        self.log.ended = self.log.ended or reason
        self._gone = True
        self._player.unsubscribe(self.offer)
        while not self._queue.empty():  # whoever waits for room goes on
            self._queue.get_nowait()

    def end(self, kind: str, frame: str = "") -> None:
        """End the connection as a fault does, behind what waits to be sent."""
        self.log.ended = kind
        self._player.unsubscribe(self.offer)
        self._player.excuse(self._hub.settings.faults.gap)
        self._put_last(_End(kind, frame or _feed_frame("Heartbeat", b'{"Utc":"2000-01-01T00:00:00Z"}', "")))

    def goodbye(self, reason: str) -> None:
        """Close the connection as SignalR does."""
        self.log.ended = self.log.ended or reason
        self._player.unsubscribe(self.offer)
        message = {"type": 7, "error": f"Connection closed: {reason}.", "allowReconnect": False}
        self._put_last(_End("close", _frame(message)))

    async def offer(self, played: Played) -> None:
        """Take a message that is played; see `simulator.live.player.Listener`."""
        if played.topic not in self._topics or self._gone:
            return
        while self._late and self._late[0][0] <= played.since:
            await self._put(heappop(self._late)[2])
        stamp = f"{played.moment:%Y-%m-%dT%H:%M:%S}.{played.moment.microsecond // 1000:03d}Z"
        frame = _feed_frame(played.topic, played.body, stamp)
        kind = self._hub._dice.throw(self.log.number, played.number)
        if kind is not None:
            self.log.faults.append((played.number, kind))
        if kind in ENDINGS:
            self.end(str(kind), frame)
            return
        self.log.sent += 1
        if kind == "reorder":
            self._after.append(frame)
            return
        if kind == "late":
            heappush(self._late, (played.since + self._hub.settings.faults.late, next(self._order), frame))
            return
        for text in _around(kind, frame):
            await self._put(text)
        for text in self._after:
            await self._put(text)
        self._after.clear()

    async def flush(self) -> None:
        """Send what was kept back."""
        for text in [*self._after, *(frame for _, _, frame in sorted(self._late))]:
            await self._put(text)
        self._after.clear()
        self._late.clear()

    async def _put(self, text: str) -> None:
        if self._gone:
            return
        if self._waits:
            await self._queue.put(text)
        elif self._queue.full():
            self.end("reset")
            self.log.ended = f"{_MOST_BEHIND:,} messages behind"
        else:
            self._queue.put_nowait(text)

    def _put_last(self, end: _End) -> None:
        if self._queue.full():
            self._queue.get_nowait()
        self._queue.put_nowait(end)

    async def _receive(self, *, mute: bool) -> None:
        async for message in self._socket:
            if message.type != WSMsgType.TEXT:
                continue
            for text in message.data.split(_END):
                try:
                    asked = msgspec.json.decode(text, type=dict[str, Any]) if text else {}
                except msgspec.MsgspecError:
                    return
                if asked.get("type") == 7:
                    return
                if asked.get("type") == 1 and not mute:
                    await self._invoked(asked)

    async def _invoked(self, asked: dict[str, Any]) -> None:
        identifier, arguments = asked.get("invocationId"), asked.get("arguments") or [None]
        if asked.get("target") != "Subscribe" or not isinstance(arguments[0], list):
            await self._put(_frame({"type": 3, "invocationId": identifier, "error": "Method does not exist."}))
            return
        await self._player.excused()
        topics = frozenset(map(str, arguments[0]))
        self._topics = topics if self.log.authorised else topics - RESTRICTED
        self.log.topics = sorted(self._topics)
        # Nothing is awaited between the state and the first message after it, so that nothing lies between them.
        state = self._player.snapshot(self._topics)
        self._queue.put_nowait(_frame({"type": 3, "invocationId": identifier, "result": state}))
        if not self._subscribed:
            self._subscribed = True
            self._player.subscribe(self.offer)

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(self._hub.settings.ping_seconds)
            await self._put(_frame({"type": 6}))

    async def _send(self) -> None:
        with suppress(ConnectionError):
            while True:
                items = [await self._queue.get()]
                while len(items) < _MOST_AT_ONCE and not self._queue.empty():
                    items.append(self._queue.get_nowait())
                texts = [item for item in items if isinstance(item, str)]
                if texts:
                    await self._socket.send_str("".join(texts))
                ends = [item for item in items if isinstance(item, _End)]
                if ends:
                    await self._ended(ends[0])
                    return

    async def _ended(self, end: _End) -> None:
        transport = self._request.transport
        if end.kind == "close":
            await self._socket.send_str(end.frame)
            await self._socket.close()
        elif transport is not None:
            if end.kind == "cut":
                transport.write(_half_a_frame(end.frame))
            if end.kind == "reset":
                transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, _LINGER_NONE)
                transport.abort()
            transport.close()


def _frame(message: Mapping[str, Any]) -> str:
    return msgspec.json.encode(message).decode() + _END


def _feed_frame(topic: str, body: bytes, stamp: str) -> str:
    # The body is sent as the archive has it: what was broken there is broken here.
    return f'{{"type":1,"target":"feed","arguments":["{topic}",{body.decode(errors="replace")},"{stamp}"]}}{_END}'


def _around(kind: str | None, frame: str) -> list[str]:
    """Return what is sent for a message."""
    if kind == "duplicate":
        return [frame, frame]
    if kind == "garbage":
        return [_GARBAGE + _END, frame]
    if kind == "strange":
        odd = _frame({"type": 1, "target": "feed", "arguments": ["Unheard", [1, 2], "yesterday"]})
        return [odd, _frame({"type": 1, "target": "feed", "arguments": []}), frame]
    return [frame]


def _half_a_frame(text: str) -> bytes:
    """Return the beginning of a websocket frame, up to the middle of its payload."""
    payload = text.encode()
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x81, size)
    elif size < 65_536:
        head = struct.pack("!BBH", 0x81, 126, size)
    else:
        head = struct.pack("!BBQ", 0x81, 127, size)
    return head + payload[: size // 2]
