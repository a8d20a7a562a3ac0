"""What `doctor` finds, and what it says of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cli import Loader
from hbase_server import LocalHBase, free_ports
from history_api import serving_in_thread
from replay_server import ReplayServer

from f1hbase.config import Config, Settings, SettingsFile
from f1hbase.credentials import Credentials
from f1hbase.model.rates import Limits, parse_limits
from f1hbase.operations.doctor import Check, Grade, doctor_json, doctor_lines, judgement
from f1hbase.operations.doctor.api import judge_answer, judge_clock, judge_limits, judge_sessions
from f1hbase.operations.doctor.hbase import check_hbase
from f1hbase.operations.doctor.machine import (
    check_credentials,
    check_hbase_command,
    check_log_file,
    check_memory,
    check_open_files,
    check_packages,
    check_python,
    check_state_folder,
)
from f1hbase.sources.http.errors import NoAnswerError, RequestError, SessionLiveError, SlowDownError
from f1hbase.sources.openf1.source import Probe
from f1hbase.stores.hbase.connector import HBaseConnector, find_gateways
from f1hbase.stores.hbase.schema import Tables, ensure_tables
from simulator.history import History, Scale
from simulator.history_server import HistoryFaults, HistoryLog

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
URL = "https://api.openf1.org/v1"


def race(begins: timedelta, hours: int = 2, **changes: Any) -> dict[str, Any]:
    """A session that begins so long after NOW."""
    edges = {"date_start": (NOW + begins).isoformat(), "date_end": (NOW + begins + timedelta(hours=hours)).isoformat()}
    return {"session_key": 1, "location": "Las Vegas", "session_name": "Race", **edges, **changes}


def probe(*records: Any, error: RequestError | None = None, skew: float = 0.0, seconds: float = 0.2) -> Probe:
    there = (NOW - timedelta(seconds=skew)).replace(microsecond=0)
    return Probe([*records], error, seconds, there, NOW, [])


# --- this machine ---


@pytest.mark.parametrize(("version", "grade"), [("3.11.0", Grade.OK), ("3.13.2", Grade.OK), ("3.9.25", Grade.FAIL)])
def test_the_python_version_is_held_against_what_the_project_asks_for(version: str, grade: Grade) -> None:
    assert check_python(version).grade is grade


def test_the_packages_installed_here_fit() -> None:
    check = check_packages()
    assert check.grade is Grade.OK
    assert "aiohttp 3." in check.found


def test_each_package_that_is_absent_or_does_not_fit_is_named_with_the_line_that_installs_it() -> None:
    wanted = [
        "aiohttp<3.0,>=2", "no-such-package>=1", "click>=8.0", 'pytest>=99; extra == "dev"',
        'tqdm>=99; python_version<"3"',
    ]  # fmt: skip
    check = check_packages(wanted)
    assert check.grade is Grade.FAIL
    assert "aiohttp 3." in check.found
    assert "no-such-package is absent" in check.found
    assert "click" not in check.found
    assert "pytest" not in check.found
    assert "tqdm" not in check.found
    assert "pip install 'aiohttp<3.0,>=2' 'no-such-package>=1'" in check.fix


def test_versions_are_compared_as_the_packaging_standard_says() -> None:
    assert check_packages(["click>=8.0rc1", "aiohttp!=3.13.0.*", "tqdm~=4.60"]).grade is Grade.OK
    assert check_python("3.11.0rc2").grade is Grade.FAIL, "a candidate comes before its release"


def test_credentials_are_never_shown_and_a_file_that_others_can_read_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "f1hbase.toml"
    path.touch(0o600)
    config = Config(Settings(), SettingsFile(path, {"api-password": "hunter2"}))
    credentials = Credentials("ayrton", "hunter2")
    assert check_credentials(credentials, "", config).grade is Grade.OK
    path.chmod(0o644)
    check = check_credentials(credentials, "", config)
    assert (check.grade, check.fix) == (Grade.WARN, f"close it with: chmod 600 '{path}'")
    assert "hunter2" not in str(check.as_json())
    assert "ayrton" not in str(check.as_json())


def test_one_credential_without_the_other_fails() -> None:
    assert check_credentials(None, "F1HBASE_API_PASSWORD is missing", Config(Settings())).grade is Grade.FAIL


def test_a_log_file_that_cannot_be_written_fails_and_says_how_to_name_another(tmp_path: Path) -> None:
    assert check_log_file(tmp_path / "populate.log").grade is not Grade.FAIL
    for path in (tmp_path, tmp_path / "absent" / "populate.log"):
        check = check_log_file(path)
        assert (check.grade, "--log-file" in check.fix) == (Grade.FAIL, True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_fails(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert check_log_file(tmp_path / "populate.log").grade is Grade.FAIL
    assert "XDG_STATE_HOME" in check_state_folder(tmp_path / "f1hbase").fix


@pytest.mark.parametrize(("free", "grade"), [(2e9, Grade.OK), (5e8, Grade.WARN), (1e7, Grade.FAIL)])
def test_little_room_on_the_disk_is_warned_of_and_next_to_none_fails(
    free: float, grade: Grade, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        pass

    usage = Usage()
    usage.free = int(free)  # type: ignore[attr-defined]
    monkeypatch.setattr("psutil.disk_usage", lambda _: usage)
    assert check_log_file(tmp_path / "populate.log").grade is grade
    check = check_state_folder(tmp_path / "not" / "yet" / "there")
    assert check.grade is grade, "the folder is made when it is needed"
    assert not (tmp_path / "not").exists()


def test_open_files_and_memory_are_held_against_what_the_processes_need() -> None:
    settings = Settings(processes=10, max_concurrent_requests=200)
    assert check_open_files(settings, 1024).grade is Grade.OK
    few = check_open_files(settings, 256)
    assert (few.grade, "ulimit -n 1024" in few.fix) == (Grade.FAIL, True)
    assert check_open_files(Settings(processes=100), 256).grade is Grade.FAIL, "the parent has pipes to each"
    assert check_open_files(settings, -1).grade is Grade.OK
    assert check_memory(10, 2_000_000_000).grade is Grade.OK
    little = check_memory(10, 600_000_000)
    assert (little.grade, little.fix) == (Grade.WARN, "--processes 5")


def test_without_the_hbase_command_there_is_a_warning_that_says_what_is_lost() -> None:
    assert check_hbase_command("/usr/bin/hbase").grade is Grade.OK
    assert "encodings" in check_hbase_command(None).found


# --- the API ---


def test_an_answer_like_openf1s_is_told_with_its_time() -> None:
    check = judge_answer(URL, probe(race(timedelta(days=9)), seconds=0.42))
    assert (check.grade, check.found) == (Grade.OK, f"{URL} lists 1 session in 0.4 s")


@pytest.mark.parametrize(
    ("answer", "grade", "said"),
    [
        (probe(error=NoAnswerError("no connection (connection refused)")), Grade.FAIL, "connection refused"),
        (probe({"hello": "world"}), Grade.FAIL, "not with sessions as OpenF1 has them"),
        (probe(), Grade.WARN, "no session since 2023"),
        (probe(error=SlowDownError("HTTP 429: slow down", None)), Grade.WARN, "too many requests"),
        (probe(race(timedelta(days=9)), seconds=20), Grade.WARN, "is slow: 20.0 s"),
        (probe(error=SessionLiveError("HTTP 401: Live F1 session")), Grade.OK, "closed now"),
    ],
)
def test_what_is_wrong_with_an_answer_is_said(answer: Probe, grade: Grade, said: str) -> None:
    check = judge_answer(URL, answer)
    assert check.grade is grade
    assert said in check.found
    assert check.fix or grade is Grade.OK


@pytest.mark.parametrize(
    ("begins", "grade"),
    [
        (timedelta(hours=13), Grade.OK),
        (timedelta(hours=12, minutes=29), Grade.WARN),
        (timedelta(minutes=-60), Grade.WARN),
        (timedelta(hours=-2, minutes=-29), Grade.WARN),
        (timedelta(hours=-2, minutes=-31), Grade.OK),
    ],
)
def test_a_session_of_now_or_the_next_hours_closes_the_free_api(begins: timedelta, grade: Grade) -> None:
    assert judge_sessions(probe(race(begins)), NOW, free=True).grade is grade


def test_when_the_api_closes_is_said_in_utc_and_that_a_subscription_keeps_it_open() -> None:
    answer = probe(race(timedelta(hours=9)), race(timedelta(hours=4), session_name="Qualifying"))
    check = judge_sessions(answer, NOW, free=True)
    when = "from 2026-11-22 12:30 to 2026-11-22 15:30 UTC"
    assert check.found == f"Las Vegas, Qualifying closes the free API {when}, and 1 session after it"
    assert judge_sessions(answer, NOW, free=False).grade is Grade.OK


def test_cancelled_sessions_and_records_without_times_close_nothing() -> None:
    records = [race(timedelta(hours=1), is_cancelled=True), race(timedelta(hours=1), date_end=None), "?"]
    assert judge_sessions(probe(*records), NOW, free=True).grade is Grade.OK


def test_a_live_session_that_has_closed_the_api_is_a_warning() -> None:
    check = judge_sessions(probe(error=SessionLiveError("HTTP 401")), NOW, free=True)
    assert (check.grade, "closed until half an hour after it" in check.found) == (Grade.WARN, True)


@pytest.mark.parametrize(
    ("skew", "grade"),
    [(0, Grade.OK), (3, Grade.OK), (-8, Grade.WARN), (30, Grade.WARN), (-90, Grade.FAIL), (3600, Grade.FAIL)],
)
def test_the_clock_is_held_against_the_apis(skew: float, grade: Grade) -> None:
    check = judge_clock(probe(skew=skew))
    assert check.grade is grade
    if grade is not Grade.OK:
        assert ("behind" if skew < 0 else "ahead") in check.found


def test_an_answer_that_took_long_does_not_make_the_clock_wrong() -> None:
    assert judge_clock(probe(skew=9, seconds=20)).grade is Grade.OK


def test_the_limits_are_told_with_what_is_left_of_them() -> None:
    assert "3 of 3/s, 18 of 30/m" in judge_limits(parse_limits("3/s,30/m"), [0, 12]).found
    assert judge_limits(Limits(), []).found.startswith("none")


# --- telling it ---

_CHECKS = [Check(Grade.OK, "Python", "3.11"), Check(Grade.WARN, "memory", "little " * 20, "--processes 1")]


def test_a_check_is_one_line_and_in_a_terminal_as_many_as_fit() -> None:
    assert doctor_lines(_CHECKS[0]) == ["OK   Python         3.11"]
    (line,) = doctor_lines(_CHECKS[1])
    assert line.startswith("WARN memory         little")
    assert line.endswith("Fix: --processes 1")
    narrow = doctor_lines(_CHECKS[1], 80)
    assert max(map(len, narrow)) <= 80
    assert all(line.startswith(" " * 20) for line in narrow[1:])


def test_the_verdict_counts_what_failed_and_the_json_says_the_same() -> None:
    assert judgement(_CHECKS) == "Ready to load; 1 warning."
    assert doctor_json(_CHECKS)["ready"] is True
    failed = [*_CHECKS, Check(Grade.FAIL, "API", "no", "wait")]
    assert judgement(failed).startswith("1 check failed")
    assert doctor_json(failed)["ready"] is False
    assert json.loads(json.dumps(doctor_json(failed)))["checks"][2] == {
        "grade": "FAIL", "name": "API", "found": "no", "fix": "wait",
    }  # fmt: skip


# --- as a whole ---


def nowhere(tmp_path: Path) -> dict[str, str]:
    """An environment in which nothing answers."""
    (port,) = free_ports(1)
    return {
        "XDG_STATE_HOME": str(tmp_path / "state"), "F1HBASE_HBASE_HOST": "127.0.0.1", "F1HBASE_HBASE_PORT": str(port),
        "F1HBASE_API_URL": f"http://127.0.0.1:{port}/v1", "NO_PROXY": "*", "no_proxy": "*",
    }  # fmt: skip


def test_with_nothing_there_every_check_is_made_and_two_fail(tmp_path: Path) -> None:
    loader = Loader(tmp_path, nowhere(tmp_path))
    content = json.loads(loader.run("doctor", "--json", exit_code=1))
    grades = {check["name"]: check["grade"] for check in content["checks"]}
    assert (grades["HBase"], grades["API"]) == ("FAIL", "FAIL")
    assert [name for name, grade in grades.items() if grade == "SKIP"] == [
        "tables", "other runs", "live session", "clock",
    ]  # fmt: skip
    assert [name for name, grade in grades.items() if grade == "FAIL"] == ["HBase", "API"]
    assert all(check["fix"] for check in content["checks"] if check["grade"] in {"WARN", "FAIL"})
    assert not (tmp_path / "populate.log").exists()


def test_the_api_is_asked_once_and_its_clock_looked_at(tmp_path: Path) -> None:
    (tmp_path / "sessions.jsonl").write_text(json.dumps(race(timedelta(days=-900), meeting_key=1, year=2024)) + "\n")
    with ReplayServer(tmp_path) as api:
        loader = Loader(tmp_path, nowhere(tmp_path) | {"F1HBASE_API_URL": api.url, "F1HBASE_RATE": "3/s,30/m"})
        began = time.time()
        output = loader.run("doctor", exit_code=1)
        assert [one["path"] for one in api.log()] == ["/v1/sessions"]
        assert "OK   API            " in output
        assert "lists 1 session in" in output
        assert "OK   live session   none now, nor within 12 hours" in output
        assert "OK   clock          that of the API, within" in output
        assert "free now: 3 of 3/s, 30 of 30/m" in output
        if time.time() - began < 50:
            assert "29 of 30/m" in loader.run("doctor", exit_code=1), "the first one's request counts"
        # What a live session does.
        api.faults(lock_out=True)
        closed = loader.run("doctor", exit_code=1)
        assert "WARN live session" in closed


def test_a_pause_of_an_earlier_run_is_shown_with_what_ends_it_and_nothing_waits_for_its_end(tmp_path: Path) -> None:
    (tmp_path / "sessions.jsonl").write_text(json.dumps(race(timedelta(days=-900), meeting_key=1, year=2024)) + "\n")
    with ReplayServer(tmp_path) as api:
        loader = Loader(tmp_path, nowhere(tmp_path) | {"F1HBASE_API_URL": api.url})
        pause = """
