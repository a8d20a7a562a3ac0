"""Runs the command line as a user does: the entry point, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
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

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start it and return the process; its output is a pipe."""
        return subprocess.Popen(
            [sys.executable, "-u", str(ENTRY_POINT), *arguments],
            cwd=self.folder, env=os.environ | self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    @property
    def log(self) -> str:
        """What is in `populate.log`."""
        return (self.folder / "populate.log").read_text(encoding="utf-8")
