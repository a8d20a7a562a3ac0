"""A load into a place that does not take it: one clear line, the exit code, and nothing marked done."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from files_zone import START
from store_servers import moto_s3
from test_files_s3 import Answering

from f1hbase.stores.files.objects import Objects
from f1hbase.stores.files.urls import parse_location

ROOT = Path(__file__).resolve().parent.parent
SECRET = "hunter2"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return files of a session with enough telemetry for a small disk to be too small."""
    folder = tmp_path_factory.mktemp("source")
    place = "2024-07-07_Silverstone_Race.json"
    keys = {"meeting_key": 1240, "session_key": 9558}
    session = {**keys, "year": 2024, "date_start": START.isoformat(), "location": "Silverstone", "session_name": "Race"}
    (folder / f"sessions_{place}").write_text(json.dumps([session]))
    # Digits that gzip cannot make much smaller.
    noise = os.urandom(300_000).hex()
    texts = [noise[start : start + 200] for start in range(0, len(noise), 200)]
    radio = [
        {**keys, "driver_number": 44, "date": f"2024-07-07T14:{n // 60:02d}:{n % 60:02d}+00:00", "recording_url": text}
        for n, text in enumerate(texts[:3_000])
    ]
    (folder / f"team_radio_{place}").write_text(json.dumps(radio))
    return folder


def load(source: Path, to: str, cwd: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return subprocess.run(
        [sys.executable, "-m", "f1hbase", "load", "--from", str(source), "--to", to, *options], cwd=cwd,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=120,
        env={**kept, "PYTHONPATH": str(ROOT), "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
        | environment,
    )  # fmt: skip


def assert_refused(result: subprocess.CompletedProcess[str], exit_code: int, says: str) -> None:
    assert result.returncode == exit_code, result.stdout
    lines = [line for line in result.stdout.splitlines() if says in line]
    assert lines, result.stdout
    assert "Traceback" not in result.stdout
    assert SECRET not in result.stdout


KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"}


@pytest.mark.parametrize("layout", ["units", "extractor", "dated"])
def test_a_full_disk(source: Path, tmp_path: Path, layout: str) -> None:
    small = tmp_path / "small"
    small.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(small)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount the small file system that this needs")
    try:
        result = load(source, str(small), tmp_path, "--layout", layout)
        assert_refused(result, 3, f"'{small}' cannot be written: no space left on device")
        assert not list(small.glob("_state/units/**/team_radio*"))
        assert not list(small.glob("team_radio*"))
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_missing_bucket(source: Path, tmp_path: Path) -> None:
    with moto_s3() as url:
        result = load(source, "s3://nowhere/x", tmp_path, S3_ENDPOINT_URL=url, **KEYS)
    assert_refused(result, 3, "'s3://nowhere/x': there is no such bucket. Create it, or correct its name.")


def test_a_refused_key(source: Path, tmp_path: Path) -> None:
    with Answering(403) as url:
        result = load(source, "s3://races/x", tmp_path, AWS_ENDPOINT_URL=url, **KEYS)
    assert_refused(result, 3, "'s3://races/x' refuses the key it was given (403 Forbidden)")


def test_no_credentials_at_all(source: Path, tmp_path: Path) -> None:
    with Answering(403) as url:
        environment = {"AWS_ENDPOINT_URL": url, "AWS_EC2_METADATA_DISABLED": "true", "AWS_REGION": "us-east-1"}
        result = load(source, "s3://races/x", tmp_path, **environment)
    assert result.returncode == 3
    assert "'s3://races/x'" in result.stdout


def test_a_store_that_is_away_longer_than_patience(source: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        result = load(source, "s3://races/x", tmp_path, "--patience", "1s", AWS_ENDPOINT_URL=url, **KEYS)
    assert_refused(result, 3, "'s3://races/x' cannot be reached")


def test_several_threads_may_be_the_first_to_write(tmp_path: Path) -> None:
    for number in range(20):
        objects = Objects(parse_location(str(tmp_path / str(number))))
        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(lambda path: objects.create(path, b"1"), "abcdefgh"))  # noqa: B023
        assert not list(tmp_path.glob("*/_f1hbase.probe*"))


@pytest.mark.parametrize("folder", ["/proc", "/proc/self", "/proc/f1hbase", "/dev/null/x"])
def test_a_folder_that_cannot_be_written(source: Path, tmp_path: Path, folder: str) -> None:
    if not Path("/proc/self").exists():
        pytest.skip("there is no /proc")
    result = load(source, folder, tmp_path)
    assert_refused(result, 3, f"'{folder}' cannot be")


def test_a_pipe_in_place_of_a_lease_is_named_until_it_is_removed(source: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "zone/_state/leases/year=2024/meeting=1240/00000001.json"
    pipe.parent.mkdir(parents=True)
    os.mkfifo(pipe)
    result = load(source, "./zone", tmp_path)
    assert_refused(result, 3, "meeting=1240/00000001.json' cannot be read: it is a pipe or a device. Remove it.")
    assert "Remove it. What is done stays done" in result.stdout
    pipe.unlink()
    assert load(source, "./zone", tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("to", "says"),
    [
        ("ftp://host/x", "'ftp:' is no store that f1hbase knows"),
        (f"s3://AKIA:{SECRET}@races/x", "credentials do not belong into a s3:// URL"),
        (f"az://races/x?sig={SECRET}", "credentials do not belong into a az:// URL"),
        ("/Volumes/catalog", "names no volume"),
    ],
)
def test_a_mistake_in_the_options(source: Path, tmp_path: Path, to: str, says: str) -> None:
    assert_refused(load(source, to, tmp_path), 2, says)


def test_a_layout_that_there_is_not(source: Path, tmp_path: Path) -> None:
    assert_refused(load(source, "./zone", tmp_path, "--layout", "shelves"), 2, "'shelves' is not one of")
    assert not (tmp_path / "zone").exists()