import sys; from urllib.parse import urlsplit
from f1hbase.sources.http.limiter import SharedRateLimiter, state_path
SharedRateLimiter((), state_path(urlsplit(sys.argv[1]).netloc)).pause(1200, "HTTP 429", bound=1200)
"""
        subprocess.run([sys.executable, "-c", pause, api.url], check=True, env=os.environ | loader.environment)
        paused = loader.run("doctor", exit_code=1)
        assert "WARN pause          all requests are paused until" in paused
        assert "HTTP 429. Fix: wait, or end it: doctor --end-pause" in paused
        assert "SKIP API            not asked" in paused
        assert api.log() == []
        ended = loader.run("doctor", "--end-pause", exit_code=1)
        assert "WARN pause" not in ended
        assert "lists 1 session in" in ended


def test_jolpica_is_asked_once_where_it_is_the_source(tmp_path: Path) -> None:
    history, faults, log = History(1, Scale(first=1990, last=1992)), HistoryFaults(), HistoryLog()
    with serving_in_thread(history, faults, log) as url:
        environment = nowhere(tmp_path) | {"F1HBASE_JOLPICA_URL": url, "F1HBASE_RATE": "4/s,500/h"}
        loader = Loader(tmp_path, environment)
        asked = ("doctor", "--from", "jolpica", "--to", str(tmp_path / "zone"))
        output = loader.run(*asked)
        assert log.requests == ["seasons?limit=1"]
        assert f"OK   Jolpica        {url} lists 3 seasons in" in output
        assert "free now: 4 of 4/s, 500 of 500/h" in output
        assert "499 of 500/h" in loader.run(*asked), "the first one's request counts"
        faults.left["seasons"] = ("429", 1)
        assert "WARN Jolpica" in loader.run(*asked)
        faults.left["seasons"] = ("other", 1)
        assert "the answer is none of Jolpica's" in loader.run(*asked, exit_code=1)
        pause = """
