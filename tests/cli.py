"""Runs the command line as a user does: the entry point, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

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
