"""What `doctor` says of landing zones: nothing is left behind, and each mistake is named with its way out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from f1hbase.cli.commands import cli


def doctor(*arguments: str) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    result = CliRunner().invoke(cli, ["doctor", "--json", "--log-file", "none.log", *arguments])
    checks: dict[str, list[dict[str, Any]]] = {}
    for check in json.loads(result.stdout)["checks"]:
        checks.setdefault(check["name"], []).append(check)
    return result.exit_code, checks


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "records"
    source.mkdir()
    (source / "sessions.jsonl").write_text(
        '{"session_key":9,"meeting_key":8,"date_start":"2024-01-01T00:00:00+00:00"}\n'
    )


def test_an_empty_folder_stays_empty_and_needs_no_hbase(tmp_path: Path) -> None:
    (tmp_path / "zone").mkdir()
    _, checks = doctor("--from", "records", "--to", "zone")
    assert [check["grade"] for check in checks["landing zone"]] == ["OK", "OK"]
    assert "is empty" in checks["landing zone"][1]["found"]
    assert "has 1 session" in checks["source"][0]["found"]
    assert not {"HBase", "tables", "API"} & checks.keys()
    assert list((tmp_path / "zone").iterdir()) == []


def test_a_folder_that_load_makes_is_not_made(tmp_path: Path) -> None:
    _, checks = doctor("--from", "records", "--to", "a/b")
    assert "load makes it" in checks["landing zone"][0]["found"]
    assert not (tmp_path / "a").exists()


def test_foreign_files_are_said(tmp_path: Path) -> None:
    _, checks = doctor("--from", "records", "--to", "records")
    assert checks["landing zone"][1]["grade"] == "WARN"
    assert "prefix of its own" in checks["landing zone"][1]["fix"]


@pytest.mark.parametrize(("place", "said"), [("ftp://host/x", "no store"), ("/proc", "cannot be written")])
def test_a_place_that_takes_nothing_fails(place: str, said: str) -> None:
    code, checks = doctor("--from", "records", "--to", place)
    assert code == 1
    last = checks["landing zone"][-1]
    assert last["grade"] == "FAIL"
    assert said in last["found"]
    assert last["fix"]


def test_a_source_that_is_not_there_fails() -> None:
    code, checks = doctor("--from", "nothing", "--to", "zone")
    assert code == 1
    assert checks["source"][0]["grade"] == "FAIL"
    assert "nothing" in checks["source"][0]["found"]
