"""Runs the command line as a user does: the entry point, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from hbase_server import LocalHBase

ENTRY_POINT = Path(__file__).resolve().parent.parent / "hbase_populate_openF1.py"


@dataclass(frozen=True)
class Loader:
    """The command line with one HBase, API and table prefix, in a folder of its own.

    Attributes:
        folder: Its working directory, where `populate.log` is written.
        environment: The settings, as F1HBASE_* variables.
    """

    folder: Path
    environment: dict[str, str]

    def run(self, *arguments: str, exit_code: int | None = 0) -> str:
        """Run to the end and return what it prints, with standard error; None allows any exit code."""
        result = subprocess.run(
            [sys.executable, str(ENTRY_POINT), *arguments],
            cwd=self.folder, env=os.environ | self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        assert exit_code is None or result.returncode == exit_code, result.stdout
        return result.stdout

    @contextmanager
    def start(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Run it while the block runs, and to its end; a block that fails ends it. Its output is a pipe."""
        with subprocess.Popen(
            [sys.executable, "-u", str(ENTRY_POINT), *arguments],
            cwd=self.folder, env=os.environ | self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ) as process:  # fmt: skip
            try:
                yield process
            except BaseException:
                process.kill()
                raise

    @property
    def log(self) -> str:
        """What is in `populate.log`."""
        return (self.folder / "populate.log").read_text(encoding="utf-8")


def loader_of(hbase: LocalHBase, folder: Path, url: str, prefix: str, **settings: str) -> Loader:
    """Return a loader for an API address, with tables and limits of its own.

    Args:
        hbase: Where it loads to.
        folder: Its working directory.
        url: The API.
        prefix: Of its tables' names.
        settings: Further settings, by their names in Python.
    """
    folder.mkdir(exist_ok=True, parents=True)
    environment = {
        "F1HBASE_HBASE_HOST": hbase.host,
        "F1HBASE_HBASE_PORT": str(hbase.port),
        "F1HBASE_API_URL": url,
        "F1HBASE_TABLE_PREFIX": prefix,
        "F1HBASE_RETRY_DELAY": "0",
        "XDG_STATE_HOME": str(folder / "state"),
    }
    return Loader(folder, environment | {f"F1HBASE_{name.upper()}": value for name, value in settings.items()})


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the worker processes of a load, but for those that are ending just now."""
    return [child for child in psutil.Process(process.pid).children() if _is_worker(child)]


def _is_worker(process: psutil.Process) -> bool:
    try:
        return any("f1hbase.pipeline.worker" in word for word in process.cmdline())
    except psutil.NoSuchProcess:
        return False


def read_until(process: subprocess.Popen[str], text: str, *, times: int = 1) -> str:
    """Read what a load prints until it has printed a text so often, and return it."""
    assert process.stdout is not None
    output = ""
    while output.count(text) < times:
        line = process.stdout.readline()
        assert line, f"it ended early: {output}"
        output += line
    return output
