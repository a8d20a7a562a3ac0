"""Loading from Python, with the words of the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hbase_server import LocalHBase
from replay_server import ReplayServer
from tables import rows_by_family, scan, source_identities

import f1hbase


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"nonsense": 1}, TypeError, "no option 'nonsense'"),
        ({"num_sessions": 5}, ValueError, "--num-sessions goes with --mode latest"),
        ({"year": [2024, 1999]}, ValueError, "no data before 2023"),
        ({"window": "fast"}, ValueError, "'fast' is not a length of time"),
        ({"config": "no-such.toml"}, ValueError, "cannot read 'no-such.toml'"),
        ({"dry_run": True}, ValueError, "f1hbase plan"),
    ],
)
def test_a_mistake_is_an_error_that_says_what_to_write(
    options: dict[str, object], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        f1hbase.load(**options)


@pytest.mark.hbase
def test_a_load_in_any_thread_tells_how_it_went(
    hbase: LocalHBase, table_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--sessions", "race", "--minutes", "1", "--drivers", "2", "--year", "2025"]
    subprocess.run(
        [sys.executable, "-m", "simulator", "make", str(tmp_path / "api"), *arguments],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("F1HBASE_TABLE_PREFIX", table_prefix)
    with ReplayServer(tmp_path / "api") as api, ThreadPoolExecutor(1) as pool:
        words = {"hbase_host": hbase.host, "hbase_port": hbase.port, "api_url": api.url, "year": [2025]}
        first = pool.submit(f1hbase.load, mode="year", processes=2, **words).result()
        again = f1hbase.load(mode="latest", num_sessions=1, **words | {"year": []})
    assert (first.exit_code, first.overall.failures) == (0, {})
    assert first.overall.all_rows == sum(source_identities(tmp_path / "api").values())
    assert rows_by_family(scan(hbase.port, f"{table_prefix}_f1_data")) == source_identities(tmp_path / "api")
    assert (again.exit_code, again.overall.all_rows, again.complete) == (0, 0, 1)


@pytest.mark.hbase
def test_a_script_needs_no_main_guard(hbase: LocalHBase, table_prefix: str, tmp_path: Path) -> None:
    simulate = ["make", str(tmp_path / "api"), "--sessions", "race", "--minutes", "1", "--drivers", "2"]
    subprocess.run([sys.executable, "-m", "simulator", *simulate], check=True, stdout=subprocess.DEVNULL)
    script = tmp_path / "nightly.py"
    script.write_text("import os, f1hbase\nprint('begun')\nprint(f1hbase.load(endpoint=['laps', 'pit']).exit_code)\n")
    with ReplayServer(tmp_path / "api") as api:
        settings = {"HBASE_HOST": hbase.host, "HBASE_PORT": str(hbase.port), "API_URL": api.url}
        environment = {f"F1HBASE_{name}": value for name, value in settings.items()}
        environment |= {"F1HBASE_TABLE_PREFIX": table_prefix, "XDG_STATE_HOME": str(tmp_path / "state")}
        done = subprocess.run(
            [sys.executable, script],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.stdout == "begun\n0\n", done.stderr
