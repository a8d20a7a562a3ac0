"""Requests go through the proxy that the environment names, and its password goes nowhere else."""

from __future__ import annotations

import base64
import logging
import os
import traceback
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp.test_utils import unused_port
from proxy_server import ProxyServer
from replay_server import ReplayServer

from f1hbase.credentials import Credentials
from f1hbase.sources.http.errors import NoAnswerError, RequestError
from f1hbase.sources.openf1.client import OpenF1Client
from f1hbase.sources.openf1.query import Query
from f1hbase.sources.openf1.token import TokenProvider, token_url

SESSIONS = Query("sessions", ("session_key=70", "date_start>=2024-01-01"))
NAME, WORD = "gatekeeper", "hunter2-hunter2"
USER = Credentials("ayrton", "interlagos")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplayServer]:
    folder = tmp_path_factory.mktemp("data")
    (folder / "sessions.jsonl").write_text(
        '{"meeting_key": 7, "session_key": 70, "date_start": "2024-07-07T14:00:00+00:00"}\n'
    )
    with ReplayServer(folder, "--username", USER.username, "--password", USER.password) as server:
        yield server


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No proxy and no netrc but the test's own."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    netrc = tmp_path / "netrc"
    netrc.touch()
    monkeypatch.setenv("NETRC", str(netrc))


@pytest.fixture(autouse=True)
def _no_log_has_the_password(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.DEBUG)
    yield
    for record in caplog.get_records("call"):
        assert_discreet(f"{record.getMessage()} {record.args!r}")


@pytest.fixture
async def proxy() -> AsyncIterator[ProxyServer]:
    async with ProxyServer() as proxy:
        yield proxy


@pytest.fixture
async def guarded() -> AsyncIterator[ProxyServer]:
    """A proxy that wants a password."""
    async with ProxyServer(NAME, WORD) as proxy:
        yield proxy


async def ask(url: str) -> bytes | None:
    async with OpenF1Client(url, 30.0) as client:
        return await client.get(SESSIONS)


async def fail(url: str) -> RequestError:
    with pytest.raises(RequestError) as failed:
        await ask(url)
    assert_discreet("".join(traceback.format_exception(failed.value)))
    return failed.value


def assert_discreet(text: str) -> None:
    for secret in (WORD, base64.b64encode(f"{NAME}:{WORD}".encode()).decode(), USER.password):
        assert secret not in text


