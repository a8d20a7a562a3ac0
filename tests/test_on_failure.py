"""`--on-failure`: somebody is told of a failure, by an address or a command, and that changes nothing else."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.request import Request, urlopen

import pytest
from cli import Loader
from hbase_server import free_ports
from webhook import webhook
from weekend import one_session, serve, simulate

from f1hbase.cli import failures
from f1hbase.cli.failures import OnFailure, without_secrets
from f1hbase.config import resolve

Told = list[dict[str, Any]]


@pytest.fixture
def hook() -> Iterator[tuple[str, Told]]:
    """The address of a webhook, and what it was told."""
    told: Told = []
    status_of = {"/moved": 307, "/broken": 500}
    with webhook(
        lambda post: told.append({"path": post.path, "type": post.type, **post.body}),
        lambda path: status_of.get(path, 204),
    ) as url:
        yield url, told


@contextmanager
def silence() -> Iterator[str]:
    """Yield the address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/hook"


def loader(folder: Path, **settings: str) -> Loader:
    environment = {"XDG_STATE_HOME": str(folder / "state"), "F1HBASE_PATIENCE": "0s", "F1HBASE_MAX_RETRIES": "0"}
    return Loader(folder, environment | {f"F1HBASE_{name.upper()}": value for name, value in settings.items()})


def recorder(folder: Path) -> tuple[str, Path]:
    """Return a command that writes its arguments, its input and its environment to a file, and that file."""
    script, told = folder / "tell me.py", folder / "told.json"
    script.write_text(
        "import json, os, sys\n"
        "told = {'words': sys.argv[1:], 'input': json.load(sys.stdin), 'environment': dict(os.environ)}\n"
        f"open({str(told)!r}, 'a').write(json.dumps(told) + chr(10))\n"
    )
    return f"{sys.executable} '{script}' --channel 'f1 data'", told


def test_an_address_is_told_why_a_load_could_not_begin(tmp_path: Path, hook: tuple[str, Told]) -> None:
    url, told = hook
    given = ("load", "--to", str(tmp_path / "zone"), "--api-url", "http://127.0.0.1:9/v1", "--session-key", "5")
    printed = loader(tmp_path).run(*given, "--on-failure", f"{url}/secret-of-the-hook", exit_code=3)
    (one,) = told
    assert (one["path"], one["type"], one["command"]) == ("/secret-of-the-hook", "application/json", "load")
    assert (one["exit_code"], one["host"]) == (3, socket.gethostname())
    assert "no connection" in one["reason"]
    assert f"the failure was told to {url.removeprefix('http://')}" in printed
    assert "secret-of-the-hook" not in printed + (tmp_path / "populate.log").read_text()


def test_a_load_with_failed_units_tells_how_many_and_its_row_does_not_have_the_address(
    tmp_path: Path, hook: tuple[str, Told]
) -> None:
    url, told = hook
    records = one_session(simulate(tmp_path / "weekend", meetings=1), "laps", "pit")
    zone = tmp_path / "zone"
    with serve(tmp_path / "api", records) as api:
        api.faults(fail={"laps": 500})
        given = ("load", "--to", str(zone), "--api-url", api.url, "--endpoint", "laps", "--endpoint", "pit")
        loader(tmp_path, on_failure=f"{url}/secret-of-the-hook", rate="none").run(*given, exit_code=1)
    for path in zone.rglob("*"):
        assert not path.is_file() or b"secret-of-the-hook" not in path.read_bytes()
    runs = [path.read_text() for path in (zone / "_state" / "runs").rglob("*.json")]
    assert any('"on_failure": "set"' in run for run in runs), runs
    (one,) = told
    assert one["exit_code"] == 1
    assert (one["counts"]["sessions"], one["counts"]["failed_units"]) == (1, 1)
    assert one["counts"]["stored_units"] > 0
    assert one["counts"]["rows"] > 0


def test_a_command_is_run_without_a_shell_and_without_credentials(tmp_path: Path) -> None:
    command, told = recorder(tmp_path)
    settings = tmp_path / "f1hbase.toml"
    settings.write_text(f"on-failure = {json.dumps(command + ' ; touch made $(touch too)')}\n")
    secrets = {"api_username": "somebody", "api_password": "hunter2-hunter2"}
    loader(tmp_path, **secrets).run("load", "--year", "never", exit_code=2)
    (one,) = [json.loads(line) for line in told.read_text().splitlines()]
    assert one["words"] == ["--channel", "f1 data", ";", "touch", "made", "$(touch", "too)", "load", "2"]
    assert (one["input"]["exit_code"], one["input"]["command"]) == (2, "load")
    assert "never" in one["input"]["reason"]
    assert "hunter2" not in told.read_text()
    assert not {"F1HBASE_API_PASSWORD", "F1HBASE_ON_FAILURE"} & one["environment"].keys()
    assert not (tmp_path / "made").exists()
    assert not (tmp_path / "too").exists()


