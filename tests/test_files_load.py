"""`load` between folders and landing zones, through the same pipeline as from the API to HBase."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from replay_server import ReplayServer

ROOT = Path(__file__).resolve().parent.parent


def run(*arguments: str, cwd: Path) -> str:
    """Run a command of this Python that must succeed; return what it prints."""
    result = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
    return result.stdout


@pytest.fixture(scope="module")
def season(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("season")
    run("simulator", "make", "made", "--minutes", "2", "--sessions", "practice,race", "--drivers", "4", cwd=folder)
    return folder / "made"


def load(source: str, target: Path, *options: str) -> str:
    return run("f1hbase", "load", "--from", source, "--to", str(target), "--year", "2025", *options, cwd=target.parent)


def manifests(zone: Path) -> dict[str, Any]:
    return {str(path.relative_to(zone)): json.loads(path.read_text()) for path in zone.glob("_state/units/**/*.json")}


def answers(zone: Path) -> dict[str, bytes]:
    return {str(path.relative_to(zone)): path.read_bytes() for path in zone.glob("source=*/**/*.gz")}


def records(zone: Path) -> int:
    return sum(int(manifest["counts"]["records"]) for manifest in manifests(zone).values())


def test_a_zone_is_filled_from_the_api_and_copied_without_it(season: Path, tmp_path: Path) -> None:
    with ReplayServer(season) as api:
        load("openf1", tmp_path / "zone", "--api-url", api.url)
        again = load("openf1", tmp_path / "zone", "--api-url", api.url)
    assert "0 sessions worked on" in again
    assert {manifest["status"] for manifest in manifests(tmp_path / "zone").values()} == {"done"}
    assert "requests: 0" in load("./zone", tmp_path / "copy")
    assert answers(tmp_path / "copy") == answers(tmp_path / "zone")
    zone, copy = manifests(tmp_path / "zone"), manifests(tmp_path / "copy")
    assert copy.keys() == zone.keys()
    for path, manifest in zone.items():
        kept = [{**one, "stored_at": ""} for one in manifest["objects"]]
        assert [{**one, "stored_at": ""} for one in copy[path]["objects"]] == kept
        assert copy[path]["fetched"] == manifest["fetched"]


def test_a_folder_of_plain_files_becomes_a_zone(season: Path, tmp_path: Path) -> None:
    endpoints = ("sessions", "meetings", "car_data", "laps", "starting_grid")
    options = [word for endpoint in endpoints for word in ("--endpoint", endpoint)]
    assert "all that was asked for is loaded" in load(str(season), tmp_path / "zone", *options)
    assert records(tmp_path / "zone") > 1_000
    assert all(name.endswith(".jsonl.gz") for name in answers(tmp_path / "zone"))
    load("./zone", tmp_path / "copy", *options)
    assert records(tmp_path / "copy") == records(tmp_path / "zone")
