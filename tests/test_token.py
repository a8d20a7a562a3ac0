"""One token for all: asked for once, renewed in time, kept to the user, shown nowhere."""

# ruff: noqa: ASYNC220, ASYNC240 - a test may wait for its disk

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import multiprocessing
import os
import resource
import stat
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import aiohttp
import platformdirs
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port
from aioresponses import CallbackResult, aioresponses
from replay_server import ReplayServer

from f1hbase.credentials import Credentials
from f1hbase.sources.http.errors import GiveUpError, NoAnswerError, RequestError, SlowDownError, TransientError
from f1hbase.sources.http.shared import SharedState, role, state_path
from f1hbase.sources.openf1 import token as token_module
from f1hbase.sources.openf1.client import OpenF1Client
from f1hbase.sources.openf1.query import Query
from f1hbase.sources.openf1.token import CredentialsError, TokenProvider, _user_of, bearer, token_path, token_url

NAME, WORD = "ayrton+senna@example.org", "pâss &=+%wörd#1"
CREDENTIALS = Credentials(NAME, WORD)
API = "https://api.test/v1"
TOKEN_URL = "https://api.test/token"
HOUR = 3600.0


class Clock:
    """A clock that a test sets."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "api.sqlite"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplayServer]:
    folder = tmp_path_factory.mktemp("data")
    (folder / "sessions.jsonl").write_text('{"meeting_key": 7, "session_key": 70}\n')
    with ReplayServer(folder, "--username", NAME, "--password", WORD) as server:
        yield server


class Asked:
    """Counts the tokens that a server was asked for from now on."""

    def __init__(self, server: ReplayServer) -> None:
        self._server = server
        self._before = len(server.log())

    @property
    def statuses(self) -> list[int]:
        return [line["status"] for line in self._server.log()[self._before :] if line["path"] == "/token"]


@pytest.fixture
def asked(server: ReplayServer) -> Asked:
    return Asked(server)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(trust_env=True) as session:
        yield session


@pytest.fixture
def network() -> Iterator[aioresponses]:
    with aioresponses() as network:
        yield network


@pytest.fixture(autouse=True)
def _no_log_has_a_secret(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.DEBUG)
    yield
    for record in caplog.get_records("call"):
        assert_discreet(f"{record.getMessage()} {record.args!r} {record.exc_info!r}")


def assert_discreet(text: str) -> None:
    for secret in (NAME, WORD, "p%C3%A2ss", "T0KEN"):
        assert secret not in text


def everything_of(error: BaseException) -> str:
    """All that a log, a debugger or an error tracker might show of an error: the chain, stacks, variables."""
    told = traceback.TracebackException.from_exception(error, capture_locals=True).format()
    parts = ["".join(told)]
    link: BaseException | None = error
    while link is not None:
        parts += [str(link), repr(link), repr(link.args), repr(vars(link))]
        link = link.__cause__ or link.__context__
    return "\n".join(parts)


async def fail(provider: TokenProvider, session: aiohttp.ClientSession) -> RequestError:
    with pytest.raises(RequestError) as failed:
        await provider.get(session)
    error = failed.value
    assert error.__cause__ is None
    assert error.__context__ is None, "aiohttp's errors hold the request"
    assert_discreet(everything_of(error))
    return error


def answer(number: int = 1, **fields: Any) -> dict[str, Any]:
    return {"status": 200, "payload": {"access_token": f"T0KEN{number}", "expires_in": "3600", **fields}}


# --- asking for it ---


@pytest.mark.parametrize(
    ("api", "wanted"),
    [
        ("https://api.openf1.org/v1", "https://api.openf1.org/token"),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/token"),
        ("https://example.org/f1/mirror/v1", "https://example.org/token"),
        ("https://example.org", "https://example.org/token"),
    ],
)
def test_tokens_are_at_the_root_of_the_host(api: str, wanted: str) -> None:
    assert str(token_url(api)) == wanted


async def test_the_server_takes_the_token(
    server: ReplayServer, session: aiohttp.ClientSession, path: Path, asked: Asked
) -> None:
    token = await TokenProvider(server.url, CREDENTIALS, path).get(session)
    async with session.get(f"{server.url}/sessions", auth=bearer(token)) as response:
        assert response.status == 200
    async with session.get(f"{server.url}/sessions", auth=bearer(f"{token}x")) as response:
        assert response.status == 401
    assert asked.statuses == [200]


async def test_a_netrc_neither_replaces_the_token_nor_gets_in_its_way(
    server: ReplayServer, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    async with aiohttp.ClientSession(trust_env=True) as session:
        token = await TokenProvider(server.url, CREDENTIALS, path).get(session)
        async with session.get(f"{server.url}/sessions", auth=bearer(f"{token}x")) as response:
            assert response.status == 401, "without a Bearer token it would be 200"
        async with session.get(f"{server.url}/sessions", auth=bearer(token)) as response:
            assert response.status == 200


def test_what_carries_a_token_does_not_show_it() -> None:
    assert_discreet(f"{bearer('T0KEN')} {bearer('T0KEN')!r} {[bearer('T0KEN')]}")
    assert bearer("T0KEN").encode() == "Bearer T0KEN"


async def test_many_coroutines_share_one_request(
    server: ReplayServer, session: aiohttp.ClientSession, path: Path, asked: Asked
) -> None:
    provider = TokenProvider(server.url, CREDENTIALS, path)
    tokens = await asyncio.gather(*(provider.get(session) for _ in range(50)))
    assert len(set(tokens)) == 1
    assert asked.statuses == [200]


async def test_providers_with_one_file_share_one_request(
    server: ReplayServer, session: aiohttp.ClientSession, path: Path, asked: Asked
) -> None:
    providers = [TokenProvider(server.url, CREDENTIALS, path) for _ in range(5)]
    tokens = await asyncio.gather(*(provider.get(session) for provider in providers * 4))
    assert len(set(tokens)) == 1
    assert asked.statuses == [200]


def get_in_a_process(url: str, credentials: Credentials, path: Path, stale: str | None) -> str:
    async def main() -> str:
        provider = TokenProvider(url, credentials, path)
        async with aiohttp.ClientSession() as session:
            return await (provider.get(session) if stale is None else provider.renew(session, stale))

    return str(asyncio.run(main()))


def test_processes_share_one_request_and_one_renewal(server: ReplayServer, path: Path, asked: Asked) -> None:
    with ProcessPoolExecutor(4, multiprocessing.get_context("spawn")) as pool:

        def in_all(stale: str | None) -> set[str]:
            work = [pool.submit(get_in_a_process, server.url, CREDENTIALS, path, stale) for _ in range(12)]
            return {future.result() for future in work}

        (first,) = in_all(None)
        (second,) = in_all(first)
    assert first != second
    assert asked.statuses == [200, 200]


async def test_a_redirect_is_not_followed_with_the_password(session: aiohttp.ClientSession, path: Path) -> None:
    asked: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        asked.append(request.path)
        raise web.HTTPTemporaryRedirect("/other")

    app = web.Application()
    app.router.add_post("/{path}", elsewhere)
    async with TestServer(app) as here:
        error = await fail(TokenProvider(str(here.make_url("/v1")), CREDENTIALS, path), session)
    assert isinstance(error, GiveUpError)
    assert "HTTP 307" in str(error)
    assert asked == ["/token"]


# --- its life ---


@pytest.mark.parametrize(
    ("expires_in", "good_for"),
    [
        ("3600", 3300.0),
        (3600, 3300.0),
        (3600.0, 3300.0),
        (" 3600 ", 3300.0),
        (100_000, 99_700.0),
        (3000, 2700.0),
        (60, 54.0),
        ("1", 0.9),
        # What says nothing is taken for the hour that is usual.
        (None, 3300.0),
        ("soon", 3300.0),
        ("", 3300.0),
        (0, 3300.0),
        (-5, 3300.0),
        ("nan", 3300.0),
        ("inf", 3300.0),
        ([], 3300.0),
        (10**400, 3300.0),
    ],
)
async def test_it_is_renewed_before_it_expires(
    network: aioresponses, path: Path, clock: Clock, expires_in: object, good_for: float
) -> None:
    start = clock.now
    network.post(TOKEN_URL, **answer(1, expires_in=expires_in))
    network.post(TOKEN_URL, **answer(2))
    provider = TokenProvider(API, CREDENTIALS, path, clock=clock)
    async with aiohttp.ClientSession() as session:
        assert await provider.get(session) == "T0KEN1"
        clock.now = start + good_for - 0.01
        assert await provider.get(session) == "T0KEN1"
        assert await TokenProvider(API, CREDENTIALS, path, clock=clock).get(session) == "T0KEN1"
        clock.now = start + good_for + 0.01
        assert await provider.get(session) == "T0KEN2"


async def test_its_life_is_counted_from_before_it_was_asked_for(
    network: aioresponses, session: aiohttp.ClientSession, path: Path, clock: Clock
) -> None:
    def after_a_minute(*_: Any, **__: Any) -> CallbackResult:
        clock.now += 60
        return CallbackResult(payload={"access_token": "T0KEN1", "expires_in": 3600})

    network.post(TOKEN_URL, callback=after_a_minute)
    network.post(TOKEN_URL, **answer(2))
    provider = TokenProvider(API, CREDENTIALS, path, clock=clock)
    assert await provider.get(session) == "T0KEN1"
    clock.now += 3300 - 60
    assert await provider.get(session) == "T0KEN2"


async def test_a_clock_that_was_set_back_says_nothing_about_it(
    network: aioresponses, session: aiohttp.ClientSession, path: Path, clock: Clock
) -> None:
    network.post(TOKEN_URL, **answer(1))
    network.post(TOKEN_URL, **answer(2))
    provider = TokenProvider(API, CREDENTIALS, path, clock=clock)
    await provider.get(session)
    clock.now -= 1
    assert await provider.get(session) == "T0KEN2"


async def test_one_that_the_api_refuses_is_renewed_once_for_all(
    server: ReplayServer, session: aiohttp.ClientSession, path: Path, asked: Asked
) -> None:
    providers = [TokenProvider(server.url, CREDENTIALS, path) for _ in range(3)]
    stale = await providers[0].get(session)
    renewed = await asyncio.gather(*(provider.renew(session, stale) for provider in providers * 10))
    assert len(set(renewed)) == 1
    assert stale not in renewed
    assert asked.statuses == [200, 200]
    assert await providers[1].get(session) == renewed[0]
    assert await providers[2].renew(session, stale) == renewed[0], "who comes late with the old one gets the new one"
    assert asked.statuses == [200, 200]


# --- failures ---


async def test_refused_credentials_are_not_tried_again(
    server: ReplayServer, session: aiohttp.ClientSession, path: Path, asked: Asked
) -> None:
    provider = TokenProvider(server.url, Credentials(NAME, f"{WORD}!"), path)
    errors = await asyncio.gather(*(provider.get(session) for _ in range(10)), return_exceptions=True)
    assert all(isinstance(error, CredentialsError) for error in errors)
    error = await fail(provider, session)
    assert str(error) == (
        f"OpenF1 refused F1HBASE_API_USERNAME/F1HBASE_API_PASSWORD (HTTP 401 from {token_url(server.url)}: "
        "Incorrect username or password); correct them, or unset both for the free API"
    )
    assert asked.statuses == [401]
    assert stored(path) == []


async def test_refused_credentials_do_not_matter_while_others_have_a_token(
    server: ReplayServer, session: aiohttp.ClientSession, path: Path
) -> None:
    wrong = TokenProvider(server.url, Credentials(NAME, "wrong"), path)
    await fail(wrong, session)
    token = await TokenProvider(server.url, CREDENTIALS, path).get(session)
    assert await wrong.get(session) == token


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, CredentialsError),
        (401, CredentialsError),
        (403, CredentialsError),
        (404, GiveUpError),
        (405, GiveUpError),
        (408, TransientError),
        (418, GiveUpError),
        (422, GiveUpError),
        (429, SlowDownError),
        (500, TransientError),
        (502, TransientError),
        (503, TransientError),
        (504, TransientError),
    ],
)
async def test_each_refusal_is_of_its_kind_and_says_what_the_api_says(
    network: aioresponses, session: aiohttp.ClientSession, path: Path, status: int, kind: type[RequestError]
) -> None:
    network.post(TOKEN_URL, status=status, payload={"detail": "Closed for\nrepairs."})
    error = await fail(TokenProvider(API, CREDENTIALS, path), session)
    assert type(error) is kind
    assert f"HTTP {status} from {TOKEN_URL}: Closed for repairs." in str(error)


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"detail": f"{NAME} has no subscription"}),
        json.dumps({"detail": f"wrong: {'.' * 115}{WORD}"}, ensure_ascii=False),
        json.dumps({"detail": [{"loc": ["body", "password"], "input": WORD}]}),
        json.dumps({"detail": {"username": NAME}}),
        json.dumps([WORD]),
        f"<html>username={NAME}&password={WORD}</html>",
        "[" * 100_000,
        "",
    ],
)
@pytest.mark.parametrize("status", [400, 401, 422, 500])
async def test_words_that_quote_what_was_sent_are_not_repeated(
    network: aioresponses, session: aiohttp.ClientSession, path: Path, status: int, body: str
) -> None:
    network.post(TOKEN_URL, status=status, body=body)
    error = await fail(TokenProvider(API, CREDENTIALS, path), session)
    assert f"HTTP {status}" in str(error)


@pytest.mark.parametrize(
    ("header", "seconds"), [({"Retry-After": "7"}, 7.0), ({"Retry-After": "soon"}, None), ({}, None)]
)
async def test_a_429_says_how_long_to_wait(
    network: aioresponses,
    session: aiohttp.ClientSession,
    path: Path,
    header: dict[str, str],
    seconds: float | None,
) -> None:
    network.post(TOKEN_URL, status=429, headers=header)
    error = await fail(TokenProvider(API, CREDENTIALS, path), session)
    assert isinstance(error, SlowDownError)
    assert error.retry_after == seconds


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<html>T0KEN</html>",
        '{"access_token": "T0KEN',
        '["T0KEN"]',
        "null",
        '{"token": "T0KEN"}',
        '{"access_token": null}',
        '{"access_token": ""}',
        '{"access_token": 12}',
        '{"access_token": ["T0KEN"]}',
        '{"access_token": "T0KEN\\r\\nX-Header: 1"}',
        '{"access_token": "T0KEN T0KEN"}',
        '{"access_token": "T0KEN\u00fc"}',
        '{"access_token": "' + "T0KEN" * 20_000 + '"}',
    ],
)
async def test_an_answer_without_a_usable_token_is_tried_again_and_not_shown(
    network: aioresponses, session: aiohttp.ClientSession, path: Path, body: str
) -> None:
    network.post(TOKEN_URL, status=200, body=body)
    network.post(TOKEN_URL, **answer())
    provider = TokenProvider(API, CREDENTIALS, path)
    assert type(await fail(provider, session)) is TransientError
    assert stored(path) == []
    assert await provider.get(session) == "T0KEN1"


@pytest.mark.parametrize(
    ("exception", "kind"),
    [
        (TimeoutError(), NoAnswerError),
        (aiohttp.ServerTimeoutError(f"{WORD}"), NoAnswerError),
        (aiohttp.ServerDisconnectedError(f"{WORD}"), NoAnswerError),
        (aiohttp.ClientOSError(104, f"{WORD}"), NoAnswerError),
        (aiohttp.ClientPayloadError(f"{WORD}"), TransientError),
        (aiohttp.ClientError(f"{WORD}"), TransientError),
        (aiohttp.InvalidURL(f"{WORD}"), GiveUpError),
        (ValueError(f"{WORD}"), GiveUpError),
    ],
)
async def test_a_failure_of_the_network_is_of_its_kind_and_loses_what_it_knows_of_the_request(
    network: aioresponses,
    session: aiohttp.ClientSession,
    path: Path,
    exception: Exception,
    kind: type[RequestError],
) -> None:
    network.post(TOKEN_URL, exception=exception)
    assert type(await fail(TokenProvider(API, CREDENTIALS, path), session)) is kind


async def test_nobody_at_the_address(session: aiohttp.ClientSession, path: Path) -> None:
    url = f"http://127.0.0.1:{unused_port()}/v1"
    error = await fail(TokenProvider(url, CREDENTIALS, path), session)
    assert type(error) is NoAnswerError
    assert str(error) == f"no token: no connection (connection refused) with {token_url(url)}"


async def test_an_answer_that_breaks_off(session: aiohttp.ClientSession, path: Path) -> None:
    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"access_token": "T0KEN')
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(break_off, "127.0.0.1", 0) as there:
        port = there.sockets[0].getsockname()[1]
        error = await fail(TokenProvider(f"http://127.0.0.1:{port}/v1", CREDENTIALS, path), session)
    assert type(error) is TransientError


async def test_those_who_waited_for_a_request_that_failed_share_its_failure_and_the_next_asks_again(
    network: aioresponses, session: aiohttp.ClientSession, path: Path
) -> None:
    async def unavailable(*_: Any, **__: Any) -> CallbackResult:
        await asyncio.sleep(0)  # the others come meanwhile
        return CallbackResult(status=503)

    network.post(TOKEN_URL, callback=unavailable)
    network.post(TOKEN_URL, **answer())
    provider = TokenProvider(API, CREDENTIALS, path)
    errors = await asyncio.gather(*(provider.get(session) for _ in range(10)), return_exceptions=True)
    assert all(type(error) is TransientError for error in errors)
    assert await provider.get(session) == "T0KEN1"


async def test_one_who_is_cancelled_while_asking_leaves_it_to_the_next(
    network: aioresponses, session: aiohttp.ClientSession, path: Path
) -> None:
    begun = asyncio.Event()

    async def hang_at_first(*_: Any, **__: Any) -> CallbackResult:
        if not begun.is_set():
            begun.set()
            await asyncio.Event().wait()
        return CallbackResult(payload=answer()["payload"])

    network.post(TOKEN_URL, callback=hang_at_first)
    provider = TokenProvider(API, CREDENTIALS, path)
    first = asyncio.create_task(provider.get(session))
    await begun.wait()
    others = [asyncio.create_task(provider.get(session)) for _ in range(3)]
    first.cancel()
    assert await asyncio.gather(*others) == ["T0KEN1"] * 3
    assert first.cancelled()


# --- the file ---


def stored(path: Path) -> list[str]:
    return [row["token"] for row in SharedState(path).rows("SELECT token FROM tokens")]


def store(path: Path, **changes: object) -> None:
    """Put a token there as another process would, with what a test changes of it."""
    row = {"token": "T0KEN0", "since": 1.7e9, "until": 1.7e9 + HOUR, **changes}
    with SharedState(path).transaction() as (db, _):
        db.execute(
            "INSERT INTO tokens (user, token, since, until) VALUES (?, ?, ?, ?)",
            (_user_of(token_url(API), CREDENTIALS), *row.values()),
        )


def test_it_is_in_the_file_of_the_host(tmp_path: Path) -> None:
    path = token_path("https://ayrton:hunter2@API.test:8443/v1", CREDENTIALS, tmp_path)
    assert path == state_path("api.test:8443", tmp_path)
    default = token_path("https://api.openf1.org/v1", CREDENTIALS)
    assert default == platformdirs.user_state_path("f1hbase") / "api-api.openf1.org.sqlite"


def test_each_user_and_each_server_has_a_token_of_its_own_and_every_password_the_same() -> None:
    urls = ["https://api.test/v1", "http://api.test/v1", "https://api.test:8443/v1", "https://other.test/v1"]
    users = [Credentials("a", "p"), Credentials("b", "p")]
    assert len({_user_of(token_url(url), user) for url in urls for user in users}) == 8
    assert _user_of(token_url(API), users[0]) == _user_of(token_url("https://API.test/v1/"), Credentials("a", "new"))


@pytest.fixture
def _open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_open_umask")
async def test_it_is_the_users_alone_from_its_creation(
    network: aioresponses, session: aiohttp.ClientSession, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_change(*_: object) -> None:
        raise AssertionError("the mode is right from the start")

    monkeypatch.setattr(os, "chmod", no_change)
    monkeypatch.setattr(os, "fchmod", no_change)
    network.post(TOKEN_URL, **answer())
    await TokenProvider(API, CREDENTIALS, path).get(session)
    assert stored(path) == ["T0KEN1"]
    assert b"T0KEN1" in path.read_bytes()
    assert WORD.encode() not in path.read_bytes()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    modes = {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {0o600}
    assert len(list(path.parent.iterdir())) == 3, "the database, its journal and the lock"


async def test_a_good_one_is_used(session: aiohttp.ClientSession, path: Path, clock: Clock) -> None:
    store(path)
    assert await TokenProvider(API, CREDENTIALS, path, clock=clock).get(session) == "T0KEN0"


@pytest.mark.parametrize(
    "changes",
    [
        {"token": ""},
        {"token": "T0KEN0\n"},
        {"token": b"T0KEN0"},
        {"since": "now"},
        {"until": b"\0"},
        {"until": 1.7e9},
        {"until": 1.6e9},
    ],
    ids=repr,
)
async def test_one_that_cannot_be_used_is_as_good_as_none(
    network: aioresponses, session: aiohttp.ClientSession, path: Path, clock: Clock, changes: dict[str, object]
) -> None:
    store(path, **changes)
    network.post(TOKEN_URL, **answer())
    assert await TokenProvider(API, CREDENTIALS, path, clock=clock).get(session) == "T0KEN1"
    assert await TokenProvider(API, CREDENTIALS, path, clock=clock).get(session) == "T0KEN1"


async def test_a_file_that_all_could_read_is_replaced_and_so_is_the_token(
    network: aioresponses, session: aiohttp.ClientSession, path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    store(path)
    path.chmod(0o644)
    network.post(TOKEN_URL, **answer())
    assert await TokenProvider(API, CREDENTIALS, path, clock=clock).get(session) == "T0KEN1"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "others could read or write it" in caplog.text


def block_the_folder(path: Path) -> None:
    path.parent.write_text("a file where the folder should be")


def block_the_file(path: Path) -> None:
    path.mkdir(parents=True)


def make_link(path: Path) -> None:
    path.parent.mkdir()
    target = path.with_name("elsewhere")
    store(target)
    path.symlink_to(target)


def make_pipe(path: Path) -> None:
    path.parent.mkdir()
    os.mkfifo(path)


@pytest.mark.parametrize("block", [block_the_folder, block_the_file, make_link, make_pipe])
async def test_where_no_file_can_be_the_process_has_a_token_of_its_own_and_says_so_once(
    network: aioresponses,
    session: aiohttp.ClientSession,
    path: Path,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    block: Any,
) -> None:
    block(path)
    for number in (1, 2, 3):
        network.post(TOKEN_URL, **answer(number))
    provider = TokenProvider(API, CREDENTIALS, path, clock=clock)
    assert [await provider.get(session) for _ in range(3)] == ["T0KEN1"] * 3
    assert await provider.renew(session, "T0KEN1") == "T0KEN2"
    clock.now += HOUR
    assert await provider.get(session) == "T0KEN3"
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"cannot use {path} (")


async def test_a_disk_that_is_full_does_not_bring_back_the_old_token(
    network: aioresponses, session: aiohttp.ClientSession, path: Path, clock: Clock
) -> None:
    for number in (1, 2):
        network.post(TOKEN_URL, **answer(number))
    provider = TokenProvider(API, CREDENTIALS, path, clock=clock)
    await provider.get(session)
    clock.now += 60
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        renewed = await provider.renew(session, "T0KEN1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert renewed == "T0KEN2"
    assert stored(path) == ["T0KEN1"]
    assert await provider.get(session) == "T0KEN2"


# --- who renews it ---


def renewing(path: Path) -> AbstractContextManager[bool]:
    """Take the role of renewing the token, as another process."""
    return role(path, f"token-{_user_of(token_url(API), CREDENTIALS)[:16]}")


async def test_who_waits_for_another_to_renew_finds_what_it_wrote(
    session: aiohttp.ClientSession, path: Path, clock: Clock
) -> None:
    with contextlib.ExitStack() as other:
        assert other.enter_context(renewing(path))
        waits: list[float] = []

        async def sleep(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 3:
                store(path)
                other.close()

        assert await TokenProvider(API, CREDENTIALS, path, clock=clock, sleep=sleep).get(session) == "T0KEN0"
    assert len(waits) == 3


async def test_one_that_does_not_move_is_waited_for_half_a_minute_aloud_and_left_to_itself(
    network: aioresponses,
    session: aiohttp.ClientSession,
    path: Path,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network.post(TOKEN_URL, **answer())
    waits: list[float] = []
    monkeypatch.setattr(token_module, "machine_clock", lambda: sum(waits))
    with renewing(path):

        async def sleep(seconds: float) -> None:
            waits.append(seconds)

        provider = TokenProvider(API, CREDENTIALS, path, clock=clock, sleep=sleep)
        assert [await provider.get(session) for _ in range(3)] == ["T0KEN1"] * 3
        assert sum(waits) == pytest.approx(30.0, abs=0.1)
        assert stored(path) == [], "it is for the other to write"
    assert "another process asks for a new token" in caplog.text


async def test_a_killed_process_holds_nothing(
    network: aioresponses, session: aiohttp.ClientSession, path: Path, clock: Clock
) -> None:
    network.post(TOKEN_URL, **answer())
    name = f"token-{_user_of(token_url(API), CREDENTIALS)[:16]}"
    hold = (
        "import sys, pathlib; from f1hbase.sources.http.shared import role\n"
        "with role(pathlib.Path(sys.argv[1]), sys.argv[2]) as mine: print(mine, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(path), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"True\n"
        waits: list[float] = []

        async def sleep(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 2:
                holder.kill()
                holder.wait()

        assert await TokenProvider(API, CREDENTIALS, path, clock=clock, sleep=sleep).get(session) == "T0KEN1"
    assert len(waits) == 2
    assert stored(path) == ["T0KEN1"]


async def test_who_is_cancelled_lets_another_renew(
    network: aioresponses, session: aiohttp.ClientSession, path: Path
) -> None:
    begun = asyncio.Event()

    async def hang(*_: Any, **__: Any) -> CallbackResult:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError("it was cancelled")

    network.post(TOKEN_URL, callback=hang)
    asking = asyncio.create_task(TokenProvider(API, CREDENTIALS, path).get(session))
    await begun.wait()
    with renewing(path) as mine:
        assert not mine
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    with renewing(path) as mine:
        assert mine


async def test_what_the_api_quotes_of_a_token_is_not_shown(
    network: aioresponses, session: aiohttp.ClientSession, path: Path
) -> None:
    network.post(TOKEN_URL, **answer(1))
    network.get(f"{API}/laps", status=400, body="<p>" * 660 + "unknown token T0KEN1 of you")
    network.get(f"{API}/laps", status=500, body="Traceback\nValueError: T0KEN1")
    network.get(f"{API}/laps", status=403, payload={"detail": f"no {WORD} for Bearer T0KEN1"})
    said = []
    async with OpenF1Client(API, 30.0, tokens=TokenProvider(API, CREDENTIALS, path)) as client:
        for _ in range(3):
            with pytest.raises(RequestError) as refused:
                await client.get(Query("laps"))
            assert_discreet(everything_of(refused.value))
            said.append(str(refused.value))
    assert said == [
        "HTTP 400: unknown token *** of",
        "HTTP 500: ValueError: ***",
        "HTTP 403: no *** for Bearer ***",
    ]