def test_a_file_that_others_can_change_runs_no_command(tmp_path: Path) -> None:
    command, told = recorder(tmp_path)
    settings = tmp_path / "f1hbase.toml"
    settings.write_text(f"on-failure = {json.dumps(command)}\n")
    settings.chmod(0o666)
    printed = loader(tmp_path).run("load", "--year", "2024", exit_code=2)
    assert "has words for --on-failure in it, but others can change it (mode 0666)" in printed
    assert not told.exists()


def test_what_can_even_not_be_read_is_told_where_the_environment_says_to_whom(tmp_path: Path) -> None:
    command, told = recorder(tmp_path)
    told_by = loader(tmp_path, on_failure=command)
    told_by.run("load", "--no-such-option", exit_code=2)
    assert "No such option" in json.loads(told.read_text())["input"]["reason"]
    told.unlink()
    told_by.run("status", "--no-such-option", exit_code=2)
    assert not told.exists(), "only what runs unattended tells"


def test_a_service_tells_of_each_recording_that_fails_and_lives_on(tmp_path: Path, hook: tuple[str, Told]) -> None:
    url, told = hook
    (port,) = free_ports(1)
    nowhere = {"hbase_port": str(free_ports(1)[0]), "livetiming_url": "http://127.0.0.1:9/static"}
    given = ("live", "--from", "livetiming", "--serve", f"127.0.0.1:{port}", "--on-failure", url)
    with loader(tmp_path, **nowhere).start(*given) as service:
        assert service.stdout is not None
        assert any("POST / begins to record" in line for line in service.stdout)
        for number in (1, 2):
            urlopen(Request(f"http://127.0.0.1:{port}/", method="POST")).close()
            assert any("the failure was told to" in line for line in service.stdout)
            assert len(told) == number
        service.terminate()
        service.stdout.read()
    assert service.returncode == 130
    assert [(one["command"], one["exit_code"]) for one in told] == [("live", 3)] * 2
    assert all("Thrift gateway" in one["reason"] for one in told)
    assert told[0]["started"] <= told[1]["started"]


@pytest.mark.parametrize("command", ["ingest", "export", "live"])
def test_other_commands_that_run_unattended_tell_too(tmp_path: Path, command: str) -> None:
    tell, told = recorder(tmp_path)
    arguments = {
        "ingest": ["missing.csv", "--to", "zone"],
        "export": ["--from", "no-such-zone", "--to", "tables"],
        "live": ["--from", "jolpica"],
    }[command]
    loader(tmp_path).run(command, *arguments, "--on-failure", tell, exit_code=None)
    one = json.loads(told.read_text())
    assert one["words"][-2] == command
    assert one["input"]["exit_code"] in (1, 2)


def test_nobody_is_told_of_a_success(tmp_path: Path, hook: tuple[str, Told]) -> None:
    url, told = hook
    (tmp_path / "laps.csv").write_text("lap,seconds\n1,90.5\n")
    loader(tmp_path).run("ingest", "laps.csv", "--to", "zone", "--on-failure", url)
    OnFailure(url, "load").tell(130)
    assert told == []


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("{hook}/broken", "HTTP 500"),
        ("{hook}/moved", "HTTP 307"),
        ("http://127.0.0.1:9/hook", "refused"),
        ("/no/such/program", "No such file or directory"),
        ("false", "it ended with 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_a_warning_and_the_exit_code_stays(
    tmp_path: Path, hook: tuple[str, Told], target: str, said: str
) -> None:
    url, _ = hook
    given = ("ingest", "missing.csv", "--to", "zone", "--on-failure", target.format(hook=url))
    printed = loader(tmp_path).run(*given, exit_code=1)
    (line,) = [line for line in printed.splitlines() if "the failure was not told to" in line]
    assert said in line
    assert "/hook" not in line
    assert "Traceback" not in printed


def test_who_hangs_is_left_after_a_while(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(failures, "ADDRESS_SECONDS", 0.2)
    monkeypatch.setattr(failures, "COMMAND_SECONDS", 0.2)
    began = monotonic()
    with silence() as url:
        OnFailure(url, "load").tell(1)
    # What it has started is ended, too: it would hold its output open.
    OnFailure("sh -c 'sleep 60 & wait'", "load").tell(1)
    assert monotonic() - began < 10
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records][-1] == "it was ended after 0.2 s"
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("https://", "no address"),
        ("https://user:word@host/hook", "user name"),
        ("https://host/a hook", "a space"),
        ("tell 'it", "cannot be read"),
        ("''", "write an https address"),
    ],
)  # fmt: skip
def test_what_is_neither_an_address_nor_a_command_is_refused_without_repeating_it(value: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        resolve({"on_failure": value}, names=(), environment={})
    assert "word" not in str(refused.value)


def test_the_environment_of_a_command_has_no_credentials() -> None:
    kept = without_secrets({"PATH": "/bin", "F1HBASE_F1TV_TOKEN": "t", "AUTH_TOKEN": "t", "F1HBASE_ON_FAILURE": "x"})
    assert kept == {"PATH": "/bin"}
    assert os.environ["PATH"]
