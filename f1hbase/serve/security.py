"""Who may ask the server, and what browsers are told of its answers; knows no store and no query.

By default it listens on this machine only, and then it answers only to a name of this machine: a web page that points a
name of its own at 127.0.0.1 does not read what is served.
"""

from __future__ import annotations

import base64
import hmac
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from multidict import CIMultiDict

from f1hbase.credentials import Secret, is_loopback_host, register_secret
from f1hbase.errors import ConfigError
from f1hbase.listening.names import is_own_name

TOKEN_VARIABLE = "F1HBASE_SERVE_TOKEN"  # noqa: S105 - a name, no token

SHORTEST_TOKEN = 16
"""Characters; a shorter one can be guessed."""

_TOKEN = re.compile(r"[\x21-\x7e]+")

_PREFLIGHT_SECONDS = 600

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
}
"""The headers of every answer that has none of its own of that name; a page that needs scripts says so itself."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who may ask.

    Attributes:
        token: What a request must show (`Authorization: Bearer ...`); None for nothing.
        origins: The web pages (`https://example.org`) whose scripts may read answers; `*` for all.
        hosts: The names by which the server may be asked; None for any.
    """

    token: Secret | None = None
    origins: frozenset[str] = frozenset()
    hosts: frozenset[str] | None = None


OPEN = Access()
"""Everybody who reaches the server."""


def access_of(
    host: str, *, public: bool = False, origins: tuple[str, ...] = (), environment: Mapping[str, str] | None = None
) -> Access:
    """Return who may ask a server that listens at an address.

    Args:
        host: The address or name.
        public: Whether everybody who reaches it may.
        origins: The web pages whose scripts may.
        environment: Where the token is; by default the environment of the process.

    Raises:
        ConfigError: If others than this machine can reach it, and nothing says who may ask; if the token is none that a
            request can show; if an origin is none.
    """
    text = (os.environ if environment is None else environment).get(TOKEN_VARIABLE, "")
    if text and public:
        raise ConfigError(
            f"{TOKEN_VARIABLE} is set, so that requests must show it, and --public says that none needs to: unset the "
            "one, or leave out the other."
        )
    if text and (len(text) < SHORTEST_TOKEN or not _TOKEN.fullmatch(text)):
        raise ConfigError(
            f"{TOKEN_VARIABLE} must have at least {SHORTEST_TOKEN} characters, letters, digits and signs of ASCII "
            "without spaces; for example from: openssl rand -hex 32"
        )
    if not (text or public or is_loopback_host(host)):
        raise ConfigError(
            f"whoever reaches {host} could read what is served: set {TOKEN_VARIABLE}, which requests must then show "
            "(Authorization: Bearer ...), or say --public if everybody may."
        )
    if text:
        register_secret(text)
    for origin in origins:
        _check_origin(origin)
    named = None if text or public else frozenset({"localhost", host.lower()})
    return Access(Secret(text) if text else None, frozenset(origins), named)


def access_layer(access: Access) -> Middleware:
    """Return what lets through only requests of those who may ask."""

    @web.middleware
    async def layer(request: web.Request, handler: Handler) -> web.StreamResponse:
        if access.hosts is not None and not is_own_name(request.headers.get("Host"), access.hosts):
            return _refusal(403, "This name is none of the server's. Ask it as localhost, or start it with --public.")
        is_preflight = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        if is_preflight and _allowed(access, request) is not None:
            # A preflight has no token: it asks whether the request that has one may be sent.
            return web.Response(status=204, headers=_PREFLIGHT)
        if access.token is not None and not _shows(request, access.token):
            return _refusal(401, "Not authenticated", _CHALLENGE)
        return await handler(request)

    return layer


def header_layer(access: Access) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Return what gives an answer the headers of `HEADERS` that it lacks, and those for web pages that may read it."""

    async def add(request: web.Request, response: web.StreamResponse) -> None:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers["Server"] = "f1hbase"
        if access.origins:
            response.headers["Vary"] = "Origin"
        if (origin := _allowed(access, request)) is not None:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = "X-F1HBase-Incomplete"

    return add


_CHALLENGE = CIMultiDict([
    ("WWW-Authenticate", "Bearer"),
    # By this one a browser asks its user: for any name, and the token as the password.
    ("WWW-Authenticate", 'Basic realm="f1hbase", charset="UTF-8"'),
])  # fmt: skip

_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET",
    "Access-Control-Allow-Headers": "Authorization",
    "Access-Control-Max-Age": str(_PREFLIGHT_SECONDS),
}


def _allowed(access: Access, request: web.Request) -> str | None:
    """Return the origin that an answer names, where the page that asks may read it."""
    if "*" in access.origins:
        return "*" if "Origin" in request.headers else None
    origin = request.headers.get("Origin")
    return origin if origin in access.origins else None


def _shows(request: web.Request, token: str) -> bool:
    """Tell whether a request shows the token: as a program does, or as a browser does that asked its user for it."""
    kind, _, shown = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() == "basic":
        kind, shown = "bearer", _password(shown)
    # Bytes: a text that is not ASCII cannot be compared in constant time.
    return hmac.compare_digest(shown.strip().encode(errors="replace"), token.encode()) and kind.lower() == "bearer"


def _password(credentials: str) -> str:
    """Return the password of Basic authentication (RFC 7617); of what is none, nothing."""
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def _refusal(status: int, text: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response({"detail": text}, status=status, headers=headers)


def _check_origin(origin: str) -> None:
    if origin == "*":
        return
    parts = urlsplit(origin)
    if parts.scheme not in {"http", "https"} or not parts.hostname or origin != f"{parts.scheme}://{parts.netloc}":
        raise ConfigError(
            "--cors takes the origin of a web page, such as https://example.org or http://localhost:3000, not "
            f"'{origin}'."
        )
