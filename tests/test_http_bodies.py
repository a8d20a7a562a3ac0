"""Bodies of answers: unpacked as they come, cut off where no real answer goes on, one large one at a time in memory."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import islice, repeat

import aiohttp
import pytest
from samples import needs_real_records, real_records

from f1hbase.model.catalog import ENDPOINTS
from f1hbase.sources.http.body import LARGE_BYTES, pieces, read_beginning, read_body
from f1hbase.sources.http.errors import GiveUpError, RequestError, SlowQueryError, TooLargeError, TransientError
from f1hbase.sources.http.session import new_session
from f1hbase.sources.livetiming.client import ArchiveClient
from f1hbase.sources.openf1.client import OpenF1Client
from f1hbase.sources.openf1.formats import decode_answer
from f1hbase.sources.openf1.query import Query
from f1hbase.stores.files.packing import LARGEST_RATIO

BODY = json.dumps([{"driver_number": number, "name": "é", "x": number**3} for number in range(20_000)]).encode()
MOST = 32_000_000


@asynccontextmanager
async def answering(
    body: bytes | Callable[[], Iterator[bytes]], *headers: str, status: str = "200 OK", pause: float = 0.0
) -> AsyncIterator[str]:
    """Answer every request with a body, to whose end the connection stays open unless a length is among the headers."""
    talks: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write("\r\n".join([f"HTTP/1.1 {status}", *headers, "Connection: close", "", ""]).encode())
        try:
            for piece in [body] if isinstance(body, bytes) else body():
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause)
        except OSError:
            pass  # the client has had enough
        finally:
            writer.close()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(talk(reader, writer))
        talks.add(task)
        task.add_done_callback(talks.discard)

    server = await asyncio.start_server(begin, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
        await asyncio.sleep(0)


@asynccontextmanager
async def asked(url: str) -> AsyncIterator[aiohttp.ClientResponse]:
    async with new_session(aiohttp.ClientTimeout(total=20), 1.0) as session, session.get(url) as response:
        yield response


def deflated(body: bytes, bits: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, bits)
    return packer.compress(body) + packer.flush()


def bomb() -> Iterator[bytes]:
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    return (packer.compress(b" " * 1_000_000) for _ in repeat(None))


@pytest.mark.parametrize(
    ("packed", "encoding"),
    [
        (BODY, ""),
        (BODY, "Content-Encoding: identity"),
        (gzip.compress(BODY), "Content-Encoding: gzip"),
        (gzip.compress(BODY), "Content-Encoding: X-GZIP"),
        (gzip.compress(BODY[:999]) + gzip.compress(BODY[999:]), "Content-Encoding: gzip"),
        (deflated(BODY, zlib.MAX_WBITS), "Content-Encoding: deflate"),
        (deflated(BODY, -zlib.MAX_WBITS), "Content-Encoding: deflate"),
    ],
    ids=["no encoding", "identity", "gzip", "x-gzip", "two members", "deflate", "deflate without header"],
)
async def test_a_body_comes_as_it_was_before_it_was_packed_however_it_is_cut_on_the_way(
    packed: bytes, encoding: str
) -> None:
    def cut() -> Iterator[bytes]:
        return (packed[n : n + 7_001] for n in range(0, len(packed), 7_001))

    async with answering(cut, *filter(None, [encoding])) as url, asked(url) as response:
        assert await read_body(response, MOST) == BODY


@pytest.mark.parametrize(
    ("packed", "encoding", "error", "words"),
    [
        (BODY, "br", GiveUpError, "encoded as 'br', which was not asked for; gzip, deflate were"),
        (BODY, "gzip, gzip", GiveUpError, "encoded as 'gzip, gzip'"),
        (BODY, "gzip", TransientError, "damaged: it is no gzip"),
        (gzip.compress(BODY)[:-9], "gzip", TransientError, "broke off"),
        (gzip.compress(BODY)[:-4] + b"abcd", "gzip", TransientError, "damaged"),
        (gzip.compress(BODY) + b"and more", "gzip", TransientError, "damaged"),
        (deflated(BODY, zlib.MAX_WBITS)[:-9], "deflate", TransientError, "broke off"),
        (deflated(BODY, zlib.MAX_WBITS) + b"more", "deflate", TransientError, "4 bytes follow its end"),
    ],
)  # fmt: skip
async def test_what_cannot_be_unpacked_is_refused_in_words(
    packed: bytes, encoding: str, error: type[RequestError], words: str
) -> None:
    async with answering(packed, f"Content-Encoding: {encoding}") as url, asked(url) as response:
        with pytest.raises(error, match=words):
            await read_body(response, MOST)


@pytest.mark.parametrize("headers", [(), (f"Content-Length: {MOST + 1}",)])
async def test_a_body_without_end_is_broken_off_at_the_largest_size(headers: tuple[str, ...]) -> None:
    async with answering(lambda: repeat(b"[1, 2, " * 10_000), *headers) as url, asked(url) as response:
        with pytest.raises(TooLargeError, match="larger than 32,000,000 bytes") as raised:
            await read_body(response, MOST)
    assert raised.value.most == MOST


async def test_a_bomb_is_broken_off_before_it_is_large() -> None:
    async with answering(bomb, "Content-Encoding: gzip") as url, asked(url) as response:
        tracemalloc.start()
        try:
            with pytest.raises(GiveUpError, match=f"packed as none of the API's is.*{LARGEST_RATIO} times"):
                await read_body(response, MOST)
            assert tracemalloc.get_traced_memory()[1] < 8_000_000
        finally:
            tracemalloc.stop()


@needs_real_records
@pytest.mark.parametrize("endpoint", ["car_data", "location"])
async def test_no_real_answer_is_packed_so_well_that_it_is_refused(endpoint: str) -> None:
    records = list(islice(real_records("meeting-1304-testing-day1", endpoint), 40_000))
    body = json.dumps(records, separators=(",", ":")).encode()
    packed = deflated(body, zlib.MAX_WBITS | 16)
    assert len(body) < len(packed) * LARGEST_RATIO / 4
    async with answering(packed, "Content-Encoding: gzip") as url, asked(url) as response:
        assert await read_body(response, MOST) == body


async def test_of_a_refusal_the_beginning_is_read_whatever_its_body_is() -> None:
    for body, header, words in (
        (gzip.compress(b"no such thing"), "Content-Encoding: gzip", b"no such thing"),
        (gzip.compress(BODY)[:500], "Content-Encoding: gzip", BODY[:100]),
        (b"no", "Content-Encoding: br", b""),
    ):
        async with answering(body, header, status="404 Not Found") as url, asked(url) as response:
            assert (await read_beginning(response))[: len(words)] == words
    async with answering(bomb, "Content-Encoding: gzip", status="500 No") as url, asked(url) as response:
        assert await read_beginning(response, 1_000) == b" " * 1_000


async def test_a_file_that_comes_in_drops_is_not_waited_for() -> None:
    async with answering(lambda: repeat(b"x"), pause=0.01) as url, asked(url) as response:
        with pytest.raises(SlowQueryError, match="too slowly"):
            async for _ in pieces(response, MOST, patience=0.1):
                pass


@pytest.mark.parametrize("status", ["200 OK", "500 No"])
async def test_a_file_that_breaks_the_rules_after_its_beginning_is_not_waited_for(status: str) -> None:
    pieces = [b"5\r\nhello\r\n", b"zz\r\n", b""]
    headers = ("Transfer-Encoding: chunked", "Content-Type: text/plain")
    async with (
        asyncio.timeout(10),
        answering(lambda: iter(pieces), *headers, status=status, pause=0.1) as url,
        ArchiveClient(url, 0.5) as client,
    ):
        with pytest.raises(TransientError):
            await client.fetch("Index.json")


async def test_one_large_answer_at_a_time_is_in_memory_and_time_stands_still_for_those_that_wait() -> None:
    large = b"[" + b" " * (LARGE_BYTES + 1) + b"]"
    query = Query("laps", ("session_key=1",))
    async with answering(large, f"Content-Length: {len(large)}") as url, OpenF1Client(url, 2.0) as client:
        async with AsyncExitStack() as held:
            first = await client.fetch(query, held)
            second = asyncio.create_task(client.fetch(query))
            done, _ = await asyncio.wait([second], timeout=3.0)
            assert not done
        assert (await second).body == first.body == large


async def test_small_answers_do_not_wait_for_a_large_one() -> None:
    large = b"[" + b" " * (LARGE_BYTES + 1) + b"]"
    query = Query("laps", ("session_key=1",))
    async with (
        answering(large, f"Content-Length: {len(large)}") as url,
        answering(BODY, f"Content-Length: {len(BODY)}") as small,
        OpenF1Client(url, 10.0) as client,
        AsyncExitStack() as held,
    ):
        await client.fetch(query, held)
        client._base_url = small
        assert (await client.fetch(query)).body == BODY


@pytest.mark.parametrize("piece", [b"null", b"{}", b'{"a":1}', b"[[],[]]", b'""', b"1"])
@pytest.mark.parametrize("end", [b"]", b",NaN]"])
def test_an_answer_of_more_values_than_any_is_refused_before_they_are_in_memory(piece: bytes, end: bytes) -> None:
    body = b"[" + b",".join([piece] * (6_000_000 // (len(piece) + 1))) + end
    tracemalloc.start()
    try:
        with pytest.raises(GiveUpError, match="more"):
            list(decode_answer(ENDPOINTS["laps"], "application/json", body))
        assert tracemalloc.get_traced_memory()[1] < 200_000_000
    finally:
        tracemalloc.stop()
