"""Those who have credentials: every request has the token, and one that the API no longer takes is renewed once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aioresponses import CallbackResult, aioresponses
from click.testing import CliRunner
from replay_server import ReplayServer

from f1hbase.cli.commands import cli
from f1hbase.credentials import Credentials
from f1hbase.errors import ConfigError, UnreachableError
from f1hbase.model.answers import Listing
from f1hbase.model.plans import Selection
from f1hbase.sources.http.errors import GiveUpError, RequestError, SessionLiveError
from f1hbase.sources.http.shared import SharedState
from f1hbase.sources.openf1.client import OpenF1Client
from f1hbase.sources.openf1.query import OPENF1_URL, Query
from f1hbase.sources.openf1.recipe import limits
from f1hbase.sources.openf1.source import OpenF1Options, OpenF1Source, open_source
from f1hbase.sources.openf1.token import CredentialsError, TokenProvider

USER = Credentials("ayrton@example.org", "interlagos")
API = "https://api.test/v1"
SESSIONS = Query("sessions", ("session_key=70",))


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    for name in ("USERNAME", "PASSWORD"):
        monkeypatch.delenv(f"F1HBASE_API_{name}", raising=False)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "sessions.jsonl").write_text('{"meeting_key": 7, "session_key": 70}\n')
    return folder


@pytest.fixture
def server(data: Path) -> Iterator[ReplayServer]:
    # Without a token nothing but one request in an hour is answered.
    arguments = ("--username", USER.username, "--password", USER.password, "--rate", "1/h", "--token-rate", "1000/s")
    with ReplayServer(data, *arguments) as server:
        yield server


async def ask(source: OpenF1Source) -> Listing:
    """Ask for the session, which takes a request, and one more for its meeting if the session is there."""
    return await source.listing(Selection("manual", session_key=(70,)))


def paths(server: ReplayServer) -> list[tuple[str, int]]:
    return [(line["path"], line["status"]) for line in server.log()]


async def test_every_request_has_the_token(server: ReplayServer) -> None:
    options = OpenF1Options(server.url, credentials=USER)
    async with open_source(options, 1.0) as source:
        assert all(found.sessions for found in await asyncio.gather(*(ask(source) for _ in range(5))))
    asked = [("/v1/meetings", 200)] * 5 + [("/v1/sessions", 200)] * 5
    assert sorted(paths(server)) == [("/token", 200), *asked]


async def test_a_token_that_the_api_no_longer_knows_is_renewed_once_for_all(
    server: ReplayServer, tmp_path: Path
) -> None:
    options = OpenF1Options(server.url, credentials=USER)
    async with open_source(options, 1.0) as source:
        assert (await ask(source)).sessions
        (file,) = (tmp_path / "state" / "f1hbase").glob("*.sqlite")
        with SharedState(file).transaction() as (db, _):
            db.execute("UPDATE tokens SET token = 'x' || token")
        (known,) = (await ask(source)).sessions
    assert known["session_key"] == 70
    refused = [("/v1/sessions", 401), ("/token", 200), ("/v1/sessions", 200)]
    assert paths(server)[3:] == [*refused, ("/v1/meetings", 200)]


async def test_a_late_401_does_not_replace_the_token_that_another_request_has_got_meanwhile(tmp_path: Path) -> None:
    sent: list[str] = []
    given = 0
    new_token = asyncio.Event()

    def give(*_: Any, **__: Any) -> CallbackResult:
        nonlocal given
        given += 1
        return CallbackResult(payload={"access_token": f"T0KEN{given}", "expires_in": "3600"})

    async def answer(*_: Any, **options: Any) -> CallbackResult:
        sent.append(options["auth"].encode())
        if sent[-1] != "Bearer T0KEN1":
            new_token.set()
            return CallbackResult(body="[]")
        if len(sent) == 1:
            await new_token.wait()
        return CallbackResult(status=401, payload={"detail": "Invalid or expired token"})

    with aioresponses() as network:
        network.post("https://api.test/token", callback=give, repeat=True)
        network.get(f"{API}/sessions?session_key=70", callback=answer, repeat=True)
        async with open_source(OpenF1Options(API, credentials=USER), 1.0) as source:
            await asyncio.gather(ask(source), ask(source))
    assert sent == ["Bearer T0KEN1"] * 2 + ["Bearer T0KEN2"] * 2
    assert given == 2


class Refusing:
    """An API that gives a token for each request for one, and takes none of them."""

    def __init__(self, network: aioresponses, detail: str, status: int = 401) -> None:
        self.given = 0
        self.headers: list[str] = []
        network.post("https://api.test/token", callback=self._give, repeat=True)
        self._answer = CallbackResult(status=status, payload={"detail": detail})
        network.get(f"{API}/sessions?session_key=70", callback=self._refuse, repeat=True)

    def _give(self, *_: Any, **__: Any) -> CallbackResult:
        self.given += 1
        return CallbackResult(payload={"access_token": f"T0KEN{self.given}", "expires_in": "3600"})

    def _refuse(self, *_: Any, **options: Any) -> CallbackResult:
        self.headers.append(options["auth"].encode())
        return self._answer


async def test_an_api_that_refuses_the_new_token_as_well_is_not_asked_a_third_time() -> None:
    options = OpenF1Options(API, credentials=USER)
    with aioresponses() as network:
        api = Refusing(network, "Invalid or expired token")
        async with open_source(options, 1.0) as source:
            with pytest.raises(UnreachableError, match=r"HTTP 401: Invalid or expired token \(with a new token, too\)"):
                await ask(source)
    assert api.headers == ["Bearer T0KEN1", "Bearer T0KEN2"]


async def test_a_live_session_is_no_reason_for_a_new_token(tmp_path: Path) -> None:
    with aioresponses() as network:
        api = Refusing(network, "Live F1 session in progress.")
        tokens = TokenProvider(API, USER, tmp_path / "tokens" / "token.json")
        async with OpenF1Client(API, 30.0, tokens=tokens) as client:
            with pytest.raises(SessionLiveError):
                await client.get(SESSIONS)
    assert api.given == 1


async def test_the_401_of_the_free_api_is_not_taken_for_a_matter_of_tokens() -> None:
    with aioresponses() as network:
        network.get(f"{API}/sessions?session_key=70", status=401, payload={"detail": "no"})
        async with OpenF1Client(API, 30.0) as client:
            with pytest.raises(GiveUpError):
                await client.get(SESSIONS)


async def test_errors_of_requests_with_a_token_do_not_hold_it(tmp_path: Path) -> None:
    (tmp_path / "tokens").mkdir()
    with aioresponses() as network:
        network.post("https://api.test/token", payload={"access_token": "T0KEN1"})
        network.get(f"{API}/sessions?session_key=70", exception=ValueError("T0KEN1"))
        tokens = TokenProvider(API, USER, tmp_path / "tokens" / "token.json")
        async with OpenF1Client(API, 30.0, tokens=tokens) as client:
            with pytest.raises(RequestError) as failed:
                await client.get(SESSIONS)
    assert failed.value.__context__ is None
    told = traceback.TracebackException.from_exception(failed.value, capture_locals=True).format()
    assert "T0KEN1" not in "".join(told)


def test_refused_credentials_end_the_run_with_what_to_do(server: ReplayServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("F1HBASE_API_USERNAME", USER.username)
    monkeypatch.setenv("F1HBASE_API_PASSWORD", "monza")
    monkeypatch.setenv("F1HBASE_API_URL", server.url)  # credentials go to an address that is named beside them
    command = [sys.executable, "-m", "f1hbase", "plan", "--session-key", "70"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "OpenF1 refused F1HBASE_API_USERNAME/F1HBASE_API_PASSWORD (HTTP 401" in done.stdout
    assert "monza" not in done.stdout + done.stderr
    assert USER.username not in done.stdout + done.stderr
    assert paths(server) == [("/token", 401)]


def test_one_without_the_other_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("F1HBASE_API_USERNAME", USER.username)
    result = CliRunner().invoke(cli, ["plan", "--session-key", "70"])
    assert isinstance(result.exception, ConfigError)
    assert "F1HBASE_API_PASSWORD (or 'api-password' in f1hbase.toml) is missing" in str(result.exception)


def test_those_in_the_file_are_read_and_its_mode_is_warned_of(server: ReplayServer, tmp_path: Path) -> None:
    file = tmp_path / "f1hbase.toml"
    file.write_text(f'api-username = "{USER.username}"\napi-password = "monza"\napi-url = "{server.url}"\n')
    file.chmod(0o644)
    result = CliRunner().invoke(cli, ["plan", "--session-key", "70"])
    assert isinstance(result.exception, (CredentialsError, SystemExit))
    assert "chmod 600" in result.output
    assert "monza" not in result.output


def test_members_may_ask_more_often() -> None:
    assert [rate.limit for rate in limits(None, OPENF1_URL, authenticated=False).requests] == [3, 30]
    assert [rate.limit for rate in limits(None, OPENF1_URL, authenticated=True).requests] == [6, 60]
    assert not limits(None, "http://127.0.0.1:1/v1", authenticated=True).requests
