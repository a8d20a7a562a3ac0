"""The body of an answer over HTTP, read with an end: the one home of that for every source and for the token.

It is unpacked here and not by aiohttp, which unpacks whatever has come at once: a packet of 256 KB can be 256 MB.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from io import BytesIO
from time import monotonic

import aiohttp

from f1hbase.model.text import excerpt
from f1hbase.sources.http.errors import GiveUpError, SlowQueryError, TooLargeError, TransientError
from f1hbase.stores.files.packing import LARGEST_RATIO, most_unpacked

ACCEPTED = "gzip, deflate"
"""The encodings that are asked for, and the only ones that are unpacked."""

CHUNK_BYTES = 256 * 1024
"""How much of an answer is read at a time."""

LARGE_BYTES = 9_000_000
"""More than any answer to a window that f1hbase sizes itself (2.25 times the budget of 4 MB): of larger ones a process
has one at a time in memory."""

_PIECE_BYTES = 1_000_000
_LARGEST_REFUSAL_BYTES = 1_000_000
"""How much of the answer to a request that failed is read; a page with a traceback has some 20 KB."""

_LEAST_BYTES_A_SECOND = 4_096
"""A body that comes more slowly than a modem's is not waited for, where there is no limit to the whole time."""

Enter = Callable[[], Awaitable[object]]
"""Waits until a large body may be read."""


async def read_body(response: aiohttp.ClientResponse, most: int, enter: Enter | None = None) -> bytes:
    """Return a whole body, unpacked.

    Args:
        response: The answer; its session must not unpack (`new_session`).
        most: How many bytes it may have, unpacked.
        enter: Awaited once before a body grows larger than `LARGE_BYTES`.

    Raises:
        TooLargeError: If it is larger.
        GiveUpError: If it unpacks to so much that no real answer does, or is in an encoding that was not asked for.
        TransientError: If it is cut off or damaged.
    """
    # Closed also where it fails: the error's traceback holds this frame for longer than the next body takes to come.
    with BytesIO() as body:
        async for piece in pieces(response, most):
            if enter is not None and body.tell() + len(piece) > LARGE_BYTES:
                await enter()
                enter = None
            body.write(piece)
        return body.getvalue()  # without a copy


async def pieces(response: aiohttp.ClientResponse, most: int, *, patience: float | None = None) -> AsyncIterator[bytes]:
    """Yield a body in pieces of at most 1 MB, unpacked, to its end, which `Content-Length` must agree with.

    Args:
        response: The answer; its session must not unpack.
        most: How many bytes it may have, unpacked.
        patience: After how many seconds it must come at 4 KB a second, and how long nothing may come; None where the
            caller limits the time.

    Raises:
        RequestError: As of `read_body`.
        SlowQueryError: If it comes too slowly.
        TimeoutError: If nothing comes any more.
    """
    unpacker = _Unpacker(response)
    length = response.content_length
    if length is not None and length > most:
        raise TooLargeError(f"the answer is larger than {most:,} bytes: {length:,}", most)
    began, came, size = monotonic(), 0, 0
    async for chunk in _chunks(response, patience):
        came += len(chunk)
        seconds = monotonic() - began
        if patience is not None and came < (seconds - patience) * _LEAST_BYTES_A_SECOND:
            raise SlowQueryError(f"the answer comes too slowly: {came:,} bytes in {seconds:.0f} s", seconds=seconds)
        for piece in unpacker.feed(chunk):
            size += len(piece)
            if size > most:
                raise TooLargeError(f"the answer is larger than {most:,} bytes", most)
            if size > most_unpacked(came):
                raise GiveUpError(
                    f"the answer is packed as none of the API's is: {came:,} bytes unpack to {size:,} and more, "
                    f"{LARGEST_RATIO} times their size"
                )
            yield piece
    unpacker.end()


async def read_beginning(
    response: aiohttp.ClientResponse, most: int = _LARGEST_REFUSAL_BYTES, *, patience: float | None = None
) -> bytes:
    """Return the beginning of a body, unpacked as far as it can be: the words of a refusal.

    Args:
        response: The answer; its session must not unpack.
        most: How many bytes of it.
        patience: After how many seconds of silence it is taken to end; None where the caller limits the time.
    """
    body = bytearray()
    try:
        unpacker = _Unpacker(response)
        async for chunk in _chunks(response, patience):
            for piece in unpacker.feed(chunk):
                body += piece[: most - len(body)]
                if len(body) >= most:
                    return bytes(body)
    except (GiveUpError, TransientError, TimeoutError):
        pass  # the status says more
    return bytes(body)


async def _chunks(response: aiohttp.ClientResponse, patience: float | None) -> AsyncIterator[bytes]:
    """Yield a body as it comes.

    aiohttp's own limit of silence (`sock_read`) does not hold here: of a body that breaks HTTP's rules after its head
    has come, it drops the limit and tells nobody (3.13), so that whoever reads would wait for ever.
    """
    while True:
        async with asyncio.timeout(patience):
            chunk = await response.content.read(CHUNK_BYTES)
        if not chunk:
            return
        yield chunk


class _Unpacker:
    """Unpacks a body as it comes.

    Raises:
        GiveUpError: If it is in another encoding than those asked for.
    """

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        named = response.headers.get("Content-Encoding", "").strip().lower()
        self._encoding = {"": "", "identity": "", "gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}.get(named)
        if self._encoding is None:
            raise GiveUpError(
                f"the answer is encoded as '{excerpt(named.encode())}', which was not asked for; {ACCEPTED} were"
            )
        self._inflate: zlib._Decompress | None = None

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what is in a chunk, piece by piece.

        Raises:
            TransientError: If it is not what it claims to be.
        """
        if not self._encoding:
            yield chunk
            return
        rest = chunk
        while rest:
            if self._inflate is None:
                self._inflate = zlib.decompressobj(self._bits(rest[0]))
            try:
                piece = self._inflate.decompress(rest, _PIECE_BYTES)
            except zlib.error as error:
                raise TransientError(f"the answer is damaged: it is no {self._encoding} ({error})") from None
            rest = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail
            if self._inflate.eof and self._encoding == "gzip":
                self._inflate = None  # another member may follow
            elif self._inflate.eof and rest:
                raise TransientError(f"the answer is damaged: {len(rest):,} bytes follow its end")
            if piece:
                yield piece

    def end(self) -> None:
        """Look whether this is the end.

        Raises:
            TransientError: If it is not.
        """
        if self._inflate is not None and not self._inflate.eof:
            raise TransientError("the answer broke off")

    def _bits(self, first: int) -> int:
        if self._encoding == "gzip":
            return zlib.MAX_WBITS | 16
        # Some send deflate without zlib's header, whose first byte ends in 8.
        return zlib.MAX_WBITS if first & 0x0F == zlib.DEFLATED else -zlib.MAX_WBITS
