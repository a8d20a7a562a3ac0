"""A connection to the MQTT broker of OpenF1, or another: what comes, and what a refusal means; knows no endpoint."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal, NamedTuple
from urllib.parse import SplitResult, urlsplit

import aiomqtt

from f1hbase.model.text import safe

_USER = "f1hbase"
"""OpenF1 takes any user name: the token is the password."""

_KEEP_ALIVE_SECONDS = 15
"""A broker that does not answer a ping of this interval within another one is gone."""

_TIMEOUT_SECONDS = 10.0
_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
_REFUSED = frozenset({4, 5, 134, 135})
"""Bad user name or password, not authorised: the numbers of MQTT 3.1.1, and those that the library makes of them."""


class BrokerLostError(Exception):
    """The connection is gone, or could not be made; trying again may help. The text says why."""


class BrokerRefusedError(BrokerLostError):
    """The broker does not take the token: it has ended, or somebody else uses all connections of this user."""


class BrokerUntrustedError(BrokerLostError):
    """The broker's certificate does not prove that it is who it should be; waiting does not help."""


class Heard(NamedTuple):
    """A payload that came.

    Attributes:
        arrived: When, in seconds since 1970.
    """

    arrived: float
    topic: str
    payload: bytes


class Connection:
    """A connection that hands on what comes, from its opening until it is closed or lost.

    Args:
        client: Connected and subscribed.
        take: Takes what comes, at once.
        clock: Tells seconds since 1970.
    """

    def __init__(self, client: aiomqtt.Client, take: Callable[[Heard], None], clock: Callable[[], float]) -> None:
        self._client = client
        self._take = take
        self._clock = clock
        self.gone = asyncio.create_task(self._read())
        """Done when the connection is lost; its result says why."""

    async def close(self) -> None:
        """Close the connection."""
        self.gone.cancel()
        await asyncio.gather(self.gone, return_exceptions=True)
        with suppress(aiomqtt.MqttError, OSError):
            await self._client.__aexit__(None, None, None)

    async def _read(self) -> str:
        try:
            async for message in self._client.messages:
                self._take(Heard(self._clock(), str(message.topic), _bytes(message.payload)))
        except (aiomqtt.MqttError, OSError) as error:
            return f"the connection was lost ({_why(error)})"
        return "the connection ended"


async def connect(
    url: str, password: str, topics: str, take: Callable[[Heard], None], clock: Callable[[], float]
) -> Connection:
    """Connect to a broker and subscribe.

    Args:
        url: `mqtts://`, `wss://`, or without TLS. Who gives a password sees to it that the address may have it. Over
            TLS it is sent only once a certificate has proved the name.
        password: The token; empty for none.
        topics: What to subscribe to, at QoS 0.
        take: Takes what comes.
        clock: Tells seconds since 1970.

    Raises:
        BrokerRefusedError: If the broker does not take the token.
        BrokerUntrustedError: If its certificate is none of that name that the system trusts.
        BrokerLostError: If it cannot be reached, or does not answer as one.
    """
    parts = urlsplit(url)
    # Reads the certificates of the system, from disk.
    context = await asyncio.to_thread(ssl.create_default_context) if parts.scheme in {"mqtts", "wss"} else None
    client = aiomqtt.Client(
        str(parts.hostname),
        parts.port or _PORTS[parts.scheme],
        username=_USER if password else None,
        password=password or None,
        keepalive=_KEEP_ALIVE_SECONDS,
        timeout=_TIMEOUT_SECONDS,
        tls_context=context,
        **_transport(parts),
    )
    # Raised outside of `except`: the library's errors hold what was sent.
    failure: BrokerLostError
    try:
        await client.__aenter__()
        try:
            await client.subscribe(topics, qos=0)
        except BaseException:
            with suppress(aiomqtt.MqttError, OSError):
                await client.__aexit__(None, None, None)
            raise
    except aiomqtt.MqttCodeError as error:
        kind = BrokerRefusedError if _code(error) in _REFUSED else BrokerLostError
        failure = kind(f"{url} refuses the connection ({_why(error)})")
    except (aiomqtt.MqttError, OSError, ValueError) as error:
        untrusted = _certificate_error(error)
        if untrusted is None:
            failure = BrokerLostError(f"{url} cannot be reached ({_why(error)})")
        else:
            failure = BrokerUntrustedError(f"the certificate of {url} is not trusted ({untrusted})")
    else:
        return Connection(client, take, clock)
    raise failure


def _transport(parts: SplitResult) -> dict[str, Any]:
    kind: Literal["tcp", "websockets"] = "websockets" if parts.scheme in {"ws", "wss"} else "tcp"
    return {"transport": kind} | ({"websocket_path": parts.path or "/mqtt"} if kind == "websockets" else {})


def _code(error: aiomqtt.MqttCodeError) -> int | None:
    number = getattr(error.rc, "value", error.rc)
    return number if isinstance(number, int) else None


def _certificate_error(error: BaseException | None) -> str | None:
    """Return what is wrong with a certificate, if an error came of that; the library raises its own in its place."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return safe(error.verify_message, 200)
        error = error.__cause__ or error.__context__
    return None


def _why(error: Exception) -> str:
    return safe(str(error) or type(error).__name__, 200)


def _bytes(payload: object) -> bytes:
    return bytes(payload) if isinstance(payload, bytes | bytearray) else str(payload).encode()