import sys; from urllib.parse import urlsplit
from f1hbase.sources.http.limiter import SharedRateLimiter, state_path
SharedRateLimiter((), state_path(urlsplit(sys.argv[1]).netloc)).pause(1200, "HTTP 429", bound=1200)
"""
        subprocess.run([sys.executable, "-c", pause, url], check=True, env=os.environ | environment)
        assert "SKIP Jolpica        not asked" in loader.run(*asked)
        assert "lists 3 seasons in" in loader.run(*asked, "--end-pause")
    assert "FAIL Jolpica" in loader.run(*asked, exit_code=1)


@pytest.mark.hbase
def test_of_several_gateways_one_that_is_down_is_a_warning_and_tables_are_looked_at(
    hbase: LocalHBase, table_prefix: str
) -> None:
    (port,) = free_ports(1)
    settings = Settings(hbase_host=f"{hbase.host}:{port},{hbase.host}:{hbase.port}", table_prefix=table_prefix)
    found = [(check.grade, check.name) for check in check_hbase(settings)]
    assert found == [
        (Grade.OK, "HBase"), (Grade.WARN, "HBase"), (Grade.OK, "tables"), (Grade.OK, "other runs"),
    ]  # fmt: skip
    connector = HBaseConnector(find_gateways([(hbase.host, hbase.port)]))
    tables = Tables(table_prefix)
    connector.create_table(tables.reports, tables.families[tables.reports], {})
    gone = [check for check in check_hbase(settings) if check.grade is Grade.FAIL]
    assert [f"{table_prefix}_f1_data is gone" in check.found for check in gone] == [True]
    connector.create_table(tables.data, ["car", "driver"], {})
    (lacks,) = (check for check in check_hbase(settings) if check.grade is Grade.FAIL)
    assert f"{table_prefix}_f1_data lacks intervals, laps" in lacks.found
    other = Tables(f"{table_prefix}whole")
    ensure_tables(connector, other)
    connector.close()
    whole = Settings(hbase_host=hbase.host, hbase_port=hbase.port, table_prefix=other.prefix)
    assert {check.grade for check in check_hbase(whole)} == {Grade.OK}
