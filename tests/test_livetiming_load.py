"""`load --from livetiming` as a user runs it: the same rows and cells as from OpenF1, in a real HBase."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from archive_server import serving
from cli import Loader
from hbase_server import LocalHBase
from replay_server import ReplayServer
from tables import scan, values

from simulator.livetiming import write_archive

pytestmark = pytest.mark.hbase

_ENDPOINTS = ("car_data", "location", "weather", "position", "drivers", "overtakes", "pit")


@pytest.fixture(scope="module")
def season(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("season")
    arguments = ["--sessions", "race", "--minutes", "2", "--drivers", "4"]
    subprocess.run(
        [sys.executable, "-m", "simulator", "make", str(folder), *arguments], check=True, stdout=subprocess.DEVNULL
    )
    return folder


@contextmanager
def archive_in_thread(folder: Path) -> Iterator[str]:
    """Serve an archive from a thread, for a loader of another process."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = serving(folder)
    try:
        yield asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result()
    finally:
        asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_either_source_fills_the_same_table(hbase: LocalHBase, table_prefix: str, season: Path, tmp_path: Path) -> None:
    write_archive(season, tmp_path / "archive")
    (tmp_path / "work").mkdir()
    tables = {}
    with ReplayServer(season) as api, archive_in_thread(tmp_path / "archive") as archive:
        for source in ("openf1", "livetiming"):
            loader = Loader(
                tmp_path / "work",
                {
                    "F1HBASE_HBASE_HOST": hbase.host,
                    "F1HBASE_HBASE_PORT": str(hbase.port),
                    "F1HBASE_TABLE_PREFIX": f"{table_prefix}{source}",
                    "F1HBASE_API_URL": api.url,
                    "F1HBASE_LIVETIMING_URL": archive,
                    "XDG_STATE_HOME": str(tmp_path / "state"),
                },
            )
            endpoints = [word for name in _ENDPOINTS for word in ("--endpoint", name)]
            loader.run("load", "--from", source, "--year", "2025", *endpoints)
            tables[source] = values(scan(hbase.port, f"{table_prefix}{source}_f1_data"))

    assert len(tables["openf1"]) > 4_000
    assert tables["livetiming"] == tables["openf1"]
