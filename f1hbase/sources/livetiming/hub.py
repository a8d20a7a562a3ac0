"""A connection to the live timing hub: SignalR Core over a websocket, with its JSON protocol; knows no topic.

A thin client of its own: pysignalr sends the token only from the second connection on, asks for no new connection
token or cookie when it connects again, and takes messages of 1 MB at the most unless told otherwise.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
from yarl import URL

from f1hbase.errors import F1HBaseError, UnreachableError
from f1hbase.model.text import excerpt, safe
from f1hbase.sources.http import answers
from f1hbase.sources.http.body import read_beginning
from f1hbase.sources.http.session import new_session

_RECORD_END = "\x1e"
_HANDSHAKE = {"protocol": "json", "version": 1}
_INVOCATION, _COMPLETION, _PING, _CLOSE = 1, 3, 6, 7

PING_SECONDS = 15.0
"""How often a client says that it is there; a server hangs up after 30 s without (SignalR's ClientTimeoutInterval)."""

LARGEST_FRAME_BYTES = 64_000_000
"""The whole state of a race has some 3 MB."""

_LONGEST_RECORD = 64_000_000
_MOST_BYTES = 100_000
"""How much of an answer to the negotiation is read; one has some 300 bytes."""

_KEEP_ALIVE_SECONDS = 15.0


class HubLostError(Exception):
    """The connection is gone, or could not be made; trying again may help. The text says why."""


class HubRefusedError(F1HBaseError):
    """The hub does not take this client, whatever one waits for."""

    exit_code = 2


class NotAHubError(UnreachableError):
    """What is at that address is no hub."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole state of the topics at the moment of subscribing."""

    topics: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pushed:
    """What the hub pushes: the arguments of one call of `feed`."""

    arguments: list[Any]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What is no record of the protocol."""

    text: str
    reason: str


HubEvent = Snapshot | Pushed | Unreadable


class Hub:
    """A hub, to which one connects again and again.

    Args:
        url: Its address, such as `https://livetiming.formula1.com/signalrcore`.
        token: Sent as `Authorization: Bearer`; empty for none. Who gives one sees to it that the address may have it.
        timeout: How long each step of connecting may take, in seconds.
        silence: After how many seconds without a byte the connection counts as lost; the hub pings every 15.
    """

    def __init__(self, url: str, token: str = "", *, timeout: float = 10.0, silence: float = 30.0) -> None:
        self.url = url.rstrip("/")
        self._token = token
        self._timeout = timeout
        self._silence = silence

    @asynccontextmanager
    async def subscribed(self, topics: Sequence[str]) -> AsyncIterator[AsyncIterator[HubEvent]]:
        """Connect, subscribe to topics, and yield what comes: the snapshot, and what is pushed.

        The iterator ends by raising.

        Raises:
            HubLostError: If the connection cannot be made, or ends.
            HubRefusedError: If the hub refuses the token, or wants one.
            NotAHubError: If something else is at that address.
        """
        limits = aiohttp.ClientTimeout(sock_connect=self._timeout, sock_read=self._timeout)
        async with new_session(limits, _KEEP_ALIVE_SECONDS, "live timing", cookies=True) as session:
            # Raised outside of `except`: aiohttp's errors hold the request, with the token.
            failure: Exception
            try:
                socket, early = await self._connect(session)
            except (HubLostError, F1HBaseError):
                raise
            except TimeoutError:
                failure = HubLostError(f"{self.url} has not answered in {self._timeout:g} s")
            except aiohttp.WSServerHandshakeError as error:
                failure = self._of_status(error.status, "the websocket")
            except (aiohttp.ClientError, OSError, ValueError) as error:
                failure = HubLostError(f"{self.url}: {_reason(error)}")
            else:
                pings = asyncio.create_task(_ping(socket))
                try:
                    yield self._events(socket, topics, early)
                finally:
                    pings.cancel()
                    await _hang_up(socket)
                return
            raise failure

    async def _connect(self, session: aiohttp.ClientSession) -> tuple[aiohttp.ClientWebSocketResponse, str]:
        """Return a socket that has shaken hands, and what came behind the handshake."""
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        negotiate = URL(f"{self.url}/negotiate")
        # The load balancer in front of the hub tells by a cookie where the rest of the connection belongs.
        async with session.options(negotiate, headers=headers, allow_redirects=False) as response:
            await read_beginning(response, _MOST_BYTES, patience=self._timeout)
        async with session.post(
            negotiate.with_query(negotiateVersion="1"), headers=headers, allow_redirects=False
        ) as response:
            body = await read_beginning(response, _MOST_BYTES, patience=self._timeout)
            if response.status != 200:
                raise self._of_status(response.status, excerpt(body))
        token = self._connection_token(body)
        address = URL(self.url).with_query(id=token)
        socket = await asyncio.wait_for(
            session.ws_connect(
                address.with_scheme("wss" if address.scheme == "https" else "ws"),
                headers=headers, max_msg_size=LARGEST_FRAME_BYTES, autoclose=False,
            ),
            self._timeout,
        )  # fmt: skip
        try:
            await socket.send_str(_packed(_HANDSHAKE))
            return socket, await self._shake_hands(socket)
        except BaseException:
            await _hang_up(socket)
            raise

    def _connection_token(self, body: bytes) -> str:
        try:
            answer = json.loads(body)
            if isinstance(answer, dict) and answer.get("error"):
                raise HubLostError(f"{self.url} refuses the connection: {safe(str(answer['error']), 200)}")
            return str(answer["connectionToken"])
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        raise NotAHubError(
            f"live timing: {self.url} is no SignalR hub: it answers {excerpt(body)!r} when asked to negotiate. "
            "Check --hub-url."
        )

    async def _shake_hands(self, socket: aiohttp.ClientWebSocketResponse) -> str:
        """Wait for the answer to the handshake; return what came behind it in the same frame."""
        message = await asyncio.wait_for(socket.receive(), self._timeout)
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise HubLostError(f"{self.url} closed the connection instead of answering the handshake")
        first, _, rest = message.data.partition(_RECORD_END)
        try:
            answer = json.loads(first)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise NotAHubError(
                f"live timing: {self.url} does not answer as a SignalR hub does: {excerpt(first.encode())!r}. "
                "Check --hub-url."
            )
        if answer.get("error"):
            raise HubLostError(f"{self.url} refuses the handshake: {safe(str(answer['error']), 200)}")
        return str(rest)

    def _of_status(self, status: int, words: str) -> Exception:
        if status in {401, 403}:
            if self._token:
                return HubRefusedError(
                    f"live timing: {self.url} refuses the token (HTTP {status}): F1HBASE_F1TV_TOKEN is wrong or has "
                    "run out (it lasts some four days). Get a new one, or unset it to record what is free."
                )
            return HubRefusedError(
                f"live timing: {self.url} wants a token (HTTP {status}): set F1HBASE_F1TV_TOKEN (docs/live.md)."
            )
        if status in {404, 405, 410} or 300 <= status < 400:
            return NotAHubError(f"live timing: there is no hub at {self.url} (HTTP {status}). Check --hub-url.")
        return HubLostError(f"{self.url} answers HTTP {status}: {words}")

    async def _events(
        self, socket: aiohttp.ClientWebSocketResponse, topics: Sequence[str], pending: str
    ) -> AsyncIterator[HubEvent]:
        await self._send(socket, {
            "type": _INVOCATION, "invocationId": "0", "target": "Subscribe", "arguments": [list(topics)],
        })  # fmt: skip
        asked, answered = time.monotonic(), False
        while True:
            *records, pending = pending.split(_RECORD_END)
            for record in records:
                for event in self._read(record):
                    answered |= isinstance(event, Snapshot)
                    yield event
            if not answered and time.monotonic() - asked > self._timeout:
                raise HubLostError(f"{self.url} has not answered the subscription in {self._timeout:g} s")
            if len(pending) > _LONGEST_RECORD:
                raise HubLostError("a message of the hub has no end")
            pending += await self._receive(socket, self._silence if answered else self._timeout)

    async def _send(self, socket: aiohttp.ClientWebSocketResponse, content: Any) -> None:
        try:
            await socket.send_str(_packed(content))
        except (aiohttp.ClientError, ConnectionError) as error:
            raise HubLostError(_reason(error)) from None

    async def _receive(self, socket: aiohttp.ClientWebSocketResponse, seconds: float) -> str:
        try:
            message = await socket.receive(seconds)
        except TimeoutError:
            raise HubLostError(f"nothing came for {seconds:g} s") from None
        if message.type is aiohttp.WSMsgType.TEXT:
            return str(message.data)
        if message.type is aiohttp.WSMsgType.BINARY:
            return bytes(message.data).decode(errors="replace")
        if message.type is aiohttp.WSMsgType.ERROR:
            error = socket.exception()
            raise HubLostError("the connection broke" if error is None else _reason(error))
        raise HubLostError("the hub closed the connection")

    def _read(self, record: str) -> Iterator[HubEvent]:
        if not record.strip():
            return
        try:
            content = msgspec.json.decode(record)
        except (msgspec.MsgspecError, RecursionError):
            yield Unreadable(record, "no JSON")
            return
        kind = content.get("type") if isinstance(content, dict) else None
        if kind == _INVOCATION and isinstance(content.get("arguments"), list):
            yield Pushed(content["arguments"])
        elif kind == _COMPLETION:
            if content.get("error"):
                words = safe(str(content["error"]), 200)
                if "auth" in words.lower():
                    raise HubRefusedError(f"live timing: {self.url} refuses the subscription: {words}")
                raise HubLostError(f"the hub refuses the subscription: {words}")
            result = content.get("result")
            yield Snapshot(result if isinstance(result, dict) else {})
        elif kind == _CLOSE:
            words = safe(str(content.get("error") or "without a reason"), 200)
            raise HubLostError(f"the hub closed the connection: {words}")
        elif kind != _PING:
            yield Unreadable(record, "no record of the protocol")


async def _ping(socket: aiohttp.ClientWebSocketResponse) -> None:
    while not socket.closed:
        await asyncio.sleep(PING_SECONDS)
        try:
            await socket.send_str(_packed({"type": _PING}))
        except (aiohttp.ClientError, ConnectionError):
            return  # who reads sees it, too


async def _hang_up(socket: aiohttp.ClientWebSocketResponse) -> None:
    try:
        await asyncio.wait_for(socket.close(), 1.0)
    except (TimeoutError, aiohttp.ClientError, OSError):
        return


def _reason(error: BaseException) -> str:
    """Say why there is no connection, in words that cannot quote the request."""
    if isinstance(error, aiohttp.ClientConnectionError):
        return answers.connection_reason(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return type(error).__name__


def _packed(content: Any) -> str:
    return json.dumps(content, separators=(",", ":")) + _RECORD_END


def host_of(url: str) -> str:
    """Return the host of an address."""
    return (urlsplit(url).hostname or "").lower()
