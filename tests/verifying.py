"""Verifies in the process of a test, as the command does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from hbase_server import LocalHBase

from f1hbase.composition import open_auditor, source_recipe
from f1hbase.config import Config, resolve
from f1hbase.operations.verify.base import Auditor, Depth
from f1hbase.operations.verify.differences import Difference
from f1hbase.operations.verify.run import VerifyRequest, verify


def simulate(folder: Path, year: int, *arguments: str) -> None:
    """Write a race weekend into a folder."""
    command = [sys.executable, "-m", "simulator", "make", str(folder), "--year", str(year), "--meetings", "1"]
    subprocess.run([*command, *arguments], check=True, stdout=subprocess.DEVNULL)


def differences(config: Config, depth: Depth, **selection: Any) -> list[Difference]:
    """Verify in this process, as the command does."""
    auditor: Auditor = open_auditor(config)
    chosen = resolve(selection, names=(), environment={}).settings.selection
    try:
        request = VerifyRequest(chosen, depth, source_recipe(config, "openf1"), patience=0)
        return verify(request, auditor).differences
    finally:
        auditor.close()


def settings_of(hbase: LocalHBase, **given: Any) -> Config:
    """The settings of a test, and nothing from outside."""
    here = {"hbase_host": hbase.host, "hbase_port": hbase.port, "patience": "0s", "max_retries": 0}
    return resolve(here | given, names=(), environment={})
