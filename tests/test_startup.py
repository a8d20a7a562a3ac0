"""How the command line starts: without what a command does not need, as imports are most of what it takes to start."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from f1hbase.cli.commands import cli
from f1hbase.stores.hbase.schema import MOST_REGIONS

_SLOW = {"aiohttp", "asyncio", "happybase", "multiprocessing", "psutil"}


@pytest.mark.parametrize(
    ("module", "needed"),
    [
        ("f1hbase.cli.commands", set[str]()),
        ("f1hbase.stores.hbase.codec", {"msgspec"}),
        ("f1hbase.operations.status", {"happybase", "psutil", "msgspec"}),
    ],
)
def test_importing_a_part_does_not_import_what_others_need(module: str, needed: set[str]) -> None:
    code = f"import sys, {module}; print(*{_SLOW} & sys.modules.keys())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert set(found.split()) <= needed


def test_the_help_says_how_many_regions_there_are_at_the_most_without_asking_the_schema() -> None:
    (option,) = (option for option in cli.commands["schema"].params if option.name == "regions")
    assert isinstance(option, click.Option)
    assert f"at most {MOST_REGIONS}]" in (option.help or "")
