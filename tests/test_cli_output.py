"""What the command line writes where: one file for log and output, and names that would command a terminal."""

from __future__ import annotations

import gzip
import json
import os
import pty
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from cli import ENTRY_POINT, Loader
from hbase_server import LocalHBase
from replay_server import ReplayServer

pytestmark = pytest.mark.hbase

LOG_LINE = re.compile(r"\[[A-Z]+\] \d{4}-\d\d-\d\d \d\d:\d\d:\d\d - .*")
REQUEST = re.compile(r"\[DEBUG\] .* [\d,]+ records?, [\d,]+ bytes?, \d+\.\d\d s")
FORGED = "[SUCCESS] 2024-01-01 00:00:00 - all that was asked for is loaded"
HOSTILE = f"Evil\x1b[2J\x1b]0;owned\x07 Prix\r\n{FORGED}\u2028\x9b2J"
LONG_FIELD = "x" * 800


@pytest.fixture
def api_folder(tmp_path: Path) -> Path:
    """A race of a minute, behind whose meeting and sessions somebody hostile is."""
    folder = tmp_path / "api"
    arguments = ["--sessions", "race", "--minutes", "1", "--drivers", "2", "--year", "2025"]
    subprocess.run(
        [sys.executable, "-m", "simulator", "make", str(folder), *arguments], check=True, stdout=subprocess.DEVNULL
    )
    changes = {"meetings": {"meeting_name": HOSTILE, "location": HOSTILE}, "sessions": {"session_name": HOSTILE}}
    changes["drivers"] = {f"{LONG_FIELD}\x1b[2J\n{FORGED}": 1}  # type: ignore[dict-item]
    for endpoint, change in changes.items():
        for path in folder.rglob(f"{endpoint}.jsonl.gz"):
            records = [json.loads(line) | change for line in gzip.decompress(path.read_bytes()).splitlines()]
            path.write_bytes(gzip.compress("".join(json.dumps(one) + "\n" for one in records).encode()))
    return folder


def loader_of(hbase: LocalHBase, url: str, prefix: str, folder: Path) -> Loader:
    (folder / "work").mkdir()
    environment = {
        "F1HBASE_HBASE_HOST": hbase.host, "F1HBASE_HBASE_PORT": str(hbase.port), "F1HBASE_API_URL": url,
        "F1HBASE_TABLE_PREFIX": prefix, "XDG_STATE_HOME": str(folder / "state"),
    }  # fmt: skip
    return Loader(folder / "work", environment)


def assert_harmless(text: str) -> None:
    for line in text.splitlines():
        assert line.isprintable(), repr(line)
        assert not line.startswith(FORGED), line
        assert len(line) < 6_000


def test_no_name_from_the_api_commands_the_terminal_or_forges_a_line(
    hbase: LocalHBase, table_prefix: str, api_folder: Path, tmp_path: Path
) -> None:
    with ReplayServer(api_folder) as api:
        loader = loader_of(hbase, api.url, table_prefix, tmp_path)
        outputs = [loader.run(command) for command in ("plan", "load", "status")]
        outputs.append(loader.run("plan", "--refresh"))
        outputs.append(loader.run("status", "--json"))
        on_terminal = run_on_terminal(loader, "--refresh", "--endpoint", "laps")
    for text in [*outputs, loader.log]:
        assert_harmless(text)
    assert r"Evil\x1b[2J" in outputs[0]
    assert json.loads(outputs[-1])["sessions"]
    written = re.sub(r"\x1b\[(\d*[ABCDKm]|\d+;\d+m)|[\r\n]|\x1b\[0m", "", on_terminal)
    assert "\x1b" not in written
    assert "\x07" not in written
    assert FORGED not in [line.strip() for line in on_terminal.splitlines()]


def run_on_terminal(loader: Loader, *arguments: str) -> str:
    """Run it with a terminal as output, and return all that is written there."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, str(ENTRY_POINT), *arguments], cwd=loader.folder, env=os.environ | loader.environment,
        stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
    ) as process:  # fmt: skip
        os.close(theirs)
        written = b""
        try:
            while chunk := os.read(ours, 65536):
                written += chunk
        except OSError:  # the other end is closed
            pass
    os.close(ours)
    assert process.returncode == 0, written
    return written.decode()


@pytest.mark.parametrize(
    "redirection", ["> populate.log 2>&1", ">> populate.log 2>&1", "> populate.log", "2> populate.log > screen"]
)
def test_the_usual_command_loses_no_line_and_writes_none_twice(
    hbase: LocalHBase, table_prefix: str, api_folder: Path, tmp_path: Path, redirection: str
) -> None:
    with ReplayServer(api_folder) as api:
        loader = loader_of(hbase, api.url, table_prefix, tmp_path)
        log = loader.folder / "populate.log"
        log.write_text("[INFO] 2024-01-01 00:00:00 - from yesterday\n", encoding="utf-8")
        command = f"nohup {sys.executable} {ENTRY_POINT} {redirection} & wait $!"
        done = subprocess.run(
            ["bash", "-c", command], cwd=loader.folder, env=os.environ | loader.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        requests = [one for one in api.log() if one["path"].startswith("/v1/")]
    text = log.read_text(encoding="utf-8")
    assert done.returncode == 0, text
    lines = [line for line in text.splitlines() if not line.startswith("nohup: ")]
    assert all(LOG_LINE.fullmatch(line) for line in lines)
    assert len([line for line in lines if REQUEST.fullmatch(line)]) == len(requests)
    told = Counter(line.partition(" - ")[2] for line in lines)
    assert told["all that was asked for is loaded"] == 1
    assert sum(number for line, number in told.items() if "log file" in line) == 1, "it is said once"
    assert told["from yesterday"] == redirection.startswith(">>")
    if "screen" in redirection:
        screen = (loader.folder / "screen").read_text(encoding="utf-8").splitlines()
        assert len([line for line in screen if line.endswith(" - all that was asked for is loaded")]) == 1
