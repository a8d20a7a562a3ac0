"""The aiohttp session that every client over HTTP uses."""

from __future__ import annotations

import aiohttp

from f1hbase.sources.http.answers import connection_reason
from f1hbase.sources.http.body import ACCEPTED, CHUNK_BYTES
from f1hbase.version import __version__


def new_session(
    timeout: aiohttp.ClientTimeout, keep_alive: float, purpose: str = "", *, cookies: bool = False
) -> aiohttp.ClientSession:
    """Return a session, to be closed by whoever asked for it; bodies are read by `sources.http.body`, which unpacks.

    Args:
        timeout: How long a request may take.
        keep_alive: After how many idle seconds a connection is closed: sooner than the server does it.
        purpose: What the server is told, beside the version, about who asks.
        cookies: Whether cookies are kept even of a server that is named by its IP address, as a stand-in is.
    """
    return aiohttp.ClientSession(
        timeout=timeout,
        trust_env=True,  # HTTPS_PROXY and NO_PROXY
        headers={
            "User-Agent": f"f1hbase/{__version__}{purpose and f' ({purpose})'}",
            "Accept-Encoding": ACCEPTED,
        },
        auto_decompress=False,
        middlewares=[_once],
        cookie_jar=aiohttp.CookieJar(unsafe=True) if cookies else None,
        # The rate limiter and the queue decide how many requests there are, not the connection pool.
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=keep_alive),
        read_bufsize=CHUNK_BYTES,
    )


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending a request again by itself when a connection closes: the limiter would not know."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
        raise aiohttp.ClientConnectionError(connection_reason(error)) from error