# --- http ---


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy"])
async def test_http_goes_through_the_proxy_as_it_is(
    server: ReplayServer, proxy: ProxyServer, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    direct = await ask(server.url)
    assert direct is not None
    assert b'"session_key":70' in direct
    assert proxy.asked == []
    monkeypatch.setenv(variable, proxy.url)
    assert await ask(server.url) == direct
    (asked,) = proxy.asked
    assert asked.method == "GET"
    assert asked.target == f"{server.url}/sessions?session_key=70&date_start%3E=2024-01-01"


async def test_the_proxy_for_https_is_not_asked_for_http(
    server: ReplayServer, proxy: ProxyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    assert await ask(server.url)
    assert proxy.asked == []


async def test_the_proxy_finds_hosts_that_this_machine_does_not_know(
    proxy: ProxyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is the proxy's to resolve; here it cannot either, and hangs up."""
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    await fail("http://api.invalid/v1")
    assert [asked.target for asked in proxy.asked] == [
        "http://api.invalid/v1/sessions?session_key=70&date_start%3E=2024-01-01"
    ]


@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
@pytest.mark.parametrize("hosts", ["127.0.0.1", "example.org, 127.0.0.1", "*"])
async def test_hosts_that_need_no_proxy_are_asked_directly(
    server: ReplayServer, proxy: ProxyServer, monkeypatch: pytest.MonkeyPatch, variable: str, hosts: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv(variable, hosts)
    assert await ask(server.url)
    assert proxy.asked == []


async def test_other_hosts_are_not_meant(
    server: ReplayServer, proxy: ProxyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", "example.org,localhost,10.0.0.1")
    assert await ask(server.url)
    assert len(proxy.asked) == 1


async def test_the_proxy_gets_its_password_and_the_server_does_not(
    server: ReplayServer, guarded: ProxyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", guarded.url)
    assert await ask(server.url)
    (asked,) = guarded.asked
    assert "proxy-authorization" in asked.headers
    assert "authorization" not in asked.headers


async def test_a_token_is_asked_for_through_the_proxy(
    server: ReplayServer, guarded: ProxyServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HTTP_PROXY", guarded.url)
    async with aiohttp.ClientSession(trust_env=True) as session:
        assert await TokenProvider(server.url, USER, tmp_path / "api.sqlite").get(session)
    assert [(asked.method, asked.target) for asked in guarded.asked] == [("POST", str(token_url(server.url)))]


async def test_a_proxy_that_wants_another_password_is_named_by_its_status(
    server: ReplayServer, guarded: ProxyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", guarded.url.replace(WORD, f"{WORD}!"))
    assert "407" in str(await fail(server.url))


async def test_a_proxy_that_is_not_there(server: ReplayServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://{NAME}:{WORD}@127.0.0.1:{unused_port()}")
    error = await fail(server.url)
    assert isinstance(error, NoAnswerError)
    assert "connection refused" in str(error)


# --- https ---


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy"])
@pytest.mark.parametrize("status", [403, 407, 502])
async def test_https_asks_the_proxy_to_connect_and_says_what_it_answers(
    monkeypatch: pytest.MonkeyPatch, variable: str, status: int
) -> None:
    async with ProxyServer(NAME, WORD, connect=status) as proxy:
        monkeypatch.setenv(variable, proxy.url)
        error = await fail("https://api.test/v1")
    assert str(status) in str(error)
    (asked,) = proxy.asked
    assert (asked.method, asked.target) == ("CONNECT", "api.test:443")
    assert "proxy-authorization" in asked.headers


async def test_a_proxy_that_hangs_up_on_a_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ProxyServer(NAME, WORD, connect=None) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        assert isinstance(await fail("https://api.test/v1"), NoAnswerError)


async def test_nothing_of_the_token_is_shown_to_a_proxy_that_refuses(
    guarded: ProxyServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", guarded.url)
    provider = TokenProvider("https://api.test/v1", USER, tmp_path / "api.sqlite")
    async with aiohttp.ClientSession(trust_env=True) as session:
        with pytest.raises(NoAnswerError, match=r"the proxy answers HTTP 403\) with https://api\.test/token") as failed:
            await provider.get(session)
    assert failed.value.__context__ is None
    (asked,) = guarded.asked
    assert USER.username not in f"{asked.target} {asked.headers}"


# --- addresses that are none ---
UNREADABLE = [
    f"{NAME}:{WORD}@127.0.0.1:3128",
    f"http://{NAME}:{WORD}/@127.0.0.1:3128",
    f"http://{NAME}:{WORD}#@127.0.0.1:3128",
    f"http://{NAME}:{WORD}€@127.0.0.1:3128",
    f"http://{NAME}:{WORD}@127.0.0.1:99999",
]


@pytest.mark.parametrize("address", UNREADABLE)
async def test_an_address_that_cannot_be_read_is_not_quoted(
    server: ReplayServer, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", address)
    assert "HTTP_PROXY" in str(await fail(server.url))


@pytest.mark.parametrize("address", UNREADABLE)
async def test_nor_is_it_when_a_token_is_asked_for(
    server: ReplayServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", address)
    async with aiohttp.ClientSession(trust_env=True) as session:
        with pytest.raises(RequestError, match="HTTP_PROXY") as failed:
            await TokenProvider(server.url, USER, tmp_path / "api.sqlite").get(session)
    assert failed.value.__context__ is None
    assert_discreet("".join(traceback.format_exception(failed.value)))
