"""Runs on a schedule: one at a time, nobody hindered by a kill, and somebody told of a failure."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from webhook import webhook

from f1hbase.cli.commands import cli

SCHEDULE = Path(__file__).resolve().parent.parent / "scripts" / "schedule"
RUN = SCHEDULE / "run.sh"

pytestmark = pytest.mark.skipif(shutil.which("flock") is None, reason="there is no flock here")


def start(folder: Path, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    environment = os.environ | {"XDG_STATE_HOME": str(folder / "state"), "PYTHONPATH": str(SCHEDULE.parent.parent)}
    return subprocess.Popen(
        [str(RUN), *arguments], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, **options,
    )  # fmt: skip


def run(folder: Path, *arguments: str, exit_code: int = 0) -> str:
    process = start(folder, *arguments)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == exit_code, printed
    return printed


def test_a_run_that_finds_another_one_says_so_and_a_kill_leaves_no_lock(tmp_path: Path) -> None:
    with start(tmp_path, "nightly", "sh", "-c", "echo begun; exec sleep 60", process_group=0) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "begun\n"
        assert run(tmp_path, "nightly", "echo", "second") == (
            "run.sh: another run of 'nightly' is going on; this one ends\n"
        )
        assert run(tmp_path, "jolpica", "echo", "another name") == "another name\n"
        os.killpg(first.pid, 9)
        first.communicate()
    assert run(tmp_path, "nightly", "echo", "third") == "third\n"


def test_a_program_is_told_once_of_a_failure_and_of_nothing_else(tmp_path: Path) -> None:
    program = tmp_path / "tell me"
    program.write_text('#!/bin/sh\nprintf "%s|" "$@" >> told\n')
    program.chmod(0o755)
    told = tmp_path / "told"
    for code in (0, 130, 137):
        run(tmp_path, "--on-failure", str(program), "nightly", "sh", "-c", f"exit {code}", exit_code=code)
    assert told.read_text() == "nightly|137|"
    told.unlink()
    # f1hbase has told of it itself.
    f1hbase = (sys.executable, "-m", "f1hbase", "load", "--year", "never")
    run(tmp_path, "--on-failure", str(program), "nightly", *f1hbase, exit_code=2)
    assert told.read_text() == "load|2|"
    told.unlink()
    run(tmp_path, "--on-failure", str(program), "nightly", "no-such-command", exit_code=127)
    assert told.read_text() == "nightly|127|"


def test_nothing_given_is_read_by_a_shell(tmp_path: Path) -> None:
    run(tmp_path, "--on-failure", "touch a; touch b", "nightly", "sh", "-c", "exit 9", exit_code=9)
    assert run(tmp_path, "nightly", "echo", "$(touch c)", "; touch d") == "$(touch c) ; touch d\n"
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    assert "is no name" in run(tmp_path, "../nightly", "true", exit_code=2)


@pytest.fixture
def hook() -> Iterator[tuple[str, list[Any]]]:
    told: list[Any] = []
    with webhook(lambda post: told.append(post.body), lambda path: 204 if path == "/f1" else 500) as url:
        yield url, told


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
def test_an_address_is_told_of_a_failure_and_one_that_fails_is_said(
    tmp_path: Path, hook: tuple[str, list[Any]]
) -> None:
    url, told = hook
    assert run(tmp_path, "--on-failure", f"{url}/f1", "nightly", "sh", "-c", "exit 9", exit_code=9) == ""
    reason = "it could not be run, or was killed"
    assert told == [{"command": "nightly", "exit_code": 9, "reason": reason}]
    f1hbase = (sys.executable, "-m", "f1hbase", "load", "--year", "never")
    run(tmp_path, "--on-failure", f"{url}/f1", "nightly", *f1hbase, exit_code=2)
    assert [(one["command"], one["exit_code"]) for one in told] == [("nightly", 9), ("load", 2)]
    printed = run(tmp_path, "--on-failure", f"{url}/gone", "nightly", "sh", "-c", "exit 9", exit_code=9)
    assert "telling so failed as well" in printed


def test_the_commands_of_timers_and_cron_exist_with_their_options() -> None:
    texts = [path.read_text() for path in (*SCHEDULE.glob("*.service"), SCHEDULE / "crontab")]
    commands = [found for text in texts for found in re.findall(r"(?:bin/f1hbase|\$F1HBASE) (\w+) (--.*)", text)]
    assert len(commands) == 8
    for command, options in commands:
        shown = CliRunner().invoke(cli, [command, "--help"]).output
        for flag in re.findall(r"--[a-z-]+", options):
            assert flag in shown, f"{command} {flag}"


def test_every_timer_has_its_service_and_a_time_that_systemd_reads() -> None:
    timers = list(SCHEDULE.glob("*.timer"))
    assert len(timers) == 3
    for timer in timers:
        assert timer.with_suffix(".service").exists()
        when = re.search(r"^OnCalendar=(.+)$", timer.read_text(), re.MULTILINE)
        assert when is not None
        if shutil.which("systemd-analyze"):
            subprocess.run(["systemd-analyze", "calendar", when[1]], check=True, stdout=subprocess.DEVNULL)
