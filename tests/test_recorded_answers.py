"""What the API answers, as recorded in `recorded/`: the client makes of it what it should, the simulator says the same.

A recording is JSON: `ask` (endpoint and filters), `status`, `headers` and `body` of the answer, the `outcome` for the
client (`records`, `empty`, or the class of the error), and `simulator`, how it is brought to answer that. Its body is
the same, or is `like` a pattern.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from f1hbase.serve.app import EMPTY_FORMS
from f1hbase.serve.file_store import FileStore
from f1hbase.sources.http import errors
from f1hbase.sources.openf1.client import OpenF1Client, address
from f1hbase.sources.openf1.query import Query
from simulator.app import SELF_HOSTED_RATE, create_app
from simulator.faults import Faults, FaultSettings, LockOut

RECORDINGS = {path.stem: json.loads(path.read_text()) for path in sorted(Path(__file__).parent.glob("recorded/*.json"))}
EVERY = pytest.mark.parametrize("recording", RECORDINGS.values(), ids=RECORDINGS)

Recording = dict[str, Any]
Serve = Callable[[web.Application], Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    servers = []

    async def start(app: web.Application) -> str:
        server = TestServer(app)
        await server.start_server()
        servers.append(server)
        return str(server.make_url("/v1"))

    yield start
    for server in servers:
        await server.close()


def query_of(recording: Recording) -> Query:
    endpoint, *filters = recording["ask"]
    return Query(endpoint, tuple(filters))


@EVERY
async def test_the_client_takes_an_answer_for_what_it_is(serve: Serve, recording: Recording) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=recording["status"], headers=recording["headers"], body=recording["body"].encode())

    app = web.Application()
    app.router.add_get("/v1/{endpoint}", answer)
    url = await serve(app)
    async with OpenF1Client(url, timeout=10.0) as client:
        if recording["outcome"] == "records":
            assert await client.get(query_of(recording)) == recording["body"].encode()
        elif recording["outcome"] == "empty":
            assert await client.get(query_of(recording)) is None
        else:
            kind: type[errors.RequestError] = getattr(errors, recording["outcome"])
            with pytest.raises(kind) as caught:
                await client.get(query_of(recording))
            assert type(caught.value) is kind
            if "reason" in recording:  # the last line of a traceback, not its first
                assert f"HTTP {recording['status']}: {recording['reason']}".startswith(str(caught.value))
            if isinstance(caught.value, errors.SlowDownError):
                assert caught.value.retry_after == recording["retry_after"]


@pytest.mark.parametrize(
    "recording", [one for one in RECORDINGS.values() if one["simulator"] is not None], ids=lambda one: one["about"]
)
async def test_the_simulator_answers_the_same(serve: Serve, recording: Recording) -> None:
    how = dict(recording["simulator"])
    settings = FaultSettings(retry_after=how.pop("fault_retry_after", 1))
    if fault := how.pop("fault", None):
        settings = replace(settings, share=1, kinds=(fault,))
    if how.pop("lock_out", False):
        settings = replace(settings, lock_out=LockOut())
    if empty := how.pop("empty", None):
        how["empty"] = EMPTY_FORMS[empty]
    app = create_app(store(), middlewares=[Faults(settings).middleware], **how)
    where = address(await serve(app), query_of(recording))
    async with aiohttp.ClientSession() as session:
        for _ in range(SELF_HOSTED_RATE.limit if how.get("self_hosted") else 0):
            async with session.get(where) as earlier:
                assert earlier.status == 200
        async with session.get(where) as answer:
            body = await answer.text()
            assert answer.status == recording["status"]
            assert _told(answer.headers) == _told(recording["headers"])
    if recording.get("same_body"):
        assert body == recording["body"]
    else:
        assert re.search(recording["like"], body)
        assert re.search(recording["like"], recording["body"])


def _told(headers: Mapping[str, str]) -> dict[str, str]:
    """Return what of the headers a client could go by."""
    told = {name: headers[name] for name in ("Content-Disposition", "Retry-After") if name in headers}
    return {**told, "Content-Type": headers["Content-Type"].partition(";")[0]}


def store() -> FileStore:
    """Return the records of the recordings, and a second car."""
    found = FileStore()
    for name in ("records", "nulls-and-lists"):
        found.add(RECORDINGS[name]["ask"][0], [line.encode() for line in _lines(RECORDINGS[name]["body"])])
    (car,) = json.loads(RECORDINGS["records"]["body"])
    found.add("car_data", [json.dumps({**car, "driver_number": 10}, separators=(",", ":")).encode()])
    return found


def _lines(body: str) -> list[str]:
    return [json.dumps(one, separators=(",", ":")) for one in json.loads(body)]
